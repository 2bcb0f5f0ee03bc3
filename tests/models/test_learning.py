"""Every family of networks learns: after one epoch over a few images its loss is lower than before."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad import models
from minigrad.autograd import no_grad
from minigrad.data import DataLoader, TensorDataset
from minigrad.nn import functional as F
from minigrad.optim import SGD
from minigrad.training import fit

CLASSES = 3

# name, height and width of the images, learning rate, arguments of the model
FAMILIES = [
    ("lenet5", 32, 0.05, {}),
    ("lenet5_1998", 32, 0.0005, {}),
    ("alexnet", 64, 0.01, {"dropout": 0.0}),
    ("alexnet_2012", 227, 0.01, {}),
    ("zfnet", 224, 0.01, {}),
    ("cifar_nin", 32, 0.01, {}),
    ("nin", 67, 0.01, {}),
    ("vgg11", 32, 0.01, {}),
    ("vgg11_bn", 32, 0.01, {}),
    ("googlenet", 64, 0.01, {}),
    ("googlenet_2014", 64, 0.01, {}),
    ("resnet18", 32, 0.02, {}),
    ("resnet50", 32, 0.02, {}),
    ("cifar_resnet20", 32, 0.05, {}),
    ("cifar_preact_resnet110", 16, 0.02, {}),
    ("resnetv2_50", 32, 0.02, {}),
    ("se_resnet18", 32, 0.02, {}),
    ("cifar_wrn16_4", 16, 0.02, {}),
    ("wide_resnet50_2", 32, 0.02, {}),
    ("cifar_resnext29_1x64d", 16, 0.02, {}),
    ("resnext50_32x4d", 32, 0.02, {}),
    ("cifar_densenet40_12", 16, 0.05, {}),
    ("densenet121", 32, 0.02, {}),
    ("cifar_mobilenet_v1", 16, 0.05, {}),
    ("mobilenet_v1", 64, 0.05, {}),
    ("cifar_mobilenet_v2", 16, 0.05, {}),
    ("mobilenet_v2", 64, 0.05, {}),
    ("nasnet_a_mobile", 64, 0.05, {}),
    ("efficientnet_b0", 64, 0.05, {}),
    ("unet", 32, 0.05, {"base_channels": 16}),
    ("unet_2015", 188, 0.05, {"base_channels": 8}),
]
IN_DEFAULT_RUN = ("lenet5", "cifar_resnet20")


def batches(channels: int, size: int, pixels: int | None) -> DataLoader:
    """48 images of three classes: stripes that lie, stand or are missing, under noise. ``pixels``: classes of so many of them."""
    rng = np.random.default_rng(0)
    classes = np.arange(48) % CLASSES
    wave = np.sin(np.arange(size) * (2 * np.pi / 8))
    patterns = np.stack([np.tile(wave[:, None], (1, size)), np.tile(wave, (size, 1)), np.zeros((size, size))])
    images = patterns[classes][:, None] + 0.3 * rng.standard_normal((48, channels, size, size))
    if pixels is not None:
        classes = np.broadcast_to(classes[:, None, None], (48, pixels, pixels)).copy()
    return DataLoader(TensorDataset(images.astype(np.float32), classes), 8, shuffle=True, seed=0)


def test_every_family_is_here():
    """A family is a file of ``minigrad/models``."""
    files = {models.info(name).factory.__module__ for name in models.list()}
    assert {models.info(name).factory.__module__ for name, *_ in FAMILIES} == files


@pytest.mark.parametrize(
    ("name", "size", "lr", "options"),
    [pytest.param(*case, marks=() if case[0] in IN_DEFAULT_RUN else pytest.mark.slow, id=case[0]) for case in FAMILIES],
)
def test_the_loss_falls_in_one_epoch(name, size, lr, options):
    channels = models.info(name).input_shape[0]
    model = models.create(name, CLASSES, channels, **options)
    pixels = size - 2 * model.margin if name.startswith("unet") else None
    loader = batches(channels, size, pixels)
    before = _training_loss(model, loader)
    optimizer = SGD(model.parameters(), lr=lr, momentum=0.9)
    history = fit(model, loader, None, optimizer, epochs=1, progress=False)
    after = _training_loss(model, loader)
    assert history.steps == 6
    assert after < 0.9 * before, (before, after)


def _training_loss(model, loader) -> float:
    """The mean loss with the statistics of each batch, as in training, which a few steps' running statistics do not give."""
    model.train()
    saved = {name: t.clone() for name, t in model.state_dict().items()}
    with no_grad():
        losses = [F.cross_entropy(model(x), y).item() for x, y in loader]
    model.load_state_dict(saved)  # statistics as they were
    return float(np.mean(losses))
