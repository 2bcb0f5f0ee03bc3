"""Transfer learning: new heads, frozen parts, rates by depth, features that are computed once."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, models, nn, optim, weights
from minigrad.cli import main
from minigrad.nn import functional as F
from minigrad.training.job import Job, Options
from minigrad.training.transfer import HeadOnly, cached_features, freeze_until, head_of, parameter_groups, replace_head


def net(**options):
    mg.manual_seed(0)
    return models.cifar_resnet14(**options)


def images(n=12, classes=10):
    rng = np.random.default_rng(0)
    return data.TensorDataset(rng.standard_normal((n, 3, 8, 8), np.float32), np.arange(n) % classes)


def copied(model):
    return {key: value.numpy().copy() for key, value in model.state_dict().items()}


def train_a_step(model, lr=0.1):
    model.train()
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    x, y = images().batch(range(12))
    F.cross_entropy(model(mg.tensor(x)), mg.tensor(y)).backward()
    optimizer.step()


def test_a_new_head():
    model = net()
    before = copied(model)
    assert head_of(model)[0] == "linear"
    head = replace_head(model, 3)
    assert model.linear is head
    assert model.eval()(mg.randn(2, 3, 8, 8)).shape == (2, 3)
    for key, value in copied(model).items():
        if not key.startswith("linear"):
            np.testing.assert_array_equal(value, before[key])


def test_heads_in_sequences_and_of_1x1_convolutions():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Sequential(nn.ReLU(), nn.Linear(144, 7, bias=False)))
    new = replace_head(plain.double(), 2)
    assert plain[2][1] is new
    assert new.bias is None
    assert new.weight.dtype == np.float64
    assert plain(mg.randn(1, 3, 8, 8).double()).shape == (1, 2)
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1))
    assert replace_head(convolution, 9).weight.shape == (9, 8, 1, 1)
    with pytest.raises(ValueError, match="the last layer, 0, must be a Linear or a 1x1 Conv2d"):
        head_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    with pytest.raises(ValueError, match="has no layers with parameters"):
        head_of(nn.ReLU())


@pytest.mark.parametrize("batch_norm", ["frozen", "batch"])
def test_a_frozen_part_stays_as_it_is(batch_norm):
    model = net()
    frozen = freeze_until(model, "layer2", batch_norm)
    assert frozen[0] == "conv1.weight"
    assert frozen[-1].startswith("layer2.1.")
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == frozen
    before = copied(model)
    train_a_step(model)
    after = copied(model)
    for key, value in after.items():
        part = key.startswith(("conv1", "bn1", "layer1", "layer2"))
        statistic = "running" in key or "tracked" in key
        kept = part and (batch_norm == "frozen" or not statistic)
        assert np.array_equal(value, before[key]) == kept, key


def test_a_frozen_part_up_to_a_block():
    frozen = freeze_until(net(), "layer2.0")
    assert any(name.startswith("layer2.0") for name in frozen)
    assert not any(name.startswith("layer2.1") for name in frozen)


def test_what_cannot_be_frozen():
    with pytest.raises(ValueError, match="has no module 'layer9': did you mean 'layer"):
        freeze_until(net(), "layer9")
    with pytest.raises(ValueError, match="the module '1' has no parameters"):
        freeze_until(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "1")
    with pytest.raises(ValueError, match='batch_norm must be "frozen"'):
        freeze_until(net(), "layer1", "off")


def test_rates_by_depth():
    model = net()
    freeze_until(model, "bn1")
    groups = parameter_groups(model, lr=1.0, factor=0.5)
    assert [group["lr"] for group in groups] == [0.125, 0.25, 0.5, 1.0]
    assert [group["params"][0][0].partition(".")[0] for group in groups] == ["layer1", "layer2", "layer3", "linear"]
    optimizer = optim.SGD(groups, lr=1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.25, 0.5, 1.0]
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="all parameters are frozen"):
        parameter_groups(model, lr=1.0)
    with pytest.raises(ValueError, match="factor must be above 0"):
        parameter_groups(net(), lr=1.0, factor=0)


def test_cached_features_give_the_scores_of_the_model():
    model, loader = net(), data.DataLoader(images(), 5)
    model.train()
    features = cached_features(model, loader)
    assert model.training
    head = HeadOnly(model)
    with mg.no_grad():
        expected = model.eval()(mg.tensor(images().tensors[0]))
        actual = head(mg.tensor(features.tensors[0]))
    np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(features.tensors[1], np.arange(12) % 10)
    with pytest.raises(ValueError, match="the loader gives no batches"):
        cached_features(model, [])


@pytest.mark.parametrize("name", ["cifar_nin", "lenet5_1998"])
def test_models_that_go_on_after_their_last_layer_have_no_head_alone(name):
    """A mean over the image, and distances to fixed codes: training the layer before them by itself would train another model."""
    mg.manual_seed(0)
    info = models.info(name)
    images = data.TensorDataset(np.random.default_rng(0).standard_normal((4, *info.input_shape), np.float32), np.arange(4))
    with pytest.raises(ValueError, match="cannot be trained by its last layer alone"):
        cached_features(models.create(name), data.DataLoader(images, 4))


def test_a_classifier_of_1x1_convolution_behind_the_mean_has_a_head():
    mg.manual_seed(0)
    model = models.create("cifar_preact_resnet164").eval()
    features = cached_features(model, data.DataLoader(images(2), 2))
    assert features.tensors[0].shape == (2, 256, 1, 1)
    with mg.no_grad():
        np.testing.assert_array_equal(
            HeadOnly(model)(mg.tensor(features.tensors[0])).numpy(), model(mg.tensor(images(2).tensors[0])).numpy()
        )


def test_a_head_that_is_trained_alone_is_saved_as_the_whole_model():
    model = net()
    head = HeadOnly(model)
    assert [name for name, _ in head.named_parameters()] == ["head.weight", "head.bias"]
    assert list(head.state_dict()) == list(model.state_dict())
    before = copied(model)
    optim.SGD(head.parameters(), lr=0.1)
    F.cross_entropy(head(mg.randn(4, 64)), mg.tensor([0, 1, 2, 3])).backward()
    assert model.conv1.weight.grad is None
    assert model.linear.weight.grad is not None
    head.load_state_dict({key: value * 2 for key, value in before.items()})
    np.testing.assert_array_equal(model.conv1.weight.detach().numpy(), before["conv1.weight"] * 2)


# ---- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def trunk(tmp_path):
    """Weights of a small ResNet for colored images and 7 classes."""
    path = tmp_path / "trunk.safetensors"
    weights.save_file(net(num_classes=7).state_dict(), path)
    return path


def train(tmp_path, trunk, *options):
    arguments = ["train", "--model", "cifar_resnet14", "--weights", str(trunk), "--epochs", "1", "--train-images", "100"]
    return main([*arguments, "--out", str(tmp_path / "run"), "--progress", "lines", *options])


def test_training_the_head_only(tmp_path, trunk, capsys):
    assert train(tmp_path, trunk, "--head-only", "--epochs", "3") == 0
    out = capsys.readouterr().out
    assert "of which 650 learn" in out
    assert "linear.bias (10,) but (7,)" in out
    assert "100 training and 359 test images of 1 x 8 x 8" in out
    before, after = weights.load_file(trunk), weights.load_file(tmp_path / "run" / "best.safetensors")
    assert before.keys() == after.keys()
    assert {key for key in before if before[key].shape != after[key].shape} == {"linear.weight", "linear.bias"}
    assert all(np.array_equal(before[key], after[key]) for key in before if not key.startswith("linear"))
    assert main(["eval", str(tmp_path / "run")]) == 0
    line = next(line for line in out.splitlines() if line.startswith("best test accuracy") or line.startswith("test accuracy"))
    assert line.split("accuracy ")[1].split()[0] in capsys.readouterr().out


def test_training_what_follows_a_frozen_part(tmp_path, trunk):
    assert train(tmp_path, trunk, "--freeze-until", "layer2") == 0
    before, after = weights.load_file(trunk), weights.load_file(tmp_path / "run" / "best.safetensors")
    same = {key for key in before if before[key].shape == after[key].shape and np.array_equal(before[key], after[key])}
    assert {key for key in before if key.startswith(("conv1", "bn1", "layer1", "layer2"))} <= same
    assert "layer3.0.conv1.weight" not in same


def test_resuming_a_run_with_weights_gives_the_same_bits(tmp_path, trunk):
    assert train(tmp_path, trunk, "--freeze-until", "layer1", "--epochs", "2") == 0
    (tmp_path / "run").rename(tmp_path / "whole")
    assert train(tmp_path, trunk, "--freeze-until", "layer1", "--epochs", "2", "--max-steps", "3") == 0
    assert main(["train", "--resume", str(tmp_path / "run"), "--progress", "off"]) == 0
    for name in ("last", "best"):
        whole, parts = (weights.load_file(tmp_path / run / f"{name}.safetensors") for run in ("whole", "run"))
        for key, value in whole.items():
            np.testing.assert_array_equal(parts[key], value)


def test_weights_of_a_run_on_grey_images_go_on_with_grey_images(tmp_path, capsys):
    options = ["--model", "cifar_resnet14", "--train-images", "100", "--epochs", "1", "--progress", "lines"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", *options, "--out", str(first)]) == 0
    begin = ["--weights", str(first / "last.safetensors"), "--freeze-until", "layer2"]
    assert main(["train", *options, *begin, "--out", str(second)]) == 0
    before, after = (weights.load(run / "last.safetensors")["model"] for run in (first, second))
    assert before["conv1.weight"].shape == (16, 1, 3, 3)
    for key in before:
        same = key.startswith(("conv1", "bn1", "layer1", "layer2"))
        assert np.array_equal(before[key].numpy(), after[key].numpy()) == same or key.endswith("num_batches_tracked"), key
    (first / "last.safetensors").unlink()  # no longer needed
    capsys.readouterr()
    assert main(["eval", str(second)]) == 0


def test_what_did_not_come_from_the_file_is_not_frozen(tmp_path, trunk, capsys):
    state = weights.load_file(trunk)
    del state["layer1.0.conv2.weight"]
    weights.save_file({**state, "bn1.weight": mg.ones(7)}, trunk)
    assert train(tmp_path, trunk, "--freeze-until", "layer2") == 2
    assert "bn1.weight is to be frozen, but has the shape (16,), but (7,) in" in capsys.readouterr().err
    assert train(tmp_path, trunk, "--head-only") == 2
    assert "(2 such): it would keep its random values" in capsys.readouterr().err
    assert train(tmp_path, trunk) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--head-only", "--freeze-until", "layer1"), "leave freeze_until out"),
        (("--freeze-until", "layer7"), "has no module 'layer7'"),
        (("--train-images", "5000"), "train_images must be at most 1438"),
        (("--train-images", "0"), "train_images must be at least 1"),
        (("--model", "lenet5"), "is of another architecture"),
    ],
)
def test_wrong_options(tmp_path, trunk, capsys, options, message):
    assert train(tmp_path, trunk, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_freezing_without_weights(tmp_path, capsys):
    assert main(["train", "--head-only", "--out", str(tmp_path / "run")]) == 2
    assert "give weights as well" in capsys.readouterr().err


def test_the_training_images_are_drawn_by_the_seed():
    first, again, other = (
        Job(Options.resolve(train_images=50, seed=seed, model="lenet5")).train_loader.dataset.indices for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert len(set(first)) == 50
    assert set(first) != set(other)
    assert max(first) > 1000, "the first images may all be of one writer"
