"""Every family of networks learns: after one epoch over a few images its loss is lower than before."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad import models
from minigrad.autograd import no_grad
from minigrad.data import DataLoader, TensorDataset
from minigrad.nn import functional as F
from minigrad.optim import Adam
from minigrad.training import fit

CLASSES = 3

# name, height and width of the images, learning rate of Adam, arguments of the model
FAMILIES = [
    ("lenet5", 32, 1e-3, {}),
    ("lenet5_1998", 32, 1e-4, {}),
    ("alexnet", 64, 3e-4, {}),
    ("alexnet_2012", 227, 1e-5, {}),
    ("zfnet", 224, 1e-3, {}),
    ("cifar_nin", 32, 1e-4, {}),
    ("nin", 67, 1e-4, {}),
    ("vgg11", 32, 1e-4, {}),
    ("vgg11_bn", 32, 1e-3, {}),
    ("googlenet", 64, 1e-4, {}),
    ("googlenet_2014", 64, 3e-4, {}),
    ("resnet18", 32, 1e-3, {}),
    ("resnet50", 32, 3e-4, {}),
    ("cifar_resnet20", 32, 1e-3, {}),
    ("cifar_preact_resnet110", 16, 1e-3, {}),
    ("resnetv2_50", 32, 1e-3, {}),
    ("se_resnet18", 32, 1e-3, {}),
    ("cifar_wrn16_4", 16, 1e-3, {}),
    ("wide_resnet50_2", 32, 1e-4, {}),
    ("cifar_resnext29_1x64d", 16, 1e-3, {}),
    ("resnext50_32x4d", 32, 1e-3, {}),
    ("cifar_densenet40_12", 16, 1e-3, {}),
    ("densenet121", 32, 1e-3, {}),
    ("cifar_mobilenet_v1", 16, 1e-3, {}),
    ("mobilenet_v1", 64, 1e-3, {}),
    ("cifar_mobilenet_v2", 16, 1e-3, {}),
    ("mobilenet_v2", 64, 1e-3, {}),
    ("nasnet_a_mobile", 64, 1e-3, {}),
    ("efficientnet_b0", 64, 1e-3, {}),
    ("unet", 32, 1e-3, {"base_channels": 16}),
    ("unet_2015", 188, 1e-3, {"base_channels": 8}),
]
IN_DEFAULT_RUN = ("lenet5", "cifar_resnet20")


def batches(channels: int, size: int, pixels: int | None) -> DataLoader:
    """96 images of three classes: stripes that lie, stand or are missing, under noise. ``pixels``: classes of so many of them."""
    rng = np.random.default_rng(0)
    classes = np.arange(96) % CLASSES
    wave = np.sin(np.arange(size) * (2 * np.pi / 8))
    patterns = np.stack([np.tile(wave[:, None], (1, size)), np.tile(wave, (size, 1)), np.zeros((size, size))])
    images = patterns[classes][:, None] + 0.3 * rng.standard_normal((96, channels, size, size))
    if pixels is not None:
        classes = np.broadcast_to(classes[:, None, None], (96, pixels, pixels)).copy()
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
    optimizer = Adam(model.parameters(), lr=lr)
    history = fit(model, loader, None, optimizer, epochs=1, progress=False)
    after = _training_loss(model, loader)
    assert history.steps == 12
    assert after < 0.99 * before


def _training_loss(model, loader) -> float:
    """The mean loss with the statistics of each batch, as in training, which a few steps' running statistics do not give."""
    model.train()
    saved = {name: t.clone() for name, t in model.state_dict().items()}
    with no_grad():
        losses = [F.cross_entropy(model(x), y).item() for x, y in loader]
    model.load_state_dict(saved)  # statistics as they were
    return float(np.mean(losses))
