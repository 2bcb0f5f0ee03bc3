"""Values: against the reference in both dtypes, against PyTorch, and NaN where the reference has it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from minigrad.autograd import no_grad
from minigrad.kernels.cpu import algorithm
from tests.ops.case import const, replace_leaves
from tests.ops.cases import ALL_CASES
from tests.ops.harness import arrays_of, assert_close, assert_same_bits, bound, cotangents, reference_outputs, run

CASES = pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


@CASES
@DTYPES
def test_matches_reference(case, dtype):
    ys = run(case, dtype).ys
    floating = any(a.dtype.kind == "f" for a in arrays_of(case))
    with no_grad():
        again = run(case, dtype).ys
    for y, other in zip(ys, again, strict=True):
        assert type(y) is np.ndarray
        assert y.dtype.kind != "f" or y.dtype == dtype or not floating, f"{y.dtype} from {dtype}"
        assert_same_bits(other, y, "without gradients")
    if case.check is not None:
        args, kwargs = case.draw()
        plain = lambda leaf: leaf.array if isinstance(leaf, const) else leaf  # noqa: E731
        case.check(ys[0], *replace_leaves(args, plain), **replace_leaves(kwargs, plain))
        return
    expected = reference_outputs(case)
    assert len(ys) == len(expected)
    for i, (y, e, allowed) in enumerate(zip(ys, expected, bound(case, expected, dtype), strict=True)):
        assert_close(y, e, allowed, f"output {i}")


@pytest.mark.parametrize("case", [c for c in ALL_CASES if c.torch], ids=lambda case: case.name)
def test_matches_torch(case):
    torch = pytest.importorskip("torch")
    ours = run(case)
    made = {}

    def tensor(leaf):
        array = leaf.array if isinstance(leaf, const) else leaf
        if id(array) not in made:
            wanted = array.dtype.kind == "f" and not isinstance(leaf, const)
            made[id(array)] = torch.from_numpy(array.copy()).requires_grad_(wanted)
        return made[id(array)]

    args, kwargs = case.draw()
    args, kwargs = replace_leaves(args, tensor), replace_leaves(kwargs, tensor)
    if case.inplace:
        args = (args[0] * 1, *args[1:])
    function = case.torch if callable(case.torch) else _by_name(torch, case.torch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's advice to its users
        theirs = function(torch, *args, **kwargs) if callable(case.torch) else function(*args, **kwargs)
    theirs = list(theirs) if isinstance(theirs, (tuple, list)) else [theirs]
    expected = [y.detach().numpy() for y in theirs]
    for i, (y, e, allowed) in enumerate(zip(ours.ys, expected, bound(case, expected, np.float64), strict=True)):
        assert_close(y, e, 8 * np.asarray(allowed), f"output {i}")
    if not ours.has_gradient:
        return
    gys = cotangents(ours.outputs)
    ours.backward(gys)
    roots = [(y, torch.from_numpy(gy.copy())) for y, gy in zip(theirs, gys, strict=True) if y.requires_grad]
    torch.autograd.backward([y for y, _ in roots], [gy for _, gy in roots])
    for i, (gx, t) in enumerate(zip(ours.gradients, [t for t in made.values() if t.requires_grad], strict=True)):
        e = np.zeros(t.shape) if t.grad is None else t.grad.numpy()
        gx = np.zeros(t.shape) if gx is None else gx
        assert_close(gx, e, case.torch_tolerance * np.max(np.abs(e), initial=1e-30, where=np.isfinite(e)), f"gradient {i}")


def _by_name(torch, name: str):
    found = torch
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("case", [c for c in ALL_CASES if c.nan and c.reference], ids=lambda case: case.name)
@DTYPES
def test_nan_stays_where_it_belongs(case, dtype):
    """One NaN in one input makes NaN exactly where the reference has it: the receptive field, no more and no less.

    (Winograd's transforms spread it over a tile, which is documented and tested with the kernels: exact convolutions do not.)
    """
    arrays = arrays_of(case)
    for i, a in enumerate(arrays):
        if a.dtype.kind != "f" or not a.size:
            continue
        for at in {0, a.size // 3, a.size - 1}:
            changed = a.copy()
            changed.flat[at] = np.nan
            values = [changed if b is a else b for b in arrays]
            with no_grad(), algorithm(exact=True):
                ys = run(case, dtype, values=values).ys
            if WEIGHTS.get(case.op) == i:
                _check_weight_nan(case, values, at, ys[0])
                continue
            for y, e in zip(ys, reference_outputs(case, values), strict=True):
                if y.dtype.kind == "f":
                    assert np.array_equal(np.isnan(y), np.isnan(e)), f"NaN in element {at} of array {i}"


WEIGHTS = {"conv2d": 1, "conv_transpose2d": 1}  # where the weight stands among the arrays


def _check_weight_nan(case, values, at, y):
    """NaN wherever that weight meets a pixel; where it meets only padding an algorithm may skip it, or multiply it by 0."""
    x, weight, *rest = values
    tap = np.zeros_like(weight)
    tap.flat[at] = 1
    (reached,) = reference_outputs(case, [np.ones_like(x), tap, *(np.zeros_like(a) for a in rest)])
    channels = reached.any(axis=(0, 2, 3), keepdims=True)
    assert np.isnan(y[reached != 0]).all()
    assert not np.isnan(y[~np.broadcast_to(channels, y.shape)]).any()
