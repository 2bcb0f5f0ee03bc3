"""Making tensors: PyTorch's values, dtypes and shapes, and clear errors for wrong arguments."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor

F32, F64, I64 = mg.float32, mg.float64, mg.int64


# ---- values ------------------------------------------------------------------------------------------------------------

# What both libraries evaluate: m is the library.
SAME = {
    "arange(5)": lambda m: m.arange(5),
    "arange(0)": lambda m: m.arange(0),
    "arange(2, 8)": lambda m: m.arange(2, 8),
    "arange(2, 9, 3)": lambda m: m.arange(2, 9, 3),
    "arange(5, 0, -2)": lambda m: m.arange(5, 0, -2),
    "arange(3, 3)": lambda m: m.arange(3, 3),
    "arange(5.0)": lambda m: m.arange(5.0),
    "arange(0, 1, 0.1)": lambda m: m.arange(0, 1, 0.1),
    "arange(1, -1, -0.3)": lambda m: m.arange(1, -1, -0.3),
    "arange(0.5, 3)": lambda m: m.arange(0.5, 3),
    "arange of int32": lambda m: m.arange(4, dtype=m.int32),
    "arange of float64": lambda m: m.arange(4, dtype=m.float64),
    "arange by name": lambda m: m.arange(start=1, end=2, step=0.25),
    "linspace": lambda m: m.linspace(0, 1, 5),
    "linspace backwards": lambda m: m.linspace(3.0, -1.0, 7, dtype=m.float64),
    "linspace of one": lambda m: m.linspace(3, 7, 1),
    "linspace of none": lambda m: m.linspace(3, 7, 0),
    "linspace by name": lambda m: m.linspace(start=0, end=1, steps=3),
    "zeros": lambda m: m.zeros(2, 3),
    "zeros of a tuple": lambda m: m.zeros((2, 3)),
    "zeros of a list": lambda m: m.zeros([2, 3]),
    "zeros by name": lambda m: m.zeros(size=(2, 3)),
    "zeros of int": lambda m: m.zeros(2, dtype=m.int64),
    "zeros of no dimension": lambda m: m.zeros(()),
    "zeros of a shape": lambda m: m.zeros(m.ones(2, 1).shape),
    "zeros of length 0": lambda m: m.zeros(2, 0),
    "ones": lambda m: m.ones(3, dtype=m.bool),
    "ones by name": lambda m: m.ones(size=[2]),
    "full float": lambda m: m.full((2,), 2.5),
    "full int": lambda m: m.full((2, 1), 3),
    "full bool": lambda m: m.full((2,), True),
    "full with dtype": lambda m: m.full((2,), 3, dtype=m.float64),
    "full infinite": lambda m: m.full((2,), -math.inf),
    "full of a list": lambda m: m.full([2], 1.0),
    "eye": lambda m: m.eye(3),
    "eye(2, 3)": lambda m: m.eye(2, 3),
    "eye(3, 2)": lambda m: m.eye(3, 2, dtype=m.int64),
    "eye(0)": lambda m: m.eye(0),
    "zeros_like": lambda m: m.zeros_like(m.ones(2, 3, dtype=m.float64)),
    "ones_like": lambda m: m.ones_like(m.zeros(2, dtype=m.int32)),
    "ones_like with dtype": lambda m: m.ones_like(m.zeros(2, dtype=m.int32), dtype=m.float32),
    "full_like": lambda m: m.full_like(m.zeros(2, 2), 7),
    "full_like of bool": lambda m: m.full_like(m.zeros(2, dtype=m.bool), True),
    "new_zeros": lambda m: m.ones(2, dtype=m.float64).new_zeros((3,)),
    "new_ones": lambda m: m.ones(2, dtype=m.int64).new_ones((3, 1)),
    "new_full": lambda m: m.ones(2, dtype=m.float64).new_full((2,), 3),
    "new_tensor": lambda m: m.ones(2, dtype=m.float64).new_tensor([1, 2]),
    "requires_grad": lambda m: m.ones(2, requires_grad=True).detach(),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_values_are_pytorchs(make):
    torch = pytest.importorskip("torch")
    ours, theirs = make(mg), make(torch)
    assert isinstance(ours, Tensor)
    assert ours.shape == tuple(theirs.shape)
    assert f"torch.{ours.dtype}" == str(theirs.dtype)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-7)


def test_float64_keeps_the_digits_of_pythons_floats():
    for t in (
        mg.tensor(0.3, dtype=mg.float64),
        mg.tensor([[0.3]], dtype=mg.float64),
        mg.as_tensor([0.3], dtype=mg.float64),
        mg.full((1,), 0.3, dtype=mg.float64),
        mg.full_like(mg.ones(1, dtype=mg.float64), 0.3),
        mg.ones(1, dtype=mg.float64).new_tensor([0.3]),
        mg.ones(1, dtype=mg.float64).new_full((1,), 0.3),
        mg.DoubleTensor([0.3]),
    ):
        assert t.item() == 0.3
    assert mg.tensor(0.3).dtype == mg.float32


def test_requires_grad():
    makers = [mg.zeros, mg.ones, mg.empty, mg.rand, mg.randn, mg.eye, mg.arange]
    for make in makers:
        x = make(2, requires_grad=True) if make is not mg.arange else make(2.0, requires_grad=True)
        assert x.requires_grad
        assert x.is_leaf
        assert not make(2).requires_grad
    assert mg.full((2,), 1.0, requires_grad=True).requires_grad
    assert mg.linspace(0, 1, 3, requires_grad=True).requires_grad
    assert mg.rand_like(mg.ones(2), requires_grad=True).requires_grad
    for make in (lambda: mg.zeros(2, dtype=I64, requires_grad=True), lambda: mg.arange(2, requires_grad=True)):
        with pytest.raises(TypeError, match="requires_grad needs a floating dtype, got int64"):
            make()


def test_dtypes_have_many_names():
    for dtype in (mg.float64, mg.double, "float64", np.float64, float, np.dtype("f8")):
        assert mg.zeros(1, dtype=dtype).dtype == np.float64
    assert mg.ones(1, dtype=bool).dtype == mg.bool
    assert mg.ones(1, dtype=int).dtype == I64


def test_devices():
    assert mg.zeros(2, device="cpu").device == mg.device("cpu")
    assert mg.tensor([1.0], device=mg.device("cpu")).device == "cpu"
    for make in (lambda d: mg.zeros(2, device=d), lambda d: mg.tensor(1.0, device=d), lambda d: mg.rand(2, device=d)):
        with pytest.raises(ValueError, match='device must be "cpu", "cuda" or "cuda:INDEX", got'):
            make("gpu")


def test_like_keeps_the_memory_order():
    x = Tensor(np.zeros((2, 4, 5, 3), np.float32).transpose(0, 3, 1, 2))
    for make in (mg.zeros_like, mg.ones_like, mg.empty_like, mg.rand_like, mg.randn_like, lambda t: mg.full_like(t, 2)):
        y = make(x)
        assert (y.shape, y.dtype, y.data.strides) == (x.shape, x.dtype, x.data.strides)
        assert not np.shares_memory(y.data, x.data)


def test_conversions_do_not_warn():
    """What does not fit becomes infinite, as in PyTorch."""
    assert mg.tensor(1e300).item() == math.inf
    assert mg.tensor([1e300, -1e300]).tolist() == [math.inf, -math.inf]
    assert mg.tensor([70000.0], dtype=mg.float16).tolist() == [math.inf]
    assert Tensor([1e300]).tolist() == [math.inf]


# ---- random numbers ----------------------------------------------------------------------------------------------------


def test_ranges_of_random_numbers():
    u = mg.rand(10_000)
    assert u.dtype == F32
    assert 0 <= u.min().item() < 0.01
    assert 0.99 < u.max().item() < 1
    assert abs(u.mean().item() - 0.5) < 0.02
    n = mg.randn(10_000, dtype=F64)
    assert n.dtype == F64
    assert abs(n.mean().item()) < 0.05
    assert abs(n.std().item() - 1) < 0.05
    assert mg.rand(size=(2, 3)).shape == mg.randn((2, 3)).shape == mg.rand(2, 3).shape == (2, 3)
    assert mg.rand_like(mg.zeros(2, dtype=F64)).dtype == F64


def test_randint():
    x = mg.randint(3, (1000,))
    assert x.dtype == I64
    assert sorted(set(x.tolist())) == [0, 1, 2]
    assert sorted(set(mg.randint(-2, 1, (1000,)).tolist())) == [-2, -1, 0]
    assert mg.randint(5, 6, (2, 2)).tolist() == [[5, 5], [5, 5]]
    assert mg.randint(low=0, high=2, size=[3]).shape == (3,)
    assert mg.randint(high=2, low=1, size=()).item() == 1
    assert mg.randint(10, (2,), dtype=F32).dtype == F32
    for args, error, message in [
        ((3, 3, (2,)), ValueError, "low must be smaller than high, got 3 and 3"),
        ((0, (2,)), ValueError, "low must be smaller than high, got 0 and 0"),
        ((3, 4), TypeError, r"size must be a tuple, got 4: randint\(high, \(2, 3\)\)"),
        ((0.5, 3, (2,)), TypeError, "low and high must be integers, got 0.5 and 3"),
        ((3, (-1,)), ValueError, "size must not be negative"),
    ]:
        with pytest.raises(error, match=message):
            mg.randint(*args)


def test_randperm_and_bernoulli():
    p = mg.randperm(100)
    assert p.dtype == I64
    assert sorted(p.tolist()) == list(range(100))
    assert p.tolist() != list(range(100))
    assert mg.randperm(0).tolist() == []
    with pytest.raises(ValueError, match="size must not be negative"):
        mg.randperm(-1)
    b = mg.bernoulli(mg.full((10_000,), 0.25))
    assert b.dtype == F32
    assert set(b.tolist()) == {0, 1}
    assert abs(b.mean().item() - 0.25) < 0.02
    assert mg.bernoulli(mg.tensor([0.0, 1.0])).tolist() == [0, 1]
    for wrong in (mg.tensor([1.5]), mg.tensor([-0.1]), mg.tensor([math.nan]), mg.tensor([1]), 0.5):
        with pytest.raises(ValueError, match="p must be a tensor of probabilities between 0 and 1"):
            mg.bernoulli(wrong)


def test_normal():
    x = mg.normal(5, 0.1, size=(10_000,))
    assert abs(x.mean().item() - 5) < 0.01
    assert abs(x.std().item() - 0.1) < 0.01
    assert mg.normal(mg.zeros(3), mg.ones(2, 1)).shape == (2, 3)
    assert mg.normal(mg.tensor([1.0, 2.0]), 0.0).tolist() == [1, 2]
    for wrong in (-1.0, mg.tensor([1.0, -1.0])):
        with pytest.raises(ValueError, match="std must not be negative"):
            mg.normal(0.0, wrong, size=(2,))
    with pytest.raises(TypeError, match="size must be given unless mean or std is a Tensor"):
        mg.normal(0.0, 1.0)


# ---- wrong arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mg.zeros(-1), ValueError, r"size must not be negative, got \(-1,\)"),
        (lambda: mg.zeros(2.0), TypeError, r"size must be integers, got \(2.0,\)"),
        (lambda: mg.ones("2"), TypeError, "size must be integers"),
        (lambda: mg.rand(2, (3,)), TypeError, "size must be integers"),
        (lambda: mg.zeros(True), TypeError, "size must be integers"),
        (lambda: mg.zeros(2, size=(3,)), TypeError, "give the size once"),
        (lambda: mg.zeros(2, dtype="foo"), TypeError, "dtype must be a dtype such as mg.float32, got 'foo'"),
        (lambda: mg.zeros(2, dtype=np.complex64), TypeError, "tensors hold booleans, integers or real numbers"),
        (lambda: mg.zeros(2, dtype=np.longdouble), TypeError, "up to 64 bits"),
        (lambda: mg.zeros(2, dtype=str), TypeError, "tensors hold booleans, integers or real numbers"),
        (lambda: mg.randn(2, dtype=I64), TypeError, "dtype must be a floating dtype, got int64"),
        (lambda: mg.rand(2, generator=5), TypeError, "generator must be a mg.Generator or a NumPy Generator, got int"),
        (lambda: mg.full((2,), [1, 2]), TypeError, r"fill_value must be a number, got shape \(2,\)"),
        (lambda: mg.full((2,), "a"), TypeError, "data must be numbers"),
        (lambda: mg.full((2,), 300, dtype=mg.uint8), OverflowError, "300 out of bounds for uint8"),
        (lambda: mg.eye(-1), ValueError, "size must not be negative"),
        (lambda: mg.eye(2.0), TypeError, "size must be integers"),
        (lambda: mg.arange(0, 1, 0), ValueError, "step 0 does not lead from 0 to 1"),
        (lambda: mg.arange(1, 0), ValueError, "step 1 does not lead from 1 to 0"),
        (lambda: mg.arange(math.nan), TypeError, "must be finite numbers"),
        (lambda: mg.arange(0, math.inf), TypeError, "must be finite numbers"),
        (lambda: mg.arange("3"), TypeError, "must be finite numbers"),
        (lambda: mg.linspace(0, 1, -1), ValueError, "steps must be an integer of at least 0, got -1"),
        (lambda: mg.linspace(0, 1, 2.5), ValueError, "steps must be an integer of at least 0, got 2.5"),
        (lambda: mg.zeros_like([1, 2]), TypeError, "x must be a Tensor, got list"),
        (lambda: mg.tensor(1.0, dtype=None, device="cuda:x"), ValueError, "device must be"),
    ],
    ids=range(26),
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
