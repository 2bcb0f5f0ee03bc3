"""The calls that ``ops.py`` times for kernels that slide a window: convolution and pooling. See ``op_data.py``."""

from __future__ import annotations

from layers import Conv, Pool
from op_data import Calls, image, kernels, layouts, plain, without_graph

from minigrad.kernels.geometry import AdaptiveGeometry, ConvGeometry, PoolGeometry

__all__ = ["CONVOLUTION", "POOLS"]


# ---- convolution -------------------------------------------------------------------------------------------------------


def _conv_numbers(batch: int, conv: Conv):
    fan_in = conv.c // conv.groups * conv.kernel**2
    weight = plain(conv.o, conv.c // conv.groups, conv.kernel, conv.kernel, seed=1, scale=fan_in**-0.5)
    geometry = ConvGeometry.of((batch, conv.c, conv.size, conv.size), weight.shape, conv.stride, conv.padding, 1, conv.groups)
    return image(geometry.x_shape), weight, image(geometry.y_shape, 2), geometry


def _conv2d_forward(torch, batch: int, conv: Conv) -> Calls:
    x, weight, _, geometry = _conv_numbers(batch, conv)
    calls: Calls = {"minigrad": lambda: kernels.conv2d_forward(x, weight, None, geometry)}
    settings = (None, conv.stride, conv.padding, 1, conv.groups)
    for name, (tx, tw) in layouts(torch, x, weight):
        calls[name] = without_graph(torch, lambda tx=tx, tw=tw: torch.nn.functional.conv2d(tx, tw, *settings))
    return calls


def _conv2d_backward(torch, batch: int, conv: Conv, which: int) -> Calls:
    """``which``: 0 the gradient of the input, 1 that of the weight."""
    x, weight, gy, geometry = _conv_numbers(batch, conv)
    if which == 0:
        calls: Calls = {"minigrad": lambda: kernels.conv2d_backward_input(gy, weight, geometry)}
    else:
        calls = {"minigrad": lambda: kernels.conv2d_backward_weight(gy, x, geometry)}
    s, p = conv.stride, conv.padding
    settings = (None, [s, s], [p, p], [1, 1], False, [0, 0], conv.groups, [which == 0, which == 1, False])
    for name, tensors in layouts(torch, gy, x, weight):
        backward = torch.ops.aten.convolution_backward.default
        calls[name] = lambda backward=backward, tensors=tensors: backward(*tensors, *settings)[which]
    return calls


CONVOLUTION = {
    "conv2d_forward": _conv2d_forward,
    "conv2d_backward_input": lambda torch, *sizes: _conv2d_backward(torch, *sizes, 0),
    "conv2d_backward_weight": lambda torch, *sizes: _conv2d_backward(torch, *sizes, 1),
}


# ---- pooling -----------------------------------------------------------------------------------------------------------


def _pool_numbers(batch: int, pool: Pool):
    """x, gy, the geometry, and the same settings in the order of PyTorch's operators."""
    x = image((batch, pool.c, pool.size, pool.size))
    k, s, p = [pool.kernel] * 2, [pool.stride] * 2, [pool.padding] * 2
    if pool.kind == "adaptive_avg":
        geometry, settings = AdaptiveGeometry.of(x.shape, 1), ()
    elif pool.kind == "max":
        geometry = PoolGeometry.of(x.shape, *map(tuple, (k, s, p)), ceil_mode=pool.ceil_mode)
        settings = (k, s, p, [1, 1], pool.ceil_mode)
    else:
        geometry = PoolGeometry.of(x.shape, *map(tuple, (k, s, p)), ceil_mode=pool.ceil_mode)
        settings = (k, s, p, pool.ceil_mode, True, None)
    return x, image(geometry.y_shape, 1), geometry, settings


def _max_pool2d_forward(torch, batch: int, pool: Pool) -> Calls:
    x, _, geometry, settings = _pool_numbers(batch, pool)
    calls: Calls = {"minigrad": lambda: kernels.max_pool2d_forward(x, geometry)}
    for name, (tx,) in layouts(torch, x):
        calls[name] = lambda tx=tx: torch.ops.aten.max_pool2d_with_indices.default(tx, *settings)
    return calls


def _max_pool2d_backward(torch, batch: int, pool: Pool) -> Calls:
    x, gy, geometry, settings = _pool_numbers(batch, pool)
    indices = kernels.max_pool2d_forward(x, geometry)[1]
    calls: Calls = {"minigrad": lambda: kernels.max_pool2d_backward(gy, indices, geometry)}
    for name, (tx, tgy) in layouts(torch, x, gy):
        found = torch.ops.aten.max_pool2d_with_indices.default(tx, *settings)[1]
        backward = torch.ops.aten.max_pool2d_with_indices_backward.default
        calls[name] = lambda tx=tx, tgy=tgy, found=found, backward=backward: backward(tgy, tx, *settings, found)
    return calls


def _avg_pool2d_forward(torch, batch: int, pool: Pool) -> Calls:
    x, _, geometry, settings = _pool_numbers(batch, pool)
    calls: Calls = {"minigrad": lambda: kernels.avg_pool2d_forward(x, geometry)}
    for name, (tx,) in layouts(torch, x):
        calls[name] = lambda tx=tx: torch.ops.aten.avg_pool2d.default(tx, *settings)
    return calls


def _avg_pool2d_backward(torch, batch: int, pool: Pool) -> Calls:
    x, gy, geometry, settings = _pool_numbers(batch, pool)
    calls: Calls = {"minigrad": lambda: kernels.avg_pool2d_backward(gy, geometry)}
    for name, (tx, tgy) in layouts(torch, x, gy):
        calls[name] = lambda tx=tx, tgy=tgy: torch.ops.aten.avg_pool2d_backward.default(tgy, tx, *settings)
    return calls


def _adaptive_forward(torch, batch: int, pool: Pool) -> Calls:
    x, _, geometry, _ = _pool_numbers(batch, pool)
    calls: Calls = {"minigrad": lambda: kernels.adaptive_avg_pool2d_forward(x, geometry)}
    for name, (tx,) in layouts(torch, x):
        calls[name] = without_graph(torch, lambda tx=tx: torch.nn.functional.adaptive_avg_pool2d(tx, 1))
    return calls


def _adaptive_backward(torch, batch: int, pool: Pool) -> Calls:
    x, gy, geometry, _ = _pool_numbers(batch, pool)
    calls: Calls = {"minigrad": lambda: kernels.adaptive_avg_pool2d_backward(gy, geometry)}
    for name, (tgy,) in layouts(torch, gy):  # to one pixel it is a mean, and PyTorch's gradient is that of a mean
        calls[name] = lambda tgy=tgy: tgy.expand(x.shape) / pool.size**2
    return calls


POOLS = {
    ("max", "forward"): _max_pool2d_forward,
    ("max", "backward"): _max_pool2d_backward,
    ("avg", "forward"): _avg_pool2d_forward,
    ("avg", "backward"): _avg_pool2d_backward,
    ("adaptive_avg", "forward"): _adaptive_forward,
    ("adaptive_avg", "backward"): _adaptive_backward,
}
