"""Functions of the stand-in that make arrays and compute with them."""

from __future__ import annotations

import numpy as np

from tests.cuda.standin.arrays import call, inside, ndarray, refuse
from tests.cuda.standin.names import VIEWS
from tests.cuda.standin.streams import Stream, change

__all__ = [
    "array",
    "as_strided",
    "asarray",
    "ascontiguousarray",
    "asnumpy",
    "creation",
    "empty",
    "empty_like",
    "from_dlpack",
    "function_of",
]


def function_of(name):
    """NumPy's function of this name, for arrays of the stand-in."""
    numpy_function = getattr(np, name)

    def function(*args, **kwargs):
        if name not in VIEWS:
            return call(numpy_function, *args, **kwargs)
        result, parents = numpy_function(*inside(args), **inside(kwargs)), args if name == "broadcast_arrays" else args[:1]
        if isinstance(result, (list, tuple)):
            return [parents[min(i, len(parents) - 1)]._result(r) for i, r in enumerate(result)]
        return parents[0]._result(np.asarray(result))

    function.__name__ = name
    if isinstance(numpy_function, np.ufunc):
        function.at = lambda a, index, *b: call(numpy_function.at, a, index, *b)
        function.reduce = lambda *args, **kwargs: call(numpy_function.reduce, *args, **kwargs)
        function.accumulate = lambda *args, **kwargs: call(numpy_function.accumulate, *args, **kwargs)
    return function


def creation(name):
    """NumPy's function of this name, which makes an array of numbers."""

    def function(*args, **kwargs):
        made = _copied(getattr(np, name)(*inside(args), **inside(kwargs)))
        value = made._array.copy()
        change(made._array.__setitem__, ..., value)
        return made

    return function


def _copied(array: np.ndarray) -> ndarray:
    """A copy in memory of the card, in the same order."""
    result = empty_like(ndarray._of(array))
    result._array[...] = array
    return result


def empty(shape, dtype=float, order="C") -> ndarray:
    return ndarray(shape, dtype, order=order)


def empty_like(a: ndarray, dtype=None, order="K", subok=None, shape=None) -> ndarray:
    if not isinstance(a, ndarray):
        refuse(a)
    plan = np.empty_like(a._array, dtype=dtype, order=order, shape=shape)
    axes = sorted(range(plan.ndim), key=lambda i: -plan.strides[i])
    made = ndarray([plan.shape[i] for i in axes], plan.dtype)
    back = sorted(range(plan.ndim), key=axes.__getitem__)
    return ndarray._of(made._array.transpose(back), made)


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, blocking=False) -> ndarray:
    if copy is False and isinstance(obj, ndarray) and (dtype is None or obj.dtype == dtype):
        return obj
    if isinstance(obj, ndarray):
        made, source = _copied(np.array(obj._array, dtype=dtype, order=order, ndmin=ndmin)), obj._array
        change(made._array.__setitem__, ..., source)
        return made
    Stream.wait()
    if order in "KA":  # of a NumPy array only the order of its axes, forwards or backwards, is kept
        order = "F" if isinstance(obj, np.ndarray) and obj.flags.fnc else "C"
    return _copied(np.array(_plain(obj), dtype=dtype, order=order, ndmin=ndmin))


def _plain(value):
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value._array if isinstance(value, ndarray) else value


def asarray(a, dtype=None, order=None, *, blocking=False) -> ndarray:
    if isinstance(a, ndarray) and (dtype is None or a.dtype == np.dtype(dtype)) and order in (None, "K"):
        return a
    return array(a, dtype, order=order or "K")


def ascontiguousarray(a, dtype=None) -> ndarray:
    if isinstance(a, ndarray) and a.flags.c_contiguous and (dtype is None or a.dtype == np.dtype(dtype)) and a.ndim:
        return a
    return array(a, dtype, order="C", ndmin=1)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True) -> np.ndarray:
    return a.get(order=order, out=out) if isinstance(a, ndarray) else np.asarray(a)


def as_strided(x: ndarray, shape=None, strides=None) -> ndarray:
    return x._result(np.lib.stride_tricks.as_strided(x._array, shape, strides))


def from_dlpack(a) -> ndarray:
    return a if isinstance(a, ndarray) else refuse(a)
