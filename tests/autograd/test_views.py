"""Tensors that share memory: views, detach, expand, and in-place changes of either side."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from tests.autograd.helpers import leaf

# ---- views -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("take", [lambda y: y[:1], lambda y: y.view(2, 1), lambda y: y.unbind()[0]])
def test_a_view_with_gradient_is_not_changed(take):
    y = leaf(1, 2) * 1
    v = take(y)
    with pytest.raises(RuntimeError, match=r"^add_: a view cannot be changed in place.*x\[index\] = value"):
        v += 1
    with pytest.raises(RuntimeError, match="a view cannot be changed in place"):
        take(leaf(1, 2)).zero_()
    assert y.tolist() == [1, 2]


@pytest.mark.parametrize("take", [lambda t: t[:1], lambda t: t.view(2, 1)[0], lambda t: t.unbind()[0].view(1)])
def test_a_view_takes_no_gradient_behind_the_back_of_its_tensor(take):
    """The tensor that it is a view of would hold values of x without knowing where they came from."""
    out, x = mg.zeros(2), leaf(5)
    row = take(out)
    with pytest.raises(RuntimeError, match="a view cannot be changed in place"):
        row += x
    with mg.no_grad():
        untracked = take(out)
    with pytest.raises(RuntimeError, match="a view cannot be changed in place"):
        untracked[0] = x[0]
    assert out.tolist() == [0, 0]
    row += 1  # no gradient, no harm
    assert out.tolist() == [1, 0]


def test_a_view_whose_tensor_is_gone_is_like_any_tensor():
    x = leaf(1, 2)
    y = mg.zeros(2, 1).view(2)
    y += x * 3
    (y * 2).sum().backward()
    assert x.grad.tolist() == [6, 6]


def test_a_view_taken_before_a_change_is_stale():
    x, other = leaf(1, 2), leaf(1, 1)
    y, total = x * 2, other * 1
    v = y[:1]
    y += 1
    with pytest.raises(RuntimeError, match=r"^mul: .*view of one that was changed.*take the view again"):
        v * 2
    with pytest.raises(RuntimeError, match=r"^add_: .*take the view again"):
        total += v
    assert total.tolist() == [1, 1]  # found out before anything was changed
    assert (y[:1] * 2).tolist() == [6]


def test_a_view_without_gradient_follows_its_tensor():
    x = mg.zeros(4)
    v = x[:2]
    x += 1
    v.requires_grad_()
    (v * 3).sum().backward()
    assert v.tolist() == [1, 1]
    assert v.grad.tolist() == [3, 3]


def test_what_expand_made_is_read_only():
    y = mg.zeros(3).expand(2, 3)
    with pytest.raises(RuntimeError, match=r"read-only.*clone\(\) it first"):
        y += 1
    y = y.clone()
    y += 1
    assert y.tolist() == [[1, 1, 1], [1, 1, 1]]


# ---- detach ------------------------------------------------------------------------------------------


def test_detach_shares_memory_and_the_count_of_changes():
    x = leaf(1, 2)
    d = x.detach()
    assert np.shares_memory(d.data, x.data)
    assert (d.requires_grad, d.is_leaf) == (False, True)
    d += 1
    assert x.tolist() == [2, 3]
    assert x.version is d.version


def test_detach_in_place():
    y = leaf(1, 2) * 2
    assert y.detach_() is y
    assert (y.requires_grad, y.is_leaf) == (False, True)
    with pytest.raises(RuntimeError, match="detach_ of a view"):
        (leaf(1, 2) * 2)[:1].detach_()
