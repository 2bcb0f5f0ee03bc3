"""Autocast: which op computes in which precision, the switches, the casts that are kept, and gradients. PyTorch is the oracle."""

from __future__ import annotations

import gc
import re
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.modes import state
from minigrad.ops import _precision_lists as lists
from minigrad.ops._base import REGISTRY

F = nn.functional
LOW = {"bfloat16": mg.bfloat16, "float16": mg.float16}

# ---- the table of ops, against PyTorch's own ---------------------------------------------------------------------------

# x, w, lw, b, a, v: float32; X, A: the same as x and a in 16 bits; d, dw: float64
CALLS = """
F.conv2d(x, w)  F.conv_transpose2d(x, wt)  F.linear(x, lw, b)  t.matmul(x, x)  X @ x  t.mm(a, a)  t.bmm(x[0], x[0])  t.mv(a, v)
t.einsum('ij,jk->ik', a, a)  t.dot(v, v)  t.outer(v, v)  F.conv2d(X, w)  F.conv2d(d, dw)  F.linear(X, lw)  F.prelu(X, one)
t.exp(X)  t.log(X)  X ** 2  2 / X  t.pow(X, X)  t.softmax(X, 1)  t.log_softmax(X, 1)  t.sum(X)  t.mean(X)  t.prod(X)
t.cumsum(X, 1)  t.norm(X)  t.logsumexp(X, 1)  t.var(X)  X.std()  t.rsqrt(X)  t.sqrt(X)  t.reciprocal(X)  t.tan(X)  t.erf(X)
F.layer_norm(X, (8,))  F.group_norm(X, 3)  F.instance_norm(X)  F.local_response_norm(X, 2)
F.batch_norm(X, zeros, ones, g, g, True)  F.batch_norm(X, zeros, ones, g, g, False)
F.batch_norm(x, zeros, ones, g, g, True)
F.relu(X)  F.gelu(X)  F.silu(X)  t.sigmoid(X)  t.tanh(X)  F.softplus(X)  F.hardswish(X)  F.elu(X)  F.leaky_relu(X)  F.relu(x)
X + X  X + x  X * x  X - x  X / x  x + X  X * 2.5  X + 1  2.5 - X  X + x.sum()  x + 1  d + X  -X  X.abs()  X > 0.5  X.argmax()
t.cat([X, x])  t.stack([X, x])  t.cat([X, X])  t.maximum(X, X)  t.where(X > 0, X, X)  t.clamp(X, 0.5)
F.max_pool2d(X, 2)  F.avg_pool2d(X, 2)  F.adaptive_avg_pool2d(X, 1)  F.interpolate(X, scale_factor=2)  F.pad(X, (1, 1))
F.mse_loss(X, X)  F.l1_loss(X, X)  F.smooth_l1_loss(X, X)  F.huber_loss(X, X)  F.kl_div(X, X, reduction='sum')
F.cross_entropy(A, labels)
F.nll_loss(A, labels)  F.binary_cross_entropy(t.sigmoid(X), t.sigmoid(X))  F.binary_cross_entropy_with_logits(X, t.sigmoid(X))
F.dropout(X)  X.max()  X.max(1)[0]  X.topk(2)[0]  X.sort()[0]  X.flatten(1)  F.unfold(X, 2)  F.normalize(X)
F.cosine_similarity(X, X)
"""
CALLS = re.split(r"\s{2,}|\n", CALLS.strip())


def arguments(library, low) -> dict:
    rng = np.random.default_rng(0)

    def draw(*shape):
        return library.tensor(rng.uniform(0.1, 1, shape).astype(np.float32))

    names = {
        "x": draw(2, 3, 8, 8),
        "w": draw(4, 3, 3, 3),
        "wt": draw(3, 4, 3, 3),
        "lw": draw(5, 8),
        "b": draw(5),
        "a": draw(8, 8),
    }
    names |= {
        "v": draw(8),
        "zeros": draw(3) * 0,
        "ones": draw(3),
        "g": draw(3),
        "one": draw(1),
        "labels": library.tensor(np.arange(8)),
    }
    names |= {"X": names["x"].to(low), "A": names["a"].to(low), "d": names["x"].double(), "dw": names["w"].double()}
    return {**names, "t": library, "F": library.nn.functional}


@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("call", CALLS)
def test_results_have_the_dtypes_of_pytorch(call, low):
    torch = pytest.importorskip("torch")
    ours, theirs = arguments(mg, LOW[low]), arguments(torch, getattr(torch, low))
    with torch.autocast("cpu", getattr(torch, low)), mg.autocast("cpu", LOW[low]):
        expected, y = eval(call, theirs), eval(call, ours)
    assert f"torch.{y.dtype}" == str(expected.dtype)
    size = float(expected.double().abs().max())
    if "dropout" not in call:  # random
        error = np.abs(y.numpy().astype(np.float64) - expected.double().numpy()).max()
        assert error <= 4 * float(mg.finfo(LOW[low]).eps) * size, f"{error} of {size}"


def test_every_listed_name_is_an_op():
    every = {*lists.LOW["cpu"], *lists.LOW["cuda"], *lists.WIDENED, *lists.NATIVE, *lists.NORMALIZING, *lists.MIXING}
    every |= {name for table in (lists.SINGLE, lists.WIDEST) for names in table.values() for name in names}
    every |= {*lists.WRITING, *lists.WRITING.values()}
    assert every <= REGISTRY.keys(), sorted(every - REGISTRY.keys())


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_an_op_is_on_one_list(device):
    tables = [lists.LOW[device], lists.SINGLE[device], lists.WIDEST[device]]
    assert len(frozenset().union(*tables)) == sum(map(len, tables))


# What PyTorch puts together from other ops, by the name of what decides; and names that it has besides.
COMPOSED = {"cross_entropy", "interpolate", "local_response_norm", "local_response_norm_paper", "cat", "stack", "outer", "sum"}


def test_lists_for_the_card_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    header = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
    if not header.exists():
        pytest.skip("this PyTorch came without its headers")
    text = header.read_text()
    theirs = {}
    for name in ("LOWER_PRECISION_FP", "FP32", "FP32_SET_OPT_DTYPE", "PROMOTE", "DIFFERENT_REDISPATCH_SIGNATURE"):
        body = text.split(f"#define AT_FORALL_{name}(_)")[1].split("#define")[0].split("\n\n")[0]
        theirs[name] = set(re.findall(r"_\((?:ADD_NS\()?(\w+)", body))
    single = theirs["FP32"] | theirs["FP32_SET_OPT_DTYPE"] | theirs["DIFFERENT_REDISPATCH_SIGNATURE"]
    for ours, expected in (
        (lists.LOW["cuda"], theirs["LOWER_PRECISION_FP"]),
        (lists.SINGLE["cuda"], single),
        (lists.WIDEST["cuda"], theirs["PROMOTE"]),
    ):
        assert expected & REGISTRY.keys() <= ours, sorted(expected & REGISTRY.keys() - ours)
        assert ours - COMPOSED <= expected, sorted(ours - COMPOSED - expected)


# ---- the switch --------------------------------------------------------------------------------------------------------


def dtype_of_product() -> np.dtype:
    x = mg.ones(2, 2)
    return (x @ x).dtype


def test_on_inside_and_off_outside():
    assert not mg.is_autocast_enabled("cpu")
    with mg.autocast("cpu"):
        assert mg.is_autocast_enabled("cpu")
        assert not mg.is_autocast_enabled("cuda")
        assert dtype_of_product() == mg.bfloat16
    assert dtype_of_product() == mg.float32
    assert not state.autocast
    assert state.autocast_depth == 0


def test_blocks_nest():
    with mg.autocast("cpu", mg.float16):
        assert dtype_of_product() == mg.float16
        with mg.autocast("cpu", enabled=False):
            assert dtype_of_product() == mg.float32
            with mg.autocast("cpu", mg.bfloat16):
                assert dtype_of_product() == mg.bfloat16
        assert dtype_of_product() == mg.float16


def test_an_error_switches_it_off():
    with pytest.raises(ZeroDivisionError), mg.autocast("cpu"):
        raise ZeroDivisionError
    assert dtype_of_product() == mg.float32


def test_as_decorator():
    function = mg.autocast("cpu")(dtype_of_product)
    assert function.__name__ == "dtype_of_product"
    assert function() == function() == mg.bfloat16
    assert dtype_of_product() == mg.float32


def test_a_decorated_function_may_call_itself():
    @mg.autocast("cpu")
    def depth(n):
        return [dtype_of_product(), *(depth(n - 1) if n else [])]

    assert depth(3) == [mg.bfloat16] * 4
    assert dtype_of_product() == mg.float32


def test_of_this_thread_only():
    seen = []
    with mg.autocast("cpu"):
        thread = threading.Thread(target=lambda: seen.append(dtype_of_product()))
        thread.start()
        thread.join()
    assert seen == [mg.float32]


@pytest.mark.parametrize("name", ["autocast", "GradScaler"])
def test_without_a_card_it_warns_and_does_nothing(name, monkeypatch):
    monkeypatch.setattr("minigrad.precision.cuda_is_available", lambda: False)
    monkeypatch.setattr("minigrad.amp.cuda_is_available", lambda: False)
    with pytest.warns(UserWarning, match="no graphics card is found"):
        made = getattr(mg.amp, name)("cuda")
    assert not (made.enabled if name == "autocast" else made.is_enabled())


def test_old_names(monkeypatch):
    from minigrad.cuda.amp import GradScaler, autocast

    monkeypatch.setattr("minigrad.precision.cuda_is_available", lambda: True)
    monkeypatch.setattr("minigrad.amp.cuda_is_available", lambda: True)
    assert autocast().device == "cuda"
    assert autocast().dtype == mg.float16
    assert GradScaler(init_scale=8).get_scale() == 8
    assert mg.cuda.amp.autocast is autocast
    with mg.amp.autocast("cuda"):
        assert mg.is_autocast_enabled()
        assert mg.get_autocast_dtype("cuda") == mg.float16


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("tpu",), ValueError, 'device must be "cpu", "cuda"'),
        ((0,), ValueError, 'device_type must be "cuda" or "cpu", got 0'),
        (("cpu", "float32"), TypeError, "float16 or bfloat16, got 'float32'"),
        (("cpu", mg.float64), TypeError, "float16 or bfloat16"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        mg.autocast(*arguments)


def test_the_default_dtype_can_be_set():
    assert mg.get_autocast_dtype("cpu") == mg.bfloat16
    try:
        mg.set_autocast_dtype("cpu", mg.float16)
        with mg.autocast("cpu"):
            assert dtype_of_product() == mg.float16
            mg.set_autocast_dtype("cpu", mg.bfloat16)
            assert dtype_of_product() == mg.bfloat16
    finally:
        state.autocast_dtypes = {}


def test_functions_for_one_switch():
    mg.set_autocast_enabled("cpu", True)
    assert dtype_of_product() == mg.bfloat16
    mg.set_autocast_enabled("cpu", False)
    assert dtype_of_product() == mg.float32
    assert mg.is_autocast_available("cpu")
    assert not mg.is_autocast_available("tpu")


# ---- the casts of parameters -------------------------------------------------------------------------------------------


def casts(monkeypatch) -> list:
    """Every parameter that is cast from now on."""
    from minigrad.ops import _precision

    seen, cast = [], _precision._parameter_cast
    monkeypatch.setattr(_precision, "_parameter_cast", lambda t, dtype: (seen.append(t), cast(t, dtype))[1])
    return seen


def test_a_parameter_is_cast_once_in_a_block(monkeypatch):
    seen, layer, x = casts(monkeypatch), nn.Linear(3, 3), mg.randn(2, 3)
    with mg.autocast("cpu"):
        with mg.autocast("cpu"):
            layer(layer(x))
        layer(x)
    assert len(seen) == 2  # weight and bias
    assert not state.autocast_cache
    with mg.autocast("cpu"):
        layer(x)
    assert len(seen) == 4


def test_a_changed_parameter_is_cast_again():
    layer, x = nn.Linear(2, 1, bias=False), mg.ones(1, 2)
    with mg.autocast("cpu"):
        layer(x)
        with mg.no_grad():
            layer.weight.fill_(3)
        assert layer(x).item() == 6
        layer.weight.data = np.full((1, 2), 5, np.float32)
        assert layer(x).item() == 10


def test_what_is_kept_without_gradient_serves_nobody_with_gradient():
    layer, x = nn.Linear(2, 1), mg.ones(1, 2)
    with mg.autocast("cpu"):
        with mg.no_grad():
            assert not layer(x).requires_grad
        assert layer(x).requires_grad


def test_keeping_can_be_switched_off(monkeypatch):
    seen, layer, x = casts(monkeypatch), nn.Linear(3, 3), mg.randn(2, 3)
    with mg.autocast("cpu", cache_enabled=False):
        assert not mg.is_autocast_cache_enabled()
        layer(x)
    assert mg.is_autocast_cache_enabled()
    assert not seen


def test_nothing_is_kept_behind_the_block():
    layer = nn.Linear(3, 3)
    kept = weakref.ref(layer.weight)
    with mg.autocast("cpu"):
        layer(mg.randn(2, 3))
    del layer
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("inside", [True, False], ids=["backward inside", "backward outside"])
def test_two_graphs_share_a_cast(inside):
    """The losses of a discriminator, of real and of made images, go back one after the other."""
    layer, images = nn.Linear(3, 1), [mg.randn(4, 3), mg.randn(4, 3)]
    with mg.autocast("cpu"):
        losses = [layer(x).float().sum() for x in images]
        if inside:
            losses.pop(0).backward()
    for loss in losses:
        loss.backward()
    expected = sum(x.numpy().sum(0) for x in images)
    np.testing.assert_allclose(layer.weight.grad.numpy()[0], expected, rtol=0.02, atol=0.05)
    assert layer.bias.grad.item() == 8


# ---- gradients and training --------------------------------------------------------------------------------------------


def net() -> nn.Module:
    mg.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.GroupNorm(2, 4),
        nn.SiLU(),
        nn.Flatten(),
        nn.LayerNorm(36),
        nn.Linear(36, 3),
    )


def step(model, x, labels):
    scores = model(x)
    return scores, F.cross_entropy(scores, labels)


@pytest.mark.parametrize("low", LOW)
def test_gradients_have_the_dtype_of_the_parameters(low):
    model, x, labels = net(), mg.randn(8, 2, 8, 8, requires_grad=True), mg.tensor(np.arange(8) % 3)
    exact = net()
    loss = step(exact, x, labels)[1]
    loss.backward()
    with mg.autocast("cpu", LOW[low]):
        scores, loss = step(model, x, labels)
    assert scores.dtype == LOW[low]
    assert loss.dtype == mg.float32
    loss.backward()
    assert x.grad.dtype == mg.float32
    for (name, p), q in zip(model.named_parameters(), exact.parameters(), strict=True):
        assert p.dtype == p.grad.dtype == mg.float32, name
        error = np.linalg.norm(p.grad.numpy() - q.grad.numpy()) / (np.linalg.norm(q.grad.numpy()) + 1e-3)
        assert error < 16 * float(mg.finfo(LOW[low]).eps), name
    for name, buffer in model.named_buffers():
        assert buffer.dtype == (mg.int64 if name.endswith("tracked") else mg.float32), name


@pytest.mark.parametrize("low", LOW)
def test_training_follows_pytorch(low):
    torch = pytest.importorskip("torch")
    ours = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    theirs = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    x, labels = np.random.default_rng(1).standard_normal((8, 2, 8, 8)).astype(np.float32), np.arange(8) % 3
    losses = []
    for library, model, dtype in ((mg, ours, LOW[low]), (torch, theirs, getattr(torch, low))):
        optimizer = library.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(5):
            optimizer.zero_grad()
            with library.autocast("cpu", dtype):
                loss = library.nn.functional.cross_entropy(model(library.tensor(x)), library.tensor(labels))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(losses[:5], losses[5:], rtol=0, atol=16 * float(mg.finfo(LOW[low]).eps))
    assert losses[4] < losses[0]


def test_inplace_ops_do_not_cast():
    x = mg.ones(2, 2)
    with mg.autocast("cpu"):
        y = x @ x
        before = y.data
        y += x
        assert y.data is before
        assert y.dtype == mg.bfloat16
        x += y
        assert x.dtype == mg.float32


def test_probabilities_and_their_logarithms():
    """On a card PyTorch refuses this loss; on the processor it computes it in float32."""
    with mg.autocast("cpu"):
        assert F.binary_cross_entropy(mg.tensor([0.5]).bfloat16(), mg.tensor([1.0]).bfloat16()).dtype == mg.float32
