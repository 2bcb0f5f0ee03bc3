"""Convolution layers, and the windows that they see as columns."""

from __future__ import annotations

import math
from typing import Any

from minigrad.kernels.geometry import pair
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.nn._arguments import check_divides, check_positive, new_parameter
from minigrad.nn.module import Module
from minigrad.tensor import Tensor

__all__ = ["Conv2d", "ConvTranspose2d", "Fold", "Unfold"]

IntPair = int | tuple[int, int]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What convolution and transposed convolution share: the parameters and their description."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair,
        padding: tuple | str,
        output_padding: tuple[int, int],
        dilation: IntPair,
        groups: int,
        padding_mode: str,
    ) -> None:
        check_positive(in_channels=in_channels, out_channels=out_channels, groups=groups)
        check_divides("groups", groups, in_channels=in_channels, out_channels=out_channels)
        super().__init__()
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride, self.dilation = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
        self.padding, self.output_padding, self.padding_mode = padding, output_padding, padding_mode

    def _make_parameters(self, weight_shape: tuple[int, ...], bias: bool, device: Any, dtype: Any) -> None:
        self.weight = new_parameter(*weight_shape, device=device, dtype=dtype)
        self.register_parameter("bias", new_parameter(self.out_channels, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values again: uniform in +-1 / sqrt(fan_in), with fan_in = weight.shape[1] * kh * kw."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # this slope makes the bound 1 / sqrt(fan_in)
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.output_padding != (0, 0):
            parts.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class Conv2d(_Conv):
    """2-D convolution of x (N, in_channels, H, W) -> (N, out_channels, oh, ow).

    weight (out_channels, in_channels/groups, kh, kw), bias (out_channels,); both start uniform in +-1 / sqrt(fan_in).
    ``padding``: pixels (one number, (height, width), or ((top, bottom), (left, right))), "same" or "valid".
    ``padding_mode``: what the padding holds: "zeros", "reflect" (mirrored without the edge), "replicate" (the edge pixel)
    or "circular" (the opposite side). oh = floor((H + top + bottom - dh (kh - 1) - 1) / sh) + 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: int | tuple | str = 0,
        dilation: IntPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        padding = _padding(padding)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, (0, 0), dilation, groups, padding_mode)
        if padding == "same" and self.stride != (1, 1):
            raise ValueError(f'padding="same" needs stride 1, got stride={stride!r}: give the padding in pixels instead')
        self._make_parameters((out_channels, in_channels // groups, *self.kernel_size), bias, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        if self.padding_mode == "zeros":
            return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        x = F.pad(x, self._border(), mode=self.padding_mode)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _border(self) -> tuple[int, int, int, int]:
        """(left, right, top, bottom), the order of ``F.pad``."""
        if self.padding == "valid":
            return 0, 0, 0, 0
        if self.padding == "same":
            total_h, total_w = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))
            return total_w // 2, total_w - total_w // 2, total_h // 2, total_h - total_h // 2
        (top, bottom), (left, right) = (pair(p, "padding") for p in self.padding)
        return left, right, top, bottom


class ConvTranspose2d(_Conv):
    """Transposed 2-D convolution of x (N, in_channels, H, W) -> (N, out_channels, oh, ow): learned up-sampling.

    weight (in_channels, out_channels/groups, kh, kw), bias (out_channels,).
    oh = (H - 1) sh - 2 ph + dh (kh - 1) + output_padding + 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair = 0,
        output_padding: IntPair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntPair = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(f'padding_mode of a transposed convolution must be "zeros", got {padding_mode!r}')
        padding, output_padding = pair(padding, "padding"), pair(output_padding, "output_padding")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation, groups, padding_mode)
        self._make_parameters((in_channels, out_channels // groups, *self.kernel_size), bias, device, dtype)

    def forward(self, x: Tensor, output_size: IntPair | None = None) -> Tensor:
        """``output_size`` (oh, ow) chooses among the sizes that a stride leaves possible, instead of ``output_padding``."""
        extra = self.output_padding if output_size is None else self._output_padding(x, output_size)
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)

    def _output_padding(self, x: Tensor, output_size: Any) -> tuple[int, int]:
        size = tuple(output_size)[-2:] if isinstance(output_size, (tuple, list)) else output_size
        wanted = pair(size, "output_size", 1)
        least = [
            (size - 1) * s - 2 * p + d * (k - 1) + 1
            for size, s, p, d, k in zip(x.shape[-2:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
        ]
        most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
        if not all(a <= n <= b for a, n, b in zip(least, wanted, most, strict=True)):
            raise ValueError(
                f"output_size {wanted} is not possible for an input of {x.shape[-2]} x {x.shape[-1]}: "
                f"it must be from {tuple(least)} to {tuple(most)}"
            )
        return wanted[0] - least[0], wanted[1] - least[1]


class Unfold(Module):
    """The windows of x (N, C, H, W) as columns: (N, C*kh*kw, L), one for each of the L positions (im2col)."""

    def __init__(self, kernel_size: IntPair, dilation: IntPair = 1, padding: IntPair = 0, stride: IntPair = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Unfold):
    """Adds the columns x (N, C*kh*kw, L) to the places of an image (N, C, *output_size) that Unfold takes them from."""

    def __init__(
        self, output_size: IntPair, kernel_size: IntPair, dilation: IntPair = 1, padding: IntPair = 0, stride: IntPair = 1
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return F.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"


def _padding(value: Any) -> tuple | str:
    """``value`` checked: "same", "valid", (height, width), or ((top, bottom), (left, right))."""
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise ValueError(f'padding must be integers, "same" or "valid", got {value!r}')
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2 and any(isinstance(v, (tuple, list)) for v in value):
        return pair(value[0], "padding"), pair(value[1], "padding")
    return pair(value, "padding")
