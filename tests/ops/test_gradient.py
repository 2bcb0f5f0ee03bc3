"""Gradients: against finite differences in float64, and those of float32 against those of float64."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.autograd import no_grad
from minigrad.device import move, to_numpy
from minigrad.ops.activations import relu
from minigrad.tensor import Tensor
from tests.ops.cases import ALL_CASES
from tests.ops.harness import Run, assert_close, cotangents, direction, prepare, run

CASES = pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)


@CASES
def test_directional_derivative(case):
    """<backward(gy), v> equals d/ds <gy, f(x + s v)> for every input, by a 5-point stencil."""
    r = run(case)
    if not r.has_gradient or case.kink:
        return
    gys = [gy * y.requires_grad for gy, y in zip(cotangents(r.outputs), r.outputs, strict=True)]
    terms = sum(float(np.abs(gy * y).sum()) for gy, y in zip(gys, r.ys, strict=True))
    r.backward(gys)
    for i, t in enumerate(r.differentiable):
        v = direction(t, i)
        analytic = 0.0 if t.grad is None else float(np.vdot(to_numpy(t.grad.data), v))
        numeric = _stencil(r, t, v, gys)
        noise = 8 * np.finfo(np.float64).eps * terms / case.step  # of the sums and differences in the stencil
        allowed = case.gradient_tolerance * max(abs(analytic), abs(numeric)) + noise
        assert abs(analytic - numeric) <= allowed, f"input {i}: backward {analytic!r}, finite difference {numeric!r}"


def _stencil(r: Run, t, v: np.ndarray, gys: list) -> float:
    """The fourth-order central difference of <gys, outputs> as tensor ``t`` moves along ``v``."""
    before, step = t.data, r.case.step

    def at(k: int) -> float:
        t.data = before + move((k * step) * v, t.device)
        with no_grad():
            r.forward()
        return sum(float(np.vdot(gy, y)) for gy, y in zip(gys, r.ys, strict=True))

    try:
        return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)
    finally:
        t.data = before


@CASES
def test_float32_gradients(case):
    """They stay close to those of float64, and every array on the way has the dtype and shape that it should have."""
    exact = run(case, np.float64)
    if not exact.has_gradient:
        return
    exact.backward()
    r = run(case, np.float32).backward(observer=_check_node)
    eps = np.finfo(np.float32).eps
    for i, (t, e) in enumerate(zip(r.differentiable, exact.gradients, strict=True)):
        assert (t.grad is None) == (e is None)
        if e is not None:
            assert t.grad.dtype == np.float32
            allowed = case.gradient_ulp * eps * np.max(np.abs(e), initial=0, where=np.isfinite(e)) + 1e-37
            assert_close(to_numpy(t.grad.data), e, allowed, f"gradient {i}")


def _check_node(node, gys, gxs):
    """An observer of backward: no float64 anywhere in a float32 graph, and no gradient that only fits after broadcasting."""
    assert all(a.dtype == np.float32 for a in (*gys, *gxs) if a is not None), f"{node}: a gradient is not float32"
    assert len(gxs) == len(node.edges)
    for edge, gx in zip(node.edges, gxs, strict=True):
        if edge is not None and type(edge) is not tuple and gx is not None:
            assert gx.shape == edge.shape, f"{node}: gradient of shape {gx.shape} for an input of shape {edge.shape}"


@CASES
def test_gradients_of_single_inputs(case):
    """An input's gradient does not depend on whether the others require one."""
    everything = run(case)
    if not everything.has_gradient or len(everything.differentiable) < 2:
        return
    gys = cotangents(everything.outputs)
    everything.backward(gys)
    for i in range(len(everything.differentiable)):
        r = prepare(case)
        chosen = r.differentiable[i]
        for t in r.differentiable:
            t.requires_grad = t is chosen
        r.forward()
        if not r.has_gradient:
            assert everything.gradients[i] is None
            continue
        r.backward(gys)
        e = everything.gradients[i]
        assert (chosen.grad is None) == (e is None)
        if e is not None:
            assert_close(to_numpy(chosen.grad.data), e, 1e-14 * np.max(np.abs(e), initial=0), f"gradient {i} alone")


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_selects_gradients_and_does_not_multiply(dtype, inplace):
    """Where x is positive or NaN the gradient passes bit for bit, NaN and infinities too; elsewhere it is 0 whatever comes."""
    x = Tensor(np.array([1, -1, 0, np.nan, np.inf, -np.inf, 2, -2, -3], dtype), requires_grad=True)
    gy = np.array([5, np.inf, np.nan, 7, -np.inf, 3, np.nan, -np.inf, 4], dtype)
    relu(x * 1, inplace=inplace).backward(Tensor(gy))
    np.testing.assert_array_equal(to_numpy(x.grad.data), np.array([5, 0, 0, 7, -np.inf, 0, np.nan, 0, 0], dtype))
