"""Gradients that kernels made in memory that is used again: kept without a copy if they are nobody else's, else copied."""

from __future__ import annotations

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F

SHAPE = (64, 32, 3, 3)


def weight():
    return mg.tensor(np.random.default_rng(0).standard_normal(SHAPE), dtype=mg.float32, requires_grad=True)


def loss(w):
    x = mg.tensor(np.random.default_rng(1).standard_normal((2, 32, 8, 8)), dtype=mg.float32)
    return F.conv2d(x, w, padding=1).sum()


def test_no_copy():
    w = weight()
    loss(w).backward()
    assert w.grad.data.base is not None
    assert w.grad.data.base.dtype == np.uint8
    assert w.grad.data.flags.c_contiguous


def test_what_a_hook_keeps_is_another_array():
    w, kept = weight(), []
    w.register_hook(kept.append)
    loss(w).backward()
    assert not np.shares_memory(kept[0].data, w.grad.data)
    np.testing.assert_array_equal(kept[0].data, w.grad.data)


def test_steps_do_not_disturb_one_another():
    """A gradient that is kept stays what it was when others follow."""
    w = weight()
    loss(w).backward()
    first, copy = w.grad, w.grad.data.copy()
    w.grad = None
    (3 * loss(w)).backward()
    np.testing.assert_array_equal(first.data, copy)
    assert not np.shares_memory(first.data, w.grad.data)
    np.testing.assert_allclose(w.grad.data, 3 * copy, rtol=1e-5, atol=1e-3)
    loss(w).backward()
    np.testing.assert_allclose(w.grad.data, 4 * copy, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(first.data, copy)


def test_two_parameters_with_one_gradient():
    """What a sum hands to both of its terms is one array."""
    v, w = weight(), weight()
    loss(v + w).backward()
    assert not np.shares_memory(v.grad.data, w.grad.data)
    np.testing.assert_array_equal(v.grad.data, w.grad.data)
