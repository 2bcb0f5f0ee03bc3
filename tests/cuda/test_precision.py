"""Autocast, 16-bit tensors and the gradient scaler on the graphics card, or on its stand-in."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.ops import _precision_lists as lists
from minigrad.ops._base import observed
from tests.cuda import on_device

F = nn.functional
LOW = {"float16": mg.float16, "bfloat16": mg.bfloat16}


@pytest.fixture(autouse=True)
def card(monkeypatch):
    """CuPy, or what stands in for it, as everybody imports it."""
    library = on_device._library()
    if not on_device.has_card():
        monkeypatch.setitem(sys.modules, "cupy", library)
        monkeypatch.setitem(sys.modules, "cupy.cuda", library.cuda)
    return library


@pytest.fixture(params=LOW)
def low(request):
    return request.param


def eps(low: str) -> float:
    return float(mg.finfo(LOW[low]).eps)


def net() -> nn.Module:
    mg.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.GroupNorm(2, 8),
        nn.SiLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(32),
        nn.Linear(32, 4),
    )


def batch():
    rng = np.random.default_rng(1)
    return mg.tensor(rng.standard_normal((6, 3, 8, 8)).astype(np.float32)), mg.tensor(np.arange(6) % 4)


def test_a_network_in_mixed_precision(low, card):
    x, labels = batch()
    exact = net()
    expected = F.cross_entropy(exact(x), labels)
    expected.backward()
    model = net().cuda()
    with mg.autocast("cuda", LOW[low]):
        scores = model(x.cuda())
        loss = F.cross_entropy(scores, labels.cuda())
    assert scores.dtype == LOW[low]
    assert loss.dtype == mg.float32
    loss.backward()
    assert abs(loss.item() - expected.item()) < 16 * eps(low)
    for (name, p), q in zip(model.named_parameters(), exact.named_parameters(), strict=True):
        assert isinstance(p.grad.data, card.ndarray), name
        assert p.dtype == p.grad.dtype == mg.float32, name
        theirs = q[1].grad.numpy()
        assert np.linalg.norm(p.grad.numpy() - theirs) < 24 * eps(low) * (np.linalg.norm(theirs) + 0.01), name
    for ours, theirs in zip(model.buffers(), exact.buffers(), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=8 * eps(low), atol=8 * eps(low))


def test_training_goes_down(low):
    x, labels = (t.cuda() for t in batch())
    model = net().cuda()
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler, losses = mg.amp.GradScaler("cuda", enabled=low == "float16"), []
    for _ in range(8):
        optimizer.zero_grad()
        with mg.autocast("cuda", LOW[low]):
            loss = F.cross_entropy(model(x), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0], losses


def arguments(low) -> dict:
    rng = np.random.default_rng(0)

    def draw(*shape):
        return mg.tensor(rng.uniform(0.1, 1, shape).astype(np.float32)).cuda()

    names = {"x": draw(2, 4, 6, 6), "w": draw(3, 4, 3, 3), "lw": draw(5, 6), "a": draw(6, 6), "v": draw(6), "n": draw(4)}
    return {**names, "X": names["x"].to(low), "A": names["a"].to(low), "V": names["v"].to(low), "t": mg, "F": F}


LOWER = """F.conv2d(x, w);F.linear(x, lw);t.matmul(a, a);A @ a;t.mv(a, v);t.einsum('ij,jk->ik', a, a);F.relu(X);X + X;X * 2.5;-X
t.cat([X, X]);t.dot(V, V);t.outer(V, V);F.max_pool2d(X, 2);F.avg_pool2d(X, 2);F.batch_norm(X, None, None, n, n, True);t.mean(X)
F.adaptive_avg_pool2d(X, 1);F.silu(X);t.sigmoid(X);F.dropout(X, 0.5);F.instance_norm(X);t.tanh(X);X.flatten(1);X / X"""
SINGLE = """t.exp(X);t.log(X);X ** 2;2 / X;2 ** X;F.softplus(X);t.softmax(X, 1);t.log_softmax(X, 1);t.sum(X);t.cumsum(X, 1)
t.norm(X);F.layer_norm(X, (6,));F.group_norm(X, 2, n, n);F.interpolate(X, scale_factor=2);F.mse_loss(X, X);F.l1_loss(X, x)
X + x;t.cat([X, x]);t.dot(V, v);F.relu(x);t.reciprocal(X);t.rsqrt(X);F.binary_cross_entropy_with_logits(X, X)
F.batch_norm(x, None, None, n, n, True)"""


@pytest.mark.parametrize("call", [c for line in LOWER.splitlines() for c in line.split(";")])
def test_computed_in_16_bits(call, low):
    with mg.autocast("cuda", LOW[low]):
        assert eval(call, arguments(LOW[low])).dtype == LOW[low]


@pytest.mark.parametrize("call", [c for line in SINGLE.splitlines() for c in line.split(";")])
def test_computed_in_float32(call, low):
    with mg.autocast("cuda", LOW[low]):
        assert eval(call, arguments(LOW[low])).dtype == mg.float32


def test_probabilities_and_their_logarithms_are_refused():
    p = mg.full((3,), 0.5, device="cuda")
    with mg.autocast("cuda"):
        with pytest.raises(
            RuntimeError, match=r"binary_cross_entropy: is unsafe under autocast.*binary_cross_entropy_with_logits"
        ):
            F.binary_cross_entropy(p, p)
        with mg.autocast("cuda", enabled=False):
            assert F.binary_cross_entropy(p, p).dtype == mg.float32


def test_only_tensors_of_the_device_are_cast():
    x = mg.ones(2, 2)
    with mg.autocast("cuda"):
        assert (x @ x).dtype == mg.float32
        assert (x.cuda() @ x.cuda()).dtype == mg.float16
    with mg.autocast("cpu"):
        assert (x @ x).dtype == mg.bfloat16
        assert (x.cuda() @ x.cuda()).dtype == mg.float32


def ones(x):
    """Parameters of a normalization for images x."""
    return mg.ones(x.shape[1], device=x.device)


NATIVE = {
    "conv2d": lambda x: F.conv2d(x, x[:, :, :3, :3]),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, x[:1].transpose(0, 1)),
    "linear": lambda x: F.linear(x, x[0, 0]),
    "matmul": lambda x: x @ x,
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "batch_norm_training": lambda x: F.batch_norm(x, None, None, ones(x), ones(x), True),
    "batch_norm_inference": lambda x: F.batch_norm(x, ones(x), ones(x)),
    "group_norm": lambda x: F.group_norm(x, 2),
    "layer_norm": lambda x: F.layer_norm(x, (6,), x[0, 0, 0], x[0, 0, 0]),
    "relu": F.relu,
    "add": lambda x: x + x,
    "mul": lambda x: x * x,
}


@pytest.mark.parametrize("name", NATIVE)
def test_kernels_read_and_write_16_bits(name, low):
    """No cast on the way, and the values and gradients of the processor."""
    values = mg.tensor(np.random.default_rng(0).standard_normal((4, 4, 6, 6)).astype(np.float32)).to(LOW[low])
    results, seen = [], []

    def observer(function, args, kwargs):
        seen.append(function.__name__)
        return function(*args, **kwargs)

    for place in ("cuda", "cpu"):
        x = values.to(place).clone().requires_grad_()
        with observed(observer):
            y = NATIVE[name](x)
        if place == "cuda":
            assert "cast" not in seen
        y.backward(mg.ones(y.shape, dtype=y.dtype, device=place))
        assert y.dtype == x.grad.dtype == LOW[low]
        results.append([np.array(t.detach().cpu().float().numpy()) for t in (y, x.grad)])
    for ours, theirs in zip(*results, strict=True):
        assert np.abs(ours - theirs).max() <= 8 * eps(low) * max(1.0, np.abs(theirs).max())


def test_native_ops_are_tried():
    """Every op that claims to read 16 bits itself is tested here, under its own name or that of an op which it calls."""
    called = {"mm": "matmul", "bmm": "matmul", "mv": "matmul", "dot": "matmul", "outer": "matmul"}
    called |= {"adaptive_avg_pool2d": "avg_pool2d", "adaptive_max_pool2d": "max_pool2d", "instance_norm_training": "group_norm"}
    assert {called.get(name, name) for name in lists.NATIVE} <= NATIVE.keys()


def test_a_bad_step_is_left_out():
    p = mg.ones(3, device="cuda", requires_grad=True)
    optimizer = mg.optim.SGD([p], lr=0.5)
    scaler = mg.amp.GradScaler("cuda", init_scale=4.0)
    for factor, expected, scale in ((float("inf"), 1.0, 2.0), (1.0, 0.5, 2.0)):
        optimizer.zero_grad()
        scaler.scale((p * mg.tensor([1.0, factor, 1.0]).cuda()).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert p.tolist() == [expected] * 3
        assert scaler.get_scale() == scale
