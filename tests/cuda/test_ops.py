"""Every case of every op on a graphics card: the processor's results and gradients, in arrays that never leave the card."""

from __future__ import annotations

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad.device import device_of, to_numpy
from minigrad.kernels.cpu import algorithm
from minigrad.ops.arithmetic import mul
from minigrad.tensor import Tensor
from tests.cuda.on_device import cuda
from tests.ops.case import operation
from tests.ops.cases import ALL_CASES, ALL_ERRORS
from tests.ops.harness import Run, arrays_of, assert_close, bound, prepare, run
from tests.ops.test_layouts import LAYOUTS, channels_last, order_of

pytestmark = pytest.mark.usefixtures("card", "exact")

CASES = pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


@pytest.fixture
def exact():
    """Convolutions without TF32 and without Winograd's transforms, on the card and on the processor."""
    with algorithm(exact=True), cuda.module.algorithm(exact=True):
        yield


@CASES
@DTYPES
def test_like_the_processor(case, dtype):
    expected = run(case, dtype).backward()
    r = run(case, dtype, device="cuda").backward(observer=None if case.name in LEAVING else _check_node)
    assert case.name in LEAVING or all(device_of(y.array) == "cuda" for y in r.outputs)
    _assert_equal(case, r, expected)


LEAVING = ["to-copy"]  # copies to the processor


def _check_node(node, gys, gxs):
    """An observer of backward: no gradient leaves the card."""
    assert all(device_of(a) == "cuda" for a in (*gys, *gxs) if a is not None), f"{node}: a gradient is not on the card"


def _assert_equal(case, r: Run, expected: Run) -> None:
    for i, (y, e) in enumerate(zip(r.ys, expected.ys, strict=True)):
        assert y.dtype == e.dtype
        allowed = 2 * np.asarray(bound(case, expected.ys, e.dtype)[i]) if e.dtype.kind == "f" else 0  # each may be off by one
        assert_close(y, e, allowed, f"output {i}")
    for i, (t, g, e) in enumerate(zip(r.differentiable, r.gradients, expected.gradients, strict=True)):
        assert (g is None) == (e is None)
        if e is not None:
            assert t.grad.device == "cuda"
            assert g.dtype == e.dtype
            allowed = 2 * case.gradient_ulp * np.finfo(e.dtype).eps * np.max(np.abs(e), initial=0, where=np.isfinite(e)) + 1e-37
            assert_close(g, e, allowed, f"gradient {i}")


@CASES
def test_images_stay_channels_last(case):
    """As on the processor: an image of the shape of the image that came in lies as that did; gradients lie as their tensors."""
    r = run(case, np.float32, channels_last, device="cuda").backward()
    _assert_equal(case, r, run(case, np.float32, channels_last).backward())
    assert all(t.grad is None or order_of(t.grad.data) == order_of(t.data) for t in r.differentiable)
    images = [t for t in r.inputs if t.dtype.kind == "f"]
    if images and all(t.ndim == 4 for t in images) and images[0].shape == r.outputs[0].shape and not case.view:
        assert r.outputs[0].data.transpose(0, 2, 3, 1).flags.c_contiguous, f"output strides {r.outputs[0].stride()}"


@CASES
def test_any_strides(case):
    expected = run(case, np.float32).backward()
    for layout in LAYOUTS:
        if layout is not channels_last and any(a.ndim for a in arrays_of(case)):
            _assert_equal(case, run(case, np.float32, layout, device="cuda").backward(), expected)


@pytest.mark.parametrize("case", [c for c in ALL_CASES if c.nan and c.reference], ids=lambda case: case.name)
def test_nan_stays_where_it_belongs(case):
    """One NaN in one input makes NaN where the processor has it; of a weight see the test of the processor."""
    arrays = arrays_of(case)
    for i, a in enumerate(arrays):
        if a.dtype.kind != "f" or not a.size or (i == 1 and case.op in ("conv2d", "conv_transpose2d")):
            continue
        changed = a.copy()
        changed.flat[a.size // 3] = np.nan
        values = [changed if b is a else b for b in arrays]
        expected, r = run(case, np.float32, values=values), run(case, np.float32, values=values, device="cuda")
        for y, e in zip(r.ys, expected.ys, strict=True):
            assert np.array_equal(np.isnan(y), np.isnan(e)) if e.dtype.kind == "f" else np.array_equal(y, e), f"array {i}"


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.name)
def test_error(error):
    """A wrong call is refused on the card as on the processor, in the same words, before anything has changed."""
    r = prepare(error, np.float32, device="cuda")
    args = r.args
    if error.inplace and isinstance(args[0], Tensor):
        args = (mul(args[0], 1), *args[1:])
    tensors = [*r.inputs, *(a for a in args if isinstance(a, Tensor))]
    before = [(t.data.get().tobytes(), t.version[0], t.origin) for t in tensors]
    with pytest.raises(error.error) as caught:
        operation(error.op)(*args, **r.kwargs)
    message = str(caught.value)
    assert type(caught.value) is error.error, f"{type(caught.value).__name__}: {message}"
    assert message.startswith(f"{error.op}: ")
    assert re.search(error.match, message), f"{message!r} does not match {error.match!r}"
    assert [(t.data.get().tobytes(), t.version[0], t.origin) for t in tensors] == before


@CASES
def test_tensors_on_several_devices(case):
    """Each of several tensors in turn lies on the card alone: the op refuses, says where they lie, and has changed nothing."""
    count = len(prepare(case).inputs)
    for moved in range(count if count > 1 and case.op not in BETWEEN_DEVICES else 0):
        r = prepare(case, np.float32, moved=moved)
        args = (mul(r.args[0], 1), *r.args[1:]) if case.inplace and isinstance(r.args[0], Tensor) else r.args
        tensors = [*r.inputs, *(a for a in args if isinstance(a, Tensor))]
        before = [(to_numpy(t.data).tobytes(), t.version[0], t.origin) for t in tensors]
        with pytest.raises(RuntimeError, match=r"^\w+: all tensors must be on one device, got .*on c.*on c.*\.to\(device\)"):
            operation(case.op)(*args, **r.kwargs)
        assert [(to_numpy(t.data).tobytes(), t.version[0], t.origin) for t in tensors] == before


BETWEEN_DEVICES = ["type_as", "copy_", "reshape_as", "expand_as"]  # the first two move, the others look at the shape only


def test_copying_between_devices():
    x = Tensor(np.arange(3, dtype=np.float32), requires_grad=True)
    y = mg.zeros(3, device="cuda")
    y.copy_(x)
    assert y.tolist() == [0, 1, 2]
    (y * y).sum().backward()
    assert x.grad.device == "cpu"
    assert x.grad.tolist() == [0, 2, 4]


def test_a_number_of_the_processor_meets_tensors_of_the_card():
    """As in PyTorch, if it needs no gradient."""
    x, number = mg.ones(2, device="cuda"), mg.tensor(3.0)
    for y in (x * number, number * x, x + number - 1, 3 - x + 1, x.clone().mul_(number), mg.maximum(x, number)):
        assert y.device == "cuda"
        assert y.tolist() == [3, 3]
        assert y.dtype == np.float32
    with pytest.raises(RuntimeError, match="all tensors must be on one device, got x on cuda:0, other on cpu"):
        x * mg.tensor(3.0, requires_grad=True)
    with pytest.raises(RuntimeError, match="all tensors must be on one device"):
        mg.tensor(3.0) * number.new_ones(2) + x
