"""Running cases: from a row of the table to tensors, outputs and gradients."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from minigrad import autograd, random
from minigrad.device import device_of, move, to_numpy
from minigrad.ops.arithmetic import mul
from minigrad.tensor import Tensor
from tests.cuda.on_device import to_card
from tests.ops.case import Case, Error, const, leaves, operation, replace_leaves

__all__ = ["Run", "assert_close", "assert_same_bits", "bound", "cotangents", "prepare", "reference_outputs", "run"]

SEED = 20  # of the framework's generator before every call, so that dropout repeats itself


@dataclass
class Run:
    """One call of a case's op: its tensors, and after ``backward`` their gradients."""

    case: Case | Error
    args: tuple
    kwargs: dict
    inputs: list[Tensor]  # every tensor among the arguments, once
    outputs: list[Tensor] = field(default_factory=list)

    def forward(self) -> Run:
        random.manual_seed(SEED)
        args = self.args
        if self.case.inplace and isinstance(args[0], Tensor):
            args = (mul(args[0], 1), *args[1:])  # a leaf that requires grad must not be changed
        y = operation(self.case.op)(*args, **self.kwargs)
        self.outputs = list(y) if isinstance(y, (tuple, list)) else [y]
        return self

    def backward(self, gys: list | None = None, observer: Callable | None = None) -> Run:
        """Send ``gys`` (default: ``cotangents``) back; the gradients are then in ``inputs[i].grad``."""
        gys = cotangents(self.outputs) if gys is None else gys
        roots = [(y, move(gy, device_of(y.array))) for y, gy in zip(self.outputs, gys, strict=True) if y.requires_grad]
        if roots:
            autograd.run_backward([y for y, _ in roots], [gy for _, gy in roots], observer=observer)
        return self

    @property
    def ys(self) -> list[np.ndarray]:
        return [to_numpy(y.data) for y in self.outputs]

    @property
    def gradients(self) -> list[np.ndarray | None]:
        """The gradient of every differentiable input, in order."""
        return [None if t.grad is None else to_numpy(t.grad.data) for t in self.differentiable]

    @property
    def differentiable(self) -> list[Tensor]:
        return [t for t in self.inputs if t.requires_grad]

    @property
    def has_gradient(self) -> bool:
        return any(y.requires_grad for y in self.outputs)

    def digest(self) -> str:
        """SHA-256 of every output and gradient, shapes and dtypes included."""
        sha = hashlib.sha256()
        for a in [*self.ys, *self.gradients]:
            sha.update(b"none" if a is None else f"{a.shape}{a.dtype}".encode() + a.tobytes())
        return sha.hexdigest()


def prepare(
    case: Case | Error,
    dtype: type = np.float64,
    layout: Callable = lambda a: a,
    values: list | None = None,
    device: str = "cpu",
    moved: int | None = None,
) -> Run:
    """The case with its tensors made, floating ones as ``layout(array of dtype)``, but the op not called yet.

    ``values`` replaces the drawn arrays, in the order of ``leaves``. On "cuda" the tensors have the same strides; ``moved`` is
    the number of a tensor that lies there alone.
    """
    args, kwargs = case.draw()
    made: dict[int, Tensor] = {}
    fresh = iter(values) if values is not None else None

    def tensor(leaf) -> Tensor:
        fixed, array = isinstance(leaf, const), leaf.array if isinstance(leaf, const) else leaf
        key = id(array)
        if fresh is not None:
            array = next(fresh)
        if key not in made:
            floating = array.dtype.kind == "f"
            array = layout(array.astype(dtype)) if floating else array.copy()
            on_card = device == "cuda" or moved == len(made)
            made[key] = Tensor(to_card(array) if on_card else array, floating and not fixed)
        return made[key]

    args, kwargs = replace_leaves(args, tensor), replace_leaves(kwargs, tensor)
    return Run(case, args, kwargs, list(made.values()))


def run(case: Case, *args, **kwargs) -> Run:
    """The case with its op called; the arguments are those of ``prepare``."""
    return prepare(case, *args, **kwargs).forward()


def arrays_of(case: Case) -> list[np.ndarray]:
    """The drawn arrays, in the order of ``leaves``."""
    return [leaf.array if isinstance(leaf, const) else leaf for leaf in leaves(list(case.draw()))]


def cotangents(outputs: list[Tensor]) -> list[np.ndarray]:
    """A random upstream gradient for every output, of its dtype and memory order, with no component near 0."""
    return [_direction(y.shape, np.random.default_rng([i, *y.shape])).astype(y.dtype) for i, y in enumerate(outputs)]


def _direction(shape: tuple, rng: np.random.Generator) -> np.ndarray:
    """Components of random sign between 0.5 and 1, so that no element goes unseen; numbers that float32 can hold."""
    return np.asarray(rng.uniform(0.5, 1, shape).astype(np.float32) * rng.choice([-1.0, 1.0], shape))


def direction(t: Tensor, seed: int) -> np.ndarray:
    return _direction(t.shape, np.random.default_rng([seed, *t.shape]))


# ---- references --------------------------------------------------------------------------------------------------------


def reference_outputs(case: Case, values: list | None = None, absolute: bool = False) -> list[np.ndarray]:
    """What the case's reference gives on its float64 arrays (or on ``values``, or on their absolute values)."""
    args, kwargs = case.draw()
    fresh = iter(values) if values is not None else None

    def array(leaf):
        a = leaf.array if isinstance(leaf, const) else leaf
        a = next(fresh) if fresh is not None else a
        return np.abs(a) if absolute and a.dtype.kind == "f" else a.copy()

    with np.errstate(all="ignore"):
        y = case.reference(*replace_leaves(args, array), **replace_leaves(kwargs, array))
    return [np.asarray(a) for a in (y if isinstance(y, (tuple, list)) else [y])]


def bound(case: Case, expected: list[np.ndarray], dtype: np.dtype) -> list:
    """The largest error allowed at each element of each output, from the case's ``ulp`` and ``scale``."""
    if case.scale == "absolute":
        scales = [np.abs(a) for a in reference_outputs(case, absolute=True)]
    elif case.scale == "output":
        scales = [np.max(np.abs(a), initial=0, where=np.isfinite(a)) for a in expected]
    else:
        scales = [np.where(np.isfinite(a), np.abs(a), 0) if a.dtype.kind == "f" else 0 for a in expected]
    info = np.finfo(dtype)
    return [case.ulp * float(info.eps) * s + float(info.tiny) for s in scales]


# ---- comparing ---------------------------------------------------------------------------------------------------------


def assert_close(actual: np.ndarray, expected: np.ndarray, allowed, what: str) -> None:
    """Fail unless |actual - expected| <= allowed everywhere, with NaN and infinities at exactly the same places."""
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if expected.dtype.kind != "f":
        assert np.array_equal(actual, expected), f"{what}: {actual} is not {expected}"
        return
    actual = actual.astype(np.float64)
    finite = np.isfinite(expected)
    assert np.array_equal(actual[~finite], expected[~finite], equal_nan=True), f"{what}: NaN or Inf at other places"
    assert np.isfinite(actual[finite]).all(), f"{what}: NaN or Inf where the reference is finite"
    error = np.abs(np.where(finite, actual, 0) - np.where(finite, expected, 0))
    excess = error - np.broadcast_to(allowed, error.shape)
    if excess.size and excess.max() > 0:
        at = np.unravel_index(np.argmax(excess), excess.shape)
        limit = np.broadcast_to(allowed, error.shape)[at]
        raise AssertionError(
            f"{what}: at {tuple(map(int, at))} {actual[at]!r} is not {expected[at]!r}: {error[at]:.3g} > {limit:.3g}"
        )


def assert_same_bits(actual: np.ndarray | None, expected: np.ndarray | None, what: str) -> None:
    """Fail unless both arrays have one shape, one dtype and the same values (NaN equals NaN)."""
    if actual is None or expected is None:
        assert actual is expected, f"{what}: one of two is None"
        return
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), f"{what}: other shape or dtype"
    assert np.array_equal(actual, expected, equal_nan=actual.dtype.kind == "f"), f"{what}: other values"
