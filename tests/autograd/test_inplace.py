"""In-place changes: damage to what a backward needs is noticed and named; what is allowed gives the right gradient."""

from __future__ import annotations

import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F
from tests.autograd.helpers import leaf

DAMAGED = "an array that its backward needs was changed in place"

# Every way in which the memory of a tensor w of shape (4,), which requires no gradient, can be changed.
CHANGES = {
    "+=": lambda w: w.__iadd__(1),
    "-=": lambda w: w.__isub__(1),
    "*=": lambda w: w.__imul__(2),
    "/=": lambda w: w.__itruediv__(2),
    "**=": lambda w: w.__ipow__(2),
    "w[0] = 5": lambda w: w.__setitem__(0, 5.0),
    "w[mask] = 5": lambda w: w.__setitem__(w > 0, 5.0),
    "w[[0, 1]] = 5": lambda w: w.__setitem__([0, 1], mg.tensor([5.0, 6.0])),
    "fill_": lambda w: w.fill_(3.0),
    "zero_": lambda w: w.zero_(),
    "copy_": lambda w: w.copy_(mg.ones(4)),
    "clamp_": lambda w: w.clamp_(0, 1),
    "relu_": lambda w: w.relu_(),
    "exp_": lambda w: w.exp_(),
    "uniform_": lambda w: w.uniform_(),
    "normal_": lambda w: w.normal_(),
    "masked_fill_": lambda w: w.masked_fill_(w > 0, 1.0),
    "scatter_": lambda w: w.scatter_(0, mg.tensor([0]), mg.ones(1)),
    "scatter_add_": lambda w: w.scatter_add_(0, mg.tensor([0]), mg.ones(1)),
    "bump_version": lambda w: w.bump_version(),
    "a slice": lambda w: w[1:].__iadd__(1),
    "a view of a view": lambda w: w.view(2, 2).t()[0].fill_(1.0),
    "reshape": lambda w: w.reshape(2, 2).__iadd__(1),
    "flatten": lambda w: w.flatten().__iadd__(1),
    "unsqueeze": lambda w: w.unsqueeze(0).__iadd__(1),
    "unbind": lambda w: w.unbind()[3].__iadd__(1),
    "iteration": lambda w: [row.__iadd__(1) for row in w],
    "split": lambda w: w.split(2)[1].__iadd__(1),
    "detach": lambda w: w.detach().__iadd__(1),
    "a view of detach": lambda w: w.detach()[2:].zero_(),
    "as_tensor": lambda w: mg.as_tensor(w).__iadd__(1),
    "to": lambda w: w.to(mg.float32).__iadd__(1),
    "nn.Parameter": lambda w: nn.Parameter(w).detach().__iadd__(1),
    "nn.init": lambda w: nn.init.zeros_(w),
    "relu(inplace=True)": lambda w: F.relu(w, inplace=True),
    "dropout(inplace=True)": lambda w: F.dropout(w, inplace=True),
}


# ---- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_of_a_saved_input_is_noticed(change):
    x, w = leaf(1, 2, 3, 4), mg.tensor([1.0, 2.0, 3.0, 4.0])
    y = (x * w).sum()
    change(w)
    with pytest.raises(RuntimeError, match=rf"^mul: {DAMAGED}.*\(version \d+, saved at 0\).*clone\(\) first"):
        y.backward()
    assert x.grad is None


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_of_what_nothing_saved_do_no_harm(change):
    x, w = leaf(1, 2, 3, 4), mg.tensor([1.0, 2.0, 3.0, 4.0])
    y = (x + w).sum()
    change(w)
    y.backward()
    assert x.grad.tolist() == [1, 1, 1, 1]


def test_a_saved_output_is_noticed():
    x = leaf(1, 2)
    y = x.exp()
    y += 1
    with pytest.raises(RuntimeError, match=f"^exp: {DAMAGED}"):
        y.sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("view", [lambda y: y.detach(), lambda y: y.detach()[:1], lambda y: y.detach().view(2, 1)])
def test_a_saved_output_is_noticed_through_detached_views(view):
    x = leaf(1, 2)
    y = x.exp()
    z = y.sum()
    view(y).zero_()
    with pytest.raises(RuntimeError, match=f"^exp: {DAMAGED}"):
        z.backward()


def test_the_input_of_a_view_is_noticed():
    """The op saved a view; the tensor that it is a view of changes."""
    x, base = leaf(1, 2), mg.tensor([1.0, 2.0, 3.0, 4.0])
    y = (x * base[1:3]).sum()
    base[0] = 9.0  # not even in the view, as in PyTorch
    with pytest.raises(RuntimeError, match=f"^mul: {DAMAGED}"):
        y.backward()


def test_a_saved_leaf_that_is_updated_without_recording():
    w = leaf(1, 2)
    y = (w * w).sum()
    with mg.no_grad():
        w -= 0.1
    with pytest.raises(RuntimeError, match=f"^mul: {DAMAGED}"):
        y.backward()
    assert w.grad is None


@pytest.mark.parametrize("change", ["step", "load_state_dict", "init", "data"])
def test_a_model_that_changes_between_forward_and_backward(change):
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    x = mg.ones(4, 2)
    net(x).sum().backward()
    second = net(x).sum()
    before = [p.grad.tolist() for p in net.parameters()]
    if change == "step":
        optimizer.step()
    elif change == "load_state_dict":
        net.load_state_dict({key: value + 1 for key, value in net.state_dict().items()})
    elif change == "init":
        nn.init.ones_(net[1].weight)
    else:
        net[1].weight.data[0] = 5.0  # the array itself: only bump_version() can tell
        net[1].weight.bump_version()
    with pytest.raises(RuntimeError, match=f"^linear: {DAMAGED}.*optimizer.step"):
        second.backward()
    assert [p.grad.tolist() for p in net.parameters()] == before


def test_a_step_after_backward_is_what_it_should_be():
    net = nn.Linear(2, 1)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(mg.ones(4, 2)).sum().backward()
        optimizer.step()
    assert net.weight.grad.tolist() == [[4, 4]]


def test_buffers_that_change_in_the_forward_pass():
    """A normalization in training mode runs twice before the first backward; its statistics are not what it saved."""
    images = mg.randn(3, 2, 4, 4)

    def gradients(interleaved):
        net, x = nn.BatchNorm2d(2), images.clone().requires_grad_()
        if interleaved:
            losses = [net(x * n).pow(3).sum() for n in (1, 2)]
            for loss in losses:
                loss.backward()
        else:
            for n in (1, 2):
                net(x * n).pow(3).sum().backward()
        return x.grad.tolist(), net.running_mean.tolist()

    assert gradients(True) == gradients(False)


def test_retain_graph_and_a_change_between_two_walks():
    x, w = leaf(1, 2), mg.tensor([3.0, 4.0])
    y = (x * w).sum()
    y.backward(retain_graph=True)
    w += 1
    with pytest.raises(RuntimeError, match=f"^mul: {DAMAGED}"):
        y.backward()
    assert x.grad.tolist() == [3, 4]


def test_the_place_is_named_under_detect_anomaly():
    x, w = leaf(1, 2), mg.tensor([3.0, 4.0])
    with mg.autograd.detect_anomaly():
        y = x * w  # made here
    w += 1
    with pytest.raises(RuntimeError, match=r"made at .*test_inplace\.py, line \d+: y = x \* w  # made here"):
        y.sum().backward()


# ---- allowed -----------------------------------------------------------------------------------------------------------


def test_in_place_results_have_the_right_gradient():
    x, z = leaf(1, 2), leaf(3, 5)
    y = x * 2
    y += z
    y -= 1
    y *= z
    y /= 4.0
    assert y.tolist() == [3, 40 / 4]
    y.sum().backward()
    assert x.grad.tolist() == [2 * 3 / 4, 2 * 5 / 4]
    assert z.grad.tolist() == [(4 + 3) / 4, (8 + 5) / 4]


def test_the_tensor_may_be_its_own_operand():
    x = leaf(1, 3)
    y = x * 2
    y *= y
    y += y
    y.sum().backward()
    assert x.grad.tolist() == [16 * 1, 16 * 3]  # d(8 x^2)


def test_assignment_to_a_part():
    x, v = leaf(1, 2, 3), leaf(10)
    y = x * 2
    y[1] = v * 3
    y.sum().backward()
    assert x.grad.tolist() == [2, 0, 2]
    assert v.grad.tolist() == [3]


def test_assignment_of_one_part_to_another():
    """The value is a view of the tensor that it is written into."""
    x = leaf(1, 2, 3)
    y = x * 2
    y[0] = y[2]
    y[1:] = y[:2] * 1
    assert y.tolist() == [6, 6, 4]
    (y * mg.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [0, 200, 22]


def test_a_tensor_without_gradient_takes_one():
    out, x = mg.zeros(3), leaf(1, 2)
    out[:2] = x * 3
    assert out.requires_grad
    out += 1
    out.sum().backward()
    assert x.grad.tolist() == [3, 3]
    assert out.tolist() == [4, 7, 1]


def test_inplace_activations_in_a_model():
    def gradient(inplace):
        mg.manual_seed(1)
        net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=inplace), nn.Linear(8, 2), nn.LeakyReLU(inplace=inplace))
        x = mg.randn(4, 3, requires_grad=True)
        net(x).sum().backward()
        return x.grad.tolist()

    assert gradient(True) == gradient(False)


def test_filling_cuts_the_gradient():
    x = leaf(1, 2)
    y = x * 2
    y.zero_()
    y += x
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]


# ---- leaves ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [CHANGES[name] for name in ("+=", "*=", "w[0] = 5", "zero_", "copy_", "clamp_", "uniform_")])
def test_a_leaf_that_requires_grad_is_not_changed_while_recording(change):
    w = leaf(1, 2, 3, 4)
    with pytest.raises(RuntimeError, match=r"leaf tensor that requires grad cannot be changed in place.*with mg.no_grad\(\)"):
        change(w)
    assert w.tolist() == [1, 2, 3, 4]
    with mg.no_grad():
        change(w)
    assert w.is_leaf
    assert w.requires_grad
    assert w.tolist() != [1, 2, 3, 4]
    (w * 2).sum().backward()
    assert w.grad.tolist() == [2, 2, 2, 2]


def test_an_update_by_hand():
    w = leaf(1, 2)
    (w * w).sum().backward()
    with mg.no_grad():
        w -= 0.5 * w.grad
        w.grad.zero_()
    assert w.tolist() == [0, 0]
    assert w.grad.tolist() == [0, 0]


# ---- failures, copies, dtypes ---------------------------------------------------------------------------------------------


def test_clone_keeps_the_gradient_and_protects_the_values():
    x, w = leaf(1, 2), mg.tensor([3.0, 4.0])
    y = (x * w.clone()).sum() + x.clone().sum()
    w += 100
    y.backward()
    assert x.grad.tolist() == [4, 5]


def test_a_failing_change_changes_nothing():
    x, w = leaf(1, 2), mg.tensor([3.0, 4.0])
    y = (x * w).sum()
    for change, error in [
        (lambda: w.add_(mg.ones(3)), ValueError),
        (lambda: w.mul_("a"), TypeError),
        (lambda: w.__setitem__(5, 1.0), IndexError),
        (lambda: w.__setitem__([0, 2], 1.0), IndexError),
        (lambda: w.__setitem__(0, mg.ones(2)), ValueError),
        (lambda: w.uniform_(3, 2), ValueError),
    ]:
        with pytest.raises(error):
            change()
    assert w.tolist() == [3, 4]
    y.backward()  # no version was counted
    assert x.grad.tolist() == [3, 4]


def test_an_integer_tensor_takes_no_gradient():
    n = mg.zeros(2, dtype=mg.int64)
    for change in (lambda: n.__iadd__(leaf(1, 2)), lambda: n.__setitem__(0, leaf(1)[0])):
        with pytest.raises((RuntimeError, TypeError), match="int64"):
            change()
    assert n.tolist() == [0, 0]


def test_retain_grad_follows_the_tensor():
    """It is the gradient of the value that the tensor has now, as in PyTorch."""
    torch = pytest.importorskip("torch")

    def kept(library):
        x = library.ones(2, requires_grad=True)
        y = x * 2
        y.retain_grad()
        y *= 3
        (y * 5).sum().backward()
        return y.grad.tolist(), x.grad.tolist()

    assert kept(mg) == kept(torch) == ([5, 5], [30, 30])
