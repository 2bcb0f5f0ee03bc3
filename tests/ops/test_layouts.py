"""Memory orders: any strides give the values that contiguous arrays give, and gradients lie in memory as their tensors do."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.case import Case
from tests.ops.cases import ALL_CASES
from tests.ops.harness import Run, arrays_of, assert_close, bound, cotangents, run

CASES = pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)


def channels_last(a: np.ndarray) -> np.ndarray:
    return a.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2) if a.ndim == 4 else a


def fortran(a: np.ndarray) -> np.ndarray:
    return np.asfortranarray(a) if a.ndim else a


def reversed_strides(a: np.ndarray) -> np.ndarray:
    back = (slice(None, None, -1),) * a.ndim
    return a[back].copy()[back]


def every_second(a: np.ndarray) -> np.ndarray:
    """Every second element of a larger buffer, whose other elements are NaN (or -1)."""
    if not a.ndim:
        return a
    wide = np.full([2 * n + 1 for n in a.shape], np.nan if a.dtype.kind == "f" else -1).astype(a.dtype)
    part = wide[tuple(slice(1, 2 * n + 1, 2) for n in a.shape)]
    part[...] = a
    return part


def read_only(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


def unaligned_start(a: np.ndarray) -> np.ndarray:
    """In the middle of a buffer: not where an allocation begins."""
    return np.concatenate([np.zeros(1, a.dtype), a.ravel()])[1:].reshape(a.shape)


LAYOUTS = [channels_last, fortran, reversed_strides, every_second, read_only, unaligned_start]


@CASES
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
def test_any_strides(case, dtype):
    expected = run(case, dtype).backward()
    for layout in LAYOUTS:
        if layout is not channels_last or any(a.ndim == 4 for a in arrays_of(case)):
            r = run(case, dtype, layout).backward()
            _assert_equal_runs(case, r, expected, layout.__name__)
            # A leaf's gradient lies in its memory order, so that the optimizer walks both alike.
            assert all(t.grad is None or order_of(t.grad.data) == order_of(t.data) for t in r.differentiable), layout.__name__


@CASES
def test_stride_zero(case):
    """Inputs that are one row broadcast, as expand() makes them."""
    arrays = arrays_of(case)
    if not any(a.ndim and a.shape[0] > 1 and a.dtype.kind == "f" for a in arrays):
        return

    def expand(a):
        return np.broadcast_to(a[:1], a.shape) if a.ndim and a.dtype.kind == "f" and a.shape[0] > 1 else a

    _assert_equal_runs(case, run(case, layout=expand).backward(), run(case, layout=lambda a: expand(a).copy()).backward(), "")


@CASES
def test_upstream_gradients_of_any_strides(case):
    """backward() gets stride-0 gradients from sum(), reversed and sliced ones from indexing."""
    r = run(case)
    if not r.has_gradient:
        return
    gys = cotangents(r.outputs)
    expected = r.backward(gys)
    for layout in (channels_last, fortran, reversed_strides, every_second, read_only):
        _assert_gradients(case, run(case).backward([layout(gy) for gy in gys]), expected, layout.__name__)
    ones = [np.broadcast_to(np.ones((), y.dtype), y.shape) for y in r.outputs]
    _assert_gradients(case, run(case).backward(ones), run(case).backward([one.copy() for one in ones]), "stride 0")


def order_of(a: np.ndarray) -> list[int]:
    """The dimensions in which there is a step to take, from the longest step to the shortest."""
    return sorted((i for i, n in enumerate(a.shape) if n > 1 and a.size), key=lambda i: -abs(a.strides[i]))


@CASES
def test_images_stay_channels_last(case):
    """An op that maps channels-last images to an image of the same shape keeps them channels-last, and so does its gradient."""
    r = run(case, layout=channels_last)
    images = [t for t in r.inputs if t.ndim == 4 and t.dtype.kind == "f"]
    if (
        not images
        or any(t.ndim != 4 for t in r.inputs if t.dtype.kind == "f")
        or images[0].shape != r.outputs[0].shape
        or case.view
    ):
        return
    assert r.ys[0].transpose(0, 2, 3, 1).flags.c_contiguous, f"output strides {r.ys[0].strides} of shape {r.ys[0].shape}"


def _assert_equal_runs(case: Case, a: Run, b: Run, what: str) -> None:
    """Sums may be taken in another order of memory, and NumPy's vector code may round otherwise than its scalar code."""
    for i, (y, e) in enumerate(zip(a.ys, b.ys, strict=True)):
        allowed = bound(case, b.ys, e.dtype)[i] if e.dtype.kind == "f" else 0
        assert_close(y, e, allowed, f"{what}: output {i}")
    _assert_gradients(case, a, b, what)


def _assert_gradients(case: Case, a: Run, b: Run, what: str) -> None:
    for i, (g, e) in enumerate(zip(a.gradients, b.gradients, strict=True)):
        assert (g is None) == (e is None)
        if g is not None:
            largest = np.max(np.abs(e), initial=0, where=np.isfinite(e))
            allowed = case.gradient_ulp * np.finfo(e.dtype).eps * largest
            assert_close(g, e.astype(np.float64), allowed, f"{what}: gradient {i}")
