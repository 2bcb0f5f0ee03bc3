"""A stand-in for CuPy: the names that minigrad uses, over NumPy, with CuPy's manners, and kernels that run on the processor.

It is as strict as CuPy where the two libraries differ: arrays of both never mix, nothing becomes a NumPy array unasked,
reductions give arrays without dimensions, and the values of a launch must have the sizes of the parameters. In one thing it is
stricter: memory holds NaN until it is written, and has borders that are looked at after every launch.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import types
from collections.abc import Callable

import numpy as np

from tests.cuda.host import HostModule

__all__ = ["install", "module", "ndarray"]

BORDER = 512  # bytes on both sides of an allocation, and its alignment
PATTERN = 0xFF  # of every byte: NaN, as a floating-point number


def _words(text: str) -> list[str]:
    return text.split()


# The functions that minigrad may call on arrays; CuPy 14 has each of them.
FUNCTIONS = _words("""
abs absolute add all allclose any arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort around
array_equal atleast_1d bincount bitwise_and bitwise_or bitwise_xor broadcast_arrays broadcast_to cbrt ceil clip concatenate
copysign cos cosh count_nonzero cumprod cumsum diag diagonal diff divide dot einsum equal exp exp2 expand_dims expm1 flip floor
floor_divide fmax fmin fmod greater greater_equal hypot isfinite isinf isnan isclose kron less less_equal linspace log log10
log1p log2 logaddexp logical_and logical_not logical_or logical_xor matmul max maximum mean median min minimum mod moveaxis
multiply nan_to_num negative nonzero not_equal pad percentile positive power prod quantile reciprocal remainder repeat
roll rint searchsorted sign signbit sin sinh sort split sqrt square squeeze stack std subtract sum swapaxes take
take_along_axis tan tanh tensordot tile trace transpose tril triu true_divide trunc unique var vdot where invert left_shift
right_shift outer heaviside ldexp round
""")
CREATION = _words("zeros ones full eye identity zeros_like ones_like full_like")
SAME = _words("newaxis pi e inf nan float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool_ dtype")
SAME += _words("can_cast promote_types finfo iinfo errstate")

# Those of them whose results are views of their first argument.
VIEWS = _words("broadcast_arrays broadcast_to diagonal expand_dims flip moveaxis split squeeze swapaxes transpose atleast_1d")

METHODS = _words("""
all any argmax argmin argsort astype clip copy cumprod cumsum diagonal dot fill flatten max mean min nonzero prod ravel repeat
reshape round searchsorted sort squeeze std sum swapaxes take trace transpose var view
""")
VIEWING = _words("diagonal ravel reshape squeeze swapaxes transpose view")  # whose results may be views
OPERATORS = _words("""
add sub mul truediv floordiv mod pow matmul and or xor lshift rshift radd rsub rmul rtruediv rfloordiv rmod rpow rmatmul rand ror
rxor lt le gt ge eq ne neg pos abs invert iadd isub imul itruediv ifloordiv imod ipow iand ior ixor
""")


# ---- memory ------------------------------------------------------------------------------------------------------------


class OutOfMemoryError(MemoryError):
    """What CuPy raises; its message is like this."""


class MemoryPool:
    """Counts bytes. What is freed it keeps for later, as CuPy's does. ``limit``: where the card is full."""

    def __init__(self):
        self.used, self.kept, self.limit = 0, 0, 1 << 40

    def take(self, size: int) -> None:
        if size > self.kept and self.used + self.kept + size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: {self.total_bytes():,} bytes).")
        self.kept -= size if size <= self.kept else 0
        self.used += size

    def give_back(self, size: int) -> None:
        self.used -= size
        self.kept += size

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.used + self.kept

    def free_bytes(self) -> int:
        return self.kept

    def free_all_blocks(self, stream=None) -> None:
        self.kept = 0

    def set_limit(self, size=None, fraction=None) -> None:
        self.limit = size or 1 << 40

    def malloc(self, size: int) -> MemoryPointer:
        memory = _Memory(size, self)
        return MemoryPointer(memory.array((size,), np.uint8), memory)


POOL = MemoryPool()
_allocator: list[Callable] = [POOL.malloc]


def set_allocator(allocator=None) -> None:
    _allocator[0] = allocator


def get_allocator():
    return _allocator[0]


_HOOKS: dict[str, MemoryHook] = {}


class MemoryHook:
    """Its methods are told of every allocation inside its block; the stand-in takes each of them from the card."""

    name = "MemoryHook"

    def __enter__(self):
        if self.name in _HOOKS:
            raise KeyError(f"memory hook {self.name} already exists")
        _HOOKS[self.name] = self
        return self

    def __exit__(self, *exc_info):
        del _HOOKS[self.name]

    def alloc_postprocess(self, **kwargs):
        pass

    def malloc_postprocess(self, **kwargs):
        pass

    def free_postprocess(self, **kwargs):
        pass


class _Memory:
    """An allocation between two borders."""

    def __init__(self, size: int, pool: MemoryPool):
        self.size = 0
        pool.take(size)
        self.size, self.pool = size, pool
        self.buffer = np.full(size + 3 * BORDER, PATTERN, np.uint8)
        self.start = BORDER + -self.buffer.ctypes.data % BORDER
        for hook in _HOOKS.values():
            sizes = {"device_id": 0, "mem_size": size, "mem_ptr": self.buffer.ctypes.data}
            hook.alloc_postprocess(**sizes)
            hook.malloc_postprocess(size=size, pmem_id=id(self), **sizes)

    def array(self, shape, dtype) -> np.ndarray:
        return self.buffer[self.start : self.start + self.size].view(dtype).reshape(shape)

    def check(self) -> bool:
        """Whether the borders are as they were."""
        edges = self.buffer[self.start - BORDER : self.start], self.buffer[self.start + self.size :][:BORDER]
        return all((edge == PATTERN).all() for edge in edges)

    def __del__(self):
        if self.size:
            self.pool.give_back(self.size)
        for hook in _HOOKS.values() if self.size else ():
            hook.free_postprocess(device_id=0, mem_size=self.size, mem_ptr=self.buffer.ctypes.data, pmem_id=id(self))


class MemoryPointer:
    """Where an array begins."""

    def __init__(self, array: np.ndarray, memory: _Memory | None):
        self.ptr, self.mem = array.ctypes.data, memory

    def __add__(self, offset: int) -> MemoryPointer:
        moved = MemoryPointer.__new__(MemoryPointer)
        moved.ptr, moved.mem = self.ptr + offset, self.mem
        return moved

    def copy_from_device_async(self, src: MemoryPointer, size: int, stream=None) -> None:
        _change(ctypes.memmove, self.ptr, src.ptr, size)


# ---- arrays ------------------------------------------------------------------------------------------------------------


def _refuse(value):
    raise TypeError(f"Unsupported type {type(value)}")


def _inside(value):
    """NumPy arrays in the place of the stand-in's arrays, among the arguments of a call."""
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray):
        _refuse(value)
    if isinstance(value, (list, tuple)):
        return type(value)([_inside(v) for v in value])
    if isinstance(value, dict):
        return {k: _inside(v) for k, v in value.items()}
    return value


def _outside(value):
    """The stand-in's arrays in the place of NumPy's arrays and scalars, in the result of a call."""
    if isinstance(value, (np.ndarray, np.generic)):
        made = ndarray._of(np.asarray(value))
        made._memory = _allocator[0](made.nbytes).mem  # only taken from the card: what it holds is where NumPy put it
        return made
    if isinstance(value, (list, tuple)):
        return type(value)([_outside(v) for v in value])
    return value


def _dense(value):
    """What CuPy computes lies in memory in C order, whatever the order of its arguments."""
    if isinstance(value, (list, tuple)):
        return type(value)([_dense(v) for v in value])
    is_array = isinstance(value, (np.ndarray, np.generic))  # a sum of all elements is a number to NumPy
    return np.ascontiguousarray(value).reshape(value.shape) if is_array else value


def _compute(function, *args, **kwargs):
    """function(...) for a result of its own; while a graph is captured, noted too, to be computed into the same memory again."""
    args, kwargs = _inside(args), _inside(kwargs)
    lay = np.asarray if getattr(function, "keeps_order", False) else _dense

    def compute():
        with np.errstate(all="ignore"):  # a card knows no warnings
            return lay(function(*args, **kwargs))

    result = compute()
    if _Stream.current.notes is not None:
        _Stream.current.notes.append(lambda: _write(result, compute()))
    return result


def _write(target, value) -> None:
    if isinstance(target, (list, tuple)):
        for t, v in zip(target, value, strict=True):
            _write(t, v)
    elif isinstance(target, np.ndarray):
        target[...] = value


def _change(function, *args, **kwargs) -> None:
    """function(...), which writes into an array; while a graph is captured, only noted."""

    def change():
        with np.errstate(all="ignore"):
            function(*args, **kwargs)

    if _Stream.current.notes is None:
        change()
    else:
        _Stream.current.notes.append(change)


def _call(function, *args, **kwargs):
    out = kwargs.get("out")
    if isinstance(out, ndarray):
        _change(function, *_inside(args), **_inside(kwargs))
        return out
    return _outside(_compute(function, *args, **kwargs))


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
        self._memory = _allocator[0](int(np.prod(shape, dtype=object)) * dtype.itemsize).mem
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
        return _outside(value)

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
        _Stream.wait()
        if out is not None:
            out[...] = self._array
            return out
        return self._array.copy(order="F" if order == "F" or (order == "A" and self._array.flags.fnc) else "C")

    def set(self, array: np.ndarray, stream=None) -> None:
        if not isinstance(array, np.ndarray) or array.shape != self.shape or array.dtype != self.dtype:
            raise TypeError(f"Only a NumPy array of shape {self.shape} and dtype {self.dtype} can be set, got {type(array)}")
        self._array[...] = array

    def item(self):
        _Stream.wait()
        return self._array.item()

    def tolist(self):
        _Stream.wait()
        return self._array.tolist()

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct one explicitly.")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        out = kwargs.pop("out", None)
        if out is not None:
            kwargs["out"] = out[0] if len(out) == 1 else out
        return _call(function, *inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        if not hasattr(module, function.__name__):
            return NotImplemented
        return getattr(module, function.__name__)(*args, **kwargs)

    def __getitem__(self, index):
        return self._result(np.asarray(self._array[_inside(index)]))

    def __setitem__(self, index, value):
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        _change(self._array.__setitem__, _inside(index), value if isinstance(value, np.ndarray) else _inside(value))

    def __len__(self):
        return len(self._array)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        _Stream.wait()
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
        return _outside, (self._array.copy(),)

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
            _change(function, *_inside(args), **_inside(kwargs))
            return out
        if name in VIEWING:
            result = function(*_inside(args), **_inside(kwargs))
            if np.may_share_memory(result, self._array):
                return self._result(result)
        return _outside(_compute(function, *args, **kwargs))

    method.__name__ = name
    return method


def _operator(name):
    def operator(self, *others):
        for other in others:
            if isinstance(other, np.ndarray) and other.ndim:
                _refuse(other)
        if others and not isinstance(others[0], (ndarray, np.ndarray, np.generic, int, float, complex, bool)):
            return NotImplemented
        values = [o if isinstance(o, np.ndarray) else _inside(o) for o in others]
        function = functools.partial(getattr(np.ndarray, f"__{name}__"), self._array)
        if name.startswith("i") and name != "invert":
            _change(function, *values)
            return self
        with np.errstate(all="ignore"):
            if function(*values) is NotImplemented:
                return NotImplemented
        return _outside(_compute(lambda: function(*values)))

    return operator


for _name in METHODS:
    setattr(ndarray, _name, _method(_name))
for _name in OPERATORS:
    setattr(ndarray, f"__{_name}__", _operator(_name))


# ---- devices, streams, events, graphs ----------------------------------------------------------------------------------


class Device:
    """The one card, number 0."""

    def __init__(self, index: int = 0):
        self.id = int(index)
        self.mem_info = (POOL.limit - POOL.total_bytes(), POOL.limit)
        self.compute_capability = "90"

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        return None

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return self.id

    def use(self):
        return self

    def synchronize(self) -> None:
        _Stream.wait()


class CUDARuntimeError(RuntimeError):
    """What CuPy's runtime raises."""


class _Stream:
    """A stream. While it captures, launches are noted and not run, and whatever would wait for the card is an error."""

    current: _Stream

    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.ptr = 0 if null else id(self)
        self.notes: list | None = None
        self.before: list[_Stream] = []

    def __enter__(self):
        self.before.append(_Stream.current)
        _Stream.current = self
        return self

    def __exit__(self, *exc_info):
        _Stream.current = self.before.pop()

    def use(self):
        _Stream.current = self
        return self

    @staticmethod
    def wait() -> None:
        if _Stream.current.notes is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")

    def synchronize(self) -> None:
        if self.notes is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")

    def is_capturing(self) -> bool:
        return self.notes is not None

    def begin_capture(self, mode=None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the legacy default stream")
        self.notes = []

    def end_capture(self):
        notes, self.notes = self.notes, None
        return Graph(notes)

    @property
    def done(self) -> bool:
        return True

    def record(self, event=None):
        return event or Event()

    def wait_event(self, event) -> None:
        pass


class Graph:
    """What a stream has captured."""

    def __init__(self, notes: list):
        self.notes = notes

    def launch(self, stream=None) -> None:
        for note in self.notes:
            note()

    def upload(self, stream=None) -> None:
        pass


class Event:
    """A place in a stream."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.done = True

    def record(self, stream=None) -> None:
        pass

    def synchronize(self) -> None:
        pass


# ---- kernels -----------------------------------------------------------------------------------------------------------


class RawKernel:
    """A kernel of a module: runs on the processor."""

    backwards = False  # the threads, from the last to the first
    launches = 0

    def __init__(self, module: HostModule, name: str):
        self.host, self.name = module, name
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None) -> None:
        grid, block = (tuple(int(n) for n in (*d, 1, 1)[:3]) for d in (grid, block))
        if np.prod(block) > 1024 or min(block) < 1 or block[2] > 64:
            raise CUDARuntimeError(f"CUDA_ERROR_INVALID_VALUE: a block of {block} threads")
        if min(grid) < 1 or grid[0] >= 2**31 or max(grid[1:]) > 65535:
            raise CUDARuntimeError(f"CUDA_ERROR_INVALID_VALUE: a grid of {grid} blocks")
        if shared_mem > min(self.max_dynamic_shared_size_bytes, 227 * 1024):
            raise CUDARuntimeError(f"CUDA_ERROR_INVALID_VALUE: {shared_mem} bytes of shared memory")
        RawKernel.launches += 1
        kept = [_value(a) for a in args]  # the values as they are now, wherever the launch is run

        def run():
            pointers, sizes = [v.ctypes.data for v in kept], [v.nbytes for v in kept]
            self.host.run(self.name, grid, block, pointers, sizes, shared_mem, RawKernel.backwards)
            for a in args:
                if isinstance(a, ndarray) and a._memory is not None and not a._memory.check():
                    raise RuntimeError(f"{self.name} wrote beyond the end of an array")

        if _Stream.current.notes is None:
            run()
        else:
            _Stream.current.notes.append(run)


def _value(value) -> np.ndarray:
    """The bytes of a launch's value."""
    if isinstance(value, ndarray):
        return np.array([value._array.ctypes.data], np.uintp)
    if value is None:
        raise RuntimeError("CuPy makes of None no null pointer but a parameter that lies nowhere: use np.uintp(0)")
    if isinstance(value, MemoryPointer):
        return np.array([value.ptr], np.uintp)
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise ValueError("a structure must be contiguous")
        return value.copy()
    if isinstance(value, np.generic):
        return np.array([value])
    if isinstance(value, bool):
        return np.array([value], np.bool_)
    if isinstance(value, int):
        return np.array([value], np.int64)
    if isinstance(value, float):
        return np.array([value], np.float64)
    raise TypeError(f"Unsupported type {type(value)}")


class RawModule:
    """The text of a file, for the kernels that ``name_expressions`` lists."""

    def __init__(self, *, code=None, path=None, options=(), backend="nvrtc", name_expressions=None, jitify=False):
        self.module, self.names = _host_module(code), tuple(name_expressions or ())

    def get_function(self, name: str) -> RawKernel:
        if name not in self.names:
            raise ValueError(f"{name} is none of the name_expressions")
        return RawKernel(self.module, name)


@functools.cache
def _host_module(code: str) -> HostModule:
    """All instances of a file's kernels, which take hardly longer to build than one."""
    compiler = sys.modules["minigrad.kernels.cuda._compiler"]
    kernels = [kernel for kernel in compiler.KERNELS if compiler.source(kernel.file) == code]
    return HostModule(code, [expression for kernel in kernels for expression in kernel.instances.values()])


# ---- the module --------------------------------------------------------------------------------------------------------


def _function(name):
    numpy_function = getattr(np, name)

    def function(*args, **kwargs):
        if name not in VIEWS:
            return _call(numpy_function, *args, **kwargs)
        result, parents = numpy_function(*_inside(args), **_inside(kwargs)), args if name == "broadcast_arrays" else args[:1]
        if isinstance(result, (list, tuple)):
            return [parents[min(i, len(parents) - 1)]._result(r) for i, r in enumerate(result)]
        return parents[0]._result(np.asarray(result))

    function.__name__ = name
    if isinstance(numpy_function, np.ufunc):
        function.at = lambda a, index, *b: _call(numpy_function.at, a, index, *b)
        function.reduce = lambda *args, **kwargs: _call(numpy_function.reduce, *args, **kwargs)
        function.accumulate = lambda *args, **kwargs: _call(numpy_function.accumulate, *args, **kwargs)
    return function


def _creation(name):
    def function(*args, **kwargs):
        made = _copied(getattr(np, name)(*_inside(args), **_inside(kwargs)))
        value = made._array.copy()
        _change(made._array.__setitem__, ..., value)
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
        _refuse(a)
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
        _change(made._array.__setitem__, ..., source)
        return made
    _Stream.wait()
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


def _as_strided(x: ndarray, shape=None, strides=None) -> ndarray:
    return x._result(np.lib.stride_tricks.as_strided(x._array, shape, strides))


def from_dlpack(a) -> ndarray:
    return a if isinstance(a, ndarray) else _refuse(a)


def _build() -> types.ModuleType:
    made = types.ModuleType("cupy")
    made.__version__, made.ndarray = "14.0.0", ndarray
    for name in FUNCTIONS:
        setattr(made, name, _function(name))
    for name in CREATION:
        setattr(made, name, _creation(name))
    for name in SAME:
        setattr(made, name, getattr(np, name))
    for function in (empty, empty_like, array, asarray, ascontiguousarray, asnumpy, from_dlpack):
        setattr(made, function.__name__, function)
    made.result_type = lambda *values: np.result_type(*(v.dtype if isinstance(v, ndarray) else v for v in values))
    made.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=_as_strided))
    made.may_share_memory = lambda a, b: np.may_share_memory(*_inside((a, b)))
    made.RawModule, made.RawKernel = RawModule, RawKernel
    made.get_default_memory_pool = lambda: POOL
    made.get_default_pinned_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
    made.is_available = lambda: True

    cuda = made.cuda = types.ModuleType("cupy.cuda")
    cuda.Device, cuda.Stream, cuda.Event, cuda.Graph = Device, _Stream, Event, Graph
    cuda.get_current_stream = lambda: _Stream.current
    cuda.MemoryPool, cuda.MemoryHook = MemoryPool, MemoryHook
    cuda.set_allocator, cuda.get_allocator = set_allocator, get_allocator
    cuda.alloc_pinned_memory = bytearray
    cuda.nvrtc = types.SimpleNamespace(getVersion=lambda: (13, 0))
    cuda.using_allocator = lambda allocator: contextlib.nullcontext()
    cuda.get_elapsed_time = lambda start, end: 1.0
    cuda.is_available = lambda: True
    cuda.memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cuda.runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        deviceSynchronize=_Stream.wait,
        getDeviceProperties=lambda index: {
            "name": b"stand-in",
            "multiProcessorCount": 4,
            "major": 9,
            "minor": 0,
            "totalGlobalMem": POOL.limit,
        },
        memGetInfo=lambda: (POOL.limit - POOL.total_bytes(), POOL.limit),
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 13000,
        CUDARuntimeError=CUDARuntimeError,
    )
    cuda.device = types.SimpleNamespace(get_cublas_handle=lambda: 1, Device=Device)
    for kind in (ndarray, RawKernel, RawModule):
        kind.__module__ = "cupy"
    return made


_Stream.null = _Stream(null=True)
_Stream.current = _Stream.null
module = _build()


# ---- cuBLAS ------------------------------------------------------------------------------------------------------------

_CUBLAS_TYPES = {0: "float32", 1: "float64", 2: "float16", 14: "bfloat16"}  # cudaDataType


def _matrix(address: int, kind: int, rows: int, columns: int, pitch: int) -> np.ndarray:
    """A matrix of cuBLAS, whose columns lie one after another in memory."""
    dtype = np.dtype(_CUBLAS_TYPES[kind]) if kind != 14 else _bfloat16()
    if pitch < rows:
        raise ValueError(f"a pitch of {pitch} is less than the {rows} rows")
    count = (columns - 1) * pitch + rows
    raw = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address)
    return np.ndarray((rows, columns), dtype, raw, 0, (dtype.itemsize, pitch * dtype.itemsize))


def _bfloat16() -> np.dtype:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def _gemm_ex(handle, transa, transb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, algorithm):
    """C (m, n) = alpha op(A) op(B) + beta C. Numbers are rounded to TF32 where that is asked for."""
    if _Stream.current.notes is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    left = _matrix(a, a_type, *((k, m) if transa else (m, k)), lda)
    right = _matrix(b, b_type, *((n, k) if transb else (k, n)), ldb)
    left, right = (_tf32(x) if compute == 77 else x.astype(np.float64) for x in (left, right))
    factor = np.float64 if compute == 70 else np.float32
    first, second = (np.ndarray((), factor, (ctypes.c_uint8 * 8).from_address(p)) for p in (alpha, beta))
    result = _matrix(c, c_type, m, n, ldc)
    with np.errstate(all="ignore"):
        value = float(first) * ((left.T if transa else left) @ (right.T if transb else right))
        result[...] = value + float(second) * result if float(second) else value


def _tf32(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32)
    rounded = ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x).astype(np.float64)


def install() -> None:
    """Make ``import cupy`` give the stand-in."""
    sys.modules["cupy"] = module
    sys.modules["cupy.cuda"] = module.cuda
    for name in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[name].cublas = types.SimpleNamespace(gemmEx=_gemm_ex)
