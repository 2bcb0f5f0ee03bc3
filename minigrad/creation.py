"""Making tensors: from values, of one value, in sequences, and at random. Arguments and defaults are PyTorch's.

Random numbers come from ``minigrad.random`` and are drawn on the processor: a seed gives the same numbers on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import random
from minigrad.device import Device, array_module, bfloat16, device_of, is_floating, module_for, move, new_array
from minigrad.modes import use_16_bits
from minigrad.tensor import Tensor

__all__ = [
    "BoolTensor",
    "ByteTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "arange",
    "as_tensor",
    "bernoulli",
    "check_dtype",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "normal",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "tensor",
    "zeros",
    "zeros_like",
]

# ---- arguments ---------------------------------------------------------------------------------------------------------


def check_dtype(dtype) -> np.dtype:
    """``dtype`` (``mg.float32``, "float32", float, ...) as a dtype that tensors may have; TypeError for any other.

    Tensors hold booleans, integers of 8 to 64 bits, or floating-point numbers of 16 (float16, bfloat16), 32 or 64 bits.
    """
    try:
        result = bfloat16() if isinstance(dtype, str) and dtype == "bfloat16" else np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be a dtype such as mg.float32, got {dtype!r}") from None
    if (result.kind not in "fiub" and not is_floating(result)) or result.itemsize > 8 or dtype is None:
        raise TypeError(f"tensors hold booleans, integers or real numbers of up to 64 bits, not {dtype!r}")
    if result.itemsize == 2 and result.kind not in "iu":
        use_16_bits()
    return result if result.isnative else result.newbyteorder("=")  # which is another object than NumPy's own dtype


def _size(shape: tuple, size: Sequence[int] | None = None) -> tuple[int, ...]:
    """(2, 3) from the arguments of ``zeros(2, 3)``, ``zeros((2, 3))`` or ``zeros(size=(2, 3))``."""
    if size is not None and shape:
        raise TypeError(f"give the size once, got {shape!r} and size={size!r}")
    size = shape if size is None else (size,)
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    for n in size:
        if not isinstance(n, (int, np.integer)) or isinstance(n, bool):
            raise TypeError(f"size must be integers, got {tuple(size)!r}")
        if n < 0:
            raise ValueError(f"size must not be negative, got {tuple(size)!r}")
    return tuple(int(n) for n in size)


def _converted(array, dtype: np.dtype):
    """The array as ``dtype``: what does not fit becomes infinite, NaN has no integer, and neither is worth a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype, copy=False)


def _make(array, dtype, device, requires_grad: bool) -> Tensor:
    """A Tensor of a NumPy array, converted and moved where asked."""
    if dtype is not None:
        array = _converted(array, check_dtype(dtype))
    if device is not None:
        array = move(array, device)
    return Tensor(array, requires_grad)


# ---- from values -------------------------------------------------------------------------------------------------------


def tensor(data: Any, dtype=None, device: str | Device | None = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of ``data``: a number, (nested) lists of numbers, an array or a Tensor.

    Python floats become float32, integers int64, truth values bool; arrays and Tensors keep their dtype.
    Raises TypeError or ValueError for values that are not real numbers or lists of unequal lengths.
    """
    return _make(_values(data, copy=True, narrow=dtype is None), dtype, device, requires_grad)


def as_tensor(data: Any, dtype=None, device: str | Device | None = None) -> Tensor:
    """``data`` as a Tensor, without a copy where possible: a Tensor stays itself, an array shares its memory.

    The gradient flows through the conversion of a Tensor to another dtype or device.
    """
    if isinstance(data, Tensor):
        kept = (dtype is None or check_dtype(dtype) == data.dtype) and (device is None or data.device == device)
        return data if kept else data.to(device=device, dtype=dtype)
    return _make(_values(data, copy=False, narrow=dtype is None), dtype, device, False)


def _values(data, copy: bool, narrow: bool = True):
    """The array of ``data`` with the dtype that a tensor of it has; without ``narrow`` with all digits of Python's floats."""
    if isinstance(data, Tensor):
        return data.data.copy(order="K")
    if hasattr(data, "__cuda_array_interface__"):
        library = module_for("cuda")
        return library.array(data) if copy else library.asarray(data)
    if isinstance(data, (np.ndarray, np.generic)) or hasattr(data, "__array__"):
        array = np.asarray(data)
        array = array.copy(order="K") if copy else array
        if array.dtype.kind not in "fiubV":
            raise TypeError(f"tensors hold booleans, integers or real numbers of up to 64 bits, not dtype {array.dtype}")
        dtype = check_dtype(array.dtype)
        return array if array.dtype.isnative else array.astype(dtype)
    return _from_lists(data, narrow)


def _from_lists(data, narrow: bool = True) -> np.ndarray:
    first = data
    while isinstance(first, (list, tuple)) and len(first):
        first = first[0]
    if isinstance(first, Tensor):
        data, first = _without_tensors(data), first.data
    try:
        array = np.array(data)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"cannot make a tensor of these values: {error}") from None
    if array.dtype == object and isinstance(first, int):
        raise ValueError("cannot make a tensor of integers of more than 64 bits")
    if array.dtype.kind not in "fiub" or array.dtype == np.longdouble != np.float64:
        raise TypeError(f"data must be numbers, (nested) lists of numbers, or an array; got {type(first).__name__} values")
    if narrow and array.dtype == np.float64 and not hasattr(first, "dtype"):  # Python's floats, not those of NumPy
        array = _converted(array, np.dtype(np.float32))
    return array


def _without_tensors(data):
    if isinstance(data, (list, tuple)):
        return [_without_tensors(item) for item in data]
    return move(data.data, "cpu") if isinstance(data, Tensor) else data


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor that shares the memory of a NumPy array: a change of one is seen in the other."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy expects a NumPy array, got {type(array).__name__}: use mg.tensor(...)")
    check_dtype(array.dtype)
    if not array.dtype.isnative:
        raise TypeError(f"dtype {array.dtype} has a foreign byte order: use mg.tensor(array), which converts it")
    return Tensor(array)


def from_dlpack(x) -> Tensor:
    """A Tensor that shares the memory of a tensor of another library that speaks DLPack (PyTorch, JAX, CuPy, ...)."""
    if not hasattr(x, "__dlpack_device__"):
        raise TypeError(f"from_dlpack expects an object with __dlpack__, got {type(x).__name__}")
    if isinstance(x, np.ndarray):  # of its own arrays NumPy before 2.3 would make read-only ones
        return from_numpy(x)
    on_cpu = int(x.__dlpack_device__()[0]) in (1, 3)  # 1: memory of the processor, 3: pinned memory of the processor
    array = module_for("cpu" if on_cpu else "cuda").from_dlpack(x)
    check_dtype(array.dtype)
    return Tensor(array)


# ---- of one value ------------------------------------------------------------------------------------------------------


def _filled(name: str, description: str) -> Callable[..., Tensor]:
    def function(*shape, size=None, dtype=np.float32, device: str | Device | None = None, requires_grad=False) -> Tensor:
        return Tensor(new_array(device or "cpu", name, _size(shape, size), check_dtype(dtype)), requires_grad)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{description} Its shape: integers or one tuple, ``{name}(2, 3)`` or ``{name}((2, 3))``."
    return function


zeros = _filled("zeros", "A tensor of zeros.")
ones = _filled("ones", "A tensor of ones.")
empty = _filled("empty", "A tensor whose values are whatever the memory held.")


def full(
    size: Sequence[int], fill_value: float, dtype=None, device: str | Device | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of ``size`` filled with a number; of its dtype (float32, int64 or bool) unless ``dtype`` is given."""
    value = _values(fill_value, copy=False, narrow=dtype is None)
    if value.ndim:
        raise TypeError(f"fill_value must be a number, got shape {value.shape}")
    size = _size(size if isinstance(size, (tuple, list)) else (size,))
    dtype = value.dtype if dtype is None else check_dtype(dtype)
    return Tensor(new_array(device or "cpu", "full", size, value.item(), dtype), requires_grad)


def full_like(x: Tensor, fill_value: float, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A tensor like ``x`` (shape, dtype, device, memory order) filled with a number."""
    result = empty_like(x, dtype, device, requires_grad)
    result.data.fill(fill_value)
    return result


def zeros_like(x: Tensor, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros like ``x`` (shape, dtype, device, memory order)."""
    return full_like(x, 0, dtype, device, requires_grad)


def ones_like(x: Tensor, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones like ``x`` (shape, dtype, device, memory order)."""
    return full_like(x, 1, dtype, device, requires_grad)


def empty_like(x: Tensor, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A tensor like ``x`` (shape, dtype, device, memory order) whose values are whatever the memory held."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a Tensor, got {type(x).__name__}")
    array = array_module(x.data).empty_like(x.data, x.dtype if dtype is None else check_dtype(dtype))
    return Tensor(array if device is None else move(array, device), requires_grad)


# ---- PyTorch's old constructors ----------------------------------------------------------------------------------------


def _constructor(name: str, dtype) -> Callable[..., Tensor]:
    def function(*args) -> Tensor:
        if len(args) == 1 and not isinstance(args[0], (int, np.integer)):
            return tensor(args[0], dtype)
        return empty(*args, dtype=dtype) if args else empty(0, dtype=dtype)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"A {np.dtype(dtype)} tensor of the given values, ``{name}([1, 2])``, or of a size, ``{name}(2, 3)``."
    function.dtype = np.dtype(dtype)
    return function


FloatTensor, DoubleTensor = _constructor("FloatTensor", np.float32), _constructor("DoubleTensor", np.float64)
HalfTensor, LongTensor = _constructor("HalfTensor", np.float16), _constructor("LongTensor", np.int64)
IntTensor, ByteTensor = _constructor("IntTensor", np.int32), _constructor("ByteTensor", np.uint8)
BoolTensor = _constructor("BoolTensor", np.bool_)


# ---- sequences ---------------------------------------------------------------------------------------------------------


def arange(start: float, end: float | None = None, step: float = 1, dtype=None, device=None, requires_grad=False) -> Tensor:
    """The numbers start, start + step, ... below ``end``; ``arange(n)`` counts 0 ... n - 1.

    The dtype is int64 if all are integers, else float32.
    """
    start, end = (0, start) if end is None else (start, end)
    numbers = [value.item() if isinstance(value, (Tensor, np.generic)) else value for value in (start, end, step)]
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in numbers):
        raise TypeError(f"start, end and step must be finite numbers, got {start!r}, {end!r}, {step!r}")
    start, end, step = numbers
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"step {step} does not lead from {start} to {end}")
    count = math.ceil((end - start) / step) if isinstance(start + end + step, float) else len(range(start, end, step))
    integers = all(isinstance(value, int) for value in numbers)
    array = start + step * np.arange(count, dtype=np.int64 if integers else np.float64)
    return _make(array, dtype if dtype is not None else np.int64 if integers else np.float32, device, requires_grad)


def linspace(start: float, end: float, steps: int, dtype=np.float32, device=None, requires_grad=False) -> Tensor:
    """``steps`` numbers at equal distances from ``start`` to ``end``, both included."""
    if not isinstance(steps, (int, np.integer)) or steps < 0:
        raise ValueError(f"steps must be an integer of at least 0, got {steps!r}")
    return _make(np.linspace(float(start), float(end), int(steps)), dtype, device, requires_grad)


def eye(n: int, m: int | None = None, dtype=np.float32, device=None, requires_grad=False) -> Tensor:
    """The (n, m) matrix with ones on its diagonal; m = n unless given."""
    rows, columns = _size((n, n if m is None else m))
    return _make(np.eye(rows, columns, dtype=check_dtype(dtype)), None, device, requires_grad)


# ---- random ------------------------------------------------------------------------------------------------------------


def _floating(dtype) -> np.dtype:
    dtype = check_dtype(dtype)
    if not is_floating(dtype):
        raise TypeError(f"dtype must be a floating dtype, got {dtype}")
    return dtype


def _source(generator: np.random.Generator | None) -> np.random.Generator:
    """The generator to draw from; the framework's own for None."""
    if generator is None:
        return random.generator()
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"generator must be a mg.Generator or a NumPy Generator, got {type(generator).__name__}")
    return generator


def _draw(kind: str, size: tuple[int, ...], dtype, generator: np.random.Generator | None) -> np.ndarray:
    dtype = _floating(dtype)
    return getattr(_source(generator), kind)(size, dtype=np.float64 if dtype == np.float64 else np.float32).astype(
        dtype, copy=False
    )


def rand(*shape, size=None, generator=None, dtype=np.float32, device=None, requires_grad=False) -> Tensor:
    """Uniform random numbers, 0 <= value < 1."""
    return _make(_draw("random", _size(shape, size), dtype, generator), None, device, requires_grad)


def randn(*shape, size=None, generator=None, dtype=np.float32, device=None, requires_grad=False) -> Tensor:
    """Normally distributed random numbers of mean 0 and standard deviation 1."""
    return _make(_draw("standard_normal", _size(shape, size), dtype, generator), None, device, requires_grad)


def rand_like(x: Tensor, generator=None, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Uniform random numbers, 0 <= value < 1, in a tensor like ``x`` (shape, dtype, device, memory order)."""
    return _random_like(x, "random", generator, dtype, device, requires_grad)


def randn_like(x: Tensor, generator=None, dtype=None, device=None, requires_grad=False) -> Tensor:
    """Normally distributed random numbers in a tensor like ``x`` (shape, dtype, device, memory order)."""
    return _random_like(x, "standard_normal", generator, dtype, device, requires_grad)


def _random_like(x, kind, generator, dtype, device, requires_grad) -> Tensor:
    result = empty_like(x, dtype, device)
    result.data[...] = move(_draw(kind, x.shape, result.dtype, generator), device_of(result.data))
    return result.requires_grad_(requires_grad)


def randint(low: int, high=None, size=None, *, generator=None, dtype=np.int64, device=None, requires_grad=False) -> Tensor:
    """Random integers, low <= value < high: ``randint(high, size)`` or ``randint(low, high, size)``; int64."""
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"size must be a tuple, got {size!r}: randint(high, (2, 3)) or randint(low, high, (2, 3))")
    if not all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in (low, high)):
        raise TypeError(f"low and high must be integers, got {low!r} and {high!r}")
    if not low < high:
        raise ValueError(f"low must be smaller than high, got {low} and {high}")
    return _make(_source(generator).integers(low, high, _size(size)), dtype, device, requires_grad)


def randperm(n: int, generator=None, dtype=np.int64, device=None) -> Tensor:
    """The integers 0 ... n - 1 in random order."""
    return _make(_source(generator).permutation(_size((n,))[0]), dtype, device, False)


def bernoulli(p: Tensor, generator=None) -> Tensor:
    """1 with probability ``p`` (a tensor of numbers from 0 to 1), else 0; of p's shape and dtype, without gradient."""
    if not isinstance(p, Tensor) or not is_floating(p.dtype) or not bool(((p.data >= 0) & (p.data <= 1)).all()):
        raise ValueError("p must be a tensor of probabilities between 0 and 1")
    drawn = move(_draw("random", p.shape, np.float64, generator), device_of(p.data))
    return Tensor((drawn < p.data).astype(p.dtype))


def normal(mean: float = 0.0, std: float = 1.0, size=None, generator=None, dtype=np.float32, device=None) -> Tensor:
    """Normally distributed random numbers of the given mean and standard deviation (tensors give their shape)."""
    given = [value.data for value in (mean, std) if isinstance(value, Tensor)]
    if given and size is None:
        size, dtype = np.broadcast_shapes(*(value.shape for value in given)), given[0].dtype
    if bool(np.any((std.data if isinstance(std, Tensor) else np.asarray(std)) < 0)):
        raise ValueError(f"std must not be negative, got {std!r}")
    if size is None:
        raise TypeError("size must be given unless mean or std is a Tensor")
    return randn(*_size((size,)), generator=generator, dtype=dtype, device=device) * std + mean
