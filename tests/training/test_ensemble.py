"""Averages of several models and of several views of an image."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, models, nn
from minigrad.cli import main
from minigrad.training import evaluate
from minigrad.training.ensemble import VIEWS, average_metrics, flips, probabilities, ten_crops


def loader(n=10, size=16):
    rng = np.random.default_rng(0)
    return data.DataLoader(data.TensorDataset(rng.standard_normal((n, 3, size, size), np.float32), np.arange(n) % 4), 4)


def net(seed):
    mg.manual_seed(seed)
    return models.cifar_resnet14(num_classes=4)


def test_one_model_and_one_view_are_as_evaluated():
    model, batches = net(0), loader()
    found, classes = probabilities(model, batches)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    ours, expected = average_metrics([found], classes), evaluate(model, batches)
    assert (ours.top1, ours.top5, ours.n) == (expected.top1, expected.top5, expected.n)
    assert ours.loss == pytest.approx(expected.loss, rel=1e-5)
    np.testing.assert_array_equal(ours.confusion, expected.confusion)


def test_the_average_of_probabilities_decides():
    first = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])
    second = np.array([[0.1, 0.9], [0.6, 0.4], [0.6, 0.4]])
    metrics = average_metrics([first, second], np.array([1, 0, 1]))
    assert metrics.top1 == 1
    assert metrics.loss == pytest.approx(-np.log([0.65, 0.75, 0.6]).mean())
    with pytest.raises(ValueError, match="the same images and classes"):
        average_metrics([first, second[:2]], np.array([1, 0, 1]))


def test_views():
    x = mg.tensor(np.arange(2 * 16 * 8, dtype=np.float32).reshape(2, 1, 16, 8))
    once, mirrored = flips(x)
    np.testing.assert_array_equal(once.numpy(), x.numpy())
    np.testing.assert_array_equal(mirrored.numpy(), x.numpy()[..., ::-1])
    crops = [crop.numpy() for crop in ten_crops(x)]
    assert [crop.shape for crop in crops] == [(2, 1, 14, 7)] * 10
    mirrored = x.numpy()[..., ::-1]
    for crop, mirror, top, left in zip(crops[:5], crops[5:], [0, 0, 2, 2, 1], [0, 1, 0, 1, 0], strict=True):
        np.testing.assert_array_equal(crop, x.numpy()[:, :, top : top + 14, left : left + 7])
        np.testing.assert_array_equal(mirror, mirrored[:, :, top : top + 14, left : left + 7])


@pytest.mark.parametrize("views", VIEWS)
def test_probabilities_are_those_of_the_views_averaged(views):
    model, batches = net(1), loader(4)
    found, _ = probabilities(model, batches, views)
    (images, _), *_ = batches
    with mg.no_grad():
        expected = [mg.softmax(model.eval()(view), dim=1).numpy() for view in VIEWS[views](images)]
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-5)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="views must be one of one, flip, ten-crop"):
        probabilities(net(0), loader(), "two")
    with pytest.raises(ValueError, match="the loader gave no batch"):
        probabilities(nn.Flatten(), [])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        options = ["--model", "lenet5", "--epochs", "1", "--max-steps", "20", "--seed", str(seed), "--progress", "off"]
        assert main(["train", *options, "--out", str(folder / str(seed))]) == 0
    return [str(folder / "0"), str(folder / "1" / "last.safetensors")]


def test_the_command(runs, capsys):
    assert main(["eval", *runs]) == 0
    first, second, title, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{runs[0]}  lenet5  ")
    assert second.startswith(f"{runs[1]}  lenet5  ")
    assert title == "lenet5 on the 359 test images of digits, 2 models averaged"
    assert main(["eval", runs[0], "--views", "flip"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("last.safetensors, views: flip")
