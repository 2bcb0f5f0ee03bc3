"""Backward: sums where paths meet, the gradient from above, failures on the way, and what .grad holds afterwards."""

from __future__ import annotations

import itertools
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops._base import record
from tests.autograd.helpers import leaf


def fails(x):
    """An op without registration: x, with a backward that raises."""

    def backward(gy):
        raise ArithmeticError("no way back")

    return record(x.data.copy(), (x,), backward)


# ---- sums where paths meet ---------------------------------------------------------------------------------------------


def test_gradients_add_up_where_paths_meet():
    a = leaf(1, 2)
    b = a + a
    c = b + b
    c.sum().backward()
    assert a.grad.tolist() == [4, 4]


def test_a_diamond_is_walked_once_per_node():
    """Each node waits for all its gradients: after 40 doublings a walk per path would never end."""
    x = leaf(1)
    y = x
    for _ in range(40):
        y = y + y
    y.backward()
    assert x.grad.tolist() == [2.0**40]


def test_paths_of_different_lengths_meet():
    x = leaf(3)
    y = x * x
    z = y * x + y + x  # x^3 + x^2 + x
    z.backward()
    assert x.grad.tolist() == [3 * 9 + 2 * 3 + 1]


def test_a_leaf_that_is_used_as_is():
    x = leaf(1, 2)
    x.backward(mg.tensor([3.0, 4.0]))
    assert x.grad.tolist() == [3, 4]
    y = leaf(5)
    y.backward()
    assert y.grad.tolist() == [1]


def test_broadcast_operands_get_sums():
    a, b = leaf(1, 2, 3), mg.tensor(2.0, requires_grad=True)
    (a * b).sum().backward()
    assert b.grad.tolist() == 6
    assert b.grad.shape == ()


def test_gradients_accumulate_over_calls_in_the_same_tensor():
    x = leaf(1, 2)
    (x * 2).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    assert x.grad is first
    assert first.tolist() == [5, 5]
    x.grad = None
    (x * 4).sum().backward()
    assert x.grad.tolist() == [4, 4]
    assert first.tolist() == [5, 5]


def test_only_what_requires_grad_gets_one():
    x, w = mg.ones(2), leaf(1, 1)
    frozen = mg.nn.Parameter(mg.ones(2), requires_grad=False)
    y = x * w * frozen
    assert y.requires_grad
    assert not (x * frozen).requires_grad
    y.sum().backward()
    assert (x.grad, frozen.grad) == (None, None)
    assert w.grad.tolist() == [1, 1]


def test_the_op_may_give_no_gradient():
    """Where an op returns None for an input nothing arrives, and .grad stays None."""
    x = leaf(1, 2)
    y = x * 2
    y.fill_(3.0)
    y.sum().backward()
    assert x.grad is None


def test_outputs_that_are_not_used():
    x = mg.tensor([[3.0, 1.0], [2.0, 4.0]], requires_grad=True)
    left, right = x.unbind(1)
    (right * 10).sum().backward()
    assert x.grad.tolist() == [[0, 10], [0, 10]]
    assert left.grad is None


# ---- the gradient from above -------------------------------------------------------------------------------------------


def test_gradient_argument():
    x = leaf(1, 2)
    y = x * x
    y.backward(mg.tensor([10.0, 100.0]))
    assert x.grad.tolist() == [20, 400]
    x.grad = None
    (x * x).backward(gradient=np.array([1.0, 0.0], np.float32))
    assert x.grad.tolist() == [2, 0]


def test_gradient_takes_the_dtype_of_its_tensor():
    x, seen = leaf(1, 2), []
    y = x * 2
    y.register_hook(lambda g: seen.append(g.dtype))
    y.backward(mg.tensor([1.0, 2.0], dtype=mg.float64))
    assert seen == [np.float32]
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [2, 4]
    number = mg.tensor(3.0, requires_grad=True)
    number.backward(mg.tensor(1, dtype=mg.int64))
    assert number.grad.dtype == np.float32


def test_wrong_gradient_argument():
    x = leaf(1, 2)
    for wrong in (mg.ones(3), mg.ones(2, 1), mg.tensor(1.0), [1.0, 2.0], 1.0):
        with pytest.raises(ValueError, match=r"gradient must be a tensor of shape \(2,\), got"):
            (x * 2).backward(wrong)
    assert x.grad is None


def test_a_gradient_is_needed_for_more_than_one_element():
    x = leaf(1, 2)
    with pytest.raises(RuntimeError, match=r"shape \(2,\) needs a gradient.*loss.mean\(\)"):
        (x * 2).backward()
    assert x.grad is None


def test_backward_where_nothing_requires_grad():
    with pytest.raises(RuntimeError, match="does not require grad"):
        mg.ones(1).backward()
    with mg.no_grad():
        y = leaf(1) * 2
    with pytest.raises(RuntimeError, match="does not require grad"):
        y.backward()
    with pytest.raises(RuntimeError, match="does not require grad"):
        leaf(1).detach().backward()


def test_second_order_is_refused():
    x = leaf(1)
    y = x * x
    with pytest.raises(NotImplementedError, match="first-order gradients only: create_graph must be False"):
        y.backward(create_graph=True)
    with pytest.raises(NotImplementedError, match="first-order gradients only"):
        mg.grad(y, x, create_graph=True)
    y.backward()  # the graph is still there
    assert x.grad.tolist() == [2]
    assert not x.grad.requires_grad


# ---- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_a_failure_on_the_way_changes_no_gradient(again):
    """w is reached before the failing node and x behind it; neither gets anything."""
    x, w = leaf(1, 2), leaf(3, 4)
    if again:
        (x * w).sum().backward()
    before = [None if t.grad is None else t.grad.tolist() for t in (x, w)]
    kept = w * 5
    kept.retain_grad()
    with pytest.raises(ArithmeticError, match="no way back"):
        (fails(x) * kept * w).sum().backward()
    assert [None if t.grad is None else t.grad.tolist() for t in (x, w)] == before
    assert kept.grad is None


def test_a_grad_that_does_not_fit_changes_no_other():
    """What somebody assigned to .grad is looked at before the first gradient is stored."""
    for wrong in (mg.ones(3), mg.ones(2, dtype=mg.float64), np.ones(2, np.float32), 0.0):
        x, w, y = leaf(1, 2), leaf(3, 4), leaf(5, 6)
        w.grad = wrong
        with pytest.raises(RuntimeError, match=r"\.grad of a tensor \(float32 of shape \(2,\)\) was set to .*set it to None"):
            (x * w * y).sum().backward()
        assert (x.grad, y.grad) == (None, None)
        assert w.grad is wrong


# ---- what .grad is -----------------------------------------------------------------------------------------------------


def layouts(dtype):
    """Leaves that lie in memory in different ways."""
    array = np.arange(48, dtype=dtype).reshape(2, 3, 2, 4)
    yield array.copy()
    yield array.copy().transpose(0, 3, 1, 2)  # channels-last
    yield np.asfortranarray(array)
    yield np.zeros((2, 6, 2, 8), dtype)[:, ::2, :, ::2]
    yield np.zeros((0, 3), dtype)
    yield np.zeros((), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("use", [lambda x: x * x, lambda x: x.clone(), lambda x: x.sum(), lambda x: x + x.contiguous()])
def test_gradients_look_like_their_tensors(dtype, use):
    for array in layouts(dtype):
        x = mg.Tensor(array, requires_grad=True)
        x.retain_grad()
        use(x).sum().backward()
        assert x.grad.shape == x.shape
        assert x.grad.dtype == x.dtype
        expected = np.empty_like(array).strides  # a gap between elements is not repeated
        assert x.grad.data.strides == expected
        use(x).sum().backward()
        assert x.grad.data.strides == expected


def test_no_two_gradients_share_memory():
    """Sums, views and identities pass one array on to many places; every .grad gets its own."""
    a, b, c, d = (mg.ones(2, 3, requires_grad=True) for _ in range(4))
    above = mg.ones(2, 3)
    kept = a + b
    kept.retain_grad()
    view = d.view(3, 2)
    view.retain_grad()
    y = kept + c.t().t() + view.view(2, 3)
    y.retain_grad()
    y.backward(above)
    arrays = [t.grad.data for t in (a, b, c, d, kept, view, y)] + [above.data]
    for one, other in itertools.combinations(arrays, 2):
        assert not np.shares_memory(one, other)
    a.grad.fill_(7.0)
    assert b.grad.tolist() == [[1, 1, 1]] * 2
    assert above.tolist() == [[1, 1, 1]] * 2


def test_the_gradient_from_above_may_be_the_tensor_itself():
    x = leaf(1, 2)
    y = x * 2
    y.backward(y)
    assert x.grad.tolist() == [4, 8]
    assert y.tolist() == [2, 4]
    z = leaf(3)
    z.backward(z)
    assert not np.shares_memory(z.grad.data, z.data)


def test_only_leaves_keep_gradients_unless_asked():
    x = leaf(1, 2)
    hidden = x * 2
    kept = hidden * 3
    kept.retain_grad()
    (kept * 5).sum().backward()
    assert hidden.grad is None
    assert kept.grad.tolist() == [5, 5]
    assert x.grad.tolist() == [30, 30]


def test_retain_grad():
    x = leaf(1, 2)
    x.retain_grad()  # a leaf keeps its gradient anyway
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    assert y.grad.tolist() == [2, 2]  # adds up, like that of a leaf
    assert x.grad.tolist() == [4, 4]
    with pytest.raises(RuntimeError, match=r"retain_grad\(\): this tensor does not require grad"):
        mg.ones(1).retain_grad()


def test_retain_grad_does_not_keep_a_tensor_alive():
    x = leaf(1, 2)
    y = x * 2
    y.retain_grad()
    gone, z = weakref.ref(y), (y * 3).sum()
    del y
    z.grad_fn.next_functions[0][0].call = None  # the memory of small ops for the step-by-step view
    assert gone() is None
    z.backward()
    assert x.grad.tolist() == [6, 6]
