"""What models are compared with: the canonical state dicts, and PyTorch's networks with the same weights."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

FINGERPRINTS = json.loads(Path(__file__).with_name("state_dicts.json").read_text(encoding="utf-8"))


def count(model) -> int:
    """The number of learned numbers."""
    return sum(p.numel() for p in model.parameters())


def fingerprint(entries) -> list:
    """[number of entries, a digest of their names and shapes in their order]."""
    lines = [f"{name} {list(shape)}" for name, shape in entries]
    return [len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]]


def assert_canonical_state(model: nn.Module, name: str) -> None:
    """The names and shapes of the state dict are those of the canonical file ``name``, in their order."""
    assert fingerprint((key, value.shape) for key, value in model.state_dict().items()) == FINGERPRINTS[name]


def import_torchvision():
    """torchvision.models, or skip. A build for another version of PyTorch serves as well: its operators are not needed."""
    torch = pytest.importorskip("torch")
    if importlib.util.find_spec("torchvision") is not None:
        _declare_operators(torch)
    return pytest.importorskip("torchvision.models")


def import_timm():
    """timm, or skip."""
    import_torchvision()
    return pytest.importorskip("timm")


_declared = []  # libraries of operators, which vanish with their last reference


def _declare_operators(torch) -> None:
    """Declare torchvision's operators where its compiled library does not load, so that its Python code can be imported."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
            library.define(f"{name}(Tensor x, Tensor y, float t) -> Tensor")
        _declared.append(library)


def randomize(model, seed: int = 0) -> None:
    """Give a PyTorch model new statistics and affine parameters of its normalizations; convolutions keep theirs."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def uniform(t, low, high):
        t.copy_(torch.rand(t.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.GroupNorm, torch.nn.LayerNorm)):
                uniform(module.weight, 0.8, 1.2)
                uniform(module.bias, -0.2, 0.2)
                if getattr(module, "running_mean", None) is not None:
                    uniform(module.running_mean, -0.2, 0.2)
                    uniform(module.running_var, 0.5, 1.5)


def load_torch(model: nn.Module, theirs) -> None:
    """Load the weights of a PyTorch model; raises if a name or a shape differs."""
    model.load_state_dict({name: mg.tensor(value.numpy()) for name, value in theirs.state_dict().items()})


def assert_like_torch(model: nn.Module, theirs, shape, gradients: bool = False, seed: int = 0, logits: float = 1e-4) -> None:
    """With the same weights and images, the same outputs in evaluation mode, to ``logits`` of the largest one.

    shape: (N, C, H, W). ``gradients``: those of a cross-entropy with respect to all parameters too, in training mode for
    the normalization and without dropout, each to 1e-3 of its largest entry.
    """
    import torch

    torch.manual_seed(seed)
    randomize(theirs, seed)
    load_torch(model, theirs)
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    model.eval()
    theirs.eval()
    with mg.no_grad(), torch.no_grad():
        ours, expected = model(mg.tensor(x)).numpy(), theirs(torch.from_numpy(x)).numpy()
    assert ours.shape == expected.shape
    assert abs(ours - expected).max() <= logits * abs(expected).max()
    if gradients:
        _assert_like_gradients(model, theirs, x)


def _assert_like_gradients(model, theirs, x) -> None:
    """In float64, where differences are faults and not roundings."""
    import torch

    model, theirs = model.double(), theirs.double()
    for module in (*model.modules(), *theirs.modules()):
        module.training = "BatchNorm" in type(module).__name__  # nothing at random
    y, expected = model(mg.tensor(x.astype(np.float64))), theirs(torch.from_numpy(x.astype(np.float64)))
    labels = np.arange(y.numel() // y.shape[1]) % y.shape[1]
    targets = labels.reshape(y.shape[0], *y.shape[2:])
    F.cross_entropy(y, mg.tensor(targets)).backward()
    torch.nn.functional.cross_entropy(expected, torch.from_numpy(targets)).backward()
    named = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        gradient = named[name].grad.numpy()
        assert parameter.grad is not None, name
        assert abs(parameter.grad.numpy() - gradient).max() <= 1e-3 * abs(gradient).max() + 1e-12, name
