"""Adam and AdamW against their formulas and PyTorch's numbers (``test_rmsprop`` has what they share with RMSprop)."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.creation import ones
from minigrad.device import to_numpy
from minigrad.nn.parameter import Parameter
from minigrad.optim import Adam, AdamW
from minigrad.optim.lr_scheduler import OneCycleLR
from minigrad.tensor import Tensor
from tests.optim.test_rmsprop import COMMON, assert_follows, assert_like_pytorch, one

OPTIONS = {
    "defaults": {},
    "weight decay": {"lr": 0.02, "weight_decay": 0.1},
    "short memory": {"lr": 0.01, "betas": (0.3, 0.8), "eps": 1e-3},
    "no memory": {"betas": (0.0, 0.0), "eps": 0.1},
    "amsgrad": {"lr": 0.01, "betas": (0.9, 0.5), "amsgrad": True},
    "maximize": {"lr": 0.01, "maximize": True, "weight_decay": 0.1, "amsgrad": True},
}
BOTH = pytest.mark.parametrize("kind", [Adam, AdamW])


def textbook(kind):
    """The formula of the docstring, in float64."""

    def steps(p, grads, lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=None, amsgrad=False, maximize=False):
        decay = (0.01 if kind is AdamW else 0) if weight_decay is None else weight_decay
        m = v = top = np.zeros_like(p)
        t = 0
        for g in grads:
            if g is None:
                continue
            t += 1
            g = -g if maximize else g
            if kind is AdamW:
                p = p - lr * decay * p
            else:
                g = g + decay * p
            m = betas[0] * m + (1 - betas[0]) * g
            v = betas[1] * v + (1 - betas[1]) * g**2
            top = np.maximum(top, v)
            w = top if amsgrad else v
            p = p - lr * m / (1 - betas[0] ** t) / (np.sqrt(w / (1 - betas[1] ** t)) + eps)
        return p

    return steps


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_formula(name, dtype, kind):
    options = OPTIONS[name]
    assert_follows(lambda params: kind(params, **options), lambda p, grads: textbook(kind)(p, grads, **options), dtype)


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_numbers_as_pytorch(name, dtype, kind):
    torch = pytest.importorskip("torch")
    options = OPTIONS[name]
    other = getattr(torch.optim, kind.__name__)
    assert_like_pytorch(lambda p: kind(p, **options), lambda p: other(p, **options), dtype)


@BOTH
def test_the_defaults_are_pytorchs(kind):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.optim, kind.__name__)([torch.zeros(2)]).defaults
    for name, value in kind([one]).defaults.items():
        assert theirs[name] == value


def test_the_first_step_is_lr_long_whatever_the_gradient():
    p = Parameter(np.ones(4))
    p.grad = Tensor(np.array([1e-3, -5.0, 1e6, -1e9]))
    Adam([p], lr=0.25, eps=0).step()
    np.testing.assert_allclose(1 - to_numpy(p.data), [0.25, -0.25, 0.25, -0.25], rtol=1e-14)


def test_without_memory_the_average_is_the_gradient_itself():
    p = Parameter(np.ones(2, np.float32))
    optimizer = Adam([p], betas=(0.0, 0.9))
    for g in (1e9, 1.0):  # 1e9 + (1 - 1e9) is 0 in float32
        p.grad = Tensor(np.full(2, g, np.float32))
        optimizer.step()
    assert to_numpy(optimizer.state[p]["exp_avg"].data).tolist() == [1, 1]


def test_the_number_of_the_step_is_each_parameters_own():
    """A layer that is unfrozen late begins with its own first step, which is lr long."""
    p, q = Parameter(np.ones(1)), Parameter(np.ones(1))
    optimizer = Adam([p, q], lr=0.25, eps=0)
    for _ in range(10):
        p.grad = Tensor(np.ones(1))
        optimizer.step()
    q.grad = Tensor(np.full(1, 3.0))
    optimizer.step()
    assert q.item() == pytest.approx(0.75, rel=1e-14)
    assert [optimizer.state[t]["step"] for t in (p, q)] == [11, 1]


def test_decoupled_decay_shrinks_all_alike():
    p = Parameter(np.array([1.0, -2.0, 4.0]))
    q = Parameter(to_numpy(p.data).copy())
    p.grad, q.grad = Tensor(np.zeros(3)), Tensor(np.zeros(3))
    AdamW([p], lr=0.5, weight_decay=0.25).step()
    assert to_numpy(p.data).tolist() == [0.875, -1.75, 3.5]
    Adam([q], lr=0.5, weight_decay=0.25).step()  # here the decay is a gradient, whose size does not count
    np.testing.assert_allclose(to_numpy(q.data), [0.5, -1.5, 3.5], rtol=1e-6)


def test_adamw_stays_adamw_with_the_state_of_adam():
    p = Parameter(np.ones(1))
    saved = Adam([p], lr=0.5, weight_decay=0.25).state_dict()
    optimizer = AdamW([p])
    optimizer.load_state_dict(saved)
    p.grad = Tensor(np.zeros(1))
    optimizer.step()
    assert p.item() == 0.875


def test_amsgrad_may_be_turned_on_later():
    p = Parameter(np.ones(2))
    optimizer = Adam([p])
    for g in (3.0, 1.0):
        p.grad = Tensor(np.full(2, g))
        optimizer.step()
        optimizer.param_groups[0]["amsgrad"] = True
    np.testing.assert_array_equal(
        to_numpy(optimizer.state[p]["max_exp_avg_sq"].data), to_numpy(optimizer.state[p]["exp_avg_sq"].data)
    )


BAD = {
    **COMMON,
    "beta1": ([one], {"betas": (-0.1, 0.9)}, ValueError, r"betas must be in 0 \.\.\. 1, got -0.1"),
    "beta2 above": ([one], {"betas": (0.9, 1.1)}, ValueError, r"betas must be in 0 \.\.\. 1, got 1.1"),
    "beta2 of 1": ([one], {"betas": (0.9, 1.0)}, ValueError, "betas must be two numbers of at least 0 and less than 1"),
    "three betas": ([one], {"betas": (0.9, 0.9, 0.9)}, ValueError, "betas must be two numbers"),
    "one beta": ([one], {"betas": 0.9}, TypeError, "betas must be two numbers, got 0.9"),
    "betas of text": ([one], {"betas": ("a", 0.9)}, TypeError, "betas must be a number, got 'a'"),
    "betas of a group": ([{"params": [one], "betas": (2, 0)}], {}, ValueError, "betas must be in 0"),
    "weight_decay": ([one], {"weight_decay": -1}, ValueError, "weight_decay must be at least 0"),
    "amsgrad": ([one], {"amsgrad": 1}, TypeError, "amsgrad must be True or False"),
}


@BOTH
@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments(name, kind):
    params, options, error, message = BAD[name]
    with pytest.raises(error, match=message):
        kind(params, **options)


def test_one_cycle_moves_the_first_beta():
    """As PyTorch does with ``betas``: the momentum of Adam goes down while the learning rate goes up."""
    w = Parameter(ones(2))
    optimizer = Adam([w], lr=0.1)
    scheduler = OneCycleLR(optimizer, 0.1, total_steps=10)
    betas = []
    for _ in range(9):
        betas.append(optimizer.param_groups[0]["betas"])
        w.grad = ones(2)
        optimizer.step()
        scheduler.step()
    assert betas[0] == (0.95, 0.999)
    assert min(b for b, _ in betas) == pytest.approx(0.85, abs=1e-3)
    assert {second for _, second in betas} == {0.999}
