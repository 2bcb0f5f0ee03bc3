"""Every layer beside PyTorch's: description, state, initial values, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests.nn.parity import compare, load_from_torch, torch_text

torch = pytest.importorskip("torch")

IMAGE = (2, 4, 7, 6)

# (constructor call, input shape): the same text is evaluated with our nn and with PyTorch's
LAYERS = [
    ("Identity()", IMAGE),
    ("Linear(6, 5)", (3, 6)),
    ("Linear(6, 5, bias=False)", IMAGE),
    ("Flatten()", IMAGE),
    ("Flatten(0, 2)", IMAGE),
    ("Unflatten(1, (2, 2))", IMAGE),
    ("Conv2d(4, 6, 3)", IMAGE),
    ("Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False)", IMAGE),
    ("Conv2d(4, 8, 3, padding=1, groups=2)", IMAGE),
    ("Conv2d(4, 4, 3, groups=4, padding='same')", IMAGE),
    ("Conv2d(4, 3, (2, 4), padding='same')", IMAGE),
    ("Conv2d(4, 3, 3, padding='valid')", IMAGE),
    ("Conv2d(4, 3, 3, padding=(1, 2), padding_mode='reflect')", IMAGE),
    ("Conv2d(4, 3, 3, padding=2, stride=2, padding_mode='replicate')", IMAGE),
    ("Conv2d(4, 3, (2, 3), padding='same', padding_mode='circular')", IMAGE),
    ("ConvTranspose2d(4, 6, 3)", IMAGE),
    ("ConvTranspose2d(4, 6, (3, 2), stride=2, padding=1, output_padding=(1, 0), groups=2, bias=False)", IMAGE),
    ("ConvTranspose2d(4, 6, 2, stride=3, dilation=2)", IMAGE),
    ("MaxPool2d(2)", IMAGE),
    ("MaxPool2d(3, stride=2, padding=1, ceil_mode=True)", IMAGE),
    ("MaxPool2d((3, 2), stride=(2, 1), dilation=2)", IMAGE),
    ("MaxPool2d(2, return_indices=True)", IMAGE),
    ("AvgPool2d(2)", IMAGE),
    ("AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)", IMAGE),
    ("AvgPool2d(3, divisor_override=5)", IMAGE),
    ("AdaptiveAvgPool2d(1)", IMAGE),
    ("AdaptiveAvgPool2d((3, None))", IMAGE),
    ("AdaptiveMaxPool2d((2, 3))", IMAGE),
    ("AdaptiveMaxPool2d(2, return_indices=True)", IMAGE),
    ("BatchNorm1d(5)", (8, 5)),
    ("BatchNorm1d(5, eps=1e-3, momentum=0.4)", (3, 5, 6)),
    ("BatchNorm2d(4)", IMAGE),
    ("BatchNorm2d(4, momentum=None)", IMAGE),
    ("BatchNorm2d(4, affine=False)", IMAGE),
    ("BatchNorm2d(4, track_running_stats=False)", IMAGE),
    ("InstanceNorm2d(4)", IMAGE),
    ("InstanceNorm2d(4, affine=True, track_running_stats=True)", IMAGE),
    ("GroupNorm(2, 4)", IMAGE),
    ("GroupNorm(4, 4, affine=False)", IMAGE),
    ("GroupNorm(1, 6)", (3, 6)),
    ("LayerNorm(6)", IMAGE),
    ("LayerNorm((4, 7, 6), eps=1e-3)", IMAGE),
    ("LayerNorm([7, 6], bias=False)", IMAGE),
    ("LayerNorm(6, elementwise_affine=False)", (3, 6)),
    ("LocalResponseNorm(3)", IMAGE),
    ("LocalResponseNorm(2, alpha=0.5, beta=0.6, k=2.0)", IMAGE),
    ("ReLU()", IMAGE),
    ("ReLU6()", IMAGE),
    ("LeakyReLU()", IMAGE),
    ("LeakyReLU(0.2)", IMAGE),
    ("ELU(0.7)", IMAGE),
    ("SELU()", IMAGE),
    ("GELU()", IMAGE),
    ("GELU(approximate='tanh')", IMAGE),
    ("SiLU()", IMAGE),
    ("Mish()", IMAGE),
    ("Hardswish()", IMAGE),
    ("Hardsigmoid()", IMAGE),
    ("Hardtanh(-0.5, 2.0)", IMAGE),
    ("Sigmoid()", IMAGE),
    ("LogSigmoid()", IMAGE),
    ("Tanh()", IMAGE),
    ("Softplus()", IMAGE),
    ("Softmax(dim=1)", IMAGE),
    ("LogSoftmax(dim=-1)", IMAGE),
    ("Dropout(0.0)", IMAGE),
    ("Dropout2d(0.0)", IMAGE),
    ("ZeroPad2d(2)", IMAGE),
    ("ZeroPad2d((1, -1, 0, 2))", IMAGE),
    ("ConstantPad2d((1, 2, 0, 3), 0.5)", IMAGE),
    ("ReflectionPad2d((1, 2, 0, 3))", IMAGE),
    ("ReplicationPad2d(2)", IMAGE),
    ("CircularPad2d((1, 2, 0, 3))", IMAGE),
    ("Upsample(scale_factor=2)", IMAGE),
    ("Upsample(size=(5, 9), mode='bilinear')", IMAGE),
    ("Upsample(scale_factor=(1.5, 2), mode='bilinear', align_corners=True)", IMAGE),
    ("UpsamplingNearest2d(size=(9, 4))", IMAGE),
    ("UpsamplingBilinear2d(scale_factor=3)", IMAGE),
    ("PixelShuffle(2)", IMAGE),
]


# PyTorch computes Hardsigmoid with the float32 number 1/6, in float64 too
TOLERANCES = {"Hardsigmoid()": 1e-7}


def both(call: str):
    """The module of ``call`` from our nn and from PyTorch's, in float64 with the same weights."""
    ours = eval(f"nn.{call}", {"nn": nn}).double()
    theirs = eval(f"nn.{call}", {"nn": torch.nn}).double()
    with torch.no_grad():
        for parameter in theirs.parameters():  # also those that start as ones and zeros
            parameter.copy_(torch.randn(parameter.shape))
    load_from_torch(ours, theirs)
    return ours, theirs


def image(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


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


LOSSES = [
    ("CrossEntropyLoss()", "classes"),
    ("CrossEntropyLoss(ignore_index=1, label_smoothing=0.1, reduction='sum')", "classes"),
    ("NLLLoss(reduction='none')", "classes"),
    ("MSELoss()", "values"),
    ("L1Loss(reduction='sum')", "values"),
    ("SmoothL1Loss(beta=0.3)", "values"),
    ("HuberLoss(delta=0.4)", "values"),
    ("KLDivLoss(reduction='batchmean')", "probabilities"),
    ("BCELoss()", "probabilities"),
    ("BCEWithLogitsLoss()", "probabilities"),
]


@pytest.mark.parametrize(("call", "kind"), LOSSES, ids=[call for call, _ in LOSSES])
def test_loss_computes_what_pytorch_does(call, kind):
    ours, theirs = eval(f"nn.{call}", {"nn": nn}), eval(f"nn.{call}", {"nn": torch.nn})
    assert repr(ours) == repr(theirs)
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.9, (6, 3)) if "BCELoss" in call else rng.normal(size=(6, 3))
    target = {
        "classes": rng.integers(0, 3, 6),
        "values": rng.normal(size=(6, 3)),
        "probabilities": rng.uniform(size=(6, 3)),
    }[kind]
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


def test_conv_with_one_sided_padding():
    conv = nn.Conv2d(1, 1, 3, padding=((0, 2), (1, 0)))
    assert conv(mg.ones(1, 1, 5, 5)).shape == (1, 1, 5, 4)
    assert "padding=((0, 2), (1, 0))" in repr(conv)
    reflected = nn.Conv2d(1, 1, 3, padding=((0, 2), (1, 0)), padding_mode="reflect")
    assert reflected(mg.ones(1, 1, 5, 5)).shape == (1, 1, 5, 4)


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


def test_batch_norm_of_a_wrong_input_changes_no_statistics():
    bn = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match=r"one value per channel has no variance.*GroupNorm.*eval"):
        bn(mg.ones(1, 3, 1, 1))
    with pytest.raises(ValueError, match=r"BatchNorm2d expects x of shape \(N, C, H, W\) with C=3 channels, got \(2, 4, 5, 5\)"):
        bn(mg.ones(2, 4, 5, 5))
    with pytest.raises(ValueError, match=r"add a batch dimension"):
        bn(mg.ones(3, 5, 5))
    assert bn.num_batches_tracked.item() == 0
    assert bn.running_mean.tolist() == [0, 0, 0]
    assert bn.eval()(mg.ones(1, 3, 1, 1)).shape == (1, 3, 1, 1)


def test_local_response_norm_as_published_is_pytorchs_with_alpha_times_size():
    a = image(IMAGE)
    ours = nn.LocalResponseNormPaper(5, alpha=0.01)
    theirs = torch.nn.LocalResponseNorm(5, alpha=0.05, k=2.0)
    np.testing.assert_allclose(ours(mg.tensor(a)).numpy(), theirs(torch.tensor(a)).numpy(), rtol=1e-12)
    assert repr(nn.LocalResponseNormPaper()) == "LocalResponseNormPaper(5, alpha=0.0001, beta=0.75, k=2.0)"


def test_dropout_drops_while_training_only():
    x = mg.ones(2, 40, 10, 10)
    drop = nn.Dropout(0.25)
    y = drop(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.03
    assert drop.eval()(x) is x
    channels = nn.Dropout2d(0.5)(x).numpy()
    assert set(np.unique(channels.std(axis=(2, 3)))) == {np.float32(0)}  # whole channels


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


def test_normalizations_start_as_the_identity():
    for layer in [nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.LayerNorm(3), nn.InstanceNorm2d(3, affine=True)]:
        assert layer.weight.tolist() == [1, 1, 1]
        assert layer.bias.tolist() == [0, 0, 0]


def test_dtype_and_device_arguments():
    for layer in [
        nn.Linear(2, 3, dtype=np.float64, device="cpu"),
        nn.Conv2d(2, 3, 1, dtype=np.float64, device="cpu"),
        nn.ConvTranspose2d(2, 3, 1, dtype=np.float64, device="cpu"),
        nn.BatchNorm2d(2, dtype=np.float64, device="cpu"),
        nn.GroupNorm(1, 2, dtype=np.float64, device="cpu"),
        nn.LayerNorm(2, dtype=np.float64, device="cpu"),
    ]:
        assert {t.dtype for t in layer.state_dict().values()} - {np.dtype(np.int64)} == {np.dtype(np.float64)}
    with pytest.raises(TypeError, match="floating"):
        nn.Linear(2, 3, dtype=np.int64)


# ---- wrong arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("Linear(0, 3)", ValueError, "in_features must be at least 1, got 0"),
        ("Linear(3, 2.5)", TypeError, "out_features must be a positive integer, got 2.5"),
        ("Conv2d(3, 8, 3, groups=2)", ValueError, "groups=2 must divide in_channels=3"),
        ("Conv2d(4, 5, 3, groups=2)", ValueError, "groups=2 must divide out_channels=5"),
        ("Conv2d(3, 8, 3, padding='full')", ValueError, "padding must be"),
        ("Conv2d(3, 8, 3, padding=-1)", ValueError, "padding must be at least 0"),
        ("Conv2d(3, 8, 3, stride=2, padding='same')", ValueError, "needs stride 1"),
        ("Conv2d(3, 8, 0)", ValueError, "kernel_size must be at least 1"),
        ("Conv2d(3, 8, (3, 3, 3))", TypeError, "kernel_size must be an integer or a pair"),
        ("Conv2d(3, 8, 3, padding_mode='mirror')", ValueError, "padding_mode must be one of zeros, reflect"),
        ("ConvTranspose2d(3, 8, 3, padding_mode='reflect')", ValueError, "padding_mode of a transposed convolution"),
        ("BatchNorm2d(0)", ValueError, "num_features must be at least 1"),
        ("GroupNorm(3, 4)", ValueError, "num_groups=3 must divide num_channels=4"),
        ("LayerNorm((3, 0))", ValueError, "normalized_shape must be at least 1"),
        ("Dropout(1.5)", ValueError, "p must be a probability from 0 to 1, got 1.5"),
        ("Dropout('0.5')", TypeError, "p must be a number from 0 to 1"),
        ("MSELoss('average')", ValueError, "reduction must be"),
        ("ZeroPad2d((1, 2))", TypeError, r"padding must be an integer or four of them \(left, right, top, bottom\)"),
        ("Hardtanh(1, 1)", ValueError, "min_val must be smaller than max_val"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        eval(f"nn.{call}", {"nn": nn})


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(AttributeError, match=r"minigrad.nn has no attribute 'Conv2D': did you mean 'Conv2d'\?"):
        nn.Conv2D  # noqa: B018
    with pytest.raises(AttributeError, match=r"did you mean 'cross_entropy'\?"):
        nn.functional.crossentropy  # noqa: B018
