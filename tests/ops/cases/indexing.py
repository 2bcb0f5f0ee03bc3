"""Rows for minigrad/ops/indexing.py; tests/ops/test_indexing_against_torch.py tries hundreds of random indices."""

from __future__ import annotations

import numpy as np

from tests.ops.case import Case, Draw, Error, Raw, const


def picked(id: str, index, shape: tuple = (4, 3, 5), view: bool = False) -> Case:
    """x[index] with an index that is not a tensor."""
    return Case("getitem", id, lambda d: (d.normal(*shape), Raw(index)), lambda x, index: x[index], view=view, step=1)


def at(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    return x[index]


def stored(x: np.ndarray, index, value) -> np.ndarray:
    x[index] = value
    return x


def written(id: str, index, value: tuple, shape: tuple = (4, 3, 5)) -> Case:
    def draw(d: Draw) -> tuple:
        return d.normal(*shape), Raw(index), d.normal(*value)

    return Case("setitem", id, draw, stored, inplace=True, step=1)


def masked(d: Draw) -> tuple:
    return d.normal(3, 4), d.booleans(4)


CASES = [
    picked("integer", 2, view=True),
    picked("integers", (-1, 2), view=True),
    picked("one element", (0, 1, 2), view=True),
    picked("slices", (slice(1, None), slice(None, None, 2)), view=True),
    picked("ellipsis and None", (None, ..., slice(1, 3)), view=True),
    picked("images", (slice(None), slice(None), slice(1, 3), slice(0, 2)), shape=(2, 3, 4, 5), view=True),
    picked("list", [0, 2, 0]),
    picked("list in the middle", (slice(None), [2, 0, 2, 2])),
    picked("neighbouring lists", (slice(None), [0, 1, 0], [4, -1, 4])),
    picked("separated lists", ([0, 1, 0], slice(None), [4, 1, 4])),
    picked("list and mask", ([0, 3], np.array([True, False, True]))),
    picked("empty list", []),
    Case("getitem", "integer tensor", lambda d: (d.normal(4, 3), d.integers(-4, 4, 2, 3)), at,
         torch=lambda t, x, i: x[i], step=1),
    Case("getitem", "mask", lambda d: (d.normal(4, 3), d.booleans(4, 3)), at, torch=lambda t, x, i: x[i], step=1),
    Case("getitem", "mask of rows", lambda d: (d.normal(4, 3), d.booleans(4)), at, torch=lambda t, x, i: x[i], step=1),
    Case("getitem", "many repeats", lambda d: (d.normal(3, 2), d.integers(0, 3, 50)), at, torch=lambda t, x, i: x[i], step=1),
    written("integer", 1, (3, 5)),
    written("slice, broadcast", (slice(None), slice(0, 2)), (5,)),
    written("leading 1 in the value", 1, (1, 3, 5)),
    written("list", [0, 2], (2, 3, 5)),
    written("separated lists", ([0, 1], slice(None), [4, 1]), (2, 3)),
    written("repeated positions", ([0, 0, 1],), (3, 3, 5)),
    written("mask", np.arange(4) > 1, (2, 3, 5)),
    written("images", (slice(None), slice(None), slice(1, 3)), (2, 3, 2, 5), shape=(2, 3, 4, 5)),
    Case("setitem", "number", lambda d: (d.normal(4, 3), 2, 1.5), stored, inplace=True, step=1),
    Case("setitem", "integers", lambda d: (d.integers(0, 9, 4), 2, 7), stored, inplace=True),
    Case("masked_fill", "broadcast", lambda d: (*masked(d), -1.5), lambda x, m, v: np.where(m, v, x),
         torch="masked_fill", step=1),
    Case("masked_fill", "infinite", lambda d: (const(d.normal(3, 4)), d.booleans(4), -np.inf),
         lambda x, m, v: np.where(m, v, x), torch="masked_fill"),
    Case("masked_fill", "mask is larger", lambda d: (d.normal(4), d.booleans(3, 4), 2), lambda x, m, v: np.where(m, v, x),
         torch="masked_fill", step=1),
    Case("masked_fill_", "broadcast", lambda d: (*masked(d), 2), lambda x, m, v: np.where(m, v, x), torch="Tensor.masked_fill_",
         inplace=True, step=1),
    Case("masked_select", "same shape", lambda d: (d.normal(3, 4), d.booleans(3, 4)), at, torch="masked_select", step=1),
    Case("masked_select", "broadcast", masked, lambda x, m: x[np.broadcast_to(m, x.shape)], torch="masked_select", step=1),
    Case("nonzero", "matrix", lambda d: (d.integers(0, 2, 3, 4),), lambda x: np.argwhere(x), torch="nonzero"),
    Case("nonzero", "as tuple", lambda d: (d.booleans(3, 4), True), lambda x, t: x.nonzero(),
         torch=lambda t, x, _: x.nonzero(as_tuple=True)),
    Case("nonzero", "number", lambda d: (d.integers(1, 2),), lambda x: np.zeros((1, 0), np.int64), torch="nonzero"),
]  # fmt: skip

ERRORS = [
    Error("getitem", "range", lambda d: (d.normal(4, 3), (0, 5)), IndexError,
          "index 5 is out of range for dimension 1 of size 3"),
    Error("getitem", "tensor range", lambda d: (d.normal(4, 3), d.integers(7, 8, 2)), IndexError, "index 7 is out of range"),
    Error("getitem", "too many", lambda d: (d.normal(4), (0, 0)), IndexError, r"too many indices: 2 for a tensor of 1"),
    Error("getitem", "float tensor", lambda d: (d.normal(4), d.normal(2)), TypeError, "must hold integers"),
    Error("getitem", "mask shape", lambda d: (d.normal(4), d.booleans(3)), IndexError, r"mask of shape \(3,\) does not fit"),
    Error("getitem", "negative step", lambda d: (d.normal(4), slice(None, None, -1)), ValueError, "must be positive"),
    Error("setitem", "range", lambda d: (d.normal(4, 3), 4, 1.0), IndexError, "index 4 is out of range", inplace=True),
    Error("setitem", "shape", lambda d: (d.normal(4, 3), 0, d.normal(2)), ValueError,
          r"shape \(2,\) does not broadcast to the indexed shape \(3,\)", inplace=True),
    Error("setitem", "list", lambda d: (d.normal(3), 0, [1.0]), TypeError, "value must be a number or a Tensor", inplace=True),
    Error("setitem", "float into integers", lambda d: (d.integers(0, 9, 3), 0, 0.5), TypeError, "cannot be stored"),
    Error("setitem", "leaf", lambda d: (d.normal(3), 0, 1.0), RuntimeError, "leaf tensor that requires grad"),
    Error("masked_fill", "mask dtype", lambda d: (d.normal(3), d.integers(0, 2, 3), 1.0), TypeError, "mask must hold booleans"),
    Error("masked_fill", "mask shape", lambda d: (d.normal(3), d.booleans(2), 1.0), ValueError, "does not broadcast with x"),
    Error("masked_fill", "value", lambda d: (d.normal(3), d.booleans(3), "1"), TypeError, "value must be a number"),
    Error("masked_fill_", "leaf", lambda d: (d.normal(3), d.booleans(3), 1.0), RuntimeError, "leaf tensor"),
    Error("masked_fill_", "growing", lambda d: (d.normal(4), d.booleans(3, 4), 1.0), ValueError, "keeps its shape", inplace=True),
    Error("masked_select", "mask", lambda d: (d.normal(3), 2), TypeError, "mask must be a Tensor"),
    Error("nonzero", "list", lambda d: ([0, 1],), TypeError, "x must be a Tensor"),
]  # fmt: skip
