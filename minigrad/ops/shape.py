"""Other shapes of the same values: reshape, permute, squeeze, expand, repeat, flip, and the memory order of a copy.

Where the values may stay where they are the result is a *view*: it shares its memory with x, as in PyTorch. Activations lie
channels-last in memory, so ``reshape``, ``view`` and ``flatten`` of an (N, C, H, W) activation copy.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.kernels.layout import channels_last as lay_channels_last
from minigrad.ops._base import check_tensor, normalize_dims, op, record, unbroadcast, xp
from minigrad.ops.indexing import getitem
from minigrad.tensor import Tensor

__all__ = [
    "broadcast_to",
    "clone",
    "contiguous",
    "expand",
    "expand_as",
    "flatten",
    "flip",
    "movedim",
    "narrow",
    "permute",
    "ravel",
    "repeat",
    "repeat_interleave",
    "reshape",
    "reshape_as",
    "roll",
    "squeeze",
    "t",
    "tile",
    "transpose",
    "tril",
    "triu",
    "unflatten",
    "unsqueeze",
    "view",
]

# Names for the memory order of a copy (PyTorch's), see ``contiguous``.
CHANNELS_LAST, CONTIGUOUS, PRESERVE = "channels_last", "contiguous_format", "preserve_format"


# ---- arguments ---------------------------------------------------------------------------------------------------------


def _integers(values: tuple, name: str = "shape") -> tuple[int, ...]:
    """(2, 3) from the arguments of ``f(x, 2, 3)`` or ``f(x, (2, 3))``."""
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        values = tuple(values[0])
    for value in values:
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"{name} must be integers, got {values!r}")
    return tuple(int(value) for value in values)


def _product(lengths) -> str:
    """ "2 x 3 = 6"."""
    lengths = tuple(lengths)
    return " x ".join(map(str, lengths)) + (f" = {math.prod(lengths)}" if len(lengths) > 1 else "")


def _new_shape(old: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with its -1 replaced; ValueError, with the arithmetic, if the numbers of elements differ."""
    if any(n < -1 for n in shape) or shape.count(-1) > 1:
        raise ValueError(f"a shape has lengths of at least 0 and at most one -1 (to be computed), got {shape}")
    count, known = math.prod(old), math.prod(n for n in shape if n != -1)
    if -1 in shape:
        if known == 0:
            raise ValueError(f"the -1 in {shape} cannot be computed, because another length is 0")
        if count % known:
            rest = _product(n for n in shape if n != -1)
            raise ValueError(f"shape {old} has {_product(old)} elements, which {rest} of {shape} does not divide")
        return tuple(count // known if n == -1 else n for n in shape)
    if count != known:
        raise ValueError(f"shape {old} has {_product(old)} elements, but {shape} has {_product(shape)}")
    return shape


def _one_dim(dim: int, ndim: int, name: str = "dim") -> int:
    """A single dimension as a number from 0 to ndim - 1."""
    if isinstance(dim, (tuple, list)) or dim is None:
        raise TypeError(f"{name} must be an integer, got {dim!r}")
    if type(dim) is int and -ndim <= dim < ndim:
        return dim % ndim
    if ndim == 0 and dim in (0, -1):
        return 0
    return normalize_dims(dim, ndim, name)[0]


def _shared(y, x: Tensor) -> Tensor | None:
    """x if the array y shares its memory (for ``record(view_of=...)``), else None."""
    return x if xp(x).may_share_memory(y, x.data) else None


# ---- the same elements in another shape --------------------------------------------------------------------------------


@op
def reshape(x: Tensor, *shape) -> Tensor:
    """x in a new shape of as many elements; one length may be -1. A view where the memory order allows it, else a copy."""
    return _reshaped(x, _new_shape(check_tensor(x).shape, _integers(shape)))


def _reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    before, y = x.shape, x.data.reshape(shape)

    def backward(gy):
        return gy.reshape(before)

    return record(y, (x,), backward, view_of=_shared(y, x), name="reshape")


@op
def view(x: Tensor, *shape) -> Tensor:
    """``reshape`` by PyTorch's other name. Unlike PyTorch's it copies where a view is impossible, instead of refusing."""
    if len(shape) == 1 and not isinstance(shape[0], (int, np.integer, tuple, list)):
        raise TypeError(f"expected lengths, got {shape[0]!r}; to convert the dtype use x.to(dtype)")
    return reshape(x, *shape)


@op
def reshape_as(x: Tensor, other: Tensor) -> Tensor:
    """x in the shape of ``other``."""
    return reshape(x, check_tensor(other, "other").shape)


@op
def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions ``start_dim`` to ``end_dim`` (included) made one: (N, C, H, W) becomes (N, C*H*W) by ``flatten(x, 1)``."""
    start, end = _one_dim(start_dim, check_tensor(x).ndim, "start_dim"), _one_dim(end_dim, x.ndim, "end_dim")
    if start > end:
        raise ValueError(f"start_dim={start_dim} comes after end_dim={end_dim}")
    shape = x.shape
    return _reshaped(x, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


@op
def ravel(x: Tensor) -> Tensor:
    """x with all its dimensions made one."""
    return reshape(x, -1) if check_tensor(x).numel() else reshape(x, 0)


@op
def unflatten(x: Tensor, dim: int, sizes) -> Tensor:
    """Dimension ``dim`` split into several of lengths ``sizes`` (one may be -1)."""
    dim = _one_dim(dim, check_tensor(x).ndim)
    return reshape(x, (*x.shape[:dim], *_new_shape((x.shape[dim],), _integers((sizes,), "sizes")), *x.shape[dim + 1 :]))


@op
def squeeze(x: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """x without its dimensions of length 1, or without those in ``dim`` that have length 1. A view."""
    before = check_tensor(x).shape
    drop = [d for d in normalize_dims(dim, x.ndim) if before[d] == 1]
    y = x.data.reshape([n for d, n in enumerate(before) if d not in drop])

    def backward(gy):
        return gy.reshape(before)

    return record(y, (x,), backward, view_of=x)


@op
def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """x with a new dimension of length 1 at position ``dim`` (-1: behind the last). A view."""
    before = check_tensor(x).shape
    dim = _one_dim(dim, x.ndim + 1)
    y = x.data.reshape((*before[:dim], 1, *before[dim:]))

    def backward(gy):
        return gy.reshape(before)

    return record(y, (x,), backward, view_of=x)


@op
def narrow(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    """The ``length`` slices of x along ``dim`` that begin with number ``start``. A view."""
    dim = _one_dim(dim, check_tensor(x).ndim)
    size, start = x.shape[dim], int(start)
    first = start + size if start < 0 else start
    if not 0 <= first <= first + length <= size:
        raise ValueError(f"start={start} and length={length} reach beyond dimension {dim} of shape {x.shape}")
    return getitem(x, (slice(None),) * dim + (slice(first, first + length),))


# ---- other orders of the dimensions ------------------------------------------------------------------------------------


@op
def permute(x: Tensor, *dims) -> Tensor:
    """The dimensions in the order ``dims``: ``permute(x, 0, 2, 3, 1)`` of (N, C, H, W) is (N, H, W, C). A view."""
    dims = normalize_dims(_integers(dims, "dims"), check_tensor(x).ndim, "dims")
    if len(dims) != x.ndim:
        raise ValueError(f"dims must name each of the {x.ndim} dimensions of shape {x.shape} once, got {dims}")
    inverse = tuple(dims.index(d) for d in range(x.ndim))

    def backward(gy):
        return gy.transpose(inverse)

    return record(x.data.transpose(dims), (x,), backward, view_of=x)


@op
def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """x with two dimensions exchanged. A view."""
    order = list(range(check_tensor(x).ndim))
    if order:
        a, b = _one_dim(dim0, x.ndim, "dim0"), _one_dim(dim1, x.ndim, "dim1")
        order[a], order[b] = order[b], order[a]
    return permute(x, order)


@op
def t(x: Tensor) -> Tensor:
    """The transposed matrix; a vector stays as it is. A view."""
    if check_tensor(x).ndim > 2:
        raise ValueError(f"expected at most 2 dimensions, got shape {x.shape}: use transpose(x, dim0, dim1)")
    return permute(x, tuple(range(x.ndim))[::-1])


@op
def movedim(x: Tensor, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Tensor:
    """x with its dimensions ``source`` moved to the positions ``destination``, the others in their old order. A view."""
    check_tensor(x)
    source, destination = normalize_dims(source, x.ndim, "source"), normalize_dims(destination, x.ndim, "destination")
    if len(source) != len(destination):
        raise ValueError(f"source and destination must be equally long, got {source} and {destination}")
    order = [d for d in range(x.ndim) if d not in source]
    for to, d in sorted(zip(destination, source, strict=True)):
        order.insert(to, d)
    return permute(x, order)


# ---- repeated elements -------------------------------------------------------------------------------------------------


@op
def expand(x: Tensor, *sizes) -> Tensor:
    """x with dimensions of length 1 stretched to ``sizes`` without a copy; -1 keeps a length, new dimensions come first.

    The elements of the result share memory, so it cannot be changed in place: ``clone()`` it first.
    """
    before, sizes = check_tensor(x).shape, _integers(sizes, "sizes")
    lead = len(sizes) - x.ndim
    shape = tuple(before[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(sizes))
    if lead < 0 or any(n < 0 for n in shape) or any(m not in (1, n) for m, n in zip(before, shape[lead:], strict=True)):
        raise ValueError(f"shape {before} does not expand to {sizes}: only lengths of 1 stretch, and new dimensions come first")
    # Where nothing is repeated the result is an ordinary, writable view.
    y = x.data.reshape(shape) if math.prod(shape) == x.data.size else xp(x).broadcast_to(x.data, shape)

    def backward(gy):
        return unbroadcast(gy, before)

    return record(y, (x,), backward, view_of=x)


@op
def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """x expanded to the shape of ``other``."""
    return expand(x, check_tensor(other, "other").shape)


@op
def broadcast_to(x: Tensor, shape) -> Tensor:
    """x expanded to ``shape``."""
    return expand(check_tensor(x), shape)


@op
def repeat(x: Tensor, *repeats) -> Tensor:
    """x repeated ``repeats[i]`` times along dimension i (a copy); more repeats than dimensions add dimensions in front."""
    before, repeats = check_tensor(x).shape, _integers(repeats, "repeats")
    if len(repeats) < x.ndim or any(n < 0 for n in repeats):
        raise ValueError(f"repeats must be at least one number >= 0 for each dimension of shape {before}, got {repeats}")
    lengths = (1,) * (len(repeats) - x.ndim) + before
    blocks = tuple(n for pair in zip(repeats, lengths, strict=True) for n in pair)  # (r0, n0, r1, n1, ...)

    def backward(gy):
        return gy.reshape(blocks).sum(axis=tuple(range(0, len(blocks), 2)), dtype=np.float64).astype(gy.dtype).reshape(before)

    return record(xp(x).tile(x.data, repeats), (x,), backward)


@op
def tile(x: Tensor, *dims) -> Tensor:
    """``repeat``, but fewer numbers than dimensions repeat the last ones only: ``tile(x, 2)`` of a matrix doubles its width."""
    dims = _integers(dims, "dims")
    if any(n < 0 for n in dims):
        raise ValueError(f"dims must be numbers >= 0, got {dims}")
    return repeat(x, (1,) * (check_tensor(x).ndim - len(dims)) + dims)


@op
def repeat_interleave(x: Tensor, repeats: int, dim: int | None = None) -> Tensor:
    """Each slice along ``dim`` repeated ``repeats`` times in a row: [1, 2] becomes [1, 1, 2, 2]. ``dim=None`` flattens first."""
    if not isinstance(repeats, (int, np.integer)) or isinstance(repeats, bool) or repeats < 0:
        raise ValueError(f"repeats must be an integer of at least 0, got {repeats!r}")
    before = check_tensor(x).shape
    flat = (x.data.size,) if dim is None else before
    dim = 0 if dim is None else _one_dim(dim, x.ndim)
    y = xp(x).repeat(x.data.reshape(flat), int(repeats), axis=dim)

    def backward(gy):
        blocks = gy.reshape((*flat[: dim + 1], repeats, *flat[dim + 1 :]))
        return blocks.sum(axis=dim + 1, dtype=np.float64).astype(gy.dtype).reshape(before)

    return record(y, (x,), backward)


# ---- copies, and other orders of the elements --------------------------------------------------------------------------


@op
def clone(x: Tensor, memory_format: str = PRESERVE) -> Tensor:
    """A copy with memory of its own, in x's memory order unless another is asked for; gradients flow through it."""
    check_tensor(x)
    if memory_format == PRESERVE:
        y = x.data.copy(order="K")
    else:
        y = _laid_out(x, memory_format)
        y = y.copy(order="K") if _shared(y, x) is not None else y

    def backward(gy):
        return gy

    return record(y, (x,), backward)


@op
def contiguous(x: Tensor, memory_format: str = CONTIGUOUS) -> Tensor:
    """x with its elements in memory in the order of their indices: x itself if they are, else a copy.

    ``memory_format=mg.channels_last`` gives an (N, C, H, W) tensor the order in which the kernels work, (N, H, W, C).
    """
    y = _laid_out(check_tensor(x), memory_format)
    if _shared(y, x) is not None or not y.size:
        return x

    def backward(gy):
        return gy

    return record(y, (x,), backward)


def _laid_out(x: Tensor, memory_format: str):
    """The array of x in a memory order; a view of it where it lies so already."""
    if memory_format in (CONTIGUOUS, PRESERVE):
        return x.data if memory_format == PRESERVE else xp(x).ascontiguousarray(x.data).reshape(x.shape)
    if memory_format != CHANNELS_LAST:
        choices = ", ".join(f"mg.{name}" for name in (CONTIGUOUS, CHANNELS_LAST, PRESERVE))
        raise ValueError(f"memory_format must be one of {choices}, got {memory_format!r}")
    if x.ndim != 4:
        raise ValueError(f"channels_last is an order of 4 dimensions (N, C, H, W), got shape {x.shape}")
    return lay_channels_last(x.data)


@op
def flip(x: Tensor, *dims) -> Tensor:
    """x with the order of the elements along ``dims`` reversed (a copy)."""
    dims = normalize_dims(_integers(dims, "dims"), check_tensor(x).ndim, "dims")

    def backward(gy):
        return _flipped(gy, dims)

    return record(_flipped(x.data, dims).copy(order="K"), (x,), backward)


def _flipped(array, dims: tuple[int, ...]):
    """A view of ``array`` with the order along ``dims`` reversed."""
    return array[tuple(slice(None, None, -1) if d in dims else slice(None) for d in range(array.ndim))]


@op
def roll(x: Tensor, shifts: int | tuple[int, ...], dims: int | tuple[int, ...] | None = None) -> Tensor:
    """x with its elements shifted by ``shifts`` along ``dims``; what leaves at one end enters at the other. None: as if flat."""
    shifts = _integers((shifts,), "shifts")
    if dims is not None:
        dims = normalize_dims(dims, check_tensor(x).ndim, "dims")
    if len(shifts) != (1 if dims is None else len(dims)):
        raise ValueError(f"there must be one shift for each dimension, got shifts={shifts}, dims={dims}")
    library, back = xp(x), tuple(-shift for shift in shifts)
    flat = dims is None

    def backward(gy):
        return library.roll(gy, back[0] if flat else back, dims)

    return record(library.roll(x.data, shifts[0] if flat else shifts, dims), (x,), backward)


def _triangle(x: Tensor, diagonal: int, name: str) -> Tensor:
    if check_tensor(x).ndim < 2:
        raise ValueError(f"expected at least 2 dimensions, got shape {x.shape}")
    pick = getattr(xp(x), name)

    def backward(gy):
        return pick(gy, diagonal)

    backward.__qualname__ = f"{name}.<locals>.backward"  # the name of the node
    return record(pick(x.data, diagonal), (x,), backward)


@op
def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the matrices in the last two dimensions, zeros above ``diagonal`` (0: the main one)."""
    return _triangle(x, diagonal, "tril")


@op
def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the matrices in the last two dimensions, zeros below ``diagonal`` (0: the main one)."""
    return _triangle(x, diagonal, "triu")
