"""Cases: the rows of the table that every property test of the ops walks.

A case is one call of one op, with what is needed to judge it. To cover a new op add a row to ``CASES`` and one to ``ERRORS`` in
the file of ``tests/ops/cases`` that has the op's module's name; every property test (forward, gradient, float32, memory orders,
purity, in-place changes, NaN, memory, repeatability, threads) then runs on it, and forgetting the rows is a red test.

    Case("mul", "broadcast", lambda d: (d.normal(2, 3), d.normal(3)), lambda x, y: x * y, torch="mul")

reads: op "mul", called with two tensors that ``d`` (a ``Draw``) draws, must give what the ``reference`` gives on the same float64
arrays, and what ``torch.mul`` gives. Keyword arguments are a dict in the last place, and tensors may hide in lists:

    Case("sum", "dim", lambda d: (d.normal(2, 3), {"dim": 1}), lambda x, dim: x.sum(dim), torch="sum", scale="absolute")
    Case("cat", "dim 1", lambda d: ([d.normal(2, 1), d.normal(2, 3)], {"dim": 1}), lambda xs, dim: np.concatenate(xs, dim))

Every array becomes a Tensor: floating ones of the dtype under test with requires_grad, integers and booleans as they are; the
same array twice becomes one Tensor.
``const(array)``: a floating tensor without gradient (class weights, running statistics). ``Raw(value)``: passed on untouched.

The reference is written from the definition (NumPy or plain loops, float64) and never calls minigrad. An op with random results
has a ``check`` instead. Draw inputs away from kinks: ``d.away(2, 3, points=(0, 6))`` for relu6, ``d.distinct(4, 4)`` for maxima.

    Error("sum", "dim out of range", lambda d: (d.normal(2, 3), {"dim": 5}), IndexError, "dim=5 is out of range")

reads: this call must raise IndexError with a message that begins "sum: " and matches the regex, and must change nothing.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad.ops

__all__ = ["Case", "Draw", "Error", "Raw", "const"]


@dataclass(frozen=True, eq=False)
class Case:
    """One call of an op and how to judge it. The fields from ``torch`` on are given by keyword."""

    op: str  # its name in minigrad.ops
    id: str  # what is special about this call, in a few words
    args: Callable[[Draw], tuple]  # draws the arguments; a dict in the last place holds keyword arguments
    reference: Callable | None  # the same arguments as float64 arrays -> array, or tuple of arrays
    torch: str | Callable | None = None  # "nn.functional.relu", or function(torch, *args, **kwargs)
    check: Callable | None = None  # instead of a reference: check(y, *args, **kwargs) asserts something about the array y

    # Forward: |y - reference| <= ulp * eps(dtype) * scale, at every element. scale "element": |reference| there;
    # "output": the largest |reference|; "absolute": the reference of the absolute inputs, the bound for sums of products.
    ulp: float = 4
    scale: str = "element"
    # Float32 gradients: |g32 - g64| <= gradient_ulp * eps * largest |g64|.
    gradient_ulp: float = 32

    torch_tolerance: float = 1e-10  # float64 gradients: |ours - PyTorch's| <= torch_tolerance * largest |PyTorch's|

    # Directional derivative: relative error allowed, and the step of the 5-point stencil (1 is exact for linear ops).
    gradient_tolerance: float = 1e-7
    step: float = 1e-3

    kink: bool = False  # not differentiable at these inputs: PyTorch's subgradient is the rule, not the finite difference
    inplace: bool = False  # the op changes its first argument: it is called on a copy made by an op
    view: bool = False  # the result may share memory with an input
    nan: bool = True  # NaN in an input appears exactly where the reference has it
    why: str = ""  # the reason, where gradient_tolerance is above 1e-7, ulp above 64, gradient_ulp above 256 or nan is False

    @property
    def name(self) -> str:
        return f"{self.op}-{self.id.replace(' ', '_')}"

    @functools.cache  # noqa: B019 - the table lives as long as the program
    def draw(self) -> tuple[tuple, dict]:
        """The positional and keyword arguments as arrays, which stay as they are."""
        args = self.args(Draw(self.name))
        return (args[:-1], args[-1]) if isinstance(args[-1], dict) else (args, {})


@dataclass(frozen=True, eq=False)
class Error:
    """One wrong call of an op, and the exception that must come."""

    op: str
    id: str
    args: Callable[[Draw], tuple]
    error: type[Exception]
    match: str  # regex for the message after "op: "
    inplace: bool = False  # as in Case

    @property
    def name(self) -> str:
        return f"{self.op}-{self.id.replace(' ', '_')}"

    draw = Case.draw


class Draw:
    """Draws input arrays. Floating values are float32 numbers kept as float64, so that both dtypes see the same inputs."""

    def __init__(self, name: str):
        self.rng = np.random.default_rng(list(name.encode()))

    def normal(self, *shape: int) -> np.ndarray:
        """Standard normal values."""
        return _float32(self.rng.standard_normal(shape))

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return _float32(self.rng.uniform(low, high, shape))

    def positive(self, *shape: int) -> np.ndarray:
        """Values from 0.5 to 2: for logarithms, roots, divisors, variances."""
        return self.uniform(0.5, 2, *shape)

    def away(self, *shape: int, points: Sequence[float] = (0,), gap: float = 0.1) -> np.ndarray:
        """Values around the first and the last of ``points``, at least ``gap`` from each of them: the kinks of the op."""
        points = np.asarray(points, float)
        x = self.rng.uniform(points[0] - 2, points[-1] + 2, shape)
        for _ in range(100):
            near = (np.abs(x[..., None] - points) < gap).any(-1)
            if not near.any():
                return _float32(x)
            x = np.where(near, self.rng.uniform(points[0] - 2, points[-1] + 2, shape), x)
        raise ValueError(f"no room between the points {points} with gap {gap}")

    def distinct(self, *shape: int) -> np.ndarray:
        """Values from -2 to 2 in random order, all equally far apart: no ties for maxima and sorts."""
        size = int(np.prod(shape))
        return _float32(self.rng.permutation(np.linspace(-2, 2, size)).reshape(shape))

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """int64 values from ``low`` to ``high`` - 1: labels and indices."""
        return np.asarray(self.rng.integers(low, high, shape))

    def booleans(self, *shape: int) -> np.ndarray:
        return np.asarray(self.rng.random(shape) < 0.5)


def _float32(x) -> np.ndarray:
    return np.asarray(x, np.float32).astype(np.float64)


@dataclass(frozen=True)
class Raw:
    """An argument that reaches the op as it is, even if it is an array."""

    value: Any


@dataclass(frozen=True)
class const:
    """A floating array that becomes a Tensor without requires_grad."""

    array: np.ndarray


def leaves(value) -> Iterator[np.ndarray | const]:
    """The arrays (and consts) in the arguments, in order, those in lists, tuples and dicts included."""
    if isinstance(value, (np.ndarray, const)):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from leaves(v)
    elif isinstance(value, dict):
        yield from leaves(list(value.values()))


def replace_leaves(value, function: Callable):
    """The arguments with every array (and const) replaced by ``function(it)`` and every Raw unpacked."""
    if isinstance(value, (np.ndarray, const)):
        return function(value)
    if isinstance(value, Raw):
        return value.value
    if isinstance(value, (list, tuple)):
        return type(value)(replace_leaves(v, function) for v in value)
    if isinstance(value, dict):
        return {k: replace_leaves(v, function) for k, v in value.items()}
    return value


@functools.cache
def operation(name: str) -> Callable:
    """The public op ``name``: a function in the ``__all__`` of a module of minigrad.ops."""
    found = [getattr(module, name) for module in op_modules().values() if name in module.__all__]
    if not found:
        raise LookupError(f"no module of minigrad.ops exports {name!r}")
    return found[0]


@functools.cache
def op_modules() -> dict:
    """The modules of minigrad.ops that define ops, by name."""
    names = [m.name for m in pkgutil.iter_modules(minigrad.ops.__path__) if not m.name.startswith("_") and m.name != "methods"]
    return {name: importlib.import_module(f"minigrad.ops.{name}") for name in names}
