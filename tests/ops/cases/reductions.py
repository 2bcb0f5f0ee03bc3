"""Rows for minigrad/ops/reductions.py."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tests.ops.case import Case, Draw, Error, const


def axes(x, dim) -> tuple:
    if dim is None or dim == ():
        return tuple(range(x.ndim))
    return tuple(d % max(x.ndim, 1) for d in (dim if isinstance(dim, tuple) else (dim,))) if x.ndim else ()


def over(function: Callable) -> Callable:
    """NumPy's reduction with PyTorch's arguments."""
    return lambda x, dim=None, keepdim=False, **kwargs: function(x, axis=axes(x, dim), keepdims=keepdim, **kwargs)


def norm(x, p=2.0, dim=None, keepdim=False):
    x, along = np.abs(x), axes(x, dim)
    p = 2.0 if p in ("fro", None) else p
    if p == 0:
        return (x != 0).sum(axis=along, keepdims=keepdim).astype(float)
    if math.isinf(p):
        return (np.max if p > 0 else np.min)(x, axis=along, keepdims=keepdim)
    return (x**p).sum(axis=along, keepdims=keepdim) ** (1 / p)


def variance(x, dim=None, unbiased=None, keepdim=False, correction=1):
    correction = correction if unbiased is None else int(unbiased)
    count = math.prod(x.shape[i] for i in axes(x, dim))
    squares = ((x - x.mean(axis=axes(x, dim), keepdims=True)) ** 2).sum(axis=axes(x, dim), keepdims=keepdim)
    return squares / (count - correction if count > correction else np.nan)


def deviation(x, **kwargs):
    return np.sqrt(variance(x, **kwargs))


def logsumexp(x, dim, keepdim=False):
    largest = x.max(axis=axes(x, dim), keepdims=True)
    largest = np.where(np.isinf(largest), 0, largest)
    y = np.log(np.exp(x - largest).sum(axis=axes(x, dim), keepdims=True)) + largest
    return y if keepdim else y.squeeze(axes(x, dim))


def extreme(argument: Callable) -> Callable:
    """(values, indices) along one dimension from np.argmax or np.argmin; the extreme itself without a dimension."""

    def function(x, dim=None, keepdim=False):
        if dim is None:
            return x.ravel()[argument(x)]
        indices = argument(x, axis=dim, keepdims=True)
        values = np.take_along_axis(x, indices, dim)
        return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))

    return function


def two_with_a_tie(d: Draw) -> tuple:
    return np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0])


def argument(function: Callable) -> Callable:
    return lambda x, dim=None, keepdim=False: function(x, axis=dim, keepdims=keepdim)


def shapes(
    op: str, reference: Callable, torch: str | Callable, draw: str = "normal", step: float = 1e-2, **options
) -> list[Case]:
    """What every reduction is called with: all dimensions, one, several, the last kept."""

    def inputs(*shape: int, **kwargs):
        return lambda d: (getattr(d, draw)(*shape), kwargs)

    options = {"scale": "absolute", "step": step, **options}
    return [
        Case(op, "everything", inputs(3, 4), reference, torch=torch, **options),
        Case(op, "one dim", inputs(2, 3, 4, dim=1), reference, torch=torch, **options),
        Case(op, "last dim kept", inputs(3, 4, dim=-1, keepdim=True), reference, torch=torch, **options),
        Case(op, "images to pixels", inputs(2, 3, 4, 5, dim=(2, 3)), reference, torch=torch, **options),
        Case(op, "images to channels, kept", inputs(2, 3, 4, 5, dim=(0, -2, 3), keepdim=True), reference, torch=torch, **options),
        Case(op, "0-d", inputs(), reference, torch=torch, **options),
    ]


CASES = [
    # ---- sums and moments -------------------------------------------------------------------------------------------
    *shapes("sum", over(np.sum), "sum", step=1),
    Case("sum", "dim an empty tuple", lambda d: (d.normal(2, 3), {"dim": ()}), over(np.sum), torch="sum", scale="absolute"),
    Case("sum", "empty", lambda d: (d.normal(0, 3), {"dim": 0}), over(np.sum), torch="sum"),
    Case("sum", "integers", lambda d: (d.integers(-9, 9, 3, 4), {"dim": 1}), over(np.sum), torch="sum"),
    Case("sum", "booleans", lambda d: (d.booleans(30),), over(np.sum), torch="sum"),
    Case("sum", "many numbers", lambda d: (d.uniform(0, 1, 50_000, 3), {"dim": 0}), over(np.sum), torch="sum", step=1,
         ulp=1),
    *shapes("mean", over(np.mean), "mean", step=1),
    Case("mean", "empty", lambda d: (const(d.normal(0, 3)), {"dim": 0}), lambda x, dim: np.full(3, np.nan), torch="mean"),
    Case("mean", "large numbers", lambda d: (d.uniform(1e37, 1e38, 100),), over(np.mean), torch="mean", ulp=1, step=1e30),
    *(row for op, reference in (("var", variance), ("std", deviation)) for row in (
        *shapes(op, reference, op, scale="output", ulp=16, step=1e-3)[:-1],
        Case(op, "biased", lambda d: (d.normal(4, 5), {"dim": 1, "unbiased": False}), reference, torch=op, scale="output"),
        Case(op, "correction", lambda d: (d.normal(4, 5), {"dim": 0, "correction": 2}), reference, torch=op, scale="output"),
        Case(op, "one element biased", lambda d: (d.normal(3, 1), {"dim": 1, "correction": 0}), reference, torch=op, kink=True),
        Case(op, "large mean", lambda d: (d.uniform(4094, 4098, 3, 50), {"dim": 1}), reference, scale="output", ulp=8,
             gradient_ulp=2**14, why="float32 holds values around 4096 to 2^-12 of the deviation only"),  # PyTorch loses 9 bits
    )),
    Case("std", "all equal", lambda d: (np.ones((2, 3)), {"dim": 1}), deviation, kink=True),
    Case("var", "too few elements", lambda d: (const(d.normal(3, 1)), {"dim": 1}), variance),
    # ---- norms, logsumexp, cumsum -----------------------------------------------------------------------------------
    *shapes("norm", norm, lambda torch, x, **kwargs: torch.linalg.vector_norm(x, **kwargs), scale="output", step=1e-3),
    *(Case("norm", f"p {p}", lambda d, p=p: (d.away(3, 4), {"p": p, "dim": 1}), norm, torch="norm", scale="output", ulp=8)
      for p in (1, 3, 0.5, -1, "fro")),
    *(Case("norm", f"p {p}", lambda d, p=p: (d.distinct(3, 4), {"p": p, "dim": 1}), norm, torch="norm", scale="output")
      for p in (math.inf, -math.inf)),
    Case("norm", "p 0", lambda d: (np.array([[0.0, 2.0, -1.0], [0.0, 0.0, 5.0]]), {"p": 0, "dim": 1}), norm, torch="norm",
         kink=True),
    Case("norm", "of zeros", lambda d: (np.zeros((2, 3)), {"dim": 1}), norm, torch="norm", kink=True),
    Case("norm", "p 1 of zeros", lambda d: (np.zeros((2, 3)), {"p": 1, "dim": 1}), norm, torch="norm", kink=True),
    Case("norm", "p inf with ties", lambda d: (np.array([2.0, -2.0, 1.0]), {"p": math.inf}), norm, torch="norm", kink=True),
    Case("norm", "squares beyond float32", lambda d: (d.uniform(1e25, 1e26, 6),), norm, torch="norm", step=1e20),
    *shapes("logsumexp", logsumexp, "logsumexp", scale="output", step=1e-3)[1:-1],
    Case("logsumexp", "large", lambda d: (np.array([[1e4, 1e4, -1e4], [-1e4, -9999.0, -1e4]]), 1), logsumexp, torch="logsumexp",
         scale="output"),
    Case("logsumexp", "infinite", lambda d: (np.array([[-np.inf, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]]), 1), logsumexp,
         torch=None, kink=True),
    Case("logsumexp", "0-d", lambda d: (d.normal(), 0), lambda x, dim: x, torch="logsumexp", scale="output"),
    Case("cumsum", "rows", lambda d: (d.normal(3, 5), 1), lambda x, dim: x.cumsum(dim), torch="cumsum", scale="absolute", step=1),
    Case("cumsum", "images", lambda d: (d.normal(2, 3, 2, 2), {"dim": -3}), lambda x, dim: x.cumsum(dim), torch="cumsum",
         scale="absolute", step=1),
    Case("cumsum", "integers", lambda d: (d.integers(0, 9, 5), 0), lambda x, dim: x.cumsum(dim), torch="cumsum"),
    Case("cumsum", "0-d", lambda d: (d.normal(), 0), lambda x, dim: x, torch="cumsum", step=1),
    # ---- products ---------------------------------------------------------------------------------------------------
    Case("prod", "everything", lambda d: (d.away(3, 2),), over(np.prod), torch="prod", ulp=16),
    Case("prod", "one dim", lambda d: (d.away(2, 3, 4), {"dim": 1}), over(np.prod), torch="prod", ulp=16),
    Case("prod", "last dim kept", lambda d: (d.away(2, 3), {"dim": -1, "keepdim": True}), over(np.prod), torch="prod"),
    Case("prod", "two dims", lambda d: (d.away(2, 3, 2, 2), {"dim": (1, 3)}), over(np.prod), ulp=16),
    Case("prod", "with zeros", lambda d: (np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]]), {"dim": 1}),
         over(np.prod), torch="prod", step=0.5),
    Case("prod", "empty", lambda d: (d.normal(0, 3), {"dim": 0}), over(np.prod), torch="prod"),
    Case("prod", "integers", lambda d: (d.integers(1, 9, 3, 4), {"dim": 1}), over(np.prod), torch="prod"),
    Case("prod", "0-d", lambda d: (d.normal(),), over(np.prod), torch="prod"),
    # ---- extremes ---------------------------------------------------------------------------------------------------
    *(row for op, function in (("amax", np.max), ("amin", np.min)) for row in (
        *shapes(op, over(function), op, draw="distinct", scale="element", step=1e-3)[:-1],
        Case(op, "ties share", lambda d: (np.array([[1.0, 3.0, 3.0], [1.0, 1.0, 2.0]]), {"dim": 1}), over(function), torch=op,
             kink=True),
        Case(op, "integers", lambda d: (d.integers(0, 9, 3, 4), {"dim": 0}), over(function), torch=op),
        Case(op, "0-d", lambda d: (d.normal(),), over(function), torch=lambda torch, x, op=op: getattr(torch, op)(x, ())),
        Case(op, "infinite", lambda d: (np.array([-np.inf, 1.0, np.inf, np.inf]),), over(function), torch=op, kink=True),
    )),
    *(row for op, function in (("max", np.argmax), ("min", np.argmin)) for row in (
        Case(op, "everything", lambda d: (d.distinct(3, 4),), extreme(function), torch=op),
        Case(op, "ties share", lambda d: (np.array([[2.0, 1.0], [1.0, 2.0]]),), extreme(function), torch=op, kink=True),
        Case(op, "one dim", lambda d: (d.distinct(2, 3, 4), {"dim": 1}), extreme(function), torch=op),
        Case(op, "last dim kept", lambda d: (d.distinct(3, 4), -1, True), extreme(function), torch=op),
        Case(op, "images", lambda d: (d.distinct(2, 3, 4, 5), {"dim": -3, "keepdim": True}), extreme(function), torch=op),
        Case(op, "ties go to the first", lambda d: (np.array([[1.0, 3.0, 3.0], [1.0, 1.0, 2.0]]), 1), extreme(function), torch=op,
             kink=True),
        Case(op, "integers", lambda d: (d.integers(0, 9, 3, 4), 0), extreme(function), torch=op),
        Case(op, "0-d", lambda d: (d.normal(), 0), lambda x, dim: (x, np.int64(0)), torch=op),
    )),
    Case("max", "two tensors", two_with_a_tie, np.maximum, torch="max", kink=True),
    Case("min", "two tensors", two_with_a_tie, np.minimum, torch="min", kink=True),
    *(row for op, function in (("argmax", np.argmax), ("argmin", np.argmin)) for row in (
        Case(op, "everything", lambda d: (d.distinct(3, 4),), argument(function), torch=op),
        Case(op, "one dim", lambda d: (d.distinct(2, 3, 4), {"dim": -2}), argument(function), torch=op),
        Case(op, "kept", lambda d: (d.distinct(3, 4), {"dim": 1, "keepdim": True}), argument(function), torch=op),
        Case(op, "ties go to the first", lambda d: (np.ones((2, 3)), {"dim": 1}), argument(function), torch=op),
        Case(op, "0-d", lambda d: (d.normal(),), lambda x: 0, torch=op),
    )),
    # ---- counting ---------------------------------------------------------------------------------------------------
    *(row for op, function in (("any", np.any), ("all", np.all)) for row in (
        Case(op, "everything", lambda d: (d.booleans(3, 4),), over(function), torch=op),
        Case(op, "one dim", lambda d: (d.booleans(3, 2), {"dim": 1}), over(function), torch=op),
        Case(op, "numbers, kept", lambda d: (const(np.array([[0.0, 1.0], [2.0, 3.0]])), {"dim": 0, "keepdim": True}),
             over(function), torch=op),
        Case(op, "empty", lambda d: (d.booleans(0, 2), {"dim": 0}), over(function), torch=op),
    )),
    Case("count_nonzero", "everything", lambda d: (d.integers(0, 2, 4, 5),), np.count_nonzero, torch="count_nonzero"),
    Case("count_nonzero", "one dim", lambda d: (d.booleans(4, 5), {"dim": 1}), lambda x, dim: np.count_nonzero(x, axis=dim),
         torch="count_nonzero"),
]  # fmt: skip


def _dims(op: str, *args) -> list[Error]:
    """What every reduction must refuse."""
    return [
        Error(op, "list", lambda d: ([1.0], *args), TypeError, "x must be a Tensor, got list"),
        Error(op, "dim out of range", lambda d: (d.normal(2, 3), {"dim": 2}), IndexError, "dim=2 is out of range"),
        Error(op, "dim a string", lambda d: (d.normal(2, 3), {"dim": "1"}), TypeError, "dim must be an integer"),
    ]


def _nothing(d: Draw) -> tuple:
    return d.normal(3, 0), {"dim": 1}


ERRORS = [
    *(error for op in ("sum", "mean", "var", "std", "norm", "prod", "amax", "amin", "max", "min", "argmax", "argmin", "any",
                       "all", "count_nonzero") for error in _dims(op)),
    *(error for op in ("cumsum", "logsumexp") for error in _dims(op, 0)),
    *(Error(op, "a dim twice", lambda d: (d.normal(2, 3), {"dim": (0, -2)}), ValueError, "names a dimension twice")
      for op in ("sum", "mean", "var", "std", "norm", "prod", "amax", "amin")),
    *(Error(op, "integers", lambda d, args=args: (d.integers(0, 3, 4), *args), TypeError, r"use x.float\(\)")
      for op, *args in (("mean",), ("var",), ("std",), ("norm",), ("logsumexp", 0))),
    *(Error(op, "nothing to choose from", _nothing, ValueError, "an empty tensor has no extreme value")
      for op in ("amax", "amin", "max", "min", "argmax", "argmin")),
    *(Error(op, "two dims", lambda d: (d.normal(2, 3), {"dim": (0, 1)}), TypeError, "dim must be one integer")
      for op in ("max", "min", "argmax", "argmin", "cumsum")),
    Error("max", "nothing at all", lambda d: (d.normal(0),), ValueError, "an empty tensor has no extreme value"),
    Error("var", "unbiased and correction", lambda d: (d.normal(3), {"unbiased": True, "correction": 1}), ValueError, "not both"),
    Error("norm", "p a name", lambda d: (d.normal(3), "nuc"), ValueError, "p must be a number"),
]  # fmt: skip
