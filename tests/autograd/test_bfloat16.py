"""Tensors of 16-bit numbers: made, converted, printed, computed with, and differentiated. PyTorch is the oracle."""

from __future__ import annotations

import copy
import pickle
import re
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.device import is_floating
from minigrad.ops._base import observed

F = nn.functional
LOW = {"bfloat16": mg.bfloat16, "float16": mg.float16}


@pytest.fixture(params=LOW)
def low(request):
    return request.param


# ---- made, converted and shown -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda d: mg.tensor([1.5, -2.0], dtype=d),
        lambda d: mg.tensor([1.5, -2.0]).to(d),
        lambda d: mg.tensor(np.array([1.5, -2.0]).astype(d)),
        lambda d: mg.from_numpy(np.array([1.5, -2.0]).astype(d)),
        lambda d: mg.Tensor(np.array([1.5, -2.0]).astype(d)),
        lambda d: mg.tensor([1.5, -2.0]).to(d.name),
        lambda d: mg.tensor([1.5, -2.0]).type(d),
        lambda d: mg.as_tensor([1.5, -2.0], dtype=d),
        lambda d: mg.cat([mg.full((1,), 1.5, dtype=d), mg.full((1,), -2.0, dtype=d)]),
        lambda d: mg.ones(2, dtype=d) * mg.tensor([1.5, -2.0], dtype=d),
        lambda d: mg.empty_like(mg.ones(2), dtype=d).copy_(mg.tensor([1.5, -2.0])),
    ],
)
def test_made(make, low):
    t = make(LOW[low])
    assert t.dtype == LOW[low]
    assert t.is_floating_point()
    assert t.element_size() == 2
    assert t.tolist() == [1.5, -2.0]


def test_methods_convert():
    x = mg.tensor([1.0, 1 / 3, 1e38])
    assert x.bfloat16().dtype == x.half().bfloat16().dtype == mg.bfloat16
    assert x.bfloat16().float()[:2].tolist() == [1.0, 0.333984375]
    assert x.bfloat16().double().dtype == mg.float64
    assert x.bfloat16()[:2].half().tolist() == [1.0, 0.333984375]
    assert x.bfloat16().bfloat16().dtype == mg.bfloat16
    assert mg.tensor([2.7]).bfloat16().long().tolist() == [2]
    assert x.bfloat16().type() == "torch.BFloat16Tensor"


def test_rounding_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * np.float32(10.0) ** np.arange(-40, 38, 0.0078)
    x = np.concatenate([x.astype(np.float32), [np.inf, -np.inf, np.nan, -0.0, 3.4e38, 1e-45]]).astype(np.float32)
    ours, theirs = mg.tensor(x).bfloat16().float().numpy(), torch.tensor(x).bfloat16().float().numpy()
    assert np.array_equal(ours, theirs, equal_nan=True)


@pytest.mark.parametrize("draw", [mg.rand, mg.randn])
def test_random(draw, low):
    mg.manual_seed(1)
    t = draw(3, 4, dtype=LOW[low])
    mg.manual_seed(1)
    assert t.dtype == LOW[low]
    assert mg.equal(t, draw(3, 4).to(LOW[low]))


def test_printed():
    assert repr(mg.tensor([1.5, -2.25]).bfloat16()) == "tensor([ 1.5000, -2.2500], dtype=bfloat16)"
    assert repr(mg.tensor([3.0]).bfloat16()) == "tensor([3.], dtype=bfloat16)"
    assert f"{mg.tensor(1.5).bfloat16():.3f}" == "1.500"


def test_values_in_python():
    x = mg.tensor(1.5).bfloat16()
    assert (x.item(), float(x), int(x), bool(x)) == (1.5, 1.5, 1, True)
    assert type(x.item()) is float


def test_copied_and_pickled(low):
    x = mg.randn(3, dtype=LOW[low]).requires_grad_()
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), x.detach().clone()):
        assert y.dtype == LOW[low]
        assert mg.equal(x, y)


def test_limits():
    torch = pytest.importorskip("torch")
    for low in LOW:
        ours, theirs = mg.finfo(LOW[low]), torch.finfo(getattr(torch, low))
        assert (float(ours.eps), float(ours.max), float(ours.tiny)) == (theirs.eps, theirs.max, theirs.tiny)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for use in (lambda: mg.bfloat16, lambda: mg.ones(1).bfloat16(), lambda: mg.ones(1, dtype="bfloat16")):
        with pytest.raises(ImportError, match="bfloat16 needs the package ml_dtypes: pip install ml_dtypes"):
            use()
    with mg.autocast("cpu", mg.float16):
        assert (mg.ones(1, 1) @ mg.ones(1, 1)).dtype == mg.float16


def test_which_dtypes_are_floating():
    assert all(map(is_floating, map(np.dtype, ("f2", "f4", "f8", mg.bfloat16))))
    assert not any(map(is_floating, map(np.dtype, ("i4", "u1", "?", "V2", "U1", [("bfloat16", "f4")]))))


def test_other_small_floats_are_refused():
    import ml_dtypes

    for dtype in (ml_dtypes.float8_e4m3fn, ml_dtypes.int4):
        with pytest.raises(TypeError, match="tensors hold booleans, integers or real numbers"):
            mg.Tensor(np.zeros(2, dtype))
        with pytest.raises(TypeError, match="tensors hold booleans, integers or real numbers"):
            mg.zeros(2, dtype=dtype)


# ---- dtypes of results, values and gradients ---------------------------------------------------------------------------

# x, y: 16 bits (2, 3, 8, 8); f: float32 (8); s, z: without dimensions; i: integers; c: conditions
CALLS = """
x + y  x - y  x * y  x / y  -x  abs(x)  x + f  f - x  x * 2.5  2.5 / x  x ** 2  x + 1  x + s  x * z  i + x  x / i  s + f
t.maximum(x, y)  t.minimum(x, y)  t.where(c, x, y)  t.clamp(x, 0.3, 0.9)  x // 0.3  t.remainder(x, 0.3)  x < 0.5  x == y
t.exp(x)  t.log(x)  t.sqrt(x)  t.rsqrt(x)  t.square(x)  t.reciprocal(x)  t.sin(x)  t.cos(x)  t.tanh(x)  t.erf(x)  t.expm1(x)
t.floor(x * 4)  t.ceil(x * 4)  t.sign(x)  t.round(x * 4)  F.relu(x)  F.relu6(x)  F.silu(x)  F.gelu(x)  F.elu(x)  F.mish(x)
F.hardswish(x)  F.hardsigmoid(x)  F.leaky_relu(x)  F.softplus(x)  F.logsigmoid(x)  F.selu(x)  F.hardtanh(x)  t.sigmoid(x)
x.sum()  x.sum(1)  x.mean()  x.mean((2, 3))  x.var()  x.std(1)  x.amax(1)  x.prod(3)  x.cumsum(1)  x.norm()  t.logsumexp(x, 1)
x.max()  x.max(1)[0]  x.sort(3)[0]  x.topk(2)[0]  x.argmax(1)  t.softmax(x, 1)  t.log_softmax(x, 1)
x @ y  F.linear(x, w)  F.conv2d(x, k)  F.conv_transpose2d(x, k.transpose(0, 1))  t.einsum('nchw,nchw->n', x, y)
F.max_pool2d(x, 2)  F.avg_pool2d(x, 2)  F.adaptive_avg_pool2d(x, 1)  F.batch_norm(x, None, None, n, n, True)
F.batch_norm(x, None, None, n.float(), n.float(), True)  F.group_norm(x, 3, n, n)  F.layer_norm(x, (8,))  F.instance_norm(x)
F.interpolate(x, scale_factor=2)  F.pad(x, (1, 1))  F.unfold(x, 3)  F.mse_loss(x, y)  F.l1_loss(x, y)  F.huber_loss(x, y)
F.cross_entropy(x, l)  F.cross_entropy(x, t.softmax(y, 1))  F.binary_cross_entropy_with_logits(x, y)  F.dropout(x, training=False)
x[0]  x[:, 1:, ::2]  x[j]  x[c]  x.flatten(1)  x.transpose(1, 2)  x.permute(0, 2, 3, 1)  t.cat([x, y], 1)  t.stack([x, y])
x.split(1, 1)[1]  x.repeat(2, 1, 1, 1)  x.expand(2, 2, 3, 8, 8)  x.flip(1)  x.roll(1, 2)  x.masked_fill(c, 2.5)
x.gather(1, l[:, None])  x.index_select(0, j)  (x * 1).add_(1.5)  (x * 1).mul_(f)  (x * 1).sub_(y)  (x * 1).div_(3)
(x * 1).clamp_(0.5)  F.silu(x * 1, inplace=True)  F.relu(x * 1, inplace=True)  (x * 1).copy_(f)
"""
CALLS = re.split(r"\s{2,}|\n", CALLS.strip())
WITHOUT_GRADIENT = {"x // 0.3", "t.remainder(x, 0.3)"}  # as of every dtype
OVERWRITING = {"(x * 1).copy_(f)"}


def arguments(library, low: str) -> dict:
    rng, dtype = np.random.default_rng(0), getattr(library, low)

    def draw(*shape, kind=dtype):
        return library.tensor(rng.uniform(0.1, 1, shape).astype(np.float32)).to(kind)

    names = {"x": draw(2, 3, 8, 8), "y": draw(2, 3, 8, 8), "w": draw(5, 8), "k": draw(4, 3, 3, 3), "n": draw(3)}
    names |= {"f": draw(8, kind=library.float32), "s": draw(), "z": draw(kind=library.float32)}
    names |= {"i": library.tensor(rng.integers(1, 5, (2, 3, 8, 8))), "c": library.tensor(rng.random((2, 3, 8, 8)) < 0.5)}
    names |= {"l": library.tensor(rng.integers(0, 3, (2, 8, 8))), "j": library.tensor(np.array([1, 0, 1, 1]))}
    names["x"].requires_grad_()
    return {**names, "t": library, "F": library.nn.functional}


@pytest.mark.parametrize("call", CALLS)
def test_results_are_those_of_pytorch(call, low):
    torch = pytest.importorskip("torch")
    ours, theirs = arguments(mg, low), arguments(torch, low)
    y, expected = eval(call, ours), eval(call, theirs)
    assert f"torch.{y.dtype}" == str(expected.dtype)
    eps = float(mg.finfo(LOW[low]).eps)
    _assert_close(y, expected, eps, "result")
    if expected.requires_grad and call not in WITHOUT_GRADIENT:
        gradient = np.random.default_rng(1).uniform(0.5, 1, y.shape).astype(np.float32)
        y.backward(mg.tensor(gradient).to(y.dtype))
        expected.backward(torch.tensor(gradient).to(expected.dtype))
        if call in OVERWRITING:
            assert ours["x"].grad is None or not ours["x"].grad.any()
            return
        assert ours["x"].grad.dtype == LOW[low]
        # PyTorch rounds the statistics of a normalization whose parameters have 16 bits before it goes back.
        _assert_close(ours["x"].grad, theirs["x"].grad, eps * (4 if "_norm(" in call else 1), "gradient")


def _assert_close(ours, theirs, eps: float, what: str) -> None:
    a, b = ours.detach().numpy().astype(np.float64), theirs.detach().double().numpy()
    assert a.shape == b.shape
    error, size = np.abs(a - b).max(), np.abs(b).max()
    assert error <= 4 * eps * size + 1e-7, f"{what}: {error} of {size}"


def test_ops_round_once():
    """As if computed in float32 and then rounded, although gelu is many steps."""
    x = mg.linspace(-3, 3, 1000).bfloat16()
    assert mg.equal(F.gelu(x), F.gelu(x.float()).bfloat16())


def test_sums_do_not_stand_still():
    """Ones that are added up one by one in bfloat16 end at 256."""
    x = mg.ones(1000, 3).bfloat16()
    assert x.sum(0).tolist() == [1000] * 3
    bias = mg.zeros(3, dtype=mg.bfloat16, requires_grad=True)
    (x + bias).sum().backward()
    assert bias.grad.tolist() == [1000] * 3


def test_gradients_go_through_casts():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    (x.bfloat16().half().bfloat16() * 3).float().sum().backward()
    assert x.grad.dtype == mg.float32
    assert x.grad.tolist() == [3, 3]


def test_gradients_add_up(low):
    x = mg.ones(3000, dtype=LOW[low], requires_grad=True)
    (x * 2 + x * 3 + x).sum().backward()
    x.sum().backward()
    assert x.grad.dtype == LOW[low]
    assert set(x.grad.tolist()) == {7}


def test_different_dtypes_in_a_layer_are_refused(low):
    x = mg.ones(2, 3, dtype=LOW[low])
    with pytest.raises(TypeError, match=f"linear: all tensors must have one dtype, but x is {low}, weight is float32"):
        nn.Linear(3, 2)(x)
    with pytest.raises(TypeError, match=f"batch_norm_training: weight must be {low} like x, or float32, got float64|one dtype"):
        F.batch_norm(x, None, None, mg.ones(3, dtype=mg.float64), None, True)


def test_inplace_ops_keep_memory_and_dtype(low):
    x = mg.ones(4, dtype=LOW[low])
    before, version = x.data, x.version[0]
    for change in (lambda: x.add_(0.5), lambda: x.mul_(mg.full((4,), 2.0)), lambda: x.div_(3), lambda: x.clamp_(0, 0.75)):
        assert change() is x
    x[0] += 1
    assert x.data is before
    assert x.dtype == LOW[low]
    assert x.version[0] > version
    assert x.tolist() == [1.75, 0.75, 0.75, 0.75]


def test_argument_that_comes_back():
    x = mg.ones(3).bfloat16()
    assert F.dropout(x, training=False) is x


# ---- modules and switches ----------------------------------------------------------------------------------------------


def test_modules_convert_and_save(low):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).to(LOW[low])
    assert {p.dtype for p in net.parameters()} == {LOW[low]}
    assert net[1].num_batches_tracked.dtype == mg.int64
    y = net(mg.randn(2, 1, 6, 6).to(LOW[low]))
    y.float().sum().backward()
    assert {p.grad.dtype for p in net.parameters()} == {LOW[low]}
    other = copy.deepcopy(net).float()
    other.load_state_dict(net.state_dict())
    assert all(mg.equal(p.float(), q) for p, q in zip(net.parameters(), other.parameters(), strict=True))
    net.load_state_dict(other.state_dict())
    assert {p.dtype for p in net.parameters()} == {LOW[low]}


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_files_hold_bfloat16_as_float32(name, tmp_path):
    net, other = nn.Linear(3, 2).bfloat16(), nn.Linear(3, 2).bfloat16()
    mg.save(net.state_dict(), tmp_path / name)
    read = mg.load(tmp_path / name)
    assert read["weight"].dtype == mg.float32
    other.load_state_dict(read)
    assert mg.equal(net.weight, other.weight)


def test_module_bfloat16():
    assert nn.Linear(2, 2).bfloat16().weight.dtype == mg.bfloat16


@pytest.mark.parametrize(("name", "options"), [("SGD", {"momentum": 0.9, "weight_decay": 0.1}), ("Adam", {}), ("RMSprop", {})])
def test_optimizers_follow_pytorch(name, options, low):
    torch = pytest.importorskip("torch")
    results = []
    for library in (mg, torch):
        p = library.tensor(np.linspace(0.5, 2, 50, dtype=np.float32)).to(getattr(library, low)).requires_grad_()
        optimizer = getattr(library.optim, name)([p], lr=0.125, **options)
        for _ in range(3):
            optimizer.zero_grad()
            (p * p).sum().backward()
            optimizer.step()
        results.append(np.array(p.detach().float().numpy()))
    np.testing.assert_allclose(*results, rtol=0, atol=4 * float(mg.finfo(LOW[low]).eps))


def test_anomalies_are_found():
    with pytest.raises(mg.autograd.AnomalyError, match="1 Inf"), mg.autograd.detect_anomaly():
        mg.tensor([3.0e38]).bfloat16() * 4


def test_observers_see_ops(low):
    seen = []

    def observer(function, args, kwargs):
        seen.append(function.__name__)
        return function(*args, **kwargs)

    with observed(observer):
        F.gelu(mg.ones(2, dtype=LOW[low]))
    assert [name for name in seen if name != "cast"] == ["gelu"]


def test_assert_close():
    x = mg.tensor([1.0, 2.0]).bfloat16()
    mg.testing.assert_close(x, x * 1.01)
    with pytest.raises(AssertionError, match="1 of 2 elements differ"):
        mg.testing.assert_close(x, mg.tensor([1.0, 2.1]).bfloat16())
