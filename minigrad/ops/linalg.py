"""Products of vectors and matrices: matmul and its special cases, linear layers, outer and inner products."""

from __future__ import annotations

import math

import numpy as np

from minigrad.device import array_module, is_floating
from minigrad.kernels import for_array
from minigrad.ops._base import check_alike, check_devices, check_tensor, data_of, op, quiet, record, unbroadcast
from minigrad.tensor import Tensor

__all__ = ["bmm", "dot", "linear", "matmul", "mm", "mv", "outer"]


def _check_pair(**tensors: Tensor) -> None:
    """Both are tensors of one dtype on one device (integers are allowed: without a gradient)."""
    (a_name, a), (b_name, b) = tensors.items()
    check_tensor(a, a_name)
    check_tensor(b, b_name)
    check_devices(**tensors)
    if a.dtype != b.dtype:
        raise TypeError(f"both tensors must have one dtype, but {a_name} is {a.dtype} and {b_name} is {b.dtype}: convert one")


def _check_dims(t: Tensor, ndim: int, name: str) -> None:
    if check_tensor(t, name).ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' if ndim > 1 else ''}, got shape {t.shape}: matmul takes any")


# ---- products ----------------------------------------------------------------------------------------------------------


@op
@quiet
def matmul(x: Tensor, other: Tensor) -> Tensor:
    """The matrix product x @ other over the last two dimensions; the ones before are broadcast.

    (n, k) @ (k, m) gives (n, m); a vector on the left counts as a row, one on the right as a column, and that dimension is
    dropped from the result: (k) @ (k, m) gives (m), (n, k) @ (k) gives (n), (k) @ (k) gives a number.
    """
    _check_pair(x=x, other=other)
    if not x.ndim or not other.ndim:
        raise ValueError(f"both tensors need at least 1 dimension, got shapes {x.shape} and {other.shape}: use *")
    a = x.array if x.ndim > 1 else x.array[None, :]
    b = other.array if other.ndim > 1 else other.array[:, None]
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(
            f"shapes {x.shape} and {other.shape} do not fit: the rows of x are {a.shape[-1]} long, "
            f"the columns of other {b.shape[-2]}"
        )
    if any(m != n and 1 not in (m, n) for m, n in zip(a.shape[-3::-1], b.shape[-3::-1], strict=False)):
        raise ValueError(f"the leading dimensions of shapes {x.shape} and {other.shape} do not broadcast")
    y = _product(a, b)
    full = y.shape
    if x.ndim == 1:
        y = y[..., 0, :]
    if other.ndim == 1:
        y = y[..., 0]
    needs_x, needs_other, x_shape, other_shape = x.requires_grad, other.requires_grad, x.shape, other.shape

    def backward(gy):
        gy, gx, gother = gy.reshape(full), None, None
        if needs_x:
            gx = unbroadcast(_product(gy, b.swapaxes(-1, -2)), a.shape).reshape(x_shape)
        if needs_other:
            if b.ndim == 2 and a.ndim > 2:  # one large product instead of many small ones and a sum
                gother = _product(a.reshape(-1, a.shape[-1]).T, gy.reshape(-1, gy.shape[-1]))
            else:
                gother = unbroadcast(_product(a.swapaxes(-1, -2), gy), b.shape)
            gother = gother.reshape(other_shape)
        return gx, gother

    return record(y, (x, other), backward, saves=(x if needs_other else None, other if needs_x else None))


def _product(a, b):
    """a @ b for arrays of at least two dimensions; (..., n, k) @ (k, m) as one product of (... * n, k) and (k, m)."""
    if (a.dtype.kind != "f" and not is_floating(a.dtype)) or not a.size or not b.size:
        return a @ b
    if a.dtype.itemsize < 4 and isinstance(a, np.ndarray):  # no kernel of the processor computes with these
        return a @ b
    kernels = for_array(a)
    if b.ndim == 2:
        return kernels.matmul(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    library = array_module(a)
    stacks = (library.broadcast_to(x, lead + x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (a, b))
    return kernels.matmul(*stacks).reshape(*lead, a.shape[-2], b.shape[-1])


@op
def mm(x: Tensor, other: Tensor) -> Tensor:
    """The product of two matrices, (n, k) and (k, m)."""
    _check_dims(x, 2, "x")
    _check_dims(other, 2, "other")
    return matmul(x, other)


@op
def bmm(x: Tensor, other: Tensor) -> Tensor:
    """The products of two stacks of matrices of equal length, (b, n, k) and (b, k, m)."""
    _check_dims(x, 3, "x")
    _check_dims(other, 3, "other")
    if x.shape[0] != other.shape[0]:
        raise ValueError(f"both stacks must be equally long, got shapes {x.shape} and {other.shape}")
    return matmul(x, other)


@op
def mv(x: Tensor, other: Tensor) -> Tensor:
    """The product of a matrix (n, k) and a vector (k)."""
    _check_dims(x, 2, "x")
    _check_dims(other, 1, "other")
    return matmul(x, other)


@op
def dot(x: Tensor, other: Tensor) -> Tensor:
    """The inner product of two vectors of equal length: a number."""
    _check_dims(x, 1, "x")
    _check_dims(other, 1, "other")
    return matmul(x, other)


@op
def outer(x: Tensor, other: Tensor) -> Tensor:
    """The matrix (n, m) of the products of the elements of two vectors, (n) and (m)."""
    _check_dims(x, 1, "x")
    _check_dims(other, 1, "other")
    return matmul(x.reshape(-1, 1), other.reshape(1, -1))


# ---- linear layers -----------------------------------------------------------------------------------------------------


@op
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + b: x (..., in), weight (out, in), bias (out) or None give (..., out)."""
    check_alike(x=x, weight=weight, bias=bias)
    _check_linear(x, weight, bias)
    a, w, b = x.array, weight.array, data_of(bias)
    rows = _matrix(a)  # (M, in)
    kernels = for_array(a)
    y = kernels.matmul(rows, w.T, b)
    needs_x, needs_w, needs_b = x.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad
    x_shape = x.shape

    def backward(gy):
        gy = _matrix(gy)  # (M, out)
        gx = kernels.matmul(gy, w).reshape(x_shape) if needs_x else None
        gw = kernels.matmul(gy.T, rows) if needs_w else None
        gb = kernels.conv2d_backward_bias(gy[:, :, None, None]) if needs_b else None
        return gx, gw, gb

    saves = (x if needs_w else None, weight if needs_x else None)
    return record(y.reshape(*x_shape[:-1], w.shape[0]), (x, weight, bias), backward, saves=saves)


def _matrix(a):
    """(..., n) as (M, n), also where n is 0."""
    return a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _check_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if weight.ndim != 2:
        raise ValueError(f"weight must have the shape (out, in), got {weight.shape}")
    outputs, features = weight.shape
    if x.ndim == 0 or x.shape[-1] != features:
        raise ValueError(_wrong_features(x, features))
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"bias must have the shape ({outputs},) like the rows of weight {weight.shape}, got {bias.shape}")


def _wrong_features(x: Tensor, features: int) -> str:
    """What is wrong when the last dimension of x is not ``features`` long, and the likely reason."""
    if x.ndim == 0:
        return f"expects (..., {features}) features, got a 0-d tensor"
    got = x.shape[-1]
    if x.ndim > 2 and math.prod(x.shape[1:]) == features:
        axes = " x ".join(map(str, x.shape[1:]))
        return (
            f"expects {features} features, got an input of shape {x.shape}: flatten it first ({axes} = {features}), x.flatten(1)"
        )
    message = f"expects {features} features, got {got}"
    unflattened = _before_flattening(x)
    if unflattened:
        message += f" ({' x '.join(map(str, unflattened))})"
    if x.ndim > 2:
        return f"{message} in the last dimension of shape {x.shape}: is a flatten missing?"
    if got > features and got % features == 0 and math.isqrt(got // features) ** 2 == got // features:
        return f"{message}: is a pooling layer missing?"
    if unflattened and len(unflattened) == 3:
        c, h, w = unflattened
        if features % c == 0:
            return f"{message}: {features} would be {c} channels of {features // c} pixels, but the map is {h} x {w}"
    return f"{message}: the in_features of this layer must be {got}, or its input must be {features} wide"


def _before_flattening(x: Tensor) -> tuple[int, ...]:
    """The (C, H, W) that a matrix (N, C*H*W) had before it was flattened, if that can still be seen."""
    base = x.array.base
    flattened = x.ndim == 2 and base is not None and base.ndim == 4 and base.size == x.array.size
    return base.shape[1:] if flattened and base.shape[0] == x.shape[0] else ()
