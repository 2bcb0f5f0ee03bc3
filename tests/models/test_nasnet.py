"""NASNet-A: the cells, and the mobile and large networks."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.models import nasnet
from minigrad.nn import functional as F
from minigrad.nn import init
from tests.models.oracle import assert_canonical_state, assert_like_torch, count, import_timm


def test_parameter_counts_are_the_published_ones():
    with init.skipped():
        assert count(nasnet.nasnet_a_mobile()) == 5_289_978
        assert count(nasnet.nasnet_a_large()) == 88_753_150
        assert count(nasnet.nasnet_a_mobile(num_classes=10, in_channels=1)) == 5_289_978 - 990 * 1057 - 2 * 32 * 9


def test_names_of_the_state_are_those_of_the_checkpoints():
    with init.skipped():
        assert_canonical_state(nasnet.nasnet_a_large(), "timm.nasnetalarge")
        state = nasnet.nasnet_a_mobile().state_dict()
    assert len(state) == 1318
    assert list(state)[:2] == ["conv0.conv.weight", "conv0.bn.weight"]
    assert list(state)[-2:] == ["last_linear.weight", "last_linear.bias"]
    assert state["cell_stem_0.comb_iter_0_left.separable_1.depthwise_conv2d.weight"].shape == (11, 1, 5, 5)
    assert state["cell_stem_0.comb_iter_0_right.separable_1.pointwise_conv2d.weight"].shape == (11, 32, 1, 1)
    assert state["cell_stem_1.path_2.conv.weight"].shape == (11, 32, 1, 1)
    assert state["reduction_cell_0.conv_prev_1x1.conv.weight"].shape == (88, 264, 1, 1)
    assert state["cell_15.comb_iter_4_left.bn_sep_2.running_var"].shape == (176,)
    assert {name.split(".")[0] for name in state if name.startswith("cell_1")} == {
        "cell_1",
        "cell_12",
        "cell_13",
        "cell_14",
        "cell_15",
    }


# ---- the same networks in PyTorch --------------------------------------------------------------------------------------


def timm_nasnet(cells: int, features: int, stem: int, skip_reduction_input: bool, num_classes: int = 10):
    """timm's cells, stacked here, because its class has six to a stage and always skips the input of a reduction."""
    import_timm()
    import torch
    from timm.models import nasnet as timm

    net = timm.NASNetALarge(num_classes, stem_size=stem, num_features=features)
    for i in range(18):
        if i % 6 >= cells:
            delattr(net, f"cell_{i}")
    _leave_padding_out_of_means(torch, net)

    def forward_features(x):
        x = net.conv0(x)
        previous = net.cell_stem_0(x)
        current = net.cell_stem_1(x, previous)
        for stage in range(3):
            if stage:
                reduced = getattr(net, f"reduction_cell_{stage - 1}")(current, previous)
                previous, current = previous if skip_reduction_input else current, reduced
            for i in range(cells):
                previous, current = current, getattr(net, f"cell_{6 * stage + i}")(current, previous)
        return torch.relu(current)

    net.forward_features = forward_features
    return net


def _leave_padding_out_of_means(torch, net) -> None:
    """As in TensorFlow, where the weights came from; timm's means count the zeros of the padding where they halve the image."""
    tf = torch.nn.functional

    class Average(torch.nn.Module):
        def forward(self, x):
            rows, columns = (size % 2 for size in x.shape[2:])  # of padding at the start; at the end always one
            padded, pixels = (tf.pad(t, (columns, 1, rows, 1)) for t in (x, torch.ones_like(x)))
            return tf.avg_pool2d(padded, 3, 2) / tf.avg_pool2d(pixels, 3, 2)

    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "AvgPool2dSame":
                setattr(module, name, Average())


@pytest.mark.parametrize("size", [(64, 64), (75, 97), (224, 224)])
def test_the_mobile_network_like_timms_cells(size):
    theirs = timm_nasnet(4, 1056, 32, skip_reduction_input=False)
    assert_like_torch(nasnet.nasnet_a_mobile(10), theirs, (1, 3, *size))


@pytest.mark.parametrize("skip", [False, True])
def test_gradients_of_a_small_network_like_timms_cells(skip):
    theirs = timm_nasnet(2, 96, 8, skip_reduction_input=skip)
    assert_like_torch(nasnet.NASNet(2, 96, 8, 10, skip_reduction_input=skip), theirs, (3, 3, 75, 64), gradients=True)


def test_the_large_network_like_timm():
    theirs = timm_nasnet(6, 4032, 96, skip_reduction_input=True)
    with init.skipped():
        ours = nasnet.nasnet_a_large(10)
    assert_like_torch(ours, theirs, (1, 3, 75, 65))


# ---- without PyTorch ---------------------------------------------------------------------------------------------------


def test_every_parameter_gets_a_gradient():
    model = nasnet.NASNet(1, 96, 8, num_classes=3, in_channels=1, dropout=0.0)
    x = mg.randn(4, 1, 67, 70)
    F.cross_entropy(model(x), mg.tensor([0, 1, 2, 1])).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert np.isfinite(p.grad.numpy()).all(), name
        assert p.grad.numpy().any(), name
    with mg.no_grad():
        y = model.eval().double()(x.double())
        assert y.dtype == np.float64
        np.testing.assert_allclose(model(x[:1].double()).numpy(), y.numpy()[:1], rtol=1e-10)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 9])
def test_pooling_and_convolution_halve_upwards_and_leave_the_padding_out(size):
    x = mg.randn(1, 1, size, 6)
    rows = [range(max(0, 2 * i - size % 2), min(size, 2 * i - size % 2 + 3)) for i in range((size + 1) // 2)]
    columns = [range(2 * j, min(6, 2 * j + 3)) for j in range(3)]
    for kind, function in (("average", np.mean), ("maximum", np.max)):
        expected = [[function(x.numpy()[0, 0][np.ix_(r, c)]) for c in columns] for r in rows]
        np.testing.assert_allclose(nasnet.Pool(kind, 2)(x).numpy()[0, 0], expected, rtol=1e-5)
        assert nasnet.Pool(kind, 1)(x).shape == x.shape
    convolution = nasnet.SamePadConv2d(1, 1, 3, stride=2, bias=False)
    init.ones_(convolution.weight)
    expected = [[x.numpy()[0, 0][np.ix_(r, c)].sum() for c in columns] for r in rows]
    np.testing.assert_allclose(convolution(x).detach().numpy()[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_cells_have_the_shapes_of_the_paper():
    with mg.no_grad():
        x, previous = mg.randn(1, 12, 6, 7), mg.randn(1, 5, 12, 13)
        assert nasnet.Cell(nasnet.NORMAL, 5, 12, 4, "halve")(previous, x).shape == (1, 24, 6, 7)
        assert nasnet.Cell(nasnet.REDUCTION, 12, 12, 8, "conv")(x, x).shape == (1, 32, 3, 4)


def test_dropout_is_an_option():
    model = nasnet.NASNet(1, 96, 8, num_classes=3, dropout=1.0)
    y = model(mg.randn(2, 3, 32, 32)).detach().numpy()
    np.testing.assert_array_equal(y, np.broadcast_to(model.last_linear.bias.detach().numpy(), (2, 3)))


def test_bad_options_and_inputs():
    with pytest.raises(ValueError, match="features, the channels at the end, must be a multiple of 96, got 1000"):
        nasnet.NASNet(4, 1000, 32)
    with pytest.raises(ValueError, match=r"cells, .*, must be 1 to 6, got 7"):
        nasnet.NASNet(7, 1056, 32)
    model = nasnet.NASNet(1, 96, 8).eval()
    with pytest.raises(ValueError, match=r"^conv0\.conv: conv2d: .*1.*3"):
        model(mg.randn(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"^conv0\.conv: conv2d: .*2"):
        model(mg.randn(1, 3, 2, 2))
    assert model(mg.randn(1, 3, 3, 3)).shape == (1, 1000)
