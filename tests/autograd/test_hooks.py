"""Hooks of tensors: what they see, what they replace, their order, their removal, and what wrong ones do not break."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from tests.autograd.helpers import leaf

# ---- what a hook sees --------------------------------------------------------------------------------------------------


def test_a_hook_of_a_leaf_sees_the_sum_of_all_paths_once():
    x, seen = leaf(1, 2), []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x * 2 + x * x).sum().backward()
    assert seen == [[4, 6]]
    (x * 3).sum().backward()
    assert seen == [[4, 6], [3, 3]]  # the gradient of this backward, not the sum in .grad
    assert x.grad.tolist() == [7, 9]


def test_a_hook_of_a_computed_tensor_sees_the_sum_of_all_paths_once():
    x, seen = leaf(1, 2), []
    y = x * 2
    y.register_hook(lambda g: seen.append(g.tolist()))
    (y * 3 + y * y).sum().backward()
    assert seen == [[3 + 4, 3 + 8]]
    assert y.grad is None


def test_what_a_hook_gets_looks_like_the_gradient():
    x, seen = mg.zeros(2, 3, dtype=mg.float64, requires_grad=True), []
    y = x * 2
    for t in (x, y):
        t.register_hook(seen.append)
    y.sum().backward()
    assert [(type(g), g.shape, g.dtype, g.requires_grad, g.is_leaf) for g in seen] == [
        (mg.Tensor, (2, 3), np.float64, False, True)
    ] * 2


def test_hooks_of_the_root_and_of_one_of_several_outputs():
    x, seen = leaf(1, 2, 3), []
    first, second, third = x.unbind()
    second.register_hook(lambda g: seen.append(("second", g.item())))
    third.register_hook(lambda g: seen.append(("third", g.item())))  # not used: never called
    y = first * 2 + second * 5
    y.register_hook(lambda g: seen.append(("root", g.item())))
    y.backward()
    assert seen == [("root", 1), ("second", 5)]
    assert x.grad.tolist() == [2, 5, 0]


def test_hooks_compute_without_being_recorded():
    x, w, inside = leaf(1, 2), leaf(3, 4), []

    def hook(g):
        inside.append((mg.is_grad_enabled(), (g * w).requires_grad))
        return g * w

    x.register_hook(hook)
    (x * 2).sum().backward()
    assert inside == [(False, False)]
    assert mg.is_grad_enabled()
    assert x.grad.tolist() == [6, 8]
    assert not x.grad.requires_grad
    assert w.grad is None


def test_a_gradient_that_a_hook_kept_is_its_own():
    """What happens to .grad later does not reach it, nor the other way round."""
    x, kept = leaf(1, 2), []
    x.register_hook(kept.append)
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    x.grad.zero_()
    assert [g.tolist() for g in kept] == [[2, 2], [3, 3]]
    kept[0].fill_(9.0)
    assert x.grad.tolist() == [0, 0]


# ---- replacing ---------------------------------------------------------------------------------------------------------


def test_replacement_at_a_leaf():
    x = leaf(1, 2)
    x.register_hook(lambda g: g * 10)
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert x.grad.tolist() == [40, 40]


def test_replacement_on_the_way_reaches_what_lies_behind():
    x, w = leaf(1, 2), leaf(3, 4)
    y = x * 2
    y.register_hook(lambda g: g.clamp(max=3.5))
    (y * w).sum().backward()
    assert x.grad.tolist() == [6, 7]
    assert w.grad.tolist() == [2, 4]  # not behind y


def test_a_replaced_gradient_is_not_shared():
    x, mine = leaf(1, 2), mg.tensor([5.0, 6.0])
    x.register_hook(lambda g: mine)
    (x * 2).sum().backward()
    mine.zero_()
    assert x.grad.tolist() == [5, 6]


def test_a_replacement_takes_the_memory_order_of_the_tensor():
    x = mg.Tensor(np.zeros((2, 3, 4), np.float32).transpose(0, 2, 1), requires_grad=True)
    x.register_hook(lambda g: mg.ones(2, 4, 3))
    (x * 2).sum().backward()
    assert x.grad.data.strides == x.data.strides


def test_hooks_act_in_grad_too():
    x = leaf(1, 2)
    y = x * 3
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    gx, gy = mg.grad(y.sum(), [x, y])
    assert gx.tolist() == [31, 31]
    assert gy.tolist() == [10, 10]


def test_retain_grad_keeps_what_the_hooks_made():
    """Whichever was asked for first, as in PyTorch."""
    torch = pytest.importorskip("torch")

    def kept(library, retain_first):
        x = library.ones(2, requires_grad=True)
        y = x * 2
        if retain_first:
            y.retain_grad()
        y.register_hook(lambda g: g * 10)
        if not retain_first:
            y.retain_grad()
        (y * 3).sum().backward()
        return y.grad.tolist(), x.grad.tolist()

    for first in (True, False):
        assert kept(mg, first) == kept(torch, first) == ([30, 30], [60, 60])


def test_hooks_from_before_and_after_an_in_place_change():
    """A hook belongs to the value that the tensor had when it was registered, as in PyTorch."""
    torch = pytest.importorskip("torch")

    def seen(library):
        found = []
        y = library.ones(1, requires_grad=True) * 2
        y.register_hook(lambda g: found.append(("before", g.tolist())))
        y *= 3
        y.register_hook(lambda g: found.append(("after", g.tolist())))
        (y * 5).sum().backward()
        return found

    assert seen(mg) == seen(torch) == [("after", [5]), ("before", [15])]


# ---- order and removal -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 1], ids=["leaf", "computed"])
def test_hooks_run_in_the_order_of_registration(make):
    x = leaf(1, 2)
    t = make(x)
    t.register_hook(lambda g: g + 1)
    t.register_hook(lambda g: None)
    t.register_hook(lambda g: g * 10)
    (t * 2).sum().backward()
    assert x.grad.tolist() == [30, 30]


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 1], ids=["leaf", "computed"])
def test_removal(make):
    x = leaf(1, 2)
    t = make(x)
    handles = [t.register_hook(lambda g, k=k: g * k) for k in (2, 3, 5)]
    handles[1].remove()
    handles[1].remove()  # harmless
    y = (t * 1).sum()
    y.backward(retain_graph=True)
    assert x.grad.tolist() == [10, 10]
    for handle in handles:
        handle.remove()
    y.backward()
    assert x.grad.tolist() == [11, 11]


def test_a_handle_is_a_context_manager():
    x, seen = leaf(1, 2), []
    with x.register_hook(seen.append) as handle:
        (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert len(seen) == 1
    handle.remove()


def test_a_hook_may_remove_itself_and_add_another():
    x, seen = leaf(1, 2), []

    def once(g):
        seen.append("once")
        handle.remove()
        x.register_hook(lambda g: seen.append("later"))

    handle = x.register_hook(once)
    for _ in range(2):
        (x * 2).sum().backward()
    assert seen == ["once", "later"]


def test_hooks_run_again_with_a_retained_graph():
    x, seen = leaf(1, 2), []
    y = x * 2
    y.register_hook(lambda g: seen.append(g.tolist()))
    z = (y * 3).sum()
    z.backward(retain_graph=True)
    z.backward()
    assert seen == [[3, 3], [3, 3]]


# ---- wrong hooks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 1], ids=["leaf", "computed"])
@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (mg.ones(3), ValueError, r"must return shape \(2,\), got \(3,\)"),
        (mg.ones(2, 1), ValueError, r"must return shape \(2,\), got \(2, 1\)"),
        (mg.tensor(1.0), ValueError, r"must return shape \(2,\), got \(\)"),
        (mg.ones(2, dtype=mg.float64), TypeError, "must return dtype float32, got float64"),
        (1.0, TypeError, "must return None or a Tensor, got float"),
        ([1.0, 1.0], TypeError, "must return None or a Tensor, got list"),
    ],
    ids=["longer", "more dimensions", "number of dimensions", "dtype", "float", "list"],
)
def test_a_wrong_result_changes_no_gradient(make, result, error, message):
    x, other = leaf(1, 2), leaf(3, 4)
    t = make(x)
    t.register_hook(lambda g: result)
    with pytest.raises(error, match=f"a gradient hook {message}"):
        (t * other).sum().backward()
    assert (x.grad, other.grad) == (None, None)


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 1], ids=["leaf", "computed"])
def test_an_exception_changes_no_gradient(make):
    """Also not of leaves that were reached before; the next backward works again."""
    x, early, late = leaf(1, 2), leaf(3, 4), leaf(5, 6)
    (x * early * late).sum().backward()
    before = [t.grad.tolist() for t in (x, early, late)]

    def fail(g):
        raise KeyError("in the hook")

    t = make(x)
    handle = t.register_hook(fail)
    kept = t * early
    kept.retain_grad()
    with pytest.raises(KeyError, match="in the hook"):
        (kept * late).sum().backward()
    assert [t.grad.tolist() for t in (x, early, late)] == before
    assert kept.grad is None
    assert mg.is_grad_enabled()
    handle.remove()
    (x * early * late).sum().backward()
    assert [t.grad.tolist() for t in (x, early, late)] == [[2 * g for g in gs] for gs in before]


def test_hooks_need_a_gradient_and_a_function():
    with pytest.raises(RuntimeError, match=r"register_hook\(\): this tensor does not require grad"):
        mg.ones(1).register_hook(print)
    with pytest.raises(TypeError, match="a hook must be callable, got str"):
        leaf(1).register_hook("print")
