"""The layers and losses that the tests walk: constructor calls, with what they are given."""

from __future__ import annotations

import numpy as np

IMAGE = (2, 4, 7, 6)

# (constructor call, input shape): the same text is evaluated with our nn and with PyTorch's
LAYERS = [
    ("Identity()", IMAGE),
    ("Linear(6, 5)", (3, 6)),
    ("Linear(6, 5, bias=False)", IMAGE),
    ("Flatten()", IMAGE),
    ("Flatten(0, 2)", IMAGE),
    ("Unflatten(1, (2, 2))", IMAGE),
    ("Conv2d(4, 6, 3)", IMAGE),
    ("Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False)", IMAGE),
    ("Conv2d(4, 8, 3, padding=1, groups=2)", IMAGE),
    ("Conv2d(4, 4, 3, groups=4, padding='same')", IMAGE),
    ("Conv2d(4, 3, (2, 4), padding='same')", IMAGE),
    ("Conv2d(4, 3, 3, padding='valid')", IMAGE),
    ("Conv2d(4, 3, 3, padding=(1, 2), padding_mode='reflect')", IMAGE),
    ("Conv2d(4, 3, 3, padding=2, stride=2, padding_mode='replicate')", IMAGE),
    ("Conv2d(4, 3, (2, 3), padding='same', padding_mode='circular')", IMAGE),
    ("ConvTranspose2d(4, 6, 3)", IMAGE),
    ("ConvTranspose2d(4, 6, (3, 2), stride=2, padding=1, output_padding=(1, 0), groups=2, bias=False)", IMAGE),
    ("ConvTranspose2d(4, 6, 2, stride=3, dilation=2)", IMAGE),
    ("MaxPool2d(2)", IMAGE),
    ("MaxPool2d(3, stride=2, padding=1, ceil_mode=True)", IMAGE),
    ("MaxPool2d((3, 2), stride=(2, 1), dilation=2)", IMAGE),
    ("MaxPool2d(2, return_indices=True)", IMAGE),
    ("AvgPool2d(2)", IMAGE),
    ("AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)", IMAGE),
    ("AvgPool2d(3, divisor_override=5)", IMAGE),
    ("LPPool2d(2, 3, stride=2)", IMAGE),
    ("LPPool2d(4.0, (2, 3), ceil_mode=True)", IMAGE),
    ("AdaptiveAvgPool2d(1)", IMAGE),
    ("AdaptiveAvgPool2d((3, None))", IMAGE),
    ("AdaptiveMaxPool2d((2, 3))", IMAGE),
    ("AdaptiveMaxPool2d(2, return_indices=True)", IMAGE),
    ("BatchNorm1d(5)", (8, 5)),
    ("BatchNorm1d(5, eps=1e-3, momentum=0.4)", (3, 5, 6)),
    ("BatchNorm2d(4)", IMAGE),
    ("BatchNorm2d(4, momentum=None)", IMAGE),
    ("BatchNorm2d(4, affine=False)", IMAGE),
    ("BatchNorm2d(4, track_running_stats=False)", IMAGE),
    ("InstanceNorm2d(4)", IMAGE),
    ("InstanceNorm2d(4, affine=True, track_running_stats=True)", IMAGE),
    ("GroupNorm(2, 4)", IMAGE),
    ("GroupNorm(4, 4, affine=False)", IMAGE),
    ("GroupNorm(1, 6)", (3, 6)),
    ("LayerNorm(6)", IMAGE),
    ("LayerNorm((4, 7, 6), eps=1e-3)", IMAGE),
    ("LayerNorm([7, 6], bias=False)", IMAGE),
    ("LayerNorm(6, elementwise_affine=False)", (3, 6)),
    ("LocalResponseNorm(3)", IMAGE),
    ("LocalResponseNorm(2, alpha=0.5, beta=0.6, k=2.0)", IMAGE),
    ("ReLU()", IMAGE),
    ("ReLU6()", IMAGE),
    ("LeakyReLU()", IMAGE),
    ("LeakyReLU(0.2)", IMAGE),
    ("ELU(0.7)", IMAGE),
    ("SELU()", IMAGE),
    ("GELU()", IMAGE),
    ("GELU(approximate='tanh')", IMAGE),
    ("SiLU()", IMAGE),
    ("Mish()", IMAGE),
    ("Hardswish()", IMAGE),
    ("Hardsigmoid()", IMAGE),
    ("Hardtanh(-0.5, 2.0)", IMAGE),
    ("CELU(0.6)", IMAGE),
    ("PReLU()", IMAGE),
    ("PReLU(4, init=0.1)", IMAGE),
    ("PReLU(6)", (3, 6)),
    ("Softsign()", IMAGE),
    ("Softmax2d()", IMAGE),
    ("Sigmoid()", IMAGE),
    ("LogSigmoid()", IMAGE),
    ("Tanh()", IMAGE),
    ("Softplus()", IMAGE),
    ("Softmax(dim=1)", IMAGE),
    ("LogSoftmax(dim=-1)", IMAGE),
    ("Dropout(0.0)", IMAGE),
    ("Dropout2d(0.0)", IMAGE),
    ("ZeroPad2d(2)", IMAGE),
    ("ZeroPad2d((1, -1, 0, 2))", IMAGE),
    ("ConstantPad2d((1, 2, 0, 3), 0.5)", IMAGE),
    ("ReflectionPad2d((1, 2, 0, 3))", IMAGE),
    ("ReplicationPad2d(2)", IMAGE),
    ("CircularPad2d((1, 2, 0, 3))", IMAGE),
    ("Upsample(scale_factor=2)", IMAGE),
    ("Upsample(size=(5, 9), mode='bilinear')", IMAGE),
    ("Upsample(scale_factor=(1.5, 2), mode='bilinear', align_corners=True)", IMAGE),
    ("UpsamplingNearest2d(size=(9, 4))", IMAGE),
    ("UpsamplingBilinear2d(scale_factor=3)", IMAGE),
    ("PixelShuffle(2)", IMAGE),
    ("PixelUnshuffle(2)", (2, 3, 4, 6)),
    ("ChannelShuffle(2)", IMAGE),
    ("Unfold((3, 2), padding=1, stride=2)", IMAGE),
    ("Fold((4, 5), 2)", (2, 8, 12)),
]

# (constructor call, kind of target)
LOSSES = [
    ("CrossEntropyLoss()", "classes"),
    ("CrossEntropyLoss(ignore_index=1, label_smoothing=0.1, reduction='sum')", "classes"),
    ("NLLLoss(reduction='none')", "classes"),
    ("MSELoss()", "values"),
    ("L1Loss(reduction='sum')", "values"),
    ("SmoothL1Loss(beta=0.3)", "values"),
    ("HuberLoss(delta=0.4)", "values"),
    ("KLDivLoss(reduction='batchmean')", "probabilities"),
    ("BCELoss()", "probabilities"),
    ("BCEWithLogitsLoss()", "probabilities"),
]


def image(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def loss_inputs(call: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores and target for a loss of ``LOSSES``."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.9, (6, 3)) if "BCELoss" in call else rng.normal(size=(6, 3))
    target = {
        "classes": rng.integers(0, 3, 6),
        "values": rng.normal(size=(6, 3)),
        "probabilities": rng.uniform(size=(6, 3)),
    }[kind]
    return x, target
