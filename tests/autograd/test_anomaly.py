"""Anomaly detection: the first op that makes a NaN or an infinity is named, with its module and the line of the user."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.autograd import AnomalyError, detect_anomaly, set_detect_anomaly
from tests.autograd.helpers import leaf

HERE = r"at .*test_anomaly\.py, line \d+"


# ---- forward -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "value", "found"),
    [
        (lambda x: x.log(), -1.0, "1 NaN"),
        (lambda x: x.log(), 0.0, "1 Inf"),
        (lambda x: x.sqrt(), -1.0, "1 NaN"),
        (lambda x: x.exp(), 1000.0, "1 Inf"),
        (lambda x: x.reciprocal(), 0.0, "1 Inf"),
        (lambda x: x * 1e38, 1e10, "1 Inf"),
        (lambda x: x / 0, 1.0, "2 Inf"),
        (lambda x: 0.0 / x, 0.0, "1 NaN"),
        (lambda x: x.to(mg.float16), 1e30, "1 Inf"),
    ],
    ids=["log of -1", "log of 0", "sqrt", "exp", "reciprocal", "mul", "div by 0", "0 / 0", "float16"],
)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_forward(op, value, found, requires_grad):
    x = mg.tensor([1.0, value], requires_grad=requires_grad)
    with detect_anomaly(), pytest.raises(AnomalyError, match=rf"\w+: the output \(2,\) holds {found} of 2 values {HERE}"):
        op(x)
    op(x)  # nothing is said when it is off


def test_forward_names_the_op_the_line_and_the_source():
    x = leaf(1, -1)
    with detect_anomaly():
        with pytest.raises(AnomalyError) as caught:
            y = (x * 2).log() * 3  # the line of the fault
        message = str(caught.value)
        assert message.startswith("log: the output (2,) holds 1 NaN of 2 values")
        assert ": y = (x * 2).log() * 3  # the line of the fault" in message
        assert message.endswith("; its inputs were finite")
        bad = mg.tensor([math.nan, math.inf, 1.0])
        with pytest.raises(AnomalyError, match=r"^add: .*1 NaN and 1 Inf of 3.*; input 0 already held 1 NaN and 1 Inf of 3"):
            bad + 1
    y = (x * 2).log()
    assert math.isnan(y[1].item())


def test_forward_in_place():
    for change in (lambda x: x.div_(0), lambda x: x.log_(), lambda x: x.__setitem__(0, math.nan)):
        with detect_anomaly(), pytest.raises(AnomalyError, match=HERE):
            change(mg.tensor([1.0, -1.0]))


def test_several_outputs():
    x = mg.tensor([[1.0, math.inf]], requires_grad=True)
    with detect_anomaly(), pytest.raises(AnomalyError, match=r"^unbind: .*1 Inf of 1 values"):
        x.unbind(1)


def test_finite_values_pass():
    x = leaf(1, 2)
    with detect_anomaly():
        y = (x.exp().log() * mg.tensor([1, 2])).sum()
        y.backward()
        assert (x > 0).tolist() == [True, True]
        assert mg.arange(3).sum().item() == 3
    assert x.grad.tolist() == pytest.approx([1, 2])


# ---- modules -----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(x).log() if (x < 0).any() else self.fc(x)  # the line in forward


def test_the_path_of_the_module_and_the_line_in_it():
    net = nn.Sequential(nn.Identity(), nn.Sequential(Block(), Block()))
    with mg.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
        net[1][0].fc.weight.fill_(-1.0)
    with detect_anomaly(), pytest.raises(AnomalyError) as caught:
        net(mg.ones(1, 2))
    message = str(caught.value)
    assert message.startswith("log: the output (1, 2) holds ")
    assert " in module 1.1 (Block) at " in message
    assert "# the line in forward" in message


def test_a_layer_of_ours_points_at_the_call():
    """Inside minigrad's own modules the line is the one that called them."""
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 1)))
    with mg.no_grad():
        net[1][1].weight.fill_(math.inf)
    with detect_anomaly(), pytest.raises(AnomalyError, match=rf"^linear: .* in module 1\.1 \(Linear\) {HERE}: net\(mg\.ones"):
        net(mg.ones(1, 2))  # called here


def test_no_module_is_named_outside_of_one():
    nn.Linear(2, 2)(mg.ones(1, 2))
    with detect_anomaly(), pytest.raises(AnomalyError, match=f"values {HERE}"):
        mg.zeros(2).log()


# ---- backward ----------------------------------------------------------------------------------------------------------


def test_backward_nan_from_an_infinite_derivative_times_zero():
    """The forward pass is finite: sqrt(0) * 0. Its derivative is infinity times 0."""
    x, w = leaf(0, 4), leaf(1, 1)
    with detect_anomaly():
        y = (x * w).sqrt()  # here
        z = (y * mg.tensor([0.0, 1.0])).sum()
        with pytest.raises(AnomalyError) as caught:
            z.backward()
    message = str(caught.value)
    assert message.startswith("sqrt: backward gave 1 NaN of 2 values in the gradient of input 0, made at ")
    assert "test_anomaly.py, line" in message
    assert ": y = (x * w).sqrt()  # here" in message
    assert message.endswith("; its incoming gradient was finite")
    assert (x.grad, w.grad) == (None, None)


def test_backward_inf():
    x = leaf(0, 4)
    with detect_anomaly():
        y = x.sqrt().sum()
        with pytest.raises(AnomalyError, match=r"^sqrt: backward gave 1 Inf of 2 values in the gradient of input 0"):
            y.backward()
    assert x.grad is None


def test_backward_names_the_module():
    class Root(nn.Module):
        def forward(self, x):
            return x.sqrt()

    net = nn.Sequential(nn.Identity(), Root())
    with detect_anomaly():
        y = net(leaf(0)).sum()
        with pytest.raises(AnomalyError, match=rf"^sqrt: .*, made in module 1 \(Root\) {HERE}: return x\.sqrt\(\)"):
            y.backward()


def test_backward_says_what_came_from_above():
    x = leaf(1, 2)
    with detect_anomaly():
        y = x * 2
        with pytest.raises(AnomalyError, match=r"^mul: .*its incoming gradient already held 1 NaN of 2 values"):
            y.backward(mg.tensor([math.nan, 1.0]))


def test_a_graph_that_was_made_outside():
    x = leaf(0)
    y = x.sqrt()
    with detect_anomaly(), pytest.raises(AnomalyError, match=r"^sqrt: .*made outside detect_anomaly \(run the forward pass"):
        y.backward()
    assert x.grad is None


def test_backward_outside_says_nothing():
    x = leaf(0, 4)
    with detect_anomaly():
        y = x.sqrt().sum()
    y.backward()
    assert x.grad.tolist() == [math.inf, 0.25]


# ---- the switch --------------------------------------------------------------------------------------------------------


def fails() -> bool:
    """Whether anomaly detection is on, as an op sees it."""
    try:
        mg.zeros(1).log()
    except AnomalyError:
        return True
    return False


def test_detect_anomaly_is_for_its_block_only():
    assert not fails()
    with detect_anomaly():
        assert fails()
        with set_detect_anomaly(False):
            assert not fails()
        assert fails()
    assert not fails()
    assert detect_anomaly()(fails)()
    assert not fails()


def test_set_detect_anomaly():
    try:
        set_detect_anomaly(True)
        assert fails()
    finally:
        set_detect_anomaly(False)
    assert not fails()
    with set_detect_anomaly(True):
        assert fails()
    assert not fails()


def test_anomaly_detection_belongs_to_a_thread():
    result = []
    with detect_anomaly():
        thread = threading.Thread(target=lambda: result.append(fails()))
        thread.start()
        thread.join()
        assert fails()
    assert result == [False]


def test_the_error_is_a_runtime_error_that_nothing_wraps():
    """The op and the module stand in the message once."""
    assert issubclass(AnomalyError, RuntimeError)
    net = nn.Sequential(nn.Linear(1, 1))
    with detect_anomaly(), pytest.raises(AnomalyError) as caught:
        net(mg.tensor([[math.inf]]))
    assert str(caught.value).count("linear: ") == 1
    assert str(caught.value).count("(Linear)") == 1


def test_what_follows_an_anomaly_is_unharmed():
    x = leaf(0, 4)
    with detect_anomaly(), pytest.raises(AnomalyError):
        x.log()
    assert x.tolist() == [0, 4]
    (x * 2).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2])
