"""Networks that give every pixel a class: the loss with its weights, sizes and margins, whole jobs and the command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from minigrad.cli import main
from minigrad.data import GridDeformation, border_weights
from minigrad.nn import functional as F
from minigrad.tensor import Tensor
from minigrad.training import evaluate, fit
from minigrad.training.job import Job
from minigrad.training.options import Options
from minigrad.training.segmentation import PixelLoss

SMALL = {"model_options": {"base_channels": 4}, "data": "cells"}


def test_the_loss_is_a_weighted_mean_of_the_pixels():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((2, 2, 9, 8))
    masks = rng.integers(0, 4, (2, 9, 8))
    weights = border_weights(masks, 3.0, 2.0)
    expected = 0.0
    for n, i, j in np.ndindex(2, 9, 8):
        a, b = scores[n, :, i, j]
        right = (a, b)[int(masks[n, i, j] > 0)]
        expected += weights[n, i, j] * (np.logaddexp(a, b) - right)
    loss = PixelLoss(instances=True, w0=3.0, sigma=2.0)
    assert loss(Tensor(scores), Tensor(masks)).item() == pytest.approx(expected / (2 * 9 * 8), rel=1e-6)
    np.testing.assert_array_equal(loss.classes(Tensor(masks)).numpy(), masks > 0)


def test_without_instances_all_pixels_count_alike():
    rng = np.random.default_rng(0)
    scores, masks = Tensor(rng.standard_normal((2, 3, 4, 5))), Tensor(rng.integers(0, 3, (2, 4, 5)))
    assert PixelLoss()(scores, masks).item() == F.cross_entropy(scores, masks).item()
    assert PixelLoss().classes(masks) is masks


@pytest.mark.parametrize(("model", "size", "seen"), [("unet", None, 132), ("unet", 64, 64), ("unet_2015", None, 316)])
def test_every_pixel_gets_a_class(model, size, seen):
    job = Job(Options.resolve(model=model, image_size=size, batch_size=1, **SMALL))
    for loader in (job.train_loader, job.test_loader):
        images, masks = next(iter(loader))
        assert images.shape[1:] == (1, seen, seen)
        assert masks.shape[1:] == (size or 132,) * 2
    with_grad = job.model(images[:1])
    assert with_grad.shape == (1, 2, size or 132, size or 132)


def test_lengths_of_the_paper_are_scaled_to_the_image():
    job = Job(Options.resolve(augment="elastic", **SMALL))
    assert job.loss.sigma == pytest.approx(5 * 132 / 512)
    (deformation,) = (step for step in job.train_loader.transform.steps if isinstance(step, GridDeformation))
    assert deformation.std == pytest.approx(10 * 132 / 512)
    kinds = {augment: Job(Options.resolve(augment=augment, **SMALL)) for augment in ("none", "standard")}
    assert [len(job.train_loader.transform.steps) for job in kinds.values()] == [1, 2]
    assert [len(job.test_loader.transform.steps) for job in kinds.values()] == [1, 1]


def test_what_is_mirrored_lies_around_the_image():
    plain = Job(Options.resolve(model="unet", augment="none", **SMALL))
    padded = Job(Options.resolve(model="unet_2015", augment="none", **SMALL))
    (inner, masks), (outer, same) = next(iter(plain.test_loader)), next(iter(padded.test_loader))
    np.testing.assert_array_equal(masks.numpy(), same.numpy())
    np.testing.assert_array_equal(outer.numpy()[..., 92:-92, 92:-92], inner.numpy())
    np.testing.assert_array_equal(outer.numpy()[..., 91, 92:-92], inner.numpy()[..., 1, :])


def test_images_and_masks_are_deformed_together():
    """Deformed images change most where the deformed masks say that cells end, and not where those of other images do."""
    loader = Job(Options.resolve(augment="elastic", **SMALL)).train_loader
    images, masks = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*loader, strict=True))
    steps = abs(images[:, 0, 1:, :] - images[:, 0, :-1, :])

    def at_edges(inside):
        edges = inside[:, 1:, :] != inside[:, :-1, :]
        return steps[edges].mean() / steps[~edges].mean()

    assert at_edges(masks > 0) > 1.4
    assert at_edges(np.roll(masks, 1, axis=0) > 0) < 1.15


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"model": "cifar_resnet20", "data": "cells"},
            "cifar_resnet20 gives an image one class, not one for each pixel: choose unet",
        ),
        ({"model": "unet", "data": "digits"}, "unet gives each pixel a class, but the images of digits have one class each"),
        ({"model": "unet_2015", "data": "digits"}, "unet_2015 gives each pixel a class"),
        ({"model": "unet_2015", "image_size": 128, **SMALL}, r"unet_2015 cannot take images of 128 x 128 \(with 92 mirrored"),
        ({"mixup": 0.2, **SMALL}, "mixup and cutmix mix images that have one class each"),
    ],
)
def test_what_does_not_fit_is_said(given, message):
    with pytest.raises(ValueError, match=message):
        Job(Options.resolve(**given))


def test_the_command_trains_and_evaluates(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = ["train", "--data", "cells", "--image-size", "64", "--model-option", "base_channels=4", "--epochs", "2"]
    assert main([*train, "--train-images", "16", "--out", "run", "--progress", "lines"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"test accuracy \d\d\.\d\d% \([\d,]+ of 81,920 pixels of the images of cells\)", out)
    iou = re.search(r"^IoU    0\.\d{3} \(background 0\.\d{3}, cell 0\.\d{3}\)$", out, re.MULTILINE)
    assert iou
    lines = Path("run", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    for line in map(json.loads, lines):  # images, not pixels
        assert line["images_per_second"] == pytest.approx(16 / line["seconds"], rel=0.05)
    assert main(["eval", "run/last.safetensors"]) == 0
    evaluated = capsys.readouterr().out
    assert iou.group() in evaluated
    assert "unet on the 81,920 pixels of the 20 test images of cells" in evaluated
    assert main(["eval", "run", "run"]) == 2
    assert "averages are of networks that give an image one class" in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path):
    """Images of 32 x 32 with masks of three classes, the third of which only training images have."""
    pillow = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        for kind in ("images", "masks"):
            (tmp_path / "data" / part / kind).mkdir(parents=True)
        for i in range(count):
            mask = np.zeros((32, 32), np.uint8)
            mask[4:16, 4 + i : 20] = 1
            mask[20:28, 8:24] = 2 if part == "train" else 1
            image = np.clip(60 * mask[..., None] + rng.integers(0, 60, (32, 32, 3)), 0, 255).astype(np.uint8)
            pillow.fromarray(image).save(tmp_path / "data" / part / "images" / f"{i}.png")
            pillow.fromarray(mask).save(tmp_path / "data" / part / "masks" / f"{i}.png")
    return tmp_path / "data"


def test_a_folder_of_images_and_masks(folder, tmp_path, capsys):
    train = ["train", "--data", "masks", "--data-dir", str(folder), "--model-option", "base_channels=4", "--epochs", "1"]
    assert main([*train, "--out", str(tmp_path / "run"), "--progress", "lines"]) == 0
    out = capsys.readouterr().out
    assert "masks: 6 training and 3 test images of 3 x 32 x 32 in 3 classes" in out
    assert main(["eval", str(tmp_path / "run")]) == 0
    assert "on the 3,072 pixels of the 3 test images of masks" in capsys.readouterr().out


def test_a_folder_of_numbered_cells(folder):
    job = Job(Options.resolve(data="masks", data_dir=str(folder), instances=True, model_options={"base_channels": 4}))
    assert job.classes == ["background", "cell"]
    assert isinstance(job.loss, PixelLoss)
    assert job.loss.instances
    with pytest.raises(ValueError, match="instances is for the data set masks"):
        Options.resolve(data="cells", instances=True)


@pytest.mark.slow
def test_a_small_unet_learns_to_find_cells():
    job = Job(Options.resolve(image_size=64, epochs=8, model_options={"base_channels": 8}, data="cells"))
    before = evaluate(job.model, job.test_loader, job.test_loss)
    parts = (job.learner, job.train_loader, job.test_loader, job.optimizer, job.scheduler)
    history = fit(*parts, epochs=8, progress=False, **job.additions)
    assert history.test.top1 > 0.8
    assert np.nanmean(history.test.iou) > 0.6 > np.nanmean(before.iou)
