"""Every layer beside PyTorch's: description, state, initial values, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests.nn.layers import IMAGE, LAYERS, LOSSES, image, loss_inputs
from tests.nn.parity import compare, load_from_torch, torch_text

torch = pytest.importorskip("torch")

# PyTorch computes Hardsigmoid with the float32 number 1/6, and CELU with 1/alpha in float32, in float64 too
TOLERANCES = {"Hardsigmoid()": 1e-7, "CELU(0.6)": 1e-7}


def both(call: str):
    """The module of ``call`` from our nn and from PyTorch's, in float64 with the same weights."""
    ours = eval(f"nn.{call}", {"nn": nn}).double()
    theirs = eval(f"nn.{call}", {"nn": torch.nn}).double()
    with torch.no_grad():
        for parameter in theirs.parameters():  # also those that start as ones and zeros
            parameter.copy_(torch.randn(parameter.shape))
    load_from_torch(ours, theirs)
    return ours, theirs


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch's
@pytest.mark.parametrize(("call", "shape"), LAYERS, ids=[call for call, _ in LAYERS])
def test_layer_computes_what_pytorch_does(call, shape):
    ours, theirs = both(call)
    tolerance = TOLERANCES.get(call, 1e-10)
    compare(ours, theirs, image(shape), tolerance=tolerance)
    compare(ours, theirs, 3 + 2 * image(shape, seed=1), tolerance=tolerance)  # a second batch: statistics go on
    ours.eval(), theirs.eval()
    compare(ours, theirs, image(shape, seed=2), tolerance=tolerance)


@pytest.mark.parametrize("call", [call for call, _ in LAYERS])
def test_layer_is_described_as_in_pytorch(call):
    ours, theirs = eval(f"nn.{call}", {"nn": nn}), eval(f"nn.{call}", {"nn": torch.nn})
    assert repr(ours) == torch_text(theirs)


@pytest.mark.parametrize(
    "call", ["ReLU(True)", "ReLU6(True)", "LeakyReLU(0.2, True)", "ELU(0.5, True)", "SELU(True)", "SiLU(True)", "Mish(True)",
             "Hardtanh(-1.0, 1.0, True)", "Hardswish(True)", "Hardsigmoid(True)"]
)  # fmt: skip
def test_activation_in_place(call):
    ours, theirs = eval(f"nn.{call}", {"nn": nn}), eval(f"nn.{call}", {"nn": torch.nn})
    assert repr(ours) == repr(theirs)
    a = image(IMAGE)
    x, t = mg.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    before, before_t = x * 1, t * 1
    y, u = ours(before), theirs(before_t)
    assert y is before
    tolerance = TOLERANCES.get(call.replace("True", ""), 1e-12)
    np.testing.assert_allclose(y.detach().numpy(), u.detach().numpy(), rtol=tolerance)
    y.sum().backward(), u.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=tolerance)


@pytest.mark.parametrize(("call", "kind"), LOSSES, ids=[call for call, _ in LOSSES])
def test_loss_computes_what_pytorch_does(call, kind):
    ours, theirs = eval(f"nn.{call}", {"nn": nn}), eval(f"nn.{call}", {"nn": torch.nn})
    assert repr(ours) == repr(theirs)
    x, target = loss_inputs(call, kind)
    a, t = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, u = ours(a, mg.tensor(target)), theirs(t, torch.tensor(target))
    np.testing.assert_allclose(y.detach().numpy(), u.detach().numpy(), rtol=1e-12)
    y.sum().backward(), u.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), t.grad.numpy(), rtol=1e-11, atol=1e-15)


def test_loss_weights_belong_to_the_state_and_move_with_it():
    weight = np.array([1.0, 2.0, 3.0])
    ours, theirs = nn.CrossEntropyLoss(mg.tensor(weight)), torch.nn.CrossEntropyLoss(torch.tensor(weight))
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight"]
    assert ours.float().weight.dtype == np.float32
    pos = nn.BCEWithLogitsLoss(pos_weight=mg.tensor(weight))
    assert list(pos.state_dict()) == list(torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight)).state_dict())


# ---- what is particular to one layer -----------------------------------------------------------------------------------


def test_conv_transpose_output_size():
    ours, theirs = both("ConvTranspose2d(4, 3, 3, stride=2, padding=1)")
    a = image(IMAGE)
    for size in [(13, 11), (14, 12), (13, 12)]:
        y, t = ours(mg.tensor(a), output_size=size), theirs(torch.tensor(a), output_size=size)
        assert y.shape == (2, 3, *size)
        np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), rtol=1e-10, atol=1e-12)
    assert ours(mg.tensor(a), output_size=(2, 3, 14, 12)).shape == (2, 3, 14, 12)
    with pytest.raises(
        ValueError, match=r"output_size \(15, 12\) is not possible for an input of 7 x 6.*\(13, 11\) to \(14, 12\)"
    ):
        ours(mg.tensor(a), output_size=(15, 12))


def test_batch_norm_float32_statistics_are_close_to_pytorch():
    ours, theirs = nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    for seed in range(3):
        a = (100 + image((4, 4, 5, 5), seed)).astype(np.float32)
        ours(mg.tensor(a)), theirs(torch.tensor(a))
    np.testing.assert_allclose(ours.running_mean.numpy(), theirs.running_mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.running_var.numpy(), theirs.running_var.numpy(), rtol=1e-4)
    assert ours.num_batches_tracked.item() == 3
    assert ours.num_batches_tracked.dtype == np.int64
    ours.reset_running_stats()
    assert ours.num_batches_tracked.item() == 0
    assert ours.running_var.tolist() == [1, 1, 1, 1]


def test_local_response_norm_as_published_is_pytorchs_with_alpha_times_size():
    a = image(IMAGE)
    ours = nn.LocalResponseNormPaper(5, alpha=0.01)
    theirs = torch.nn.LocalResponseNorm(5, alpha=0.05, k=2.0)
    np.testing.assert_allclose(ours(mg.tensor(a)).numpy(), theirs(torch.tensor(a)).numpy(), rtol=1e-12)
    assert repr(nn.LocalResponseNormPaper()) == "LocalResponseNormPaper(5, alpha=0.0001, beta=0.75, k=2.0)"


# ---- initial values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "fan_in"),
    [
        ("Linear(300, 200)", 300),
        ("Conv2d(20, 30, (3, 5))", 300),
        ("Conv2d(20, 32, 3, groups=4)", 45),
        ("ConvTranspose2d(30, 20, 4)", 320),
    ],
)
def test_initial_values_are_distributed_as_in_pytorch(call, fan_in):
    ours, theirs = eval(f"nn.{call}", {"nn": nn}), eval(f"nn.{call}", {"nn": torch.nn})
    bound = 1 / np.sqrt(fan_in)
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        a, b = a.detach().numpy(), b.detach().numpy()
        assert a.dtype == np.float32, name
        assert a.shape == b.shape, name
        assert np.abs(a).max() <= bound * (1 + 1e-6), name
        assert np.abs(b).max() <= bound * (1 + 1e-6), name
        if name == "weight":
            assert np.abs(a).max() > 0.98 * bound
            np.testing.assert_allclose(a.std(), bound / np.sqrt(3), rtol=0.03)
