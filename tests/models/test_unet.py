"""U-Net: the unpadded one of 2015, and the padded one in common use."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.models.unet import UNet, unet, unet_2015
from minigrad.nn import functional as F
from minigrad.nn import init
from tests.models.oracle import assert_like_torch, count


def test_parameter_counts():
    with init.skipped():
        assert count(unet_2015()) == 31_030_658
        assert count(unet()) == 31_037_698
        assert count(unet(bilinear=True)) == 17_263_042
        assert count(unet(norm=None)) == 31_031_810
        assert count(unet(num_classes=1, base_channels=32)) == 7_763_041
        assert count(unet(num_classes=5, in_channels=1)) == 31_037_698 + 3 * 65 - 2 * 9 * 64


def test_names_of_the_state():
    with init.skipped():
        state, plain = unet().state_dict(), unet_2015().state_dict()
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    double = ["0.weight", *(f"1.{n}" for n in norm), "3.weight", *(f"4.{n}" for n in norm)]
    levels = [f"down{i}.maxpool_conv.1" for i in (1, 2, 3, 4)]
    expected = [f"{prefix}.double_conv.{name}" for prefix in ("inc", *levels) for name in double]
    for i in (1, 2, 3, 4):
        expected += [f"up{i}.up.weight", f"up{i}.up.bias", *(f"up{i}.conv.double_conv.{name}" for name in double)]
    assert list(state) == [*expected, "outc.conv.weight", "outc.conv.bias"]
    assert state["up1.up.weight"].shape == (1024, 512, 2, 2)
    assert [name for name in plain if name.startswith("inc")] == [
        f"inc.double_conv.{i}.{n}" for i in (0, 2) for n in ("weight", "bias")
    ]


# ---- the same networks in PyTorch --------------------------------------------------------------------------------------


def torch_unet(torch, num_classes: int, in_channels: int, base: int, padded: bool, bilinear: bool = False):
    """U-Net with torch.nn, after the figure of the paper; padded with batch normalization as milesial writes it."""
    tnn, tf = torch.nn, torch.nn.functional

    def double(prefix, before, after, middle=None):
        layers, sizes = [], ((before, middle or after), (middle or after, after))
        for a, b in sizes:
            layers += [tnn.Conv2d(a, b, 3, padding=1, bias=False), tnn.BatchNorm2d(b)] if padded else [tnn.Conv2d(a, b, 3)]
            layers += [tnn.ReLU()]
        module = tnn.Sequential(*layers)
        for part in ("double_conv", *prefix[::-1]):
            module = tnn.ModuleDict({part: module})
        return module

    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            widths, factor = [base * 2**i for i in range(5)], 2 if bilinear else 1
            self.inc = double((), in_channels, base)
            for i in range(1, 5):
                after = widths[i] // factor if i == 4 else widths[i]
                setattr(self, f"down{i}", double(("maxpool_conv", "1"), widths[i - 1], after))
            for i in range(1, 5):
                wide, narrow = widths[5 - i], widths[4 - i]
                after = narrow // factor if i < 4 else narrow
                up = double(("conv",), wide, after, wide // 2 if bilinear else None)
                if not bilinear:
                    up = tnn.ModuleDict({"up": tnn.ConvTranspose2d(wide, narrow, 2, 2), "conv": up["conv"]})
                setattr(self, f"up{i}", up)
            self.outc = tnn.ModuleDict({"conv": tnn.Conv2d(base, num_classes, 1)})

        def forward(self, x):
            links = [self.inc["double_conv"](x)]
            for i in range(1, 5):
                down = getattr(self, f"down{i}")["maxpool_conv"]["1"]["double_conv"]
                links.append(down(tf.max_pool2d(links[-1], 2)))
            x = links.pop()
            for i in range(1, 5):
                up, link = getattr(self, f"up{i}"), links.pop()
                if bilinear:
                    x = tf.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
                else:
                    x = up["up"](x)
                h, w = link.shape[2] - x.shape[2], link.shape[3] - x.shape[3]
                if padded:
                    x = tf.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2))
                else:
                    link = link[:, :, h // 2 : h // 2 + x.shape[2], w // 2 : w // 2 + x.shape[3]]
                x = up["conv"]["double_conv"](torch.cat([link, x], 1))
            return self.outc["conv"](x)

    return Net()


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("size", [(32, 48), (51, 39)])
def test_unet_like_pytorch(bilinear, size):
    torch = pytest.importorskip("torch")
    theirs = torch_unet(torch, 3, 2, 8, padded=True, bilinear=bilinear)
    ours = unet(3, 2, bilinear=bilinear, base_channels=8)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_like_torch(ours, theirs, (2, 2, *size), gradients=True)


def test_unet_2015_like_pytorch():
    torch = pytest.importorskip("torch")
    theirs = torch_unet(torch, 2, 1, 4, padded=False)
    ours = unet_2015(base_channels=4)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_like_torch(ours, theirs, (2, 1, 188, 204), gradients=True)


# ---- without PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [unet, unet_2015])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_parameter_gets_a_gradient(make, dtype):
    model = make(3, in_channels=1, base_channels=4).to(dtype)
    size = 37 if make is unet else 188
    x = mg.randn(2, 1, size, size).to(dtype)
    y = model(x)
    assert y.dtype == dtype
    assert y.shape == ((2, 3, 37, 37) if make is unet else (2, 3, 4, 4))
    F.cross_entropy(y, mg.zeros(y.shape[0], *y.shape[2:]).long()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert np.isfinite(p.grad.numpy()).all(), name
        assert p.grad.numpy().any(), name


def test_the_output_of_the_paper_has_388_pixels():
    with mg.no_grad():
        assert unet_2015(base_channels=2).eval()(mg.randn(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_an_output_of_the_paper_sees_its_own_neighbourhood():
    """What is cropped lies in place: moving the image by 16 pixels, as far as the poolings go, moves the output."""
    model = unet_2015(base_channels=2).eval().double()
    x = np.random.default_rng(0).standard_normal((1, 1, 204, 220))
    with mg.no_grad():
        whole = model(mg.tensor(x)).numpy()
        part = model(mg.tensor(x[:, :, 16:, 32:])).numpy()
    assert part.shape == (1, 2, 4, 4)
    np.testing.assert_allclose(part, whole[:, :, 16:, 32:], atol=1e-12)


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "instance", None, nn.BatchNorm2d])
def test_normalization_is_a_choice(norm):
    model = unet(in_channels=1, norm=norm, base_channels=4)
    kinds = {type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__}
    expected = {"group": "GroupNorm", "layer": "GroupNorm", "instance": "InstanceNorm2d", None: None}.get(norm, "BatchNorm2d")
    assert kinds == ({expected} if expected else set())
    assert (model.inc.double_conv[0].bias is None) == (norm is not None)
    assert model(mg.randn(2, 1, 33, 32)).shape == (2, 2, 33, 32)


def test_initial_weights_are_those_of_the_paper():
    model = unet_2015(base_channels=16)
    convolution, up = model.down4.maxpool_conv[1].double_conv[2], model.up1.up
    assert convolution.weight.detach().numpy().std() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
    assert up.weight.detach().numpy().std() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert not convolution.bias.detach().numpy().any()
    assert not up.bias.detach().numpy().any()


def test_dropout_acts_at_the_bottom_in_training():
    model, x = UNet(norm=None, base_channels=4, dropout=0.5), mg.randn(1, 3, 32, 32)
    with mg.no_grad():
        assert (model(x).numpy() != model(x).numpy()).any()
        model.eval()
        np.testing.assert_array_equal(model(x).numpy(), model(x).numpy())
    assert unet_2015(base_channels=2).dropout.p == 0.5
    seen = []
    model.dropout.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model(x)
    assert seen == [(1, 32, 4, 4), (1, 64, 2, 2)]


def test_bad_options_and_inputs():
    model = unet(base_channels=2)
    with pytest.raises(ValueError, match=r"at least 16 x 16 pixels, got \(15, 40\)"):
        model(mg.randn(1, 3, 15, 40))
    with pytest.raises(ValueError, match=r"^inc\.double_conv\.0: conv2d: .*1.*3"):
        model(mg.randn(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"conv2d: x"):
        model(mg.randn(32, 32))
    with pytest.raises(ValueError, match=r"188, 204, 220, .*got \(200, 188\): pad the image, or use unet"):
        unet_2015(base_channels=2)(mg.randn(1, 1, 200, 188))
    with pytest.raises(ValueError, match="base_channels must be an even number of at least 2, got 3"):
        unet(base_channels=3)
    with pytest.raises(ValueError, match="norm must be one of batch"):
        unet(norm="batsch")
