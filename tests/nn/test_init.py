"""Initial values: distributions and their parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import init


def test_plain_distributions():
    t = mg.empty(200, 300)
    assert init.uniform_(t, -2, 3) is t
    a = t.numpy()
    assert a.min() >= -2
    assert a.max() < 3
    np.testing.assert_allclose([a.mean(), a.std()], [0.5, 5 / math.sqrt(12)], rtol=0.02)
    a = init.normal_(t, 1, 0.5).numpy()
    np.testing.assert_allclose([a.mean(), a.std()], [1, 0.5], rtol=0.02)
    a = init.trunc_normal_(t, 0, 1, -1, 2).numpy()
    assert a.min() >= -1
    assert a.max() <= 2
    np.testing.assert_allclose(a.mean(), 0.2296, rtol=0.05)  # (pdf(-1) - pdf(2)) / (cdf(2) - cdf(-1))
    assert init.constant_(t, 4).numpy().max() == 4
    assert not init.zeros_(t).numpy().any()
    assert init.ones_(t).numpy().all()


@pytest.mark.parametrize(
    ("function", "arguments", "std"),
    [
        ("xavier_uniform_", {}, math.sqrt(2 / (180 + 360))),
        ("xavier_normal_", {"gain": 2.0}, 2 * math.sqrt(2 / (180 + 360))),
        ("kaiming_uniform_", {}, math.sqrt(2 / 180)),
        ("kaiming_uniform_", {"a": math.sqrt(5)}, math.sqrt(1 / 3 / 180)),
        ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}, math.sqrt(2 / 360)),
        ("kaiming_normal_", {"nonlinearity": "tanh"}, 5 / 3 / math.sqrt(180)),
    ],
)
def test_scaled_distributions(function, arguments, std):
    t = getattr(init, function)(mg.empty(40, 20, 3, 3), **arguments)  # fan-in 180, fan-out 360
    a = t.numpy()
    np.testing.assert_allclose(a.std(), std, rtol=0.03)
    if "uniform" in function:
        bound = math.sqrt(3) * std
        assert 0.99 * bound < np.abs(a).max() <= bound * (1 + 1e-6)


def test_the_same_seed_gives_the_same_weights_in_both_dtypes():
    mg.manual_seed(3)
    single = init.kaiming_normal_(mg.empty(4, 5)).numpy()
    mg.manual_seed(3)
    double = init.kaiming_normal_(mg.empty(4, 5, dtype=np.float64)).numpy()
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_orthogonal():
    for shape in [(6, 4), (4, 6), (5, 2, 3, 1)]:
        a = init.orthogonal_(mg.empty(*shape, dtype=np.float64), gain=2).numpy().reshape(shape[0], -1)
        small = a.T @ a if a.shape[0] > a.shape[1] else a @ a.T
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_identities():
    np.testing.assert_array_equal(init.eye_(mg.empty(2, 3)).numpy(), np.eye(2, 3))
    weight = init.dirac_(mg.empty(4, 2, 3, 3), groups=2)
    x = mg.randn(1, 4, 5, 5)
    np.testing.assert_allclose(mg.nn.functional.conv2d(x, weight, padding=1, groups=2).numpy(), x.numpy(), rtol=1e-6)


def test_gains_are_pytorchs():
    torch = pytest.importorskip("torch")
    for name in ["linear", "conv2d", "sigmoid", "tanh", "relu", "selu"]:
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)
    assert init.calculate_gain("leaky_relu") == torch.nn.init.calculate_gain("leaky_relu")


def test_filling_a_parameter_is_noticed():
    p = mg.nn.Parameter(mg.ones(2))
    loss = (p * p).sum()
    init.zeros_(p)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: init.normal_(t, std=-1), ValueError, "std must be at least 0"),
        (lambda t: init.uniform_(t, 2, 1), ValueError, "a must not be larger than b"),
        (lambda t: init.trunc_normal_(t, std=0.02, a=5, b=6), ValueError, "limits of the values themselves"),
        (lambda t: init.kaiming_normal_(t, mode="fan"), ValueError, 'mode must be "fan_in" or "fan_out"'),
        (lambda t: init.kaiming_normal_(t, nonlinearity="swish"), ValueError, "nonlinearity must be one of"),
        (lambda t: init.xavier_normal_(mg.empty(3)), ValueError, "at least 2 dimensions"),
        (lambda t: init.eye_(mg.empty(3)), ValueError, "2 dimensions"),
        (lambda t: init.dirac_(t), ValueError, "weight of a convolution"),
        (lambda t: init.dirac_(mg.empty(4, 2, 3, 3), groups=3), ValueError, "groups=3 must divide"),
        (lambda t: init.orthogonal_(mg.empty(3)), ValueError, "at least 2 dimensions"),
        (lambda t: init.normal_(mg.zeros(3, dtype=np.int64)), TypeError, "tensor must hold floating-point numbers"),
        (lambda t: init.ones_([1, 2]), TypeError, "tensor must be a Tensor"),
        (lambda t: init.calculate_gain("leaky_relu", "x"), ValueError, "slope of leaky_relu"),
    ],
)
def test_wrong_arguments(call, error, message):
    t = mg.zeros(3, 4)
    with pytest.raises(error, match=message):
        call(t)
    assert not t.numpy().any()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("constant", (3,)),
        ("dirac", ()),
        ("eye", ()),
        ("kaiming_normal", ()),
        ("kaiming_uniform", (1,)),
        ("normal", (1, 2)),
        ("orthogonal", (2,)),
        ("uniform", (1, 2)),
        ("xavier_normal", (2,)),
        ("xavier_uniform", (2,)),
    ],
)
def test_old_names_warn_and_do_the_same(name, arguments):
    shape = (4, 6) if name == "eye" else (4, 6, 3, 3)
    old, new = mg.zeros(shape), mg.zeros(shape)
    mg.manual_seed(0)
    with pytest.warns(FutureWarning, match=f"nn.init.{name} is now deprecated in favor of nn.init.{name}_") as caught:
        assert getattr(init, name)(old, *arguments) is old
    assert caught[0].filename == __file__
    mg.manual_seed(0)
    getattr(init, f"{name}_")(new, *arguments)
    assert old.numpy().any()
    np.testing.assert_array_equal(old.numpy(), new.numpy())
