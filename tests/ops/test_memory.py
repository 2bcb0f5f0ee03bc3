"""Ops change nothing that they are given, share no memory, notice changes, leave nothing behind, and repeat themselves."""

from __future__ import annotations

import gc
import itertools
import weakref

import numpy as np
import pytest

from minigrad.autograd import no_grad
from minigrad.ops.arithmetic import add_, copy_, logical_not
from minigrad.tensor import Tensor
from tests.ops.cases import ALL_CASES
from tests.ops.harness import assert_same_bits, cotangents, prepare, run

pytestmark = pytest.mark.processor("looks into the memory of arrays")

CASES = pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)


@CASES
def test_inputs_and_upstream_gradients_stay_untouched(case):
    r = prepare(case)
    before = [t.data.tobytes() for t in r.inputs]
    r.forward()
    gys = cotangents(r.outputs)
    gy_before = [gy.tobytes() for gy in gys]
    r.backward(gys)
    assert [t.data.tobytes() for t in r.inputs] == before or (case.inplace and not r.inputs[0].requires_grad)
    assert [gy.tobytes() for gy in gys] == gy_before


@CASES
def test_memory_is_not_shared(case):
    """Outputs are new arrays (unless the op gives a view), and every gradient is an array of its own."""
    r = run(case)
    if not case.view:
        for y, t in itertools.product(r.ys, r.inputs):
            assert not np.shares_memory(y, t.data), "an output lies in an input's memory"
    gys = cotangents(r.outputs)
    r.backward(gys)
    gradients = [g for g in r.gradients if g is not None]
    for a, b in itertools.combinations(gradients, 2):
        assert not np.shares_memory(a, b), "two gradients lie in the same memory"
    for g, a in itertools.product(gradients, [*gys, *r.ys, *(t.data for t in r.inputs)]):
        assert not np.shares_memory(g, a), "a gradient lies in the memory of something else"


@CASES
def test_in_place_changes_are_noticed(case):
    """After an input or the output is changed in place, backward raises or gives the gradient of before."""
    expected = run(case)
    if not expected.has_gradient:
        return
    gys = cotangents(expected.outputs)
    expected.backward(gys)
    for i in range(len(expected.inputs) + len(expected.outputs)):
        r = run(case)
        victim = [*r.inputs, *r.outputs][i]
        if not victim.data.flags.writeable:  # made by expand(): one number stands for many
            with pytest.raises(RuntimeError, match="cannot be changed in place"):
                _change(victim)
            continue
        with no_grad():
            _change(victim)
        try:
            r.backward(gys)
        except RuntimeError as error:
            assert "in place" in str(error)  # noqa: PT017
            assert all(t.grad is None for t in r.inputs), "gradients were set although backward failed"
            continue
        for g, e in zip(r.gradients, expected.gradients, strict=True):
            assert_same_bits(g, e, f"gradient after a change of {'input' if i < len(r.inputs) else 'output'} {i}")


def _change(t: Tensor) -> None:
    if t.dtype.kind == "b":
        copy_(t, logical_not(t))
    else:
        add_(t, 1)


@CASES
def test_graph_is_freed_without_the_garbage_collector(case):
    """No reference cycles: nodes, outputs and intermediate arrays die with the last reference to them."""
    gc.disable()
    try:
        for walk_back in (False, True):
            r = run(case)
            watched = [weakref.ref(a) for a in [*r.outputs, *(y.origin[0] for y in r.outputs if y.origin is not None)]]
            if case.inplace and not r.inputs[0].requires_grad:
                watched = watched[1:]  # the output is the input
            if walk_back and r.has_gradient:
                r.backward()
            kept = r.inputs
            del r
            alive = [w() for w in watched if w() is not None]
            assert all(any(a is t for t in kept) for a in alive), f"still alive: {alive}"
            del alive
    finally:
        gc.enable()


@CASES
def test_same_bits_twice(case):
    a, b = run(case, np.float32), run(case, np.float32)
    assert a.backward().digest() == b.backward().digest()
