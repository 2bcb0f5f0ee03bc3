"""The networks before residual connections: LeNet-5, AlexNet, ZFNet, VGG, network in network."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.models.alexnet import alexnet, alexnet_2012
from minigrad.models.lenet import TABLE, ConnectedConv2d, SubSampling, codes, lenet5_1998, squash
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


# ---- LeNet-5 of 1998 ---------------------------------------------------------------------------------------------------


def test_layers_of_lenet_have_the_published_numbers_of_parameters_and_connections():
    model = lenet5_1998()
    sizes = {name: count(module) for name, module in model.named_children()}
    assert sizes == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 0}
    assert model.output.codes.shape == (10, 84)
    rows = {row.name: row for row in mg.summary(model, (1, 32, 32)).rows if row.level == 1 and row.kind}
    shapes = {name: row.output[1:] for name, row in rows.items()}
    assert shapes["c1"] == (6, 28, 28)
    assert shapes["s2"] == (6, 14, 14)
    assert shapes["c3"] == (16, 10, 10)
    assert shapes["s4"] == (16, 5, 5)
    assert shapes["c5"] == (120, 1, 1)
    assert rows["c1"].macs + 6 * 28 * 28 == 122_304  # connections, as the paper counts them: with biases
    kernels = mg.summary(model.c3, (6, 14, 14)).macs
    assert kernels + 16 * 10 * 10 == 151_600


def test_the_table_of_connections_is_that_of_the_paper():
    columns = [set(map(int, row)) for row in TABLE]
    assert [len(c) for c in columns] == [3] * 6 + [4] * 9 + [6]
    assert all(c == {i, (i + 1) % 6, (i + 2) % 6} for i, c in enumerate(columns[:6]))
    assert all(c == {(i + k) % 6 for k in range(4)} for i, c in enumerate(columns[6:12]))
    assert all(c == {i, i + 1, (i + 3) % 6, (i + 4) % 6} for i, c in enumerate(columns[12:15]))
    assert len({frozenset(c) for c in columns}) == 16
    assert [sum(i in c for c in columns) for i in range(6)] == [10] * 6


def test_a_connected_convolution_is_a_full_one_with_zeros():
    table = ("02", "12", "012", "1")
    conv = ConnectedConv2d(table, 3)
    assert [c.weight.shape for c in conv.convs] == [(2, 2, 3, 3), (1, 3, 3, 3), (1, 1, 3, 3)]
    full, kernels = np.zeros((4, 3, 3, 3), np.float32), [k for c in conv.convs for k in c.weight.detach().numpy()]
    for output, (maps, kernel) in enumerate(zip(table, kernels, strict=True)):
        for j, i in enumerate(maps):
            full[output, int(i)] = kernel[j]
    x = mg.randn(2, 3, 6, 5)
    bias = mg.tensor(np.concatenate([c.bias.detach().numpy() for c in conv.convs]))
    close(conv(x).detach().numpy(), F.conv2d(x, mg.tensor(full), bias).numpy(), 1e-5)


def test_subsampling_and_squashing():
    layer = SubSampling(2)
    init.constant_(layer.weight, 0.5), init.constant_(layer.bias, 3)
    layer.weight.data[1] = 2
    y = layer(mg.arange(16).reshape(1, 2, 2, 4).float()).detach().numpy()
    assert y[0, :, 0].tolist() == [[0.5 * (0 + 1 + 4 + 5) + 3, 0.5 * (2 + 3 + 6 + 7) + 3], [2 * 42 + 3, 2 * 50 + 3]]
    a = squash(mg.tensor([-1.0, 0.0, 1.0, 100.0])).numpy()
    np.testing.assert_allclose(a, [-1, 0, 1, 1.7159], atol=1e-4)


def test_codes_are_bitmaps_of_the_digits_and_the_output_minus_the_squared_distance_to_them():
    digits = codes().numpy()
    assert digits.shape == (10, 84)
    assert set(digits.ravel().tolist()) == {-1.0, 1.0}
    different = (digits[:, None] != digits[None]).sum(2)
    assert different[~np.eye(10, dtype=bool)].min() >= 10
    assert different[3, 8] < different[1, 8]  # similar characters have similar codes
    model = lenet5_1998()
    assert "output.codes" in dict(model.named_buffers())
    np.testing.assert_array_equal(model.output(codes()).numpy(), -4.0 * different)
    assert model.output(codes()).argmax(1).numpy().tolist() == list(range(10))
    picture = np.where(digits[7].reshape(12, 7) > 0, "#", ".")
    assert "".join(picture[0]) == "#######"
    assert "".join(picture[9]) == "..##..."


def test_codes_of_other_classes_are_random_but_always_the_same():
    with init.skipped():
        mg.manual_seed(0)
        first, again = codes(95).numpy(), lenet5_1998(95).output.codes.numpy()
    np.testing.assert_array_equal(first, again)
    assert set(first.ravel().tolist()) == {-1.0, 1.0}
    assert len({tuple(code) for code in first.tolist()}) == 95
    assert abs(first.mean()) < 0.1


def test_lenet_starts_within_the_bounds_of_the_paper():
    mg.manual_seed(0)
    model = lenet5_1998()
    for p, inputs in (
        (model.c1.weight, 25),
        (model.c3.convs[0].weight, 75),
        (model.c3.convs[1].weight, 100),
        (model.c3.convs[2].weight, 150),
        (model.s4.weight, 4),
        (model.c5.weight, 400),
        (model.f6.weight, 120),
        (model.f6.bias, 120),
    ):
        assert 0.7 * 2.4 / inputs < abs(p.detach().numpy()).max() <= 2.4 / inputs


def test_lenet_of_28_pixels_repeats_the_border():
    small, large = lenet5_1998(input_size=28), lenet5_1998()
    large.load_state_dict(small.state_dict())
    x = np.random.default_rng(0).normal(size=(2, 1, 28, 28)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    np.testing.assert_array_equal(small(mg.tensor(x)).detach().numpy(), large(mg.tensor(padded)).detach().numpy())


def test_lenet_learns_a_few_images():
    mg.manual_seed(1)
    model = lenet5_1998()
    x, labels = mg.randn(10, 1, 32, 32), mg.arange(10)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.003, momentum=0.9)
    for _ in range(50):
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(x).argmax(1).numpy() == np.arange(10)).mean() >= 0.9


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


def torch_lenet(torch):
    """LeNet-5 of 1998: C3 as a full convolution with zeros where table I has none, average pooling times 4."""
    tnn = torch.nn

    class Sub(tnn.Module):
        def __init__(self, channels):
            super().__init__()
            self.weight, self.bias = (tnn.Parameter(torch.rand(channels) - 0.5) for _ in range(2))

        def forward(self, x):
            return 4 * tnn.functional.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]

    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.s2 = tnn.Conv2d(1, 6, 5), Sub(6)
            self.kernels = tnn.ParameterList([tnn.Parameter(torch.randn(n, k, 5, 5) / 9) for n, k in ((6, 3), (9, 4), (1, 6))])
            self.biases = tnn.ParameterList([tnn.Parameter(torch.randn(n) / 9) for n in (6, 9, 1)])
            self.s4, self.c5, self.f6 = Sub(16), tnn.Conv2d(16, 120, 5), tnn.Linear(120, 84)
            self.codes = torch.from_numpy(codes().numpy())

        def forward(self, x):
            def act(x):
                return 1.7159 * torch.tanh(2 * x / 3)

            x = act(self.s2(act(self.c1(x))))
            rows = [kernel for kernels in self.kernels for kernel in kernels]
            full = torch.zeros(16, 6, 5, 5, dtype=x.dtype)
            for i, (maps, kernel) in enumerate(zip(TABLE, rows, strict=True)):
                full[i, [int(m) for m in maps]] = kernel
            x = act(tnn.functional.conv2d(x, full, torch.cat(list(self.biases))))
            x = act(self.c5(act(self.s4(x)))).flatten(1)
            return -(torch.cdist(act(self.f6(x)), self.codes.to(x.dtype), compute_mode="donot_use_mm_for_euclid_dist") ** 2)

    return Net()


def test_lenet_computes_what_pytorch_does():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch_lenet(torch).double()
    ours = lenet5_1998().double()
    state = {}
    for name, _ in ours.named_parameters():
        part, _, rest = name.partition(".convs.")
        their_name = f"{'kernels' if rest.endswith('weight') else 'biases'}.{rest[0]}" if rest else part
        state[name] = dict(theirs.named_parameters())[their_name]
    ours.load_state_dict({**{k: v.detach().numpy() for k, v in state.items()}, "output.codes": ours.output.codes})
    a = np.random.default_rng(0).normal(size=(3, 1, 32, 32))
    y, t = ours(mg.tensor(a)), theirs(torch.tensor(a))
    close(y.detach().numpy(), t.detach().numpy(), 1e-10)
    F.cross_entropy(y, mg.tensor([3, 1, 4])).backward()
    torch.nn.functional.cross_entropy(t, torch.tensor([3, 1, 4])).backward()
    for name, p in ours.named_parameters():
        close(p.grad.numpy(), state[name].grad.numpy(), 1e-9, name)


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
