"""Changing the size of images: nearest neighbour, bilinear interpolation, area."""

from __future__ import annotations

from minigrad.kernels import for_array
from minigrad.kernels.geometry import ResizeGeometry
from minigrad.ops._base import check_float, op, record
from minigrad.ops.pooling import adaptive_avg_pool2d
from minigrad.tensor import Tensor

__all__ = ["interpolate"]


@op
def interpolate(
    x: Tensor,
    size: int | tuple[int, int] | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Resize x (N, C, H, W) to ``size`` (one number or (oh, ow)), or by ``scale_factor``.

    ``mode``: "nearest", "bilinear" or "area" (the mean of the pixels that fall into each output pixel). ``align_corners``, for
    bilinear only: whether the centres of the corner pixels stay in place, or (default) the edges of the image do.
    """
    check_float(x)
    if mode not in ("nearest", "bilinear", "area"):
        raise ValueError(f'mode must be "nearest", "bilinear" or "area", got {mode!r}')
    if align_corners is not None and mode != "bilinear":
        raise ValueError(f'align_corners belongs to mode="bilinear", not to {mode!r}: leave it out')
    geometry = ResizeGeometry.of(x.shape, size, scale_factor, bool(align_corners))
    if mode == "area":
        return adaptive_avg_pool2d(x, (geometry.oh, geometry.ow))
    kernels = for_array(x.data)
    if mode == "nearest":
        y, undo = kernels.upsample_nearest2d_forward(x.data, geometry), kernels.upsample_nearest2d_backward
    else:
        y, undo = kernels.upsample_bilinear2d_forward(x.data, geometry), kernels.upsample_bilinear2d_backward

    def backward(gy):
        return undo(gy, geometry)

    return record(y, (x,), backward)
