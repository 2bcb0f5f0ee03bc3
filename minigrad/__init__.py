"""Convolutional networks from scratch on NumPy, with PyTorch's names: ``import minigrad as mg``.

Tensors and their functions are here; networks in ``mg.nn``, optimizers in ``mg.optim``, data sets and loaders in ``mg.data``,
the known architectures in ``mg.models``, the training loop in ``mg.training``, pictures of graphs in ``mg.viz``, and the
kernels, plain functions of arrays, in ``mg.kernels``. These are imported when they are first used.
"""

from __future__ import annotations

import builtins as _builtins
import importlib as _importlib
import sys as _sys

import numpy as _np

from minigrad import _cuda_amp, _outside, amp, autograd, cuda, random, testing
from minigrad import function as _function
from minigrad import gradients as _gradients
from minigrad._names import missing as _missing
from minigrad.autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minigrad.creation import (
    BoolTensor,
    ByteTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    arange,
    as_tensor,
    bernoulli,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    normal,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    tensor,
    zeros,
    zeros_like,
)
from minigrad.device import Device, device, finfo
from minigrad.gradcheck import GradcheckError, gradcheck
from minigrad.gradients import grad
from minigrad.ops import (
    abs,
    add,
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    argsort,
    binary_cross_entropy_with_logits,
    bmm,
    broadcast_to,
    cat,
    ceil,
    chunk,
    clamp,
    clamp_,
    clone,
    conv2d,
    conv_transpose2d,
    cos,
    count_nonzero,
    cumsum,
    div,
    dot,
    dropout,
    einsum,
    eq,
    erf,
    exp,
    expm1,
    fill_,
    flatten,
    flip,
    floor,
    floor_divide,
    gather,
    ge,
    group_norm,
    gt,
    index_add,
    index_select,
    isfinite,
    isinf,
    isnan,
    kl_div,
    layer_norm,
    le,
    log,
    log1p,
    log2,
    log10,
    log_softmax,
    logical_and,
    logical_not,
    logical_or,
    logsumexp,
    lt,
    masked_fill,
    masked_select,
    matmul,
    max,
    max_pool2d,
    maximum,
    mean,
    median,
    min,
    minimum,
    mm,
    movedim,
    mul,
    mv,
    narrow,
    ne,
    neg,
    nonzero,
    norm,
    outer,
    permute,
    pow,
    prod,
    ravel,
    reciprocal,
    relu,
    relu_,
    remainder,
    repeat_interleave,
    reshape,
    roll,
    round,
    rsqrt,
    scatter,
    scatter_add,
    selu,
    sigmoid,
    sign,
    sin,
    softmax,
    sort,
    split,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    sub,
    sum,
    t,
    take_along_dim,
    tan,
    tanh,
    tile,
    topk,
    transpose,
    tril,
    triu,
    trunc,
    unbind,
    unflatten,
    unique,
    unsqueeze,
    var,
    where,
    zero_,
)
from minigrad.ops import methods as _methods  # noqa: F401 - gives Tensor its operators and methods
from minigrad.precision import (
    autocast,
    clear_autocast_cache,
    get_autocast_dtype,
    is_autocast_available,
    is_autocast_cache_enabled,
    is_autocast_enabled,
    set_autocast_cache_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
)
from minigrad.random import Generator, get_rng_state, initial_seed, manual_seed, set_rng_state
from minigrad.tensor import Tensor
from minigrad.testing import allclose, equal

# ---- dtypes and constants ----------------------------------------------------------------------------------------------

float16 = half = _np.dtype(_np.float16)
float32 = float = _np.dtype(_np.float32)
float64 = double = _np.dtype(_np.float64)
uint8 = _np.dtype(_np.uint8)
int8 = _np.dtype(_np.int8)
int16 = short = _np.dtype(_np.int16)
int32 = int = _np.dtype(_np.int32)
int64 = long = _np.dtype(_np.int64)
bool = _np.dtype(_np.bool_)
dtype = _np.dtype
iinfo = _np.iinfo
inf, nan, pi = _np.inf, _np.nan, _np.pi

Size = tuple
channels_last, contiguous_format, preserve_format = "channels_last", "contiguous_format", "preserve_format"  # memory orders
concat = cat
absolute, clip, divide, multiply, negative, subtract, true_divide = abs, clamp, div, mul, neg, sub, div  # second names
moveaxis, swapaxes, swapdims = movedim, transpose, transpose
_outside.announce()

# PyTorch's places for what stands on higher floors than the graph
autograd.backward, autograd.grad, autograd.gradcheck = _gradients.backward, grad, gradcheck
autograd.Function, autograd.function = _function.Function, _function
_sys.modules["minigrad.autograd.function"] = _function  # for "from torch.autograd.function import Function"
cuda.amp = _sys.modules["minigrad.cuda.amp"] = _cuda_amp  # for "from torch.cuda.amp import autocast, GradScaler"
GradScaler, OutOfMemoryError = amp.GradScaler, cuda.OutOfMemoryError


# ---- small functions ---------------------------------------------------------------------------------------------------


def inference_mode(mode: _builtins.bool = True):
    """``no_grad()`` by PyTorch's other name; ``mode=False`` leaves recording as it is."""
    return no_grad() if mode is True else no_grad(mode) if callable(mode) else set_grad_enabled(is_grad_enabled())


def is_tensor(value) -> _builtins.bool:
    """Whether ``value`` is a Tensor."""
    return isinstance(value, Tensor)


def is_floating_point(x: Tensor) -> _builtins.bool:
    """Whether the elements of ``x`` are floating-point numbers."""
    return x.is_floating_point()


def _assert(condition, message: str) -> None:
    """What networks write instead of ``assert`` for ``torch.fx``: AssertionError with ``message`` unless ``condition``."""
    if not condition:
        raise AssertionError(message)


def numel(x: Tensor) -> _builtins.int:
    """The number of elements of ``x``."""
    return x.numel()


def diff(x: Tensor, n: _builtins.int = 1, dim: _builtins.int = -1) -> Tensor:
    """The differences of neighbours along ``dim``, x[i + 1] - x[i], taken ``n`` times; each time there is one less."""
    for _ in range(n):
        length = _builtins.max(x.shape[dim] - 1, 0)
        x = sub(narrow(x, dim, x.shape[dim] - length, length), narrow(x, dim, 0, length))
    return x


def _variable(data: Tensor, requires_grad: _builtins.bool = False, volatile: _builtins.bool = False) -> Tensor:
    """``autograd.Variable`` of code from before PyTorch 0.4: a tensor that shares the memory of ``data``. No effect: volatile."""
    return data.detach().requires_grad_(requires_grad)


autograd.Variable = _variable


def get_num_threads() -> _builtins.int:
    """How many threads run a large kernel on the processor."""
    return _importlib.import_module("minigrad.kernels.cpu").get_num_threads()


def set_num_threads(n: _builtins.int) -> None:
    """Run kernels on ``n`` threads from now on. Results do not depend on ``n``."""
    _importlib.import_module("minigrad.kernels.cpu").set_num_threads(n)


# ---- names that are imported when they are first used ------------------------------------------------------------------

_PACKAGES = ("data", "fx", "hub", "jit", "kernels", "models", "nn", "optim", "training", "utils", "viz", "weights")
_ELSEWHERE = {"load": "minigrad.weights", "save": "minigrad.weights", "summary": "minigrad.training"}


def __getattr__(name: str):
    if name in _outside.OUTSIDE:
        raise AttributeError(f"minigrad has no attribute {name!r}: {_outside.OUTSIDE[name]}", name=name)
    if name == "bfloat16":  # which needs a package that not everybody has
        return _importlib.import_module("minigrad.device").bfloat16()
    if name in _PACKAGES:
        return _importlib.import_module(f"minigrad.{name}")
    if name in _ELSEWHERE:
        return getattr(_importlib.import_module(_ELSEWHERE[name]), name)
    if name == "__version__":
        return _importlib.import_module("importlib.metadata").version("minigrad-numpy")
    if not name.startswith("_"):
        for place in ("nn.functional", "nn", "optim"):
            if hasattr(_importlib.import_module(f"minigrad.{place}"), name):
                raise AttributeError(f"minigrad has no attribute {name!r}: it is minigrad.{place}.{name}", name=name)
    raise _missing("minigrad", name, __dir__())


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES, *_ELSEWHERE, "__version__", "bfloat16"})


__all__ = [
    "BoolTensor",
    "ByteTensor",
    "Device",
    "DoubleTensor",
    "FloatTensor",
    "Generator",
    "GradScaler",
    "GradcheckError",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "OutOfMemoryError",
    "Size",
    "Tensor",
    "abs",
    "absolute",
    "add",
    "all",
    "allclose",
    "amax",
    "amin",
    "amp",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "as_tensor",
    "autocast",
    "autograd",
    "bernoulli",
    "binary_cross_entropy_with_logits",
    "bmm",
    "bool",
    "broadcast_to",
    "cat",
    "ceil",
    "channels_last",
    "chunk",
    "clamp",
    "clamp_",
    "clear_autocast_cache",
    "clip",
    "clone",
    "concat",
    "contiguous_format",
    "conv2d",
    "conv_transpose2d",
    "cos",
    "count_nonzero",
    "cuda",
    "cumsum",
    "device",
    "diff",
    "div",
    "divide",
    "dot",
    "double",
    "dropout",
    "dtype",
    "einsum",
    "empty",
    "empty_like",
    "enable_grad",
    "eq",
    "equal",
    "erf",
    "exp",
    "expm1",
    "eye",
    "fill_",
    "finfo",
    "flatten",
    "flip",
    "float",
    "float16",
    "float32",
    "float64",
    "floor",
    "floor_divide",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "gather",
    "ge",
    "get_autocast_dtype",
    "get_num_threads",
    "get_rng_state",
    "grad",
    "gradcheck",
    "group_norm",
    "gt",
    "half",
    "iinfo",
    "index_add",
    "index_select",
    "inf",
    "inference_mode",
    "initial_seed",
    "int",
    "int16",
    "int32",
    "int64",
    "int8",
    "is_autocast_available",
    "is_autocast_cache_enabled",
    "is_autocast_enabled",
    "is_floating_point",
    "is_grad_enabled",
    "is_tensor",
    "isfinite",
    "isinf",
    "isnan",
    "kl_div",
    "layer_norm",
    "le",
    "linspace",
    "log",
    "log10",
    "log1p",
    "log2",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logsumexp",
    "long",
    "lt",
    "manual_seed",
    "masked_fill",
    "masked_select",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "median",
    "min",
    "minimum",
    "mm",
    "moveaxis",
    "movedim",
    "mul",
    "multiply",
    "mv",
    "nan",
    "narrow",
    "ne",
    "neg",
    "negative",
    "no_grad",
    "nonzero",
    "norm",
    "normal",
    "numel",
    "ones",
    "ones_like",
    "outer",
    "permute",
    "pi",
    "pow",
    "preserve_format",
    "prod",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "random",
    "randperm",
    "ravel",
    "reciprocal",
    "relu",
    "relu_",
    "remainder",
    "repeat_interleave",
    "reshape",
    "roll",
    "round",
    "rsqrt",
    "scatter",
    "scatter_add",
    "selu",
    "set_autocast_cache_enabled",
    "set_autocast_dtype",
    "set_autocast_enabled",
    "set_grad_enabled",
    "set_num_threads",
    "set_rng_state",
    "short",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sub",
    "subtract",
    "sum",
    "swapaxes",
    "swapdims",
    "t",
    "take_along_dim",
    "tan",
    "tanh",
    "tensor",
    "testing",
    "tile",
    "topk",
    "transpose",
    "tril",
    "triu",
    "true_divide",
    "trunc",
    "uint8",
    "unbind",
    "unflatten",
    "unique",
    "unsqueeze",
    "var",
    "where",
    "zero_",
    "zeros",
    "zeros_like",
]
