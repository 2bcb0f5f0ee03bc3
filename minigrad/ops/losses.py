"""Loss functions. Argument names, defaults and reductions are those of ``torch.nn.functional``.

``reduction`` is "mean", "sum" or "none". Sums are added up in float64.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.device import array_module, is_floating, to_numpy
from minigrad.kernels import for_array
from minigrad.ops._base import check_devices, check_dtypes, check_float, check_tensor, data_of, op, quiet, record, xp
from minigrad.tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]


# ---- arguments ---------------------------------------------------------------------------------------------------------


def _check_reduction(reduction: str, *more: str) -> None:
    names = ("mean", "sum", "none", *more)
    if reduction not in names:
        raise ValueError(f"reduction must be one of {', '.join(repr(n) for n in names)}, got {reduction!r}")


def _check_same_shape(input: Tensor, target: Tensor) -> None:
    """Losses compare element by element. Broadcasting is refused: (N, 1) with (N,) would silently give N x N terms."""
    if input.shape == target.shape:
        return
    fix = ""
    if input.data.size == target.data.size:
        fix = f": use target.reshape({', '.join(map(str, input.shape))})" if input.ndim else ": use target.reshape(())"
    raise ValueError(f"input and target must have one shape, got input {input.shape} and target {target.shape}{fix}")


def _reduce(losses, reduction: str, divisor=None):
    """``losses`` reduced; the mean divides by ``divisor`` (by default the number of elements), a number or a 0-d array."""
    if reduction == "none":
        return losses
    total = losses.sum(dtype=np.float64)
    if reduction == "sum":
        return total.astype(losses.dtype)
    divisor = losses.size if divisor is None else divisor
    if isinstance(divisor, (int, float)):
        divisor = divisor or math.nan
    return (total / divisor).astype(losses.dtype)


def _spread(gy, reduction: str, size: int):
    """The gradient of every loss (or one for all) from the gradient of the reduced loss."""
    return gy / size if reduction == "mean" else gy


# ---- classes: what is common to cross_entropy and nll_loss -------------------------------------------------------------


def _shape_with_names(shape: tuple[int, ...]) -> str:
    names = ("K",) if len(shape) == 1 else ("N", "K", *(f"d{i}" for i in range(1, len(shape) - 1)))
    return "(" + ", ".join(f"{name}={n}" for name, n in zip(names, shape, strict=True)) + ")"


def _check_classes(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> None:
    """Check class indices against scores of shape (K,), (N, K) or (N, K, d1, ...)."""
    check_float(input, "input")
    check_tensor(target, "target")
    check_devices(input=input, target=target, weight=weight)
    if input.ndim == 0:
        raise ValueError("input must be (K,), (N, K) or (N, K, d1, ...), got a tensor without dimensions")
    expected = input.shape[:1] + input.shape[2:] if input.ndim > 1 else ()
    if target.dtype.kind not in "iu":
        nans = int(xp(target).isnan(target.data).sum()) if is_floating(target.dtype) else 0
        found = f"{target.dtype} values" + (f", {nans} of them NaN" if nans else "")
        raise TypeError(
            f"target must hold class indices (integers), got {found}: use target.long() for labels"
            f" (for probabilities target must have the shape of input, {input.shape})"
        )
    if target.shape != expected:
        fix = ""
        if target.shape == input.shape:
            fix = ": for one-hot targets use target.float(), or their indices target.argmax(1)"
        elif target.data.size == math.prod(expected):
            fix = f": use target.reshape({', '.join(map(str, expected))})" if expected else ": use target.reshape(())"
        raise ValueError(f"input {_shape_with_names(input.shape)} needs a target of shape {expected}, got {target.shape}{fix}")
    if not isinstance(ignore_index, (int, np.integer)) or isinstance(ignore_index, bool):
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
    _check_labels(target, _class_count(input), ignore_index)
    _check_weight(input, weight)


def _class_count(input: Tensor) -> int:
    return input.shape[1] if input.ndim > 1 else input.shape[0]


def _check_labels(target: Tensor, count: int, ignore_index: int) -> None:
    """Raise ValueError if a label is neither a class nor ``ignore_index``."""
    if for_array(target.data).check_labels(target.data, count, ignore_index):
        return
    labels = to_numpy(target.data)
    wrong = ((labels < 0) | (labels >= count)) & (labels != ignore_index)
    first = int(wrong.reshape(-1).argmax())
    index = tuple(int(i) for i in np.unravel_index(first, labels.shape))
    value = int(labels.reshape(-1)[first])
    where = f"target[{', '.join(map(str, index))}]" if index else "target"
    kept = labels[labels != ignore_index]
    fix = ": the labels seem to count from 1, use target - 1" if int(kept.min()) == 1 and int(kept.max()) == count else ""
    raise ValueError(
        f"{where} is {value}, but input has {count} classes: labels must be in 0 ... {count - 1}"
        f" (or ignore_index, {ignore_index}){fix}"
    )


def _check_weight(input: Tensor, weight: Tensor | None) -> None:
    if weight is None:
        return
    check_dtypes(input=input, weight=weight)
    count = _class_count(input)
    if weight.shape != (count,):
        raise ValueError(f"weight must have one value for each of the {count} classes, shape ({count},), got {weight.shape}")


def _rows(a):
    """(K,), (N, K) or (N, K, d1, ...) as contiguous rows (M, K), one for each label."""
    if a.ndim > 2:
        a = a.transpose(0, *range(2, a.ndim), 1)  # no copy is needed below if ``a`` lies channels-last
    return a.reshape(-1, a.shape[-1] if a.ndim else 1) if a.size else a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _unrows(rows, shape: tuple[int, ...]):
    """The inverse of ``_rows``: (M, K) in the given shape, with the classes last in memory."""
    if len(shape) < 3:
        return rows.reshape(shape)
    moved = rows.reshape(shape[0], *shape[2:], shape[1])
    return moved.transpose(0, moved.ndim - 1, *range(1, moved.ndim - 1))


def _kept_weight(labels, weight, ignore_index: int):
    """The sum of the weights of all labels that are not ignored: what the mean divides by. On a card it stays there."""
    kept, library = labels != ignore_index, array_module(labels)
    if library is not np:
        factors = kept if weight is None else library.where(kept, weight[library.where(kept, labels, 0)], 0)
        return factors.sum(dtype=np.float64)
    if weight is None:
        return int(np.count_nonzero(kept))
    return float(weight[labels[kept]].sum(dtype=np.float64))


# ---- classification ----------------------------------------------------------------------------------------------------


@op
@quiet
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target]: the loss of a classifier from its logits.

    input: (K,), (N, K) or (N, K, d1, ...). target: class indices (integers) of shape (), (N,) or (N, d1, ...); or probabilities
    (floating) of the shape of ``input``. weight: (K,), a factor for each class. Labels equal to ``ignore_index`` count nothing.
    label_smoothing (0 ... 1): this much of the target is spread over all classes (Szegedy et al. 2016).

    The mean divides by the sum of the weights of the labels that are not ignored (so it is NaN if all are), and for
    probabilities by the number of rows.
    """
    _check_reduction(reduction)
    if isinstance(label_smoothing, bool) or not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in 0 ... 1, got {label_smoothing!r}")
    smoothing = float(label_smoothing)
    if is_floating(check_tensor(target, "target").dtype) and target.shape == check_tensor(input, "input").shape:
        return _cross_entropy_of_probabilities(input, target, weight, ignore_index, reduction, smoothing)
    _check_classes(input, target, weight, ignore_index)
    shape, kernels = input.shape, for_array(input.data)
    logits, w = _rows(input.data), data_of(weight)
    labels = target.data.reshape(-1).astype(np.int64)
    losses, logsumexp = kernels.cross_entropy_forward(logits, labels, w, ignore_index, smoothing)
    divisor = _kept_weight(labels, w, ignore_index) if reduction == "mean" else None
    y = _reduce(losses.reshape(target.shape), reduction, divisor)
    library = xp(input)

    def backward(gy):
        gy = gy / divisor if reduction == "mean" else gy
        glosses = library.empty(losses.shape, losses.dtype)
        glosses[...] = gy.reshape(-1)
        glogits = kernels.cross_entropy_backward(glosses, logits, logsumexp, labels, w, ignore_index, smoothing)
        return _unrows(glogits, shape), None, None

    return record(y, (input, None, None), backward, saves=(input, weight))


def _cross_entropy_of_probabilities(input, target, weight, ignore_index, reduction, smoothing):
    """-sum over k of weight[k] * target[k] * log softmax(input)[k], with the smoothed target."""
    check_devices(input=input, target=target, weight=weight)
    check_dtypes(input=input, target=target)
    if input.ndim == 0:
        raise ValueError("input must be (K,), (N, K) or (N, K, d1, ...), got a tensor without dimensions")
    _check_weight(input, weight)
    if ignore_index >= 0:
        raise ValueError(f"ignore_index={ignore_index} has no meaning for a target of probabilities: leave it out")
    library, shape, count = xp(input), input.shape, _class_count(input)
    logits, t = _rows(input.data), _rows(target.data)
    w = 1.0 if weight is None else weight.data
    share = w * (t * (1 - smoothing) + smoothing / count)  # (M, K)
    z = logits - logits.max(axis=1, keepdims=True)
    log_p = z - library.log(library.exp(z).sum(axis=1, keepdims=True, dtype=np.float64)).astype(z.dtype)
    losses = -(share * log_p).sum(axis=1, dtype=np.float64).astype(logits.dtype)
    rows = losses.size
    needs_target = target.requires_grad

    def backward(gy):
        g = library.broadcast_to(_spread(gy, reduction, rows).reshape(-1), (rows,))[:, None]
        ginput = g * (library.exp(log_p) * share.sum(axis=1, keepdims=True) - share)
        gtarget = _unrows(-g * (1 - smoothing) * w * log_p, shape) if needs_target else None
        return _unrows(ginput, shape), gtarget, None

    kept = shape[:1] + shape[2:] if len(shape) > 1 else ()
    return record(_reduce(losses.reshape(kept), reduction), (input, target, None), backward, saves=(weight,))


@op
@quiet
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-input[target] for log-probabilities: what ``cross_entropy`` computes after a ``log_softmax``.

    Shapes, weight, ignore_index and reduction as in ``cross_entropy``.
    """
    _check_reduction(reduction)
    _check_classes(input, target, weight, ignore_index)
    library, shape = xp(input), input.shape
    rows, labels = _rows(input.data), target.data.reshape(-1).astype(np.int64)
    kept = labels != ignore_index
    chosen, classes = library.arange(len(rows)), library.where(kept, labels, 0)  # of ignored rows one that exists
    factors = library.ones(1, rows.dtype) if weight is None else weight.data[classes]
    zero = rows.dtype.type(0)
    losses = library.where(kept, -factors * rows[chosen, classes], zero) if rows.size else library.zeros(len(rows), rows.dtype)
    divisor = _kept_weight(labels, data_of(weight), ignore_index) if reduction == "mean" else None
    m, dtype = rows.shape, rows.dtype

    def backward(gy):
        gy = library.broadcast_to((gy / divisor if reduction == "mean" else gy).reshape(-1), m[:1])
        grows = library.zeros(m, dtype)
        if grows.size:
            grows[chosen, classes] = library.where(kept, -factors * gy, zero)
        return _unrows(grows, shape), None, None

    return record(_reduce(losses.reshape(target.shape), reduction, divisor), (input, None, None), backward)


# ---- regression --------------------------------------------------------------------------------------------------------


def _pair(input: Tensor, target: Tensor):
    check_dtypes(input=input, target=target)
    check_devices(input=input, target=target)
    _check_same_shape(input, target)
    return input.data - target.data


@op
@quiet
def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(input - target)^2, for tensors of one shape."""
    _check_reduction(reduction)
    d = _pair(input, target)
    needs_input, needs_target = input.requires_grad, target.requires_grad

    def backward(gy):
        g = _spread(2 * gy, reduction, d.size) * d
        return g if needs_input else None, -g if needs_target else None

    return record(_reduce(d * d, reduction), (input, target), backward)


@op
@quiet
def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|input - target|, for tensors of one shape. The derivative at 0 is 0."""
    _check_reduction(reduction)
    d, library = _pair(input, target), xp(input)
    needs_input, needs_target = input.requires_grad, target.requires_grad

    def backward(gy):
        g = _spread(gy, reduction, d.size) * library.sign(d)
        return g if needs_input else None, -g if needs_target else None

    return record(_reduce(library.abs(d), reduction), (input, target), backward)


@op
@quiet
def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """With d = input - target: d^2 / 2 where |d| <= delta, else delta * (|d| - delta / 2) (Huber 1964)."""
    _check_reduction(reduction)
    if not delta > 0:
        raise ValueError(f"delta must be larger than 0, got {delta!r}")
    d, library, delta = _pair(input, target), xp(input), float(delta)
    needs_input, needs_target = input.requires_grad, target.requires_grad
    size = library.abs(d)

    def backward(gy):
        g = _spread(gy, reduction, d.size) * library.minimum(library.maximum(d, -delta), delta)
        return g if needs_input else None, -g if needs_target else None

    losses = library.where(size <= delta, 0.5 * d * d, delta * (size - 0.5 * delta))
    return record(_reduce(losses, reduction), (input, target), backward)


@op
@quiet
def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """With d = input - target: d^2 / (2 beta) where |d| < beta, else |d| - beta / 2 (Girshick 2015); beta = 0 is ``l1_loss``."""
    _check_reduction(reduction)
    if not beta >= 0:
        raise ValueError(f"beta must be at least 0, got {beta!r}")
    if beta == 0:
        return l1_loss(input, target, reduction)
    d, library, beta = _pair(input, target), xp(input), float(beta)
    needs_input, needs_target = input.requires_grad, target.requires_grad
    size = library.abs(d)

    def backward(gy):
        g = _spread(gy, reduction, d.size) * library.minimum(library.maximum(d / beta, -1), 1)
        return g if needs_input else None, -g if needs_target else None

    losses = library.where(size < beta, 0.5 * d * d / beta, size - 0.5 * beta)
    return record(_reduce(losses, reduction), (input, target), backward)


# ---- probabilities -----------------------------------------------------------------------------------------------------


def _factor(input: Tensor, factor: Tensor | None, name: str):
    """The array of an optional factor that broadcasts to ``input``; None stays None."""
    if factor is None:
        return None
    check_dtypes(input=input, **{name: factor})
    check_devices(input=input, **{name: factor})
    lengths = zip(factor.shape[::-1], input.shape[::-1], strict=False)
    if factor.ndim > input.ndim or not all(m in (1, n) for m, n in lengths):
        raise ValueError(f"{name} must broadcast to the shape of input, {input.shape}, got {factor.shape}")
    return factor.data


@op
@quiet
def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)) for probabilities ``input`` in 0 ... 1.

    Both logarithms are cut off at -100, so that an impossible event costs 100 and not infinity. ``target`` (of the shape of
    ``input``) is usually 0 or 1; ``weight`` broadcasts to it. From logits, ``binary_cross_entropy_with_logits`` is more accurate.
    """
    _check_reduction(reduction)
    _pair(input, target)
    w, library, a, t = _factor(input, weight, "weight"), xp(input), input.data, target.data
    wrong = (a < 0) | (a > 1)
    if wrong.any():
        value = float(a[wrong][0])
        raise ValueError(
            f"input must hold probabilities in 0 ... 1, got {value:g}: pass logits to binary_cross_entropy_with_logits"
        )
    log_p, log_q = library.maximum(library.log(a), -100), library.maximum(library.log1p(-a), -100)
    losses = -(t * log_p + (1 - t) * log_q)
    needs_input, needs_target = input.requires_grad, target.requires_grad

    def backward(gy):
        g = _spread(gy, reduction, a.size)
        g = g if w is None else g * w
        ginput = g * ((a - t) / library.maximum(a * (1 - a), 1e-12)) if needs_input else None
        return ginput, g * (log_q - log_p) if needs_target else None, None

    losses = losses if w is None else losses * w
    return record(_reduce(losses, reduction), (input, target, None), backward, saves=(input, target, weight))


@op
@quiet
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """``binary_cross_entropy`` of sigmoid(input), without the overflow of computing one after the other.

    ``target`` has the shape of ``input``; ``weight`` and ``pos_weight`` (the factor of positive examples) broadcast to it.
    """
    _check_reduction(reduction)
    _pair(input, target)
    w, positive = _factor(input, weight, "weight"), _factor(input, pos_weight, "pos_weight")
    library, x, t = xp(input), input.data, target.data
    # -log sigmoid(x), and -log(1 - sigmoid(x)) which is x more
    cost = library.maximum(-x, 0) + library.log1p(library.exp(-library.abs(x)))
    share = 1 if positive is None else 1 + (positive - 1) * t
    losses = (1 - t) * x + share * cost
    needs_input, needs_target = input.requires_grad, target.requires_grad

    def backward(gy):
        g = _spread(gy, reduction, x.size)
        g = g if w is None else g * w
        ginput = g * ((1 - t) - share / (1 + library.exp(x))) if needs_input else None
        gtarget = g * (-x if positive is None else (positive - 1) * cost - x) if needs_target else None
        return ginput, gtarget, None, None

    losses = losses if w is None else losses * w
    return record(_reduce(losses, reduction), (input, target, None, None), backward, saves=(input, target, weight, pos_weight))


@op
@quiet
def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target * (log(target) - input): the divergence of ``target`` from the log-probabilities ``input``, element by element.

    ``log_target=True``: ``target`` holds log-probabilities too. Besides the other reductions "batchmean" divides the sum by the
    length of the first dimension, which is the divergence by its definition; "mean" divides by the number of elements.
    """
    _check_reduction(reduction, "batchmean")
    _pair(input, target)
    library, x, t = xp(input), input.data, target.data
    p = library.exp(t) if log_target else t
    log_t = t if log_target else library.log(library.where(t == 0, 1, t))
    losses = p * (log_t - x)
    divisor = {"mean": x.size, "batchmean": x.shape[0] if x.ndim else 1}.get(reduction, 1)
    needs_input, needs_target = input.requires_grad, target.requires_grad

    def backward(gy):
        g = gy / divisor
        gtarget = None
        if needs_target:
            gtarget = g * (p * (log_t - x + 1) if log_target else library.where(t == 0, 0, log_t - x + 1))
        return -g * p if needs_input else None, gtarget

    y = losses if reduction == "none" else (losses.sum(dtype=np.float64) / (divisor or math.nan)).astype(x.dtype)
    return record(y, (input, target), backward, saves=(input, target))
