"""A tiny job for the tests of training, with everything random that a run can have, and pictures of its state to compare."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, random, weights
from minigrad.data import DataLoader, ImageDataset
from minigrad.optim import SGD, lr_scheduler
from minigrad.tensor import Tensor
from minigrad.training import History, fit

EPOCHS = 3
BATCH = 8
SAMPLES = 44  # 6 batches, the last of 4
STEPS = 6  # in an epoch
TIMES = ("seconds", "images_per_second")  # all that may differ between two runs of the same bits


def noise(images, rng):
    """A random augmentation."""
    return (images / 255 + 0.05 * rng.standard_normal(images.shape)).astype(np.float32)


def images(count: int = SAMPLES) -> ImageDataset:
    """Images of three classes: noise of three brightnesses."""
    classes = np.arange(count) % 3
    dark = np.random.default_rng(0).integers(0, 60, (count, 1, 6, 6))
    return ImageDataset((dark + 90 * classes[:, None, None, None]).astype(np.uint8), classes)


def draw_pictures(folder: Path) -> Path:
    """A folder of dark and light images, ten of each, 10 x 12 pixels. Skips the test without Pillow."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name, base in (("dark", 20), ("light", 200)):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            pixels = (base + rng.integers(0, 40, (12, 10, 3))).astype(np.uint8)
            image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def net(width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(36 * width, 3),
    )


def one_cycle(optimizer):
    return lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=EPOCHS * STEPS)


@dataclass
class Job:
    """What ``fit`` takes, made from a seed."""

    model: nn.Module
    train: Any
    test: Any
    optimizer: SGD
    scheduler: Any
    rng: dict

    @classmethod
    def make(cls, seed: int = 3, workers: int = 0, batch: int = BATCH, width: int = 4, schedule=one_cycle) -> Job:
        mg.manual_seed(seed)
        model = net(width)
        train = DataLoader(images(), batch, shuffle=True, num_workers=workers, transform=noise)
        optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        scheduler = None if schedule is None else schedule(optimizer)
        return cls(model, train, DataLoader(images(20), 16, num_workers=workers), optimizer, scheduler, random.get_rng_state())

    def fit(self, **options) -> History:
        """A new run starts with the random numbers as they were after ``make``, whatever was drawn since."""
        if not options.get("resume"):
            random.set_rng_state(self.rng)
        options = {"epochs": EPOCHS, "progress": False, **options}
        return fit(self.model, self.train, self.test, self.optimizer, self.scheduler, **options)

    def state(self) -> dict[str, Any]:
        """Everything that decides how a training goes on, to compare with ==."""
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "loader": self.train}
        states = {name: part.state_dict() for name, part in parts.items() if hasattr(part, "state_dict")}
        return plain({**states, "rng": random.get_rng_state()})

    def at_training_pass(self, number: int, action) -> None:
        """Call ``action()`` in the forward pass of step ``number``, counted from now on."""
        self._at_pass(number, action, training=True)

    def at_testing_pass(self, number: int, action) -> None:
        """Call ``action()`` in the forward pass of test batch ``number``, counted from now on."""
        self._at_pass(number, action, training=False)

    def _at_pass(self, number: int, action, training: bool) -> None:
        count = 0

        def hook(module, inputs, output):
            nonlocal count
            count += module.training == training
            if count == number and module.training == training:
                action()

        self.model.register_forward_hook(hook)


def plain(value: Any) -> Any:
    """``value`` with every array replaced by a digest of its bits, and every time taken out."""
    if isinstance(value, Tensor):
        array = value.numpy()
        return f"{array.dtype} {array.shape} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]}"
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items() if key not in TIMES}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def records(folder: Path) -> dict[str, Any]:
    """What a run folder holds, to compare with ==: every file but the picture, without times and machine."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("environment")
    found = {"config": config, "metrics": [plain(json.loads(line)) for line in lines]}
    for path in sorted(folder.glob("*.safetensors")):
        found[path.name] = plain(weights.load(path)), plain(weights.read_metadata(path))
    found["files"] = sorted(path.name for path in folder.iterdir() if path.suffix != ".png")
    return found


def snapshot(folder: Path) -> dict[str, bytes]:
    """The content of every file in ``folder``."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
