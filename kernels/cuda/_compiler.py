"""From the ``.cu`` files to kernels that can be launched.

A ``Kernel`` names a template of a file and the template arguments with which it may be launched. CuPy compiles it when it is
first launched with them, and keeps the result on disk. The compiler is handed one text, the file with the headers that it
includes, because CuPy's cache looks at nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

import cupy
import numpy as np

__all__ = [
    "FLOATS",
    "KERNELS",
    "OPTIONS",
    "THREADS",
    "WIDTHS",
    "Kernel",
    "blocks",
    "c_type",
    "on_device",
    "source",
    "struct",
    "vector_width",
]

FOLDER = Path(__file__).parent
OPTIONS = ("--std=c++17",)
THREADS = 256  # of a block, where a kernel has no reason for another number

NULL = np.uintp(0)
COMMON_SHARED = 48 * 1024  # bytes of shared memory that every launch may ask for
MOST_SHARED = 64 * 1024  # that every card since compute capability 7.5 has

FLOATS = ("float", "double", "half_t", "bfloat16_t")
WIDTHS = {"float": 4, "double": 2, "half_t": 8, "bfloat16_t": 8}  # how many of them are 16 bytes
_TYPES = {"float32": "float", "float64": "double", "float16": "half_t", "bfloat16": "bfloat16_t"}

KERNELS: list[Kernel] = []  # every one there is, for the tests


@functools.cache
def source(file: str) -> str:
    """The text of a file of this folder with the files that it includes, each once."""
    return _text(file, set())


def _text(file: str, seen: set[str]) -> str:
    if file in seen:
        return ""
    seen.add(file)
    lines = []
    for line in (FOLDER / file).read_text(encoding="utf-8").splitlines():
        if line.startswith("#include"):
            lines.append(_text(line.split('"')[1], seen))
        elif line != "#pragma once":
            lines.append(line)
    return "\n".join(lines) + "\n"


class Kernel:
    """The kernel template ``name`` of ``file``, which may be launched with the template arguments ``instances`` (tuples)."""

    def __init__(self, file: str, name: str, instances: Iterable[tuple]):
        self.file, self.name = file, name
        self.instances = {tuple(i): self._expression(i) for i in instances}
        self._built: dict[tuple, cupy.RawKernel] = {}
        self._large: set[tuple] = set()  # (card, template arguments) that were granted more shared memory than is common
        KERNELS.append(self)

    def _expression(self, arguments: tuple) -> str:
        values = [str(a).lower() if isinstance(a, bool) else str(a) for a in arguments]
        return f"{self.name}<{', '.join(values)}>" if values else self.name

    def build(self, *arguments) -> cupy.RawKernel:
        """The kernel with these template arguments."""
        built = self._built.get(arguments)
        if built is None:
            expression = self.instances[arguments]  # a KeyError: the instance was not declared, and so not tested
            module = cupy.RawModule(code=source(self.file), options=OPTIONS, name_expressions=(expression,))
            built = self._built[arguments] = module.get_function(expression)
        return built

    def __call__(self, arguments: tuple, grid: int | tuple, block: int | tuple, values: tuple, shared: int = 0) -> None:
        """Launch it on the current stream: ``grid`` blocks of ``block`` threads with ``values``. An empty grid is no launch.

        Numbers among the values must be NumPy scalars of the parameter's own type; a NumPy array is a structure, passed by value;
        None is a null pointer.
        """
        grid = grid if isinstance(grid, tuple) else (grid,)
        if 0 in grid:
            return
        kernel = self._built.get(arguments) or self.build(*arguments)
        if shared > COMMON_SHARED and (key := (cupy.cuda.runtime.getDevice(), arguments)) not in self._large:
            kernel.max_dynamic_shared_size_bytes = MOST_SHARED
            self._large.add(key)
        values = tuple([_passed(value) for value in values])
        kernel(grid, block if isinstance(block, tuple) else (block,), values, shared_mem=shared)


def _passed(value):
    """A value as CuPy takes it: of None it would hand the driver nothing at all, and of NumPy arrays it takes single elements."""
    if value is None:
        return NULL
    if type(value) is np.ndarray and value.size != 1:
        return value.view(_bytes(value.nbytes))
    return value


@functools.cache
def _bytes(count: int) -> np.dtype:
    return np.dtype((np.void, count))


def c_type(dtype) -> str:
    """The name of a dtype in the sources. Raises TypeError for one that no kernel computes with."""
    try:
        return _TYPES[dtype.name]
    except KeyError:
        raise TypeError(f"expected an array of {', '.join(_TYPES)}, got {dtype}") from None


def struct(*integers: int) -> np.ndarray:
    """The value of a parameter that is a structure of ints."""
    return np.array(integers, np.int32)


def blocks(count: int, per_block: int = THREADS) -> int:
    """Blocks of a grid in which every block does ``per_block`` of ``count`` things."""
    return -(-count // per_block)


def vector_width(*arrays, multiple_of: int = 0) -> int:
    """How many neighbouring elements one thread can load at once from each of the arrays: 16 bytes of them, or 1.

    ``multiple_of``: the length of a row, where every row has to begin at such a place; 0 if there are no rows.
    """
    width = 16 // arrays[0].dtype.itemsize
    fits = multiple_of % width == 0 and all(a.data.ptr % (width * a.dtype.itemsize) == 0 for a in arrays)
    return width if fits else 1


def on_device(function: Callable) -> Callable:
    """Decorator of a public kernel: it runs on the card of its first array, whichever is current."""

    @functools.wraps(function)
    def wrapper(x, *args, **kwargs):
        device = (x if isinstance(x, cupy.ndarray) else x[0]).device
        if device.id == cupy.cuda.runtime.getDevice():
            return function(x, *args, **kwargs)
        with device:
            return function(x, *args, **kwargs)

    return wrapper
