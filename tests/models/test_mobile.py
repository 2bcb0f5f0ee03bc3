"""MobileNet V1 and V2, and EfficientNet B0 to B7."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.models import mobilenet as mob
from minigrad.models.layers import StochasticDepth
from minigrad.nn import functional as F
from minigrad.nn import init
from tests.models.oracle import assert_canonical_state, assert_like_torch, count, import_timm, import_torchvision

eff = import_module("minigrad.models.efficientnet")  # minigrad.models.efficientnet is its function of that name

PARAMETERS = {  # published, or of torchvision, timm and Keras
    ("mobilenet_v1", ()): 4_231_976,
    ("mobilenet_v1", (("width", 0.75),)): 2_585_560,
    ("mobilenet_v1", (("width", 0.5),)): 1_331_592,
    ("mobilenet_v1", (("width", 0.25),)): 470_072,
    ("mobilenet_v1", (("num_classes", 10), ("in_channels", 1))): 4_231_976 - 990 * 1025 - 2 * 32 * 9,
    ("mobilenet_v2", ()): 3_504_872,
    ("mobilenet_v2", (("width", 0.35),)): 1_677_128,
    ("mobilenet_v2", (("width", 0.5),)): 1_968_680,
    ("mobilenet_v2", (("width", 0.75),)): 2_636_424,
    ("mobilenet_v2", (("width", 1.3),)): 5_386_792,
    ("mobilenet_v2", (("width", 1.4),)): 6_108_776,
    ("mobilenet_v2", (("num_classes", 10), ("in_channels", 1))): 3_504_872 - 990 * 1281 - 2 * 32 * 9,
    ("cifar_mobilenet_v1", ()): 3_217_226,
    ("cifar_mobilenet_v2", ()): 2_296_922,
    ("cifar_mobilenet_v2", (("num_classes", 100), ("in_channels", 1))): 2_296_922 + 90 * 1281 - 2 * 32 * 9,
    ("efficientnet_b0", ()): 5_288_548,
    ("efficientnet_b1", ()): 7_794_184,
    ("efficientnet_b2", ()): 9_109_994,
    ("efficientnet_b3", ()): 12_233_232,
    ("efficientnet_b4", ()): 19_341_616,
    ("efficientnet_b5", ()): 30_389_784,
    ("efficientnet_b6", ()): 43_040_704,
    ("efficientnet_b7", ()): 66_347_960,
    ("efficientnet_b0", (("num_classes", 10), ("in_channels", 1))): 5_288_548 - 990 * 1281 - 2 * 32 * 9,
}


def make(name: str, **options) -> nn.Module:
    return getattr(mob if "mobile" in name else eff, name)(**options)


@pytest.mark.parametrize(("name", "options"), PARAMETERS, ids=[f"{name}-{dict(options)}" for name, options in PARAMETERS])
def test_parameter_counts(name, options):
    with init.skipped():
        assert count(make(name, **dict(options))) == PARAMETERS[name, options]


@pytest.mark.parametrize("name", ["mobilenet_v2", *(f"efficientnet_b{i}" for i in range(8))])
def test_names_of_the_state_are_those_of_torchvision(name):
    with init.skipped():
        assert_canonical_state(make(name), name)


@pytest.mark.parametrize("width", [1, 1.25])
def test_names_of_mobilenet_v1_are_those_of_timm(width):
    with init.skipped():
        assert_canonical_state(mob.mobilenet_v1(width=width), f"timm.mobilenetv1_{100 * width:.0f}")


def test_names_of_the_cifar_forms():
    with init.skipped():
        one, two = mob.cifar_mobilenet_v1().state_dict(), mob.cifar_mobilenet_v2().state_dict()
    assert [one[name].shape for name in ("conv1.weight", "layers.12.conv2.weight", "linear.weight")] == [
        (32, 3, 3, 3),
        (1024, 1024, 1, 1),
        (10, 1024),
    ]
    assert {name.split(".")[1] for name in two if "shortcut.0" in name} == {"0", "1", "10", "16"}  # stride 1 and other channels
    assert two["layers.16.conv3.weight"].shape == (320, 960, 1, 1)
    assert {"bn1.running_var", "conv2.weight", "bn2.bias"} <= set(two)


# ---- the same networks in PyTorch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_mobilenet_v2_like_torchvision(width):
    theirs = import_torchvision().mobilenet_v2(width_mult=width, num_classes=10)
    assert_like_torch(mob.mobilenet_v2(10, width=width), theirs, (2, 3, 64, 64), gradients=width == 0.5)


def test_mobilenet_v1_like_timm():
    theirs = import_timm().create_model("mobilenetv1_100", num_classes=10)
    assert_like_torch(mob.mobilenet_v1(10), theirs, (2, 3, 65, 64))


def test_gradients_of_mobilenet_v1_like_timm():
    timm = import_timm()
    from timm.models.efficientnet import _gen_mobilenet_v1

    assert timm
    theirs = _gen_mobilenet_v1("mobilenetv1_100", channel_multiplier=0.25, num_classes=10)
    assert_like_torch(mob.mobilenet_v1(10, width=0.25), theirs, (2, 3, 64, 64), gradients=True)


def test_efficientnet_b0_like_torchvision():
    theirs = import_torchvision().efficientnet_b0(num_classes=10)
    assert_like_torch(eff.efficientnet_b0(10), theirs, (2, 3, 64, 64), gradients=True)


@pytest.mark.parametrize("number", [1, 5])
def test_a_scaled_efficientnet_like_torchvision(number):
    theirs = getattr(import_torchvision(), f"efficientnet_b{number}")(num_classes=10)
    with init.skipped():
        ours = make(f"efficientnet_b{number}", num_classes=10)
    for a, b in zip(_norms(ours), _norms(theirs), strict=True):
        assert (a.eps, a.momentum) == (b.eps, b.momentum)
    drops = [m.p for m in ours.modules() if isinstance(m, StochasticDepth)]
    assert drops == pytest.approx([m.p for m in theirs.modules() if type(m).__name__ == "StochasticDepth"])
    assert ours.classifier[0].p == theirs.classifier[0].p
    assert_like_torch(ours, theirs, (1, 3, 48, 32))


def _norms(model):
    return [m for m in model.modules() if type(m).__name__ == "BatchNorm2d"]


def _torch_cifar(torch, version: int):
    """The CIFAR forms as a chain of layers that reads the weights in the order of the state dict."""
    tf = torch.nn.functional

    def forward(state, x):
        weights = iter([v for name, v in state.items() if "num_batches" not in name])

        def norm(x):
            gamma, beta, mean, var = (next(weights) for _ in range(4))
            return tf.batch_norm(x, mean, var, gamma, beta)

        def conv(x, stride=1):
            w = next(weights)
            return norm(tf.conv2d(x, w, stride=stride, padding=w.shape[2] // 2, groups=x.shape[1] // w.shape[1]))

        x = torch.relu(conv(x))
        if version == 1:
            for stride in (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1):
                x = torch.relu(conv(torch.relu(conv(x, stride))))
        else:
            planes = [16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]
            strides = [1, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
            for out, stride in zip(planes, strides, strict=True):
                y = conv(torch.relu(conv(torch.relu(conv(x)), stride)))
                shortcut = x if x.shape[1] == out or stride == 2 else conv(x)
                x = y + shortcut if stride == 1 else y
            x = torch.relu(conv(x))
        x = tf.avg_pool2d(x, x.shape[2]).flatten(1)
        return tf.linear(x, next(weights), next(weights))

    return forward


@pytest.mark.parametrize("version", [1, 2])
def test_the_cifar_forms_like_pytorch(version):
    torch = pytest.importorskip("torch")
    model = make(f"cifar_mobilenet_v{version}").double()
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32))
    with mg.no_grad():
        for _ in range(3):
            model(mg.tensor(x))  # running statistics
        ours = model.eval()(mg.tensor(x)).numpy()
    state = {name: torch.from_numpy(value.numpy()) for name, value in model.state_dict().items()}
    theirs = _torch_cifar(torch, version)(state, torch.from_numpy(x)).numpy()
    assert theirs.shape == (4, 10)
    assert abs(theirs).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=1e-9 * abs(theirs).max())


# ---- without PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("mobilenet_v1", {"width": 0.25}, 33),
        ("mobilenet_v2", {"width": 0.35}, 33),
        ("cifar_mobilenet_v1", {}, 16),
        ("cifar_mobilenet_v2", {}, 8),
        ("efficientnet_b0", {"stochastic_depth": 0.0}, 33),
    ],
)
def test_a_step_of_training_gives_every_parameter_a_gradient(name, options, size):
    model = make(name, num_classes=3, in_channels=1, **options)
    x, labels = mg.randn(4, 1, size, size + 2), mg.tensor([0, 1, 2, 1])
    F.cross_entropy(model(x), labels).backward()
    for parameter_name, p in model.named_parameters():
        assert p.grad is not None, parameter_name
        assert np.isfinite(p.grad.numpy()).all(), parameter_name
        assert p.grad.numpy().any(), parameter_name
    with mg.no_grad():
        assert model.eval().double()(x.double()).dtype == np.float64
        assert model(x[:1].double()).shape == (1, 3)


def test_stages_have_the_sizes_of_the_papers():
    x = mg.randn(1, 3, 64, 64)
    with mg.no_grad(), init.skipped():
        v1, v2, b0 = mob.mobilenet_v1(width=0.25), mob.mobilenet_v2(), eff.efficientnet_b0()
        y = F.relu6(v1.bn1(v1.conv_stem(x)))
        assert [(y := stage(y)).shape[1:] for stage in v1.blocks] == [
            (c * 16, 512 // c // 16, 512 // c // 16) for c in (1, 2, 4, 8, 16)
        ]
        y, shapes = x, []
        for stage in b0.features:
            shapes.append((y := stage(y)).shape[1:])
        assert shapes == [
            (32, 32, 32), (16, 32, 32), (24, 16, 16), (40, 8, 8), (80, 4, 4), (112, 4, 4), (192, 2, 2), (320, 2, 2), (1280, 2, 2),
        ]  # fmt: skip
        assert v2.features[:7](x).shape == (1, 32, 8, 8)
        assert v2.features(x).shape == (1, 1280, 2, 2)


def test_initial_weights_have_the_published_spread():
    mg.manual_seed(0)
    v1, v2, b0 = mob.mobilenet_v1(), mob.mobilenet_v2(), eff.efficientnet_b0()
    spread = {
        (v1.blocks[4][1].conv_dw): (2 / 9) ** 0.5,
        (v1.blocks[4][1].conv_pw): (2 / 1024) ** 0.5,
        (v2.features[18][0]): (2 / 1280) ** 0.5,
        (v2.classifier[1]): 0.01,
        (b0.features[8][0]): (2 / 1280) ** 0.5,
        (b0.classifier[1]): (1 / 3000) ** 0.5,
    }
    for layer, std in spread.items():
        assert layer.weight.detach().numpy().std() == pytest.approx(std, rel=0.03)
    assert not b0.features[2][0].block[2].fc1.bias.detach().numpy().any()


def test_compound_scaling():
    assert eff.compound_scaling(0) == (1, 1, 224)
    assert eff.compound_scaling(2) == pytest.approx((1.21, 1.44, 296))
    width, depth, resolution = eff.compound_scaling(1)
    assert width**2 * depth * (resolution / 224) ** 2 == pytest.approx(1.92, abs=0.01)
    model = eff.efficientnet(0.5, 0.3, 64, dropout=0.0, num_classes=5, stochastic_depth=0.5, eps=1e-3, momentum=0.01)
    assert model.resolution == 64
    assert [len(stage) for stage in model.features[1:8]] == [1, 1, 1, 1, 1, 2, 1]
    assert model.features[7][0].block[3][0].out_channels == 160
    assert [m.p for m in model.modules() if isinstance(m, StochasticDepth)] == pytest.approx([0.5 * i / 8 for i in range(8)])
    assert {(m.eps, m.momentum) for m in _norms(model)} == {(1e-3, 0.01)}
    assert model(mg.randn(2, 3, 64, 64)).shape == (2, 5)
    assert [model(mg.ones(1, 3, 40, 40) * i).shape for i in (1, 2)] == [(1, 5)] * 2


def test_stochastic_depth_leaves_out_branches_in_training_only():
    model = eff.MBConv(8, 8, 3, 1, 6, 1.0)
    x = mg.randn(2, 8, 5, 5)
    np.testing.assert_array_equal(model(x).detach().numpy(), x.numpy())
    assert (model.eval()(x).detach().numpy() != x.numpy()).any()


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "efficientnet_b0"])
def test_dropout_is_an_option(name):
    model = make(name, num_classes=2, dropout=1.0)
    assert not (model(mg.randn(2, 3, 32, 32)) - model.state_dict()[[*model.state_dict()][-1]]).detach().numpy().any()


def test_bad_options_and_inputs():
    with pytest.raises(ValueError, match=r"width, the factor of all numbers of channels, must be larger than 0, got 0"):
        mob.mobilenet_v1(width=0)
    with pytest.raises(ValueError, match=r"width, .* larger than 0, got -1"):
        mob.mobilenet_v2(width=-1)
    with pytest.raises(ValueError, match="depth must be larger than 0, got 0"):
        eff.efficientnet(depth=0)
    with pytest.raises(ValueError, match=r"stochastic_depth must be a probability between 0 and 1, got 1\.5"):
        eff.efficientnet_b0(stochastic_depth=1.5)
    with init.skipped():
        for name, layer in (
            ("mobilenet_v1", "conv_stem"),
            ("mobilenet_v2", r"features\.0\.0"),
            ("efficientnet_b0", r"features\.0\.0"),
        ):
            with pytest.raises(ValueError, match=rf"^{layer}: conv2d: .*1.*3"):
                make(name)(mg.randn(2, 1, 32, 32))
