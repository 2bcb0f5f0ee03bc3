"""Networks that concatenate or gate their channels: GoogLeNet, DenseNet, SENet."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.models import registry
from minigrad.models.densenet import DenseBlock, DenseLayer, DenseNet, densenet121
from minigrad.models.googlenet import BLOCKS, IMAGENET_MEAN, IMAGENET_STD, GoogLeNetOutputs, Inception, googlenet, googlenet_2014
from minigrad.models.senet import SEBasicBlock, SEBottleneck, SENet, se_resnet18
from minigrad.nn import functional as F
from minigrad.nn import init
from tests.models.oracle import (
    assert_canonical_state,
    assert_like_torch,
    count,
    import_timm,
    import_torchvision,
    load_torch,
    randomize,
)

# Published sizes, and what follows from them: another classifier, other images.
COUNTS = [
    ("googlenet", {}, 6_624_904),
    ("googlenet", {"aux_logits": True}, 13_004_888),
    ("googlenet", {"num_classes": 10, "in_channels": 1}, 6_624_904 - 990 * 1025 - 2 * 64 * 49),
    ("googlenet_2014", {}, 6_998_552),
    ("googlenet_2014", {"aux_logits": True}, 13_378_280),
    ("googlenet_2014", {"num_classes": 10, "in_channels": 4}, 6_998_552 - 990 * 1025 + 64 * 49),
    ("densenet121", {}, 7_978_856),
    ("densenet161", {}, 28_681_000),
    ("densenet169", {}, 14_149_480),
    ("densenet201", {}, 20_013_928),
    ("densenet121", {"num_classes": 10, "in_channels": 1}, 7_978_856 - 990 * 1025 - 2 * 64 * 49),
    ("cifar_densenet40_12", {}, 1_019_722),
    ("cifar_densenet100_12", {}, 6_979_642),
    ("cifar_densenet_bc100_12", {}, 769_162),
    ("cifar_densenet_bc250_24", {}, 15_324_406),
    ("cifar_densenet_bc190_40", {}, 25_624_430),
    ("cifar_densenet_bc100_12", {"num_classes": 100, "in_channels": 1}, 769_162 + 90 * 343 - 2 * 24 * 9),
    ("se_resnet18", {}, 11_778_592),
    ("se_resnet34", {}, 21_958_868),
    ("se_resnet50", {}, 28_088_024),
    ("se_resnet101", {}, 49_326_872),
    ("se_resnet152", {}, 66_821_848),
    ("se_resnext50_32x4d", {}, 27_559_896),
    ("senet154", {}, 115_088_984),
    ("se_resnet18", {"num_classes": 10, "in_channels": 1}, 11_778_592 - 990 * 513 - 2 * 64 * 49),
]
STATES = {
    "densenet121": "densenet121",
    "densenet161": "densenet161",
    "densenet169": "densenet169",
    "densenet201": "densenet201",
    "se_resnet18": "timm.legacy_seresnet18",
    "se_resnet34": "timm.legacy_seresnet34",
    "se_resnet50": "timm.legacy_seresnet50",
    "se_resnet101": "timm.legacy_seresnet101",
    "se_resnet152": "timm.legacy_seresnet152",
    "se_resnext50_32x4d": "timm.legacy_seresnext50_32x4d",
    "senet154": "timm.legacy_senet154",
}


def bare(name, **options):
    """A network whose weights are not drawn."""
    with init.skipped():
        return registry.info(name).factory(**options)


def zero(name, **options):
    """A network whose weights are all zero: quick to make, for where only shapes matter."""
    model = bare(name, **options)
    for p in model.parameters():
        init.zeros_(p)
    return model


@pytest.mark.parametrize(("name", "options", "expected"), COUNTS, ids=[f"{name}-{options}" for name, options, _ in COUNTS])
def test_parameter_counts_are_the_published_ones(name, options, expected):
    assert count(bare(name, **options)) == expected


@pytest.mark.parametrize("name", STATES)
def test_state_has_the_names_of_the_common_checkpoints(name):
    assert_canonical_state(bare(name), STATES[name])


def test_state_of_googlenet_is_that_of_torchvision():
    assert_canonical_state(bare("googlenet", aux_logits=True), "googlenet")
    names = [name for name in bare("googlenet", aux_logits=True).state_dict() if not name.startswith("aux")]
    assert list(bare("googlenet").state_dict()) == names
    assert len(names) == 344
    published = [name for name in names if ".bn." not in name]
    published = [n for name in published for n in ([name, name.replace("weight", "bias")] if ".conv." in name else [name])]
    assert list(bare("googlenet_2014").state_dict()) == published


# ---- shapes and training -----------------------------------------------------------------------------------------------


def shapes_of(model, names, x):
    """The shapes of the outputs of the modules of these names, without the batch."""
    shapes, modules = [], dict(model.named_modules())
    for name in names:
        modules[name].register_forward_hook(lambda module, inputs, y: shapes.append(y.shape[1:]))
    with mg.no_grad():
        model.eval()(x)
    return shapes


@pytest.mark.parametrize(
    ("name", "size", "modules", "expected"),
    [
        ("googlenet", 32, "maxpool2 inception3b inception4a inception5b", [(192, 4, 4), (480, 4, 4), (512, 2, 2), (1024, 1, 1)]),
        ("googlenet_2014", 40, "maxpool1 maxpool2 maxpool4", [(64, 10, 10), (192, 5, 5), (832, 1, 1)]),
        ("densenet121", 32, "features.pool0 features.denseblock1 features.transition1", [(64, 8, 8), (256, 8, 8), (128, 4, 4)]),
        ("cifar_densenet40_12", 16, "features.conv0 features.transition1", [(16, 16, 16), (160, 8, 8)]),
        ("cifar_densenet_bc100_12", 8, "features.conv0 features.transition1", [(24, 8, 8), (108, 4, 4)]),
        ("se_resnet18", 64, "layer0 pool0 layer1 layer4", [(64, 32, 32), (64, 16, 16), (64, 16, 16), (512, 2, 2)]),
    ],
)
def test_stages_have_the_documented_shapes(name, size, modules, expected):
    model = zero(name, num_classes=3)
    shapes = shapes_of(model, modules.split(), mg.randn(1, 3, size, size))
    assert sorted(shapes) == sorted(expected)


def step(model, x):
    """A step of training on outputs that may be several; every parameter must get a finite gradient that is not zero."""
    outputs = model(x)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    labels = mg.tensor([i % 3 for i in range(len(x))])
    sum(F.cross_entropy(y, labels) for y in outputs).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert np.isfinite(p.grad.numpy()).all(), name
        assert p.grad.numpy().any(), name


def on_top_of(channels, *blocks):
    """A linear classifier of three classes for the mean of what the blocks give."""
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


NETWORKS = {
    "googlenet": (lambda: googlenet(3, 1, aux_logits=True), 32),
    "googlenet_2014": (lambda: googlenet_2014(3, 1), 32),
    "densenet": (lambda: DenseNet(6, (2, 3), 8, 3, 1, drop_rate=0.2), 32),
    "cifar_densenet": (lambda: DenseNet(4, (2, 2, 2), 8, 3, 1, 0, 1.0, 0.2, small_images=True), 8),
    "se_resnet": (lambda: SENet(SEBasicBlock, (1, 1, 1, 1), 3, 1), 32),
    "resnet": (lambda: on_top_of(64, nn.Conv2d(1, 64, 3), SEBottleneck(64, 16), SEBottleneck(64, 16)), 8),
    "resnext": (lambda: on_top_of(64, nn.Conv2d(1, 64, 3), SEBottleneck(64, 16, kind="resnext", groups=8)), 8),
    "senet": (lambda: on_top_of(64, nn.Conv2d(1, 64, 3), SEBottleneck(64, 16, kind="senet", groups=8)), 8),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_of_training_gives_every_parameter_a_gradient(name):
    mg.manual_seed(0)
    make, size = NETWORKS[name]
    step(make(), mg.randn(6, 1, size, size))


@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.startswith("google")])
def test_single_and_double_precision_agree(name):
    mg.manual_seed(0)
    make, size = NETWORKS[name]
    model, x = make().eval(), mg.randn(2, 1, size, size)
    with mg.no_grad():
        y = model(x)
        y64 = model.double()(x.double())
    assert y.shape == y64.shape == (2, 3)
    assert y64.dtype == mg.float64
    assert abs(y64.numpy() - y.numpy()).max() <= 1e-4 * abs(y64.numpy()).max()


# ---- what is particular to each ----------------------------------------------------------------------------------------


def test_googlenet_returns_auxiliary_logits_in_training_only():
    model = zero("googlenet", num_classes=4, aux_logits=True)
    outputs = model(mg.randn(2, 3, 32, 32))
    assert isinstance(outputs, GoogLeNetOutputs)
    assert outputs._fields == ("logits", "aux_logits2", "aux_logits1")
    assert [y.shape for y in outputs] == [(2, 4)] * 3
    assert model.eval()(mg.randn(2, 3, 32, 32)).shape == (2, 4)
    assert zero("googlenet", num_classes=4)(mg.randn(2, 3, 32, 32)).shape == (2, 4)


def test_googlenet_transforms_its_input():
    model = zero("googlenet", transform_input=True)
    images = np.random.default_rng(0).random((2, 3, 16, 16)).astype(np.float32)
    mean, std = (np.float32([*v]).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    seen = []
    model.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].numpy()))
    model.eval()(mg.tensor((images - mean) / std))
    np.testing.assert_allclose(seen[0], (images - 0.5) / 0.5, atol=1e-6)
    with pytest.raises(ValueError, match=r"transform_input is for RGB images \(N, 3, H, W\), got shape \(2, 1, 16, 16\)"):
        model(mg.randn(2, 1, 16, 16))


def test_inception_block_can_be_used_alone():
    block = Inception(8, 3, 4, 5, 2, 4, 6)
    assert block(mg.randn(2, 8, 9, 7)).shape == (2, 18, 9, 7)
    assert block.branch3[1].conv.weight.shape == (4, 2, 5, 5)
    assert [len(part.branch3[1].state_dict()) for part in (block, Inception(8, 3, 4, 5, 2, 4, 6, batch_norm=False))] == [6, 2]
    assert count(Inception(192, *BLOCKS["3a"], batch_norm=False)) == 163_696


def test_published_googlenet_starts_as_caffes():
    mg.manual_seed(0)
    model = googlenet_2014(5, aux_logits=True)
    constants = {name: set(p.numpy().ravel().tolist()) for name, p in model.state_dict().items() if name.endswith("bias")}
    zeros = [name for name, values in constants.items() if values == {0.0}]
    assert zeros == ["aux1.fc2.bias", "aux2.fc2.bias", "fc.bias"]
    assert all(values == {float(np.float32(0.2))} for name, values in constants.items() if name not in zeros)
    weight = model.inception5b.branch2[1].conv.weight.detach().numpy()
    assert abs(weight).max() <= (3 / (192 * 9)) ** 0.5
    assert weight.std() == pytest.approx((192 * 9) ** -0.5, rel=0.01)


def test_batch_normalized_googlenet_starts_as_torchvisions():
    mg.manual_seed(0)
    model = googlenet(5)
    for weight in (model.conv3.conv.weight, model.inception5b.branch2[1].conv.weight):
        assert weight.detach().numpy().std() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("bn_size", [0, 2])
def test_dense_block_appends_what_each_layer_makes_of_all_before(bn_size):
    block = DenseBlock(3, 5, 4, bn_size).eval()
    x = mg.randn(2, 5, 6, 7)
    with mg.no_grad():
        y = block(x).numpy()
        assert y.shape == (2, block.out_channels, 6, 7) == (2, 17, 6, 7)
        np.testing.assert_array_equal(y[:, :5], x.numpy())
        for i, layer in enumerate(block):
            seen = 5 + 4 * i
            np.testing.assert_allclose(y[:, seen : seen + 4], layer(mg.tensor(y[:, :seen])).numpy(), rtol=1e-5, atol=1e-6)
    assert list(block._modules) == ["denselayer1", "denselayer2", "denselayer3"]
    assert block.denselayer2.conv1.weight.shape == ((8, 9, 1, 1) if bn_size else (4, 9, 3, 3))


def test_drop_rate_acts_on_new_channels_in_training():
    mg.manual_seed(0)
    x = mg.randn(2, 8, 16, 16)
    for drop_rate, expected in ((0.0, 0.0), (0.3, 0.3)):
        y = DenseBlock(1, 8, 16, drop_rate=drop_rate)(x).detach().numpy()
        np.testing.assert_array_equal(y[:, :8], x.numpy())
        assert abs((y[:, 8:] == 0).mean() - expected) < 0.02
    y = DenseBlock(1, 8, 16, drop_rate=0.3).eval()(x).detach().numpy()
    assert y.all()
    for name in ("densenet121", "densenet161", "densenet169", "densenet201", "cifar_densenet40_12", "cifar_densenet_bc100_12"):
        model = bare(name, drop_rate=0.25)
        assert {m.drop_rate for m in model.modules() if isinstance(m, DenseLayer)} == {0.25}


def test_compression_rounds_down():
    model = DenseNet(3, (1, 1), 8, 5, compression=0.7, small_images=True)
    assert model.features.transition1.conv.weight.shape == (7, 11, 1, 1)  # 7.7 channels
    assert model(mg.randn(1, 3, 5, 5)).shape == (1, 5)


def test_gates_scale_the_residual_branch_only():
    block = SEBottleneck(8, 16, 2, nn.Conv2d(8, 64, 1, stride=2), reduction=8)
    x = mg.randn(2, 8, 6, 6)
    init.zeros_(block.se_module.fc2.weight)
    init.constant_(block.se_module.fc2.bias, -200.0)  # a gate of 0
    expected = F.relu(block.downsample(x)).detach().numpy()
    np.testing.assert_allclose(block(x).detach().numpy(), expected, atol=1e-6)
    assert block.se_module.fc1.weight.shape == (8, 64, 1, 1)


@pytest.mark.parametrize(("kind", "position"), [("resnet", 1), ("resnext", 2), ("senet", 2)])
def test_stride_of_a_bottleneck(kind, position):
    block = SEBottleneck(16, 16, 2, nn.Conv2d(16, 64, 1, stride=2), kind=kind)
    strides = [block.conv1.stride, block.conv2.stride]
    assert [np.max(stride) for stride in strides] == [2 if position == 1 else 1, 2 if position == 2 else 1]


def test_dropout_before_the_classifier():
    assert bare("senet154", num_classes=2).dropout.p == 0.2
    assert bare("se_resnet50", num_classes=2).dropout.p == 0
    for name in ("se_resnet18", "se_resnet34", "se_resnet50", "se_resnet101", "se_resnet152", "se_resnext50_32x4d", "senet154"):
        assert bare(name, num_classes=2, drop_rate=0.5).dropout.p == 0.5
    assert bare("googlenet").dropout.p == 0.2
    assert bare("googlenet_2014").dropout.p == 0.4
    model = bare("googlenet", dropout=0.1, dropout_aux=0.3, aux_logits=True)
    assert [model.dropout.p, model.aux1.dropout.p, model.aux2.dropout.p] == [0.1, 0.3, 0.3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: googlenet(in_channels=1, transform_input=True), "it needs in_channels=3, got 1"),
        (lambda: googlenet(dropout=1.5), "dropout must be a probability between 0 and 1, got 1.5"),
        (lambda: googlenet_2014(dropout_aux=-1), "dropout_aux must be a probability between 0 and 1, got -1"),
        (lambda: Inception(8, 3, 4, 5, 2, 4, 6, large_kernel=4), r"large_kernel must be 5 .* or 3 .*, got 4"),
        (lambda: densenet121(drop_rate=2), "drop_rate must be a probability between 0 and 1, got 2"),
        (lambda: DenseNet(4, (2, 0), 8), "num_layers must be an integer of at least 1, got 0"),
        (lambda: DenseBlock(2, 8, 4, bn_size=1.5), "bn_size must be an integer of at least 0, got 1.5"),
        (lambda: DenseBlock(2, 8, True), "growth_rate must be an integer of at least 1, got True"),
        (lambda: DenseNet(4, (2, 2), 8, compression=0), "compression must be above 0 and at most 1, got 0"),
        (lambda: se_resnet18(drop_rate=-0.1), "drop_rate must be a probability between 0 and 1, got -0.1"),
        (lambda: SEBottleneck(8, 16, kind="resnest"), "kind must be one of resnet, resnext, senet, got 'resnest'"),
    ],
)
def test_options_that_cannot_be(call, message):
    with init.skipped(), pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "smallest", "where"),
    [
        ("googlenet", 15, "maxpool3: max_pool2d"),
        ("googlenet_2014", 31, "maxpool4: max_pool2d"),
        ("densenet121", 29, "features.transition3.pool: avg_pool2d"),
        ("cifar_densenet40_12", 4, "features.transition2.pool: avg_pool2d"),
        ("se_resnet18", 3, "pool0: max_pool2d"),
    ],
)
def test_images_that_do_not_fit(name, smallest, where):
    model = zero(name, num_classes=2).eval()
    with mg.no_grad():
        assert model(mg.randn(1, 3, smallest, smallest)).shape == (1, 2)
        with pytest.raises(ValueError, match=rf"^{where}: the kernel . x . is larger than the input 1 x 1"):
            model(mg.randn(1, 3, smallest - 1, smallest - 1))
        with pytest.raises(ValueError, match=r"conv\d?(\.conv)?: conv2d: .*expects C=3 input channels, got C=1"):
            model(mg.randn(1, 1, 32, 32))


def test_published_auxiliary_classifiers_need_images_of_about_224_pixels():
    model = zero("googlenet_2014", num_classes=2, aux_logits=True)
    with mg.no_grad(), pytest.raises(ValueError, match=r"^aux2\.fc1: linear: expects 2048 features, got 128"):
        model(mg.zeros(1, 3, 96, 96))


# ---- the same networks in PyTorch --------------------------------------------------------------------------------------


def test_googlenet_computes_what_torchvisions_does():
    theirs = import_torchvision().GoogLeNet(num_classes=10, aux_logits=False, init_weights=False, transform_input=True)
    assert_like_torch(googlenet(10, transform_input=True), theirs, (2, 3, 40, 40), gradients=True)


def test_auxiliary_classifiers_compute_what_torchvisions_do():
    options = {"num_classes": 5, "aux_logits": True, "dropout": 0.0, "dropout_aux": 0.0}
    theirs = import_torchvision().GoogLeNet(init_weights=False, **options).double()
    ours = googlenet(**options).double()
    load_torch(ours, theirs)
    assert_same_outputs(ours, theirs, (2, 3, 64, 48))


def assert_same_outputs(ours, theirs, shape, tolerance=1e-9):
    """All outputs (or rows of the one output) in the present mode, in float64."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal(shape)
    with mg.no_grad(), torch.no_grad():
        outputs, expected = ours(mg.tensor(x)), theirs(torch.from_numpy(x))
    for y, t in zip(outputs, expected, strict=True):
        assert abs(y.numpy() - t.numpy()).max() <= tolerance * abs(t.numpy()).max()


def torch_googlenet(num_classes: int, aux_logits: bool):
    """GoogLeNet after table 1 and figure 3 of the paper, with AlexNet's response normalization."""
    import torch
    from torch.nn import AvgPool2d, Conv2d, Linear, LocalResponseNorm, MaxPool2d, Module, Sequential

    class ConvReLU(Module):
        def __init__(self, inputs, outputs, size, stride=1):
            super().__init__()
            self.conv = Conv2d(inputs, outputs, size, stride, size // 2)

        def forward(self, x):
            return torch.relu(self.conv(x))

    class Block(Module):
        def __init__(self, inputs, one, red3, three, red5, five, pool):
            super().__init__()
            self.branch1 = ConvReLU(inputs, one, 1)
            self.branch2 = Sequential(ConvReLU(inputs, red3, 1), ConvReLU(red3, three, 3))
            self.branch3 = Sequential(ConvReLU(inputs, red5, 1), ConvReLU(red5, five, 5))
            self.branch4 = Sequential(MaxPool2d(3, 1, 1), ConvReLU(inputs, pool, 1))

        def forward(self, x):
            return torch.cat([branch(x) for branch in self.children()], 1)

    class Auxiliary(Module):
        def __init__(self, inputs):
            super().__init__()
            self.conv, self.fc1, self.fc2 = ConvReLU(inputs, 128, 1), Linear(2048, 1024), Linear(1024, num_classes)

        def forward(self, x):
            x = AvgPool2d(5, 3)(x)
            return self.fc2(torch.relu(self.fc1(self.conv(x).flatten(1))))

    class Net(Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2, self.conv3 = ConvReLU(3, 64, 7, 2), ConvReLU(64, 64, 1), ConvReLU(64, 192, 3)
            self.inception3a = Block(192, 64, 96, 128, 16, 32, 32)
            self.inception3b = Block(256, 128, 128, 192, 32, 96, 64)
            self.inception4a = Block(480, 192, 96, 208, 16, 48, 64)
            self.inception4b = Block(512, 160, 112, 224, 24, 64, 64)
            self.inception4c = Block(512, 128, 128, 256, 24, 64, 64)
            self.inception4d = Block(512, 112, 144, 288, 32, 64, 64)
            self.inception4e = Block(528, 256, 160, 320, 32, 128, 128)
            self.inception5a = Block(832, 256, 160, 320, 32, 128, 128)
            self.inception5b = Block(832, 384, 192, 384, 48, 128, 128)
            if aux_logits:
                self.aux1, self.aux2 = Auxiliary(512), Auxiliary(528)
            self.fc = Linear(1024, num_classes)

        def forward(self, x):
            pool = MaxPool2d(3, 2, ceil_mode=True)
            norm = LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)  # PyTorch divides alpha by the size
            stem = Sequential(self.conv1, pool, norm, self.conv2, self.conv3, norm, pool)
            a = Sequential(stem, self.inception3a, self.inception3b, pool, self.inception4a)(x)
            d = Sequential(self.inception4b, self.inception4c, self.inception4d)(a)
            y = Sequential(self.inception4e, pool, self.inception5a, self.inception5b)(d)
            y = self.fc(y.mean((2, 3)))
            return (y, self.aux2(d), self.aux1(a)) if aux_logits and self.training else y

    net = Net()
    for module in net.modules():  # so that the response normalization has something to do
        if isinstance(module, Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return net


def test_published_googlenet_computes_what_the_paper_says():
    pytest.importorskip("torch")
    assert_like_torch(googlenet_2014(10), torch_googlenet(10, False), (2, 3, 40, 40), gradients=True)


def test_published_auxiliary_classifiers_compute_what_the_paper_says():
    pytest.importorskip("torch")
    theirs = torch_googlenet(5, True).double()
    ours = googlenet_2014(5, aux_logits=True, dropout=0.0, dropout_aux=0.0).double()
    load_torch(ours, theirs)
    assert_same_outputs(ours, theirs, (1, 3, 224, 224))


def test_densenet_computes_what_torchvisions_does():
    theirs = import_torchvision().densenet121(num_classes=10)
    assert_like_torch(bare("densenet121", num_classes=10), theirs, (2, 3, 40, 40))


def test_small_densenet_has_the_gradients_of_torchvisions():
    theirs = import_torchvision().DenseNet(8, (2, 3, 2, 2), 16, num_classes=5)
    assert_like_torch(DenseNet(8, (2, 3, 2, 2), 16, 5), theirs, (2, 3, 40, 40), gradients=True)


def torch_cifar_densenet(depth: int, growth: int, bottleneck: bool, num_classes: int = 10):
    """DenseNet for CIFAR after section 4.2 of the paper: BN-ReLU-conv everywhere, three blocks."""
    from collections import OrderedDict

    import torch
    from torch.nn import AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, Module, ReLU, Sequential

    class Layer(Module):
        def __init__(self, channels):
            super().__init__()
            self.norm1 = BatchNorm2d(channels)
            if bottleneck:
                self.conv1 = Conv2d(channels, 4 * growth, 1, bias=False)
                self.norm2 = BatchNorm2d(4 * growth)
                self.conv2 = Conv2d(4 * growth, growth, 3, padding=1, bias=False)
            else:
                self.conv1 = Conv2d(channels, growth, 3, padding=1, bias=False)

        def forward(self, x):
            y = self.conv1(self.norm1(x).relu())
            return torch.cat([x, self.conv2(self.norm2(y).relu()) if bottleneck else y], 1)

    layers, channels = (depth - 4) // (6 if bottleneck else 3), 2 * growth if bottleneck else 16
    features = OrderedDict(conv0=Conv2d(3, channels, 3, padding=1, bias=False))
    for i in range(3):
        if i:
            kept = channels // 2 if bottleneck else channels
            norm, conv = BatchNorm2d(channels), Conv2d(channels, kept, 1, bias=False)
            features[f"transition{i}"] = Sequential(OrderedDict(norm=norm, relu=ReLU(), conv=conv, pool=AvgPool2d(2)))
            channels = kept
        block = OrderedDict((f"denselayer{j + 1}", Layer(channels + j * growth)) for j in range(layers))
        features[f"denseblock{i + 1}"] = Sequential(block)
        channels += layers * growth
    features["norm4"] = BatchNorm2d(channels)
    head = {"relu": ReLU(), "pool": AdaptiveAvgPool2d(1), "flat": Flatten(), "classifier": Linear(channels, num_classes)}
    return Sequential(OrderedDict(features=Sequential(features), **head))


@pytest.mark.parametrize(
    ("name", "depth", "bottleneck", "gradients"),
    [("cifar_densenet40_12", 40, False, True), ("cifar_densenet_bc100_12", 100, True, False)],
)
def test_cifar_densenets_compute_what_the_paper_says(name, depth, bottleneck, gradients):
    pytest.importorskip("torch")
    assert_like_torch(bare(name), torch_cifar_densenet(depth, 12, bottleneck), (2, 3, 12, 12), gradients)


@pytest.mark.parametrize(
    ("block", "theirs", "groups", "stem", "shortcut_kernel", "options"),
    [
        (SEBasicBlock, "SEResNetBlock", 1, (64,), 1, {}),
        (SEBottleneck, "SEResNetBottleneck", 1, (64,), 1, {"kind": "resnet"}),
        (SEBottleneck, "SEResNeXtBottleneck", 32, (64,), 1, {"kind": "resnext", "groups": 32}),
        (SEBottleneck, "SEBottleneck", 64, (64, 64, 128), 3, {"kind": "senet", "groups": 64}),
    ],
    ids=["basic", "resnet", "resnext", "senet"],
)
def test_blocks_of_senets_compute_what_timms_do(block, theirs, groups, stem, shortcut_kernel, options):
    """Networks of one block per stage."""
    import_timm()
    from timm.models import senet

    arguments = {"downsample_kernel_size": shortcut_kernel, "downsample_padding": shortcut_kernel // 2}
    arguments["input_3x3"] = len(stem) == 3
    other = senet.SENet(getattr(senet, theirs), (1, 1, 1, 1), groups, 16, inplanes=stem[-1], num_classes=5, **arguments)
    with init.skipped():
        model = SENet(block, (1, 1, 1, 1), 5, 3, stem, shortcut_kernel, **options)
    assert_like_torch(model, other, (2, 3, 40, 40), gradients=block is SEBasicBlock or options["kind"] == "resnext")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STATES if "se" in name and "densenet" not in name])
def test_senets_compute_what_timms_do(name):
    """In float64: without statistics of its own the deepest network enlarges roundings a million times."""
    pytest.importorskip("torch").manual_seed(0)
    theirs = import_timm().create_model(STATES[name].removeprefix("timm."), num_classes=10)
    randomize(theirs)
    ours = bare(name, num_classes=10)
    load_torch(ours, theirs)
    assert_same_outputs(ours.double().eval(), theirs.double().eval(), (2, 3, 64, 64), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet161", "densenet169", "densenet201"])
def test_deeper_densenets_compute_what_torchvisions_do(name):
    theirs = getattr(import_torchvision(), name)(num_classes=10)
    assert_like_torch(bare(name, num_classes=10), theirs, (2, 3, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depth", "growth", "bottleneck"),
    [
        ("cifar_densenet100_12", 100, 12, False),
        ("cifar_densenet_bc190_40", 190, 40, True),
        ("cifar_densenet_bc250_24", 250, 24, True),
    ],
)
def test_deeper_cifar_densenets_compute_what_the_paper_says(name, depth, growth, bottleneck):
    pytest.importorskip("torch")
    assert_like_torch(bare(name), torch_cifar_densenet(depth, growth, bottleneck), (1, 3, 8, 8))
