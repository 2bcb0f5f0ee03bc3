"""Arrays of the stand-in: NumPy's, which never mix with NumPy's own and lie in the memory of the card."""

from __future__ import annotations

import functools
import sys

import numpy as np

from tests.cuda.standin.memory import Device, MemoryPointer, allocate
from tests.cuda.standin.names import METHODS, OPERATORS, VIEWING
from tests.cuda.standin.streams import Stream, change

__all__ = ["call", "inside", "ndarray", "outside", "refuse"]


def refuse(value):
    raise TypeError(f"Unsupported type {type(value)}")


def inside(value):
    """NumPy arrays in the place of the stand-in's arrays, among the arguments of a call."""
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray):
        refuse(value)
    if isinstance(value, (list, tuple)):
        return type(value)([inside(v) for v in value])
    if isinstance(value, dict):
        return {k: inside(v) for k, v in value.items()}
    return value


def outside(value):
    """The stand-in's arrays in the place of NumPy's arrays and scalars, in the result of a call."""
    if isinstance(value, (np.ndarray, np.generic)):
        made = ndarray._of(np.asarray(value))
        made._memory = allocate(made.nbytes).mem  # only taken from the card: what it holds is where NumPy put it
        return made
    if isinstance(value, (list, tuple)):
        return type(value)([outside(v) for v in value])
    return value


def _dense(value):
    """What CuPy computes lies in memory in C order, whatever the order of its arguments."""
    if isinstance(value, (list, tuple)):
        return type(value)([_dense(v) for v in value])
    is_array = isinstance(value, (np.ndarray, np.generic))  # a sum of all elements is a number to NumPy
    return np.ascontiguousarray(value).reshape(value.shape) if is_array else value


def _compute(function, *args, **kwargs):
    """function(...) for a result of its own; while a graph is captured, noted too, to be computed into the same memory again."""
    args, kwargs = inside(args), inside(kwargs)
    lay = np.asarray if getattr(function, "keeps_order", False) else _dense

    def compute():
        with np.errstate(all="ignore"):  # a card knows no warnings
            return lay(function(*args, **kwargs))

    result = compute()
    if Stream.current.notes is not None:
        Stream.current.notes.append(lambda: _write(result, compute()))
    return result


def _write(target, value) -> None:
    if isinstance(target, (list, tuple)):
        for t, v in zip(target, value, strict=True):
            _write(t, v)
    elif isinstance(target, np.ndarray):
        target[...] = value


def call(function, *args, **kwargs):
    out = kwargs.get("out")
    if isinstance(out, ndarray):
        change(function, *inside(args), **inside(kwargs))
        return out
    return outside(_compute(function, *args, **kwargs))


class ndarray:
    """An array on the card that is not there."""

    __slots__ = ("__weakref__", "_array", "_base", "_memory")
    __hash__ = None
    __array_priority__ = 100

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        dtype = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        if memptr is not None:
            self._memory, self._base = memptr.mem, None
            self._array = np.ndarray(shape, dtype, memptr.mem.buffer, memptr.ptr - memptr.mem.buffer.ctypes.data, strides)
            return
        self._memory = allocate(int(np.prod(shape, dtype=object)) * dtype.itemsize).mem
        self._array = self._memory.array(shape if order == "C" else shape[::-1], dtype)
        self._array = self._array if order == "C" else self._array.T
        self._base = None

    @classmethod
    def _of(cls, array: np.ndarray, parent: ndarray | None = None) -> ndarray:
        self = cls.__new__(cls)
        self._array = array
        self._memory = parent._memory if parent is not None else None
        self._base = None if parent is None else parent if parent._base is None else parent._base
        return self

    def _result(self, value):
        """A method's result: a view of this array, or an array of its own."""
        if isinstance(value, np.ndarray) and value.base is not None and np.may_share_memory(value, self._array):
            return ndarray._of(value, self)
        return outside(value)

    shape = property(lambda self: self._array.shape)
    strides = property(lambda self: self._array.strides)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    flags = property(lambda self: self._array.flags)
    base = property(lambda self: self._base)
    T = property(lambda self: self._result(self._array.T))
    real = property(lambda self: self._result(self._array.real))
    data = property(lambda self: MemoryPointer(self._array, self._memory))
    device = property(lambda self: Device(0))

    @property
    def __cuda_array_interface__(self):
        return {**self._array.__array_interface__, "version": 3}

    def get(self, stream=None, order="C", out=None, blocking=True) -> np.ndarray:
        Stream.wait()
        if out is not None:
            out[...] = self._array
            return out
        return self._array.copy(order="F" if order == "F" or (order == "A" and self._array.flags.fnc) else "C")

    def set(self, array: np.ndarray, stream=None) -> None:
        if not isinstance(array, np.ndarray) or array.shape != self.shape or array.dtype != self.dtype:
            raise TypeError(f"Only a NumPy array of shape {self.shape} and dtype {self.dtype} can be set, got {type(array)}")
        self._array[...] = array

    def item(self):
        Stream.wait()
        return self._array.item()

    def tolist(self):
        Stream.wait()
        return self._array.tolist()

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct one explicitly.")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = out[0] if len(out) == 1 else out
        return call(function, *inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        library = sys.modules["cupy"]
        if not hasattr(library, function.__name__):
            return NotImplemented
        return getattr(library, function.__name__)(*args, **kwargs)

    def __getitem__(self, index):
        return self._result(np.asarray(self._array[inside(index)]))

    def __setitem__(self, index, value):
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        change(self._array.__setitem__, inside(index), value if isinstance(value, np.ndarray) else inside(value))

    def __len__(self):
        return len(self._array)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        Stream.wait()
        return bool(self._array)

    def __int__(self):
        return int(self.item())

    def __float__(self):
        return float(self.item())

    def __repr__(self):
        return repr(self._array)

    def __format__(self, spec):
        return format(self._array, spec)

    def __reduce__(self):
        return outside, (self._array.copy(),)

    def __deepcopy__(self, memo):
        return self.copy()

    def __dlpack__(self, stream=None, **kwargs):
        return self._array.__dlpack__()

    def __dlpack_device__(self):
        return 2, 0


def _method(name):
    def method(self, *args, **kwargs):
        if name == "astype":
            kwargs.setdefault("copy", True)
            if not kwargs["copy"] and np.dtype(args[0]) == self.dtype:
                return self
        out, function = kwargs.get("out"), functools.partial(getattr(np.ndarray, name), self._array)
        function.keeps_order = name in ("copy", "astype")  # as far as the argument ``order`` says so
        if name in ("fill", "sort") or isinstance(out, ndarray):
            change(function, *inside(args), **inside(kwargs))
            return out
        if name in VIEWING:
            result = function(*inside(args), **inside(kwargs))
            if np.may_share_memory(result, self._array):
                return self._result(result)
        return outside(_compute(function, *args, **kwargs))

    method.__name__ = name
    return method


def _operator(name):
    def operator(self, *others):
        for other in others:
            if isinstance(other, np.ndarray) and other.ndim:
                refuse(other)
        if others and not isinstance(others[0], (ndarray, np.ndarray, np.generic, int, float, complex, bool)):
            return NotImplemented
        values = [o if isinstance(o, np.ndarray) else inside(o) for o in others]
        function = functools.partial(getattr(np.ndarray, f"__{name}__"), self._array)
        if name.startswith("i") and name != "invert":
            change(function, *values)
            return self
        with np.errstate(all="ignore"):
            if function(*values) is NotImplemented:
                return NotImplemented
        return outside(_compute(lambda: function(*values)))

    return operator


for _name in METHODS:
    setattr(ndarray, _name, _method(_name))
for _name in OPERATORS:
    setattr(ndarray, f"__{_name}__", _operator(_name))
