"""``mg.grad``: gradients as return values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import minigrad as mg
from tests.autograd.helpers import leaf


def test_gradients_of_leaves_and_of_computed_tensors():
    x, w = leaf(1, 2), leaf(3, 4)
    hidden = x * w
    loss = (hidden * hidden).sum()
    gx, ghidden, gw = mg.grad(loss, [x, hidden, w])
    assert ghidden.tolist() == [2 * 3, 2 * 8]
    assert gx.tolist() == [6 * 3, 16 * 4]
    assert gw.tolist() == [6 * 1, 16 * 2]
    assert (x.grad, w.grad, hidden.grad) == (None, None, None)
    assert not any(g.requires_grad for g in (gx, gw, ghidden))


def test_one_input_gives_a_tuple_of_one():
    x = leaf(1, 2)
    result = mg.grad((x * 3).sum(), x)
    assert isinstance(result, tuple)
    assert [g.tolist() for g in result] == [[3, 3]]


def test_grad_leaves_existing_gradients_alone():
    x, other = leaf(1, 2), leaf(1, 1)
    (x * other).sum().backward()
    kept = x * other
    kept.retain_grad()
    mg.grad((kept * 5).sum(), x)
    assert x.grad.tolist() == [1, 1]
    assert other.grad.tolist() == [1, 2]
    assert kept.grad is None


def test_several_outputs_are_summed():
    x = leaf(1, 2)
    a, b = (x * 2).sum(), x * x
    (g,) = mg.grad([a, b], x, grad_outputs=[None, mg.tensor([10.0, 100.0])])
    assert g.tolist() == [2 + 20, 2 + 400]
    (g,) = mg.grad([x.sum(), x.sum()], x)
    assert g.tolist() == [2, 2]


def test_an_output_that_is_an_input():
    x = leaf(5)
    (g,) = mg.grad(x, x)
    assert g.tolist() == [1]
    y = leaf(1, 2) * 2
    (g,) = mg.grad(y, y, grad_outputs=mg.tensor([3.0, 4.0]))
    assert g.tolist() == [3, 4]


def test_the_same_input_twice():
    x = leaf(1, 2)
    one, two = mg.grad((x * 3).sum(), [x, x])
    assert one.tolist() == two.tolist() == [3, 3]
    assert not np.shares_memory(one.data, two.data)


def test_results_share_no_memory():
    a, b = leaf(1, 2), leaf(3, 4)
    above = mg.ones(2)
    y = a + b
    arrays = [g.data for g in mg.grad(y, [a, b, y], grad_outputs=above)] + [above.data]
    for one, other in itertools.combinations(arrays, 2):
        assert not np.shares_memory(one, other)


def test_results_have_shape_and_dtype_of_the_inputs():
    x = mg.zeros(2, 1, 3, dtype=mg.float64, requires_grad=True)
    y = mg.tensor(2.0, requires_grad=True)
    gx, gy = mg.grad((x.float() * y + mg.ones(4, 1)).sum(), [x, y])
    assert (gx.shape, gx.dtype) == ((2, 1, 3), np.float64)
    assert (gy.shape, gy.dtype) == ((), np.float32)


def test_unused_inputs():
    x, unused = leaf(1, 2), leaf(3)
    with pytest.raises(RuntimeError, match=r"do not depend on inputs\[1\]: pass allow_unused=True"):
        mg.grad((x * 2).sum(), [x, unused])
    gx, nothing = mg.grad((x * 2).sum(), [x, unused], allow_unused=True)
    assert gx.tolist() == [2, 2]
    assert nothing is None
    later = x * 7  # made from x, but not used by the output
    assert mg.grad((x * 2).sum(), later, allow_unused=True) == (None,)


def test_retain_graph():
    x = leaf(1, 2)
    y = (x * x).sum()
    first = mg.grad(y, x, retain_graph=True)[0]
    assert first.tolist() == mg.grad(y, x)[0].tolist() == [2, 4]
    with pytest.raises(RuntimeError, match="freed"):
        mg.grad(y, x)


def test_wrong_arguments():
    x = leaf(1, 2)
    y = x * 2
    for call, error, match in [
        (lambda: mg.grad(y, x), RuntimeError, r"outputs\[0\] has shape \(2,\): give grad_outputs"),
        (lambda: mg.grad(y.sum(), mg.ones(2)), RuntimeError, r"inputs\[0\] does not require grad"),
        (lambda: mg.grad(mg.ones(1), x), RuntimeError, r"outputs\[0\] does not require grad"),
        (lambda: mg.grad(y, x, mg.ones(3)), ValueError, r"grad_outputs\[0\] must be a Tensor of shape \(2,\), got \(3,\)"),
        (lambda: mg.grad(y, x, [mg.ones(2)] * 2), ValueError, r"one tensor for each of the 1 outputs, got 2"),
        (lambda: mg.grad(y, x, [5.0]), ValueError, r"grad_outputs\[0\] must be a Tensor of shape \(2,\), got 5.0"),
        (lambda: mg.grad(y.sum(), [x, "w"]), TypeError, r"inputs\[1\] must be a Tensor, got str"),
        (lambda: mg.grad(y.sum(), 3), TypeError, r"inputs must be a Tensor or a list of Tensors, got int"),
    ]:
        with pytest.raises(error, match=match):
            call()
    assert x.grad is None


def test_the_names_in_autograd():
    assert mg.autograd.grad is mg.grad
    assert mg.autograd.gradcheck is mg.gradcheck


def test_grad_agrees_with_pytorch():
    torch = pytest.importorskip("torch")

    def gradients(library):
        x = library.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=library.float64, requires_grad=True)
        w = library.tensor([0.5, -1.0], dtype=library.float64, requires_grad=True)
        hidden = (x * w).tanh()
        out = hidden.sum(1)
        find = library.autograd.grad
        found = find([out, (w * w).sum()], [w, hidden, x], [library.tensor([1.0, -2.0], dtype=library.float64), None])
        return [g.tolist() for g in found]

    for ours, theirs in zip(gradients(mg), gradients(torch), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
