"""Rows for minigrad/ops/sorting.py."""

from __future__ import annotations

import numpy as np

from tests.ops.case import Case, Error


def sort(x, dim=-1, descending=False):
    order = argsort(x, dim, descending)
    return np.take_along_axis(x, order, dim), order


def argsort(x, dim=-1, descending=False):
    """Stable: by value, then by place. NaN counts as the largest."""
    rows = np.moveaxis(x, dim, -1)
    order = np.empty(rows.shape, np.int64)
    for at in np.ndindex(rows.shape[:-1]):
        row = rows[at]
        key = [(np.isnan(v), 0 if np.isnan(v) else v) for v in row]
        order[at] = sorted(range(len(row)), key=key.__getitem__)
        if descending:  # Python's reverse=True keeps the order of equal elements
            order[at] = sorted(range(len(row)), key=key.__getitem__, reverse=True)
    return np.moveaxis(order, -1, dim)


def topk(x, k, dim=-1, largest=True):
    values, order = sort(x, dim, largest)
    first = tuple(slice(0, k) if i == dim % x.ndim else slice(None) for i in range(x.ndim))
    return values[first], order[first]


def median(x, dim=None, keepdim=False):
    if dim is None:
        return np.nan if np.isnan(x).any() else np.sort(x.ravel())[(x.size - 1) // 2]
    rows = np.moveaxis(x, dim, -1)
    indices = argsort(rows)[..., [(rows.shape[-1] - 1) // 2]]
    indices = np.where(np.isnan(rows).any(axis=-1, keepdims=True), np.isnan(rows).argmax(axis=-1, keepdims=True), indices)
    values = np.moveaxis(np.take_along_axis(rows, indices, -1), -1, dim)
    indices = np.moveaxis(indices, -1, dim)
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def ties(d):
    return d.integers(0, 3, 3, 8).astype(float)


def stable(torch, x, dim=-1, descending=False):
    return torch.sort(x, dim=dim, descending=descending, stable=True)


CASES = [
    Case("sort", "rows", lambda d: (d.distinct(3, 5),), sort, torch=stable),
    Case("sort", "columns, descending", lambda d: (d.distinct(4, 3), 0, True), sort, torch=stable),
    Case("sort", "images", lambda d: (d.distinct(2, 5, 3, 4), {"dim": 1}), sort, torch=stable),
    Case("sort", "ties", lambda d: (ties(d),), sort, torch=stable, kink=True),
    Case("sort", "ties, descending", lambda d: (ties(d), {"descending": True}), sort, torch=stable, kink=True),
    Case("sort", "integers", lambda d: (d.integers(0, 9, 3, 4),), sort, torch=stable),
    Case("sort", "0-d", lambda d: (d.normal(),), lambda x: (x, 0), torch="sort"),
    Case("argsort", "rows", lambda d: (d.distinct(3, 5),), argsort, torch="argsort"),
    Case("argsort", "columns, descending", lambda d: (d.distinct(4, 3), 0, True), argsort, torch="argsort"),
    Case("argsort", "ties", lambda d: (ties(d), {"descending": True}), argsort),
    Case("topk", "largest", lambda d: (d.distinct(3, 7), 2), topk, torch="topk"),
    Case("topk", "smallest", lambda d: (d.distinct(5, 3), 2, 0, False), topk, torch="topk"),
    Case("topk", "all of images", lambda d: (d.distinct(2, 4, 3, 2), 4, 1), topk, torch="topk"),
    Case("topk", "none", lambda d: (d.distinct(3, 4), 0), topk, torch="topk"),
    Case("topk", "ties", lambda d: (ties(d), 4), topk, kink=True),
    Case("topk", "0-d", lambda d: (d.normal(), 1), lambda x, k: (x, 0), torch="topk"),
    Case("median", "everything", lambda d: (d.distinct(3, 4),), median, torch="median"),
    Case("median", "one dim", lambda d: (d.distinct(3, 5, 2), 1), median, torch="median"),
    Case("median", "even length, kept", lambda d: (d.distinct(3, 4), -1, True), median, torch="median"),
    Case("median", "integers", lambda d: (d.integers(0, 99, 7),), median, torch="median"),
    Case("median", "0-d", lambda d: (d.normal(), 0), lambda x, dim: (x, 0), torch="median"),
]

ERRORS = [
    *(error for op, *args in (("sort",), ("argsort",), ("topk", 1), ("median",)) for error in (
        Error(op, "list", lambda d, args=args: ([1.0], *args), TypeError, "x must be a Tensor, got list"),
        Error(op, "dim out of range", lambda d, args=args: (d.normal(3), *args, {"dim": 1}), IndexError, "dim=1 is out of range"),
        Error(op, "two dims", lambda d, args=args: (d.normal(3), *args, {"dim": (0,)}), TypeError, "dim must be one integer"),
    )),
    Error("topk", "k too large", lambda d: (d.normal(2, 3), 4), ValueError, r"k must be an integer in 0 \.\.\. 3, the length"),
    Error("median", "empty", lambda d: (d.normal(2, 0), 1), ValueError, "an empty tensor has no median"),
]  # fmt: skip
