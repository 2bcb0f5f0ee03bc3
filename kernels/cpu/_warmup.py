"""Compiling all kernels at once, so that no later process has to: every public kernel on a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..geometry import AdaptiveGeometry, ConvGeometry, PoolGeometry, ResizeGeometry
from . import convolution, elementwise, loss, normalization, optimizer, pooling, product, resize
from ._algorithms import algorithm
from ._compiler import build
from ._threads import pool

__all__ = ["warmup"]


def warmup(dtype: str = "float32") -> Iterator[tuple[int, int, str]]:
    """Compile every kernel for arrays of a dtype, for one thread and for many, or load it from the disk.

    Yields (done, total, name of the next kernel) before each, for a progress bar, and (total, total, "") at the end.
    """
    calls = list(_calls(np.dtype(dtype)))
    builds = ("serial", "parallel") if pool.usable else ("serial",)
    for index, (name, call) in enumerate(calls):
        yield index, len(calls), name
        for which in builds:
            with build(which):
                call()
    yield len(calls), len(calls), ""


def _calls(dtype) -> Iterator[tuple[str, Callable[[], object]]]:
    """(name, call) of every kernel, with arguments that reach each of its parts."""

    def ones(*shape):
        return np.ones(shape, dtype)

    yield from _elementwise(ones)
    yield from _convolutions(ones)
    yield from _normalizations(ones)
    yield from _poolings(ones)
    yield from _others(ones, dtype)


def _elementwise(ones):
    x = ones(elementwise.SMALL + 1)
    yield "relu_forward", lambda: elementwise.relu_forward(x)
    yield "relu_backward", lambda: elementwise.relu_backward(x, x, x)
    yield "add", lambda: elementwise.add(x, x)
    yield "matmul", lambda: product.matmul(ones(5, 6), ones(6, 7), ones(7))
    yield "matmul of a few rows", lambda: product.matmul(ones(1, 6), ones(7, 6).T)
    yield "matmul of a few terms", lambda: product.matmul(ones(6, 1), ones(1, 7))


def _convolutions(ones):
    cases = (  # algorithm, x, weight, stride, groups
        ("im2col", (1, 4, 5, 5), (4, 2, 3, 3), 1, 2),
        ("im2col", (1, 4, 5, 5), (4, 4, 1, 1), 2, 1),  # pixels that no window sees
        ("lines", (1, 2, 5, 5), (3, 2, 3, 3), 1, 1),
        ("winograd", (1, 3, 5, 5), (3, 3, 3, 3), 1, 1),
        ("small winograd", (1, 3, 2, 2), (3, 3, 3, 3), 1, 1),
        ("winograd", (1, 640, 4, 4), (1, 640, 3, 3), 1, 1),  # so many channels that the inputs are transformed first
        ("direct", (1, 3, 5, 5), (3, 1, 3, 3), 1, 3),
        ("direct", (1, 3, 5, 5), (3, 1, 3, 3), 2, 3),
        ("direct", (1, 3, 5, 5), (6, 1, 3, 3), 1, 3),
    )
    for name, x_shape, weight_shape, stride, groups in cases:
        g = ConvGeometry.of(x_shape, weight_shape, stride, 1, 1, groups)

        def call(g=g, name=name):
            x, weight, gy = ones(*g.x_shape), ones(*g.weight_shape), ones(*g.y_shape)
            with algorithm(name):
                convolution.conv2d_forward(x, weight, ones(g.o), g)
                convolution.conv2d_backward_input(gy, weight, g)
                convolution.conv2d_backward_weight(gy, x, g)

        yield f"conv2d by {name}", call
    g = ConvGeometry.of((1, 2, 5, 5), (2, 2, 3, 3))
    yield "conv2d_backward_bias", lambda: convolution.conv2d_backward_bias(ones(1, 2, 20, 20))
    yield "im2col", lambda: convolution.col2im(convolution.im2col(ones(*g.x_shape), g), g)


def _normalizations(ones):
    for view in ((1, 6, 3, 1), (2, 1, 1, 6)):
        x, each = ones(*view), ones(*view[2:])

        def call(x=x, each=each):
            mean, var = normalization.moments(x)
            normalization.normalize_forward(x, mean, var, each, each, x, True)
            normalization.normalize_backward(x, x, mean, var, each, True)

        yield "normalization by " + ("columns" if view[1] > 1 else "rows"), call
    x = ones(1, 6, 2, 2)
    yield "local_response_norm_forward", lambda: normalization.local_response_norm_forward(x, 5, 1e-4, 0.75, 1.0)
    yield "local_response_norm_backward", lambda: normalization.local_response_norm_backward(x, x, x, 5, 1e-4, 0.75)


def _poolings(ones):
    x = ones(1, 3, 6, 6)
    adaptive = AdaptiveGeometry.of(x.shape, 3)

    for channels in (pooling.FEW, pooling.FEW + 1):

        def call(channels=channels):
            x = ones(1, channels, 6, 6)
            g = PoolGeometry.of(x.shape, 2)
            y, indices = pooling.max_pool2d_forward(x, g)
            pooling.max_pool2d_backward(y, indices, g)

        yield f"max_pool2d of {channels} channels", call
    yield "adaptive_avg_pool2d", lambda: pooling.adaptive_avg_pool2d_forward(x, adaptive)
    yield "upsample_bilinear2d", lambda: resize.upsample_bilinear2d_forward(x, ResizeGeometry.of(x.shape, (12, 12)))


def _others(ones, dtype):
    logits, target = ones(2, 3), np.zeros(2, np.int64)

    def call():
        losses, logsumexp = loss.cross_entropy_forward(logits, target, None, -100, 0.0)
        loss.cross_entropy_backward(losses, logits, logsumexp, target, None, -100, 0.0)

    yield "cross_entropy", call
    x = np.ones((3, 4), dtype)
    yield "sgd_momentum", lambda: optimizer.sgd_momentum(x, x.copy(), x.copy(), 0.1, 0.9, 0.0, 0.0, False, False, False)
