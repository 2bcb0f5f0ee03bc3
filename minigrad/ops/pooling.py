"""Max, average and adaptive pooling of x (N, C, H, W)."""

from __future__ import annotations

from minigrad.kernels import for_array
from minigrad.kernels.geometry import AdaptiveGeometry, PoolGeometry
from minigrad.ops._base import check_float, op, record
from minigrad.tensor import Tensor

__all__ = ["adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d"]

IntPair = int | tuple[int, int]


@op
def max_pool2d(
    x: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each window: (N, C, H, W) -> (N, C, oh, ow); padding counts as -infinity.

    The gradient goes to the first largest pixel of the window, row by row. A NaN in the window is its maximum. With
    ``return_indices`` also its place h * W + w, int64. ``stride`` defaults to ``kernel_size``.
    """
    check_float(x)
    geometry = PoolGeometry.of(x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    kernels = for_array(x.data)
    y, indices = kernels.max_pool2d_forward(x.data, geometry)

    def backward(gy):
        return kernels.max_pool2d_backward(gy, indices, geometry)

    y = record(y, (x,), backward)
    return (y, Tensor(indices.copy(order="K"))) if return_indices else y


@op
def avg_pool2d(
    x: Tensor,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: IntPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, oh, ow).

    Padding counts as zeros; with ``count_include_pad=False`` it is left out of the divisor. ``divisor_override`` replaces it.
    """
    check_float(x)
    geometry = PoolGeometry.of(x.shape, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override)
    kernels = for_array(x.data)

    def backward(gy):
        return kernels.avg_pool2d_backward(gy, geometry)

    return record(kernels.avg_pool2d_forward(x.data, geometry), (x,), backward)


@op
def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int | None, int | None]) -> Tensor:
    """The mean of windows chosen so that the output is (N, C, *output_size); 1 gives the mean of the whole image."""
    check_float(x)
    geometry = AdaptiveGeometry.of(x.shape, output_size)
    kernels = for_array(x.data)

    def backward(gy):
        return kernels.adaptive_avg_pool2d_backward(gy, geometry)

    return record(kernels.adaptive_avg_pool2d_forward(x.data, geometry), (x,), backward)


@op
def adaptive_max_pool2d(
    x: Tensor, output_size: int | tuple[int | None, int | None], return_indices: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of windows chosen so that the output is (N, C, *output_size); see ``max_pool2d``."""
    check_float(x)
    geometry = AdaptiveGeometry.of(x.shape, output_size)
    kernels = for_array(x.data)
    y, indices = kernels.adaptive_max_pool2d_forward(x.data, geometry)

    def backward(gy):
        return kernels.adaptive_max_pool2d_backward(gy, indices, geometry)

    y = record(y, (x,), backward)
    return (y, Tensor(indices.copy(order="K"))) if return_indices else y
