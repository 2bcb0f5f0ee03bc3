"""Tensors beside NumPy arrays and the tensors of other libraries: conversion, operators, ufuncs, DLPack, shared memory."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from tests.autograd.helpers import leaf

# ---- to arrays ---------------------------------------------------------------------------------------------------------


def test_numpy_shares_memory():
    x = mg.tensor([1.0, 2.0])
    array = x.numpy()
    assert array is x.data
    array[0] = 5
    assert x.tolist() == [5, 2]


def test_numpy_of_what_requires_grad():
    for x in (leaf(1, 2), leaf(1, 2) * 2):
        for convert in (Tensor.numpy, np.asarray, np.array, np.sum):
            with pytest.raises((RuntimeError, TypeError), match=r"detach\(\).numpy\(\)|axis"):
                convert(x)
        assert x.detach().numpy() is x.data


def test_array_protocol():
    x = mg.tensor([1.5, 2.5])
    assert np.shares_memory(np.asarray(x), x.data)
    assert not np.shares_memory(np.array(x), x.data)
    converted = np.asarray(x, dtype=np.float64)
    assert (converted.dtype, converted.tolist()) == (np.float64, [1.5, 2.5])
    assert np.asarray(x, dtype=np.float32) is x.data
    assert np.shares_memory(np.array(x, copy=False), x.data)
    with pytest.raises(ValueError, match="converting float32 to int64 needs a copy"):
        np.array(x, dtype=np.int64, copy=False)
    assert np.array([mg.tensor(1.0), mg.tensor(2.0)], np.float32).tolist() == [1, 2]


def test_functions_of_numpy_that_take_arrays():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.concatenate([x, x]).shape == (4, 2)
    assert np.stack([x, np.ones((2, 2))]).shape == (2, 2, 2)
    assert np.array_equal(x, x.tolist())
    np.testing.assert_allclose(x, x.numpy())
    assert np.linalg.norm(x) == pytest.approx(30**0.5)
    array = np.zeros((2, 2))
    array[0] = x[1]
    assert array.tolist() == [[3, 4], [0, 0]]
    assert np.arange(5.0)[mg.tensor([1, 3])].tolist() == [1, 3]


# ---- from arrays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [mg.from_numpy, mg.as_tensor, Tensor, mg.from_dlpack])
def test_sharing(make):
    array = np.zeros((2, 3), np.float32)
    x = make(array)
    array[0, 0] = 1
    x[1, 2] = 5.0
    assert x.tolist() == array.tolist() == [[1, 0, 0], [0, 0, 5]]


def test_from_numpy():
    assert mg.from_numpy(np.arange(3, dtype=np.uint8)).dtype == np.uint8
    assert mg.from_numpy(np.zeros(())).shape == ()
    with pytest.raises(TypeError, match=r"from_numpy expects a NumPy array, got list: use mg.tensor\(...\)"):
        mg.from_numpy([1, 2])
    with pytest.raises(TypeError, match="foreign byte order"):
        mg.from_numpy(np.zeros(2, ">f4" if np.little_endian else "<f4"))
    with pytest.raises(TypeError, match="complex64"):
        mg.from_numpy(np.zeros(2, np.complex64))


def test_as_tensor():
    x = leaf(1, 2)
    assert mg.as_tensor(x) is x
    assert mg.as_tensor(x, dtype=mg.float32) is x
    assert mg.as_tensor([1, 2]).tolist() == [1, 2]
    array = np.zeros(2)
    assert mg.as_tensor(array, dtype=mg.float64).data is array
    assert not np.shares_memory(mg.as_tensor(array, dtype=mg.float32).data, array)
    mg.as_tensor(x, dtype=mg.float64).sum().backward()  # converting keeps the history, as in PyTorch
    assert x.grad.tolist() == [1, 1]


def test_changes_through_the_array_are_seen_after_bump_version():
    array = np.array([3.0, 4.0], np.float32)
    x, w = leaf(1, 2), mg.from_numpy(array)
    y = (x * w).sum()
    array[0] = 9
    w.bump_version()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


# ---- operators with arrays and NumPy numbers ---------------------------------------------------------------------------

OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.floordiv,
    operator.mod,
    operator.lt,
    operator.ge,
    operator.eq,
    operator.ne,
]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
def test_arrays_on_both_sides(op):
    a, b = np.array([1.0, 4.0, 2.0], np.float32), np.array([3.0, 2.0, 2.0], np.float32)
    for x, y in ((Tensor(a), b), (a, Tensor(b)), (Tensor(a), Tensor(b))):
        result = op(x, y)
        assert isinstance(result, Tensor)
        assert result.dtype == op(a, b).dtype
        np.testing.assert_allclose(result.numpy(), op(a, b), rtol=1e-6)


@pytest.mark.parametrize("op", OPERATORS[:7], ids=lambda op: op.__name__)
@pytest.mark.parametrize("number", [np.float64(2), np.float32(2), np.int64(2), np.array(2.0)], ids=lambda n: type(n).__name__)
def test_numpy_numbers_do_not_widen(op, number):
    """NumPy itself would make float64 of float32 * np.float64."""
    x = mg.tensor([1.0, 4.0])
    for result in (op(number, x), op(x, number)):
        assert isinstance(result, Tensor)
        assert result.dtype == np.float32
    assert op(x, number).tolist() == op(x, 2.0).tolist()
    assert op(number, x).tolist() == op(2.0, x).tolist()


def test_gradients_flow_through_arrays_on_the_left():
    x = leaf(1, 2)
    y = np.array([3.0, 4.0], np.float32) * x + np.float64(2) * x - np.ones(2, np.float32)
    y.sum().backward()
    assert x.grad.tolist() == [5, 6]
    assert x.grad.dtype == np.float32


def test_matrix_products_with_arrays():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    w = mg.ones(3, 2, requires_grad=True)
    for y in (a @ w, w.t() @ a.T, np.matmul(a, w)):
        assert isinstance(y, Tensor)
        assert y.requires_grad
    assert (a @ w).tolist() == (a @ np.ones((3, 2))).tolist()
    (a @ w).sum().backward()
    assert w.grad.tolist() == [[3, 3], [5, 5], [7, 7]]
    assert (w.detach() @ a).tolist() == (np.ones((3, 2)) @ a).tolist()
    with pytest.raises(TypeError, match=r"matmul: (all|both) tensors must have one dtype"):
        a.astype(np.float64) @ w


def test_masks_of_both_kinds():
    x, mask = mg.tensor([True, True]), np.array([True, False])
    assert (mask & x).tolist() == (x & mask).tolist() == [True, False]
    assert (mask | x).tolist() == [True, True]
    assert np.invert(x).tolist() == [False, False]


def test_ufuncs():
    """np.exp(t) is mg.exp(t), with its gradient."""
    values = np.array([0.3, 0.7], np.float32)
    for ufunc in (
        np.exp,
        np.log,
        np.sqrt,
        np.sin,
        np.tanh,
        np.square,
        np.negative,
        np.abs,
        np.expm1,
        np.log1p,
        np.floor,
        np.rint,
    ):
        x = mg.tensor(values, requires_grad=True)
        y = ufunc(x)
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.detach().numpy(), ufunc(values), rtol=1e-6)
        y.sum().backward()
        assert x.grad.shape == (2,)
    assert np.maximum(x, np.array([0.5, 0.5], np.float32)).tolist() == pytest.approx([0.5, 0.7])
    assert np.isnan(mg.tensor([np.nan, 1.0])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: np.arctan(x), "np.arctan is"),
        (lambda x: np.exp(x, out=np.zeros(2, np.float32)), "np.exp with out is"),
        (lambda x: np.add.reduce(x), "np.add.reduce is"),
        (lambda x: np.zeros(2).__iadd__(x), "np.add with out is"),
        (lambda x: np.multiply.outer(x, x), "np.multiply.outer is"),
        (lambda x: np.array([1j, 1j]) * x, "multiply|mul: tensors hold booleans, integers or real numbers, not dtype complex128"),
    ],
    ids=["arctan", "out", "reduce", "+=", "outer", "complex"],
)
def test_ufuncs_that_tensors_do_not_have(call, name):
    with pytest.raises(TypeError, match=name):
        call(mg.ones(2))


# ---- other libraries ---------------------------------------------------------------------------------------------------

DTYPES = ["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_with_numpy(dtype):
    x = mg.tensor([[0, 1], [1, 0]], dtype=dtype)
    array = np.from_dlpack(x)
    assert array.dtype == dtype
    assert array.tolist() == x.tolist()
    assert np.shares_memory(array, x.data)
    y = mg.from_dlpack(array)
    assert y.dtype == dtype
    assert np.shares_memory(y.data, x.data)
    assert np.shares_memory(mg.from_dlpack(x).data, x.data)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_with_pytorch(dtype):
    torch = pytest.importorskip("torch")
    x = mg.tensor([[0, 1], [1, 0]], dtype=dtype)
    theirs = torch.from_dlpack(x)
    assert str(theirs.dtype) == f"torch.{dtype}"
    theirs[0, 0] = 1
    assert x.tolist() == theirs.tolist() == [[1, 1], [1, 0]]
    ours = mg.from_dlpack(theirs)
    assert (ours.dtype, ours.shape) == (np.dtype(dtype), (2, 2))
    ours[1, 1] = True if dtype == "bool" else 1
    assert theirs.tolist() == ours.tolist() == x.tolist() == [[1, 1], [1, 1]]


def test_dlpack_keeps_strides_and_outlives_its_source():
    torch = pytest.importorskip("torch")
    x = mg.tensor(np.arange(6.0).reshape(2, 3))
    theirs = torch.from_dlpack(x.t())
    assert (tuple(theirs.shape), theirs.stride()) == ((3, 2), (1, 3))
    ours = mg.from_dlpack(torch.arange(6.0).reshape(2, 3).t())
    assert (ours.shape, ours.stride()) == ((3, 2), (1, 3))
    del x
    assert theirs.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert ours.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert mg.from_dlpack(torch.tensor(3.5)).item() == 3.5
    assert mg.from_dlpack(torch.zeros(0, 2)).shape == (0, 2)


def test_dlpack_errors():
    for x in (leaf(1), leaf(1) * 2):
        with pytest.raises(RuntimeError, match=r"requires grad cannot be shared: use detach\(\) first"):
            np.from_dlpack(x)
        assert np.from_dlpack(x.detach()).shape == (1,)
    with pytest.raises(TypeError, match="from_dlpack expects an object with __dlpack__, got list"):
        mg.from_dlpack([1, 2])
    with pytest.raises(TypeError, match="complex64"):
        mg.from_dlpack(np.zeros(2, np.complex64))


def test_tensors_of_pytorch_as_data():
    torch = pytest.importorskip("torch")
    theirs = torch.tensor([1.0, 2.0])
    shared, copied = mg.as_tensor(theirs), mg.tensor(theirs)
    theirs[0] = 9
    assert shared.tolist() == [9, 2]
    assert copied.tolist() == [1, 2]
    assert mg.tensor(torch.arange(3)).dtype == np.int64
