"""Checking gradients against finite differences.

The numeric derivative along a direction is the five-point formula

    f'(0) = (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h + O(h^4)

in float64. ``gradcheck`` compares the whole Jacobian matrix of a small function element by element, and random directions of a
large one; ``directional_check`` gives the error along one random direction as a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import random
from minigrad.autograd import enable_grad, no_grad, run_backward
from minigrad.device import move, to_numpy
from minigrad.tensor import Tensor

__all__ = ["GradcheckError", "directional_check", "gradcheck"]

FULL = 4096  # Jacobian matrices of up to so many elements are compared completely


class GradcheckError(RuntimeError):
    """A gradient disagrees with the finite difference, or cannot be checked."""


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is reported as an error
def gradcheck(
    function: Callable,
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    seed: int = 0,
    samples: int = 4,
) -> bool:
    """Whether the gradients of ``function(*inputs)`` agree with finite differences.

    They do if |analytic - numeric| <= atol + rtol * |numeric| at every element.

    ``inputs``: the tensors that require grad are checked, as float64 copies; everything else is passed on as it is.
    ``function`` returns a tensor or a tuple of tensors, and must not depend on anything that changes between calls; the random
    generator is put back before each, so that dropout can be checked. ``eps`` is the step. A function whose Jacobian matrix has
    more than 4096 elements is checked along ``samples`` random directions for each input instead.
    Raises GradcheckError (or returns False without ``raise_exception``) and names the worst element and whether a kink is likely.
    """
    problem = _Problem(function, inputs, seed)
    try:
        problem.check_repeatable()
        if problem.size_in * problem.size_out <= FULL:
            _compare_jacobians(problem, eps, atol, rtol)
        else:
            _compare_directions(problem, eps, atol, rtol, samples)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


@np.errstate(over="ignore", invalid="ignore")
def directional_check(function: Callable, inputs: Tensor | Sequence[Any], eps: float = 1e-3, seed: int = 0) -> float:
    """The relative error of the gradient along one random direction through all inputs at once.

    |analytic - numeric|, divided by the sum of the absolute contributions of all elements to the analytic value, so that
    contributions which cancel do not exaggerate it. About 1e-10 for a smooth function and a right gradient.
    """
    problem = _Problem(function, inputs, seed)
    directions = [_direction(problem.rng, x.shape) for x in problem.arrays]
    gradients = problem.gradients(problem.cotangents)
    analytic = math.fsum(float((g * v).sum()) for g, v in zip(gradients, directions, strict=True))
    numeric = problem.slope(directions, problem.cotangents, eps)
    scale = max(math.fsum(float(abs(g * v).sum()) for g, v in zip(gradients, directions, strict=True)), abs(numeric))
    return abs(analytic - numeric) / scale if scale else 0.0


# ---- the function to be checked ----------------------------------------------------------------------------------------


class _Problem:
    """The function as one of NumPy arrays: float64 copies of the inputs that require grad in, floating outputs out."""

    def __init__(self, function: Callable, inputs: Tensor | Sequence[Any], seed: int):
        self.function = function
        self.rng = np.random.default_rng(seed)
        self.rng_state = random.get_rng_state()
        if not isinstance(inputs, (Tensor, tuple, list)):
            raise TypeError(f"gradcheck: inputs must be a Tensor or a list of arguments, got {type(inputs).__name__}")
        self.args = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        self.places = [i for i, t in enumerate(self.args) if isinstance(t, Tensor) and t.requires_grad]
        if not self.places:
            raise ValueError("gradcheck: no input requires grad: set requires_grad=True on those to be checked")
        self.devices = [self.args[i].device for i in self.places]
        self.arrays = [to_numpy(self.args[i].data).astype(np.float64, order="K", copy=True) for i in self.places]
        outputs, _ = self.run(self.arrays, recorded=True)
        self.op = ", ".join(dict.fromkeys(y.grad_fn.name for y in outputs if y.grad_fn is not None)) or "function"
        if not any(y.requires_grad for y in outputs):
            raise ValueError("gradcheck: no output requires grad: the function does not depend on its inputs, or detaches them")
        self.cotangents = [_direction(self.rng, y.shape) for y in outputs]
        self.size_in = sum(x.size for x in self.arrays)
        self.size_out = sum(y.numel() for y in outputs)

    def run(self, arrays: Sequence, recorded: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """(outputs, inputs) of a call with these arrays in the places of the inputs that are checked.

        The inputs keep their memory order, and the random generator is put back afterwards.
        """
        args, leaves = list(self.args), []
        for i, x, like, place in zip(self.places, arrays, self.arrays, self.devices, strict=True):
            copy = np.empty_like(like)
            copy[...] = x
            args[i] = Tensor(move(copy, place), requires_grad=recorded)
            leaves.append(args[i])
        try:
            with enable_grad() if recorded else no_grad():
                result = self.function(*args)
        finally:
            random.set_rng_state(self.rng_state)
        outputs = list(result) if isinstance(result, (tuple, list)) else [result]
        for y in outputs:
            if not isinstance(y, Tensor):
                raise TypeError(f"gradcheck: the function must return tensors, got {type(y).__name__}")
        return [y for y in outputs if y.is_floating_point()], leaves

    def values(self, arrays: Sequence) -> list:
        """The outputs as arrays."""
        return [to_numpy(y.data) for y in self.run(arrays)[0]]

    def gradients(self, cotangents: Sequence, call: tuple | None = None) -> list:
        """The gradient of every checked input when ``cotangents`` arrive at the outputs; zeros where none arrives."""
        outputs, leaves = self.run(self.arrays, recorded=True) if call is None else call
        reached = [(y, move(g.astype(y.dtype), y.device)) for y, g in zip(outputs, cotangents, strict=True) if y.requires_grad]
        found = run_backward([y for y, _ in reached], [g for _, g in reached], call is not None, targets=leaves)
        for g, x, i in zip(found, self.arrays, self.places, strict=True):
            if g is not None and g.shape != x.shape:
                raise GradcheckError(f"{self.op}: the gradient of input {i} has shape {g.shape}, the input {x.shape}")
        return [np.zeros_like(x) if g is None else to_numpy(g) for g, x in zip(found, self.arrays, strict=True)]

    def slope(self, directions: Sequence, cotangents: Sequence | None, eps: float):
        """The derivative of the outputs along ``directions``: of their inner product with ``cotangents``, or arrays."""

        def at(step: float) -> list:
            return self.values([x + step * v for x, v in zip(self.arrays, directions, strict=True)])

        f2, f1, b1, b2 = (at(step) for step in (2 * eps, eps, -eps, -2 * eps))
        slopes = [(8 * (p - m) - (pp - mm)) / (12 * eps) for pp, p, m, mm in zip(f2, f1, b1, b2, strict=True)]
        if cotangents is None:
            return slopes
        return math.fsum(float((u * s).sum()) for u, s in zip(cotangents, slopes, strict=True))

    def one_sided(self, directions: Sequence, cotangents: Sequence, eps: float) -> tuple[float, float]:
        """The slopes to the left and to the right along ``directions``."""

        def at(step: float) -> float:
            ys = self.values([x + step * v for x, v in zip(self.arrays, directions, strict=True)])
            return math.fsum(float((u * y).sum()) for u, y in zip(cotangents, ys, strict=True))

        middle = at(0.0)
        return (middle - at(-eps)) / eps, (at(eps) - middle) / eps

    def check_repeatable(self) -> None:
        """Raise GradcheckError unless two calls give the same outputs and gradients."""
        first, second = self.values(self.arrays), self.values(self.arrays)
        if not all(_same(a, b) for a, b in zip(first, second, strict=True)):
            raise GradcheckError(f"{self.op}: two calls with the same inputs gave different outputs: the function keeps a state")
        first, second = self.gradients(self.cotangents), self.gradients(self.cotangents)
        if not all(_same(a, b) for a, b in zip(first, second, strict=True)):
            raise GradcheckError(f"{self.op}: two backward passes with the same inputs gave different gradients")

    def unit(self, k: int, index: tuple[int, ...]) -> list:
        """Directions that change only one element of checked input ``k``."""
        directions = [np.zeros(x.shape) for x in self.arrays]
        directions[k][index] = 1.0
        return directions


def _same(a, b) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _direction(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Components between 0.5 and 1 of random sign, so that no element goes unseen."""
    return rng.uniform(0.5, 1, shape) * rng.choice([-1.0, 1.0], shape)


# ---- comparing ---------------------------------------------------------------------------------------------------------


def _compare_jacobians(problem: _Problem, eps: float, atol: float, rtol: float) -> None:
    """Every element of the Jacobian matrix: rows by backward passes, columns by finite differences."""
    call = problem.run(problem.arrays, recorded=True)
    shapes = [y.shape for y in call[0]]
    rows = [[] for _ in problem.arrays]
    for o, shape in enumerate(shapes):
        for index in np.ndindex(shape):
            one_hot = [np.zeros(s) for s in shapes]
            one_hot[o][index] = 1.0
            for k, g in enumerate(problem.gradients(one_hot, call)):
                rows[k].append(g.reshape(-1))
    for k, x in enumerate(problem.arrays):
        analytic = np.array(rows[k]).reshape(problem.size_out, x.size)
        columns = [
            np.concatenate([s.reshape(-1) for s in problem.slope(problem.unit(k, index), None, eps)])
            for index in np.ndindex(x.shape)
        ]
        numeric = np.array(columns).reshape(x.size, problem.size_out).T
        excess = np.abs(analytic - numeric) - (atol + rtol * np.abs(numeric))
        excess[np.isnan(excess)] = np.inf
        if excess.size and excess.max() > 0:
            row, column = np.unravel_index(int(excess.argmax()), excess.shape)
            index = tuple(map(int, np.unravel_index(column, x.shape)))
            _report(problem, k, index, _one_hot(shapes, row), analytic[row, column], numeric[row, column], eps)


def _one_hot(shapes: Sequence[tuple[int, ...]], position: int) -> list[np.ndarray]:
    """Cotangents of the outputs that pick the element ``position``, counted through all outputs."""
    flat = np.zeros(sum(math.prod(s) for s in shapes))
    flat[position] = 1.0
    pieces = np.split(flat, np.cumsum([math.prod(s) for s in shapes])[:-1])
    return [piece.reshape(s) for piece, s in zip(pieces, shapes, strict=True)]


def _compare_directions(problem: _Problem, eps: float, atol: float, rtol: float, samples: int) -> None:
    """Random directions, one input at a time; where one disagrees it is halved until one element is left."""
    gradients = problem.gradients(problem.cotangents)
    for k, g in enumerate(gradients):
        if not np.isfinite(g).all():  # times 0 it would spoil every direction
            index = tuple(map(int, np.argwhere(~np.isfinite(g))[0]))
            numeric = problem.slope(problem.unit(k, index), problem.cotangents, eps)
            _report(problem, k, index, problem.cotangents, float(g[index]), numeric, eps)
        for _ in range(samples):
            direction = _direction(problem.rng, g.shape)
            if _disagreement(problem, k, g, direction, eps, atol, rtol) <= 0:
                continue
            left = np.arange(g.size)
            while left.size > 1:
                halves = np.array_split(left, 2)
                parts = [np.where(np.isin(np.arange(g.size), half).reshape(g.shape), direction, 0) for half in halves]
                worse = [_disagreement(problem, k, g, part, eps, atol, rtol) for part in parts]
                left = halves[int(np.argmax(worse))]
            index = tuple(map(int, np.unravel_index(int(left[0]), g.shape)))
            numeric = problem.slope(problem.unit(k, index), problem.cotangents, eps)
            _report(problem, k, index, problem.cotangents, float(g[index]), numeric, eps)


def _disagreement(problem: _Problem, k: int, g, direction, eps: float, atol: float, rtol: float) -> float:
    """By how much the derivatives of input ``k`` along ``direction`` differ beyond what is allowed; infinite for NaN."""
    directions = [direction if i == k else np.zeros(x.shape) for i, x in enumerate(problem.arrays)]
    analytic = math.fsum((g * direction).reshape(-1).tolist())
    numeric = problem.slope(directions, problem.cotangents, eps)
    excess = abs(analytic - numeric) - (atol + rtol * abs(numeric))
    return math.inf if math.isnan(excess) else excess


def _report(problem: _Problem, k: int, index: tuple, cotangents: Sequence, analytic: float, numeric: float, eps: float) -> None:
    """Raise GradcheckError about one element."""
    where = f"the gradient of input {problem.places[k]} at {index}"
    message = f"{problem.op}: {where} is {analytic:.9g}, the finite difference {numeric:.9g}"
    left, right = problem.one_sided(problem.unit(k, index), cotangents, eps)
    if abs(left - right) > 1e-3 * max(abs(left), abs(right)) + 1e-4:
        message += f"; a kink or a step is likely here (slopes {left:.4g} and {right:.4g} on its two sides): choose another input"
    raise GradcheckError(message)
