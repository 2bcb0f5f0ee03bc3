"""The gradient scaler: PyTorch's scales and parameters, the order of its calls, and steps that are left out."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.amp import GradScaler
from minigrad.tensor import Tensor

GOOD, INF, NAN = 1.0, np.inf, np.nan
SEQUENCES = {
    "all good": [GOOD] * 7,
    "first bad": [INF, GOOD, GOOD, GOOD, GOOD],
    "often bad": [GOOD, GOOD, NAN, GOOD, INF, INF, GOOD, GOOD, GOOD],
    "minus infinity": [GOOD, -INF, GOOD],
}


def trained(library, values, optimizer_name="SGD", interval=3, explicit=False, **options):
    """(scales, parameters) after each step; the gradient of the loss is that of ``values``, times the scale."""
    rng = np.random.default_rng(0)
    parameters = [library.tensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in ((3, 2), (4,))]
    optimizer = getattr(library.optim, optimizer_name)(parameters, lr=0.1, **options)
    make = library.amp.GradScaler
    scaler = make("cpu", init_scale=1024.0, growth_interval=interval, growth_factor=3.0, backoff_factor=0.25)
    scales, states = [], []
    for value in values:
        optimizer.zero_grad()
        factors = [np.full(p.shape, 0.5, np.float32) for p in parameters]
        factors[1][2] = value
        loss = sum((p * p * library.tensor(f)).sum() for p, f in zip(parameters, factors, strict=True))
        scaler.scale(loss).backward()
        if explicit:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
        states.append([np.array(p.detach().numpy()) for p in parameters])
    return scales, states


@pytest.mark.parametrize("explicit", [False, True], ids=["step only", "unscale first"])
@pytest.mark.parametrize("values", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("SGD", {"momentum": 0.9, "weight_decay": 0.01}), ("Adam", {}), ("AdamW", {}), ("RMSprop", {"momentum": 0.9})],
)
def test_follows_pytorch(optimizer, options, values, explicit):
    torch = pytest.importorskip("torch")
    scales, parameters = trained(mg, values, optimizer, explicit=explicit, **options)
    expected_scales, expected = trained(torch, values, optimizer, explicit=explicit, **options)
    assert scales == expected_scales
    for ours, theirs in zip(parameters, expected, strict=True):
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-7)


def test_the_scale_stays_finite():
    torch = pytest.importorskip("torch")

    def scales(library):
        p = library.tensor(np.ones(2, np.float32), requires_grad=True)
        optimizer = library.optim.SGD([p], lr=0.0)
        scaler, seen = library.amp.GradScaler("cpu", init_scale=2.0**125, growth_interval=1), []
        for _ in range(6):
            optimizer.zero_grad()
            scaler.scale((p * 1e-9).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            seen.append(scaler.get_scale())
        return seen

    assert scales(mg) == scales(torch)
    assert scales(mg)[-1] == 2.0**127


def parts(value=GOOD, **options):
    """A parameter, its optimizer and a scaler after backward(); the gradient is ``value``, times the scale."""
    p = Tensor(np.ones(3, np.float32), requires_grad=True)
    optimizer = mg.optim.SGD([p], lr=0.5, momentum=0.9)
    scaler = GradScaler("cpu", init_scale=8.0, **options)
    scaler.scale((p * mg.tensor(np.array([1, value, 1], np.float32))).sum()).backward()
    return p, optimizer, scaler


def test_a_step_with_an_infinite_gradient_changes_nothing():
    p, optimizer, scaler = parts(INF)
    before, version = p.data.copy(), p.version[0]
    assert scaler.step(optimizer) is None
    assert np.array_equal(p.data, before)
    assert p.version[0] == version
    assert not optimizer.state
    scaler.update()
    assert scaler.get_scale() == 4


def test_a_schedule_behind_a_step_that_was_left_out():
    """Is in its right place: no warning."""
    _, optimizer, scaler = parts(INF)
    schedule = mg.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    scaler.step(optimizer)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_unscale_gives_the_gradient_of_the_loss():
    p, optimizer, scaler = parts(3.0)
    version = p.grad.version[0]
    assert p.grad.tolist() == [8, 24, 8]
    scaler.unscale_(optimizer)
    assert p.grad.tolist() == [1, 3, 1]
    assert p.grad.version[0] > version
    nn.utils.clip_grad_norm_([p], 1e-9)
    scaler.step(optimizer)
    assert np.allclose(p.data, 1)


def test_several_losses_and_optimizers():
    """A step is left out for the one optimizer whose gradients are bad; the scale is for all."""
    p, q = (Tensor(np.ones(2, np.float32), requires_grad=True) for _ in range(2))
    first, second = mg.optim.SGD([p], lr=1.0), mg.optim.SGD([q], lr=1.0)
    scaler = GradScaler("cpu", init_scale=4.0)
    losses = scaler.scale([p.sum(), (q * INF).sum()])
    assert isinstance(losses, list)
    for loss in losses:
        loss.backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert p.tolist() == [0, 0]
    assert q.tolist() == [1, 1]
    assert scaler.get_scale() == 2
    assert tuple(t.item() for t in scaler.scale((p.sum(), q.sum()))) == (0, 4)
    assert [t.item() for t in scaler.scale(t for t in (p.sum(), q.sum()))] == [0, 4]


def test_step_returns_what_the_optimizer_returns():
    class Answering(mg.optim.SGD):
        def step(self, answer=None):
            super().step()
            return answer

    p, _, scaler = parts()
    assert scaler.step(Answering([p], lr=0.1), answer="done") == "done"


# ---- the order of calls ------------------------------------------------------------------------------------------------


def test_unscale_twice():
    _, optimizer, scaler = parts()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"unscale_\(\) was called for this optimizer already since the last update\(\)"):
        scaler.unscale_(optimizer)


def test_unscale_after_step():
    _, optimizer, scaler = parts()
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match=r"unscale_\(\) was called after step\(\)"):
        scaler.unscale_(optimizer)


def test_step_twice():
    _, optimizer, scaler = parts()
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match=r"step\(\) was called for this optimizer already"):
        scaler.step(optimizer)
    scaler.update()
    scaler.step(optimizer)


@pytest.mark.parametrize("call", ["step", "unscale_", "update"])
def test_before_scale(call):
    optimizer = mg.optim.SGD([Tensor(np.ones(1, np.float32), requires_grad=True)], lr=1.0)
    with pytest.raises(RuntimeError, match=rf"{call}\(\) was called before scale\(\)"):
        getattr(GradScaler("cpu"), call)(*([optimizer] if call != "update" else []))


@pytest.mark.parametrize("call", ["step", "unscale_"])
def test_without_backward(call):
    p, optimizer, scaler = parts()
    p.grad = None
    with pytest.raises(RuntimeError, match="no parameter of this optimizer has a gradient"):
        getattr(scaler, call)(optimizer)


def test_update_before_step():
    _, _, scaler = parts()
    with pytest.raises(RuntimeError, match=r"update\(\) was called before step\(\)"):
        scaler.update()
    scaler.update(new_scale=2.0)
    assert scaler.get_scale() == 2
    scaler.update(new_scale=mg.tensor(4.0))
    assert scaler.get_scale() == 4


def test_a_closure_is_refused():
    _, optimizer, scaler = parts()
    for arguments, named in (((lambda: 0,), {}), ((), {"closure": lambda: 0})):
        with pytest.raises(RuntimeError, match="closure"):
            scaler.step(optimizer, *arguments, **named)


def test_gradients_of_16_bits_are_refused():
    p = Tensor(np.ones(3, np.float16), requires_grad=True)
    scaler = GradScaler("cpu", init_scale=2.0)
    scaler.scale(p.sum()).backward()
    with pytest.raises(ValueError, match="gradients of float16 cannot be unscaled"):
        scaler.step(mg.optim.SGD([p], lr=0.1))


def test_outputs_that_are_no_tensors():
    with pytest.raises(ValueError, match="must be a Tensor or an iterable of Tensors, got int"):
        GradScaler("cpu").scale(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"growth_factor": 1.0}, "growth_factor must be above 1"),
        ({"backoff_factor": 1.0}, "backoff_factor must be between 0 and 1"),
        ({"growth_interval": 0}, "growth_interval must be an integer"),
        ({"init_scale": 0.0}, "init_scale must be a number above 0"),
        ({"device": "tpu"}, 'device must be "cpu", "cuda"'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        GradScaler(**{"device": "cpu", **options})


# ---- the state ---------------------------------------------------------------------------------------------------------


def test_disabled():
    p = Tensor(np.ones(2, np.float32), requires_grad=True)
    optimizer, scaler = mg.optim.SGD([p], lr=1.0), GradScaler("cpu", enabled=False)
    loss = p.sum()
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert p.tolist() == [0, 0]
    assert scaler.get_scale() == 1
    assert scaler.state_dict() == {}
    assert not scaler.is_enabled()


def test_numbers_can_be_read_and_set():
    scaler = GradScaler("cpu", init_scale=4.0)
    assert scaler.is_enabled()
    for name, value in (("growth_factor", 3.0), ("backoff_factor", 0.125), ("growth_interval", 7)):
        getattr(scaler, f"set_{name}")(value)
        assert getattr(scaler, f"get_{name}")() == value
    assert scaler.state_dict() == {
        "scale": 4.0,
        "growth_factor": 3.0,
        "backoff_factor": 0.125,
        "growth_interval": 7,
        "_growth_tracker": 0,
    }


def test_state_goes_on():
    """Saved after two good steps of three, also as PyTorch saves it, the next one grows the scale."""
    torch = pytest.importorskip("torch")
    for source in (mg, torch):
        p = source.tensor(np.ones(2, np.float32), requires_grad=True)
        optimizer = source.optim.SGD([p], lr=0.1)
        scaler = source.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
        for _ in range(2):
            scaler.scale(p.sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        _, optimizer, restored = parts()
        restored.load_state_dict(copy.deepcopy(scaler.state_dict()))
        restored.step(optimizer)
        restored.update()
        assert restored.get_scale() == 16
        assert restored.get_growth_interval() == 3


def test_wrong_states():
    scaler = GradScaler("cpu")
    before = scaler.state_dict()
    with pytest.raises(RuntimeError, match="the state dict is empty"):
        scaler.load_state_dict({})
    with pytest.raises(ValueError, match="must hold growth_interval, _growth_tracker"):
        scaler.load_state_dict({"scale": 2.0, "growth_factor": 2.0, "backoff_factor": 0.5})
    with pytest.raises(ValueError, match="growth_factor must be above 1"):
        scaler.load_state_dict({**before, "scale": 2.0, "growth_factor": 0.5})
    assert scaler.state_dict() == before
    GradScaler("cpu", enabled=False).load_state_dict({})


@pytest.mark.processor("autocast for the processor")
def test_small_gradients_survive_float16():
    """What float16 cannot hold is lost without a scale, and is there with one."""

    def gradient(scaler):
        p = Tensor(np.full((4, 4), 0.5, np.float32), requires_grad=True)
        optimizer = mg.optim.SGD([p], lr=0.0)
        with mg.autocast("cpu", mg.float16):
            y = (mg.ones(1, 4) @ p).sum().float() * 1e-9
        scaler.scale(y).backward()
        scaler.unscale_(optimizer)
        return p.grad.numpy()

    assert not gradient(GradScaler("cpu", enabled=False)).any()
    np.testing.assert_allclose(gradient(GradScaler("cpu")), 1e-9, rtol=1e-2)
