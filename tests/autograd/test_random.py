"""The source of randomness: seeds, its state as plain numbers, generators of one's own."""

from __future__ import annotations

import json

import numpy as np
import pytest

import minigrad as mg
from minigrad import random

DRAWS = {
    "rand": lambda g=None: mg.rand(5, generator=g),
    "randn": lambda g=None: mg.randn(5, generator=g),
    "randn of float64": lambda g=None: mg.randn(5, generator=g, dtype=mg.float64),
    "rand_like": lambda g=None: mg.rand_like(mg.ones(5), generator=g),
    "randn_like": lambda g=None: mg.randn_like(mg.ones(5), generator=g),
    "randint": lambda g=None: mg.randint(100, (5,), generator=g),
    "randperm": lambda g=None: mg.randperm(5, generator=g),
    "bernoulli": lambda g=None: mg.bernoulli(mg.full((50,), 0.5), generator=g),
    "normal": lambda g=None: mg.normal(0, 1, (5,), generator=g),
    "uniform_": lambda g=None: mg.zeros(5).uniform_(generator=g),
    "normal_": lambda g=None: mg.zeros(5).normal_(generator=g),
    "bernoulli_": lambda g=None: mg.zeros(50).bernoulli_(generator=g),
}
ALL = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


def numbers(draw=DRAWS["rand"]) -> list:
    return draw().tolist()


@ALL
def test_a_seed_repeats(draw):
    mg.manual_seed(7)
    first, second = numbers(draw), numbers(draw)
    mg.manual_seed(7)
    assert [numbers(draw), numbers(draw)] == [first, second]
    assert first != second
    mg.manual_seed(8)
    assert numbers(draw) != first


def test_layers_and_dropout_follow_the_seed():
    def net():
        mg.manual_seed(3)
        layer = mg.nn.Linear(4, 4)
        return layer.weight.tolist(), mg.nn.functional.dropout(mg.ones(20)).tolist()

    assert net() == net()


def test_seeds():
    mg.manual_seed(123)
    assert mg.initial_seed() == 123
    assert isinstance(mg.manual_seed(np.int64(5)), np.random.Generator)
    assert mg.initial_seed() == 5
    mg.manual_seed(2**80)  # any size
    before = mg.get_rng_state()
    for wrong in (-1, 1.5, "7", None, True):
        with pytest.raises(ValueError, match="seed must be an integer of at least 0, got"):
            mg.manual_seed(wrong)
        with pytest.raises(ValueError, match="seed must be an integer of at least 0, got"):
            mg.Generator().manual_seed(wrong)
    assert mg.get_rng_state() == before
    assert mg.initial_seed() == 2**80


def test_numpys_global_generator_plays_no_part():
    mg.manual_seed(1)
    expected = numbers()
    np.random.seed(99)  # noqa: NPY002 - it must have no influence
    state = np.random.get_state()[2]  # noqa: NPY002
    mg.manual_seed(1)
    assert numbers() == expected
    assert np.random.get_state()[2] == state  # noqa: NPY002


# ---- the state ---------------------------------------------------------------------------------------------------------


@ALL
def test_the_state_survives_json(draw):
    """It is taken in the middle of a block of random bits, where most of it matters."""
    mg.rand(3)
    mg.randint(2, (1,), dtype=mg.int32)
    text = json.dumps(mg.get_rng_state())
    expected = [numbers(draw) for _ in range(3)]
    mg.manual_seed(99)
    mg.set_rng_state(json.loads(text))
    assert [numbers(draw) for _ in range(3)] == expected


def test_reading_the_state_changes_nothing():
    mg.manual_seed(4)
    expected = [numbers(), numbers()]
    mg.manual_seed(4)
    state = mg.get_rng_state()
    assert mg.get_rng_state() == state
    first = numbers()
    assert mg.get_rng_state() != state
    assert [first, numbers()] == expected


def test_a_state_that_is_none_is_refused_and_changes_nothing():
    good = mg.get_rng_state()
    for wrong in (
        {},
        5,
        None,
        [],
        {**good, "bit_generator": "PCG64"},
        {**good, "buffer": [1]},
        {**good, "buffer": None},
        {**good, "buffer_pos": -5},
        {**good, "buffer_pos": 9},
        {**good, "buffer_pos": "2"},
        {**good, "has_uint32": 7},
        {**good, "uinteger": -1},
        {**good, "state": {"counter": [0, 0], "key": [1, 2]}},
        {**good, "state": {"counter": [-1, 0, 0, 0], "key": [1, 2]}},
        {**good, "state": {"counter": [0, 0, 0, 0]}},
        {key: value for key, value in good.items() if key != "buffer"},
    ):
        with pytest.raises(ValueError, match="state is not one that get_rng_state gave"):
            mg.set_rng_state(wrong)
        assert mg.get_rng_state() == good


def test_the_names_in_random():
    assert random.get_rng_state() == mg.get_rng_state()
    assert random.generator() is random.generator()


# ---- generators of one's own -------------------------------------------------------------------------------------------


@ALL
def test_a_generator_is_a_source_of_its_own(draw):
    before = mg.get_rng_state()
    g = mg.Generator()
    assert g.manual_seed(7) is g
    first, second = draw(g).tolist(), draw(g).tolist()
    g.manual_seed(7)
    assert [draw(g).tolist(), draw(g).tolist()] == [first, second]
    assert mg.get_rng_state() == before
    mg.manual_seed(7)
    assert draw().tolist() == first  # the same seed means the same numbers


def test_generators_are_seeded_from_the_start():
    assert mg.rand(5, generator=mg.Generator()).tolist() == mg.rand(5, generator=mg.Generator()).tolist()


def test_a_generator_of_numpy_will_do():
    one, two = (mg.randn(5, generator=np.random.default_rng(1)).tolist() for _ in range(2))
    assert one == two


def test_in_place_draws_check_first():
    x = mg.zeros(3)
    before = mg.get_rng_state()
    with pytest.raises(ValueError, match="low must not exceed high, got 2 and 1"):
        x.uniform_(2, 1)
    with pytest.raises(ValueError, match="std must be at least 0, got -1"):
        x.normal_(0, -1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        x.bernoulli_(1.5)
    assert x.tolist() == [0, 0, 0]
    assert mg.get_rng_state() == before
    assert 5 <= x.uniform_(5, 6).min().item() <= x.max().item() < 6
    assert x.normal_(3, 0).tolist() == [3, 3, 3]
    assert x.bernoulli_(1).tolist() == [1, 1, 1]
