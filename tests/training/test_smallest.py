"""The smallest images that networks take, against trying every size."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad import models, nn
from minigrad.autograd import no_grad
from minigrad.cli import main
from minigrad.nn import init
from minigrad.tensor import Tensor
from minigrad.training import summary
from minigrad.training.smallest import smallest_input


@pytest.mark.parametrize("name", ["alexnet", "densenet121", "googlenet", "unet", "cifar_nin", "cifar_resnet20"])
def test_one_pixel_less_is_too_small(name):
    with init.skipped():
        model = models.create(name).eval()
    channels = models.info(name).input_shape[0]
    size = smallest_input(model, channels)
    with no_grad():
        model(Tensor(np.zeros((1, channels, size, size), np.float32)))
        for smaller in range(1, size):
            with pytest.raises(ValueError, match=r"larger than the input|needs at least"):
                model(Tensor(np.zeros((1, channels, smaller, smaller), np.float32)))


def test_networks_of_one_size_have_no_smallest():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 25 * 25, 3))  # takes 27 x 27
    assert smallest_input(net, 1) is None
    assert net.training


def test_errors_name_the_layer_and_the_size(capsys):
    with init.skipped():
        model = models.create("alexnet")
    with pytest.raises(ValueError, match=r"^features\.12: max_pool2d: .* \(the smallest images that it takes are 63 x 63\)$"):
        summary(model, (3, 32, 32))
    with pytest.raises(ValueError, match=r"expects C=3 input channels, got C=1 in x of shape \(1, 1, 99, 99\) \(N, C, H, W\)$"):
        summary(model, (1, 99, 99))
    assert main(["summary", "vgg11", "--input", "3x16x16"]) == 2
    assert "the smallest images that it takes are 32 x 32" in capsys.readouterr().err
