"""Networks: modules (layers and containers) with parameters, under the names and with the arguments of ``torch.nn``."""

from __future__ import annotations

from minigrad._names import missing
from minigrad.nn import functional, init, utils
from minigrad.nn.activation import (
    CELU,
    ELU,
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softmax2d,
    Softplus,
    Softsign,
    Tanh,
)
from minigrad.nn.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from minigrad.nn.conv import Conv2d, ConvTranspose2d, Fold, Unfold
from minigrad.nn.dropout import Dropout, Dropout2d
from minigrad.nn.linear import Flatten, Identity, Linear, Unflatten
from minigrad.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from minigrad.nn.module import Module
from minigrad.nn.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm2d,
    LayerNorm,
    LocalResponseNorm,
    LocalResponseNormPaper,
)
from minigrad.nn.padding import CircularPad2d, ConstantPad2d, ReflectionPad2d, ReplicationPad2d, ZeroPad2d
from minigrad.nn.parameter import Buffer, Parameter
from minigrad.nn.pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, LPPool2d, MaxPool2d
from minigrad.nn.upsampling import (
    ChannelShuffle,
    PixelShuffle,
    PixelUnshuffle,
    Upsample,
    UpsamplingBilinear2d,
    UpsamplingNearest2d,
)

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Buffer",
    "CELU",
    "ChannelShuffle",
    "CircularPad2d",
    "ConstantPad2d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout2d",
    "ELU",
    "Flatten",
    "Fold",
    "GELU",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HuberLoss",
    "Identity",
    "InstanceNorm2d",
    "KLDivLoss",
    "L1Loss",
    "LPPool2d",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LocalResponseNormPaper",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Mish",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "PReLU",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReLU",
    "ReLU6",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "SELU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softmax2d",
    "Softplus",
    "Softsign",
    "Tanh",
    "Unflatten",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad2d",
    "functional",
    "init",
    "utils",
]


# What PyTorch has and minigrad leaves out: name -> what to do instead.
_OUTSIDE = {
    "Conv1d": "x.unsqueeze(2) and nn.Conv2d with kernel_size=(1, k) compute the same",
    "DataParallel": "minigrad runs on one device: use the module itself",
    "Embedding": "minigrad is for images: nn.Linear of F.one_hot(x, n).float() computes the same",
    "MultiheadAttention": "minigrad is for convolutional networks: build it from nn.Linear, matmul and softmax",
    "SyncBatchNorm": "minigrad runs on one device: use nn.BatchNorm2d",
    "modules": "all layers are in minigrad.nn itself: nn.Conv2d instead of nn.modules.conv.Conv2d",
    "parallel": "minigrad runs on one device: use the module itself",
    **dict.fromkeys(
        ("BatchNorm3d", "Conv3d", "ConvTranspose3d", "MaxPool3d", "AvgPool3d"), "minigrad is for images, not for volumes"
    ),
    **dict.fromkeys(("RNN", "LSTM", "GRU"), "minigrad is for convolutional networks"),
    **dict.fromkeys(("Transformer", "TransformerEncoder", "TransformerEncoderLayer"), "minigrad is for convolutional networks"),
}


def __getattr__(name: str):
    if name in _OUTSIDE:
        raise AttributeError(f"minigrad.nn has no attribute {name!r}: {_OUTSIDE[name]}", name=name)
    raise missing("minigrad.nn", name, __all__)
