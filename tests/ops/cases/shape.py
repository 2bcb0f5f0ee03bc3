"""Rows for minigrad/ops/shape.py."""

from __future__ import annotations

import numpy as np

from tests.ops.case import Case, Draw, Error, Raw


def image(d: Draw) -> np.ndarray:
    return d.normal(2, 3, 4, 5)


def shaped(op: str, id: str, *args, shape=(2, 3, 4), reference, torch: str | None = None, view: bool = True, **kwargs) -> Case:
    """A case of one tensor of ``shape`` and plain arguments: a permutation or repetition of elements, so exact."""

    def draw(d: Draw) -> tuple:
        return (d.normal(*shape), *args, kwargs) if kwargs else (d.normal(*shape), *args)

    return Case(op, id, draw, lambda x, *_, **__: reference(x), torch=torch or f"Tensor.{op}", view=view, step=1)


CASES = [
    # ---- the same elements in another shape -------------------------------------------------------------------------
    shaped("reshape", "lengths", 4, 6, reference=lambda x: x.reshape(4, 6)),
    shaped("reshape", "tuple with -1", (3, -1), reference=lambda x: x.reshape(3, 8)),
    shaped("reshape", "to one element", (), shape=(1, 1), reference=lambda x: x.reshape(())),
    shaped("reshape", "empty", (0, 5), shape=(3, 0), reference=lambda x: x.reshape(0, 5)),
    shaped("reshape", "images", (2, -1), shape=(2, 3, 4, 5), reference=lambda x: x.reshape(2, 60)),
    shaped("view", "lengths", -1, 8, reference=lambda x: x.reshape(3, 8), torch="Tensor.reshape"),
    Case("reshape_as", "other", lambda d: (d.normal(2, 6), d.normal(3, 4)), lambda x, o: x.reshape(3, 4),
         torch="Tensor.reshape_as",
         view=True, nan=False, why="the values of other do not matter"),
    shaped("flatten", "everything", reference=np.ravel),
    shaped("flatten", "all but the first", 1, shape=(2, 3, 4, 5), reference=lambda x: x.reshape(2, 60)),
    shaped("flatten", "middle", 1, 2, shape=(2, 3, 4, 5), reference=lambda x: x.reshape(2, 12, 5)),
    shaped("flatten", "0-d", shape=(), reference=lambda x: x.reshape(1)),
    shaped("ravel", "plain", reference=np.ravel),
    shaped("unflatten", "tuple", 1, (2, 3), shape=(2, 6, 2), reference=lambda x: x.reshape(2, 2, 3, 2)),
    shaped("unflatten", "with -1", -1, (-1, 2), shape=(2, 6), reference=lambda x: x.reshape(2, 3, 2)),
    shaped("squeeze", "all", shape=(1, 3, 1, 2), reference=lambda x: x.reshape(3, 2)),
    shaped("squeeze", "one dim", 0, shape=(1, 3, 1), reference=lambda x: x.reshape(3, 1)),
    shaped("squeeze", "long dim stays", 1, shape=(1, 3, 1), reference=lambda x: x),
    shaped("squeeze", "dims", (0, -1), shape=(1, 3, 1), reference=lambda x: x.reshape(3)),
    shaped("unsqueeze", "front", 0, reference=lambda x: x[None]),
    shaped("unsqueeze", "back", -1, reference=lambda x: x[..., None]),
    shaped("unsqueeze", "images", 2, shape=(2, 3, 4, 5), reference=lambda x: x[:, :, None]),
    shaped("narrow", "middle", 1, 1, 2, shape=(2, 4, 3), reference=lambda x: x[:, 1:3]),
    shaped("narrow", "channels from behind", 1, -2, 1, shape=(2, 3, 4, 5), reference=lambda x: x[:, 1:2]),
    shaped("narrow", "nothing", 0, 2, 0, reference=lambda x: x[2:]),
    # ---- orders of the dimensions -----------------------------------------------------------------------------------
    shaped("permute", "lengths", 2, 0, 1, reference=lambda x: x.transpose(2, 0, 1)),
    shaped("permute", "to channels behind", (0, 2, 3, 1), shape=(2, 3, 4, 5), reference=lambda x: x.transpose(0, 2, 3, 1)),
    shaped("permute", "negative", (-1, 0, 1), reference=lambda x: x.transpose(2, 0, 1)),
    shaped("transpose", "two of four", 1, -1, shape=(2, 3, 4, 5), reference=lambda x: x.transpose(0, 3, 2, 1)),
    shaped("t", "matrix", shape=(2, 3), reference=np.transpose),
    shaped("t", "vector", shape=(3,), reference=lambda x: x),
    shaped("movedim", "one", 0, -1, reference=lambda x: np.moveaxis(x, 0, -1)),
    shaped("movedim", "several", (0, 1), (2, 0), reference=lambda x: np.moveaxis(x, (0, 1), (2, 0))),
    # ---- repeated elements ------------------------------------------------------------------------------------------
    shaped("expand", "stretch", 4, 3, shape=(1, 3), reference=lambda x: np.broadcast_to(x, (4, 3))),
    shaped("expand", "new dimensions", (2, -1, 4), shape=(3, 1), reference=lambda x: np.broadcast_to(x, (2, 3, 4))),
    shaped("expand", "nothing to do", (2, 3), shape=(2, 3), reference=lambda x: x),
    shaped("expand", "channels", (2, 3, 4, 5), shape=(1, 3, 1, 1), reference=lambda x: np.broadcast_to(x, (2, 3, 4, 5))),
    shaped("broadcast_to", "stretch", (4, 3), shape=(1, 3), reference=lambda x: np.broadcast_to(x, (4, 3))),
    Case("expand_as", "other", lambda d: (d.normal(3, 1), d.normal(3, 4)), lambda x, o: np.broadcast_to(x, (3, 4)),
         torch="Tensor.expand_as", view=True, step=1, nan=False, why="the values of other do not matter"),
    shaped("repeat", "each dimension", 2, 3, shape=(2, 3), reference=lambda x: np.tile(x, (2, 3)), view=False),
    shaped("repeat", "new dimension", (2, 1, 2), shape=(2, 3), reference=lambda x: np.tile(x, (2, 1, 2)), view=False),
    shaped("repeat", "no times", (0, 2), shape=(2, 3), reference=lambda x: np.tile(x, (0, 2)), view=False),
    shaped("repeat_interleave", "dim", 3, 1, shape=(2, 3), reference=lambda x: np.repeat(x, 3, 1), view=False),
    shaped("repeat_interleave", "flat", 2, shape=(2, 3), reference=lambda x: np.repeat(x, 2), view=False),
    # ---- copies and other orders ------------------------------------------------------------------------------------
    shaped("clone", "plain", shape=(2, 3, 4, 5), reference=lambda x: x, view=False),
    Case("clone", "channels last", lambda d: (image(d), {"memory_format": "channels_last"}), lambda x, memory_format: x, step=1),
    shaped("contiguous", "plain", shape=(2, 3, 2, 2), reference=lambda x: x),
    Case("contiguous", "channels last", lambda d: (image(d), {"memory_format": "channels_last"}), lambda x, memory_format: x,
         view=True, step=1),
    shaped("flip", "one dim", 0, reference=lambda x: x[::-1], view=False),
    shaped("flip", "dims", (2, 3), shape=(2, 3, 4, 5), reference=lambda x: x[:, :, ::-1, ::-1], view=False),
    shaped("roll", "flat", 2, shape=(2, 3), reference=lambda x: np.roll(x, 2), view=False),
    shaped("roll", "dims", (1, -2), (0, 1), shape=(2, 5), reference=lambda x: np.roll(x, (1, -2), (0, 1)), view=False),
    shaped("tile", "fewer than dimensions", 2, shape=(2, 3), reference=lambda x: np.tile(x, 2), view=False),
    shaped("tile", "more than dimensions", (2, 1, 3), shape=(2, 3), reference=lambda x: np.tile(x, (2, 1, 3)), view=False),
    shaped("tril", "main", shape=(3, 4), reference=np.tril, view=False),
    shaped("tril", "above, stacked", 1, shape=(2, 3, 3), reference=lambda x: np.tril(x, 1), view=False),
    shaped("triu", "main", shape=(4, 3), reference=np.triu, view=False),
    shaped("triu", "below", -1, shape=(3, 3), reference=lambda x: np.triu(x, -1), view=False),
]  # fmt: skip


def matrix(d: Draw) -> np.ndarray:
    return d.normal(2, 3)


ERRORS = [
    Error("reshape", "sizes", lambda d: (matrix(d), 4, 2), ValueError,
          r"shape \(2, 3\) has 2 x 3 = 6 elements, but \(4, 2\) has 4 x 2 = 8"),
    Error("reshape", "-1 does not divide", lambda d: (matrix(d), -1, 4), ValueError,
          r"6 elements, which 4 of \(-1, 4\) does not"),
    Error("reshape", "two unknown", lambda d: (matrix(d), -1, -1), ValueError, "at most one -1"),
    Error("reshape", "negative", lambda d: (matrix(d), -2, 3), ValueError, "lengths of at least 0"),
    Error("reshape", "unknown beside 0", lambda d: (d.normal(0), 0, -1), ValueError, "another length is 0"),
    Error("reshape", "float", lambda d: (matrix(d), 3.0, 2), TypeError, "shape must be integers"),
    Error("reshape", "list", lambda d: ([1, 2], 2), TypeError, "x must be a Tensor"),
    Error("view", "dtype", lambda d: (matrix(d), Raw(np.float64)), TypeError, r"use x\.to\(dtype\)"),
    Error("reshape_as", "array", lambda d: (matrix(d), (3, 2)), TypeError, "other must be a Tensor"),
    Error("flatten", "order", lambda d: (matrix(d), 1, 0), ValueError, "start_dim=1 comes after end_dim=0"),
    Error("flatten", "range", lambda d: (matrix(d), 2), IndexError, "start_dim=2 is out of range for a tensor of 2 dimensions"),
    Error("ravel", "list", lambda d: ([1],), TypeError, "x must be a Tensor"),
    Error("unflatten", "sizes", lambda d: (d.normal(6), 0, (4, 2)), ValueError, r"6 elements, but \(4, 2\) has 4 x 2 = 8"),
    Error("squeeze", "range", lambda d: (matrix(d), 2), IndexError, "dim=2 is out of range"),
    Error("unsqueeze", "range", lambda d: (matrix(d), 4), IndexError, "dim=4 is out of range"),
    Error("narrow", "too long", lambda d: (matrix(d), 1, 2, 2), ValueError,
          r"start=2 and length=2 reach beyond dimension 1 of shape \(2, 3\)"),
    Error("narrow", "range", lambda d: (matrix(d), 2, 0, 1), IndexError, "dim=2 is out of range"),
    Error("tile", "negative", lambda d: (matrix(d), -1), ValueError, "dims must be numbers >= 0"),
    Error("permute", "too few", lambda d: (matrix(d), 0), ValueError, "each of the 2 dimensions"),
    Error("permute", "twice", lambda d: (matrix(d), 0, 0), ValueError, "twice"),
    Error("transpose", "range", lambda d: (matrix(d), 0, 2), IndexError, "dim1=2 is out of range"),
    Error("t", "stack", lambda d: (d.normal(2, 2, 2),), ValueError, "at most 2 dimensions"),
    Error("movedim", "unequal", lambda d: (matrix(d), (0, 1), 0), ValueError, "equally long"),
    Error("expand", "length", lambda d: (matrix(d), 4, 3), ValueError, r"shape \(2, 3\) does not expand to \(4, 3\)"),
    Error("expand", "too few", lambda d: (matrix(d), 3), ValueError, "does not expand"),
    Error("expand", "new unknown", lambda d: (matrix(d), -1, 2, 3), ValueError, "does not expand"),
    Error("broadcast_to", "list", lambda d: ([1], (2, 2)), TypeError, "x must be a Tensor"),
    Error("expand_as", "array", lambda d: (matrix(d), (3, 2)), TypeError, "other must be a Tensor"),
    Error("repeat", "too few", lambda d: (matrix(d), 2), ValueError, "for each dimension"),
    Error("repeat", "negative", lambda d: (matrix(d), 2, -1), ValueError, "for each dimension"),
    Error("repeat_interleave", "negative", lambda d: (matrix(d), -1), ValueError, "repeats must be an integer of at least 0"),
    Error("clone", "memory format", lambda d: (matrix(d), {"memory_format": "fast"}), ValueError, "memory_format must be one of"),
    Error("contiguous", "channels last of a matrix", lambda d: (matrix(d), {"memory_format": "channels_last"}), ValueError,
          r"order of 4 dimensions \(N, C, H, W\), got shape \(2, 3\)"),
    Error("flip", "range", lambda d: (matrix(d), 2), IndexError, "dims=.* is out of range|dims=2"),
    Error("roll", "shifts", lambda d: (matrix(d), (1, 2), 0), ValueError, "one shift for each dimension"),
    Error("tril", "vector", lambda d: (d.normal(3),), ValueError, "at least 2 dimensions"),
    Error("triu", "vector", lambda d: (d.normal(3),), ValueError, "at least 2 dimensions"),
]  # fmt: skip
