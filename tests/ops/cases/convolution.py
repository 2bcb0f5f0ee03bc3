"""Rows for minigrad/ops/convolution.py."""

from __future__ import annotations

from tests.ops import references
from tests.ops.case import Case, Error


def conv(id: str, x: tuple, weight: tuple, bias: bool = True, **kwargs) -> Case:
    """A convolution of the given shapes. PyTorch has no asymmetric padding."""

    def args(d):
        return d.normal(*x), d.normal(*weight), *([d.normal(weight[0])] if bias else []), kwargs

    asymmetric = isinstance(kwargs.get("padding"), tuple) and isinstance(kwargs["padding"][0], tuple)
    torch = None if asymmetric else "nn.functional.conv2d"
    return Case("conv2d", id, args, references.conv2d, torch=torch, scale="absolute", ulp=32, step=0.5)


def transposed(id: str, x: tuple, weight: tuple, bias: bool = True, **kwargs) -> Case:
    def args(d):
        return d.normal(*x), d.normal(*weight), *([d.normal(weight[1] * kwargs.get("groups", 1))] if bias else []), kwargs

    return Case("conv_transpose2d", id, args, references.conv_transpose2d, torch="nn.functional.conv_transpose2d",
                scale="absolute", ulp=32, step=0.5)  # fmt: skip


def unfolding(id: str, x: tuple, **kwargs) -> Case:
    return Case("unfold", id, lambda d: (d.normal(*x), kwargs), references.unfold, torch="nn.functional.unfold", step=1)


def folding(id: str, x: tuple, **kwargs) -> Case:
    return Case(
        "fold", id, lambda d: (d.normal(*x), kwargs), references.fold, torch="nn.functional.fold", scale="absolute", step=1
    )


CASES = [
    conv("3x3", (2, 3, 6, 5), (4, 3, 3, 3), padding=1),
    conv("3x3 without bias", (2, 3, 5, 6), (4, 3, 3, 3), bias=False),
    conv("3x3 over more tiles", (2, 5, 14, 13), (6, 5, 3, 3), padding=1),
    conv("3x3 with 17 channels", (1, 17, 7, 7), (19, 17, 3, 3), padding=1),
    conv("1x1", (3, 5, 4, 4), (7, 5, 1, 1)),
    conv("1x1 with stride 2", (2, 4, 5, 6), (3, 4, 1, 1), stride=2),
    conv("stride 2", (2, 3, 8, 8), (4, 3, 3, 3), stride=2, padding=1),
    conv("strides and sizes that do not divide", (1, 2, 9, 8), (3, 2, 2, 3), stride=(3, 2), padding=(1, 0)),
    conv("kernel 1x5", (2, 2, 4, 9), (3, 2, 1, 5), padding=(0, 2)),
    conv("kernel 5x2 with dilation", (1, 2, 12, 7), (2, 2, 5, 2), dilation=(2, 3), padding=(3, 1)),
    conv("7x7 with stride 2", (1, 3, 11, 12), (4, 3, 7, 7), stride=2, padding=3),
    conv("asymmetric padding", (2, 2, 5, 6), (3, 2, 3, 3), padding=((0, 2), (1, 0))),
    conv("padding larger than the kernel", (1, 2, 3, 3), (2, 2, 2, 2), padding=3),
    conv("padding same", (2, 2, 5, 6), (3, 2, 3, 5), padding="same"),
    conv("padding same with an even kernel", (1, 2, 5, 6), (2, 2, 4, 2), padding="same", dilation=2),
    conv("padding valid", (2, 2, 5, 6), (3, 2, 3, 3), padding="valid"),
    conv("groups", (2, 6, 5, 5), (4, 3, 3, 3), groups=2, padding=1),
    conv("depthwise", (2, 5, 6, 7), (5, 1, 3, 3), groups=5, padding=1),
    conv("depthwise with two filters per channel", (1, 3, 6, 6), (6, 1, 3, 3), groups=3, stride=2, bias=False),
    conv("window as large as the image", (2, 3, 4, 5), (2, 3, 4, 5)),
    conv("one pixel", (1, 1, 1, 1), (1, 1, 1, 1)),
    conv("empty batch", (0, 3, 5, 5), (2, 3, 3, 3), padding=1),
    transposed("3x3", (2, 3, 4, 5), (3, 4, 3, 3)),
    transposed("stride 2", (2, 3, 4, 3), (3, 2, 2, 2), stride=2),
    transposed("output padding", (1, 2, 4, 4), (2, 3, 3, 3), stride=2, padding=1, output_padding=1),
    transposed("different in both directions", (1, 2, 3, 4), (2, 2, 2, 3), stride=(3, 2), padding=(0, 1), output_padding=(2, 0)),
    transposed("dilation", (1, 2, 4, 4), (2, 2, 2, 3), dilation=(2, 1), padding=1),
    transposed("groups", (2, 4, 3, 3), (4, 3, 3, 3), groups=2, stride=2, padding=1),
    transposed("depthwise without bias", (1, 3, 4, 4), (3, 1, 2, 2), groups=3, stride=2, bias=False),
    transposed("empty batch", (0, 2, 3, 3), (2, 3, 3, 3)),
    unfolding("3x3", (2, 3, 5, 6), kernel_size=3, padding=1),
    unfolding("everything", (1, 2, 9, 8), kernel_size=(2, 3), dilation=(2, 1), padding=(1, 0), stride=(3, 2)),
    folding("overlapping", (2, 12, 20), output_size=(5, 6), kernel_size=2),
    folding("everything", (1, 12, 9), output_size=(9, 8), kernel_size=(2, 3), dilation=(2, 1), padding=(1, 0), stride=(3, 2)),
]


def wrong(
    id: str, x: tuple, weight: tuple, error: type, match: str, op: str = "conv2d", bias: tuple | None = None, **kwargs
) -> Error:
    def args(d):
        return d.normal(*x), d.normal(*weight), *([] if bias is None else [d.normal(*bias)]), kwargs

    return Error(op, id, args, error, match)


ERRORS = [
    wrong("3 dimensions", (3, 5, 5), (2, 3, 3, 3), ValueError, r"x must have 4 dimensions .*unsqueeze"),
    wrong("channels", (2, 4, 5, 5), (2, 3, 3, 3), ValueError, "expects C=3 input channels, got C=4"),
    wrong("groups do not divide", (2, 6, 5, 5), (4, 2, 3, 3), ValueError, "groups=3 must divide", groups=3),
    wrong("groups 0", (2, 6, 5, 5), (4, 2, 3, 3), ValueError, "groups must be a positive integer", groups=0),
    wrong("weight dimensions", (2, 3, 5, 5), (2, 3, 3), ValueError, "weight must have 4 non-empty dimensions"),
    wrong("window too large", (2, 3, 2, 5), (2, 3, 3, 3), ValueError, "larger"),
    wrong("stride 0", (2, 3, 5, 5), (2, 3, 3, 3), ValueError, "stride must be at least 1", stride=0),
    wrong("float stride", (2, 3, 5, 5), (2, 3, 3, 3), TypeError, "stride must be an integer or a pair", stride=1.5),
    wrong("negative padding", (2, 3, 5, 5), (2, 3, 3, 3), ValueError, "padding must be at least 0", padding=-1),
    wrong("unknown padding", (2, 3, 5, 5), (2, 3, 3, 3), ValueError, 'padding must be integers, "same"', padding="full"),
    wrong("same with stride", (2, 3, 5, 5), (2, 3, 3, 3), ValueError, 'padding="same" needs stride 1', padding="same", stride=2),
    wrong("dilation 0", (2, 3, 5, 5), (2, 3, 3, 3), ValueError, "dilation must be at least 1", dilation=0),
    wrong("bias", (2, 3, 5, 5), (2, 3, 3, 3), ValueError, r"bias must have shape \(2,\)", bias=(3,)),
    Error("conv2d", "integers", lambda d: (d.integers(0, 9, 1, 1, 3, 3), d.normal(1, 1, 1, 1)), TypeError,
          "x must hold floating"),
    Error("conv2d", "array", lambda d: ([1.0], d.normal(1, 1, 1, 1)), TypeError, "x must be a Tensor, got list"),
    Error("conv2d", "weight missing", lambda d: (d.normal(1, 1, 3, 3), None), TypeError, "weight must be a Tensor"),
    wrong("channels", (2, 4, 5, 5), (3, 2, 3, 3), ValueError, "expects 3 input channels, got 4", op="conv_transpose2d"),
    wrong("output padding", (1, 2, 3, 3), (2, 2, 2, 2), ValueError, "output_padding .* must be smaller", op="conv_transpose2d",
          output_padding=1),
    wrong("nothing left", (1, 2, 1, 1), (2, 2, 2, 2), ValueError, "the output would be", op="conv_transpose2d", padding=1),
    wrong("padding same", (1, 2, 3, 3), (2, 2, 2, 2), ValueError, "padding must be integers", op="conv_transpose2d",
          padding="same"),
    wrong("bias", (1, 2, 3, 3), (2, 3, 2, 2), ValueError, r"bias must have shape \(3,\)", op="conv_transpose2d", bias=(2,)),
    Error("unfold", "3 dimensions", lambda d: (d.normal(3, 4, 4), 2), ValueError, "x must have 4 dimensions"),
    Error("unfold", "window too large", lambda d: (d.normal(1, 1, 2, 2), 3), ValueError, "larger"),
    Error("fold", "channels", lambda d: (d.normal(1, 7, 4), (3, 3), 2), ValueError, r"x must have shape \(N, C\*2\*2, L\)"),
    Error("fold", "columns", lambda d: (d.normal(1, 8, 5), (3, 3), 2), ValueError, "x has 5 columns"),
]  # fmt: skip
