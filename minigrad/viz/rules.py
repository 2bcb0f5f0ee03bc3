"""The local rule of every op in symbols: what it computes, and how a gradient passes back through it.

g(y) is the gradient of the loss with respect to y. A dot is an elementwise product, @ a matrix product, W' the transpose of W.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RULES", "Rule", "rule_of"]


@dataclass(frozen=True)
class Rule:
    """``forward``: the op's formula; ``backward``: the gradient of its inputs from the gradient of its output."""

    forward: str
    backward: str


def _elementwise(formula: str, derivative: str) -> Rule:
    return Rule(f"y = {formula}", f"g(x) = g(y) · {derivative}")


def _moves(what: str, back: str) -> Rule:
    return Rule(f"y = {what}", f"g(x) = {back}")


_NORM = "g(x) = rstd · (g(n) − mean(g(n)) − n · mean(g(n) · n)),  g(n) = g(y) · w,  g(w) = Σ g(y) · n,  g(b) = Σ g(y)"

RULES: dict[str, Rule] = {
    # arithmetic
    "add": Rule("y = x + z", "g(x) = g(y),  g(z) = g(y)   (summed where x or z was broadcast)"),
    "sub": Rule("y = x − z", "g(x) = g(y),  g(z) = −g(y)"),
    "mul": Rule("y = x · z", "g(x) = g(y) · z,  g(z) = g(y) · x"),
    "div": Rule("y = x / z", "g(x) = g(y) / z,  g(z) = −g(y) · x / z²"),
    "pow": Rule("y = x^p", "g(x) = g(y) · p x^(p−1),  g(p) = g(y) · y log x"),
    "neg": _elementwise("−x", "(−1)"),
    "maximum": Rule("y = max(x, z)", "the gradient goes to the larger one; a tie is shared equally"),
    "minimum": Rule("y = min(x, z)", "the gradient goes to the smaller one; a tie is shared equally"),
    "add_": Rule("x += z", "g(old x) = g(new x),  g(z) = g(new x)"),
    "sub_": Rule("x −= z", "g(old x) = g(new x),  g(z) = −g(new x)"),
    "mul_": Rule("x *= z", "g(old x) = g(new x) · z,  g(z) = g(new x) · old x"),
    "div_": Rule("x /= z", "g(old x) = g(new x) / z,  g(z) = −g(new x) · old x / z²"),
    "copy_": Rule("x[...] = z", "g(old x) = 0,  g(z) = g(new x)"),
    "zero_": Rule("x[...] = 0", "g(old x) = 0"),
    "fill_": Rule("x[...] = number", "g(old x) = 0"),
    # functions of one variable
    "exp": _elementwise("e^x", "y"),
    "expm1": _elementwise("e^x − 1", "(y + 1)"),
    "log": _elementwise("log x", "1 / x"),
    "log1p": _elementwise("log(1 + x)", "1 / (1 + x)"),
    "log2": _elementwise("log₂ x", "1 / (x log 2)"),
    "log10": _elementwise("log₁₀ x", "1 / (x log 10)"),
    "sqrt": _elementwise("√x", "1 / (2 y)"),
    "rsqrt": _elementwise("1 / √x", "(−y³ / 2)"),
    "square": _elementwise("x²", "2 x"),
    "reciprocal": _elementwise("1 / x", "(−y²)"),
    "abs": _elementwise("|x|", "sign(x)"),
    "sin": _elementwise("sin x", "cos x"),
    "cos": _elementwise("cos x", "(−sin x)"),
    "tan": _elementwise("tan x", "(1 + y²)"),
    "tanh": _elementwise("tanh x", "(1 − y²)"),
    "erf": _elementwise("erf x", "2/√π e^(−x²)"),
    **{
        name: Rule("y = x in whole steps", "g(x) = 0: it is flat almost everywhere")
        for name in ("sign", "floor", "ceil", "round", "trunc")
    },
    "clamp_": _elementwise("x, cut at min and max, in place", "[min ≤ x ≤ max]"),
    "clamp": _elementwise("x, cut at min and max", "[min ≤ x ≤ max]"),
    "where": Rule("y = x where c, else z", "g(x) = g(y) where c else 0,  g(z) = 0 where c else g(y)"),
    "sigmoid": _elementwise("σ(x) = 1 / (1 + e^(−x))", "y (1 − y)"),
    "logsigmoid": _elementwise("log σ(x)", "σ(−x)"),
    "relu": _elementwise("max(x, 0)", "[x > 0]"),
    "relu_": _elementwise("max(x, 0), in place", "[x > 0]"),
    "relu6": _elementwise("min(max(x, 0), 6)", "[0 < x < 6]"),
    "leaky_relu": _elementwise("x if x > 0 else a x", "(1 if x > 0 else a)"),
    "elu": _elementwise("x if x > 0 else a (e^x − 1)", "(1 if x > 0 else y + a)"),
    "selu": _elementwise("s x if x > 0 else s a (e^x − 1)", "(s if x > 0 else y + s a)"),
    "gelu": _elementwise("x Φ(x)", "(Φ(x) + x φ(x))"),
    "silu": _elementwise("x σ(x)", "σ(x) (1 + x (1 − σ(x)))"),
    "mish": _elementwise("x tanh(log(1 + e^x))", "dy/dx"),
    "softplus": _elementwise("log(1 + e^x)", "σ(x)"),
    "hardsigmoid": _elementwise("min(max(x / 6 + 1/2, 0), 1)", "1/6 [−3 < x < 3]"),
    "hardswish": _elementwise("x · hardsigmoid(x)", "(0 below −3, x/3 + 1/2 between, 1 above 3)"),
    "hardtanh": _elementwise("x, cut at min and max", "[min < x < max]"),
    "softmax": Rule("y = e^x / Σ e^x", "g(x) = y · (g(y) − Σ g(y) · y)"),
    "log_softmax": Rule("y = x − log Σ e^x", "g(x) = g(y) − e^y · Σ g(y)"),
    "logsumexp": Rule("y = log Σ e^x", "g(x) = g(y) · e^(x − y)"),
    "dropout": Rule("y = x · mask / (1 − p)", "g(x) = g(y) · mask / (1 − p)"),
    "dropout2d": Rule("y = x · mask / (1 − p), one mask bit per channel", "g(x) = g(y) · mask / (1 − p)"),
    # reductions
    "sum": Rule("y = Σ x", "g(x) = g(y), the same for every summed element"),
    "mean": Rule("y = Σ x / n", "g(x) = g(y) / n, the same for every element"),
    "var": Rule("y = Σ (x − mean)² / (n − correction)", "g(x) = g(y) · 2 (x − mean) / (n − correction)"),
    "std": Rule("y = √var(x)", "g(x) = g(y) · (x − mean) / ((n − correction) y)"),
    "prod": Rule("y = Π x", "g(x) = g(y) · product of the other elements"),
    "max": Rule("y = largest x", "the gradient goes to the largest element"),
    "min": Rule("y = smallest x", "the gradient goes to the smallest element"),
    "amax": Rule("y = largest x", "the gradient goes to the largest elements, shared equally among ties"),
    "amin": Rule("y = smallest x", "the gradient goes to the smallest elements, shared equally among ties"),
    "norm": Rule("y = (Σ |x|^p)^(1/p)", "g(x) = g(y) · sign(x) (|x| / y)^(p−1)"),
    "cumsum": Rule("y[i] = x[0] + … + x[i]", "g(x)[i] = g(y)[i] + … + g(y)[n−1]"),
    # products
    "matmul": Rule("y = x @ z", "g(x) = g(y) @ z',  g(z) = x' @ g(y)"),
    "linear": Rule("y = x @ W' + b", "g(x) = g(y) @ W,  g(W) = g(y)' @ x,  g(b) = Σ g(y) over the batch"),
    "einsum": Rule("y = einsum(…)", "the same product with the output and one input changing places"),
    **{name: Rule("y = x @ z", "g(x) = g(y) @ z',  g(z) = x' @ g(y)") for name in ("mm", "bmm", "mv")},
    "dot": Rule("y = Σ x · z", "g(x) = g(y) · z,  g(z) = g(y) · x"),
    "outer": Rule("y[i, j] = x[i] z[j]", "g(x) = g(y) @ z,  g(z) = g(y)' @ x"),
    # networks
    "conv2d": Rule(
        "y = im2col(x) @ W' + b",
        "g(x) = col2im(g(y) @ W),  g(W) = g(y)' @ im2col(x),  g(b) = Σ g(y) over images and pixels",
    ),
    "conv_transpose2d": Rule("y = col2im(x @ W) + b", "g(x) = conv2d(g(y), W),  g(W) = x' @ im2col(g(y)),  g(b) = Σ g(y)"),
    "unfold": _moves("im2col(x): each patch becomes a column", "col2im(g(y)): what overlaps adds up"),
    "fold": _moves("col2im(x): columns added back as patches", "im2col(g(y))"),
    "max_pool2d": Rule("y = largest x in each window", "the gradient goes to the largest pixel of its window"),
    "adaptive_max_pool2d": Rule("y = largest x in each window", "the gradient goes to the largest pixel of its window"),
    "avg_pool2d": Rule("y = mean of each window", "g(x) = Σ over the windows with x of g(y) / window size"),
    "adaptive_avg_pool2d": Rule("y = mean of each window", "g(x) = Σ over the windows with x of g(y) / window size"),
    "interpolate": Rule("y = Σ weight · x over the neighbours", "g(x) = Σ weight · g(y) over what used x"),
    "batch_norm": Rule("n = (x − mean) · rstd,  y = w n + b   (per channel)", _NORM),
    "instance_norm": Rule("n = (x − mean) · rstd,  y = w n + b   (per image and channel)", _NORM),
    "group_norm": Rule("n = (x − mean) · rstd,  y = w n + b   (per image and group)", _NORM),
    "layer_norm": Rule("n = (x − mean) · rstd,  y = w n + b   (per sample)", _NORM),
    "local_response_norm": Rule(
        "y = x s^(−β),  s = k + α Σ x² over neighbouring channels",
        "g(x) = g(y) s^(−β) − 2 α β x Σ g(y) x s^(−β−1) over neighbouring channels",
    ),
    # losses
    "cross_entropy": Rule("y = mean(log Σ e^x − x[target])", "g(x) = g(y) · (softmax(x) − onehot(target)) / n"),
    "nll_loss": Rule("y = −mean(x[target])", "g(x) = −g(y) / n at the target, 0 elsewhere"),
    "mse_loss": Rule("y = mean((x − z)²)", "g(x) = g(y) · 2 (x − z) / n,  g(z) = −g(x)"),
    "l1_loss": Rule("y = mean(|x − z|)", "g(x) = g(y) · sign(x − z) / n,  g(z) = −g(x)"),
    "smooth_l1_loss": Rule("y = mean(d² / 2β if |d| < β else |d| − β/2),  d = x − z", "g(x) = g(y) · clamp(d / β, −1, 1) / n"),
    "huber_loss": Rule("y = mean(d² / 2 if |d| < δ else δ (|d| − δ/2)),  d = x − z", "g(x) = g(y) · clamp(d, −δ, δ) / n"),
    "binary_cross_entropy": Rule("y = −mean(t log x + (1 − t) log(1 − x))", "g(x) = g(y) · (x − t) / (x (1 − x)) / n"),
    "binary_cross_entropy_with_logits": Rule("y = −mean(t log σ(x) + (1 − t) log σ(−x))", "g(x) = g(y) · (σ(x) − t) / n"),
    "kl_div": Rule("y = mean(t (log t − x))", "g(x) = −g(y) · t / n"),
    # moving elements
    **{
        name: _moves("x in another shape", "g(y) in the shape of x")
        for name in ("reshape", "view", "flatten", "unflatten", "ravel", "reshape_as", "squeeze", "unsqueeze")
    },
    **{
        name: _moves("x with its dimensions in another order", "g(y) with them put back")
        for name in ("permute", "transpose", "t", "movedim")
    },
    **{
        name: _moves("x repeated", "g(y) summed over the repetitions")
        for name in ("expand", "expand_as", "broadcast_to", "repeat", "repeat_interleave", "tile")
    },
    "narrow": _moves("some slices of x that follow one another", "g(y) at their places, 0 elsewhere"),
    "flip": _moves("x backwards", "g(y) backwards"),
    "roll": _moves("x turned around by some places", "g(y) turned back"),
    "tril": _moves("the lower triangle of x", "the lower triangle of g(y)"),
    "triu": _moves("the upper triangle of x", "the upper triangle of g(y)"),
    "sort": _moves("x in order", "g(y) back in the order of x"),
    "topk": _moves("the k largest x", "g(y) at their places, 0 elsewhere"),
    "median": _moves("the middle one of the sorted x", "g(y) at its place, 0 elsewhere"),
    "getitem": _moves("x[index]", "g(y) at the places of index (added up where one repeats), 0 elsewhere"),
    "setitem": Rule("x[index] = z", "g(old x) = g(new x) with 0 at index,  g(z) = g(new x)[index]"),
    **{
        name: _moves("x at the places of index", "g(y) added up at those places, 0 elsewhere")
        for name in ("gather", "index_select", "take_along_dim", "masked_select")
    },
    **{
        name: Rule("y = x with z written at index", "g(x) = g(y) with 0 at index,  g(z) = g(y) at index")
        for name in ("scatter", "scatter_")
    },
    **{
        name: Rule("y = x with z added at index", "g(x) = g(y),  g(z) = g(y) at index")
        for name in ("scatter_add", "scatter_add_", "index_add")
    },
    **{
        name: Rule("y = x with a number where the mask is true", "g(x) = g(y) with 0 where the mask is true")
        for name in ("masked_fill", "masked_fill_")
    },
    "cat": Rule("y = the inputs one after the other", "each input gets its part of g(y)"),
    "stack": Rule("y = the inputs side by side in a new dimension", "each input gets its slice of g(y)"),
    **{
        name: Rule("ys = the parts of x", "g(x) = the gradients of the parts one after the other")
        for name in ("split", "chunk", "unbind")
    },
    "pad": _moves("x with a border", "g(y) without the border (reflected or repeated borders are added back)"),
    **{name: _moves("a copy of x", "g(y)") for name in ("clone", "contiguous")},
    **{
        name: _moves("x in another dtype or on another device", "g(y) in the dtype and on the device of x")
        for name in ("to", "cast", "type_as")
    },
}


def rule_of(name: str) -> Rule:
    """The rule of the op ``name``; a plain statement of the chain rule for one that has no entry."""
    return RULES.get(name) or Rule(f"y = {name}(x)", "g(x) = g(y) · dy/dx")
