"""In which precision ops compute where autocast is on, as far as we have the ops of PyTorch's lists ("Autocast Op Reference").

Ops that are on no list compute in the dtype of their arguments: pooling, rectifiers, shape changes, and normalization, whose
statistics and parameters are float32 all the same. Where dtypes meet in + - * /, the wider one wins, as without autocast.
"""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["LOW", "MIXING", "NATIVE", "NORMALIZING", "SINGLE", "WIDENED", "WIDEST", "WRITING"]


def _ops(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Products: where 16 bits are fast, and accurate enough because sums are kept in 32.
_PRODUCTS = _ops("conv2d conv_transpose2d linear matmul mm bmm mv einsum")
_LOSSES = _ops("cross_entropy nll_loss kl_div mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy_with_logits")

# Device type -> ops that compute in autocast's dtype, whatever they are given.
LOW = MappingProxyType({"cuda": _PRODUCTS, "cpu": _PRODUCTS - _ops("mv")})

# Device type -> ops that compute in float32: what overflows, cancels or adds up much.
SINGLE = MappingProxyType(
    {
        "cuda": _ops("exp expm1 log log10 log2 log1p reciprocal rsqrt tan pow softplus")
        | _ops("softmax log_softmax logsumexp sum prod cumsum norm layer_norm group_norm interpolate")
        | _ops("local_response_norm local_response_norm_paper")
        | _LOSSES,
        "cpu": _ops("prod binary_cross_entropy local_response_norm local_response_norm_paper") | _LOSSES,
    }
)

# Device type -> ops that compute in the widest dtype of their arguments.
WIDEST = MappingProxyType({"cuda": _ops("cat stack scatter_add dot outer"), "cpu": _ops("cat stack mv dot outer")})

# ---- 16-bit numbers, with autocast or without: most ops compute in float32 and round once, as PyTorch's do -----------------

# Arithmetic whose operands may be of different dtypes: the wider one is that of the result.
MIXING = _ops("add sub mul div pow maximum minimum remainder floor_divide eq ne lt le gt ge")

# Their parameters and statistics may be float32 beside 16-bit images.
NORMALIZING = _ops("batch_norm_training batch_norm_inference instance_norm_training group_norm layer_norm")

# On the graphics card these have kernels of their own, which read and write 16 bits and compute in 32.
NATIVE = NORMALIZING | _ops(
    "conv2d conv_transpose2d linear matmul mm bmm mv dot outer max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d"
)

# Everything that computes, rectifiers excepted. What only moves numbers (shapes, indices, joining) is not among them.
WIDENED = (
    NATIVE
    | MIXING
    | _ops("exp expm1 log log1p log2 log10 sqrt rsqrt square reciprocal sin cos tan erf round abs sign clamp")
    | _ops("hardtanh relu6 leaky_relu elu selu sigmoid tanh silu gelu softplus logsigmoid mish hardsigmoid hardswish")
    | _ops("softmax log_softmax sum mean var std norm logsumexp cumsum prod amax amin argmax argmin max min")
    | _ops("sort argsort topk median einsum fold unfold interpolate local_response_norm local_response_norm_paper")
    | _ops("dropout dropout2d pad gather index_add index_select scatter scatter_add take_along_dim")
    | _ops("binary_cross_entropy")
    | _LOSSES
)

# In-place op -> the op whose result it writes.
WRITING = MappingProxyType({f"{name}_": name for name in ("add", "sub", "mul", "div", "clamp", "scatter", "scatter_add")})
