"""The networks before residual connections: LeNet-5, AlexNet, ZFNet, VGG, network in network."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.models.alexnet import alexnet, alexnet_2012
from minigrad.models.lenet import lenet5_1998
from minigrad.models.nin import cifar_nin, nin
from minigrad.models.registry import create, info
from minigrad.models.vgg import VGG, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from minigrad.models.zfnet import zfnet
from minigrad.nn import functional as F
from minigrad.nn import init
from tests.models.oracle import assert_canonical_state, assert_like_torch, count, import_torchvision, load_torch, randomize
from tests.nn.parity import close, compare

COUNTS = [
    (lenet5_1998, {}, 60_000),
    (lenet5_1998, {"num_classes": 95}, 60_000),
    (lenet5_1998, {"input_size": 28}, 60_000),
    (lenet5_1998, {"in_channels": 3}, 60_300),
    (alexnet_2012, {}, 60_965_224),
    (alexnet_2012, {"groups": 1}, 62_378_344),
    (alexnet_2012, {"num_classes": 10, "in_channels": 1}, 60_965_224 - 990 * 4097 - 2 * 96 * 121),
    (alexnet, {}, 61_100_840),
    (alexnet, {"num_classes": 10, "in_channels": 1}, 61_100_840 - 990 * 4097 - 2 * 64 * 121),
    (zfnet, {}, 62_357_608),
    (zfnet, {"maps": (512, 1024, 512)}, 107_627_624),
    (zfnet, {"num_classes": 10, "in_channels": 1}, 62_357_608 - 990 * 4097 - 2 * 96 * 49),
    (vgg11, {}, 132_863_336),
    (vgg11_bn, {}, 132_868_840),
    (vgg13, {}, 133_047_848),
    (vgg13_bn, {}, 133_053_736),
    (vgg16, {}, 138_357_544),
    (vgg16_bn, {}, 138_365_992),
    (vgg19, {}, 143_667_240),
    (vgg19_bn, {}, 143_678_248),
    (vgg16, {"num_classes": 10, "in_channels": 1}, 138_357_544 - 990 * 4097 - 2 * 64 * 9),
    (nin, {}, 7_595_176),
    (nin, {"num_classes": 10, "in_channels": 1}, 7_595_176 - 990 * 1025 - 2 * 96 * 121),
    (cifar_nin, {}, 966_986),
    (cifar_nin, {"num_classes": 100, "in_channels": 1}, 966_986 + 90 * 193 - 2 * 192 * 25),
]
MACS = {lenet5_1998: 325_680, cifar_nin: 222_486_528, nin: 1.106e9, alexnet_2012: 0.724e9, alexnet: 0.714e9, zfnet: 1.168e9}
FEATURES = [  # network, module, receptive field and stride there
    ("lenet5_1998", "s4", 16, 4),
    ("lenet5_1998", "c5", 32, 4),
    ("alexnet_2012", "pool", 195, 32),
    ("alexnet", "features", 195, 32),
    ("zfnet", "pool5", 171, 32),
    ("vgg16", "features", 212, 32),
    ("nin", "pool3", 131, 32),
]


def made(factory, scale: float = 0.0, **options):
    """A network without drawing its weights, all of which are ``scale`` instead."""
    with init.skipped():
        model = factory(**options)
    for p in model.parameters():
        init.constant_(p, scale)
    return model


@pytest.mark.parametrize(("factory", "options", "expected"), COUNTS, ids=[f"{f.__name__}-{o}" for f, o, _ in COUNTS])
def test_parameter_counts_are_the_published_ones(factory, options, expected):
    with init.skipped():
        assert count(factory(**options)) == expected


@pytest.mark.parametrize("factory", [f for f, options, _ in COUNTS if not options], ids=lambda f: f.__name__)
def test_registered_figures(factory):
    model = info(factory.__name__)
    with init.skipped():
        assert count(factory()) == model.parameters
    assert list(model.options)[:2] == ["num_classes", "in_channels"]
    if factory in MACS:
        assert model.macs == pytest.approx(MACS[factory], rel=1e-3)


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
def test_the_registered_multiply_accumulates_of_vgg_are_torchvision_s(name):
    published = {"vgg11": 7.609e9, "vgg13": 11.308e9, "vgg16": 15.470e9, "vgg19": 19.632e9}[name]
    assert info(name).macs == info(f"{name}_bn").macs == pytest.approx(published, rel=1e-4)


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "vgg16_bn", "vgg19_bn"])
def test_state_has_the_canonical_names(name):
    with init.skipped():
        assert_canonical_state(create(name), name)


def test_state_of_the_others():
    def keys(model):
        return [key.removesuffix(".weight") for key in model.state_dict() if not key.endswith(".bias")]

    with init.skipped():
        caffe = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
        assert keys(alexnet_2012()) == keys(zfnet()) == caffe
        assert keys(cifar_nin()) == [f"mlpconv{i}.{j}" for i in (1, 2, 3) for j in (0, 2, 4)]
        lenet = ["c1", "s2", "c3.convs.0", "c3.convs.1", "c3.convs.2", "s4", "c5", "f6", "output.codes"]
        assert keys(lenet5_1998()) == lenet
        assert alexnet_2012().conv2.weight.shape == (256, 48, 5, 5)


@pytest.mark.parametrize(
    ("name", "module", "field", "stride"),
    [pytest.param(*f, marks=[pytest.mark.slow] if f[0] == "vgg16" else [], id=f"{f[0]}-{f[1]}") for f in FEATURES],
)
def test_receptive_fields_and_multiply_accumulates(name, module, field, stride):
    shape = info(name).input_shape
    result = mg.summary(made(info(name).factory), shape)
    assert result.macs == info(name).macs
    if module == "features":
        row = [row for row in result.rows if row.kind == "MaxPool2d"][-1]
    else:
        row = [row for row in result.rows if row.name == module][-1]
    assert row.field.size == (field, field)
    assert row.field.jump == (stride, stride)


# ---- initialization, training, sizes -----------------------------------------------------------------------------------


def spread(p) -> float:
    return float(p.detach().numpy().ravel()[:100_000].std())


def test_biases_of_alexnet_start_at_one_where_the_paper_says_so():
    with init.skipped():
        model = alexnet_2012()
    ones = {"conv2", "conv4", "conv5", "fc6", "fc7"}
    for name, module in model.named_children():
        if hasattr(module, "bias"):
            assert set(module.bias.detach().numpy().tolist()) == {1.0 if name in ones else 0.0}, name


@pytest.mark.slow
def test_weights_of_large_networks_start_as_published():
    mg.manual_seed(0)
    for model in (alexnet_2012(2), zfnet(2)):
        for p in (model.conv1.weight, model.conv5.weight, model.fc6.weight, model.fc8.weight):
            assert spread(p) == pytest.approx(0.01, rel=0.05)
    model = VGG(11, 2)
    assert spread(model.features[3].weight) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)  # for the outputs
    assert spread(model.classifier[0].weight) == pytest.approx(0.01, rel=0.02)
    assert not model.features[3].bias.detach().numpy().any()
    assert not model.classifier[6].bias.detach().numpy().any()


def assert_all_gradients(model, x) -> None:
    F.cross_entropy(model(x), mg.arange(x.shape[0])).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert np.isfinite(p.grad.numpy()).all(), name
        assert p.grad.numpy().any(), name


def test_a_step_of_training_gives_every_parameter_a_gradient():
    mg.manual_seed(0)
    assert_all_gradients(lenet5_1998(3), mg.randn(3, 1, 32, 32))
    assert_all_gradients(cifar_nin(3), mg.randn(3, 3, 32, 32))
    assert_all_gradients(nin(3), mg.randn(2, 3, 67, 67))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "size"),
    [(alexnet, 96), (alexnet_2012, 227), (zfnet, 224), (vgg11_bn, 32)],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_step_of_training_gives_every_parameter_of_large_networks_a_gradient(factory, size):
    mg.manual_seed(0)
    assert_all_gradients(factory(3), mg.randn(2, 3, size, size))


def test_dropout_is_where_it_belongs():
    with init.skipped():
        kinds = [type(m).__name__ for m in alexnet(dropout=0.25).classifier]
        assert kinds == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]
        assert alexnet(dropout=0.25).classifier[3].p == 0.25
        kinds = [type(m).__name__ for m in vgg11(dropout=0.25).classifier]
        assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
        assert alexnet_2012(dropout=0.25).dropout.p == zfnet(dropout=0.25).dropout.p == 0.25
        assert [m.p for m in nin(dropout=0.25).modules() if type(m).__name__ == "Dropout"] == [0, 0, 0.25]
        assert [m.p for m in cifar_nin(dropout=0.25).modules() if type(m).__name__ == "Dropout"] == [0.25, 0.25]


def stages(model, shape) -> list[tuple[int, ...]]:
    """The shapes (C, H, W) after every pooling, largest first."""
    rows = mg.summary(model, shape).rows
    return [row.output[1:] for row in rows if row.kind in ("MaxPool2d", "AvgPool2d", "SubSampling")]


def test_sizes_of_the_maps():
    assert stages(made(alexnet_2012), (3, 227, 227)) == [(96, 27, 27), (256, 13, 13), (256, 6, 6)]
    sizes = [(96, 55, 55), (256, 13, 13), (256, 6, 6)]
    assert stages(made(zfnet), (3, 224, 224)) == sizes
    assert stages(made(zfnet), (3, 225, 225)) == [(96, 56, 56), *sizes[1:]]
    assert stages(made(nin), (3, 227, 227)) == [(96, 27, 27), (256, 13, 13), (384, 6, 6)]
    assert stages(made(nin), (3, 224, 224)) == [(96, 27, 27), (256, 13, 13), (384, 6, 6)]
    assert stages(made(cifar_nin), (3, 32, 32)) == [(96, 16, 16), (192, 8, 8)]
    channels = (64, 128, 256, 512, 512)
    assert stages(made(vgg13), (3, 64, 64)) == [(c, 32 >> i, 32 >> i) for i, c in enumerate(channels)]


@pytest.mark.parametrize("factory", [lenet5_1998, cifar_nin], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_and_no_grad(factory, dtype):
    model = getattr(factory(num_classes=4), {"float32": "float", "float64": "double"}[dtype])().eval()
    with mg.no_grad():
        y = model(mg.zeros(2, *info(factory.__name__).input_shape, dtype=dtype))
    assert y.shape == (2, 4)
    assert y.dtype == np.dtype(dtype)
    assert not y.requires_grad


# ---- what is wrong with the input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "shape", "message"),
    [
        (lenet5_1998, (1, 1, 28, 28), r"x must be images \(N, C, 32, 32\), got shape .*input_size=28"),
        (lenet5_1998, (1, 3, 32, 32), r"^c1: conv2d: .*expects C=1 .*got C=3"),
        (alexnet_2012, (1, 3, 224, 224), r"images of 227 to 258 pixels in height and width, got 5 x 5"),
        (alexnet_2012, (1, 1, 227, 227), r"^conv1: .*expects C=3 .*got C=1"),
        (alexnet, (1, 3, 62, 62), r"^features.12: max_pool2d: the kernel 3 x 3 is larger than the input 2 x 2"),
        (zfnet, (1, 3, 212, 212), r"images of 213 to 244 pixels in height and width, got 5 x 5"),
        (zfnet, (1, 3, 245, 245), r"images of 213 to 244 pixels in height and width, got 7 x 7"),
        (vgg11, (1, 3, 31, 31), r"^features.20: max_pool2d: the kernel 2 x 2 is larger than the input 1 x 1"),
        (vgg11, (1, 4, 32, 32), r"^features.0: .*expects C=3 .*got C=4"),
        (nin, (1, 3, 10, 10), r"^mlpconv1.0: conv2d: the kernel 11 x 11 is larger than the input 10 x 10"),
        (cifar_nin, (1, 3, 3, 3), r"^pool2.0: avg_pool2d: the kernel 3 x 3 is larger than the input 1 x 1"),
    ],
)
def test_images_of_a_wrong_size(factory, shape, message):
    model = made(factory, num_classes=2)
    with pytest.raises(ValueError, match=message), mg.no_grad():
        model(mg.zeros(*shape))


@pytest.mark.parametrize(("factory", "smallest", "largest"), [(alexnet_2012, 227, 258), (zfnet, 213, 244)])
def test_the_range_of_sizes_in_the_messages(factory, smallest, largest):
    model = made(factory, num_classes=2).eval()
    with mg.no_grad():
        for size in (smallest, largest):
            assert model(mg.zeros(1, 3, size, size)).shape == (1, 2)
        for size in (smallest - 1, largest + 1):
            with pytest.raises(ValueError, match="must be 6 x 6"):
                model(mg.zeros(1, 3, size, size))


def test_options():
    with pytest.raises(ValueError, match=r"groups must be 2 .* or 1 .*, got 3"):
        alexnet_2012(groups=3)
    with pytest.raises(ValueError, match=r"maps must be the numbers of channels .* got \(384, 256\)"):
        zfnet(maps=(384, 256))
    with pytest.raises(ValueError, match="depth must be one of 11, 13, 16, 19, got 12"):
        VGG(12)
    with pytest.raises(ValueError, match="input_size must be 32, or 28 for MNIST's images"):
        lenet5_1998(input_size=64)
    with pytest.raises(ValueError, match="p must be a probability from 0 to 1, got 2"):
        cifar_nin(dropout=2)


# ---- the same networks in PyTorch --------------------------------------------------------------------------------------


def torch_nin(torch, stages, pools):
    """Network in network; stages: (widths, kernel, stride, padding)."""
    net, channels = torch.nn.Sequential(), 3
    for i, (widths, kernel, stride, padding) in enumerate(stages):
        layers = []
        for j, width in enumerate(widths):
            window = (kernel, stride, padding) if j == 0 else (1,)
            layers += [torch.nn.Conv2d(channels, width, *window), torch.nn.ReLU()]
            channels = width
        net.add_module(f"mlpconv{i + 1}", torch.nn.Sequential(*layers))
        net.add_module(f"pool{i + 1}", (*pools, torch.nn.AdaptiveAvgPool2d(1))[i])
    net.add_module("flatten", torch.nn.Flatten())
    return net


def test_cifar_nin_computes_what_pytorch_does():
    torch = pytest.importorskip("torch")
    stages = [((192, 160, 96), 5, 1, 2), ((192, 192, 192), 5, 1, 2), ((192, 192, 10), 3, 1, 1)]
    pools = [torch.nn.MaxPool2d(3, 2, ceil_mode=True), torch.nn.AvgPool2d(3, 2, ceil_mode=True)]
    torch.manual_seed(0)
    assert_like_torch(made(cifar_nin), torch_nin(torch, stages, pools), (2, 3, 16, 16), gradients=True)


def test_nin_computes_what_pytorch_does():
    torch = pytest.importorskip("torch")
    stages = [((96,) * 3, 11, 4, 0), ((256,) * 3, 5, 1, 2), ((384,) * 3, 3, 1, 1), ((1024, 1024, 1000), 3, 1, 1)]
    torch.manual_seed(0)
    theirs = torch_nin(torch, stages, [torch.nn.MaxPool2d(3, 2, ceil_mode=True) for _ in range(3)])
    assert_like_torch(made(nin), theirs, (1, 3, 116, 116))


def torch_features(torch, groups: int, kernels, strides, pads, widths, pool_pads, norm_first: bool):
    """The convolutions of AlexNet and ZFNet. PyTorch's normalization divides alpha by its size: 5 times the paper's."""
    tnn = torch.nn
    layers, channels = [], 3
    for i in range(5):
        group = groups if i in (1, 3, 4) else 1
        layers += [tnn.Conv2d(channels, widths[i], kernels[i], strides[i], pads[i], groups=group), tnn.ReLU()]
        if i in (0, 1):
            norm, pool = tnn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0), tnn.MaxPool2d(3, 2, pool_pads)
            layers += [norm, pool] if norm_first else [pool, norm]
        channels = widths[i]
    return tnn.Sequential(*layers, tnn.MaxPool2d(3, 2))


@pytest.mark.parametrize("name", ["alexnet_2012", "alexnet_2012_groups_1", "zfnet"])
def test_features_with_local_response_normalization_are_pytorch_s(name):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    widths = (96, 256, 384, 384, 256)
    if name == "zfnet":
        ours, size = made(zfnet), 224
        theirs = torch_features(torch, 1, (7, 5, 3, 3, 3), (2, 2, 1, 1, 1), (1, 0, 1, 1, 1), widths, 1, False)
    else:
        groups = 1 if name.endswith("1") else 2
        ours, size = made(alexnet_2012, groups=groups), 227
        theirs = torch_features(torch, groups, (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (0, 2, 1, 1, 1), widths, 0, True)
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=False):
        assert key.startswith("conv")
        p.data[...] = q.detach().numpy()
    x = 100 * np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)  # of pixels: the norm matters
    with mg.no_grad(), torch.no_grad():
        close(ours.features(mg.tensor(x)).numpy(), theirs(torch.from_numpy(x)).numpy(), 1e-4)


@pytest.mark.parametrize("factory", [alexnet_2012, zfnet], ids=lambda f: f.__name__)
def test_layers_after_the_features(factory):
    """fc8(relu(fc7(relu(fc6(x))))) with fc6, fc7 and fc8 that add up pairs of values."""
    ours = made(factory, num_classes=3).eval()
    ours.features = lambda x: x
    rng = np.random.default_rng(0)
    for layer in (ours.fc6, ours.fc7, ours.fc8):
        layer.weight.data[:, ::50] = rng.normal(size=layer.weight[:, ::50].shape) * 0.1
        layer.bias.data[...] = rng.normal(size=layer.bias.shape)
    x = rng.normal(size=(2, 256, 6, 6)).astype(np.float32)
    y = x.reshape(2, -1)
    for layer in (ours.fc6, ours.fc7):
        y = np.maximum(y @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), 0)
    y = y @ ours.fc8.weight.detach().numpy().T + ours.fc8.bias.detach().numpy()
    with mg.no_grad():
        close(ours(mg.tensor(x)).numpy(), y, 1e-4)


@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn", "vgg16", "vgg19", "alexnet"])
def test_features_of_torchvision_s_networks(name):
    models = import_torchvision()
    import torch

    torch.manual_seed(0)
    if name == "alexnet":
        with torch.device("meta"):
            theirs = models.alexnet().features
        theirs = theirs.to_empty(device="cpu")
        for module in theirs:
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    else:
        depth = name.partition("_")[0]
        net = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}[depth]
        theirs = models.vgg.make_layers(models.vgg.cfgs[net], batch_norm=name.endswith("bn"))
    randomize(theirs)
    with init.skipped():
        ours = create(name).features
    load_torch(ours, theirs)
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    with mg.no_grad(), torch.no_grad():
        close(ours.eval()(mg.tensor(x)).numpy(), theirs.eval()(torch.from_numpy(x)).numpy(), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("alexnet", 96), ("vgg11", 32), ("vgg11_bn", 64), ("vgg16_bn", 32)])
def test_whole_networks_of_torchvision(name, size):
    models = import_torchvision()
    with init.skipped():
        ours = create(name)
    assert_like_torch(ours, getattr(models, name)(), (2, 3, size, size))


def test_gradients_of_vgg_features_are_pytorch_s():
    models = import_torchvision()
    theirs = models.vgg.make_layers([64, "M", 128, "M"]).double()
    with init.skipped():
        ours = vgg11().features[:6].double()
    load_torch(ours, theirs)
    compare(ours, theirs, np.random.default_rng(0).normal(size=(2, 3, 12, 12)))
