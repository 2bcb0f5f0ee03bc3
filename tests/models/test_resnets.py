"""ResNet, ResNeXt and Wide ResNet for ImageNet, pre-activation networks, and their forms for CIFAR."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.models import cifar_resnet, cifar_resnext, cifar_wide_resnet, preact_resnet, resnet
from minigrad.nn import functional as F
from minigrad.nn import init
from tests.models.oracle import assert_canonical_state, assert_like_torch, count, import_timm, import_torchvision

PARAMETERS = {  # of torchvision and timm, and counted from the papers
    ("resnet18", ()): 11_689_512,
    ("resnet34", ()): 21_797_672,
    ("resnet50", ()): 25_557_032,
    ("resnet101", ()): 44_549_160,
    ("resnet152", ()): 60_192_808,
    ("resnext50_32x4d", ()): 25_028_904,
    ("resnext101_32x8d", ()): 88_791_336,
    ("resnext101_64x4d", ()): 83_455_272,
    ("wide_resnet50_2", ()): 68_883_240,
    ("wide_resnet101_2", ()): 126_886_696,
    ("resnet18", (("num_classes", 10), ("in_channels", 1))): 11_689_512 - 990 * 513 - 2 * 64 * 49,
    ("resnet50", (("num_classes", 10), ("in_channels", 1))): 25_557_032 - 990 * 2049 - 2 * 64 * 49,
    ("resnet50", (("norm", "group"),)): 25_557_032,
    ("resnet50", (("norm", "layer"),)): 25_557_032,
    ("resnet50", (("norm", "instance"),)): 25_557_032,
    ("resnet50", (("stride_in", "1x1"),)): 25_557_032,
    ("cifar_resnet14", (("norm", "group"),)): 175_258,
    ("cifar_resnet20", (("norm", "group"), ("option", "B"))): 272_474,
    ("cifar_preact_resnet110", ()): 1_730_522,
    ("cifar_preact_resnet164", ()): 1_703_258,
    ("cifar_preact_resnet1001", ()): 10_327_706,
    ("cifar_preact_resnet164", (("num_classes", 100), ("in_channels", 1))): 1_703_258 + 90 * 257 - 2 * 16 * 9,
    ("resnetv2_50", ()): 25_549_352,
    ("resnetv2_50", (("num_classes", 10), ("in_channels", 1), ("norm", "group"))): 25_549_352 - 990 * 2049 - 2 * 64 * 49,
    ("cifar_wrn16_4", ()): 2_748_890,
    ("cifar_wrn16_8", ()): 10_961_370,
    ("cifar_wrn22_8", ()): 17_158_106,
    ("cifar_wrn28_10", ()): 36_479_194,
    ("cifar_wrn28_10", (("num_classes", 100),)): 36_536_884,
    ("cifar_wrn28_10", (("in_channels", 1), ("dropout", 0.3))): 36_479_194 - 2 * 16 * 9,
    ("cifar_wrn28_12", ()): 52_517_850,
    ("cifar_wrn40_1", ()): 563_930,
    ("cifar_wrn40_2", ()): 2_243_546,
    ("cifar_wrn40_4", ()): 8_949_210,
    ("cifar_wrn40_8", ()): 35_748_314,
    ("cifar_resnext29_1x64d", ()): 4_914_250,
    ("cifar_resnext29_8x64d", ()): 34_426_698,
    ("cifar_resnext29_16x64d", ()): 68_155_210,
    ("cifar_resnext29_32x4d", ()): 4_775_754,
    ("cifar_resnext29_32x4d", (("num_classes", 100), ("in_channels", 1))): 4_775_754 + 90 * 1025 - 2 * 64 * 9,
}
FAMILIES = (resnet, cifar_resnet, preact_resnet, cifar_wide_resnet, cifar_resnext)


def make(name: str, **options) -> nn.Module:
    family = next(family for family in FAMILIES if hasattr(family, name))
    return getattr(family, name)(**options)


@pytest.mark.parametrize(("name", "options"), PARAMETERS, ids=[f"{name}-{dict(options)}" for name, options in PARAMETERS])
def test_parameter_counts(name, options):
    with init.skipped():
        assert count(make(name, **dict(options))) == PARAMETERS[name, options]


def test_the_class_also_makes_the_usual_resnet18_for_small_images():
    with init.skipped():
        model = resnet.ResNet(resnet.BasicBlock, (2, 2, 2, 2), 10, small_images=True)
    assert count(model) == 11_173_962
    assert mg.summary(model, (3, 8, 8)).macs == (555_422_720 - 5120) // 16 + 5120  # 0.555 billion for 32 x 32


IMAGENET = [name for name in resnet.__all__ if name[0].islower()]


@pytest.mark.parametrize("name", IMAGENET)
def test_names_of_the_state_are_those_of_torchvision(name):
    with init.skipped():
        assert_canonical_state(make(name), name)


def test_names_of_the_state_are_those_of_timm():
    with init.skipped():
        assert_canonical_state(resnet.resnet50(norm="group"), "timm.resnet50_gn")
        assert_canonical_state(preact_resnet.resnetv2_50(), "timm.resnetv2_50")
        planes, layers = (64, 128, 256, 512), (3, 4, 23, 3)
        deep = preact_resnet.PreActResNet(preact_resnet.PreActBottleneck, layers, planes, 1000, 3, small_images=False)
        assert_canonical_state(deep, "timm.resnetv2_101")


def test_the_placement_of_the_stride():
    with init.skipped():
        models = [make("resnet50", stride_in=where) for where in ("3x3", "1x1")]
    strides = [[m.layer2[0].conv1.stride, m.layer2[0].conv2.stride, m.layer2[1].conv1.stride] for m in models]
    assert np.array(strides).reshape(2, 3, -1)[..., 0].tolist() == [[1, 2, 1], [2, 1, 1]]


@pytest.mark.slow
def test_the_placement_of_the_stride_decides_on_the_computation():
    with init.skipped():
        model = make("resnet50", stride_in="1x1")
    assert mg.summary(model, (3, 224, 224)).macs == 3_857_973_248


# ---- receptive fields --------------------------------------------------------------------------------------------------

slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("resnet18", {}, 435),
        ("resnet34", {}, 899),
        ("resnet50", {}, 427),
        ("resnet50", {"stride_in": "1x1"}, 483),
        pytest.param("resnet101", {}, 971, marks=slow),
        pytest.param("resnet152", {}, 1451, marks=slow),
        pytest.param("resnet152", {"stride_in": "1x1"}, 1507, marks=slow),
        ("cifar_resnet14", {}, 53),
        ("cifar_resnet20", {}, 81),
        pytest.param("cifar_resnet110", {}, 501, marks=slow),
    ],
)
def test_receptive_field_of_the_last_stage(name, options, field):
    with init.skipped():
        rows = mg.summary(make(name, **options), (3, 32, 32)).rows
    last = next(row for row in rows if row.name == ("layer3" if "cifar" in name else "layer4"))
    jump = 4 if "cifar" in name else 32
    assert (last.field.size, last.field.jump) == ((field, field), (jump, jump))
    assert last.output[2:] == (32 // jump, 32 // jump)


# ---- the same networks in PyTorch --------------------------------------------------------------------------------------


def test_resnet18_like_torchvision():
    theirs = import_torchvision().resnet18(num_classes=10)
    assert_like_torch(resnet.resnet18(10), theirs, (1, 3, 64, 64), gradients=True)


@pytest.mark.parametrize("name", ["resnet50", *(pytest.param(n, marks=slow) for n in ["resnext50_32x4d", "wide_resnet50_2"])])
def test_networks_of_bottlenecks_like_torchvision(name):
    theirs = getattr(import_torchvision(), name)(num_classes=10)
    with init.skipped():
        ours = make(name, num_classes=10)
    assert_like_torch(ours, theirs, (1, 3, 64, 48))


@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
def test_gradients_of_grouped_bottlenecks_like_torchvision(stride_in):
    theirs = import_torchvision().resnet
    theirs = theirs.ResNet(theirs.Bottleneck, [1, 2, 1, 1], num_classes=5, groups=4, width_per_group=8)
    if stride_in == "1x1":
        for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    options = {"groups": 4, "width_per_group": 8, "stride_in": stride_in}
    ours = resnet.ResNet(resnet.Bottleneck, (1, 2, 1, 1), 5, **options)
    assert_like_torch(ours, theirs, (2, 3, 64, 48), gradients=True)


def test_resnet50_with_group_normalization_like_timm():
    theirs = import_timm().create_model("resnet50_gn", num_classes=10)
    with init.skipped():
        ours = resnet.resnet50(10, norm="group")
    assert_like_torch(ours, theirs, (1, 3, 64, 64))


@pytest.mark.parametrize("norm", ["group", "layer", "instance"])
def test_normalizations_of_the_cifar_networks_like_pytorch(norm):
    torch = pytest.importorskip("torch")
    from tests.models.test_models import torch_resnet

    kinds = {
        "group": lambda c: torch.nn.GroupNorm(min(c, 32), c),
        "layer": lambda c: torch.nn.GroupNorm(1, c),
        "instance": lambda c: torch.nn.InstanceNorm2d(c, affine=True),
    }
    theirs = torch_resnet(torch, (2, 2, 2), "B")
    for module in list(theirs.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.BatchNorm2d):
                setattr(module, name, kinds[norm](child.num_features))
    assert_like_torch(cifar_resnet.cifar_resnet14(norm=norm), theirs, (2, 3, 16, 16), gradients=True)


def test_resnetv2_50_like_timm():
    theirs = import_timm().create_model("resnetv2_50", num_classes=10)
    with init.skipped():
        ours = preact_resnet.resnetv2_50(10)
    assert_like_torch(ours, theirs, (1, 3, 64, 64))


def torch_preact(torch, layers, planes, kernels, stem_width=16, activate_stem=True, stride_in="3x3"):
    """Figure 4 (e) of He et al. 2016 with ``kernels`` (3, 3) or (1, 3, 1), for images of CIFAR."""
    tnn, tf = torch.nn, torch.nn.functional

    class Block(tnn.Module):
        def __init__(self, channels, width, stride, activated):
            super().__init__()
            out = width * (4 if len(kernels) == 3 else 1)
            if stride > 1 or channels != out:
                self.downsample = tnn.Sequential()
                self.downsample.conv = tnn.Conv2d(channels, out, 1, stride, bias=False)
            self.activated = activated
            for i, kernel in enumerate(kernels, 1):
                here = stride if i == (2 if len(kernels) == 3 and stride_in == "3x3" else 1) else 1
                width = out if i == len(kernels) else width
                setattr(self, f"norm{i}", tnn.BatchNorm2d(channels))
                setattr(self, f"conv{i}", tnn.Conv2d(channels, width, kernel, here, kernel // 2, bias=False))
                channels = width

        def forward(self, x):
            y = a = tf.relu(self.norm1(x))
            for i in range(1, len(kernels) + 1):
                y = getattr(self, f"conv{i}")(y if i == 1 else tf.relu(getattr(self, f"norm{i}")(y)))
            if hasattr(self, "downsample"):
                return self.downsample.conv(a) + y
            return (a if self.activated else x) + y

    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.stages, self.head = tnn.Sequential(), tnn.Sequential(), tnn.Sequential()
            self.stem.conv = tnn.Conv2d(3, stem_width, 3, 1, 1, bias=False)
            channels = stem_width
            for i, (blocks, width) in enumerate(zip(layers, planes, strict=True)):
                stage = []
                for j in range(blocks):
                    stage.append(Block(channels, width, 2 if i and not j else 1, activate_stem and i + j == 0))
                    channels = width * (4 if len(kernels) == 3 else 1)
                self.stages.append(tnn.Sequential())
                self.stages[-1].blocks = tnn.Sequential(*stage)
            self.norm = tnn.BatchNorm2d(channels)
            self.head.fc = tnn.Conv2d(channels, 10, 1)

        def forward(self, x):
            x = self.stem.conv(x)
            for stage in self.stages:
                x = stage.blocks(x)
            return self.head.fc(tf.relu(self.norm(x)).mean((2, 3), keepdim=True)).flatten(1)

    return Net()


@pytest.mark.parametrize("kind", ["basic", "bottleneck", "bottleneck with the stride in the 1x1"])
def test_gradients_of_preactivation_like_pytorch(kind):
    torch = pytest.importorskip("torch")
    kernels, block, options = (1, 3, 1), preact_resnet.PreActBottleneck, {"stride_in": "1x1" if "stride" in kind else "3x3"}
    if kind == "basic":
        kernels, block, options = (3, 3), preact_resnet.PreActBasicBlock, {}
    ours = preact_resnet.PreActResNet(block, (2, 2, 2), (16, 32, 64), 10, 3, small_images=True, **options)
    theirs = torch_preact(torch, (2, 2, 2), (16, 32, 64), kernels, **options)
    assert_like_torch(ours, theirs, (2, 3, 16, 16), gradients=True)


@pytest.mark.parametrize(
    ("name", "blocks", "kernels"),
    [
        ("cifar_preact_resnet110", 18, (3, 3)),
        pytest.param("cifar_preact_resnet164", 18, (1, 3, 1), marks=slow),
        pytest.param("cifar_preact_resnet1001", 111, (1, 3, 1), marks=slow),
    ],
)
def test_deep_preactivation_networks_like_pytorch(name, blocks, kernels):
    torch = pytest.importorskip("torch")
    with init.skipped():
        ours = make(name)
    assert_like_torch(ours, torch_preact(torch, (blocks,) * 3, (16, 32, 64), kernels), (1, 3, 16, 16))


@pytest.mark.parametrize(("depth", "k"), [(40, 1), (16, 4), pytest.param(28, 10, marks=slow)])
def test_wide_networks_like_pytorch(depth, k):
    torch = pytest.importorskip("torch")
    theirs = torch_preact(torch, ((depth - 4) // 6,) * 3, (16 * k, 32 * k, 64 * k), (3, 3), activate_stem=False)
    assert_like_torch(make(f"cifar_wrn{depth}_{k}", dropout=0.3), theirs, (2, 3, 16, 16), gradients=k == 4)


@pytest.mark.parametrize(("groups", "width"), [(32, 4), (1, 64), pytest.param(8, 64, marks=slow)])
def test_resnext29_like_torchvision(groups, width):
    torchvision, identity = import_torchvision(), pytest.importorskip("torch").nn.Identity
    theirs = torchvision.resnet.ResNet(torchvision.resnet.Bottleneck, [3, 3, 3, 1], 10, False, groups, width)
    theirs.conv1 = type(theirs.conv1)(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool, theirs.layer4 = identity(), identity()
    theirs.fc = type(theirs.fc)(1024, 10)
    assert_like_torch(make(f"cifar_resnext29_{groups}x{width}d"), theirs, (1, 3, 16, 16))


# ---- the networks by themselves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet18", [(64, 8, 8), (64, 8, 8), (128, 4, 4), (256, 2, 2), (512, 1, 1)]),
        ("resnet50", [(64, 8, 8), (256, 8, 8), (512, 4, 4), (1024, 2, 2), (2048, 1, 1)]),
        ("cifar_resnext29_32x4d", [(64, 32, 32), (256, 32, 32), (512, 16, 16), (1024, 8, 8)]),
        ("resnetv2_50", [(64, 8, 8), (256, 8, 8), (512, 4, 4), (1024, 2, 2), (2048, 1, 1)]),
        ("cifar_wrn16_4", [(16, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8)]),
    ],
)
def test_shapes_of_the_stages(name, shapes):
    with init.skipped():
        rows = mg.summary(make(name, num_classes=7), (3, 32, 32)).rows
    stem = [row for row in rows if row.path in ("maxpool", "stem")]
    stages = [
        row for row in rows if row.path.startswith(("layer", "stages.")) and row.path.count(".") == row.path.count("stages.")
    ]
    assert [row.output[1:] for row in (*stem[-1:], *stages)] == shapes
    assert rows[0].output == rows[-1].output == (1, 7)


def values(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy() for name, p in model.named_parameters()}


def small(kind: str, dtype: str, **options) -> nn.Module:
    if kind in ("BasicBlock", "Bottleneck"):
        model = resnet.ResNet(getattr(resnet, kind), (2, 1), 4, small_images=True, **options)
    else:
        model = preact_resnet.PreActResNet(getattr(preact_resnet, kind), (2, 1), (8, 16), 4, 3, small_images=True, **options)
    return model.double() if dtype == "float64" else model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("BasicBlock", {}),
        ("BasicBlock", {"norm": "layer"}),
        ("Bottleneck", {"groups": 2, "width_per_group": 8}),
        ("Bottleneck", {"norm": "instance", "stride_in": "1x1"}),
        ("PreActBasicBlock", {"dropout": 0.3}),
        ("PreActBottleneck", {"norm": "group"}),
    ],
)
def test_a_step_of_training_gives_every_parameter_a_gradient(kind, options, dtype):
    mg.manual_seed(0)
    model = small(kind, dtype, **options)
    x = mg.randn(4, 3, 9, 10, dtype=dtype)
    y = model(x)
    assert (y.shape, str(y.detach().numpy().dtype)) == ((4, 4), dtype)
    F.cross_entropy(y, mg.tensor([0, 1, 2, 3])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert np.isfinite(parameter.grad.numpy()).all(), name
        assert parameter.grad.numpy().any(), name
    with mg.no_grad():
        assert np.array_equal(model.eval()(x).numpy(), model(x).numpy())
        np.testing.assert_allclose(model(x).numpy()[:1], model(x[:1]).numpy(), rtol=1e-4, atol=1e-5)


def test_dropout_is_active_in_training_only_and_between_the_convolutions():
    model = small("PreActBasicBlock", "float64", dropout=0.5)
    x = mg.randn(2, 3, 8, 8, dtype="float64")
    block = model.stages[0].blocks[0]
    with mg.no_grad():
        a = block.norm2(block.conv1(F.relu(block.norm1(model.stem(x)))))
        assert 0.4 < (block.dropout(F.relu(a)).numpy()[a.numpy() > 0] == 0).mean() < 0.6
        assert not np.array_equal(model(x).numpy(), model(x).numpy())
        model.eval()
        assert np.array_equal(model(x).numpy(), model(x).numpy())
    assert isinstance(small("PreActBasicBlock", "float32").stages[0].blocks[0].dropout, nn.Identity)


@pytest.mark.parametrize("kind", ["BasicBlock", "Bottleneck"])
def test_zero_init_residual_makes_blocks_that_pass_on_their_shortcut(kind):
    model = small(kind, "float32", zero_init_residual=True).eval()
    block = model.layer1[1]
    x = mg.randn(2, block.conv1.in_channels, 5, 5)
    with mg.no_grad():
        np.testing.assert_array_equal(block(x).numpy(), F.relu(x).numpy())
    zeros = [name for name, value in values(model).items() if name.endswith("weight") and not value.any()]
    assert zeros == [f"layer{i}.bn{2 if kind == 'BasicBlock' else 3}.weight" for i in ("1.0", "1.1", "2.0")]
    assert all(value.all() for name, value in values(small(kind, "float32")).items() if name.endswith("weight"))


def test_initialization_is_hes_by_the_outputs_of_a_convolution():
    mg.manual_seed(0)
    first = values(resnet.ResNet(resnet.Bottleneck, (1, 1), 50, groups=2))
    last = values(preact_resnet.PreActResNet(preact_resnet.PreActBottleneck, (1, 1), (64, 128), 50, 3, small_images=False))
    for name, value in (*first.items(), *last.items()):
        if value.ndim == 4 and "head" not in name:
            std = math.sqrt(2 / (value.shape[0] * value.shape[2] * value.shape[3]))
            assert value.std() == pytest.approx(std, rel=0.05), name
            assert abs(value).max() > 3 * std, name  # a uniform distribution ends at 1.7
    assert abs(first["fc.weight"]).max() == pytest.approx(1 / math.sqrt(512), rel=0.01)
    assert last["head.fc.weight"].std() == pytest.approx(0.01, rel=0.05)
    assert not last["head.fc.bias"].any()


NAMES = sorted({name for name, _ in PARAMETERS if name != "cifar_preact_resnet1001"} | set(cifar_resnet.__all__[3:]))


@pytest.mark.parametrize("name", NAMES)
def test_every_option_reaches_the_network(name):
    known = mg.models.info(name).options
    wanted = {"norm": "group", "stride_in": "1x1", "dropout": 0.25, "option": "B", "zero_init_residual": True}
    with init.skipped():
        model = make(name, num_classes=7, in_channels=2, **{key: value for key, value in wanted.items() if key in known})
    modules = list(model.modules())
    kinds = [type(module).__name__ for module in modules]
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    assert convolutions[0].in_channels == 2
    assert list(model.parameters())[-1].shape == (7,)  # the bias of the classifier
    assert ("GroupNorm" in kinds, "BatchNorm2d" in kinds) == (("norm" in known), ("norm" not in known))
    if "stride_in" in known:
        strides = [np.max(c.stride) for c in convolutions if c.kernel_size in (3, (3, 3))]
        assert max(strides) == 1
    if "dropout" in known:
        assert {module.p for module in modules if isinstance(module, nn.Dropout)} == {0.25}
    if "zero_init_residual" in known:
        blocks = [module for module in modules if hasattr(type(module), "last_norm")]
        assert not any(block.last_norm.weight.detach().numpy().any() for block in blocks)
    if "option" in known:
        assert "PadShortcut" not in kinds


def test_the_norm_may_be_a_function_of_the_channels():
    def norm(channels):
        return nn.BatchNorm2d(channels, momentum=0.25)

    for model in (cifar_resnet.cifar_resnet20(norm=norm, option="B"), resnet.resnet18(2, norm=norm)):
        momenta = {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
        assert momenta == {0.25}


def test_options_and_images_that_do_not_fit():
    with pytest.raises(
        ValueError, match=r"norm must be one of batch, group, layer, instance, got 'bath': did you mean 'batch'\?"
    ):
        resnet.resnet18(norm="bath")
    with pytest.raises(ValueError, match="norm must be one of"):
        cifar_resnet.cifar_resnet20(norm="group32")
    with pytest.raises(ValueError, match="norm must be one of"):
        preact_resnet.cifar_preact_resnet110(norm="none")
    for function in (resnet.resnet50, preact_resnet.cifar_preact_resnet164):
        with pytest.raises(ValueError, match=r"stride_in must be \"3x3\" .* or \"1x1\" .*, got 'conv1'"):
            function(stride_in="conv1")
    with pytest.raises(ValueError, match="dropout must be a probability between 0 and 1, got 30"):
        cifar_wide_resnet.cifar_wrn40_1(dropout=30)
    with pytest.raises(ValueError, match="layers must be the numbers of blocks of 1 to 4 stages"):
        resnet.ResNet(resnet.BasicBlock, (1, 1, 1, 1, 1))
    with init.skipped():
        with pytest.raises(ValueError, match=r"^conv1: conv2d: .*expects C=3 input channels, got C=1"):
            resnet.resnet18()(mg.zeros(1, 1, 64, 64))
        with pytest.raises(ValueError, match=r"^stem.conv: conv2d: .*expects C=1 input channels, got C=3"):
            cifar_wide_resnet.cifar_wrn16_4(in_channels=1)(mg.zeros(1, 3, 32, 32))
        with pytest.raises(ValueError, match=r"^layer4.0.bn1: .*one value per channel.*larger batch or image"):
            resnet.resnet18()(mg.zeros(1, 3, 32, 32))
