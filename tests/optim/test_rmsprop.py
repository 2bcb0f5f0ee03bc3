"""RMSprop against its formula and PyTorch's numbers; and what RMSprop, Adam and AdamW have in common."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest

from minigrad import weights
from minigrad.device import move, to_numpy
from minigrad.kernels.layout import channels_last
from minigrad.nn.parameter import Parameter
from minigrad.optim import Adam, AdamW, RMSprop, adaptive, lr_scheduler
from minigrad.tensor import Tensor
from tests.optim.test_sgd import gradients, parameters, run

STEPS = 50
MISSING = {(0, 2), (3, 0), (7, 1), (7, 2)}  # (step, parameter) without a gradient
OPTIONS = {
    "defaults": {},
    "weight decay": {"lr": 0.02, "weight_decay": 0.1},
    "momentum": {"momentum": 0.9, "alpha": 0.9, "eps": 1e-3},
    "centered": {"centered": True, "alpha": 0.9},
    "all": {"lr": 0.003, "alpha": 0.4, "eps": 0.01, "weight_decay": 1e-3, "momentum": 0.8, "centered": True},
    "maximize": {"maximize": True, "weight_decay": 0.1},
    "eps inside": {"lr": 0.02, "alpha": 0.9, "eps": 1.0, "eps_inside_sqrt": True},
    "eps inside, all": {"eps": 0.1, "eps_inside_sqrt": True, "momentum": 0.9, "weight_decay": 1e-5, "centered": True},
}


def textbook(p, grads, lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, **switches):
    """The formula of the docstring, in float64."""
    v = m = b = np.zeros_like(p)
    for g in grads:
        if g is None:
            continue
        g = (-g if switches.get("maximize") else g) + weight_decay * p
        v = alpha * v + (1 - alpha) * g**2
        m = alpha * m + (1 - alpha) * g
        variance = v - m**2 if centered else v
        root = np.sqrt(variance + eps) if switches.get("eps_inside_sqrt") else np.sqrt(variance) + eps
        b = momentum * b + g / root
        p = p - lr * b
    return p


def assert_follows(make, formula, dtype, steps=STEPS, missing=MISSING):
    """``make(parameters)`` gives an optimizer that does as ``formula(start, gradients)``."""
    tensors = parameters(dtype)
    starts = [to_numpy(t.data).astype(np.float64) for t in tensors]
    run(make(tensors), tensors, range(steps), missing=missing)
    for i, (p, start) in enumerate(zip(tensors, starts, strict=True)):
        grads = [None if (k, i) in missing else gradients(k, dtype)[i].astype(np.float64) for k in range(steps)]
        assert_close(to_numpy(p.data), formula(start, grads), 4e-6)  # float32 rounds 1 - lr * weight_decay, alike in every step
        assert p.data.dtype == dtype


def assert_like_pytorch(make, other, dtype):
    """``make(parameters)`` and PyTorch's ``other(parameters)`` do the same."""
    torch = pytest.importorskip("torch")
    tensors = parameters(dtype)
    theirs = [torch.tensor(t.detach().numpy().copy()) for t in tensors]
    run(make(tensors), tensors, range(STEPS), missing=MISSING)
    run(other(theirs), theirs, range(STEPS), torch.from_numpy, MISSING)
    for p, q in zip(tensors, theirs, strict=True):
        assert_close(to_numpy(p.data), q.numpy())


def assert_close(x, expected, single=1e-6):
    """To 1e-12 in float64 and ``single`` in float32, as a part of the largest element."""
    tolerance = 1e-12 if x.dtype == np.float64 else single
    assert np.abs(x - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_formula(name, dtype):
    options = OPTIONS[name]
    assert_follows(lambda params: RMSprop(params, **options), lambda p, grads: textbook(p, grads, **options), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in OPTIONS if "inside" not in name])
def test_the_same_numbers_as_pytorch(name, dtype):
    torch = pytest.importorskip("torch")
    options = OPTIONS[name]
    assert_like_pytorch(lambda p: RMSprop(p, **options), lambda p: torch.optim.RMSprop(p, **options), dtype)


def test_a_first_step_by_hand():
    p = Tensor(np.array([1.0]), requires_grad=True)
    p.grad = Tensor(np.array([2.0]))
    RMSprop([p], lr=0.5, alpha=0.75, eps=3.0).step()  # v = 4 / 4
    assert p.item() == 1 - 0.5 * 2 / (1 + 3)
    q = Tensor(np.array([1.0]), requires_grad=True)
    q.grad = Tensor(np.array([2.0]))
    RMSprop([q], lr=0.5, alpha=0.75, eps=3.0, eps_inside_sqrt=True).step()
    assert q.item() == 1 - 0.5 * 2 / math.sqrt(1 + 3)


def test_centered_survives_a_variance_that_rounding_makes_negative():
    g = np.random.default_rng(0).random(1000, dtype=np.float32)
    p = Parameter(np.zeros_like(g))
    optimizer = RMSprop([p], centered=True, alpha=0.9)
    p.grad = Tensor(g)
    negative = 0
    for _ in range(300):
        optimizer.step()
        state = optimizer.state[p]
        negative += int((to_numpy(state["square_avg"].data) - to_numpy(state["grad_avg"].data) ** 2 < 0).sum())
    assert negative > 0
    assert np.isfinite(to_numpy(p.data)).all()


def test_momentum_that_a_schedule_turns_on_later():
    p = Parameter(np.ones(3, np.float32))
    optimizer = RMSprop([p], lr=0.1)
    lr_scheduler.OneCycleLR(optimizer, 0.1, 10)
    p.grad = Tensor(np.ones(3, np.float32))
    optimizer.step()
    assert set(optimizer.state[p]) == {"step", "square_avg", "momentum_buffer"}


# ---- what the optimizers have in common ----------------------------------------------------------------------------------

MAKERS = {
    "RMSprop": lambda params, **more: RMSprop(params, momentum=0.9, centered=True, weight_decay=1e-3, **more),
    "Adam": lambda params, **more: Adam(params, amsgrad=True, weight_decay=1e-3, **more),
    "AdamW": lambda params, **more: AdamW(params, **more),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@every_optimizer
@pytest.mark.parametrize("stop", [0, 1, 5])
@pytest.mark.parametrize("way", ["copy", "file"])
def test_restored_it_continues_with_the_same_bits(make, stop, way, tmp_path):
    tensors = parameters()
    optimizer = make(tensors, lr=0.02)
    run(optimizer, tensors, range(stop), missing={(0, 0)})
    saved = copy.deepcopy(optimizer.state_dict())
    if way == "file":
        weights.save(saved, tmp_path / "state.safetensors")
        saved = weights.load(tmp_path / "state.safetensors")
    others = [Tensor(to_numpy(t.data).copy(), requires_grad=True) for t in tensors]
    run(optimizer, tensors, range(stop, 9))

    other = make(others, lr=7)
    other.load_state_dict(saved)
    run(other, others, range(stop, 9))
    for p, q in zip(tensors, others, strict=True):
        np.testing.assert_array_equal(to_numpy(p.data), to_numpy(q.data))


@every_optimizer
def test_the_options_are_plain_and_survive_json(make):
    (p,) = parameters()[:1]
    optimizer = make([p], lr=np.float32(0.5))
    groups = json.loads(json.dumps(optimizer.state_dict()["param_groups"]))
    other = make([p])
    other.load_state_dict({"state": {}, "param_groups": groups})
    assert other.param_groups == optimizer.param_groups


@pytest.mark.parametrize("name", MAKERS)
def test_pytorchs_state_can_be_loaded_and_continued(name):
    torch = pytest.importorskip("torch")
    make, tensors = MAKERS[name], parameters(np.float64)
    theirs = [torch.tensor(t.detach().numpy().copy()) for t in tensors]
    options = {"RMSprop": {"momentum": 0.5, "centered": True}, "Adam": {"amsgrad": True, "betas": (0.5, 0.9)}, "AdamW": {}}[name]
    other = getattr(torch.optim, name)(theirs, lr=0.01, **options)
    run(other, theirs, range(5), torch.from_numpy)
    for p, q in zip(tensors, theirs, strict=True):
        p.data[...] = move(q.numpy(), p.device)
    optimizer = make(tensors, lr=1)
    optimizer.load_state_dict(other.state_dict())
    assert all(state["step"] == 5 and type(state["step"]) is int for state in optimizer.state.values())
    run(optimizer, tensors, range(5, 10))
    run(other, theirs, range(5, 10), torch.from_numpy)
    for p, q in zip(tensors, theirs, strict=True):
        assert_close(to_numpy(p.data), q.numpy())


@every_optimizer
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30])
@pytest.mark.parametrize("maximize", [False, True])
def test_gradients_that_are_not_finite_act_as_in_pytorch(make, value, maximize):
    torch = pytest.importorskip("torch")
    p = Parameter(np.ones(4, np.float32))
    q = torch.ones(4)
    optimizer = make([p], lr=0.1, maximize=maximize)
    if value == 1e30 and "centered" in optimizer.param_groups[0]:
        optimizer.param_groups[0]["centered"] = False  # whether inf - 1e30^2 is NaN depends on fused multiplication
    names = {"lr", "alpha", "eps", "weight_decay", "momentum", "centered", "betas", "amsgrad", "maximize"}
    options = {key: v for key, v in optimizer.param_groups[0].items() if key in names}
    other = getattr(torch.optim, type(optimizer).__name__)([q], **options)
    for step in range(4):
        g = np.array([0.5, value if step == 1 else 0.25, -0.5, 0], np.float32) + np.float32(step)
        p.grad, q.grad = Tensor(g), torch.from_numpy(g.copy())
        optimizer.step()
        other.step()
        np.testing.assert_allclose(to_numpy(p.data), q.numpy(), rtol=1e-5, atol=1e-5)  # the same NaN and infinities
    if not np.isfinite(value):
        assert np.isfinite(to_numpy(p.data)).tolist() == np.isfinite(q.numpy()).tolist()


@pytest.mark.processor("shares memory with arrays")
@every_optimizer
def test_memory_orders_and_blocks_do_not_matter(make, monkeypatch):
    """Arrays of equal order go in blocks, others whole: the bits are the same, and the state lies like its parameter."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    gaps = np.zeros((2, 3, 4, 10), np.float32)[..., ::2]
    gaps[...] = x
    tensors = [Parameter(x.copy()), Parameter(channels_last(x)), Parameter(x.transpose(3, 2, 1, 0).copy().T), Parameter(gaps)]
    optimizer = make(tensors, lr=0.1)
    for step in range(4):
        monkeypatch.setattr(adaptive, "BLOCK", [1 << 16, 7, 40, 1][step])
        g = np.random.default_rng(step).standard_normal(x.shape).astype(np.float32)
        for i, p in enumerate(tensors):
            p.grad = Tensor(channels_last(g) if (i + step) % 2 else g.copy())
        optimizer.step()
    for p in tensors:
        np.testing.assert_array_equal(to_numpy(p.data), to_numpy(tensors[0].data))
    averages = [t for t in optimizer.state[tensors[1]].values() if isinstance(t, Tensor)]
    assert averages
    assert all(t.data.strides == tensors[1].data.strides for t in averages)
    assert np.shares_memory(tensors[3].data, gaps)
    assert tensors[3].data.strides == gaps.strides


@every_optimizer
@pytest.mark.parametrize("maximize", [False, True])
def test_the_gradient_is_left_alone_and_an_empty_parameter_is_no_trouble(make, maximize):
    p, q = Parameter(np.ones(3, np.float32)), Parameter(np.ones((0, 2), np.float32))
    p.grad, q.grad = Tensor(np.full(3, 2, np.float32)), Tensor(np.ones((0, 2), np.float32))
    make([p, q], lr=0.1, maximize=maximize).step()
    assert to_numpy(p.grad.data).tolist() == [2, 2, 2]
    assert (to_numpy(p.data)[0] > 1) == maximize


@every_optimizer
def test_a_step_counts_as_a_change_in_place(make):
    p = Parameter(np.ones(3, np.float32))
    loss = (p * p).sum()
    p.grad = Tensor(np.ones(3, np.float32))
    make([p]).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


@every_optimizer
def test_a_parameter_without_gradient_keeps_everything(make):
    p, q = parameters()[:2]
    before, version = to_numpy(q.data).copy(), list(q.version)
    optimizer = make([p, q])
    p.grad = Tensor(np.ones_like(to_numpy(p.data)))
    optimizer.step()
    np.testing.assert_array_equal(to_numpy(q.data), before)
    assert (q.version, set(optimizer.state)) == (version, {p})


@every_optimizer
def test_groups_have_their_own_options(make):
    p, q, r = (Parameter(np.ones(3, np.float32)) for _ in range(3))
    optimizer = make([{"params": [p]}, {"params": q, "lr": 0.0}], lr=0.1)
    optimizer.add_param_group({"params": r, "weight_decay": 0, "lr": 0.2})
    for t in (p, q, r):
        t.grad = Tensor(np.ones(3, np.float32))
    optimizer.step()
    assert to_numpy(q.data).tolist() == [1, 1, 1]
    assert 1 - to_numpy(r.data)[0] == pytest.approx(2 * (1 - to_numpy(p.data)[0]), rel=0.02)


@every_optimizer
def test_an_average_that_does_not_fit_stops_the_step_before_anything_changes(make):
    a, b = (Parameter(np.ones(2, np.float32)) for _ in range(2))
    optimizer = make([("a", a), ("b", b)])
    a.grad = b.grad = Tensor(np.ones(2, np.float32))
    optimizer.step()
    before = to_numpy(a.data).copy()
    b.data, b.grad = b.data.astype(np.float64), Tensor(np.ones(2))
    with pytest.raises(RuntimeError, match="_avg of parameter b is float32"):
        optimizer.step()
    b.grad = Tensor(np.ones(3))
    with pytest.raises(RuntimeError, match=r"gradient of parameter b is float64 of shape \(3,\)"):
        optimizer.step()
    np.testing.assert_array_equal(to_numpy(a.data), before)
    assert optimizer.state[a]["step"] == 1


@every_optimizer
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: [], "must be a dictionary"),
        (lambda s: {**s, "state": {0: {"momentum_buffer": Tensor(np.ones(2))}}}, "another optimizer"),
        (lambda s: {**s, "state": {0: {**s["state"][0], "step": None}}}, "step of parameter 0 must be a number of steps"),
        (lambda s: {**s, "state": {7: s["state"][0]}}, "state for parameter 7"),
        (lambda s: {**s, "param_groups": [{**s["param_groups"][0], "eps": -1}]}, "eps must be at least 0"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(make, change, message):
    p = Parameter(np.ones(2, np.float32))
    p.grad = Tensor(np.ones(2, np.float32))
    optimizer = make([p])
    optimizer.step()
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(change(optimizer.state_dict()))
    assert optimizer.state_dict() == before


one = Tensor(np.zeros(2, np.float32), requires_grad=True)
COMMON = {
    "empty": ([], {}, ValueError, "params is empty"),
    "lr": ([one], {"lr": -0.1}, ValueError, "lr must be at least 0, got -0.1"),
    "lr nan": ([one], {"lr": math.nan}, ValueError, "lr must be at least 0"),
    "lr text": ([one], {"lr": "1"}, TypeError, "lr must be a number"),
    "lr of a group": ([{"params": [one], "lr": -1}], {}, ValueError, "lr must be at least 0, got -1"),
    "eps": ([one], {"eps": -1e-8}, ValueError, "eps must be at least 0"),
    "maximize": ([one], {"maximize": 1}, TypeError, "maximize must be True or False"),
}
BAD = {
    **COMMON,
    "alpha": ([one], {"alpha": 1.5}, ValueError, r"alpha must be in 0 \.\.\. 1"),
    "weight_decay": ([one], {"weight_decay": -1}, ValueError, "weight_decay must be at least 0"),
    "momentum": ([one], {"momentum": -1}, ValueError, "momentum must be at least 0"),
    "centered": ([one], {"centered": "yes"}, TypeError, "centered must be True or False"),
    "eps_inside_sqrt": ([one], {"eps_inside_sqrt": None}, TypeError, "eps_inside_sqrt must be True or False"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments(name):
    params, options, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        RMSprop(params, **options)
