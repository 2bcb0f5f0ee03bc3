"""Sizes of convolutions, poolings and resizings: integers in, integers out, no arrays.

The letters used everywhere in minigrad, explained once:

    N          images in the batch
    C, O       input channels, output channels (a convolution has O filters)
    H, W       height and width of the input
    kh, kw     height and width of the kernel (the window)
    oh, ow     height and width of the output
    sh, sw     stride; dh, dw dilation; top, bottom, left, right padding

A geometry is checked when it is made, so that a kernel that receives one never meets a bad size.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass

import numpy as np

__all__ = ["AdaptiveGeometry", "ConvGeometry", "PoolGeometry", "ResizeGeometry", "pair"]


def _remembered(function):
    """A class method whose results are kept: the same layers see the same shapes in every step."""
    cached = functools.lru_cache(maxsize=1024, typed=True)(function)

    @functools.wraps(function)
    def call(cls, *args, **kwargs):
        try:
            return cached(cls, *args, **kwargs)
        except TypeError:  # lists are no keys; and an error of the function itself comes again
            return function(cls, *args, **kwargs)

    return classmethod(call)


def _hash(geometry) -> int:
    """The hash of all sizes, computed once: what is worked out for a geometry is looked up in every step."""
    try:
        return geometry._hash
    except AttributeError:
        object.__setattr__(geometry, "_hash", hash(tuple(vars(geometry).values())))
        return geometry._hash


def pair(value, name: str, minimum: int = 0) -> tuple[int, int]:
    """Two integers (height, width) from one integer or a pair of them.

    Raises TypeError for anything else and ValueError below ``minimum``; both name the argument ``name``.
    """
    items = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(items) == 1:
        items = items * 2
    if len(items) != 2 or not all(_is_integer(v) for v in items):
        raise TypeError(f"{name} must be an integer or a pair of integers (height, width), got {value!r}")
    if min(items) < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    return int(items[0]), int(items[1])


def _is_integer(value) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_number(value) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _padding(value, kernel, stride, dilation) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) from an integer, a pair, a pair of pairs, "same" or "valid"."""
    if isinstance(value, str):
        if value == "valid":
            return 0, 0, 0, 0
        if value != "same":
            raise ValueError(f'padding must be integers, "same" or "valid", got {value!r}')
        if stride != (1, 1):
            raise ValueError(f'padding="same" needs stride 1, got stride {stride}: give the padding in pixels instead')
        total_h, total_w = dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1)
        return total_h // 2, total_h - total_h // 2, total_w // 2, total_w - total_w // 2
    if isinstance(value, (tuple, list)) and len(value) == 2 and any(isinstance(v, (tuple, list)) for v in value):
        (top, bottom), (left, right) = pair(value[0], "padding"), pair(value[1], "padding")
        return top, bottom, left, right
    ph, pw = pair(value, "padding")
    return ph, ph, pw, pw


def _output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def _check_image(shape, argument: str = "x") -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise ValueError(
            f"{argument} must have 4 dimensions (N, C, H, W), got shape {tuple(shape)}"
            + (": add a batch dimension with x.unsqueeze(0)?" if len(shape) == 3 else "")
        )
    n, c, h, w = _whole(shape, argument)
    if min(n, c) < 0:
        raise ValueError(f"{argument} must have no negative size, got shape {tuple(shape)} (N, C, H, W)")
    if min(h, w) < 1:
        raise ValueError(f"{argument} has no pixels: H and W must be at least 1, got shape {tuple(shape)} (N, C, H, W)")
    return n, c, h, w


def _whole(shape, argument: str) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, shape))
    except TypeError:
        raise TypeError(f"{argument} must have sizes that are integers, got shape {tuple(shape)}") from None


def _check_window(h, w, kernel, dilation, pads) -> None:
    """The window, spread by its dilation, must fit into the padded input."""
    reach = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    padded = (h + pads[0] + pads[1], w + pads[2] + pads[3])
    if reach[0] > padded[0] or reach[1] > padded[1]:
        spread = f" (spread to {reach[0]} x {reach[1]} by dilation {dilation})" if reach != kernel else ""
        raise ValueError(
            f"the kernel {kernel[0]} x {kernel[1]}{spread} is larger than the input {h} x {w} padded to "
            f"{padded[0]} x {padded[1]}: use a larger input, more padding, or fewer strides and poolings before"
        )


@dataclass(frozen=True)
class ConvGeometry:
    """Every size of one 2-D convolution (or of the transposed one that is its input gradient)."""

    __hash__ = _hash

    n: int
    c: int
    h: int
    w: int
    o: int
    kh: int
    kw: int
    sh: int
    sw: int
    top: int
    bottom: int
    left: int
    right: int
    dh: int
    dw: int
    groups: int
    oh: int
    ow: int

    @_remembered
    def of(cls, x_shape, weight_shape, stride=1, padding=0, dilation=1, groups=1) -> ConvGeometry:
        """Geometry of ``conv2d`` for x (N, C, H, W) and weight (O, C/groups, kh, kw).

        ``padding``: pixels (one, (height, width), or ((top, bottom), (left, right))), "same" or "valid".
        oh = floor((H + top + bottom - dh (kh - 1) - 1) / sh) + 1. Raises ValueError or TypeError that names the argument.
        """
        n, c, h, w = _check_image(x_shape)
        o, c_group, kh, kw = _check_weight(weight_shape, "(O, C/groups, kh, kw)")
        stride, dilation, groups = pair(stride, "stride", 1), pair(dilation, "dilation", 1), _groups(groups)
        pads = _padding(padding, (kh, kw), stride, dilation)
        if c != c_group * groups:
            raise ValueError(
                f"weight of shape {tuple(weight_shape)} (O, C/groups, kh, kw) with groups={groups} expects "
                f"C={c_group * groups} input channels, got C={c} in x of shape {tuple(x_shape)} (N, C, H, W)"
            )
        if o % groups:
            raise ValueError(f"groups={groups} must divide the {o} output channels (and the {c} input channels)")
        _check_window(h, w, (kh, kw), dilation, pads)
        oh = _output_size(h, kh, stride[0], pads[0], pads[1], dilation[0])
        ow = _output_size(w, kw, stride[1], pads[2], pads[3], dilation[1])
        return cls(n, c, h, w, o, kh, kw, *stride, *pads, *dilation, groups, oh, ow)

    @_remembered
    def of_transposed(cls, x_shape, weight_shape, stride=1, padding=0, output_padding=0, dilation=1, groups=1) -> ConvGeometry:
        """Geometry of the convolution whose input gradient is ``conv_transpose2d``.

        x (N, I, H, W) and weight (I, O/groups, kh, kw) of the transposed convolution play the parts of the output gradient
        and the filters: the result has o=I, (oh, ow)=(H, W), and (n, c, h, w) is the shape of the transposed output, with
        h = (H - 1) sh - top - bottom + dh (kh - 1) + output_padding + 1.
        """
        n, i, oh, ow = _check_image(x_shape)
        i_weight, o_group, kh, kw = _check_weight(weight_shape, "(I, O/groups, kh, kw)")
        stride, dilation, groups = pair(stride, "stride", 1), pair(dilation, "dilation", 1), _groups(groups)
        extra = pair(output_padding, "output_padding")
        if isinstance(padding, str):
            raise ValueError(f"padding must be integers for a transposed convolution, got {padding!r}")
        pads = _padding(padding, (kh, kw), stride, dilation)
        if i != i_weight:
            raise ValueError(
                f"weight of shape {tuple(weight_shape)} (I, O/groups, kh, kw) expects {i_weight} input channels, "
                f"got {i} in x of shape {tuple(x_shape)} (N, I, H, W)"
            )
        if i % groups:
            raise ValueError(f"groups={groups} must divide the {i} input channels")
        for e, s, d in zip(extra, stride, dilation, strict=True):
            if e >= max(s, d):
                raise ValueError(f"output_padding {extra} must be smaller than stride {stride} or dilation {dilation}")
        h = (oh - 1) * stride[0] - pads[0] - pads[1] + dilation[0] * (kh - 1) + extra[0] + 1
        w = (ow - 1) * stride[1] - pads[2] - pads[3] + dilation[1] * (kw - 1) + extra[1] + 1
        if h < 1 or w < 1:
            raise ValueError(f"the output would be {h} x {w}: use a larger input or less padding than {padding!r}")
        return cls(n, o_group * groups, h, w, i, kh, kw, *stride, *pads, *dilation, groups, oh, ow)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.c, self.h, self.w

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.o, self.oh, self.ow

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return self.o, self.c // self.groups, self.kh, self.kw


def _check_weight(shape, axes: str) -> tuple[int, int, int, int]:
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"weight must have 4 non-empty dimensions {axes}, got shape {tuple(shape)}")
    return _whole(shape, "weight")


def _groups(value) -> int:
    if not _is_integer(value) or value < 1:
        raise ValueError(f"groups must be a positive integer, got {value!r}")
    return int(value)


@dataclass(frozen=True)
class PoolGeometry:
    """Every size of one 2-D max or average pooling."""

    __hash__ = _hash

    n: int
    c: int
    h: int
    w: int
    kh: int
    kw: int
    sh: int
    sw: int
    ph: int
    pw: int
    dh: int
    dw: int
    oh: int
    ow: int
    count_include_pad: bool = True
    divisor: int = 0  # 0: divide by the size of the window

    @_remembered
    def of(
        cls,
        x_shape,
        kernel_size,
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    ) -> PoolGeometry:
        """Geometry of pooling x (N, C, H, W); ``stride`` defaults to ``kernel_size``.

        With ``ceil_mode`` a last window that starts inside the input or its leading padding is kept though it ends outside.
        """
        n, c, h, w = _check_image(x_shape)
        kernel = pair(kernel_size, "kernel_size", 1)
        stride = kernel if stride is None else pair(stride, "stride", 1)
        padding, dilation = pair(padding, "padding"), pair(dilation, "dilation", 1)
        if padding[0] > kernel[0] // 2 or padding[1] > kernel[1] // 2:
            raise ValueError(f"padding {padding} must be at most half of kernel_size {kernel}")
        if divisor_override is not None and not (_is_integer(divisor_override) and divisor_override >= 1):
            raise ValueError(f"divisor_override must be a positive integer or None, got {divisor_override!r}")
        sizes = []
        for size, k, s, p, d in zip((h, w), kernel, stride, padding, dilation, strict=True):
            span = size + 2 * p - d * (k - 1) - 1
            out = (span + s - 1 if ceil_mode else span) // s + 1
            if ceil_mode and (out - 1) * s >= size + p:  # the last window must not start in the trailing padding
                out -= 1
            sizes.append(out)
        if min(sizes) < 1:  # with ceil_mode a window larger than the padded input may still be one
            _check_window(h, w, kernel, dilation, (padding[0], padding[0], padding[1], padding[1]))
        return cls(n, c, h, w, *kernel, *stride, *padding, *dilation, *sizes, bool(count_include_pad), int(divisor_override or 0))

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.c, self.h, self.w

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.c, self.oh, self.ow


@dataclass(frozen=True)
class AdaptiveGeometry:
    """Sizes of adaptive pooling: output row i averages (or maximizes) input rows floor(i H / oh) to ceil((i + 1) H / oh) - 1."""

    __hash__ = _hash

    n: int
    c: int
    h: int
    w: int
    oh: int
    ow: int

    @_remembered
    def of(cls, x_shape, output_size) -> AdaptiveGeometry:
        """Geometry for x (N, C, H, W); an output size of None keeps the input's."""
        n, c, h, w = _check_image(x_shape)
        items = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
        if len(items) != 2:
            raise TypeError(f"output_size must be an integer or a pair (height, width), got {output_size!r}")
        oh, ow = pair([size if v is None else v for v, size in zip(items, (h, w), strict=True)], "output_size", 1)
        return cls(n, c, h, w, oh, ow)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.c, self.h, self.w

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.c, self.oh, self.ow

    def rows(self) -> tuple[list[int], list[int]]:
        """First input row and the row after the last one, for each output row."""
        return _bins(self.h, self.oh)

    def columns(self) -> tuple[list[int], list[int]]:
        """First input column and the column after the last one, for each output column."""
        return _bins(self.w, self.ow)


def _bins(size: int, count: int) -> tuple[list[int], list[int]]:
    return [i * size // count for i in range(count)], [-(-(i + 1) * size // count) for i in range(count)]


@dataclass(frozen=True)
class ResizeGeometry:
    """Sizes of up- or down-sampling by nearest neighbour or bilinear interpolation.

    ``scale_h`` is the distance in input pixels between two output rows (as PyTorch computes it: H / oh, or 1 / scale_factor
    where one was given, or (H - 1) / (oh - 1) with ``align_corners``).
    """

    n: int
    c: int
    h: int
    w: int
    oh: int
    ow: int
    scale_h: float
    scale_w: float
    align_corners: bool

    @_remembered
    def of(cls, x_shape, size=None, scale_factor=None, align_corners=False) -> ResizeGeometry:
        """Geometry from exactly one of ``size`` (oh, ow) and ``scale_factor`` (one number or a pair)."""
        n, c, h, w = _check_image(x_shape)
        if (size is None) == (scale_factor is None):
            raise ValueError("give exactly one of size and scale_factor")
        if size is not None:
            oh, ow = pair(size, "size", 1)
            scales = (h / oh, w / ow)
        else:
            factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
            if len(factors) != 2 or not all(_is_number(f) and math.isfinite(f) and f > 0 for f in factors):
                raise ValueError(f"scale_factor must be a positive number or a pair of them, got {scale_factor!r}")
            factors = [float(f) for f in factors]  # a product with np.float32 would be rounded to it
            oh, ow = int(h * factors[0]), int(w * factors[1])
            if min(oh, ow) < 1:
                raise ValueError(f"scale_factor {scale_factor!r} leaves no pixels of an input of {h} x {w}")
            scales = (1.0 / factors[0], 1.0 / factors[1])
        if align_corners:
            scales = ((h - 1) / (oh - 1) if oh > 1 else 0.0, (w - 1) / (ow - 1) if ow > 1 else 0.0)
        return cls(n, c, h, w, oh, ow, *scales, bool(align_corners))

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.c, self.h, self.w

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.c, self.oh, self.ow
