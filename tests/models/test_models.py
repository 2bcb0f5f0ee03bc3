"""Every registered architecture: published sizes, names of its state, and that it can be trained."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import models
from minigrad.nn import functional as F
from minigrad.nn import init
from tests.models.oracle import count

COUNTS = {
    ("lenet5", ()): 61_706,
    ("lenet5", (("in_channels", 3),)): 62_006,
    ("lenet5", (("input_size", 28),)): 61_706,
    ("cifar_resnet14", ()): 175_258,
    ("cifar_resnet20", ()): 269_722,
    ("cifar_resnet32", ()): 464_154,
    ("cifar_resnet44", ()): 658_586,
    ("cifar_resnet56", ()): 853_018,
    ("cifar_resnet110", ()): 1_727_962,
    ("cifar_resnet20", (("option", "B"),)): 272_474,
    ("cifar_resnet32", (("option", "B"),)): 466_906,
    ("cifar_resnet44", (("option", "B"),)): 661_338,
    ("cifar_resnet56", (("option", "B"),)): 855_770,
    ("cifar_resnet110", (("option", "B"),)): 1_730_714,
}

SMALL = [name for name in models.list() if models.info(name).parameters < 300_000]
QUICK = [name for name in models.list() if models.info(name).macs < 400e6]


@pytest.mark.parametrize(("name", "options"), COUNTS, ids=[f"{name}-{dict(options)}" for name, options in COUNTS])
def test_parameter_counts_are_the_published_ones(name, options):
    assert count(models.create(name, **dict(options))) == COUNTS[name, options]


@pytest.mark.parametrize("name", models.list())
def test_every_model_is_described(name):
    model = models.info(name)
    assert model.name == name
    assert getattr(models, name) is model.factory
    assert name in models.__all__
    with init.skipped():
        assert count(models.create(name)) == model.parameters
    assert 1980 < model.year < 2030
    assert model.description
    assert model.paper.url.startswith("https://")
    assert str(model.year) in str(model.paper)
    assert {"num_classes", "in_channels"} <= set(model.options)
    assert model.input_shape[0] == model.options["in_channels"]


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in models.list()])
def test_multiply_accumulates_are_the_published_ones(name):
    model = models.info(name)
    with init.skipped():
        assert mg.summary(models.create(name), model.input_shape).macs == model.macs


@pytest.mark.parametrize("name", SMALL)
def test_a_step_of_training_gives_every_parameter_a_gradient(name):
    info = models.info(name)
    model = models.create(name, num_classes=7)
    x = mg.randn(4, *info.input_shape)
    loss = F.cross_entropy(model(x), mg.tensor([0, 1, 2, 6]))
    loss.backward()
    for parameter_name, p in model.named_parameters():
        assert p.grad is not None, parameter_name
        assert np.isfinite(p.grad.numpy()).all(), parameter_name
        assert p.grad.numpy().any(), parameter_name
    with mg.no_grad():
        assert model.eval()(x[:1]).shape == (1, 7)
        np.testing.assert_allclose(model(x).numpy()[:1], model(x[:1]).numpy(), rtol=1e-4, atol=1e-5)


def test_the_lecture_resnet_has_the_documented_state():
    state = models.cifar_resnet14().state_dict()
    assert len(state) == 92
    assert list(state)[:6] == ["conv1.weight", *(f"bn1.{n}" for n in _BN)]
    assert [k for k in state if "shortcut" in k][:6] == ["layer2.0.shortcut.0.weight", *(f"layer2.0.shortcut.1.{n}" for n in _BN)]
    assert list(state)[-2:] == ["linear.weight", "linear.bias"]
    assert state["layer3.0.shortcut.0.weight"].shape == (64, 32, 1, 1)


_BN = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def test_option_a_has_no_parameters_in_its_shortcuts():
    state = models.cifar_resnet20().state_dict()
    assert not [key for key in state if "shortcut" in key]
    shortcut = models.cifar_resnet20().layer2[0].shortcut
    y = shortcut(mg.arange(2 * 16 * 6 * 6).reshape(2, 16, 6, 6).float())
    assert y.shape == (2, 32, 3, 3)
    assert not y.numpy()[:, :8].any()
    assert not y.numpy()[:, 24:].any()
    assert y.numpy()[0, 8, 0].tolist() == [0, 2, 4]


@pytest.mark.parametrize("size", [8, 28, 33])
def test_residual_networks_take_images_of_any_size(size):
    model = models.create("cifar_resnet14", in_channels=1)
    assert model(mg.randn(2, 1, size, size)).shape == (2, 10)


def test_lenet_takes_28_and_32_pixels_and_says_what_is_wrong_with_others():
    assert models.lenet5()(mg.randn(1, 1, 32, 32)).shape == (1, 10)
    assert models.lenet5(input_size=28)(mg.randn(1, 1, 28, 28)).shape == (1, 10)
    with pytest.raises(ValueError, match=r"^fc1: linear: .*400.*256"):
        models.lenet5()(mg.randn(1, 1, 28, 28))
    with pytest.raises(ValueError, match="input_size must be 32, or 28 for MNIST"):
        models.lenet5(input_size=64)


def test_names_and_options_that_do_not_exist():
    with pytest.raises(ValueError, match=r"there is no model 'cifar_resnet21': did you mean 'cifar_resnet2?\d*'\?"):
        models.create("cifar_resnet21")
    with pytest.raises(ValueError, match=r"there is no model 'banana': minigrad.models.list"):
        models.create("banana")
    with pytest.raises(ValueError, match=r"cifar_resnet20 has no option 'optoin': did you mean 'option'\?"):
        models.create("cifar_resnet20", optoin="B")
    with pytest.raises(ValueError, match='option must be "A"'):
        models.cifar_resnet20(option="C")
    with pytest.raises(AttributeError, match=r"minigrad.models has no attribute 'create_model': did you mean 'create'\?"):
        models.create_model  # noqa: B018
    with pytest.raises(ValueError, match="a model 'lenet5' is registered already"):
        models.register(paper=models.info("lenet5").paper, input_shape=(1, 32, 32), parameters=1, macs=1)(models.lenet5)


def test_the_list_is_sorted_by_name_and_number():
    names = models.list()
    assert [n for n in names if n.startswith("cifar_resnet1") or n in ("cifar_resnet20", "cifar_resnet32")] == [
        *("cifar_resnet14", "cifar_resnet20", "cifar_resnet32", "cifar_resnet110")
    ]
    assert names.index("densenet121") < names.index("lenet5") < names.index("resnet18") < names.index("resnet101")
    assert len(names) == len(set(names))


# ---- the same networks in PyTorch --------------------------------------------------------------------------------------


def torch_resnet(torch, blocks: tuple[int, ...], option: str):
    """The CIFAR ResNet as it is usually written in PyTorch."""
    tnn, tf = torch.nn, torch.nn.functional

    class Pad(tnn.Module):
        def __init__(self, planes):
            super().__init__()
            self.planes = planes

        def forward(self, x):
            return tf.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.planes // 4, self.planes // 4), "constant", 0)

    class Block(tnn.Module):
        def __init__(self, in_planes, planes, stride):
            super().__init__()
            self.conv1 = tnn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
            self.bn1 = tnn.BatchNorm2d(planes)
            self.conv2 = tnn.Conv2d(planes, planes, 3, 1, 1, bias=False)
            self.bn2 = tnn.BatchNorm2d(planes)
            self.shortcut = tnn.Sequential()
            if stride != 1 or in_planes != planes:
                projection = tnn.Sequential(tnn.Conv2d(in_planes, planes, 1, stride, bias=False), tnn.BatchNorm2d(planes))
                self.shortcut = Pad(planes) if option == "A" else projection

        def forward(self, x):
            y = tf.relu(self.bn1(self.conv1(x)))
            return tf.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = tnn.Conv2d(3, 16, 3, 1, 1, bias=False), tnn.BatchNorm2d(16)
            widths, strides = (16, 16, 32, 64), (1, 2, 2)
            for i, n in enumerate(blocks):
                first = Block(widths[i], widths[i + 1], strides[i])
                rest = [Block(widths[i + 1], widths[i + 1], 1) for _ in range(n - 1)]
                setattr(self, f"layer{i + 1}", tnn.Sequential(first, *rest))
            self.linear = tnn.Linear(64, 10)

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(tf.relu(self.bn1(self.conv1(x))))))
            return self.linear(tf.avg_pool2d(x, x.shape[3]).flatten(1))

    return Net()


@pytest.mark.parametrize(("name", "blocks", "option"), [("cifar_resnet14", (2, 2, 2), "B"), ("cifar_resnet20", (3, 3, 3), "A")])
def test_residual_networks_compute_what_pytorch_does(name, blocks, option):
    torch = pytest.importorskip("torch")
    from tests.nn.parity import close, load_from_torch

    theirs = torch_resnet(torch, blocks, option).double()
    ours = models.create(name).double()
    load_from_torch(ours, theirs)
    a, labels = np.random.default_rng(0).normal(size=(4, 3, 16, 16)), np.array([3, 1, 4, 1])
    y, t = ours(mg.tensor(a)), theirs(torch.tensor(a))
    close(y.detach().numpy(), t.detach().numpy(), 1e-10)
    F.cross_entropy(y, mg.tensor(labels)).backward()
    torch.nn.functional.cross_entropy(t, torch.tensor(labels)).backward()
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        close(p.grad.numpy(), q.grad.numpy(), 1e-9, key)
    for (key, p), q in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        close(p.numpy(), q.numpy(), 1e-12, key)
    ours.eval(), theirs.eval()
    close(ours(mg.tensor(a)).detach().numpy(), theirs(torch.tensor(a)).detach().numpy(), 1e-10)
