"""Rows for minigrad/ops/gathering.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.ops.case import Case, Draw, Error


def along(d: Draw) -> tuple:
    return d.normal(3, 4), 1, d.integers(-4, 4, 3, 6)


def plain(d: Draw) -> tuple:
    """As ``along`` without negative positions, which PyTorch refuses here, and shorter than x along the other dimension."""
    return d.normal(3, 4), 1, d.integers(0, 4, 2, 6)


def gather(x: np.ndarray, dim: int, index: np.ndarray) -> np.ndarray:
    y = np.empty(index.shape, x.dtype)
    for at in np.ndindex(index.shape):
        y[at] = x[(*at[:dim], index[at], *at[dim + 1 :])]
    return y


def scatter(x: np.ndarray, dim: int, index: np.ndarray, src, add: bool = False) -> np.ndarray:
    for at in np.ndindex(index.shape):
        value, place = src if np.isscalar(src) else src[at], (*at[:dim], index[at], *at[dim + 1 :])
        x[place] = x[place] + value if add else value
    return x


def scatter_add(x: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray) -> np.ndarray:
    return scatter(x, dim, index, src, add=True)


def trimmed(name: str) -> Callable:
    """PyTorch's backward fails where ``src`` is larger than the index, so it gets the part that counts."""

    def function(torch, x, dim, index, src):
        return getattr(x, name)(dim, index, src[tuple(slice(n) for n in index.shape)])

    return function


def placed(d: Draw) -> tuple:
    """Every position at most once, and a ``src`` that is larger than the index."""
    index = np.stack([d.rng.permutation(4)[:2] for _ in range(3)])
    return d.normal(3, 4), 1, index, d.normal(3, 3)


def added(d: Draw) -> tuple:
    return d.normal(3, 4), 1, d.integers(0, 4, 3, 5), d.normal(3, 5)


def index_add(x: np.ndarray, dim: int, index: np.ndarray, source: np.ndarray, alpha: float = 1) -> np.ndarray:
    np.add.at(x, (*[slice(None)] * dim, index), alpha * source)
    return x


CASES = [
    Case("gather", "negative positions", along, gather, step=1),
    Case("gather", "smaller index", plain, gather, torch="gather", step=1),
    Case("gather", "first dim of three", lambda d: (d.normal(2, 3, 4), 0, d.integers(0, 2, 5, 3, 4)), gather,
         torch="gather", step=1),
    Case("gather", "a label each", lambda d: (d.normal(5, 3), 1, d.integers(0, 3, 5, 1)), gather, torch="gather", step=1),
    Case("take_along_dim", "broadcast", lambda d: (d.normal(3, 4), d.integers(0, 4, 1, 2), 1),
         lambda x, i, dim: np.take_along_axis(x, np.broadcast_to(i, (3, 2)), 1), torch="take_along_dim", step=1),
    Case("index_select", "rows", lambda d: (d.normal(3, 4), 0, d.integers(0, 3, 5)), lambda x, dim, i: x[i], torch="index_select",
         step=1),
    Case("index_select", "channels", lambda d: (d.normal(2, 3, 4, 4), 1, d.integers(0, 3, 2)), lambda x, dim, i: x[:, i],
         torch="index_select", step=1),
    Case("index_add", "rows", lambda d: (d.normal(3, 4), 0, d.integers(0, 3, 5), d.normal(5, 4)), index_add,
         torch="index_add", step=1,
         scale="absolute"),
    Case("index_add", "alpha", lambda d: (d.normal(2, 3), 1, d.integers(0, 3, 4), d.normal(2, 4), {"alpha": -2}), index_add,
         torch="index_add", step=1, scale="output", ulp=8),
    Case("scatter", "tensor", placed, scatter, torch=trimmed("scatter"), step=1),
    Case("scatter", "number", lambda d: (d.normal(3, 4), 1, d.integers(0, 4, 3, 2), 1.5), scatter, torch="scatter", step=1),
    Case("scatter", "repeated positions", added, scatter, step=1),
    Case("scatter_", "tensor", placed, scatter, torch=trimmed("scatter_"), inplace=True, step=1),
    Case("scatter_", "number", lambda d: (d.normal(3, 4), 1, d.integers(0, 4, 3, 2), 1.5), scatter, torch="Tensor.scatter_",
         inplace=True, step=1),
    Case("scatter_add", "repeated positions", added, scatter_add, torch="scatter_add", step=1, scale="absolute"),
    Case("scatter_add", "larger src", lambda d: (d.normal(2, 3), 0, d.integers(0, 2, 4, 2), d.normal(5, 3)), scatter_add,
         torch=trimmed("scatter_add"), step=1, scale="absolute"),
    Case("scatter_add_", "repeated positions", added, scatter_add, torch="Tensor.scatter_add_", inplace=True, step=1,
         scale="absolute"),
    Case("one_hot", "given", lambda d: (d.integers(0, 4, 2, 3), 5), lambda x, n: np.eye(n, dtype=int)[x],
         torch="nn.functional.one_hot"),
    Case("one_hot", "largest", lambda d: (np.array([2, 0, 1]),), lambda x: np.eye(3, dtype=int)[x],
         torch="nn.functional.one_hot"),
    Case("unique", "values", lambda d: (d.integers(-3, 3, 4, 5),), np.unique, torch="unique"),
    Case("unique", "everything", lambda d: (d.integers(-3, 3, 4, 5), {"return_inverse": True, "return_counts": True}), np.unique,
         torch="unique"),
]  # fmt: skip

ERRORS = [
    *(
        error
        for op, rest in (("gather", ()), ("scatter", (1.0,)), ("scatter_", (1.0,)))
        for error in (
            Error(op, "range", lambda d, rest=rest: (d.normal(2, 3), 1, d.integers(3, 4, 2, 2), *rest), IndexError,
                  "index 3 is out of range for dimension 1 of size 3"),
            Error(op, "float index", lambda d, rest=rest: (d.normal(2, 3), 1, d.normal(2, 2), *rest), TypeError,
                  "index must hold integers"),
            Error(op, "reach", lambda d, rest=rest: (d.normal(2, 3), 1, d.integers(0, 3, 3, 2), *rest), ValueError,
                  r"index of shape \(3, 2\) reaches beyond x of shape \(2, 3\)"),
        )
    ),
    Error("gather", "list", lambda d: (d.normal(2, 3), 1, [[0], [1]]), TypeError, "index must be a Tensor"),
    Error("take_along_dim", "dimensions", lambda d: (d.normal(2, 3), d.integers(0, 2, 2), 0), ValueError,
          "must have 2 dimensions"),
    Error("index_select", "matrix", lambda d: (d.normal(2, 3), 0, d.integers(0, 2, 2, 2)), ValueError, "index must be a vector"),
    Error("index_add", "shape", lambda d: (d.normal(2, 3), 0, d.integers(0, 2, 4), d.normal(4, 2)), ValueError,
          r"source of shape \(4, 3\), got \(4,\) and \(4, 2\)"),
    Error("scatter", "leaf dtype", lambda d: (d.normal(2, 3), 1, d.integers(0, 3, 2, 2), d.integers(0, 3, 2, 2)), TypeError,
          "one dtype"),
    Error("scatter_", "leaf", lambda d: (d.normal(2, 3), 1, d.integers(0, 3, 2, 2), 1.0), RuntimeError, "leaf tensor"),
    Error("scatter_add", "number", lambda d: (d.normal(2, 3), 1, d.integers(0, 3, 2, 2), 1.0), TypeError, "src must be a Tensor"),
    Error("scatter_add_", "src", lambda d: (d.normal(2, 3), 1, d.integers(0, 3, 2, 2), d.normal(1, 2)), ValueError,
          "reaches beyond src", inplace=True),
    Error("one_hot", "range", lambda d: (d.integers(3, 4, 2), 3), ValueError, "class 3 is out of range for 3 classes"),
    Error("one_hot", "negative", lambda d: (np.array([-1, 2]),), ValueError, "class -1"),
    Error("one_hot", "float", lambda d: (d.normal(2), 3), TypeError, "x must hold integers"),
    Error("one_hot", "classes", lambda d: (d.integers(0, 2, 2), 0), ValueError, "num_classes must be"),
    Error("unique", "list", lambda d: ([1, 1],), TypeError, "x must be a Tensor"),
]  # fmt: skip
