"""Layers that several families share, and normalization as a choice."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.models.layers import SqueezeExcitation, StochasticDepth, make_divisible, norm_layer
from minigrad.nn import init


@pytest.mark.parametrize(("value", "expected"), [(32, 32), (33.6, 32), (35.2, 32), (36, 40), (3, 8), (11, 16), (8.9, 16)])
def test_make_divisible(value, expected):
    assert make_divisible(value) == expected
    assert expected >= 0.9 * value


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "instance", nn.BatchNorm2d])
def test_norm_layer(norm):
    y = norm_layer(norm)(12)(mg.randn(3, 12, 5, 5) * 3 + 2).detach().numpy()
    axes = {"batch": (0, 2, 3), "group": (2, 3), "layer": (1, 2, 3), "instance": (2, 3)}.get(norm, (0, 2, 3))
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axes), 1, atol=1e-3)


def test_groups_divide_the_channels():
    assert norm_layer("group")(64).num_groups == 32
    assert norm_layer("group")(48).num_groups == 24
    assert norm_layer("group")(7).num_groups == 7


def test_unknown_norm():
    with pytest.raises(ValueError, match=r"norm must be one of batch.*'bacth'.*batch"):
        norm_layer("bacth")


def test_squeeze_excitation():
    layer, x = SqueezeExcitation(6, 2), mg.randn(3, 6, 4, 5)
    means = x.numpy().mean((2, 3))
    w1, b1, w2, b2 = (p.detach().numpy().reshape(p.shape[:2] if p.ndim == 4 else p.shape) for p in layer.parameters())
    gate = 1 / (1 + np.exp(-(np.maximum(means @ w1.T + b1, 0) @ w2.T + b2)))
    np.testing.assert_allclose(layer(x).detach().numpy(), x.numpy() * gate[:, :, None, None], rtol=1e-5, atol=1e-6)
    assert list(layer.state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_stochastic_depth(mode):
    mg.manual_seed(0)
    layer, x = StochasticDepth(0.25, mode), mg.ones(4, 2, 3, 3)
    counts = np.zeros(5)
    for _ in range(400):
        y = layer(x).detach().numpy()
        rows = y[:, 0, 0, 0]
        np.testing.assert_array_equal(y, np.broadcast_to(rows[:, None, None, None], y.shape))
        assert set(rows) <= {np.float32(0), np.float32(1 / 0.75)}
        counts[np.count_nonzero(rows)] += 1
    if mode == "batch":
        assert counts[[1, 2, 3]].sum() == 0
        assert abs(counts[4] / 400 - 0.75) < 0.08
    else:
        assert abs((counts * np.arange(5)).sum() / 1600 - 0.75) < 0.05
        assert counts[[1, 2, 3]].sum() > 0


def test_stochastic_depth_in_evaluation_and_at_the_limits():
    x = mg.randn(2, 3, 4, 4, requires_grad=True)
    assert StochasticDepth(0.5).eval()(x) is x
    assert StochasticDepth(0)(x) is x
    y = StochasticDepth(1)(x)
    y.sum().backward()
    assert not y.detach().numpy().any()
    assert not x.grad.numpy().any()
    for arguments in ((1.5,), (-0.1,), (0.5, "column")):
        with pytest.raises(ValueError, match=r"p must be|mode must be"):
            StochasticDepth(*arguments)


def test_skipped_initialization_draws_nothing_and_sets_constants():
    mg.manual_seed(0)
    with init.skipped():
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        init.orthogonal_(model[0].weight)
    assert model[1].weight.detach().numpy().tolist() == [1] * 8
    first = mg.randn(3).numpy()
    mg.manual_seed(0)
    np.testing.assert_array_equal(first, mg.randn(3).numpy())
    with pytest.raises(ZeroDivisionError), init.skipped():
        raise ZeroDivisionError
    assert abs(init.normal_(mg.zeros(100)).numpy()).sum() > 10
