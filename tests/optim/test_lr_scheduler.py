"""Schedules: their closed forms, PyTorch's values, saving and restoring, and wrong arguments."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from minigrad.optim import SGD, Optimizer
from minigrad.optim import lr_scheduler as ours
from minigrad.tensor import Tensor

STEPS = 130


class Doubling:
    """A schedule function with a state."""

    def __init__(self):
        self.base = 2

    def __call__(self, epoch):
        return self.base ** (epoch % 4)


def sequence(library, optimizer):
    parts = [
        library.LinearLR(optimizer, start_factor=0.1, total_iters=8),
        library.CosineAnnealingLR(optimizer, T_max=40),
        library.ExponentialLR(optimizer, gamma=0.9),
        library.OneCycleLR(optimizer, max_lr=0.4, total_steps=60),
    ]
    return library.SequentialLR(optimizer, parts, milestones=[8, 50, 75])


def nested(library, optimizer):
    inner = library.SequentialLR(
        optimizer, [library.ConstantLR(optimizer, 0.5, 4), library.StepLR(optimizer, 5, 0.5)], milestones=[10]
    )
    optimizer.step()  # the schedules warn if there was none
    return library.SequentialLR(optimizer, [inner, library.ExponentialLR(optimizer, 0.97)], milestones=[40])


def chained(library, optimizer):
    parts = [
        library.ConstantLR(optimizer, factor=0.1, total_iters=20),
        library.ExponentialLR(optimizer, gamma=0.95),
        library.StepLR(optimizer, 30, 0.5),
    ]
    return library.ChainedScheduler(parts, optimizer)


# name -> how to make it, from the library's module and an optimizer
SCHEDULES = {
    "StepLR": lambda s, o: s.StepLR(o, 7, 0.5),
    "StepLR every epoch": lambda s, o: s.StepLR(o, 1, gamma=0.98),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [60, 20, 20, 90]),
    "MultiStepLR at 0": lambda s, o: s.MultiStepLR(o, [0, 3], gamma=0.3),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, gamma=0.95),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, T_max=STEPS),
    "CosineAnnealingLR, several waves": lambda s, o: s.CosineAnnealingLR(o, T_max=17, eta_min=0.003),
    "CosineAnnealingLR, T_max 1": lambda s, o: s.CosineAnnealingLR(o, T_max=1, eta_min=0.01),
    "CosineAnnealingWarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, T_0=10, T_mult=2, eta_min=1e-3),
    "CosineAnnealingWarmRestarts, equal": lambda s, o: s.CosineAnnealingWarmRestarts(o, T_0=7),
    "LinearLR": lambda s, o: s.LinearLR(o),
    "LinearLR down": lambda s, o: s.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=90),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, total_iters=100, power=0.9),
    "PolynomialLR, a line": lambda s, o: s.PolynomialLR(o),
    "ConstantLR": lambda s, o: s.ConstantLR(o, factor=0.25, total_iters=12),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda epoch: 0.9**epoch),
    "LambdaLR for each group": lambda s, o: s.LambdaLR(o, [lambda epoch: 1 / (1 + epoch), Doubling()]),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, max_lr=0.5, total_steps=STEPS),
    "OneCycleLR linear": lambda s, o: s.OneCycleLR(o, [0.5, 0.1], epochs=13, steps_per_epoch=10, anneal_strategy="linear"),
    "OneCycleLR three phases": lambda s, o: s.OneCycleLR(o, 0.5, STEPS, three_phase=True, pct_start=0.4, div_factor=10.0),
    "OneCycleLR without momentum": lambda s, o: s.OneCycleLR(o, 0.5, STEPS, cycle_momentum=False, final_div_factor=100.0),
    "OneCycleLR from the top": lambda s, o: s.OneCycleLR(o, 0.5, STEPS, pct_start=0.0, base_momentum=[0.8, 0.7]),
    "SequentialLR": sequence,
    "SequentialLR, nested": nested,
    "ChainedScheduler": chained,
    "ChainedScheduler of one": lambda s, o: s.ChainedScheduler([s.LinearLR(o)]),
}


def two_groups(sgd=SGD, tensor=lambda: Tensor(np.zeros(2, np.float32), requires_grad=True)):
    return sgd([{"params": [tensor()]}, {"params": [tensor()], "lr": 0.02}], lr=0.1, momentum=0.9)


def trace(optimizer, scheduler, steps=STEPS):
    """(rate, momentum) of the groups before each step."""
    values = []
    for _ in range(steps):
        values.append([(group["lr"], group["momentum"]) for group in optimizer.param_groups])
        assert scheduler.get_last_lr() == [lr for lr, _ in values[-1]]
        optimizer.step()
        scheduler.step()
    return np.array(values)


def rates(scheduler, steps=STEPS):
    return trace(scheduler.optimizer, scheduler, steps)[:, 0, 0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_same_values_as_pytorch(name):
    torch = pytest.importorskip("torch")
    theirs = two_groups(torch.optim.SGD, lambda: torch.zeros(2, requires_grad=True))
    optimizer = two_groups()
    expected = trace(theirs, SCHEDULES[name](torch.optim.lr_scheduler, theirs))
    np.testing.assert_allclose(trace(optimizer, SCHEDULES[name](ours, optimizer)), expected, rtol=1e-13, atol=1e-17)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("stop", [1, 29, 75])
def test_restored_from_json_it_continues(name, stop):
    optimizer = two_groups()
    scheduler = SCHEDULES[name](ours, optimizer)
    trace(optimizer, scheduler, stop)
    saved = json.loads(json.dumps([optimizer.state_dict(), scheduler.state_dict()]))
    expected = trace(optimizer, scheduler, STEPS - stop)

    optimizer = two_groups()
    scheduler = SCHEDULES[name](ours, optimizer)
    optimizer.load_state_dict(saved[0])
    scheduler.load_state_dict(saved[1])
    np.testing.assert_array_equal(trace(optimizer, scheduler, STEPS - stop), expected)


def plateau_losses():
    rng = np.random.default_rng(0)
    losses = 2 * 0.97 ** np.arange(150) + 0.02 * rng.standard_normal(150)
    losses[70:110] = losses[70]
    return [*losses.tolist(), math.nan, math.nan, 0.001, 0.1]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 2, "factor": 0.5, "cooldown": 3, "min_lr": [1e-3, 1e-2]},
        {"mode": "max", "patience": 4, "threshold": 0.01, "threshold_mode": "abs"},
        {"patience": 0, "threshold": 0.05, "eps": 1e-3, "min_lr": 1e-4},
    ],
)
def test_plateau_as_in_pytorch_and_restored(options):
    torch = pytest.importorskip("torch")
    theirs, optimizer = two_groups(torch.optim.SGD, lambda: torch.zeros(2, requires_grad=True)), two_groups()
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    scheduler = ours.ReduceLROnPlateau(optimizer, **options)
    for i, loss in enumerate(plateau_losses()):
        if i % 40 == 5:
            saved = json.loads(json.dumps([optimizer.state_dict(), scheduler.state_dict()]))
            optimizer = two_groups()
            scheduler = ours.ReduceLROnPlateau(optimizer)
            optimizer.load_state_dict(saved[0])
            scheduler.load_state_dict(saved[1])
        other.step(loss)
        scheduler.step(loss)
        assert scheduler.get_last_lr() == pytest.approx([g["lr"] for g in theirs.param_groups], rel=1e-14)
    assert optimizer.param_groups[0]["lr"] < 0.1


# ---- closed forms, which need no PyTorch ---------------------------------------------------------------------------------

e = np.arange(STEPS)
CLOSED = {
    "StepLR": 0.1 * 0.5 ** (e // 7),
    "MultiStepLR": 0.1 * 0.1 ** ((e >= 60) + 2.0 * (e >= 20) + (e >= 90)),
    "ExponentialLR": 0.1 * 0.95**e,
    "CosineAnnealingLR": 0.1 * (1 + np.cos(np.pi * e / STEPS)) / 2,
    "CosineAnnealingLR, several waves": 0.003 + 0.097 * (1 + np.cos(np.pi * e / 17)) / 2,
    "LinearLR": 0.1 * (1 / 3 + 2 / 3 * np.minimum(e, 5) / 5),
    "LinearLR down": 0.1 * (1 - 0.9 * np.minimum(e, 90) / 90),
    "ConstantLR": 0.1 * np.where(e < 12, 0.25, 1),
    "LambdaLR": 0.1 * 0.9**e,
    "PolynomialLR": 0.1 * np.maximum(1 - e / 100, 0) ** 0.9,
    "ChainedScheduler": 0.1 * np.where(e < 20, 0.1, 1) * 0.95**e * 0.5 ** (e // 30),
    "CosineAnnealingWarmRestarts, equal": 0.1 * (1 + np.cos(np.pi * (e % 7) / 7)) / 2,
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form(name):
    np.testing.assert_allclose(rates(SCHEDULES[name](ours, two_groups())), CLOSED[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("place", [0, 1])
def test_a_chain_in_a_sequence(place):
    """PyTorch takes one step too many in the first place, and raises NotImplementedError in a later one."""
    optimizer = two_groups()
    parts = [chained(ours, optimizer), ours.LinearLR(optimizer, 0.1, total_iters=8)]
    parts = parts if place == 0 else parts[::-1]
    lr = rates(ours.SequentialLR(optimizer, parts, milestones=[8 + 60 * (place == 0)]), 60)
    expected = CLOSED["ChainedScheduler"]
    line = 0.1 * (0.1 + 0.9 * e[:8] / 8)
    np.testing.assert_allclose(lr, expected[:60] if place == 0 else [*line, *expected[:52]], rtol=1e-12)


def test_one_cycle_goes_up_and_down_while_the_momentum_mirrors_it():
    optimizer = two_groups()
    lr, momentum = trace(optimizer, ours.OneCycleLR(optimizer, 0.5, 100), 100)[:, 0].T
    assert lr[0] == pytest.approx(0.5 / 25)
    assert lr[-1] == pytest.approx(0.5 / 25 / 1e4)
    assert lr.argmax() == momentum.argmin() == 29
    assert (lr.max(), momentum.min()) == pytest.approx((0.5, 0.85))
    assert (momentum[0], momentum[-1]) == pytest.approx((0.95, 0.95))


def test_one_cycle_whose_rise_has_one_step_starts_at_the_top():
    lr = rates(ours.OneCycleLR(two_groups(), 0.5, 10, pct_start=0.1), 10)  # PyTorch divides by zero here
    assert lr[0] == 0.5
    assert np.all(np.diff(lr) < 0)


def test_one_cycle_refuses_steps_beyond_its_end_and_keeps_its_state():
    optimizer = two_groups()
    scheduler = ours.OneCycleLR(optimizer, 0.5, 5)
    trace(optimizer, scheduler, 5)
    before = scheduler.state_dict(), [dict(g) for g in optimizer.param_groups]
    with pytest.raises(ValueError, match="5 steps and is over"):
        scheduler.step()
    assert (scheduler.state_dict(), [dict(g) for g in optimizer.param_groups]) == before


def test_warm_restarts_at_fractional_epochs():
    torch = pytest.importorskip("torch")
    theirs, optimizer = two_groups(torch.optim.SGD, lambda: torch.zeros(2, requires_grad=True)), two_groups()
    other = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(theirs, 5, 2)
    scheduler = ours.CosineAnnealingWarmRestarts(optimizer, 5, 2)
    for epoch in np.arange(0, 60, 0.37):
        other.step(float(epoch))
        scheduler.step(float(epoch))
        assert scheduler.get_last_lr() == pytest.approx(other.get_last_lr(), rel=1e-9, abs=1e-12)


def test_a_schedule_of_ones_own():
    class Halving(ours.LRScheduler):
        def get_lr(self):
            return [base / 2**self.last_epoch for base in self.base_lrs]

    assert rates(Halving(two_groups()), 3).tolist() == [0.1, 0.05, 0.025]


def test_continuing_with_last_epoch():
    optimizer = two_groups()
    with pytest.raises(KeyError, match="initial_lr"):
        ours.ExponentialLR(optimizer, 0.5, last_epoch=3)
    trace(optimizer, ours.StepLR(optimizer, 2, 0.5), 4)
    again = ours.StepLR(optimizer, 2, 0.5, last_epoch=4)
    assert (again.last_epoch, again.get_last_lr()[0]) == (5, 0.025)


def test_stepping_before_the_optimizer_warns():
    scheduler = ours.StepLR(two_groups(), 1)
    with pytest.warns(UserWarning, match=r"before optimizer\.step"):
        scheduler.step()


BAD = {
    "no optimizer": (lambda o: ours.StepLR("sgd", 3), TypeError, "optimizer must be an Optimizer, got str"),
    "step_size 0": (lambda o: ours.StepLR(o, 0), ValueError, "step_size must be at least 1, got 0"),
    "step_size 1.5": (lambda o: ours.StepLR(o, 1.5), TypeError, "step_size must be an integer"),
    "gamma text": (lambda o: ours.ExponentialLR(o, "x"), TypeError, "gamma must be a number"),
    "gamma nan": (lambda o: ours.ExponentialLR(o, math.nan), ValueError, "gamma must be at least 0"),
    "T_max 0": (lambda o: ours.CosineAnnealingLR(o, 0), ValueError, "T_max"),
    "factor 0": (lambda o: ours.ConstantLR(o, 0), ValueError, "factor must be greater"),
    "start_factor 0": (lambda o: ours.LinearLR(o, 0), ValueError, "start_factor"),
    "end_factor 2": (lambda o: ours.LinearLR(o, end_factor=2), ValueError, "end_factor must be in 0 ... 1"),
    "milestones": (lambda o: ours.MultiStepLR(o, [3, 0.5]), TypeError, "milestones"),
    "lambda": (lambda o: ours.LambdaLR(o, 0.9), TypeError, "lr_lambda must be a function"),
    "lambdas": (lambda o: ours.LambdaLR(o, [abs] * 3), ValueError, "each of the 2 parameter groups, got 3"),
    "one cycle without length": (lambda o: ours.OneCycleLR(o, 0.1), ValueError, "total_steps"),
    "one cycle, strategy": (lambda o: ours.OneCycleLR(o, 0.1, 9, anneal_strategy="x"), ValueError, "anneal_strategy"),
    "one cycle, pct_start": (lambda o: ours.OneCycleLR(o, 0.1, 9, pct_start=30), ValueError, "pct_start must be in 0 ... 1"),
    "one cycle, div_factor": (lambda o: ours.OneCycleLR(o, 0.1, 9, div_factor=0), ValueError, "div_factor"),
    "one cycle, no momentum": (lambda o: ours.OneCycleLR(Plain(), 0.1, 9), ValueError, "Plain has none"),
    "plateau, mode": (lambda o: ours.ReduceLROnPlateau(o, "low"), ValueError, "mode"),
    "plateau, threshold_mode": (lambda o: ours.ReduceLROnPlateau(o, threshold_mode="x"), ValueError, "threshold_mode"),
    "plateau, factor": (lambda o: ours.ReduceLROnPlateau(o, factor=1.0), ValueError, "factor must be less than 1"),
    "restarts": (lambda o: ours.CosineAnnealingWarmRestarts(o, 0), ValueError, "T_0"),
    "no schedules": (lambda o: ours.SequentialLR(o, [], []), ValueError, "milestones must be one fewer"),
    "one milestone": (lambda o: ours.SequentialLR(o, [ours.StepLR(o, 1)], [3]), ValueError, "milestones must be one fewer"),
    "falling milestones": (
        lambda o: ours.SequentialLR(o, [ours.StepLR(o, 1)] * 3, [9, 3]),
        ValueError,
        "milestones must increase",
    ),
    "plateau in a sequence": (
        lambda o: ours.SequentialLR(o, [ours.ReduceLROnPlateau(o), ours.StepLR(o, 1)], [3]),
        TypeError,
        "must be a schedule of the epoch",
    ),
    "empty chain": (lambda o: ours.ChainedScheduler([]), ValueError, "schedulers is empty"),
    "plateau in a chain": (
        lambda o: ours.ChainedScheduler([ours.StepLR(o, 1), ours.ReduceLROnPlateau(o)]),
        TypeError,
        r"schedulers\[1\] must be a schedule of the epoch",
    ),
    "chain of two optimizers": (
        lambda o: ours.ChainedScheduler([ours.StepLR(o, 1), ours.StepLR(two_groups(), 1)]),
        ValueError,
        "another optimizer",
    ),
    "power": (lambda o: ours.PolynomialLR(o, 5, -1), ValueError, "power must be at least 0"),
    "another optimizer": (lambda o: ours.SequentialLR(o, [ours.StepLR(two_groups(), 1)], []), ValueError, "another optimizer"),
    "another state": (
        lambda o: ours.StepLR(o, 1).load_state_dict(ours.ExponentialLR(o, 1).state_dict()),
        ValueError,
        "not one of StepLR",
    ),
    "state of other groups": (
        lambda o: ours.StepLR(o, 1).load_state_dict(ours.StepLR(Plain(), 1).state_dict()),
        ValueError,
        "for 1 parameter groups",
    ),
}


class Plain(Optimizer):
    def __init__(self):
        super().__init__([Tensor(np.zeros(1, np.float32))], {"lr": 0.1})

    def update(self):
        pass


@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments(name):
    make, kind, message = BAD[name]
    with pytest.raises(kind, match=message.replace("...", r"\.\.\.")):
        make(two_groups())
