"""Activation functions: elementwise, and softmax along a dimension.

All keep to IEEE arithmetic without warnings: they are stable for large arguments, and NaN stays NaN. ``inplace=True`` writes the
result into the memory of ``x`` and returns ``x``, as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from minigrad.autograd import Deferred, DeferredSum, finished
from minigrad.kernels import for_array
from minigrad.ops._base import check_float, check_inplace, normalize_dims, op, quiet, record, record_inplace, xp
from minigrad.ops._erf import erf_of
from minigrad.ops._pending import is_pending
from minigrad.tensor import Tensor

__all__ = [
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "relu",
    "relu6",
    "relu_",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


# ---- in place or not ---------------------------------------------------------------------------------------------------


def _values(x: Tensor, inplace: bool):
    """The array of ``x`` for backward to keep: a copy if the result is about to overwrite it."""
    check_float(x)
    if not inplace:
        return x.data
    check_inplace(x)
    return x.data.copy(order="K")


def _finish(x: Tensor, y, backward: Callable, inplace: bool) -> Tensor:
    """Record an op whose backward reads the values that ``_values`` gave."""
    if not inplace:
        return record(y, (x,), backward, saves=(x,))
    x.data[...] = y
    return record_inplace(x, (x,), backward)


# ---- rectifiers and their kin ------------------------------------------------------------------------------------------


@op
def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0). The derivative at 0 is 0. ``inplace=True`` needs no memory for the result (see ``relu_``)."""
    if inplace:
        return relu_(x)
    fused = is_pending(x)
    if fused:
        y = x.pending.array(rectify=True)
        kernels = for_array(y)
    else:
        kernels = for_array(check_float(x).data)
        y = kernels.relu_forward(x.data)

    def backward(gy):  # normalization that was computed together with this can take the gradient as it comes
        gradient, other = _summands(gy)
        rectified = partial(kernels.relu_backward, gradient, y, other)
        return Deferred(gy, rectified) if fused else rectified()

    return _taking_sums(record(y, (x,), backward, saves_output=True), backward)


@op
def relu_(x: Tensor) -> Tensor:
    """x = max(x, 0), in place; returns x. The gradient follows from the result: it is positive where x was."""
    fused = is_pending(x)
    if fused:
        y = x.data = x.pending.array(rectify=True)
        x.pending = None
        kernels = for_array(y)
    else:
        kernels = for_array(check_float(x).data)
        check_inplace(x)
        y = kernels.relu_forward(x.data, out=x.data)

    def backward(gy):
        gradient, other = _summands(gy)
        rectified = partial(kernels.relu_backward, gradient, y, other)
        return Deferred(gy, rectified) if fused else rectified()

    return _taking_sums(record_inplace(x, (x,), backward, saves_output=True), backward)


def _summands(gy) -> tuple:
    """A gradient as two arrays to be added, the second of which may be None."""
    return (gy.gradient, gy.other) if type(gy) is DeferredSum else (finished(gy), None)


def _taking_sums(y: Tensor, backward: Callable) -> Tensor:
    """y, whose ``backward``, if it was recorded, can take the sum of two gradients as it comes."""
    if y.origin is not None and y.origin[0].backward is backward:
        y.origin[0].takes_sums = True
    return y


@op
def hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to min_val ... max_val. The derivative at the two limits is 0."""
    if not min_val <= max_val:
        raise ValueError(f"min_val must not be larger than max_val, got min_val={min_val!r} and max_val={max_val!r}")
    a, library = _values(x, inplace), xp(x)

    def backward(gy):
        return library.where((a <= min_val) | (a >= max_val), 0, gy)

    return _finish(x, library.minimum(library.maximum(a, min_val), max_val), backward, inplace)


@op
def relu6(x: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6), the activation of MobileNet. The derivative at 0 and at 6 is 0."""
    a, library = _values(x, inplace), xp(x)

    def backward(gy):
        return library.where((a <= 0) | (a >= 6), 0, gy)

    return _finish(x, library.minimum(library.maximum(a, 0), 6), backward, inplace)


@op
@quiet
def leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    a, library, slope = _values(x, inplace), xp(x), float(negative_slope)

    def backward(gy):
        return library.where(a > 0, gy, gy * slope)

    return _finish(x, library.where(a > 0, a, a * slope), backward, inplace)


@op
@quiet
def elu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2015)."""
    a, library, alpha = _values(x, inplace), xp(x), float(alpha)

    def backward(gy):
        return library.where(a > 0, gy, gy * (alpha * library.exp(a)))

    return _finish(x, library.where(a > 0, a, alpha * library.expm1(a)), backward, inplace)


SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


@op
@quiet
def selu(x: Tensor, inplace: bool = False) -> Tensor:
    """SELU_SCALE * elu(x, SELU_ALPHA): keeps mean 0 and variance 1 through layers (Klambauer et al. 2017)."""
    a, library = _values(x, inplace), xp(x)

    def backward(gy):
        return library.where(a > 0, gy * SELU_SCALE, gy * (SELU_SCALE * SELU_ALPHA * library.exp(a)))

    y = library.where(a > 0, SELU_SCALE * a, SELU_SCALE * SELU_ALPHA * library.expm1(a))
    return _finish(x, y, backward, inplace)


# ---- smooth ------------------------------------------------------------------------------------------------------------


def _sigmoid(a, library):
    return 1 / (1 + library.exp(-a))  # exp overflows to Inf for a very negative argument: 1 / Inf is the right 0


@op
@quiet
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    y = _sigmoid(check_float(x).data, xp(x))

    def backward(gy):
        return gy * (y * (1 - y))

    return record(y, (x,), backward, saves_output=True)


@op
def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    y = xp(check_float(x)).tanh(x.data)

    def backward(gy):
        return gy * (1 - y * y)

    return record(y, (x,), backward, saves_output=True)


@op
@quiet
def silu(x: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x), also called swish (Ramachandran et al. 2017)."""
    a, library = _values(x, inplace), xp(x)

    def backward(gy):
        s = _sigmoid(a, library)
        return gy * (s * (1 + a * (1 - s)))

    return _finish(x, a / (1 + library.exp(-a)), backward, inplace)


@op
@quiet
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x * P(Z <= x) for a standard normal Z (Hendrycks & Gimpel 2016).

    ``approximate``: "none" computes it with the error function; "tanh" as 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate must be "none" or "tanh", got {approximate!r}')
    a, library = check_float(x).data, xp(x)
    if approximate == "tanh":
        root, cubic = math.sqrt(2 / math.pi), 0.044715
        t = library.tanh(root * (a + cubic * a * a * a))
        y = 0.5 * a * (1 + t)

        def backward(gy):
            return gy * (0.5 * (1 + t) + 0.5 * a * (1 - t * t) * (root * (1 + 3 * cubic * a * a)))
    else:
        cdf = 0.5 * (1 + erf_of(a * math.sqrt(0.5), library))
        y = a * cdf

        def backward(gy):
            density = library.exp(-0.5 * a * a) * (1 / math.sqrt(2 * math.pi))
            return gy * (cdf + a * density)

    return record(y, (x,), backward, saves=(x,))


@op
@quiet
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta: a smooth relu. Where beta * x > threshold it is x itself."""
    beta, threshold = float(beta), float(threshold)
    if beta == 0:
        raise ValueError("beta must not be 0")
    a, library = check_float(x).data, xp(x)

    def backward(gy):
        z = a * beta
        return library.where(z > threshold, gy, gy * _sigmoid(z, library))

    z = a * beta
    y = library.where(z > threshold, a, library.log1p(library.exp(library.minimum(z, threshold))) / beta)
    return record(y, (x,), backward, saves=(x,))


@op
@quiet
def logsigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)), without the overflow of computing one after the other."""
    a, library = check_float(x).data, xp(x)

    def backward(gy):
        return gy * _sigmoid(-a, library)

    y = library.minimum(a, 0) - library.log1p(library.exp(-library.abs(a)))
    return record(y, (x,), backward, saves=(x,))


@op
@quiet
def mish(x: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(log(1 + exp(x))) (Misra 2019)."""
    a, library = _values(x, inplace), xp(x)
    t = library.tanh(library.logaddexp(a, library.zeros((), a.dtype)))

    def backward(gy):
        return gy * (t + a * _sigmoid(a, library) * (1 - t * t))

    return _finish(x, a * t, backward, inplace)


# ---- piecewise linear stand-ins for sigmoid and swish (MobileNetV3, Howard et al. 2019) ---------------------------------


@op
def hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6. The derivative at -3 and at 3 is 0."""
    a, library = _values(x, inplace), xp(x)

    def backward(gy):
        return library.where((a <= -3) | (a >= 3), 0, gy / 6)

    return _finish(x, library.minimum(library.maximum(a + 3, 0), 6) / 6, backward, inplace)


@op
@quiet
def hardswish(x: Tensor, inplace: bool = False) -> Tensor:
    """x * hardsigmoid(x). The derivative is 0 up to -3 and 1 from 3 on."""
    a, library = _values(x, inplace), xp(x)

    def backward(gy):
        return library.where(a <= -3, 0, library.where(a >= 3, gy, gy * (a / 3 + 0.5)))

    return _finish(x, a * library.minimum(library.maximum(a + 3, 0), 6) / 6, backward, inplace)


# ---- softmax -----------------------------------------------------------------------------------------------------------


def _one_dim(x: Tensor, dim: int) -> int:
    check_float(x)
    if dim is None or isinstance(dim, (tuple, list)):
        raise TypeError(f"dim must be one integer, got {dim!r}: use dim=1 for the classes of (N, K) logits")
    normalize_dims(dim, x.ndim)
    return dim


@op
@quiet
def softmax(x: Tensor, dim: int) -> Tensor:
    """exp(x) / sum(exp(x)) along dimension ``dim``; the largest value is subtracted first, so that nothing overflows."""
    dim, library = _one_dim(x, dim), xp(x)
    if not x.data.size or not x.ndim:
        e = library.exp(x.data - x.data)
        total = 1
    else:
        e = library.exp(x.data - x.data.max(axis=dim, keepdims=True))
        total = _accurate_sum(e, dim)
    y = e / total

    def backward(gy):
        gz = gy * y
        return gz - y * _accurate_sum(gz, dim)

    return record(y, (x,), backward, saves_output=True)


@op
@quiet
def log_softmax(x: Tensor, dim: int) -> Tensor:
    """log(softmax(x, dim)), computed as x - logsumexp(x)."""
    dim, library = _one_dim(x, dim), xp(x)
    if not x.data.size or not x.ndim:
        y = x.data - x.data
    else:
        z = x.data - x.data.max(axis=dim, keepdims=True)
        y = z - library.log(_accurate_sum(library.exp(z), dim))

    def backward(gy):
        return gy - library.exp(y) * _accurate_sum(gy, dim)

    return record(y, (x,), backward, saves_output=True)


def _accurate_sum(a, dim: int):
    """The sum along ``dim``, kept, added up in float64 and rounded once."""
    return a.sum(axis=dim, keepdims=True, dtype="float64").astype(a.dtype) if a.ndim else a
