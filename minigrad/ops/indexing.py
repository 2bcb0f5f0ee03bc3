"""Indexing with brackets, and with masks.

Indices follow PyTorch. Integers and slices give a view; integer tensors, lists and masks give a copy. Several index tensors are
broadcast together; their dimensions stand where the first of them stood if they are neighbours, and in front if they are not.
Where an element was picked several times its gradients are added in a fixed order, so that the same call gives the same bits.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.device import array_module, device_of, is_floating, move
from minigrad.kernels import for_array
from minigrad.ops._base import (
    check_devices,
    check_inplace,
    check_tensor,
    no_gradient,
    op,
    record,
    record_inplace,
    unbroadcast,
    xp,
)
from minigrad.tensor import Tensor

__all__ = ["getitem", "masked_fill", "masked_fill_", "masked_select", "nonzero", "setitem"]

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


def _positions(index) -> list[Tensor]:
    """The tensors of integers in an index: backward reads them again (a mask was turned into new arrays)."""
    return [t for t in (index if isinstance(index, tuple) else (index,)) if isinstance(t, Tensor) and t.dtype.kind == "i"]


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
        numbers = [i.tolist() if isinstance(i, Tensor) else i for i in item]
        item = xp(x).asarray(numbers, dtype=None if numbers else np.int64)
    elif isinstance(item, np.ndarray):
        item = move(item, device_of(x.data))
    elif not hasattr(item, "dtype"):
        raise TypeError(f"an index must be integers, slices, None, ..., or tensors of them, got {type(item).__name__}")
    if item.dtype == np.uint8:
        raise TypeError("a uint8 index can mean a mask or positions: use .bool() or .long()")
    if item.dtype.kind not in "ib" or (item.dtype.kind == "b" and item.ndim == 0):
        raise TypeError(f"an index tensor must hold integers, or booleans of x's shape, got {item.dtype} {item.shape}")
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
    return [check_range(item, dim, shape[dim])]


def check_range(index, dim: int, size: int):
    """The array ``index`` with negative positions counted from the end; IndexError if one is out of range.

    In C order, because NumPy writes to repeated positions in the order of memory, and the last one is to stay.
    """
    if index.size:
        low, high = extremes(index) or (-1, 0)
        if low < -size or high >= size:
            raise _out_of_range(high if high >= size else low, dim, size)
        if low < 0:
            index = index + size * (index < 0)
    return array_module(index).ascontiguousarray(index) if index.ndim else index


def extremes(index) -> tuple[int, int] | None:
    """The smallest and the largest of an array of integers; None while a graph is captured, when nothing can be looked at."""
    library = array_module(index)
    if library is np:
        return int(index.min()), int(index.max())
    if library.cuda.get_current_stream().is_capturing():
        return None
    low, high = library.stack([index.min(), index.max()]).tolist()  # one transfer
    return low, high


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
    library, shape = xp(x), x.shape

    def backward(gy):
        gx = library.zeros_like(gy, shape=shape)  # in the memory order of the gradient
        if advanced:
            add_at(gx[(*basic, ...)], advanced, gy)
        else:
            gx[(*basic, ...)] = gy
        return gx

    return record(y, (x,), backward, saves=_positions(index), view_of=None if advanced else x)


@op
def setitem(x: Tensor, index, value) -> Tensor:
    """``x[index] = value`` in place; returns x. ``value`` (a number, array or tensor) is broadcast to the shape of ``x[index]``.

    Where positions repeat the last value stays, and only that one receives a gradient.
    """
    basic, advanced = _split_index(index, check_tensor(x))
    tensor, value = _value(x, value)
    target = x.data[(*basic, ...)]
    picked = target[advanced].shape if advanced else target.shape
    _check_fits(value, picked)
    needs_x, needs_value = x.requires_grad, tensor is not None and tensor.requires_grad
    stays = None
    if advanced and (needs_value or getattr(value, "ndim", 0)):
        stays = write_in_order(target, advanced, picked, value, needs_value)
    else:
        target[advanced or ...] = value
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

    return record_inplace(x, (x, tensor), backward, saves=_positions(index))


def _value(x: Tensor, value):
    """(tensor or None, array or number) of a value to be stored in x, after every check."""
    tensor = value if isinstance(value, Tensor) else None
    if tensor is None and not isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        raise TypeError(f"value must be a number or a Tensor, got {type(value).__name__}: use mg.tensor(...)")
    if isinstance(value, np.ndarray):
        value = move(value, device_of(x.data))
    if tensor is not None:
        check_devices(x=x, value=tensor)
        value = tensor.data
    check_inplace(x, tensor)
    dtype = value.dtype if hasattr(value, "dtype") else np.result_type(value)
    if is_floating(dtype) and not is_floating(x.dtype):
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


def write_in_order(target, advanced: tuple, picked: tuple[int, ...], value, needs_gradient: bool):
    """``target[advanced] = value`` such that the last value stays where positions repeat (arrays; ``picked``: the indexed shape).

    Returns, if a gradient is needed, 1 for each of the elements that stay, else 0.
    """
    library, count = array_module(target), math.prod(picked)
    value = library.ascontiguousarray(value)  # NumPy writes in the order of memory: see check_range
    last = _last_writers(target, advanced, picked) if needs_gradient or library is not np else None
    if library is not np and count:  # a card writes in any order: let all that meet in one place write the same
        lead = max(value.ndim - len(picked), 0)
        value = library.broadcast_to(value.reshape(value.shape[lead:]), picked).reshape(-1)[last]
    target[advanced] = value
    return last == library.arange(count).reshape(picked) if needs_gradient else None


def _last_writers(target, advanced: tuple, picked: tuple[int, ...]):
    """For each element of the indexed shape the number of the one that comes last of all that go to its place."""
    library, count = array_module(target), math.prod(picked)
    if library is np:
        place = np.empty(target.shape, np.int64)
        place[advanced] = np.arange(count).reshape(picked)
        return place[advanced]
    places = library.arange(target.size).reshape(target.shape)[advanced].reshape(-1)
    order = library.argsort(places, kind="stable")
    return order[library.searchsorted(places[order], places, side="right") - 1].reshape(picked)


def add_at(target, advanced: tuple, values) -> None:
    """``target[advanced] += values`` with repeated positions counted every time, in a fixed order (arrays)."""
    library = array_module(target)
    dims = [d for d, item in enumerate(advanced) if item is not FULL]
    lengths = [target.shape[d] for d in dims]
    arrays = library.broadcast_arrays(*(advanced[d] for d in dims))
    if not arrays[0].size or not values.size:
        return
    position = 0
    for array, length in zip(arrays, lengths, strict=True):
        position = position * length + array.astype(np.int64)  # counted through all indexed dimensions
    neighbours = dims == list(range(dims[0], dims[-1] + 1))
    first, k = dims[0] if neighbours else 0, position.ndim  # where the k dimensions of the index stand in values
    values = values.transpose(*range(first, first + k), *range(first), *range(first + k, values.ndim))
    sums = for_array(values).sums_by_position(values.reshape(position.size, -1), position.reshape(-1), math.prod(lengths))
    moved = target.transpose(*dims, *(d for d in range(target.ndim) if d not in dims))
    moved += sums.reshape(moved.shape)


# ---- masks -------------------------------------------------------------------------------------------------------------


def _mask(x: Tensor, mask: Tensor):
    """The array of a mask that broadcasts with x, checked."""
    check_tensor(x)
    if check_tensor(mask, "mask").dtype != np.bool_:
        raise TypeError(f"mask must hold booleans, got dtype {mask.dtype}: use mask.bool()")
    check_devices(x=x, mask=mask)
    if any(m != n and 1 not in (m, n) for m, n in zip(x.shape[::-1], mask.shape[::-1], strict=False)):
        raise ValueError(f"a mask of shape {mask.shape} does not broadcast with x of shape {x.shape}")
    return mask.data


def _number(x: Tensor, value) -> bool | int | float:
    if isinstance(value, (Tensor, np.generic)):
        value = value.item()
    if not isinstance(value, (bool, int, float)):
        raise TypeError(f"value must be a number, got {type(value).__name__}")
    if isinstance(value, float) and not is_floating(x.dtype):
        raise TypeError(f"a floating value cannot be stored in a tensor of dtype {x.dtype}")
    return value


@op
def masked_fill(x: Tensor, mask: Tensor, value: float) -> Tensor:
    """x with the number ``value`` where ``mask`` (booleans, broadcast) is true."""
    given, mask, value, library, shape = mask, _mask(x, mask), _number(x, value), xp(x), x.shape
    y = library.where(mask, x.dtype.type(value), x.data)

    def backward(gy):
        return unbroadcast(library.where(mask, gy.dtype.type(0), gy), shape)

    return record(y, (x,), backward, saves=(given,))


@op
def masked_fill_(x: Tensor, mask: Tensor, value: float) -> Tensor:
    """Write the number ``value`` into x where ``mask`` (booleans, broadcast to x's shape) is true; returns x."""
    given, mask, value, library = mask, _mask(x, mask), _number(x, value), xp(x)
    check_inplace(x)
    if np.broadcast_shapes(x.shape, mask.shape) != x.shape:
        raise ValueError(f"a mask of shape {mask.shape} does not fit into {x.shape}: an in-place operation keeps its shape")
    mask = library.broadcast_to(mask, x.shape)
    x.data[mask] = value

    def backward(gy):
        return library.where(mask, gy.dtype.type(0), gy)

    return record_inplace(x, (x,), backward, saves=(given,))


@op
def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    """The elements of x where ``mask`` (booleans, broadcast) is true, as a vector."""
    given, mask, library, before = mask, _mask(x, mask), xp(x), x.shape
    shape = np.broadcast_shapes(before, mask.shape)
    mask = library.broadcast_to(mask, shape)

    def backward(gy):
        gx = library.zeros(shape, gy.dtype)
        gx[mask] = gy
        return unbroadcast(gx, before)

    return record(library.broadcast_to(x.data, shape)[mask], (x,), backward, saves=(given,))


@no_gradient
def nonzero(x: Tensor, as_tuple: bool = False):
    """The positions of the elements of x that are not 0: (count, ndim) int64, or one vector for each dimension."""
    check_tensor(x)
    found = x.data.nonzero() if x.ndim else x.data.reshape(1).nonzero()[: 0 if not as_tuple else 1]
    if as_tuple:
        return tuple(Tensor(array) for array in found)
    library = xp(x)
    count = int(library.count_nonzero(x.data))
    return Tensor(library.stack(found, axis=1) if found else library.zeros((count, 0), np.int64))
