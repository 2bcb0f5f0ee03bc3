"""Running one of our modules and PyTorch's beside each other: same weights, same input, same gradient from above."""

from __future__ import annotations

import re

import numpy as np

import minigrad as mg


def load_from_torch(ours, theirs) -> None:
    """Copy the state of PyTorch's module ``theirs`` into ``ours``, after checking that the keys and their order agree."""
    state = {key: value.detach().numpy() for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()]
    ours.load_state_dict(state)


def torch_text(module) -> str:
    """PyTorch's repr; versions before 2.13 do not show the bias of a normalization."""
    import torch

    text = repr(module)
    if tuple(int(v) for v in torch.__version__.split(".")[:2]) < (2, 13):
        text = re.sub(r"((?:Batch|Instance|Group|Layer)Norm\w*\(.*?affine=(True|False))(?!, bias)", r"\1, bias=\2", text)
    return text


def compare(ours, theirs, *inputs: np.ndarray, tolerance: float = 1e-10, check_grad: bool = True) -> None:
    """Forward and backward of both modules on the same arrays: outputs, gradients of inputs and parameters, and buffers."""
    import torch

    xs = [mg.tensor(a, requires_grad=a.dtype.kind == "f" and check_grad) for a in inputs]
    ts = [torch.tensor(a, requires_grad=a.dtype.kind == "f" and check_grad) for a in inputs]
    y, t = ours(*xs), theirs(*ts)
    y, t = (y, t) if isinstance(y, tuple) else ((y,), (t,))
    for a, b in zip(y, t, strict=True):
        assert a.dtype == b.detach().numpy().dtype
        close(a.detach().numpy(), b.detach().numpy(), tolerance)
    for (name, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        close(a.numpy(), b.numpy(), tolerance, name)
    if not check_grad:
        return
    gy = np.random.default_rng(5).normal(size=y[0].shape).astype(inputs[0].dtype)
    y[0].backward(mg.tensor(gy))
    t[0].backward(torch.tensor(gy))
    for i, (a, b) in enumerate(zip(xs, ts, strict=True)):
        if b.grad is not None:
            close(a.grad.numpy(), b.grad.numpy(), tolerance, f"gradient of input {i}")
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        close(a.grad.numpy(), b.grad.numpy(), tolerance, f"gradient of {name}")


def close(a: np.ndarray, b: np.ndarray, tolerance: float, what: str = "output") -> None:
    assert a.shape == b.shape, f"{what}: {a.shape} instead of {b.shape}"
    scale = max(float(np.abs(b).max(initial=0.0)), 1e-30)
    np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance, err_msg=what)
