"""Rows for minigrad/ops/losses.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.ops.case import Case, Draw, Error, const

# ---- references --------------------------------------------------------------------------------------------------------


def reduced(losses, reduction: str, divisor=None):
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.sum() / (losses.size if divisor is None else divisor)


def log_softmax(x, axis):
    z = x - x.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """One row at a time, with the smoothed target as a vector of probabilities."""
    axis = min(1, input.ndim - 1)
    rows = np.moveaxis(log_softmax(input, axis), axis, -1)
    k = rows.shape[-1]
    w = np.ones(k) if weight is None else weight
    places = rows.shape[:-1]
    losses, total = np.zeros(places), 0.0
    by_class = target.dtype.kind != "f"
    probabilities = None if by_class else np.moveaxis(target, axis, -1)
    for at in np.ndindex(places):
        if by_class and target[at] == ignore_index:
            continue
        hard = np.eye(k)[target[at]] if by_class else probabilities[at]
        soft = (1 - label_smoothing) * hard + label_smoothing / k
        counted = soft != 0 if by_class else slice(None)  # the weights of other classes are not even looked at
        losses[at] = -(w * soft * rows[at])[counted].sum()
        total += w[target[at]] if by_class else 1
    with np.errstate(invalid="ignore"):
        return reduced(losses, reduction, np.float64(total))


def nll_loss(input, target, weight=None, ignore_index=-100, reduction="mean"):
    rows = np.moveaxis(input, min(1, input.ndim - 1), -1)
    w = np.ones(rows.shape[-1]) if weight is None else weight
    losses, total = np.zeros(rows.shape[:-1]), 0.0
    for at in np.ndindex(rows.shape[:-1]):
        if target[at] != ignore_index:
            losses[at] = -w[target[at]] * rows[at][target[at]]
            total += w[target[at]]
    return reduced(losses, reduction, np.float64(total))


def elementwise(loss: Callable) -> Callable:
    def function(input, target, reduction="mean", **kwargs):
        return reduced(loss(input, target, **kwargs), reduction)

    return function


mse_loss = elementwise(lambda x, z: (x - z) ** 2)
l1_loss = elementwise(lambda x, z: np.abs(x - z))


@elementwise
def huber_loss(x, z, delta=1.0):
    d = np.abs(x - z)
    return np.where(d <= delta, d * d / 2, delta * (d - delta / 2))


@elementwise
def smooth_l1_loss(x, z, beta=1.0):
    d = np.abs(x - z)
    return np.where(d < beta, d * d / (2 * beta) if beta else d, d - beta / 2)


@elementwise
def binary_cross_entropy(p, z, weight=1.0):
    with np.errstate(divide="ignore"):
        yes, no = np.log(p), np.log(1 - p)
    yes, no = np.where(yes < -100, -100, yes), np.where(no < -100, -100, no)
    return -weight * (z * yes + (1 - z) * no)


@elementwise
def binary_cross_entropy_with_logits(x, z, weight=1.0, pos_weight=1.0):
    return weight * (pos_weight * z * np.logaddexp(0, -x) + (1 - z) * np.logaddexp(0, x))


def kl_div(input, target, reduction="mean", log_target=False):
    p = np.exp(target) if log_target else target
    log_p = target if log_target else np.log(np.where(target == 0, 1, target))
    losses = p * (log_p - input)
    return reduced(losses, "mean" if reduction == "batchmean" else reduction, len(input) if reduction == "batchmean" else None)


# ---- rows --------------------------------------------------------------------------------------------------------------


def by_class(op: str, reference: Callable, id: str, x: tuple, labels: Callable | None = None, weights: bool = False,
             **kwargs) -> Case:  # fmt: skip
    """A loss of class indices for input of shape ``x``; ``labels(target)`` changes some of them."""

    def args(d: Draw) -> tuple:
        k = x[1] if len(x) > 1 else x[0]
        target = d.integers(0, k, *x[:1], *x[2:]) if len(x) > 1 else d.integers(0, k)
        target = target if labels is None else labels(target.copy())
        return d.normal(*x) * 2, target, {**({"weight": const(d.positive(k))} if weights else {}), **kwargs}

    return Case(op, id, args, reference, torch=f"nn.functional.{op}", scale="output", ulp=16)


def some(label: int) -> Callable:
    """Every third label (in the order of memory) becomes ``label``."""

    def change(target):
        target.flat[::3] = label
        return target

    return change


def every(label: int) -> Callable:
    return lambda target: np.full_like(target, label)


def class_rows(op: str, reference: Callable) -> list[Case]:
    return [
        by_class(op, reference, "rows", (5, 4)),
        by_class(op, reference, "one row", (4,)),
        by_class(op, reference, "sum", (5, 4), reduction="sum"),
        by_class(op, reference, "none", (5, 4), reduction="none"),
        by_class(op, reference, "images", (2, 3, 4, 5)),
        by_class(op, reference, "images none", (2, 3, 4, 5), reduction="none"),
        by_class(op, reference, "3 dimensions with weights", (2, 3, 4), weights=True, reduction="sum"),
        by_class(op, reference, "weights", (6, 4), weights=True),
        by_class(op, reference, "ignored", (6, 4), labels=some(-100)),
        by_class(op, reference, "another ignored label with weights", (6, 4), labels=some(2), weights=True, ignore_index=2),
        by_class(op, reference, "all ignored sum", (3, 4), labels=every(-100), reduction="sum"),
        by_class(op, reference, "one class", (3, 1)),
        by_class(op, reference, "no rows", (0, 3), reduction="sum"),
        Case(op, "all ignored", lambda d: (const(d.normal(3, 4)), np.full(3, -100)), reference, torch=f"nn.functional.{op}"),
    ]


def probabilities(id: str, x: tuple, weights: bool = False, **kwargs) -> Case:
    def args(d: Draw) -> tuple:
        axis = min(1, len(x) - 1)
        target = d.positive(*x)
        target = target / target.sum(axis=axis, keepdims=True)
        return d.normal(*x) * 2, target, {**({"weight": const(d.positive(x[axis]))} if weights else {}), **kwargs}

    return Case("cross_entropy", f"probabilities {id}", args, cross_entropy, torch="nn.functional.cross_entropy", scale="output",
                ulp=16)  # fmt: skip


def pairs(op: str, reference: Callable, id: str, args: Callable, **options) -> list[Case]:
    """An elementwise loss with every reduction."""

    def reduced_args(reduction: str):
        def with_reduction(d: Draw) -> tuple:
            found = args(d)
            given, kwargs = (found[:-1], found[-1]) if isinstance(found[-1], dict) else (found, {})
            return *given, {**kwargs, "reduction": reduction}

        return with_reduction

    reductions = ("mean", "sum", "none", *(["batchmean"] if op == "kl_div" else []))
    return [
        Case(op, f"{id} {reduction}", reduced_args(reduction), reference, torch=f"nn.functional.{op}", scale="output", ulp=16,
             **options)
        for reduction in reductions
    ]  # fmt: skip


def two(d: Draw) -> tuple:
    """Two tensors whose differences are at least 0.1 away from 0, 0.5 and 1."""
    z = d.normal(3, 4)
    return z + d.away(3, 4, points=(-1, -0.5, 0, 0.5, 1)), z


def events(d: Draw) -> tuple:
    return d.uniform(0.05, 0.95, 3, 4), d.uniform(0, 1, 3, 4)


def logits(d: Draw) -> tuple:
    return d.normal(3, 4) * 3, d.uniform(0, 1, 3, 4)


def distributions(d: Draw) -> tuple:
    q, p = d.positive(3, 4), d.positive(3, 4)
    return np.log(q / q.sum(axis=1, keepdims=True)), p / p.sum(axis=1, keepdims=True)


CERTAIN = np.array([0.0, 1.0, 0.0, 1.0, 0.5]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])

CASES = [
    *class_rows("cross_entropy", cross_entropy),
    by_class("cross_entropy", cross_entropy, "smoothing", (5, 4), label_smoothing=0.1),
    by_class("cross_entropy", cross_entropy, "smoothing, weights, ignored images", (2, 3, 3, 2), labels=some(-100), weights=True,
             label_smoothing=0.3),
    by_class("cross_entropy", cross_entropy, "all smoothing", (5, 4), label_smoothing=1.0),
    Case("cross_entropy", "large logits", lambda d: (np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 9999.0]]), np.array([1, 1])),
         cross_entropy, torch="nn.functional.cross_entropy", scale="output"),
    Case("cross_entropy", "int32 labels", lambda d: (d.normal(3, 4), np.array([1, 0, 3], np.int32)), cross_entropy,
         scale="output", ulp=16),
    probabilities("rows", (5, 4)),
    probabilities("one row", (4,)),
    probabilities("images", (2, 3, 2, 4)),
    probabilities("sum with weights", (5, 4), weights=True, reduction="sum"),
    probabilities("mean with weights and smoothing", (5, 4), weights=True, label_smoothing=0.2),
    probabilities("none", (2, 3, 4), reduction="none"),
    *class_rows("nll_loss", nll_loss),
    *pairs("mse_loss", mse_loss, "rows", two),
    *pairs("l1_loss", l1_loss, "rows", two, step=1e-2),
    *pairs("huber_loss", huber_loss, "rows", two, step=1e-2),
    *pairs("huber_loss", huber_loss, "delta", lambda d: (*two(d), {"delta": 0.5}), step=1e-2),
    *pairs("smooth_l1_loss", smooth_l1_loss, "rows", two, step=1e-2),
    *pairs("smooth_l1_loss", smooth_l1_loss, "beta", lambda d: (*two(d), {"beta": 0.5}), step=1e-2),
    Case("smooth_l1_loss", "beta 0", lambda d: (*two(d), {"beta": 0.0}), smooth_l1_loss, torch="nn.functional.smooth_l1_loss",
         scale="output", step=1e-2),
    *(Case(op, "no difference", lambda d: (np.ones(3), np.ones(3)), reference, torch=f"nn.functional.{op}", kink=True)
      for op, reference in (("mse_loss", mse_loss), ("l1_loss", l1_loss), ("huber_loss", huber_loss),
                            ("smooth_l1_loss", smooth_l1_loss))),
    *(Case(op, "images", lambda d: (d.normal(2, 3, 2, 4), d.normal(2, 3, 2, 4), {"reduction": "none"}), reference,
           torch=f"nn.functional.{op}", scale="output") for op, reference in (("mse_loss", mse_loss),)),
    Case("mse_loss", "0-d", lambda d: (d.normal(), d.normal()), mse_loss, torch="nn.functional.mse_loss", scale="output"),
    *pairs("binary_cross_entropy", binary_cross_entropy, "rows", events),
    *pairs("binary_cross_entropy", binary_cross_entropy, "weight", lambda d: (*events(d), {"weight": const(d.positive(4))})),
    Case("binary_cross_entropy", "certain", lambda d: (CERTAIN[0], const(CERTAIN[1]), {"reduction": "none"}),
         binary_cross_entropy, torch="nn.functional.binary_cross_entropy", kink=True,
         torch_tolerance=1e-7),  # PyTorch's 1e-12 is a float32 number in float64 too
    *pairs("binary_cross_entropy_with_logits", binary_cross_entropy_with_logits, "rows", logits),
    *pairs("binary_cross_entropy_with_logits", binary_cross_entropy_with_logits, "weights",
           lambda d: (*logits(d), {"weight": const(d.positive(3, 1)), "pos_weight": const(d.positive(4))})),
    Case("binary_cross_entropy_with_logits", "large",
         lambda d: (np.array([1e4, -1e4, 1e4, 0.0]), np.array([1.0, 1.0, 0.0, 0.0]), {"reduction": "none"}),
         binary_cross_entropy_with_logits, torch="nn.functional.binary_cross_entropy_with_logits", step=1e-4),
    *pairs("kl_div", kl_div, "rows", distributions),
    *pairs("kl_div", kl_div, "log target", lambda d: (d.normal(3, 4), d.normal(3, 4), {"log_target": True})),
    Case("kl_div", "zero probability", lambda d: (d.normal(1, 3), const(np.array([[0.0, 0.5, 0.5]])), {"reduction": "none"}),
         kl_div, torch="nn.functional.kl_div", scale="output"),
]  # fmt: skip


def labelled(*labels, shape: tuple = (3, 4), **kwargs) -> Callable:
    return lambda d: (d.normal(*shape), np.array(labels), kwargs)


ERRORS = [
    *(error for op in ("cross_entropy", "nll_loss") for error in (
        Error(op, "label too large", labelled(0, 4, 9), ValueError,
              r"target\[1\] is 4, but input has 4 classes: labels must be in 0 \.\.\. 3"),
        Error(op, "labels from 1", labelled(1, 4, 2), ValueError, "count from 1, use target - 1"),
        Error(op, "negative label", labelled(0, 1, -1), ValueError, r"target\[2\] is -1"),
        Error(op, "label in an image", lambda d: (d.normal(1, 2, 2, 2), np.array([[[0, 1], [5, 0]]])), ValueError,
              r"target\[0, 1, 0\] is 5"),
        Error(op, "NaN labels", labelled(0, np.nan, 1), TypeError, "integers.*got float32 values, 1 of them NaN"),
        Error(op, "labels too few", labelled(0, 1), ValueError, r"input \(N=3, K=4\) needs a target of shape \(3,\), got \(2,\)"),
        Error(op, "column of labels", lambda d: (d.normal(3, 4), d.integers(0, 4, 3, 1)), ValueError, r"use target.reshape\(3\)"),
        Error(op, "one-hot integers", lambda d: (d.normal(3, 4), np.eye(3, 4, dtype=np.int64)), ValueError, "target.argmax"),
        Error(op, "image with labels for rows", lambda d: (d.normal(2, 3, 4, 5), d.integers(0, 3, 2)), ValueError,
              r"input \(N=2, K=3, d1=4, d2=5\) needs a target of shape \(2, 4, 5\)"),
        Error(op, "no dimensions", lambda d: (d.normal(), d.integers(0, 1)), ValueError, "without dimensions"),
        Error(op, "reduction", labelled(0, 1, 2, reduction="avg"), ValueError, "reduction must be one of 'mean', 'sum', 'none'"),
        Error(op, "weight", lambda d: (d.normal(3, 4), d.integers(0, 4, 3), d.positive(3)), ValueError, "each of the 4 classes"),
        Error(op, "weight of integers", lambda d: (d.normal(3, 4), d.integers(0, 4, 3), d.integers(0, 4, 4)), TypeError,
              "weight must hold floating-point numbers"),
        Error(op, "ignore_index", labelled(0, 1, 2, ignore_index=None), TypeError, "ignore_index must be an integer"),
        Error(op, "list", lambda d: (d.normal(3, 4), [0, 1, 2]), TypeError, "target must be a Tensor, got list"),
        Error(op, "integers", lambda d: (d.integers(0, 9, 3, 4), d.integers(0, 4, 3)), TypeError, "input must hold"),
    )),
    Error("cross_entropy", "smoothing", labelled(0, 1, 2, label_smoothing=1.5), ValueError, "label_smoothing must be in 0"),
    Error("cross_entropy", "probabilities with an ignored class",
          lambda d: (d.normal(3, 4), d.positive(3, 4), {"ignore_index": 0}), ValueError, "no meaning for a target of probab"),
    *(error for op in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy",
                       "binary_cross_entropy_with_logits", "kl_div") for error in (
        Error(op, "shapes", lambda d: (d.uniform(0, 1, 3, 1), d.uniform(0, 1, 3)), ValueError,
              r"got input \(3, 1\) and target \(3,\): use target.reshape\(3, 1\)"),
        Error(op, "reduction", lambda d: (d.uniform(0, 1, 3), d.uniform(0, 1, 3), {"reduction": "batch"}), ValueError,
              "reduction must be one of"),
        Error(op, "integers", lambda d: (d.uniform(0, 1, 3), d.integers(0, 2, 3)), TypeError, r"use target.float\(\)"),
        Error(op, "list", lambda d: ([1.0], d.normal(1)), TypeError, "input must be a Tensor, got list"),
    )),
    Error("huber_loss", "delta", lambda d: (d.normal(3), d.normal(3), {"delta": 0.0}), ValueError, "delta must be larger than 0"),
    Error("smooth_l1_loss", "beta", lambda d: (d.normal(3), d.normal(3), {"beta": -1.0}), ValueError, "beta must be at least 0"),
    Error("binary_cross_entropy", "logits", lambda d: (np.array([0.5, 1.5]), np.array([0.0, 1.0])), ValueError,
          "probabilities in 0 ... 1, got 1.5: pass logits to binary_cross_entropy_with_logits"),
    *(Error(op, "weight", lambda d: (d.uniform(0, 1, 2, 3), d.uniform(0, 1, 2, 3), d.positive(2)), ValueError,
            r"weight must broadcast to the shape of input, \(2, 3\), got \(2,\)")
      for op in ("binary_cross_entropy", "binary_cross_entropy_with_logits")),
]  # fmt: skip
