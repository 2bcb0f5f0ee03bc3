"""Sizes of convolutions, poolings and resizings: against windows counted one by one, against PyTorch, with wrong arguments."""

import itertools
import math

import numpy as np
import pytest

from minigrad.kernels.geometry import AdaptiveGeometry, ConvGeometry, PoolGeometry, ResizeGeometry, pair

SIZES, KERNELS, STRIDES, PADS, DILATIONS = (1, 2, 5, 8), (1, 2, 3), (1, 2, 4), ((0, 0), (1, 1), (0, 2), (3, 1)), (1, 2, 3)


def windows_that_fit(size, kernel, stride, before, after, dilation):
    """How many windows lie inside the padded input, found by moving one from its start to its end."""
    return sum(1 for start in range(0, size + before + after, stride) if start + dilation * (kernel - 1) < size + before + after)


# ---- pair ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, (3, 3), [3, 3], (3,), [3], np.int64(3), (np.int32(3), 3)])
def test_pair(value):
    result = pair(value, "stride")
    assert result == (3, 3)
    assert [type(v) for v in result] == [int, int]


def test_pair_keeps_the_order_of_height_and_width():
    assert pair((2, 5), "stride") == (2, 5)


@pytest.mark.parametrize(
    "value", [1.0, (1, 2.0), True, (1, False), np.True_, "3", None, (), (1, 2, 3), np.array([1, 2]), {1, 2}, ((1, 2), (3, 4)), 1j]
)
def test_pair_refuses_what_is_not_one_or_two_integers(value):
    with pytest.raises(TypeError, match=r"^kernel_size must be an integer or a pair of integers \(height, width\), got "):
        pair(value, "kernel_size")


@pytest.mark.parametrize(("value", "minimum"), [(-1, 0), ((3, -1), 0), (0, 1), ((0, 3), 1)])
def test_pair_refuses_what_is_too_small(value, minimum):
    with pytest.raises(ValueError, match=rf"^stride must be at least {minimum}, got "):
        pair(value, "stride", minimum)


# ---- images, the same for every geometry -----------------------------------------------------------------------------

MAKERS = {
    "convolution": lambda shape: ConvGeometry.of(shape, (4, 3, 1, 1)),
    "transposed convolution": lambda shape: ConvGeometry.of_transposed(shape, (3, 4, 1, 1)),
    "pooling": lambda shape: PoolGeometry.of(shape, 1),
    "adaptive pooling": lambda shape: AdaptiveGeometry.of(shape, 1),
    "resizing": lambda shape: ResizeGeometry.of(shape, 1),
}
IMAGES = [
    ((3, 8, 8), ValueError, r"^x must have 4 dimensions \(N, C, H, W\), got shape \(3, 8, 8\): add a batch dimension"),
    ((8, 8), ValueError, r"^x must have 4 dimensions \(N, C, H, W\), got shape \(8, 8\)$"),
    ((2, 3, 8, 8, 8), ValueError, r"^x must have 4 dimensions \(N, C, H, W\), got shape \(2, 3, 8, 8, 8\)$"),
    ((-1, 3, 8, 8), ValueError, r"^x must have no negative size, got shape \(-1, 3, 8, 8\) \(N, C, H, W\)"),
    ((2, 3, -8, 8), ValueError, r"^x has no pixels: H and W must be at least 1, got shape \(2, 3, -8, 8\) \(N, C, H, W\)"),
    ((2, 3, 8, 0), ValueError, r"^x has no pixels: H and W must be at least 1, got shape \(2, 3, 8, 0\) \(N, C, H, W\)"),
    # of a size that nothing else has: geometries are kept, and equal numbers of another type would find one
    ((2, 3, 87.0, 8), TypeError, r"^x must have sizes that are integers, got shape \(2, 3, 87\.0, 8\)"),
]


@pytest.mark.parametrize(("shape", "error", "message"), IMAGES)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_wrong_images(make, shape, error, message):
    with pytest.raises(error, match=message):
        make(shape)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_no_images_are_a_batch(make):
    geometry = make((0, 3, 5, 4))
    assert geometry.x_shape[0] == geometry.y_shape[0] == 0


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_geometry_is_a_key_that_nothing_changes(make):
    """Kernels keep tables for geometries, found by their hash."""
    geometry = make((2, 3, 5, 4))
    assert geometry == make((2, 3, 5, 4)) != make((2, 3, 5, 5))
    assert hash(geometry) == hash(make((np.int64(2), 3, 5, 4)))
    with pytest.raises(AttributeError):
        geometry.n = 3


# ---- convolution -----------------------------------------------------------------------------------------------------


def test_convolution_counts_the_windows():
    for h, k, s, (before, after), d in itertools.product(SIZES, KERNELS, STRIDES, PADS, DILATIONS):
        expected = windows_that_fit(h, k, s, before, after, d)
        for turn in (1, -1):  # the same along the rows and along the columns
            x, filters = (1, 2, *(h, 20)[::turn]), (3, 2, *(k, 2)[::turn])
            arguments = (s, 3)[::turn], ((before, after), (1, 0))[::turn], (d, 1)[::turn]
            if expected:
                g = ConvGeometry.of(x, filters, *arguments)
                assert (g.oh, g.ow)[::turn] == (expected, windows_that_fit(20, 2, 3, 1, 0, 1))
                assert (g.x_shape, g.weight_shape, g.y_shape) == (x, filters, (1, 3, g.oh, g.ow))
            else:
                with pytest.raises(ValueError, match="is larger than the input"):
                    ConvGeometry.of(x, filters, *arguments)


def test_forms_of_padding():
    def pads(padding, kernel=(3, 5), dilation=1):
        g = ConvGeometry.of((1, 1, 20, 20), (1, 1, *kernel), 1, padding, dilation)
        return g.top, g.bottom, g.left, g.right

    assert pads(2) == pads([2]) == (2, 2, 2, 2)
    assert pads((1, 2)) == (1, 1, 2, 2)
    assert pads(((1, 2), (3, 4))) == pads([[1, 2], [3, 4]]) == (1, 2, 3, 4)
    assert pads(((1, 2), 3)) == (1, 2, 3, 3)
    assert pads("valid") == (0, 0, 0, 0)
    assert pads("same") == (1, 1, 2, 2)
    assert pads("same", (2, 4), (3, 1)) == (1, 2, 1, 2)  # what is left over goes to the end


@pytest.mark.parametrize("kernel", list(itertools.product((1, 2, 3, 4), repeat=2)))
def test_same_keeps_the_size(kernel):
    for dilation in itertools.product((1, 2, 3), repeat=2):
        g = ConvGeometry.of((1, 1, 9, 7), (1, 1, *kernel), 1, "same", dilation)
        assert (g.oh, g.ow) == (9, 7)
        assert 0 <= g.bottom - g.top <= 1
        assert 0 <= g.right - g.left <= 1


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")  # PyTorch says so
def test_convolution_has_the_sizes_of_torch():
    torch = pytest.importorskip("torch")
    paddings = (0, 1, (2, 0), "same", "valid")
    for h, kh, s, padding, d in itertools.product((1, 4, 7), (1, 2, 3), (1, 2), paddings, (1, 2)):
        arguments = (2, 4, h, 9), (6, 2, kh, 3), (s, 1), padding, (d, 2), 2
        x, weight = torch.zeros(arguments[0]), torch.zeros(arguments[1])
        try:
            expected = tuple(torch.nn.functional.conv2d(x, weight, None, *arguments[2:]).shape)
        except RuntimeError:
            with pytest.raises(ValueError, match=r"larger than the input|needs stride 1"):
                ConvGeometry.of(*arguments)
        else:
            assert ConvGeometry.of(*arguments).y_shape == expected


CONVOLUTIONS = [
    ({"weight_shape": (4, 3, 3)}, ValueError, r"^weight must have 4 non-empty dimensions \(O, C/groups, kh, kw\), got"),
    ({"weight_shape": (4, 3, 0, 3)}, ValueError, r"^weight must have 4 non-empty dimensions \(O, C/groups, kh, kw\), got"),
    ({"weight_shape": (-4, 6, 3, 3)}, ValueError, r"^weight must have 4 non-empty dimensions"),
    ({"weight_shape": (4, 6, 3, 3.0)}, TypeError, r"^weight must have sizes that are integers, got shape \(4, 6, 3, 3\.0\)"),
    ({"weight_shape": (4, 3, 3, 3)}, ValueError, r"groups=1 expects C=3 input channels, got C=6 in x of shape \(2, 6, 8, 7\)"),
    ({"groups": 3}, ValueError, r"groups=3 expects C=18 input channels, got C=6"),
    ({"weight_shape": (4, 2, 3, 3), "groups": 3}, ValueError, r"^groups=3 must divide the 4 output channels"),
    *[({"groups": value}, ValueError, "^groups must be a positive integer, got") for value in (0, -1, 1.0, True, "2", None)],
    *[({"stride": value}, ValueError, "^stride must be at least 1, got") for value in (0, -1, (1, 0))],
    *[({"stride": value}, TypeError, "^stride must be an integer or a pair") for value in (1.0, True, None, (1, 2, 3), ())],
    *[({"dilation": value}, ValueError, "^dilation must be at least 1, got") for value in (0, (2, -2))],
    *[({"dilation": value}, TypeError, "^dilation must be an integer or a pair") for value in (1.5, False, (1, 1, 1))],
    *[({"padding": value}, ValueError, "^padding must be at least 0, got") for value in (-1, (0, -1), ((0, 0), (0, -1)))],
    *[({"padding": value}, TypeError, "^padding must be an integer or a pair") for value in (0.5, True, None, (1, 2, 3, 4))],
    *[({"padding": value}, TypeError, "^padding must be an integer or a pair") for value in (((1, 2, 3), (0, 0)), ((1, 1.5), 0))],
    ({"padding": "full"}, ValueError, '^padding must be integers, "same" or "valid", got \'full\''),
    ({"padding": "same", "stride": 2}, ValueError, r'^padding="same" needs stride 1, got stride \(2, 2\): give the padding'),
    ({"weight_shape": (4, 6, 9, 3)}, ValueError, r"^the kernel 9 x 3 is larger than the input 8 x 7 padded to 8 x 7: use a"),
    ({"weight_shape": (4, 6, 3, 9), "padding": ((0, 1), (1, 0))}, ValueError, r"^the kernel 3 x 9 is .* padded to 9 x 8: use"),
    ({"dilation": 4}, ValueError, r"^the kernel 3 x 3 \(spread to 9 x 9 by dilation \(4, 4\)\) is larger than the input 8 x 7"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), CONVOLUTIONS)
def test_wrong_convolutions(arguments, error, message):
    with pytest.raises(error, match=message):
        ConvGeometry.of(**{"x_shape": (2, 6, 8, 7), "weight_shape": (4, 6, 3, 3)} | arguments)


# ---- transposed convolution ------------------------------------------------------------------------------------------


def test_transposed_convolution_has_the_sizes_of_torch():
    torch = pytest.importorskip("torch")
    for h, kh, s, p, extra, d in itertools.product((1, 3), (1, 2, 4), (1, 2, 3), (0, 1, 2), (0, 1, 2), (1, 3)):
        arguments = (2, 4, h, 5), (4, 3, kh, 3), (s, 1), (p, 1), (extra, 0), (d, 2), 2
        x, weight = torch.zeros(arguments[0]), torch.zeros(arguments[1])
        stride, padding, output_padding, dilation, groups = arguments[2:]
        try:
            y = torch.nn.functional.conv_transpose2d(x, weight, None, stride, padding, output_padding, groups, dilation)
        except RuntimeError:
            y = None
        if y is None or not y.numel():
            with pytest.raises(ValueError, match=r"^output_padding .* must be smaller than|^the output would be"):
                ConvGeometry.of_transposed(*arguments)
        else:
            g = ConvGeometry.of_transposed(*arguments)
            assert (g.y_shape, g.x_shape) == (tuple(x.shape), tuple(y.shape))  # x and y change places
            assert g.weight_shape == tuple(weight.shape)


def test_transposed_convolution_undoes_the_sizes_of_the_convolution():
    for h, k, s, (before, after), d in itertools.product((5, 8, 9), KERNELS, STRIDES, PADS, DILATIONS):
        if windows_that_fit(h, k, s, before, after, d):
            forward = ConvGeometry.of((2, 6, h, 20), (4, 3, k, 3), (s, 1), ((before, after), (1, 1)), (d, 1), 2)
            lost = (h + before + after - d * (k - 1) - 1) % s  # rows that no window sees
            arguments = (s, 1), ((before, after), (1, 1)), (lost, 0), (d, 1), 2
            assert ConvGeometry.of_transposed(forward.y_shape, forward.weight_shape, *arguments) == forward


TRANSPOSED = [
    ({"weight_shape": (6, 4, 3)}, ValueError, r"^weight must have 4 non-empty dimensions \(I, O/groups, kh, kw\), got"),
    ({"weight_shape": (4, 6, 3, 3)}, ValueError, r"expects 4 input channels, got 6 in x of shape \(2, 6, 8, 7\) \(N, I, H, W\)"),
    ({"groups": 4}, ValueError, "^groups=4 must divide the 6 input channels"),
    ({"groups": 0}, ValueError, "^groups must be a positive integer, got 0"),
    ({"stride": 0}, ValueError, "^stride must be at least 1, got 0"),
    ({"dilation": 0}, ValueError, "^dilation must be at least 1, got 0"),
    ({"padding": -1}, ValueError, "^padding must be at least 0, got -1"),
    ({"padding": "same"}, ValueError, "^padding must be integers for a transposed convolution, got 'same'"),
    ({"output_padding": -1}, ValueError, "^output_padding must be at least 0, got -1"),
    ({"output_padding": 0.5}, TypeError, "^output_padding must be an integer or a pair"),
    ({"output_padding": 1}, ValueError, r"^output_padding \(1, 1\) must be smaller than stride \(1, 1\) or dilation \(1, 1\)"),
    ({"output_padding": (1, 3), "stride": 3}, ValueError, r"^output_padding \(1, 3\) must be smaller than stride \(3, 3\)"),
    ({"padding": 5}, ValueError, "^the output would be 0 x -1: use a larger input or less padding than 5"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), TRANSPOSED)
def test_wrong_transposed_convolutions(arguments, error, message):
    with pytest.raises(error, match=message):
        ConvGeometry.of_transposed(**{"x_shape": (2, 6, 8, 7), "weight_shape": (6, 4, 3, 3)} | arguments)


# ---- pooling ---------------------------------------------------------------------------------------------------------


def windows_that_cover(size, kernel, stride, pad, dilation):
    """How many windows ``ceil_mode`` takes: until one reaches the padded input's end; none starts behind the input."""
    reach, count = dilation * (kernel - 1) + 1, 1
    while (count - 1) * stride + reach < size + 2 * pad and count * stride < size + pad:
        count += 1
    return count


def test_pooling_counts_the_windows():
    for (h, k, s, d), ceil in itertools.product(itertools.product(SIZES, KERNELS, STRIDES, DILATIONS), (False, True)):
        for p in range(k // 2 + 1):
            fit = windows_that_fit(h, k, s, p, p, d)
            expected = windows_that_cover(h, k, s, p, d) if ceil and fit else fit
            for turn in (1, -1):
                arguments = (k, 3)[::turn], (s, 2)[::turn], (p, 1)[::turn], (d, 1)[::turn], ceil
                if expected:
                    g = PoolGeometry.of((2, 3, *(h, 20)[::turn]), *arguments)
                    assert (g.oh, g.ow)[::turn] == (expected, 11 if ceil else 10)  # windows of 3 in 1 + 20 + 1, steps of 2
                    assert g.y_shape == (2, 3, g.oh, g.ow)
                elif not ceil:
                    with pytest.raises(ValueError, match="is larger than the input"):
                        PoolGeometry.of((2, 3, *(h, 20)[::turn]), *arguments)


def test_pooling_has_the_sizes_of_torch():
    """Also where ``ceil_mode`` keeps a single window that is larger than the input."""
    torch = pytest.importorskip("torch")
    larger = 0
    for h, k, s, d, ceil in itertools.product((1, 2, 3, 6), (1, 2, 3, 5), (1, 2, 3, 5), (1, 2), (False, True)):
        for p in range(k // 2 + 1):
            arguments = (k, 2), (s, 1), (p, 1), (d, 1), ceil
            try:
                expected = tuple(torch.nn.functional.max_pool2d(torch.zeros(2, 3, h, 6), *arguments).shape)
            except RuntimeError:
                with pytest.raises(ValueError, match="is larger than the input"):
                    PoolGeometry.of((2, 3, h, 6), *arguments)
            else:
                assert PoolGeometry.of((2, 3, h, 6), *arguments).y_shape == expected
                larger += d * (k - 1) + 1 > h + 2 * p
    assert larger


def test_ceil_mode_keeps_a_window_that_is_larger_than_the_input():
    """As networks with such poolings need it for small images."""
    assert PoolGeometry.of((1, 1, 2, 4), 3, 2, ceil_mode=True).y_shape == (1, 1, 1, 2)
    assert PoolGeometry.of((1, 1, 1, 1), 3, 3, ceil_mode=True).y_shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match="is larger than the input"):
        PoolGeometry.of((1, 1, 1, 1), 3, 2, ceil_mode=True)


def test_the_stride_of_a_pooling_is_its_window():
    assert PoolGeometry.of((1, 1, 12, 12), (3, 2)) == PoolGeometry.of((1, 1, 12, 12), (3, 2), (3, 2))


def test_what_a_pooling_divides_by():
    g = PoolGeometry.of((1, 1, 4, 4), 2)
    assert (g.count_include_pad, g.divisor) == (True, 0)
    g = PoolGeometry.of((1, 1, 4, 4), 2, count_include_pad=False, divisor_override=np.int64(3))
    assert (g.count_include_pad, g.divisor) == (False, 3)


POOLINGS = [
    *[({"kernel_size": value}, ValueError, "^kernel_size must be at least 1, got") for value in (0, (2, 0), -2)],
    *[({"kernel_size": value}, TypeError, "^kernel_size must be an integer or a pair") for value in (2.0, True, None, (2, 2, 2))],
    *[({"stride": value}, ValueError, "^stride must be at least 1, got") for value in (0, (1, -1))],
    *[({"stride": value}, TypeError, "^stride must be an integer or a pair") for value in (1.0, False, (), (1, 2, 3))],
    ({"padding": -1}, ValueError, "^padding must be at least 0, got -1"),
    ({"padding": 0.5}, TypeError, "^padding must be an integer or a pair"),
    ({"padding": "same"}, TypeError, "^padding must be an integer or a pair"),
    ({"padding": 2}, ValueError, r"^padding \(2, 2\) must be at most half of kernel_size \(3, 3\)"),
    ({"kernel_size": (1, 4), "padding": (1, 2)}, ValueError, r"^padding \(1, 2\) must be at most half of kernel_size \(1, 4\)"),
    ({"kernel_size": (4, 1), "padding": (2, 1)}, ValueError, r"^padding \(2, 1\) must be at most half of kernel_size \(4, 1\)"),
    ({"dilation": 0}, ValueError, "^dilation must be at least 1, got 0"),
    ({"dilation": True}, TypeError, "^dilation must be an integer or a pair"),
    *[({"divisor_override": value}, ValueError, "^divisor_override must be a positive") for value in (0, -1, 2.0, True, "2")],
    ({"kernel_size": 9}, ValueError, "^the kernel 9 x 9 is larger than the input 8 x 7 padded to 8 x 7: use a larger input"),
    ({"dilation": (1, 4)}, ValueError, r"^the kernel 3 x 3 \(spread to 3 x 9 by dilation \(1, 4\)\) is larger than the input"),
    ({"kernel_size": 12, "stride": 1, "ceil_mode": True}, ValueError, "^the kernel 12 x 12 is larger than the input 8 x 7"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), POOLINGS)
def test_wrong_poolings(arguments, error, message):
    with pytest.raises(error, match=message):
        PoolGeometry.of(**{"x_shape": (2, 6, 8, 7), "kernel_size": 3} | arguments)


# ---- adaptive pooling ------------------------------------------------------------------------------------------------


def test_adaptive_bins():
    """As in PyTorch: they cover the input in order, overlap by one pixel at most, and differ in size by one or two."""
    for h, oh in itertools.product(range(1, 12), repeat=2):
        g = AdaptiveGeometry.of((1, 1, h, 3), (oh, 2))
        starts, stops = g.rows()
        assert (len(starts), starts[0], stops[-1]) == (oh, 0, h)
        assert starts == [math.floor(i * h / oh) for i in range(oh)]
        assert stops == [math.ceil((i + 1) * h / oh) for i in range(oh)]
        assert all(start < stop for start, stop in zip(starts, stops, strict=True))
        assert all(0 <= stop - start <= 1 for stop, start in zip(stops[:-1], starts[1:], strict=True))
        assert g.columns() == ([0, 1], [2, 3])


def test_adaptive_bins_are_exact_where_floats_are_not():
    """What a float computes as 3 * (49 / 147) or as i * h / n for large sizes is off by one pixel."""
    size, count = 10**16 + 1, 3
    starts, stops = AdaptiveGeometry.of((1, 1, size, 1), (count, 1)).rows()
    assert starts == [0, size // 3, 2 * size // 3]
    assert stops == [size // 3 + 1, 2 * size // 3 + 1, size]


def test_adaptive_pooling_has_the_means_of_torch():
    torch = pytest.importorskip("torch")
    for h, oh in itertools.product((1, 4, 7, 10), (1, 2, 3, 7, 9)):
        x = torch.arange(h, dtype=torch.float64).reshape(1, 1, h, 1)
        expected = torch.nn.functional.adaptive_avg_pool2d(x, (oh, 1)).flatten().tolist()
        starts, stops = AdaptiveGeometry.of(tuple(x.shape), (oh, 1)).rows()
        assert [np.arange(start, stop).mean() for start, stop in zip(starts, stops, strict=True)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("output_size", "expected"), [(2, (2, 2)), ((3, 4), (3, 4)), ([3, 4], (3, 4)), (None, (5, 6)), ((None, 2), (5, 2))]
)
def test_adaptive_output_size(output_size, expected):
    g = AdaptiveGeometry.of((2, 3, 5, 6), output_size)
    assert (g.oh, g.ow) == expected
    assert (g.x_shape, g.y_shape) == ((2, 3, 5, 6), (2, 3, *expected))


@pytest.mark.parametrize(
    ("output_size", "error", "message"),
    [
        *[(value, ValueError, "^output_size must be at least 1, got") for value in (0, -1, (2, 0), (None, -3))],
        *[(value, TypeError, "^output_size must be an integer or a pair") for value in (2.0, True, "2", (1, 2.5), (1, False))],
        *[(value, TypeError, "^output_size must be an integer or a pair") for value in ((), (2,), (1, 2, 3))],
    ],
)
def test_wrong_adaptive_output_sizes(output_size, error, message):
    with pytest.raises(error, match=message):
        AdaptiveGeometry.of((2, 3, 5, 6), output_size)


# ---- resizing --------------------------------------------------------------------------------------------------------


def test_resizing_to_a_size():
    g = ResizeGeometry.of((2, 3, 5, 6), (10, 3))
    assert (g.y_shape, g.scale_h, g.scale_w, g.align_corners) == ((2, 3, 10, 3), 0.5, 2.0, False)
    assert ResizeGeometry.of((2, 3, 5, 6), 4) == ResizeGeometry.of((2, 3, 5, 6), (4, 4))


def test_resizing_with_aligned_corners():
    """The first and the last pixels lie on one another; a single output pixel lies on the first."""
    g = ResizeGeometry.of((1, 1, 5, 6), (9, 1), align_corners=True)
    assert (g.scale_h, g.scale_w) == (0.5, 0.0)
    assert (g.oh - 1) * g.scale_h == g.h - 1
    g = ResizeGeometry.of((1, 1, 1, 6), None, (3, 0.5), True)
    assert (g.y_shape, g.scale_h, g.scale_w) == ((1, 1, 3, 3), 0.0, 2.5)


def test_resizing_by_a_factor_keeps_the_factor():
    """The distance between two output rows is 1 / factor, also where the size had to be rounded down."""
    g = ResizeGeometry.of((1, 1, 5, 7), None, (1.1, 0.6))
    assert (g.y_shape, g.scale_h, g.scale_w) == ((1, 1, 5, 4), 1 / 1.1, 1 / 0.6)


@pytest.mark.parametrize("factor", [2, 2.0, (2, 2), [2.0, 2], (np.float32(2), np.int64(2)), np.float64(2)])
def test_forms_of_factors(factor):
    g = ResizeGeometry.of((1, 1, 5, 7), None, factor)
    assert g == ResizeGeometry.of((1, 1, 5, 7), None, 2)
    assert [type(v) for v in (g.oh, g.ow, g.scale_h, g.scale_w)] == [int, int, float, float]


def test_a_float32_factor_is_multiplied_as_a_float64():
    """In float32, 10 times 2.9999998 is 30."""
    factor = np.nextafter(np.float32(3), np.float32(0))
    assert ResizeGeometry.of((1, 1, 10, 10), None, factor).oh == 29


def test_resizing_has_the_sizes_of_torch():
    torch = pytest.importorskip("torch")
    for h, factor in itertools.product(range(1, 30), (0.3, 1 / 3, 0.5, 0.7, 1.1, 1.5, 1.7, 2, 2.9999, 3)):
        if h * factor >= 1:
            y = torch.nn.functional.interpolate(torch.zeros(1, 1, h, 4), scale_factor=(factor, 1))
            assert ResizeGeometry.of((1, 1, h, 4), None, (factor, 1)).y_shape == tuple(y.shape)


RESIZINGS = [
    ({}, ValueError, "^give exactly one of size and scale_factor"),
    ({"size": 4, "scale_factor": 2}, ValueError, "^give exactly one of size and scale_factor"),
    *[({"size": value}, ValueError, "^size must be at least 1, got") for value in (0, -4, (4, 0))],
    *[({"size": value}, TypeError, "^size must be an integer or a pair") for value in (4.0, True, "4", (), (4, 4, 4), (4, None))],
    *[
        ({"scale_factor": value}, ValueError, "^scale_factor must be a positive number or a pair of them, got")
        for value in (0, -1.0, (2, 0), math.inf, math.nan, True, (1, True), "2", (2, None), (), (2,), (2, 2, 2), 2j, np.ones(2))
    ],
    ({"scale_factor": 0.1}, ValueError, "^scale_factor 0.1 leaves no pixels of an input of 5 x 6"),
    ({"scale_factor": (1, 0.1)}, ValueError, r"^scale_factor \(1, 0.1\) leaves no pixels of an input of 5 x 6"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), RESIZINGS)
def test_wrong_resizings(arguments, error, message):
    with pytest.raises(error, match=message):
        ResizeGeometry.of((2, 3, 5, 6), **arguments)
