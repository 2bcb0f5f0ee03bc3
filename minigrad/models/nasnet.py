"""NASNet-A (Zoph et al. 2018, figure 4): two cells that were found by a search, stacked into a small and a large network.

A cell has two inputs, the outputs of the two cells before it, both brought to the cell's number of channels. It adds five
pairs of operations and concatenates the sums; the tables ``NORMAL`` and ``REDUCTION`` hold the pairs. A reduction cell applies
the operations on its inputs with stride 2. Separable convolutions are ReLU, depthwise, pointwise, batch normalization, twice.

"N @ P" means N normal cells between reductions and P channels at the end. Module names are those of the checkpoints of
github.com/Cadene/pretrained-models.pytorch and of timm's ``nasnetalarge``; cells are numbered by six to a stage in the small
network too (cell_0 ... cell_3, cell_6, ...).

Traps. Where a stage begins, the large network takes as the previous output that of the cell before the last one, the small
network that of the last cell: an option of the authors' code that the paper does not mention. Padding is TensorFlow's "same":
an even image that is halved is padded one pixel less on the left and at the top. The mean of a window leaves the padding out
(timm's port counts its zeros where it halves the image). Batch normalization has eps = 1e-3. Not here: the auxiliary
classifier, and the dropping of paths in training.
"""

from __future__ import annotations

from minigrad import nn
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.ops import cat
from minigrad.tensor import Tensor

__all__ = ["Cell", "NASNet", "nasnet_a_large", "nasnet_a_mobile"]

PAPER = Paper(
    "Zoph, Vasudevan, Shlens, Le", "Learning Transferable Architectures for Scalable Image Recognition", 2018, arxiv="1707.07012"
)

# Each pair: left operation, its input, right operation, its input. Input 0 is the previous cell's output, 1 the current one,
# 2 ... 6 are the sums of the pairs so far. A number after "separable" is the size of the kernel.
NORMAL = (
    ("separable 5", 1, "separable 3", 0),
    ("separable 5", 0, "separable 3", 0),
    ("average", 1, "identity", 0),
    ("average", 0, "average", 0),
    ("separable 3", 1, "identity", 1),
)
REDUCTION = (
    ("separable 5", 1, "separable 7", 0),
    ("maximum", 1, "separable 7", 0),
    ("average", 1, "separable 5", 0),
    ("identity", 3, "average", 2),
    ("separable 3", 2, "maximum", 1),
)
OUTPUTS = {NORMAL: (0, 2, 3, 4, 5, 6), REDUCTION: (3, 4, 5, 6)}  # what is concatenated


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


# ---- operations --------------------------------------------------------------------------------------------------------


class SamePadConv2d(nn.Conv2d):
    """A convolution without bias and with TensorFlow's "same" padding: (N, C, H, W) -> (N, O, ceil(H / s), ceil(W / s))."""

    def forward(self, x: Tensor) -> Tensor:
        stride = self.stride[0]
        both = [
            max((-(-size // stride) - 1) * stride + k - size, 0) for size, k in zip(x.shape[2:], self.kernel_size, strict=True)
        ]
        padding = tuple((pad // 2, pad - pad // 2) for pad in both)  # the odd pixel is at the bottom and on the right
        return F.conv2d(x, self.weight, None, self.stride, padding, groups=self.groups)


class Pool(nn.Module):
    """The ``kind`` ("average" or "maximum") of 3 x 3 pixels with "same" padding, which does not count."""

    def __init__(self, kind: str, stride: int) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride

    def forward(self, x: Tensor) -> Tensor:
        # An even size halved has its one pixel of padding at the end: the window that ceil_mode lets reach beyond the image.
        padding = tuple(size % 2 if self.stride == 2 else 1 for size in x.shape[2:])
        if self.kind == "maximum":
            return F.max_pool2d(x, 3, self.stride, padding, ceil_mode=self.stride == 2)
        return F.avg_pool2d(x, 3, self.stride, padding, ceil_mode=self.stride == 2, count_include_pad=False)

    def extra_repr(self) -> str:
        return f"{self.kind}, stride={self.stride}"


class SeparableConv2d(nn.Module):
    """A depthwise convolution and a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.depthwise_conv2d = SamePadConv2d(in_channels, in_channels, kernel, stride=stride, groups=in_channels, bias=False)
        self.pointwise_conv2d = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv2d(self.depthwise_conv2d(x))


class SeparableTwice(nn.Module):
    """ReLU, separable convolution and batch normalization, twice; the first has the ``stride``."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.separable_1 = SeparableConv2d(in_channels, out_channels, kernel, stride)
        self.bn_sep_1 = _norm(out_channels)
        self.separable_2 = SeparableConv2d(out_channels, out_channels, kernel, 1)
        self.bn_sep_2 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn_sep_1(self.separable_1(F.relu(x)))
        return self.bn_sep_2(self.separable_2(F.relu(x)))


class ReluConvNorm(nn.Module):
    """ReLU, 1x1 convolution, batch normalization."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(F.relu(x)))


class HalfPath(nn.Module):
    """A 1x1 convolution of every second pixel, beginning at pixel ``first`` (zeros beyond the image)."""

    def __init__(self, in_channels: int, out_channels: int, first: int) -> None:
        super().__init__()
        self.first = first
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = F.pad(x, (-self.first, self.first, -self.first, self.first))
        return self.conv(x[:, :, ::2, ::2])

    def extra_repr(self) -> str:
        return f"first={self.first}"


# ---- cells -------------------------------------------------------------------------------------------------------------


class Cell(nn.Module):
    """previous, current (N, C, H, W) -> (N, 6 channels, H, W) by ``NORMAL``, (N, 4 channels, H / 2, W / 2) by ``REDUCTION``.

    ``adapt``: how the previous output gets the size and channels of the current one: "conv" by a 1x1 convolution; "halve",
    where it is twice as large, by two of every second pixel; "none" leaves it to the operations, in the first cell.
    """

    def __init__(self, pairs: tuple, in_previous: int, in_current: int, channels: int, adapt: str) -> None:
        super().__init__()
        self.pairs, self.adapt = pairs, adapt
        if adapt == "conv":
            self.conv_prev_1x1 = ReluConvNorm(in_previous, channels)
        self.conv_1x1 = ReluConvNorm(in_current, channels)
        if adapt == "halve":
            self.path_1 = HalfPath(in_previous, channels // 2, 0)
            self.path_2 = HalfPath(in_previous, channels // 2, 1)
            self.final_path_bn = _norm(channels)
        in_channels = {0: in_previous if adapt == "none" else channels}
        for i, (left, from_left, right, from_right) in enumerate(pairs):
            for side, kind, source in (("left", left, from_left), ("right", right, from_right)):
                stride = 2 if pairs is REDUCTION and source < 2 else 1
                operation = _operation(kind, in_channels.get(source, channels), channels, stride)
                setattr(self, f"comb_iter_{i}_{side}", operation)

    def forward(self, previous: Tensor, current: Tensor) -> Tensor:
        states = [self._adapted(previous), self.conv_1x1(current)]
        for i, (_, left, _, right) in enumerate(self.pairs):
            y = getattr(self, f"comb_iter_{i}_left")(states[left])
            states.append(y + getattr(self, f"comb_iter_{i}_right")(states[right]))
        return cat([states[i] for i in OUTPUTS[self.pairs]], 1)

    def _adapted(self, previous: Tensor) -> Tensor:
        if self.adapt == "conv":
            return self.conv_prev_1x1(previous)
        if self.adapt == "halve":
            x = F.relu(previous)
            return self.final_path_bn(cat([self.path_1(x), self.path_2(x)], 1))
        return previous


def _operation(kind: str, in_channels: int, channels: int, stride: int) -> nn.Module:
    if kind == "identity":
        return nn.Identity()
    if kind.startswith("separable"):
        return SeparableTwice(in_channels, channels, int(kind.split()[1]), stride)
    return Pool(kind, stride)


# ---- the networks ------------------------------------------------------------------------------------------------------


class NASNet(nn.Module):
    """A 3x3 convolution, two reduction cells, three stages of ``cells`` normal cells with reductions between, a linear layer.

    x (N, in_channels, H, W), of at least 3 x 3 pixels -> (N, num_classes); the image is halved five times. ``features``: the
    channels at the end, a multiple of 96; ``stem``: those of the first convolution. ``skip_reduction_input``: whether the cell
    after a reduction takes as its previous output that of the cell before the last one (the large network) instead of the last.
    """

    STAGE = 6  # the names of a stage's cells begin at a multiple of this

    def __init__(
        self,
        cells: int,
        features: int,
        stem: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        skip_reduction_input: bool = False,
        dropout: float = 0.5,
    ) -> None:
        if features < 96 or features % 96:
            raise ValueError(f"features, the channels at the end, must be a multiple of 96, got {features!r}")
        if not 1 <= cells <= self.STAGE:
            raise ValueError(f"cells, the normal cells in each of three stages, must be 1 to {self.STAGE}, got {cells!r}")
        super().__init__()
        self.cells, self.skip_reduction_input = cells, skip_reduction_input
        channels = features // 24
        self.conv0 = nn.Sequential()
        self.conv0.add_module("conv", nn.Conv2d(in_channels, stem, 3, stride=2, bias=False))
        self.conv0.add_module("bn", _norm(stem))
        self.cell_stem_0 = Cell(REDUCTION, stem, stem, channels // 4, "none")
        self.cell_stem_1 = Cell(REDUCTION, stem, channels, channels // 2, "halve")
        previous, current = channels, 2 * channels
        for stage in range(3):
            if stage:
                reduction = Cell(REDUCTION, previous, current, 2 * channels, "conv")
                setattr(self, f"reduction_cell_{stage - 1}", reduction)
                previous = previous if skip_reduction_input else current
                channels, current = 2 * channels, 8 * channels
            for i in range(cells):
                cell = Cell(NORMAL, previous, current, channels, "conv" if i else "halve")
                setattr(self, f"cell_{stage * self.STAGE + i}", cell)
                previous, current = current, 6 * channels
        self.dropout = nn.Dropout(dropout)
        self.last_linear = nn.Linear(current, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv0(x)
        previous = self.cell_stem_0(x, x)
        current = self.cell_stem_1(x, previous)
        for stage in range(3):
            if stage:
                reduced = getattr(self, f"reduction_cell_{stage - 1}")(previous, current)
                previous, current = previous if self.skip_reduction_input else current, reduced
            for i in range(self.cells):
                cell = getattr(self, f"cell_{stage * self.STAGE + i}")
                previous, current = current, cell(previous, current)
        x = F.adaptive_avg_pool2d(F.relu(current), 1).flatten(1)
        return self.last_linear(self.dropout(x))


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=5_289_978, macs=563_638_816)
def nasnet_a_mobile(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> NASNet:
    """NASNet-A (4 @ 1056), the mobile network: cells found by a search, four between reductions."""
    return NASNet(4, 1056, 32, num_classes, in_channels, dropout=dropout)


@register(paper=PAPER, input_shape=(3, 331, 331), parameters=88_753_150, macs=23_783_414_658)
def nasnet_a_large(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> NASNet:
    """NASNet-A (6 @ 4032), the large network: the same cells, six between reductions, for images of 331."""
    return NASNet(6, 4032, 96, num_classes, in_channels, skip_reduction_input=True, dropout=dropout)
