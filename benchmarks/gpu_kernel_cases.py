"""The kernels that ``gpu.py --kernels`` times, on typical layers: the call of minigrad, that of PyTorch, and what must be done.

Bytes are those of arrays that have to be read and written, each as often as the sums require: a normalization needs the mean
before it can begin. Operations are multiplications and additions of products; a few for each element cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import NamedTuple

import networks
import numpy as np
from layers import Conv, Pool

import minigrad as mg
from minigrad.device import module_for
from minigrad.kernels.geometry import AdaptiveGeometry, ConvGeometry, PoolGeometry
from minigrad.kernels.layout import nhwc

__all__ = ["Case", "all_cases", "convolution", "cross_entropy", "elementwise", "normalization", "pooling", "sgd"]

FLOATS = ("exact", "bf16")  # number types of kernels that multiply no float32 numbers in TF32
EPS = 1e-5


class Case(NamedTuple):
    """One kernel on one shape.

    ``inputs``: what it is given, as ("image", N, C, H, W), ("plain", *shape) or ("labels", count, classes). ``mine(*arrays)`` and
    ``torch(torch, *tensors)`` give calls with the same results (torch None: PyTorch has no such function). ``elements``: numbers
    of the case's type that are read and written; ``other_bytes``: those of other types.
    """

    kernel: str
    label: str
    inputs: tuple[tuple, ...]
    mine: Callable[..., Callable[[], object]]
    torch: Callable[..., Callable[[], object]] | None
    elements: int
    other_bytes: int = 0
    operations: int = 0
    numbers: tuple[str, ...] = FLOATS

    def name(self, numbers: str) -> str:
        """What a row is called."""
        return f"{self.kernel} {self.label} {numbers}"

    def bytes(self, itemsize: int) -> int:
        """Bytes that are read and written, where numbers of the case's type have ``itemsize``."""
        return self.elements * itemsize + self.other_bytes


def _kernels():
    from minigrad.kernels import cuda

    return cuda


def _gradient(torch, function: Callable, inputs: list, gy) -> Callable[[], tuple]:
    """PyTorch's gradients of a function of tensors, as its autograd computes them."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = function(*inputs)
    return lambda: torch.autograd.grad(y, inputs, gy, retain_graph=True)


def _without_graph(torch, function: Callable[[], object]) -> Callable[[], object]:
    def call():
        with torch.no_grad():
            return function()

    return call


def _label(*shape: int) -> str:
    return "x".join(map(str, shape))


# ---- convolution -------------------------------------------------------------------------------------------------------


def convolution(batch: int, conv: Conv) -> Iterator[Case]:
    """The convolution of a layer, and its gradients (not that of the images: nobody needs it)."""
    weight = (conv.o, conv.c // conv.groups, conv.kernel, conv.kernel)
    g = ConvGeometry.of((batch, conv.c, conv.size, conv.size), weight, conv.stride, conv.padding, 1, conv.groups)
    groups = f" groups {conv.groups}" if conv.groups > 1 else ""
    settings = {
        "label": f"{_label(*g.x_shape)} -> {conv.o}, {conv.kernel}x{conv.kernel}/{conv.stride}{groups}",
        "elements": prod(g.x_shape) + prod(weight) + prod(g.y_shape),
        "operations": 2 * prod(g.y_shape) * prod(weight[1:]),
        "numbers": ("tf32", "exact", "bf16"),
    }
    x, w, gy = ("image", *g.x_shape), ("plain", *weight), ("image", *g.y_shape)
    options = (None, conv.stride, conv.padding, 1, conv.groups)
    pairs = [[conv.stride] * 2, [conv.padding] * 2, [1, 1], False, [0, 0], conv.groups]

    def torch_backward(torch, gy, x, w, which):
        backward, wanted = torch.ops.aten.convolution_backward.default, [which == 0, which == 1, False]
        return lambda: backward(gy, x, w, None, *pairs, wanted)[which]

    yield Case(
        "conv2d_forward",
        inputs=(x, w),
        mine=lambda x, w: lambda: _kernels().conv2d_forward(x, w, None, g),
        torch=lambda torch, x, w: _without_graph(torch, lambda: torch.nn.functional.conv2d(x, w, *options)),
        **settings,
    )
    if conv.c > 3:
        yield Case(
            "conv2d_backward_input",
            inputs=(gy, x, w),
            mine=lambda gy, x, w: lambda: _kernels().conv2d_backward_input(gy, w, g),
            torch=lambda torch, gy, x, w: torch_backward(torch, gy, x, w, 0),
            **settings,
        )
    yield Case(
        "conv2d_backward_weight",
        inputs=(gy, x, w),
        mine=lambda gy, x, w: lambda: _kernels().conv2d_backward_weight(gy, x, g),
        torch=lambda torch, gy, x, w: torch_backward(torch, gy, x, w, 1),
        **settings,
    )


# ---- normalization -----------------------------------------------------------------------------------------------------


def normalization(shape: tuple[int, int, int, int]) -> Iterator[Case]:
    """Batch normalization in training: the statistics, the forward pass with them, and the gradients."""
    n, c, h, w = shape
    x, vector, size, label = ("image", *shape), ("plain", c), prod(shape), _label(*shape)

    def rows(x):
        return nhwc(x).reshape(1, n * h * w, c, 1)

    def image(y):
        return y.reshape(n, h, w, c).transpose(0, 3, 1, 2)

    def single(values):  # parameters and statistics are float32 beside numbers of 16 bits
        return values.astype(np.float32).reshape(c, 1)

    def statistics(x4):
        mean, var = _kernels().moments(x4)
        return mean, (1.0 / module_for("cuda").sqrt(var + EPS)).astype(np.float32, copy=False)

    def forward(x, weight, bias):
        x4, weight, bias = rows(x), single(weight), single(bias)
        return lambda: image(_kernels().normalize_forward(x4, *statistics(x4), weight, bias))

    def backward(gy, x, weight, bias):
        gy4, x4, weight = rows(gy), rows(x), single(weight)
        mean, rstd = statistics(x4)

        def call():
            gx, gw, gb = _kernels().normalize_backward(gy4, x4, mean, rstd, weight, True)
            return image(gx), gw, gb

        return call

    def batch_norm(torch, x, weight, bias):
        wide = x.dtype if x.dtype == torch.float64 else torch.float32
        return torch.nn.functional.batch_norm(x, None, None, weight.to(wide), bias.to(wide), training=True, eps=EPS)

    yield Case(
        *("moments", label, (x,), lambda x: lambda: _kernels().moments(rows(x))),
        lambda torch, x: lambda: torch.var_mean(x, (0, 2, 3), correction=0)[::-1],
        size,
    )
    yield Case(
        *("batch_norm_forward", label, (x, vector, vector), forward),
        lambda torch, *tensors: _without_graph(torch, lambda: batch_norm(torch, *tensors)),
        3 * size,
    )
    yield Case(
        *("batch_norm_backward", label, (x, x, vector, vector), backward),
        lambda torch, gy, *tensors: _gradient(torch, lambda *of: batch_norm(torch, *of), tensors, gy),
        5 * size,
    )


# ---- pooling -----------------------------------------------------------------------------------------------------------


def pooling(batch: int, pool: Pool) -> Iterator[Case]:
    """Pooling of a layer, and its gradient."""
    shape = (batch, pool.c, pool.size, pool.size)
    if pool.kind == "adaptive_avg":
        g: AdaptiveGeometry | PoolGeometry = AdaptiveGeometry.of(shape, 1)
    else:
        g = PoolGeometry.of(shape, pool.kernel, pool.stride, pool.padding)
    x, gy, elements = ("image", *shape), ("image", *g.y_shape), prod(shape) + prod(g.y_shape)
    label, name = f"{_label(*shape)} to {_label(*g.y_shape[2:])}", f"{pool.kind}_pool2d"
    indices = 8 * prod(g.y_shape) if pool.kind == "max" else 0

    def backward(gy, x):
        backward, given = getattr(_kernels(), f"{name}_backward"), (gy,)
        if pool.kind == "max":
            given = gy, _kernels().max_pool2d_forward(x, g)[1]
        return lambda: backward(*given, g)

    def torch_pool(torch, x):
        window = (pool.kernel, pool.stride, pool.padding)
        functional = torch.nn.functional
        if pool.kind == "max":
            return functional.max_pool2d(x, *window, return_indices=True)
        return functional.avg_pool2d(x, *window) if pool.kind == "avg" else functional.adaptive_avg_pool2d(x, 1)

    def torch_backward(torch, gy, x):
        def values(x):
            return torch_pool(torch, x)[0] if pool.kind == "max" else torch_pool(torch, x)

        return _gradient(torch, values, [x], gy)

    yield Case(
        *(f"{name}_forward", label, (x,), lambda x: lambda: getattr(_kernels(), f"{name}_forward")(x, g)),
        *(lambda torch, x: _without_graph(torch, lambda: torch_pool(torch, x)), elements, indices),
    )
    yield Case(f"{name}_backward", label, (gy, x), backward, torch_backward, elements, indices)


# ---- element by element, the loss, the optimizer -----------------------------------------------------------------------


def elementwise(shape: tuple[int, int, int, int]) -> Iterator[Case]:
    """Rectifiers and sums of images."""
    x, size, label = ("image", *shape), prod(shape), _label(*shape)
    yield Case(
        *("relu_forward", label, (x,), lambda x: lambda: _kernels().relu_forward(x)),
        *(lambda torch, x: lambda: torch.relu(x), 2 * size),
    )
    yield Case(
        *("relu_backward", label, (x, x), lambda gy, y: lambda: _kernels().relu_backward(gy, y)),
        *(lambda torch, gy, y: lambda: torch.ops.aten.threshold_backward.default(gy, y, 0), 3 * size),
    )
    yield Case(
        *("add", label, (x, x), lambda x, y: lambda: _kernels().add(x, y)),
        *(lambda torch, x, y: lambda: torch.add(x, y), 3 * size),
    )


def cross_entropy(rows: int, classes: int) -> Iterator[Case]:
    """The loss of every row, and its gradient."""
    logits, labels, of_rows = ("plain", rows, classes), ("labels", rows, classes), ("plain", rows)

    def forward(logits, labels):
        return lambda: _kernels().cross_entropy_forward(logits, labels, None, -100, 0.0)[0]

    def backward(gy, logits, labels):
        logsumexp = _kernels().cross_entropy_forward(logits, labels, None, -100, 0.0)[1]
        return lambda: _kernels().cross_entropy_backward(gy, logits, logsumexp, labels, None, -100, 0.0)

    def torch_loss(torch, logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    yield Case(
        *("cross_entropy_forward", _label(rows, classes), (logits, labels), forward),
        lambda torch, *tensors: _without_graph(torch, lambda: torch_loss(torch, *tensors)),
        *(rows * classes, 20 * rows, 0, ("exact",)),
    )
    yield Case(
        *("cross_entropy_backward", _label(rows, classes), (of_rows, logits, labels), backward),
        lambda torch, gy, logits, labels: _gradient(torch, lambda x: torch_loss(torch, x, labels), [logits], gy),
        *(2 * rows * classes, 20 * rows, 0, ("exact",)),
    )


def sgd(name: str, shapes: list[tuple[int, ...]]) -> Iterator[Case]:
    """A step of SGD with momentum and weight decay on arrays of these shapes."""
    count, settings = len(shapes), {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}

    def thirds(arrays):
        return [list(arrays[i * count : (i + 1) * count]) for i in range(3)]

    def mine(*arrays):
        parameters, gradients, velocities = thirds(arrays)
        options = settings["lr"], settings["momentum"], 0.0, settings["weight_decay"], False, False, [False] * count

        def call():
            _kernels().sgd_momentum_all(parameters, gradients, velocities, *options)
            return parameters

        return call

    def theirs(torch, *tensors):
        parameters, gradients, velocities = thirds(tensors)
        optimizer = torch.optim.SGD([p.requires_grad_() for p in parameters], fused=True, **settings)
        for p, gradient, velocity in zip(parameters, gradients, velocities, strict=True):
            p.grad = gradient
            optimizer.state[p]["momentum_buffer"] = velocity

        def call():
            optimizer.step()
            return [p.detach() for p in parameters]

        return call

    inputs = tuple(("plain", *shape) for shape in shapes) * 3
    yield Case("sgd_momentum_all", name, inputs, mine, theirs, 5 * sum(map(prod, shapes)), numbers=("exact",))


# ---- typical layers ----------------------------------------------------------------------------------------------------

# (batch, layers): ResNet-18 on images of 32 x 32, ResNet-50 and MobileNet on images of 224 x 224.
CONVOLUTIONS = {
    512: [Conv(64, 32, 64), Conv(64, 32, 128, 3, 2), Conv(128, 16, 128), Conv(256, 8, 256), Conv(512, 4, 512)],
    64: [
        *(Conv(3, 224, 64, 7, 2, 3), Conv(64, 56, 64), Conv(128, 28, 128), Conv(256, 14, 256), Conv(512, 7, 512)),
        *(Conv(c, size, o, 1, 1, 0) for c, size, o in ((64, 56, 256), (256, 56, 64), (512, 28, 128), (1024, 14, 256))),
        *(Conv(2048, 7, 512, 1, 1, 0), Conv(512, 28, 1024, 1, 2, 0), Conv(256, 28, 256, 3, 2)),
        *(Conv(c, size, c, 3, s, 1, c) for c, size, s in ((32, 112, 1), (96, 112, 2), (144, 56, 1), (384, 14, 1), (960, 7, 1))),
    ],
}
MAPS = [(512, 64, 32, 32), (512, 512, 4, 4), (64, 64, 112, 112), (64, 256, 56, 56), (64, 1024, 14, 14), (64, 2048, 7, 7)]
POOLS = [Pool("max", 64, 112, 3, 2, 1), Pool("avg", 256, 28), Pool("adaptive_avg", 2048, 7)]


def all_cases() -> list[Case]:
    """Every kernel on every one of these layers."""
    mg.manual_seed(0)
    parameters = [tuple(p.shape) for p in networks.create("resnet50", mg).parameters()]
    return [
        *(case for batch, layers in CONVOLUTIONS.items() for conv in layers for case in convolution(batch, conv)),
        *(case for shape in MAPS for case in normalization(shape)),
        *(case for pool in POOLS for case in pooling(64, pool)),
        *(case for shape in MAPS for case in elementwise(shape)),
        *(case for rows, classes in ((256, 1000), (8 * 256 * 256, 2)) for case in cross_entropy(rows, classes)),
        *sgd("parameters of ResNet-50", parameters),
    ]
