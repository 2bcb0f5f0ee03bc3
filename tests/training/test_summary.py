"""The description of a model: published totals, what each row holds, receptive fields, and that nothing is changed."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn
from minigrad.nn import functional as F
from minigrad.training.receptive_field import PIXEL, field_after
from minigrad.training.summary import _bytes, summary

# Name: (parameters, MACs for one image, receptive field of the last map), as published or counted by other programs.
PUBLISHED = {
    "lenet5": (61_706, 416_520, "16"),
    "cifar_resnet14": (175_258, 26_657_408, "53"),
    "cifar_resnet20": (269_722, 40_551_040, "81"),
    "cifar_resnet32": (464_154, 68_862_592, "137"),
    "cifar_resnet44": (658_586, 97_174_144, "193"),
    "cifar_resnet56": (853_018, 125_485_696, "249"),
    "cifar_resnet110": (1_727_962, 252_887_680, "501"),
}


def rows(model: nn.Module, *shape: int) -> dict:
    return {row.name: row for row in summary(model, shape).rows}


@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_are_the_published_ones(name):
    found = summary(models.create(name), models.info(name).input_shape)
    parameters, macs, field = PUBLISHED[name]
    assert (found.parameters, found.macs) == (parameters, macs)
    maps = [row for row in found.rows if row.output is not None and len(row.output) == 4 and row.output[2] > 1]
    assert str(maps[-1].field) == field
    assert sum(row.parameters for row in found.rows) == found.parameters
    assert f"{parameters:,}" in str(found)
    assert f"{macs:,}" in str(found)


def test_the_models_with_published_totals_exist():
    assert set(PUBLISHED) <= set(models.list())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2)
        self.body = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.drop(self.body(self.conv(x)))
        return self.fc(F.avg_pool2d(x, 4).flatten(1))


def test_rows_follow_the_computation():
    found = summary(Net(), (2, 8, 8))
    names = ["model", "conv", "body", "0", "1", "drop", "avg_pool2d", "flatten", "fc"]
    assert [row.name for row in found.rows] == names
    assert [row.level for row in found.rows] == [0, 1, 1, 2, 2, 1, 1, 1, 1]
    by_name = {row.name: row for row in found.rows}
    conv = by_name["conv"]
    assert (conv.kind, conv.output, conv.parameters) == ("Conv2d", (1, 4, 4, 4), 4 * 1 * 9 + 4)
    assert conv.macs == 4 * 4 * 4 * 9
    assert conv.activation_bytes == 4 * 4 * 4 * 4
    assert by_name["fc"].macs == 12
    assert by_name["0"].parameters == 8
    assert by_name["drop"].activation_bytes == 0  # in evaluation mode it gives what it got
    assert str(by_name["fc"].field) == "all"
    assert (found.buffers, found.trainable) == (9, 63)


def test_a_batch_multiplies_what_belongs_to_images():
    one, three = summary(Net(), (1, 2, 8, 8)), summary(Net(), (3, 2, 8, 8))
    assert three.macs == 3 * one.macs
    assert three.activation_bytes == 3 * one.activation_bytes
    assert three.parameters == one.parameters


def test_depth_folds_figures_into_the_rows_that_are_shown():
    whole = str(summary(Net(), (2, 8, 8), depth=0)).splitlines()
    assert len(whole) == 7
    assert "63" in whole[2]
    assert f"{576 + 12}" in whole[2]
    one = str(summary(Net(), (2, 8, 8), depth=1))
    assert "BatchNorm2d" not in one
    assert "Sequential" in one


def test_shared_parameters_count_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x))

    found = summary(Twice(), (2, 4))
    assert [row.parameters for row in found.rows] == [0, 20, 0]
    assert found.parameters == 20
    assert found.macs == 2 * 32


def test_frozen_parameters():
    net = Net()
    net.conv.requires_grad_(False)
    found = summary(net, (2, 8, 8))
    assert (found.parameters, found.trainable) == (63, 23)
    assert "(23 trainable)" in str(found)


def test_the_model_stays_as_it_is():
    net = Net()
    net.body.eval()
    before = {key: value.numpy().copy() for key, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    summary(net, (2, 8, 8))
    assert [module.training for module in net.modules()] == modes
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_model_that_fails_is_left_alone_too():
    net = Net()
    with pytest.raises(ValueError, match="fc: linear: expects 4 features, got 16"):
        summary(net, (2, 16, 16))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert mg.autograd.state.observer is None
    assert net.training


@pytest.mark.parametrize("shape", [(), (3, 0, 8), "3", (3, 8.0, 8), (-1, 8, 8), (True, 8, 8), None])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match="input_shape must be sizes of at least 1"):
        summary(Net(), shape)


def test_wrong_arguments():
    with pytest.raises(TypeError, match="model must be a Module, got function"):
        summary(models.lenet5, (1, 32, 32))
    with pytest.raises(ValueError, match="depth must be an integer of at least 0, got -1"):
        summary(Net(), (2, 8, 8), depth=-1)


def test_other_products_are_counted():
    class Products(nn.Module):
        def forward(self, x):
            a = mg.matmul(x, mg.ones(4, 5))  # 3 x 4 x 5
            b = mg.einsum("nk,km->nm", a, mg.ones(5, 2))  # 3 x 5 x 2
            c = mg.einsum("...k,km->...m", b, mg.ones(2, 7))  # 3 x 2 x 7
            return mg.mm(c, mg.ones(7, 1)) + mg.outer(mg.ones(3), mg.ones(1))  # 3 x 7 x 1, 3 x 1

    assert summary(Products(), (3, 4)).macs == 60 + 30 + 42 + 21 + 3


def test_transposed_convolutions_are_counted():
    found = rows(nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)), 4, 5, 5)
    assert found["0"].macs == 4 * 5 * 5 * 3 * 9


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ([nn.Conv2d(1, 1, 7, 2, 3), nn.MaxPool2d(3, 2, 1)], "11"),
        ([nn.Conv2d(1, 1, 3, dilation=2), nn.Conv2d(1, 1, 3, dilation=4)], "13"),
        ([nn.Conv2d(1, 1, (3, 5))], "3 x 5"),
        ([nn.AvgPool2d(2), nn.AvgPool2d(2), nn.Conv2d(1, 1, 3)], "12"),
        ([nn.Conv2d(1, 1, 3), nn.AdaptiveAvgPool2d(1)], "all"),
        ([nn.AdaptiveAvgPool2d(8)], "4"),
        ([nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3)], "4"),
        ([nn.MaxPool2d(2), nn.ConvTranspose2d(1, 1, 2, stride=2)], "2"),
        ([nn.MaxPool2d(4), nn.ConvTranspose2d(1, 1, 3, stride=2)], "8"),
    ],
)
def test_receptive_fields(layers, field):
    assert str(summary(nn.Sequential(*layers), (1, 32, 32)).rows[-1].field) == field


def test_the_receptive_field_is_what_gradients_reach():
    """The pixels whose gradient is not 0 are the field, for a value far from the borders."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 5, stride=2), nn.AvgPool2d(3, 2), nn.Conv2d(2, 1, (1, 3), dilation=2))
    x = mg.zeros(1, 1, 64, 64, requires_grad=True)
    y = net(x)
    y[0, 0, 5, 5].backward()
    reached = x.grad.numpy()[0, 0] != 0
    size = tuple(int(reached.any(axis).sum()) for axis in (1, 0))
    assert str(summary(net, (1, 64, 64)).rows[-1].field) == f"{size[0]} x {size[1]}"


def test_the_field_of_a_strided_slice_and_of_what_does_not_depend_on_the_image():
    x = mg.zeros(1, 3, 8, 8)
    y = x[..., ::2, ::4]
    index = (Ellipsis, slice(None, None, 2), slice(None, None, 4))
    assert field_after("getitem", {"index": index}, [(x, PIXEL)], y).jump == (2, 4)
    assert field_after("getitem", {"index": 0}, [(x, PIXEL)], x[0]).whole
    assert field_after("add", {}, [], x) is None


def test_sizes_in_words():
    assert [_bytes(n) for n in (0, 1, 1023, 1024, 1536, 2**20 - 1, 2**20, 5 * 2**40, 2**55)] == [
        "", "1 B", "1023 B", "1.0 KiB", "1.5 KiB", "1024.0 KiB", "1.0 MiB", "5.0 TiB", "32768.0 TiB",
    ]  # fmt: skip
