"""Weights of the world into models: wrappers, prefixes, dialects, other precisions, other classes, other architectures."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn, weights
from minigrad.weights.dialects import DIALECTS, recognize
from minigrad.weights.loading import state_dict_of, verify_hash
from tests.models.oracle import import_timm, import_torchvision


def net(seed=0, **options):
    mg.manual_seed(seed)
    return models.create("cifar_resnet20", **options)


def saved(state, path):
    weights.save_file(state, path)
    return path


def state_of(model):
    return {key: value.numpy().copy() for key, value in model.state_dict().items()}


def assert_same(model, other):
    for (key, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=key)


# ---- what files hold ---------------------------------------------------------------------------------------------------


def test_load_is_a_method_and_an_argument(tmp_path):
    path = saved(state_of(net(1)), tmp_path / "net.safetensors")
    model = net(0)
    report = model.load(path)
    assert_same(model, net(1))
    assert set(report.loaded) == set(model.state_dict())
    assert (report.missing, report.unexpected, report.mismatched, report.dialect) == ([], [], {}, None)
    assert str(report) == f"{len(model.state_dict())} arrays loaded"
    assert_same(models.create("cifar_resnet20", weights=path), net(1))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "net"])
def test_checkpoints_of_trainers(tmp_path, wrapper):
    path = tmp_path / "checkpoint"
    weights.save({"epoch": 3, wrapper: net(1).state_dict(), "optimizer": {"lr": 0.1}}, path)
    model = net(0)
    model.load(path)
    assert_same(model, net(1))


def test_a_run_of_minigrad(tmp_path):
    from minigrad.cli import main

    run = tmp_path / "run"
    assert main(["train", "--model", "lenet5", "--epochs", "1", "--max-steps", "3", "--progress", "off", "--out", str(run)]) == 0
    assert len(models.lenet5().load(run / "last.safetensors").loaded) == 10


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_prefixes(tmp_path, prefix):
    path = saved({prefix + key: value for key, value in state_of(net(1)).items()}, tmp_path / "net")
    model = net(0)
    report = model.load(path)
    assert not report.unexpected
    assert_same(model, net(1))


def test_counters_that_old_files_do_not_have(tmp_path):
    state = {key: value for key, value in state_of(net(1)).items() if "num_batches" not in key}
    model = net(0)
    assert not model.load(saved(state, tmp_path / "net")).missing
    np.testing.assert_array_equal(model.conv1.weight.detach().numpy(), state["conv1.weight"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions(tmp_path, dtype):
    state = {key: value.astype(dtype) if value.dtype.kind == "f" else value for key, value in state_of(net(1)).items()}
    model = net(0)
    model.load(saved(state, tmp_path / "net"))
    assert model.conv1.weight.dtype == np.float32
    np.testing.assert_array_equal(model.conv1.weight.detach().numpy(), state["conv1.weight"].astype(np.float32))


def test_what_holds_no_state_dict(tmp_path):
    path = tmp_path / "numbers"
    weights.save({"epoch": 3, "best": 0.5}, path)
    with pytest.raises(weights.CheckpointError, match="holds no state dict: it is a dictionary of 'epoch', 'best'"):
        net().load(path)
    with pytest.raises(weights.CheckpointError, match="an empty dictionary"):
        state_dict_of({}, path)
    with pytest.raises(weights.CheckpointError, match="it is a list"):
        state_dict_of([mg.ones(1)], path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        net().load(tmp_path / "nothing.pth")


# ---- what does not fit -------------------------------------------------------------------------------------------------


def test_another_number_of_classes(tmp_path):
    path = saved(state_of(net(1)), tmp_path / "net")
    model = net(0, num_classes=5)
    before = state_of(model)
    with pytest.raises(RuntimeError, match=r"(?s)linear.weight: the model has shape \(5, 64\).*strict=False loads all the rest"):
        model.load(path)
    for key, value in state_of(model).items():
        np.testing.assert_array_equal(value, before[key])
    report = model.load(path, strict=False)
    assert report.mismatched == {"linear.bias": ((5,), (10,)), "linear.weight": ((5, 64), (10, 64))}
    assert report.missing == report.unexpected == []
    assert len(report.loaded) == len(before) - 2
    assert "2 left out, of another size in the file" in str(report)
    np.testing.assert_array_equal(model.linear.weight.detach().numpy(), before["linear.weight"])
    np.testing.assert_array_equal(model.conv1.weight.detach().numpy(), net(1).conv1.weight.detach().numpy())


def test_another_architecture(tmp_path):
    path = saved(state_of(net(1)), tmp_path / "net")
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"of another architecture: none of its \d+ arrays .* LeNet5"):
            models.lenet5().load(saved({f"part.{key}": v for key, v in state_of(net()).items()}, tmp_path / "other"), strict)
    with pytest.raises(RuntimeError, match=r"\d+ keys are missing from the state dict"):
        models.create("cifar_resnet32", weights=path)


def test_missing_and_unexpected_arrays_are_reported(tmp_path):
    state = state_of(net(1))
    del state["bn1.weight"]
    state["extra"] = np.zeros(3)
    path = saved(state, tmp_path / "net")
    with pytest.raises(RuntimeError, match=r"(?s)bn1.weight.*extra"):
        net().load(path)
    report = net().load(path, strict=False)
    assert (report.missing, report.unexpected) == (["bn1.weight"], ["extra"])
    assert "1 not in the file: bn1.weight" in str(report)


def test_the_hash_in_a_name(tmp_path):
    path = saved(state_of(net(1)), tmp_path / "net.safetensors")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    good, bad = tmp_path / f"net-{digest[:8]}.safetensors", tmp_path / "net-01234567.safetensors"
    good.write_bytes(path.read_bytes())
    bad.write_bytes(path.read_bytes())
    assert verify_hash(good)
    assert not verify_hash(path)
    net().load(good)
    with pytest.raises(weights.CheckpointError, match="its name promises a SHA-256 that begins with 01234567"):
        net().load(bad)


@pytest.mark.parametrize(
    ("name", "has_one"),
    [
        ("resnet18-f37072fd", True),
        ("net-20261126", False),  # a day
        ("net-20261345", True),  # no day: a hash may be of digits only
        ("net-0123456", False),
        ("net-0123456g", False),
        ("20261126", False),
    ],
)
def test_what_looks_like_a_hash(name, has_one, tmp_path):
    path = saved({"w": np.zeros(1)}, tmp_path / f"{name}.pth")
    if has_one:
        with pytest.raises(weights.CheckpointError, match="promises a SHA-256"):
            verify_hash(path)
    else:
        assert not verify_hash(path)


# ---- dialects ----------------------------------------------------------------------------------------------------------


def spoken(ours, rename):
    """The keys of ``ours`` as another collection writes them, by a function of our key."""
    return {rename(key): value for key, value in ours.items()}


def test_names_of_torchvision_for_the_small_resnets(tmp_path):
    theirs = models.create("cifar_resnet20", option="B")
    path = saved(
        spoken(state_of(theirs), lambda k: k.replace("shortcut", "downsample").replace("linear.", "fc.")), tmp_path / "net"
    )
    model = models.create("cifar_resnet20", option="B")
    assert model.load(path).dialect == "torchvision"
    assert_same(model, theirs)


@pytest.mark.parametrize(
    ("dialect", "theirs", "ours"),
    [
        (
            "DenseNet before 2018",
            "block1.denselayer2.norm.1.weight",
            "block1.denselayer2.norm1.weight",
        ),
        (
            "DenseNet before 2018",
            "block4.denselayer16.conv.2.weight",
            "block4.denselayer16.conv2.weight",
        ),
        ("CIFAR collections", "layer2.0.shortcut.1.running_var", "layer2.0.downsample.1.running_var"),
        ("Cadene", "last_linear.bias", "fc.bias"),
        ("timm VGG", "pre_logits.fc1.weight", "classifier.0.weight"),
        ("timm VGG", "features.0.weight", "features.0.weight"),
    ],
)
def test_rules(dialect, theirs, ours):
    assert DIALECTS[dialect]([theirs]) == {theirs: ours}


def test_the_dialect_that_fits_best_is_taken():
    targets = dict.fromkeys(["conv1.weight", "layer1.0.downsample.0.weight", "fc.weight", "fc.bias"])
    keys = ["module.conv1.weight", "module.layer1.0.shortcut.0.weight", "module.linear.weight", "module.linear.bias"]
    names, dialect = recognize(keys, targets)
    assert dialect == "CIFAR collections"
    assert list(names.values()) == list(targets)
    names, dialect = recognize(targets, targets)
    assert dialect is None
    assert names == {key: key for key in targets}


def test_a_dialect_that_would_lose_an_array_is_not_taken():
    targets = dict.fromkeys(["fc.weight", "conv.weight"])
    keys = ["linear.weight", "fc.weight", "conv.weight"]  # both become fc.weight
    names, dialect = recognize(keys, targets)
    assert (list(names.values()), dialect) == (keys, None)


def test_a_linear_layer_that_was_kept_as_a_convolution(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 4, 5))
    state = state_of(model)
    state["2.weight"] = state["2.weight"].reshape(5, 4, 2, 2)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 4, 5))
    other.load(saved(state, tmp_path / "net"))
    assert_same(other, model)
    state["2.weight"] = state["2.weight"].reshape(4, 5, 2, 2)
    with pytest.raises(RuntimeError, match=r"2.weight: the model has shape \(5, 16\), the state dict \(4, 5, 2, 2\)"):
        other.load(saved(state, tmp_path / "wrong"))


PAIRS = [
    ("mobilenetv2_100", "mobilenet_v2", "timm MobileNetV2"),
    ("efficientnet_b0", "efficientnet_b0", "timm EfficientNet"),
    ("efficientnet_b2", "efficientnet_b2", "timm EfficientNet"),
    ("densenet121", "densenet121", None),
    ("resnet18", "resnet18", None),
    ("resnext50_32x4d", "resnext50_32x4d", None),
]


@pytest.mark.parametrize(("theirs", "ours", "dialect"), PAIRS)
def test_timms_weights_give_timms_scores(theirs, ours, dialect, tmp_path):
    torch, timm = pytest.importorskip("torch"), import_timm()
    torch.manual_seed(0)
    network = timm.create_model(theirs, num_classes=10).eval()
    path = saved({key: value.numpy() for key, value in network.state_dict().items()}, tmp_path / "net")
    model = models.create(ours, num_classes=10)
    assert model.load(path).dialect == dialect
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    with mg.no_grad(), torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(model.eval()(mg.tensor(x)).numpy(), expected, atol=1e-4 * abs(expected).max())


def test_old_densenet_files(tmp_path):
    torch, torchvision = pytest.importorskip("torch"), import_torchvision()
    torch.manual_seed(0)
    network = torchvision.densenet121(num_classes=10)
    old = {
        key.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv1.", "conv.1.").replace("conv2.", "conv.2."): v
        for key, v in network.state_dict().items()
        if "num_batches" not in key
    }
    model = models.create("densenet121", num_classes=10)
    report = model.load(saved({key: value.numpy() for key, value in old.items()}, tmp_path / "net"))
    assert report.dialect == "DenseNet before 2018"
    np.testing.assert_array_equal(
        model.state_dict()["features.denseblock1.denselayer1.conv1.weight"].numpy(),
        network.state_dict()["features.denseblock1.denselayer1.conv1.weight"].numpy(),
    )


# ---- the real thing ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif("MINIGRAD_TEST_DATA" not in os.environ, reason="MINIGRAD_TEST_DATA names no folder of real data")
def test_the_published_resnet20_recognizes_what_it_recognizes_in_pytorch():
    """932 of 1,017 test images of CIFAR-10, from PyTorch's file of 2018: a legacy stream whose keys begin with "module."."""
    folder = Path(os.environ["MINIGRAD_TEST_DATA"])
    model = models.create("cifar_resnet20", weights=folder / "weights" / "resnet20-12fca82f.th")
    official = np.load(folder / "cifar10" / "cifar10-official-head.npz")
    mean, std = (np.array(v, np.float32)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = (official["test_images"].astype(np.float32) / 255 - mean) / std
    with mg.no_grad():
        found = model.eval()(mg.tensor(images)).numpy().argmax(1)
    assert (found == official["test_labels"]).sum() == 932
