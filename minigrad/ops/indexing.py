"""Picking elements: indexing with brackets, gather and scatter, masks, one-hot vectors.

Indices follow PyTorch. Integers and slices give a view; integer tensors, lists and masks give a copy. Several index tensors are
broadcast together; their dimensions stand where the first of them stood if they are neighbours, and in front if they are not.
Where an element was picked several times its gradients are added in a fixed order, so that the same call gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minigrad.ops._base import (
    check_devices,
    check_inplace,
    check_tensor,
    no_gradient,
    normalize_dims,
    op,
    record,
    record_inplace,
    unbroadcast,
    xp,
)
from minigrad.tensor import Tensor

__all__ = [
    "gather",
    "getitem",
    "index_add",
    "index_select",
    "masked_fill",
    "masked_fill_",
    "masked_select",
    "nonzero",
    "one_hot",
    "scatter",
    "scatter_",
    "scatter_add",
    "scatter_add_",
    "setitem",
    "take_along_dim",
    "unique",
]

FULL = slice(None)


# ---- brackets ----------------------------------------------------------------------------------------------------------


def _split_index(index, x: Tensor) -> tuple[tuple, tuple]:
    """The two steps of ``x[index]``: a basic index (integers, slices, None), then index arrays and full slices.

    PyTorch applies integers first, so that ``x[0, :, [1, 2]]`` of (2, 3, 4) has the shape (3, 2); NumPy's has (2, 3).
    """
    items = list(index) if isinstance(index, tuple) else [index]
    items = [_item(item, x) for item in items]
    used = sum(_dims_of(item) for item in items)
    if used > x.ndim:
        raise IndexError(f"too many indices: {used} for a tensor of {x.ndim} dimensions, shape {x.shape}")
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can have only one ellipsis (...)")
    at = dots[0] if dots else len(items)
    items[at : at + 1] = [FULL] * (x.ndim - used)
    basic, advanced, dim = [], [], 0
    for item in items:
        if isinstance(item, (int, slice)) or item is None:
            if isinstance(item, int) and not -x.shape[dim] <= item < x.shape[dim]:
                raise _out_of_range(item, dim, x.shape[dim])
            basic.append(item)
            if not isinstance(item, int):
                advanced.append(FULL)
        else:
            arrays = _arrays_of(item, dim, x.shape)
            basic += [FULL] * len(arrays)
            advanced += arrays
        dim += _dims_of(item)
    if all(item is FULL for item in advanced):
        advanced = ()
    return tuple(basic), tuple(advanced)


def _item(item, x: Tensor):
    """One entry of an index as int, slice, None, Ellipsis or an array of integers or booleans on x's device."""
    if item is None or item is Ellipsis or type(item) is int:
        return item
    if isinstance(item, slice):
        if item.step is not None and int(item.step) <= 0:
            raise ValueError(f"the step of a slice must be positive, got {item.step}: use flip(x, dim) for the reverse order")
        return item
    if isinstance(item, (bool, np.bool_)):
        raise TypeError(f"a single {item} is not an index: use a mask of the shape of the tensor, or an integer")
    if isinstance(item, np.integer):
        return int(item)
    if isinstance(item, Tensor):
        if type(item.data) is not type(x.data):
            check_devices(x=x, index=item)
        item = item.data
    elif isinstance(item, (list, tuple, range)):
        item = xp(x).asarray([i.item() if isinstance(i, Tensor) else i for i in item]) if len(item) else np.zeros(0, np.int64)
        item = xp(x).asarray(item)
    elif not hasattr(item, "dtype"):
        raise TypeError(f"an index must be integers, slices, None, ..., or tensors of them, got {type(item).__name__}")
    if item.dtype == np.uint8:
        raise TypeError("a uint8 index can mean a mask or positions: use .bool() or .long()")
    if item.dtype.kind not in "ib":
        raise TypeError(f"an index tensor must hold integers or booleans, got dtype {item.dtype}: use .long()")
    return int(item) if item.ndim == 0 and item.dtype.kind == "i" else item


def _dims_of(item) -> int:
    """How many dimensions of x an entry of the index takes."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if getattr(item, "dtype", None) is not None and item.dtype.kind == "b" else 1


def _arrays_of(item, dim: int, shape: tuple[int, ...]) -> list:
    """An index array, checked; a mask as one array of positions for each of its dimensions."""
    if item.dtype.kind == "b":
        if item.shape != shape[dim : dim + item.ndim]:
            raise IndexError(f"a mask of shape {item.shape} does not fit dimensions of shape {shape[dim : dim + item.ndim]}")
        return list(item.nonzero())
    return [_check_range(item, dim, shape[dim])]


def _check_range(index, dim: int, size: int):
    """The array ``index`` with negative positions counted from the end; IndexError if one is out of range."""
    if index.size:
        low, high = int(index.min()), int(index.max())
        if low < -size or high >= size:
            raise _out_of_range(high if high >= size else low, dim, size)
        if low < 0:
            index = index + size * (index < 0)
    return index


def _out_of_range(index: int, dim: int, size: int) -> IndexError:
    return IndexError(f"index {index} is out of range for dimension {dim} of size {size}")


@op
def getitem(x: Tensor, index) -> Tensor:
    """``x[index]``: integers, slices, None, ..., integer tensors or lists, masks, and mixtures of them.

    Integers and slices give a view of x, everything else a copy. Raises IndexError for a position out of range.
    """
    basic, advanced = _split_index(index, check_tensor(x))
    part = x.data[(*basic, ...)]  # the ellipsis keeps a 0-d result an array
    y = part[advanced] if advanced else part
    library, shape, dtype = xp(x), x.shape, x.dtype

    def backward(gy):
        gx = library.zeros(shape, dtype)
        if advanced:
            _add_at(gx[(*basic, ...)], advanced, gy)
        else:
            gx[(*basic, ...)] = gy
        return gx

    return record(y, (x,), backward, view_of=None if advanced else x)


@op
def setitem(x: Tensor, index, value) -> None:
    """``x[index] = value``, in place: ``value`` (a number, an array or a tensor) is broadcast to the shape of ``x[index]``.

    Where positions repeat the last value stays, and only that one receives a gradient.
    """
    basic, advanced = _split_index(index, check_tensor(x))
    tensor, value = _value(x, value)
    target = x.data[(*basic, ...)]
    picked = target[advanced].shape if advanced else target.shape
    _check_fits(value, picked)
    stays = _last_writers(target, advanced, picked) if advanced and tensor is not None and tensor.requires_grad else None
    if advanced:
        target[advanced] = value
    else:
        target[...] = value
    needs_x, needs_value = x.requires_grad, tensor is not None and tensor.requires_grad
    shape = getattr(value, "shape", ())

    def backward(gy):
        gx = gvalue = None
        if needs_x:
            gx = gy.copy(order="K")
            part = gx[(*basic, ...)]
            part[advanced if advanced else ...] = 0
        if needs_value:
            gvalue = gy[(*basic, ...)]
            if advanced:
                gvalue = gvalue[advanced] * stays
            gvalue = _fold(gvalue, shape)
        return gx, gvalue

    record_inplace(x, (x, tensor), backward)


def _value(x: Tensor, value):
    """(tensor or None, array or number) of a value to be stored in x, after every check."""
    tensor = value if isinstance(value, Tensor) else None
    if tensor is None and not isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        raise TypeError(f"value must be a number or a Tensor, got {type(value).__name__}: use mg.tensor(...)")
    if tensor is not None:
        check_devices(x=x, value=tensor)
        value = tensor.data
    check_inplace(x, tensor)
    kind = np.asarray(value).dtype.kind if tensor is None else value.dtype.kind
    if kind == "f" and x.dtype.kind != "f":
        raise TypeError(f"floating values cannot be stored in a tensor of dtype {x.dtype}: convert with .to(x.dtype)")
    return tensor, value.copy() if tensor is not None and tensor.version is x.version else value


def _check_fits(value, shape: tuple[int, ...]) -> None:
    given = getattr(value, "shape", ())
    lead = max(len(given) - len(shape), 0)
    pairs = zip(given[::-1], shape[::-1], strict=False)
    if any(n != 1 for n in given[:lead]) or any(m not in (1, n) for m, n in pairs):
        raise ValueError(f"a value of shape {given} does not broadcast to the indexed shape {shape}")


def _fold(g, shape: tuple[int, ...]):
    """``unbroadcast`` that also drops leading dimensions of length 1, which an assignment allows in a value."""
    lead = max(len(shape) - g.ndim, 0)
    return unbroadcast(g, shape[lead:]).reshape(shape)


def _last_writers(target, advanced: tuple, picked: tuple[int, ...]):
    """1 where an element of the indexed shape is the last one to be written to its place, else 0."""
    library = np if isinstance(target, np.ndarray) else xp(Tensor(target))
    count = math.prod(picked)
    number = library.arange(count).reshape(picked)
    place = library.empty(target.shape, np.int64)
    place[advanced] = number
    return place[advanced] == number


def _add_at(target, advanced: tuple, values) -> None:
    """``target[advanced] += values`` with repeated positions counted every time, in a fixed order."""
    dims = [d for d, item in enumerate(advanced) if item is not FULL]
    rest = [d for d in range(target.ndim) if d not in dims]
    arrays = np.broadcast_arrays(*(advanced[d] for d in dims)) if isinstance(target, np.ndarray) else None
    if arrays is None:
        arrays = xp(Tensor(target)).broadcast_arrays(*(advanced[d] for d in dims))
    lengths, index = [target.shape[d] for d in dims], 0
    for array, length in zip(arrays, lengths, strict=True):
        index = index * length + array.astype(np.int64)  # position in the indexed dimensions, counted through
    neighbours = dims == list(range(dims[0], dims[-1] + 1))
    first = dims[0] if neighbours else 0  # where the dimensions of the index stand in values
    k = index.ndim
    values = values.transpose(*range(first, first + k), *range(first), *range(first + k, values.ndim))
    rows = values.reshape(index.size, -1) if index.size else values.reshape(0, 1)
    sums = _segment_sums(rows, index.reshape(-1), math.prod(lengths)) if index.size else 0
    moved = target.transpose(*dims, *rest)
    if index.size:
        moved += sums.reshape(moved.shape)


def _segment_sums(rows, index, count: int):
    """(count, K): the sum of the ``rows`` (M, K) of each position; ``index`` (M,) says which position a row belongs to."""
    library = np if isinstance(rows, np.ndarray) else xp(Tensor(rows))
    sums = library.zeros((count, rows.shape[1]), rows.dtype)
    order = library.argsort(index, kind="stable")
    index = index[order]
    first = library.concatenate([library.ones(1, bool), index[1:] != index[:-1]])
    if bool(first.all()):
        sums[index] = rows[order]
        return sums
    starts = first.nonzero()[0]
    sums[index[starts]] = library.add.reduceat(rows[order], starts, axis=0, dtype=np.float64)
    return sums


# ---- gather and scatter ------------------------------------------------------------------------------------------------


def _along(x: Tensor, dim: int, index, name: str = "index"):
    """(dim, checked array of positions) for an op that indexes along one dimension."""
    check_tensor(x)
    check_tensor(index, name)
    check_devices(x=x, index=index)
    if index.dtype.kind != "i":
        raise TypeError(f"{name} must hold integers, got dtype {index.dtype}: use .long()")
    if x.ndim == 0:
        raise ValueError("a 0-d tensor has no dimension to index")
    (dim,) = normalize_dims(dim, x.ndim)
    return dim, _check_range(index.data, dim, x.shape[dim])


def _grid(index, dim: int, library) -> tuple:
    """The index arrays of "position index[i, j, k] along ``dim``, the element's own position along the others"."""
    shapes = [[-1 if e == d else 1 for e in range(index.ndim)] for d in range(index.ndim)]
    return tuple(index if d == dim else library.arange(index.shape[d]).reshape(shapes[d]) for d in range(index.ndim))


def _check_reach(x: Tensor, dim: int, index, limits: Sequence[int], what: str) -> None:
    if index.ndim != x.ndim or any(n > m for d, (n, m) in enumerate(zip(index.shape, limits, strict=True)) if d != dim):
        raise ValueError(f"index of shape {index.shape} reaches beyond {what} of shape {tuple(limits)} outside dim={dim}")


@op
def gather(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[i, j, ...] = x[..., index[i, j, ...], ...] with the index at dimension ``dim``; y has the shape of ``index``.

    ``index`` (int64) has as many dimensions as x and is nowhere longer than x except along ``dim``.
    """
    dim, positions = _along(x, dim, index)
    _check_reach(x, dim, positions, x.shape, "x")
    library, shape, dtype = xp(x), x.shape, x.dtype
    at = _grid(positions, dim, library)

    def backward(gy):
        gx = library.zeros(shape, dtype)
        _add_at(gx, at, gy)
        return gx

    return record(x.data[at], (x,), backward)


def take_along_dim(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """``gather`` with x and ``index`` broadcast against each other in the other dimensions, as ``np.take_along_axis``."""
    from minigrad.ops.shape import expand

    (dim,) = normalize_dims(dim, check_tensor(x).ndim)
    if check_tensor(index, "index").ndim != x.ndim:
        raise ValueError(f"take_along_dim: index must have {x.ndim} dimensions like x, got shape {index.shape}")
    shape = np.broadcast_shapes(*((*t.shape[:dim], 1, *t.shape[dim + 1 :]) for t in (x, index)))
    x, index = (expand(t, (*shape[:dim], t.shape[dim], *shape[dim + 1 :])) for t in (x, index))
    return gather(x, dim, index)


@op
def index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of x along ``dim`` at the positions ``index`` (a vector of integers), in that order."""
    dim, positions = _along(x, dim, index)
    if positions.ndim > 1:
        raise ValueError(f"index must be a vector, got shape {positions.shape}")
    library, shape, dtype = xp(x), x.shape, x.dtype
    at = (*[FULL] * dim, positions.reshape(-1))

    def backward(gy):
        gx = library.zeros(shape, dtype)
        _add_at(gx, (*at, *[FULL] * (len(shape) - dim - 1)), gy)
        return gx

    return record(x.data[at], (x,), backward)
