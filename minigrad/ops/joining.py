"""Putting tensors together and taking them apart: cat, stack, split, chunk, unbind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad.ops._base import check_devices, check_tensor, normalize_dims, op, record, record_outputs, xp
from minigrad.tensor import Tensor

__all__ = ["cat", "chunk", "split", "stack", "unbind"]


def _check_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors as a list: at least one, on one device and of one dtype."""
    if isinstance(tensors, Tensor) or not isinstance(tensors, (list, tuple)):
        raise TypeError(f"tensors must be a list or tuple of Tensors, got {type(tensors).__name__}")
    if not tensors:
        raise ValueError("tensors must hold at least one Tensor, got an empty list")
    tensors = [check_tensor(t, f"tensors[{i}]") for i, t in enumerate(tensors)]
    named = {f"tensors[{i}]": t for i, t in enumerate(tensors)}
    check_devices(**named)
    if len({t.dtype for t in tensors}) > 1:
        listed = ", ".join(f"{name} is {t.dtype}" for name, t in named.items())
        raise TypeError(f"all tensors must have one dtype, but {listed}: convert with .to(dtype)")
    return tensors


@op
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors behind one another along ``dim``; their other lengths must agree.

    The result has the memory order of the first tensor, so that channels-last activations stay channels-last. Empty tensors of
    shape (0,) are left out, as in PyTorch.
    """
    given = _check_tensors(tensors)
    tensors = [t for t in given if t.shape != (0,)] or given[:1]
    first = tensors[0].shape
    if not first:
        raise ValueError("0-d tensors cannot be concatenated: use stack")
    (dim,) = normalize_dims(dim, len(first))
    for i, t in enumerate(given):
        if t.shape != (0,) and (t.ndim != len(first) or _without(t.shape, dim) != _without(first, dim)):
            raise ValueError(f"shapes must agree except along dim={dim}: {first} and tensors[{i}] of shape {t.shape}")
    lengths = [t.shape[dim] for t in tensors]
    library = xp(tensors[0])
    y = library.empty_like(tensors[0].data, shape=(*first[:dim], sum(lengths), *first[dim + 1 :]))
    library.concatenate([t.data for t in tensors], axis=dim, out=y)

    def backward(gy):
        return tuple(_pieces(gy, lengths, dim))

    return record(y, tensors, backward)


def _without(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return (*shape[:dim], *shape[dim + 1 :])


def _pieces(array, lengths: Sequence[int], dim: int) -> list:
    """Views of ``array``, of the given lengths along ``dim``."""
    pieces, start, lead = [], 0, (slice(None),) * dim
    for length in lengths:
        pieces.append(array[(*lead, slice(start, start + length))])
        start += length
    return pieces


@op
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors, all of one shape, along a new dimension at position ``dim``."""
    tensors = _check_tensors(tensors)
    shape = tensors[0].shape
    for i, t in enumerate(tensors):
        if t.shape != shape:
            raise ValueError(f"all shapes must be equal: tensors[0] has {shape}, tensors[{i}] has {t.shape}")
    (dim,) = normalize_dims(dim, len(shape) + 1)
    lead = (slice(None),) * dim

    def backward(gy):
        return tuple(gy[(*lead, i)] for i in range(gy.shape[dim]))

    return record(xp(tensors[0]).stack([t.data for t in tensors], axis=dim), tensors, backward)


@op
def split(x: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """x cut along ``dim`` into pieces of one length (the last may be shorter) or of the listed lengths. Views."""
    (dim,) = normalize_dims(dim, check_tensor(x).ndim)
    size, lengths = x.shape[dim], split_size_or_sections
    if isinstance(lengths, (int, np.integer)) and not isinstance(lengths, bool):
        if lengths < 1:
            raise ValueError(f"split_size must be at least 1, got {lengths}")
        lengths = [min(lengths, size - start) for start in range(0, size, lengths)] or [0]
    elif not isinstance(lengths, (list, tuple)) or not all(isinstance(n, (int, np.integer)) and n >= 0 for n in lengths):
        raise TypeError(f"split_size_or_sections must be an integer or a list of integers >= 0, got {lengths!r}")
    elif sum(lengths) != size:
        total = " + ".join(map(str, lengths))
        raise ValueError(f"the lengths must add up to {size}, the length of dimension {dim}: {total} = {sum(lengths)}")
    shape, library = x.shape, xp(x)

    def backward(*gys):
        gx = library.empty_like(next(gy for gy in gys if gy is not None), shape=shape)  # in the memory order of the gradient
        for part, gy in zip(_pieces(gx, lengths, dim), gys, strict=True):
            part[...] = 0 if gy is None else gy
        return gx

    return record_outputs(_pieces(x.data, lengths, dim), (x,), backward, view_of=x)


@op
def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """x cut along ``dim`` into ``chunks`` pieces of equal length; the last may be shorter, and there may be fewer. Views."""
    if not isinstance(chunks, (int, np.integer)) or isinstance(chunks, bool) or chunks < 1:
        raise ValueError(f"chunks must be an integer of at least 1, got {chunks!r}")
    (dim,) = normalize_dims(dim, check_tensor(x).ndim)
    size = x.shape[dim]
    return split(x, -(-size // chunks), dim) if size else split(x, [0] * chunks, dim)


@op
def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along ``dim``, without that dimension. Views."""
    if check_tensor(x).ndim == 0:
        raise ValueError("a 0-d tensor has no dimension to unbind")
    (dim,) = normalize_dims(dim, x.ndim)
    lead, shape, library = (slice(None),) * dim, x.shape, xp(x)

    def backward(*gys):
        gx = library.empty(shape, next(gy.dtype for gy in gys if gy is not None))
        for i, gy in enumerate(gys):
            gx[(*lead, i)] = 0 if gy is None else gy
        return gx

    return record_outputs([x.data[(*lead, i, ...)] for i in range(shape[dim])], (x,), backward, view_of=x)
