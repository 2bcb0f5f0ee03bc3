"""Convolution, transposed convolution, and the unfolding (im2col) that explains them."""

from __future__ import annotations

from minigrad.kernels import for_array
from minigrad.kernels.geometry import ConvGeometry, pair
from minigrad.kernels.layout import channels_last
from minigrad.ops._base import check_alike, check_float, check_tensor, data_of, op, record
from minigrad.tensor import Tensor

__all__ = ["conv2d", "conv_transpose2d", "fold", "unfold"]

IntPair = int | tuple[int, int]


@op
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: int | tuple | str = 0,
    dilation: IntPair = 1,
    groups: int = 1,
) -> Tensor:
    """2-D convolution (cross-correlation): x (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) -> (N, O, oh, ow).

        y[n, o, p, q] = bias[o] + sum over c, i, j of weight[o, c, i, j] * x[n, c, p sh + i dh - top, q sw + j dw - left]

    with zeros outside of x. ``padding``: pixels (one number, (height, width), or ((top, bottom), (left, right))), "same" or
    "valid". oh = floor((H + top + bottom - dh (kh - 1) - 1) / sh) + 1. Raises ValueError or TypeError naming the argument.
    """
    geometry, kernels = _prepare(ConvGeometry.of, x, weight, bias, stride, padding, dilation, groups)
    _check_bias(bias, geometry.o)
    need_x, need_weight, need_bias = _needs(x, weight, bias)
    # Images in another memory order are copied once, not for the weight gradient again.
    xd, wd = channels_last(x.array) if need_weight else x.array, weight.array

    def backward(gy):
        return (
            kernels.conv2d_backward_input(gy, wd, geometry) if need_x else None,
            kernels.conv2d_backward_weight(gy, xd, geometry) if need_weight else None,
            kernels.conv2d_backward_bias(gy) if need_bias else None,
        )

    y = kernels.conv2d_forward(xd, wd, data_of(bias), geometry)
    return record(y, (x, weight, bias), backward, saves=(x if need_weight else None, weight if need_x else None))


@op
def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    output_padding: IntPair = 0,
    groups: int = 1,
    dilation: IntPair = 1,
) -> Tensor:
    """Transposed 2-D convolution: x (N, I, H, W), weight (I, O/groups, kh, kw), bias (O,) -> (N, O, oh, ow).

    It is the gradient of ``conv2d`` with respect to its input, used forwards: every input pixel adds the kernel, weighted, to
    the output. oh = (H - 1) sh - 2 ph + dh (kh - 1) + output_padding + 1.
    """
    geometry, kernels = _prepare(ConvGeometry.of_transposed, x, weight, bias, stride, padding, output_padding, dilation, groups)
    _check_bias(bias, geometry.c)
    need_x, need_weight, need_bias = _needs(x, weight, bias)
    xd, wd = x.array, weight.array

    def backward(gy):
        return (
            kernels.conv_transpose2d_backward_input(gy, wd, geometry) if need_x else None,
            kernels.conv_transpose2d_backward_weight(gy, xd, geometry) if need_weight else None,
            kernels.conv2d_backward_bias(gy) if need_bias else None,
        )

    y = kernels.conv_transpose2d_forward(xd, wd, data_of(bias), geometry)
    return record(y, (x, weight, bias), backward, saves=(x if need_weight else None, weight if need_x else None))


@op
def unfold(x: Tensor, kernel_size: IntPair, dilation: IntPair = 1, padding: int | tuple = 0, stride: IntPair = 1) -> Tensor:
    """im2col: the patches of x (N, C, H, W) as columns (N, C*kh*kw, L), one for each of the L positions of the window."""
    check_float(x)
    geometry = _window(x.shape, kernel_size, dilation, padding, stride)
    kernels = for_array(x.array)
    positions, height = geometry.oh * geometry.ow, geometry.c * geometry.kh * geometry.kw

    def backward(gy):
        rows = gy.transpose(0, 2, 1).reshape(-1, height)
        return kernels.col2im(rows, geometry)

    rows = kernels.im2col(x.array, geometry)  # (N * L, C*kh*kw)
    return record(rows.reshape(geometry.n, positions, height).transpose(0, 2, 1), (x,), backward)


@op
def fold(
    x: Tensor,
    output_size: IntPair,
    kernel_size: IntPair,
    dilation: IntPair = 1,
    padding: int | tuple = 0,
    stride: IntPair = 1,
) -> Tensor:
    """col2im: add the columns x (N, C*kh*kw, L) back to the places of an image (N, C, *output_size) they were taken from."""
    check_float(x)
    h, w = pair(output_size, "output_size", 1)
    kh, kw = pair(kernel_size, "kernel_size", 1)
    if x.ndim != 3 or x.shape[1] % (kh * kw):
        raise ValueError(f"x must have shape (N, C*{kh}*{kw}, L) for kernel_size {(kh, kw)}, got {x.shape}")
    n, height, positions = x.shape
    geometry = _window((n, height // (kh * kw), h, w), kernel_size, dilation, padding, stride)
    if positions != geometry.oh * geometry.ow:
        raise ValueError(
            f"x has {positions} columns, but a window of {(kh, kw)} takes {geometry.oh} x {geometry.ow} positions "
            f"in an image of {h} x {w}"
        )
    kernels = for_array(x.array)

    def backward(gy):
        return kernels.im2col(gy, geometry).reshape(n, positions, height).transpose(0, 2, 1)

    rows = x.array.transpose(0, 2, 1).reshape(-1, height)
    return record(kernels.col2im(rows, geometry), (x,), backward)


def _window(shape, kernel_size, dilation, padding, stride) -> ConvGeometry:
    channels = shape[1] if len(shape) == 4 else 1
    return ConvGeometry.of(shape, (1, channels, *pair(kernel_size, "kernel_size", 1)), stride, padding, dilation)


def _prepare(geometry_of, x, weight, bias, *sizes):
    """The checked geometry of a convolution, and the kernels for its arrays."""
    check_alike(x=check_tensor(x), weight=check_tensor(weight, "weight"), bias=bias)
    return geometry_of(x.shape, weight.shape, *sizes), for_array(x.array)


def _needs(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[bool, bool, bool]:
    return x.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad


def _check_bias(bias: Tensor | None, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"bias must have shape ({channels},), one number per output channel, got {bias.shape}")
