"""Convolution, pooling, normalization and resizing written from their definitions, for the cases.

Plain NumPy in float64, one pixel at a time where that is the clearest. Nothing here comes from minigrad or its kernels.
"""

from __future__ import annotations

import math

import numpy as np


def _two(value) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


# ---- convolution -------------------------------------------------------------------------------------------------------


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """y[n, o, p, q] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[n, c, p sh + i dh - top, q sw + j dw - left]."""
    (n, _, h, w), (o, cg, kh, kw) = x.shape, weight.shape
    (sh, sw), (dh, dw) = _two(stride), _two(dilation)
    if padding == "same":
        padding = tuple((dh_or_dw * (k - 1) // 2, math.ceil(dh_or_dw * (k - 1) / 2)) for dh_or_dw, k in ((dh, kh), (dw, kw)))
    padding = _two(0 if padding == "valid" else padding)
    (top, bottom), (left, right) = _two(padding[0]), _two(padding[1])
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    oh = (h + top + bottom - dh * (kh - 1) - 1) // sh + 1
    ow = (w + left + right - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, o, oh, ow))
    for f in range(o):
        first = f // (o // groups) * cg  # the group's first channel
        for p in range(oh):
            for q in range(ow):
                patch = x[:, first : first + cg, p * sh : p * sh + dh * kh : dh, q * sw : q * sw + dw * kw : dw]
                y[:, f, p, q] = (patch[:, :, :kh, :kw] * weight[f]).sum(axis=(1, 2, 3))
    return y if bias is None else y + bias[:, None, None]


def conv_transpose2d(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Every input pixel adds the kernel, times its value, to the output; ``padding`` pixels are then cut off."""
    (n, c, h, w), (_, og, kh, kw) = x.shape, weight.shape
    (sh, sw), (dh, dw), (ph, pw), (eh, ew) = _two(stride), _two(dilation), _two(padding), _two(output_padding)
    y = np.zeros((n, og * groups, (h - 1) * sh + dh * (kh - 1) + 1 + eh, (w - 1) * sw + dw * (kw - 1) + 1 + ew))
    for channel in range(c):
        first = channel // (c // groups) * og
        for p in range(h):
            for q in range(w):
                for i in range(kh):
                    for j in range(kw):
                        y[:, first : first + og, p * sh + i * dh, q * sw + j * dw] += (
                            x[:, channel, p, q, None] * weight[channel, :, i, j]
                        )
    y = y[:, :, ph : y.shape[2] - ph, pw : y.shape[3] - pw]
    return y if bias is None else y + bias[:, None, None]


def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """Every position of the window becomes a column: channel by channel, row by row of the window."""
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = _two(kernel_size), _two(dilation), _two(padding), _two(stride)
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    n, c, h, w = x.shape
    columns = [
        x[:, :, p : p + dh * (kh - 1) + 1 : dh, q : q + dw * (kw - 1) + 1 : dw].reshape(n, c * kh * kw)
        for p in range(0, h - dh * (kh - 1), sh)
        for q in range(0, w - dw * (kw - 1), sw)
    ]
    return np.stack(columns, axis=2)


def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Every column is added back to its window's place."""
    (kh, kw), (dh, dw), (ph, pw), (sh, sw), (h, w) = map(_two, (kernel_size, dilation, padding, stride, output_size))
    n, height, _ = x.shape
    c = height // (kh * kw)
    y = np.zeros((n, c, h + 2 * ph, w + 2 * pw))
    places = [(p, q) for p in range(0, h + 2 * ph - dh * (kh - 1), sh) for q in range(0, w + 2 * pw - dw * (kw - 1), sw)]
    for column, (p, q) in enumerate(places):
        y[:, :, p : p + dh * (kh - 1) + 1 : dh, q : q + dw * (kw - 1) + 1 : dw] += x[:, :, column].reshape(n, c, kh, kw)
    return y[:, :, ph : ph + h, pw : pw + w]


# ---- pooling -----------------------------------------------------------------------------------------------------------


def _windows(size: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> list[list[int]]:
    """The input rows (or columns) under the window at each of its positions, padding included."""
    count = (size + 2 * p - d * (k - 1) - 1) / s + 1
    count = math.ceil(count) if ceil_mode else math.floor(count)
    starts = [i * s - p for i in range(count)]
    if ceil_mode and starts[-1] >= size:  # a window must not start in the trailing padding
        starts.pop()
    return [[start + i * d for i in range(k)] for start in starts]


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    sizes = zip(x.shape[2:], *map(_two, (kernel_size, stride or kernel_size, padding, dilation)), strict=True)
    inside = [[[v for v in window if 0 <= v < size[0]] for window in _windows(*size, ceil_mode)] for size in sizes]
    return _largest(x, *inside, return_indices)


def _largest(x, rows, columns, return_indices):
    y = np.zeros((*x.shape[:2], len(rows), len(columns)))
    indices = np.zeros(y.shape, np.int64)
    for p, r in enumerate(rows):
        for q, s in enumerate(columns):
            values = x[:, :, r][..., s].reshape(*x.shape[:2], len(r) * len(s))
            places = np.add.outer(np.multiply(r, x.shape[3]), s).ravel()
            indices[:, :, p, q] = places[values.argmax(-1)]  # the first of equal values; NaN counts as the largest
            y[:, :, p, q] = values.max(-1)
    return (y, indices) if return_indices else y


def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    n, c, h, w = x.shape
    (kh, kw), (sh, sw), (ph, pw) = _two(kernel_size), _two(stride or kernel_size), _two(padding)
    rows, columns = _windows(h, kh, sh, ph, 1, ceil_mode), _windows(w, kw, sw, pw, 1, ceil_mode)
    y = np.zeros((n, c, len(rows), len(columns)))
    for p, r in enumerate(rows):
        for q, s in enumerate(columns):
            inside = x[:, :, [v for v in r if 0 <= v < h]][..., [v for v in s if 0 <= v < w]]
            if count_include_pad:  # what lies beyond the padding (ceil_mode) does not count
                count = sum(v < h + ph for v in r) * sum(v < w + pw for v in s)
            else:
                count = inside.shape[2] * inside.shape[3]
            y[:, :, p, q] = inside.sum(axis=(2, 3)) / (divisor_override or count)
    return y


def _bins(size: int, count: int) -> list[range]:
    return [range(math.floor(i * size / count), math.ceil((i + 1) * size / count)) for i in range(count)]


def _adaptive_bins(x, output_size):
    oh, ow = _two(output_size)
    return _bins(x.shape[2], x.shape[2] if oh is None else oh), _bins(x.shape[3], x.shape[3] if ow is None else ow)


def adaptive_avg_pool2d(x, output_size):
    rows, columns = _adaptive_bins(x, output_size)
    return np.stack([np.stack([x[:, :, r][..., s].mean(axis=(2, 3)) for s in columns], axis=-1) for r in rows], axis=-2)


def adaptive_max_pool2d(x, output_size, return_indices=False):
    return _largest(x, *_adaptive_bins(x, output_size), return_indices)


# ---- normalization -----------------------------------------------------------------------------------------------------


def _along(parameter, ndim: int):
    """A parameter per channel, shaped to broadcast with x (N, C, ...)."""
    return parameter.reshape(-1, *(1,) * (ndim - 2))


def _affine(y, weight, bias):
    y = y if weight is None else y * _along(weight, y.ndim)
    return y if bias is None else y + _along(bias, y.ndim)


def _standardized(x, axes, eps):
    mean = x.mean(axis=axes, keepdims=True)
    var = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(var + eps), mean, var


def batch_norm_training(x, weight=None, bias=None, eps=1e-5):
    y, mean, var = _standardized(x, (0, *range(2, x.ndim)), eps)
    return _affine(y, weight, bias), mean.ravel(), var.ravel()


def batch_norm_inference(x, mean, var, weight=None, bias=None, eps=1e-5):
    return _affine((x - _along(mean, x.ndim)) / np.sqrt(_along(var, x.ndim) + eps), weight, bias)


def instance_norm_training(x, weight=None, bias=None, eps=1e-5):
    y, mean, var = _standardized(x, tuple(range(2, x.ndim)), eps)
    return _affine(y, weight, bias), mean.reshape(x.shape[:2]), var.reshape(x.shape[:2])


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    if not x.size:
        return x.copy()
    grouped = x.reshape(x.shape[0], num_groups, -1)
    return _affine(_standardized(grouped, 2, eps)[0].reshape(x.shape), weight, bias)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    shape = normalized_shape if isinstance(normalized_shape, tuple) else (normalized_shape,)
    y = _standardized(x, tuple(range(x.ndim - len(shape), x.ndim)), eps)[0]
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def local_response_norm_paper(x, size=5, alpha=1e-4, beta=0.75, k=2.0):
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        window = x[:, max(0, c - size // 2) : c + (size - 1) // 2 + 1]
        y[:, c] = x[:, c] / (k + alpha * (window**2).sum(axis=1)) ** beta
    return y


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    return local_response_norm_paper(x, size, alpha / size, beta, k)


# ---- resizing ----------------------------------------------------------------------------------------------------------


def interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=None):
    n, c, h, w = x.shape
    factors = _two(scale_factor) if size is None else (None, None)
    oh, ow = _two(size) if size is not None else (int(h * factors[0]), int(w * factors[1]))
    if mode == "area":
        return adaptive_avg_pool2d(x, (oh, ow))
    y = np.zeros((n, c, oh, ow))
    for p in range(oh):
        for q in range(ow):
            if mode == "nearest":
                y[:, :, p, q] = x[:, :, _nearest(p, h, oh, factors[0]), _nearest(q, w, ow, factors[1])]
            else:
                for i, share_i in _neighbours(p, h, oh, factors[0], align_corners):
                    for j, share_j in _neighbours(q, w, ow, factors[1], align_corners):
                        y[:, :, p, q] += share_i * share_j * x[:, :, i, j]
    return y


def _nearest(p: int, size: int, count: int, factor) -> int:
    return min(size - 1, math.floor(p * (size / count if factor is None else 1 / factor)))


def _neighbours(p: int, size: int, count: int, factor, align_corners) -> list[tuple[int, float]]:
    """The two input pixels around the centre of output pixel p, and their shares."""
    if align_corners:
        at = p * (size - 1) / (count - 1) if count > 1 else 0.0
    else:
        at = max(0.0, (p + 0.5) * (size / count if factor is None else 1 / factor) - 0.5)
    low = min(int(at), size - 1)
    return [(low, 1 - (at - low)), (min(low + 1, size - 1), at - low)]
