"""Convolution as the textbook has it: cut the image into columns, multiply once, and go back the same way.

A convolution slides a small window over an image and takes, at every place, one weighted sum of what it sees. ``im2col`` writes
what the window sees at each place as one row of a matrix, so that all the weighted sums become a single matrix product:

    y  = columns @ W^T          rows: output pixels      columns: (N oh ow, C kh kw)   W: (O, C kh kw)
    gW = gy^T @ columns         each filter's gradient gathers every window that the filter has seen
    gx = col2im(gy @ W)         each pixel's gradient gathers every window that has seen the pixel

With groups there is one such product for each group of channels. A transposed convolution is the third line used as a layer:
its forward is the input gradient of a convolution, and its gradients are the other two lines. (V. Dumoulin and F. Visin,
"A guide to convolution arithmetic for deep learning", https://arxiv.org/abs/1603.07285; K. Chellapilla et al., "High Performance
Convolutional Neural Networks for Document Processing", 2006, for im2col.)

As everywhere in deep learning the window is not flipped: mathematicians call this operation cross-correlation.
The letters N, C, O, kh, kw, oh, ow are explained in ``kernels/geometry.py``. Arrays are logical NCHW of any memory order, float32
or float64; sums are taken in float64; results have the input's dtype and lie channels-last in memory.
"""

from __future__ import annotations

import numpy as np

from ..geometry import ConvGeometry
from ..layout import channels_last

__all__ = [
    "col2im",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv2d_forward",
    "conv_transpose2d_backward_input",
    "conv_transpose2d_backward_weight",
    "conv_transpose2d_forward",
    "im2col",
]


# ---- im2col and col2im -----------------------------------------------------------------------------------------------


def im2col(x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """What the window sees: columns (N*oh*ow, C*kh*kw) of x (N, C, H, W).

    One row for each output pixel (n, p, q), in that order; one column for each element (c, i, j) of the window, in the order of
    ``weight.reshape(O, -1)``:

        columns[(n, p, q), (c, i, j)] = x[n, c, p*sh + i*dh - top, q*sw + j*dw - left]      0 where that lies in the padding

    A 2 x 2 window on one 3 x 3 image, without padding, stands at 2 x 2 places:

        1 2 3            1 2 4 5     window at the top left
        4 5 6    ---->   2 3 5 6     one step to the right
        7 8 9            4 5 7 8     one step down
                         5 6 8 9     bottom right

    A filter [[a, b], [c, d]] then is the vector (a, b, c, d), and ``columns @ (a, b, c, d)`` the four output pixels. A pixel is
    repeated for every window that sees it (5 four times, 1 once): that costs memory, and it is what ``col2im`` undoes.
    """
    g = geometry
    columns = np.empty((g.n, g.oh, g.ow, g.c, g.kh, g.kw), x.dtype)
    padded = np.pad(x, ((0, 0), (0, 0), (g.top, g.bottom), (g.left, g.right)))
    for i, j, seen in _taps(padded, g):
        columns[:, :, :, :, i, j] = seen.transpose(0, 2, 3, 1)  # (N, C, oh, ow) -> (N, oh, ow, C)
    return columns.reshape(g.n * g.oh * g.ow, g.c * g.kh * g.kw)


def col2im(columns: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Add columns (N*oh*ow, C*kh*kw) back into the image (N, C, H, W): the transpose (adjoint) of ``im2col``.

    Every entry is added to the pixel that ``im2col`` would have copied it from, so a pixel receives one term from each window
    that saw it; what falls into the padding is dropped. With the columns of the example above the pixels come back multiplied
    by the number of windows that see them:

        1 2 4 5                         1*1  2*2  3*1
        2 3 5 6          ---->          4*2  5*4  6*2
        4 5 7 8                         7*1  8*2  9*1
        5 6 8 9
    """
    g = geometry
    columns = columns.reshape(g.n, g.oh, g.ow, g.c, g.kh, g.kw)
    padded = np.zeros((g.n, g.c, g.top + g.h + g.bottom, g.left + g.w + g.right))  # float64: many terms meet in a pixel
    for i, j, seen in _taps(padded, g):
        seen += columns[:, :, :, :, i, j].transpose(0, 3, 1, 2)  # (N, oh, ow, C) -> (N, C, oh, ow)
    return _result(padded[:, :, g.top : g.top + g.h, g.left : g.left + g.w], columns.dtype)


def _taps(padded: np.ndarray, g: ConvGeometry):
    """For each window element (i, j): i, j and the view (N, C, oh, ow) of the pixels it lies on when the window is at (p, q)."""
    for i in range(g.kh):
        for j in range(g.kw):
            rows = slice(i * g.dh, i * g.dh + (g.oh - 1) * g.sh + 1, g.sh)
            cols = slice(j * g.dw, j * g.dw + (g.ow - 1) * g.sw + 1, g.sw)
            yield i, j, padded[:, :, rows, cols]


# ---- convolution and its three gradients -----------------------------------------------------------------------------


def conv2d_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, geometry: ConvGeometry) -> np.ndarray:
    """Convolution of x (N, C, H, W) with weight (O, C/groups, kh, kw) and bias (O,) or None: y (N, O, oh, ow).

    y[n, o, p, q] = bias[o] + sum over c, i, j of weight[o, c, i, j] * x[n, c, p*sh + i*dh - top, q*sw + j*dw - left], where c
    runs over the C/groups input channels of o's group.
    """
    g = geometry
    y = _grouped_columns(x, g) @ _grouped_weight(weight, g).transpose(0, 2, 1)  # (G, N oh ow, K) @ (G, K, O/G)
    y = y.transpose(1, 0, 2).reshape(g.n, g.oh, g.ow, g.o)
    if bias is not None:
        y = y + bias
    return _result(y.transpose(0, 3, 1, 2), x.dtype)


def conv2d_backward_input(gy: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Gradient of the input: gx (N, C, H, W) from gy (N, O, oh, ow) and weight (O, C/groups, kh, kw).

    Every window hands gy times its weights back to the pixels that it saw, and a pixel adds up what it gets.
    """
    return _result(_input_gradient(gy, weight, geometry), gy.dtype)


def conv2d_backward_weight(gy: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Gradient of the weight: gw (O, C/groups, kh, kw), C-contiguous, from gy (N, O, oh, ow) and x (N, C, H, W).

    gw[o, c, i, j] is the sum over all windows of gy[o] times what the window saw at (c, i, j). Zeros for an empty batch.
    """
    gw = _grouped_rows(gy, geometry).transpose(0, 2, 1) @ _grouped_columns(x, geometry)  # (G, O/G, N oh ow) @ (G, N oh ow, K)
    return gw.reshape(geometry.weight_shape).astype(gy.dtype)


def conv2d_backward_bias(gy: np.ndarray) -> np.ndarray:
    """Gradient of the bias: gb (O,) from gy (N, O, oh, ow).

    The bias is added to every pixel of every image, so its gradient is the sum of gy over all of them.
    """
    return gy.sum(axis=(0, 2, 3), dtype=np.float64).astype(gy.dtype)


# ---- transposed convolution ------------------------------------------------------------------------------------------


def conv_transpose2d_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, geometry: ConvGeometry) -> np.ndarray:
    """Transposed convolution: the input gradient of a convolution, used as a layer (geometry: ``ConvGeometry.of_transposed``).

    x (N, I, oh, ow) with weight (I, O/groups, kh, kw) and bias (O,) or None gives y (N, O, h, w): every pixel of x stamps
    its weighted window into y, and overlapping stamps add up.
    """
    y = _input_gradient(x, weight, geometry)
    if bias is not None:
        y = y + bias[:, None, None]
    return _result(y, x.dtype)


def conv_transpose2d_backward_input(gy: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Gradient of the input: gx (N, I, oh, ow) from gy (N, O, h, w) and weight (I, O/groups, kh, kw).

    The gradient of a gradient leads back: this is the ordinary convolution of gy with the weight.
    """
    return conv2d_forward(gy, weight, None, geometry)


def conv_transpose2d_backward_weight(gy: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Gradient of the weight: gw (I, O/groups, kh, kw) from gy (N, O, h, w) and x (N, I, oh, ow).

    As for an ordinary convolution, with gy and x in each other's places.
    """
    return conv2d_backward_weight(x, gy, geometry)


# ---- shapes ----------------------------------------------------------------------------------------------------------


def _grouped_columns(x: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """float64 columns (groups, N*oh*ow, K), K = C/groups*kh*kw."""
    columns = im2col(x.astype(np.float64), g)
    return columns.reshape(columns.shape[0], g.groups, columns.shape[1] // g.groups).transpose(1, 0, 2)


def _grouped_weight(weight: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """float64 weight (groups, O/groups, K), K = C/groups*kh*kw."""
    return weight.astype(np.float64).reshape(g.groups, g.o // g.groups, g.c // g.groups * g.kh * g.kw)


def _grouped_rows(gy: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """gy (N, O, oh, ow) in float64 as a row for each output pixel: (groups, N*oh*ow, O/groups)."""
    rows = gy.astype(np.float64).transpose(0, 2, 3, 1).reshape(g.n * g.oh * g.ow, g.groups, g.o // g.groups)
    return rows.transpose(1, 0, 2)


def _input_gradient(gy: np.ndarray, weight: np.ndarray, g: ConvGeometry) -> np.ndarray:
    columns = _grouped_rows(gy, g) @ _grouped_weight(weight, g)  # (G, N oh ow, O/G) @ (G, O/G, K)
    return col2im(columns.transpose(1, 0, 2).reshape(g.n * g.oh * g.ow, g.c * g.kh * g.kw), g)


def _result(array: np.ndarray, dtype) -> np.ndarray:
    return channels_last(array.astype(dtype))
