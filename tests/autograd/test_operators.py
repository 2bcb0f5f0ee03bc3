"""Operators of tensors with Python's numbers: dtypes, comparisons, logic, and what is no operand."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import minigrad as mg
from tests.autograd.helpers import leaf

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.floordiv, operator.mod]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8"])
@pytest.mark.parametrize("number", [3, 2.5, True], ids=str)
def test_numbers_on_both_sides_give_pytorchs_dtype(op, dtype, number):
    torch = pytest.importorskip("torch")
    number = 1 if op is operator.sub and number is True else number  # PyTorch subtracts no truth values
    ours = mg.tensor([1, 4, 7], dtype=dtype)
    theirs = torch.tensor([1, 4, 7], dtype=getattr(torch, dtype))
    for a, b in ((op(ours, number), op(theirs, number)), (op(number, ours), op(number, theirs))):
        assert f"torch.{a.dtype}" == str(b.dtype)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)


def test_comparisons_give_booleans():
    x = mg.tensor([1.0, 2.0, 3.0])
    for result, expected in [
        (x == 2, [False, True, False]),
        (x != 2, [True, False, True]),
        (x < mg.tensor([2.0, 2.0, 2.0]), [True, False, False]),
        (x >= 2, [False, True, True]),
        (x > 2.5, [False, False, True]),
        (x <= 2, [True, True, False]),
    ]:
        assert result.dtype == np.bool_
        assert result.tolist() == expected
    assert not (leaf(1) > 0).requires_grad
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert (x == "a") is False


def test_logic_is_for_booleans():
    """On integers PyTorch's & | ~ work bit by bit, which minigrad does not have: no silent difference."""
    a, b = mg.tensor([True, True, False]), mg.tensor([True, False, False])
    assert (a & b).tolist() == [True, False, False]
    assert (a | b).tolist() == [True, True, False]
    assert (~a).tolist() == [False, False, True]
    assert (True & a).tolist() == (a & True).tolist() == (False | a).tolist() == [True, True, False]
    n = mg.tensor([1, 2, 3])
    for wrong, sign in ((lambda: n & 1, "&"), (lambda: a & n, "&"), (lambda: n | 1, r"\|"), (lambda: ~n, "~")):
        with pytest.raises(TypeError, match=f"{sign} is defined for booleans, got int"):
            wrong()


@pytest.mark.parametrize("other", ["a", None, [1.0, 2.0], 1j, object()], ids=lambda other: type(other).__name__)
def test_operators_with_what_is_no_number(other):
    for op in (*OPERATORS, operator.matmul, operator.iadd, operator.lt):
        with pytest.raises(TypeError):
            op(mg.ones(2), other)
    for op in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul, operator.lt):
        with pytest.raises(TypeError):
            op(other, mg.ones(2))


def test_division_by_zero_is_ieee():
    assert (mg.tensor([1.0, -1.0]) / 0).tolist() == [np.inf, -np.inf]
    assert (1 / mg.tensor([0.0])).tolist() == [np.inf]
    assert np.isnan((mg.zeros(1) / 0).item())


def test_a_number_in_a_tensor_does_not_widen():
    """A 0-d tensor takes the dtype of a tensor of its kind with dimensions, as in PyTorch."""
    number, wide = mg.tensor(2.0, dtype=mg.float64), mg.ones(3)
    for y in (number * wide, wide + number, wide / number, number - wide, wide**number):
        assert y.dtype == np.float32
    assert (mg.tensor(2) + mg.ones(3, dtype=mg.int32)).dtype == np.int32
    assert (mg.tensor(True) + mg.ones(3, dtype=mg.int32)).dtype == np.int32
    assert (number * mg.tensor(1.0)).dtype == np.float64
    assert (mg.tensor([2.0], dtype=mg.float64) * wide).dtype == np.float64
    leaf = mg.tensor(2.0, dtype=mg.float64, requires_grad=True)
    (leaf * wide).sum().backward()
    assert leaf.grad.dtype == np.float64
    assert leaf.grad.item() == 3


@pytest.mark.parametrize("divide", [lambda x, y: x // y, lambda x, y: x % y, lambda x, y: mg.div(x, y, rounding_mode="trunc")])
def test_integers_are_not_divided_by_zero(divide):
    for x, y in ((mg.arange(2), 0), (mg.arange(2), mg.tensor([1, 0])), (5, mg.arange(2))):
        with pytest.raises(ZeroDivisionError, match="an integer cannot be divided by 0"):
            divide(x, y)
    assert np.isinf(divide(mg.ones(1), 0).numpy()).all() or np.isnan(divide(mg.ones(1), 0).numpy()).all()


def test_to_says_what_its_names_are():
    with pytest.raises(TypeError, match=r"to: 'gpu' names no device \(cpu, cuda, cuda:1\) and no dtype"):
        mg.ones(2).to("gpu")
    assert mg.ones(2).to("float64").dtype == np.float64
