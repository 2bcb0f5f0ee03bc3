"""What is particular to one layer, and what is said about wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn


def test_conv_with_one_sided_padding():
    conv = nn.Conv2d(1, 1, 3, padding=((0, 2), (1, 0)))
    assert conv(mg.ones(1, 1, 5, 5)).shape == (1, 1, 5, 4)
    assert "padding=((0, 2), (1, 0))" in repr(conv)
    reflected = nn.Conv2d(1, 1, 3, padding=((0, 2), (1, 0)), padding_mode="reflect")
    assert reflected(mg.ones(1, 1, 5, 5)).shape == (1, 1, 5, 4)


def test_batch_norm_of_a_wrong_input_changes_no_statistics():
    bn = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match=r"one value per channel has no variance.*GroupNorm.*eval"):
        bn(mg.ones(1, 3, 1, 1))
    with pytest.raises(ValueError, match=r"BatchNorm2d expects x of shape \(N, C, H, W\) with C=3 channels, got \(2, 4, 5, 5\)"):
        bn(mg.ones(2, 4, 5, 5))
    with pytest.raises(ValueError, match=r"add a batch dimension"):
        bn(mg.ones(3, 5, 5))
    assert bn.num_batches_tracked.item() == 0
    assert bn.running_mean.tolist() == [0, 0, 0]
    assert bn.eval()(mg.ones(1, 3, 1, 1)).shape == (1, 3, 1, 1)


def test_dropout_drops_while_training_only():
    x = mg.ones(2, 40, 10, 10)
    drop = nn.Dropout(0.25)
    y = drop(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.03
    assert drop.eval()(x) is x
    channels = nn.Dropout2d(0.5)(x).numpy()
    assert set(np.unique(channels.std(axis=(2, 3)))) == {np.float32(0)}  # whole channels


def test_normalizations_start_as_the_identity():
    for layer in [nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.LayerNorm(3), nn.InstanceNorm2d(3, affine=True)]:
        assert layer.weight.tolist() == [1, 1, 1]
        assert layer.bias.tolist() == [0, 0, 0]


def test_dtype_and_device_arguments():
    for layer in [
        nn.Linear(2, 3, dtype=np.float64, device="cpu"),
        nn.Conv2d(2, 3, 1, dtype=np.float64, device="cpu"),
        nn.ConvTranspose2d(2, 3, 1, dtype=np.float64, device="cpu"),
        nn.BatchNorm2d(2, dtype=np.float64, device="cpu"),
        nn.GroupNorm(1, 2, dtype=np.float64, device="cpu"),
        nn.LayerNorm(2, dtype=np.float64, device="cpu"),
    ]:
        assert {t.dtype for t in layer.state_dict().values()} - {np.dtype(np.int64)} == {np.dtype(np.float64)}
    with pytest.raises(TypeError, match="floating"):
        nn.Linear(2, 3, dtype=np.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("Linear(0, 3)", ValueError, "in_features must be at least 1, got 0"),
        ("Linear(3, 2.5)", TypeError, "out_features must be a positive integer, got 2.5"),
        ("Conv2d(3, 8, 3, groups=2)", ValueError, "groups=2 must divide in_channels=3"),
        ("Conv2d(4, 5, 3, groups=2)", ValueError, "groups=2 must divide out_channels=5"),
        ("Conv2d(3, 8, 3, padding='full')", ValueError, "padding must be"),
        ("Conv2d(3, 8, 3, padding=-1)", ValueError, "padding must be at least 0"),
        ("Conv2d(3, 8, 3, stride=2, padding='same')", ValueError, "needs stride 1"),
        ("Conv2d(3, 8, 0)", ValueError, "kernel_size must be at least 1"),
        ("Conv2d(3, 8, (3, 3, 3))", TypeError, "kernel_size must be an integer or a pair"),
        ("Conv2d(3, 8, 3, padding_mode='mirror')", ValueError, "padding_mode must be one of zeros, reflect"),
        ("ConvTranspose2d(3, 8, 3, padding_mode='reflect')", ValueError, "padding_mode of a transposed convolution"),
        ("BatchNorm2d(0)", ValueError, "num_features must be at least 1"),
        ("GroupNorm(3, 4)", ValueError, "num_groups=3 must divide num_channels=4"),
        ("LayerNorm((3, 0))", ValueError, "normalized_shape must be at least 1"),
        ("Dropout(1.5)", ValueError, "p must be a probability from 0 to 1, got 1.5"),
        ("Dropout('0.5')", TypeError, "p must be a number from 0 to 1"),
        ("MSELoss('average')", ValueError, "reduction must be"),
        ("ZeroPad2d((1, 2))", TypeError, r"padding must be an integer or four of them \(left, right, top, bottom\)"),
        ("Hardtanh(1, 1)", ValueError, "min_val must be smaller than max_val"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        eval(f"nn.{call}", {"nn": nn})


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(AttributeError, match=r"minigrad.nn has no attribute 'Conv2D': did you mean 'Conv2d'\?"):
        nn.Conv2D  # noqa: B018
    with pytest.raises(AttributeError, match=r"did you mean 'cross_entropy'\?"):
        nn.functional.crossentropy  # noqa: B018
