"""Rows for minigrad/ops/normalization.py."""

from __future__ import annotations

import numpy as np

from tests.ops import references
from tests.ops.case import Case, Error, const


def affine(*shape: int):
    """x, weight and bias per channel."""
    return lambda d: (d.normal(*shape) * 2 + 1, d.positive(shape[1]), d.normal(shape[1]))


def with_statistics(statistics):
    """PyTorch's normalization with the mean and variance that ours returns too."""

    def function(torch, x, weight=None, bias=None, eps=1e-5):
        axes = (0, *range(2, x.ndim)) if statistics == "batch" else tuple(range(2, x.ndim))
        normalize = torch.nn.functional.batch_norm if statistics == "batch" else torch.nn.functional.instance_norm
        flags = {"training": True} if statistics == "batch" else {"use_input_stats": True}
        y = normalize(x, None, None, weight, bias, eps=eps, **flags)
        return y, x.mean(axes).detach(), x.var(axes, unbiased=False).detach()

    return function


def training(op: str, id: str, args, statistics: str, **options) -> Case:
    return Case(op, id, args, getattr(references, op), torch=with_statistics(statistics), scale="output", ulp=16, **options)


def inference(torch, x, mean, var, weight=None, bias=None, eps=1e-5):
    return torch.nn.functional.batch_norm(x, mean, var, weight, bias, False, eps=eps)


def group(id: str, shape: tuple, groups: int, parameters: bool = True) -> Case:
    def args(d):
        x, weight, bias = affine(*shape)(d)
        return (x, groups, weight, bias) if parameters else (x, groups)

    return Case("group_norm", id, args, references.group_norm, torch="nn.functional.group_norm", scale="output", ulp=16)


def layer(id: str, shape: tuple, normalized: tuple | int, parameters: bool = True) -> Case:
    def args(d):
        own = normalized if isinstance(normalized, tuple) else (normalized,)
        return d.normal(*shape) + 3, normalized, *((d.positive(*own), d.normal(*own)) if parameters else ())

    def torch_layer_norm(torch, x, normalized_shape, *parameters):
        own = normalized_shape if isinstance(normalized_shape, tuple) else (normalized_shape,)
        return torch.nn.functional.layer_norm(x, own, *parameters)

    return Case("layer_norm", id, args, references.layer_norm, torch=torch_layer_norm, scale="output", ulp=16)


CASES = [
    training("batch_norm_training", "images", affine(3, 4, 3, 5), "batch"),
    training("batch_norm_training", "rows", affine(6, 3), "batch"),
    training("batch_norm_training", "3 dimensions", affine(3, 2, 5), "batch"),
    training("batch_norm_training", "17 channels", affine(2, 17, 2, 2), "batch"),
    training("batch_norm_training", "without parameters", lambda d: (d.normal(3, 2, 4, 4),), "batch"),
    training("batch_norm_training", "one image", affine(1, 3, 4, 4), "batch"),
    training("batch_norm_training", "large eps", lambda d: (*affine(2, 3, 3, 3)(d), {"eps": 0.5}), "batch"),
    Case("batch_norm_training", "large mean", lambda d: (d.uniform(4094, 4098, 4, 2, 5, 5),), references.batch_norm_training,
         torch=with_statistics("batch"), scale="output", ulp=2**12 * 16, gradient_ulp=2**14,
         why="float32 holds values around 4096 to 2^-12 of the deviation only"),
    training("instance_norm_training", "images", affine(2, 3, 4, 5), "instance"),
    training("instance_norm_training", "without parameters", lambda d: (d.normal(2, 3, 3, 3),), "instance"),
    training("instance_norm_training", "3 dimensions", affine(2, 3, 7), "instance"),
    Case("instance_norm_training", "empty batch", affine(0, 3, 4, 4), references.instance_norm_training),
    Case("batch_norm_inference", "images",
         lambda d: (d.normal(2, 3, 4, 5), const(d.normal(3)), const(d.positive(3)), d.positive(3),
         d.normal(3)), references.batch_norm_inference, torch=inference, scale="output"),
    Case("batch_norm_inference", "without parameters", lambda d: (d.normal(4, 3), const(d.normal(3)), const(d.positive(3))),
         references.batch_norm_inference, torch=inference, scale="output"),
    Case("batch_norm_inference", "empty batch", lambda d: (d.normal(0, 3, 2, 2), const(d.normal(3)), const(d.positive(3))),
         references.batch_norm_inference, torch=inference, scale="output"),
    group("two groups", (2, 6, 3, 4), 2),
    group("one group", (2, 4, 3, 3), 1),
    group("as many groups as channels", (2, 4, 3, 3), 4),
    group("without parameters", (2, 6, 3, 3), 3, parameters=False),
    group("rows", (3, 8), 2),
    group("empty batch", (0, 4, 3, 3), 2),
    layer("last dimension", (2, 5, 6), 6),
    layer("images", (2, 3, 4, 5), (3, 4, 5)),
    layer("last two dimensions", (2, 3, 4, 5), (4, 5)),
    layer("without parameters", (4, 7), 7, parameters=False),
    Case("local_response_norm", "images", lambda d: (d.normal(2, 7, 3, 3), 5, {"alpha": 0.5}), references.local_response_norm,
         torch="nn.functional.local_response_norm", scale="output"),
    Case("local_response_norm", "even size", lambda d: (d.normal(1, 6, 2, 3), 4, {"alpha": 0.3, "beta": 0.5, "k": 2.0}),
         references.local_response_norm, torch="nn.functional.local_response_norm", scale="output"),
    Case("local_response_norm", "wider than the channels", lambda d: (d.normal(1, 3, 2, 2), 9, {"alpha": 1.0}),
         references.local_response_norm, torch="nn.functional.local_response_norm", scale="output"),
    Case("local_response_norm", "3 dimensions", lambda d: (d.normal(2, 5, 4), 3, {"alpha": 1.0}),
         references.local_response_norm, torch="nn.functional.local_response_norm", scale="output"),
    Case("local_response_norm_paper", "images", lambda d: (d.normal(2, 7, 3, 3), 5, {"alpha": 0.2}),
         references.local_response_norm_paper, scale="output"),
    Case("local_response_norm_paper", "published constants", lambda d: (20 * d.normal(1, 8, 2, 2),),
         references.local_response_norm_paper, scale="output"),
]  # fmt: skip


def _wrong_affine(op: str) -> list[Error]:
    return [
        Error(op, "one dimension", lambda d: (d.normal(3),), ValueError, "x must have at least 2 dimensions"),
        Error(op, "weight", lambda d: (d.normal(2, 3, 4, 4), d.normal(2)), ValueError, r"weight must have shape \(3,\)"),
        Error(op, "bias", lambda d: (d.normal(2, 3, 4, 4), None, d.normal(4)), ValueError, r"bias must have shape \(3,\)"),
        Error(op, "eps", lambda d: (d.normal(2, 3, 4, 4), {"eps": -1.0}), ValueError, "eps must be a number of at least 0"),
        Error(op, "integers", lambda d: (d.integers(0, 9, 2, 3, 4, 4),), TypeError, "x must hold floating-point numbers"),
        Error(op, "one value", lambda d: (d.normal(1, 3, 1, 1),), ValueError, "has no variance"),
    ]


ERRORS = [
    *_wrong_affine("batch_norm_training"),
    *_wrong_affine("instance_norm_training"),
    Error("batch_norm_training", "empty batch", lambda d: (d.normal(0, 3, 4, 4),), ValueError, "x of shape"),
    Error("batch_norm_inference", "mean", lambda d: (d.normal(2, 3), d.normal(2), d.positive(3)), ValueError,
          "mean must have shape"),
    Error("batch_norm_inference", "var", lambda d: (d.normal(2, 3), d.normal(3), d.positive(3, 1)), ValueError,
          "var must have shape"),
    Error("batch_norm_inference", "mean missing", lambda d: (d.normal(2, 3), None, None), TypeError, "mean must be a Tensor"),
    Error("group_norm", "groups do not divide", lambda d: (d.normal(2, 6, 3, 3), 4), ValueError,
          "num_groups .* divides the 6 channels"),
    Error("group_norm", "groups 0", lambda d: (d.normal(2, 6, 3, 3), 0), ValueError, "num_groups must be a positive integer"),
    Error("group_norm", "weight", lambda d: (d.normal(2, 4, 3, 3), 2, d.normal(2)), ValueError, r"weight must have shape \(4,\)"),
    Error("group_norm", "one value", lambda d: (d.normal(2, 4), 4), ValueError, "has no variance"),
    Error("layer_norm", "shape", lambda d: (d.normal(2, 5), 4), ValueError,
          r"normalized_shape \(4,\) must be the last dimensions"),
    Error("layer_norm", "weight", lambda d: (d.normal(2, 5), 5, d.normal(4)), ValueError, r"weight must have the shape \(5,\)"),
    Error("layer_norm", "list", lambda d: ([1.0, 2.0], 2), TypeError, "x must be a Tensor"),
    Error("layer_norm", "no dimensions", lambda d: (d.normal(2, 5), ()), ValueError, "normalized_shape"),
    *(error for op in ("local_response_norm", "local_response_norm_paper") for error in (
        Error(op, "size 0", lambda d: (d.normal(1, 3, 2, 2), 0), ValueError, "size must be a positive number of channels"),
        Error(op, "two dimensions", lambda d: (d.normal(3, 2), 3), ValueError, "x must have at least 3 dimensions"),
        Error(op, "alpha", lambda d: (d.normal(1, 3, 2, 2), 3, {"alpha": "1"}), TypeError, "alpha must be a number"),
        Error(op, "integers", lambda d: (np.ones((1, 3, 2, 2), np.int64), 3), TypeError, "x must hold floating-point numbers"),
    )),
]  # fmt: skip
