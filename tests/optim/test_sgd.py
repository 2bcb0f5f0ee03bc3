"""SGD: PyTorch's numbers, the formula by hand, groups, saving and restoring, and wrong arguments."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from minigrad.device import to_numpy
from minigrad.kernels.layout import channels_last
from minigrad.nn.parameter import Parameter
from minigrad.optim import SGD, Optimizer
from minigrad.tensor import Tensor

SHAPES = [(5,), (4, 3, 3, 3), (2, 7), ()]
OPTIONS = {
    "plain": {"lr": 0.1},
    "weight decay": {"lr": 0.1, "weight_decay": 0.01},
    "momentum": {"lr": 0.05, "momentum": 0.9},
    "momentum and weight decay": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
    "dampening": {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
    "nesterov": {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
    "maximize": {"lr": 0.01, "momentum": 0.5, "maximize": True, "weight_decay": 1e-3},
}


def parameters(dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in SHAPES]
    return [Tensor(a, requires_grad=True) for a in arrays]


def gradients(step, dtype=np.float32):
    rng = np.random.default_rng(100 + step)
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in SHAPES]


def run(optimizer, tensors, steps, make=Tensor, missing=()):
    for step in steps:
        for i, (p, g) in enumerate(zip(tensors, gradients(step, np.asarray(tensors[0].detach()).dtype), strict=True)):
            p.grad = None if (step, i) in missing else make(g)
        optimizer.step()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_numbers_as_pytorch(name, dtype):
    torch = pytest.importorskip("torch")
    tensors = parameters(dtype)
    theirs = [torch.tensor(t.numpy().copy() if t.requires_grad is False else t.detach().numpy().copy()) for t in tensors]
    missing = {(0, 2), (3, 0), (7, 1)}  # gradients that are None: skipped, and a velocity may begin later
    run(SGD(tensors, **OPTIONS[name]), tensors, range(100), missing=missing)
    run(torch.optim.SGD(theirs, **OPTIONS[name]), theirs, range(100), torch.from_numpy, missing)
    for p, q in zip(tensors, theirs, strict=True):
        scale = np.abs(q.numpy()).max()
        ulps = np.abs(to_numpy(p.data) - q.numpy()).max() / (np.finfo(dtype).eps * scale)
        assert ulps <= 16, f"{ulps} units in the last place after 100 steps"  # half a unit of rounding in each of them
        assert p.data.dtype == dtype


def test_the_formula():
    p = Tensor(np.array([1.0]), requires_grad=True)
    optimizer = SGD([p], lr=0.5, momentum=0.25, dampening=0.5, weight_decay=0.125)
    p.grad = Tensor(np.array([2.0]))
    optimizer.step()  # g = 2 + 0.125; v = g; p = 1 - v / 2
    assert p.item() == -0.0625
    optimizer.step()  # g = 2 - 0.0078125; v = 0.25 * 2.125 + 0.5 * g = 1.52734375
    assert p.item() == -0.0625 - 0.5 * 1.52734375
    assert optimizer.state[p]["momentum_buffer"].item() == 1.52734375


def test_memory_orders_do_not_matter_and_are_kept():
    p = Tensor(channels_last(np.random.default_rng(0).standard_normal((2, 3, 4, 5))), requires_grad=True)
    q = Tensor(np.ascontiguousarray(to_numpy(p.data)), requires_grad=True)
    optimizer = SGD([p, q], lr=0.1, momentum=0.9)
    for step in range(3):
        g = np.random.default_rng(step).standard_normal(p.shape)
        p.grad, q.grad = Tensor(g), Tensor(channels_last(g))
        optimizer.step()
    np.testing.assert_array_equal(to_numpy(p.data), to_numpy(q.data))
    assert p.data.strides == optimizer.state[p]["momentum_buffer"].data.strides == channels_last(q.data).strides


def test_a_step_counts_as_a_change_in_place():
    p = Parameter(np.ones(3, np.float32))
    loss = (p * p).sum()
    p.grad = Tensor(np.ones(3, np.float32))
    SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_groups_have_their_own_options_and_the_schedule_sees_them():
    a, b, c = parameters()[:3]
    optimizer = SGD([{"params": [a]}, {"params": b, "lr": 0.5, "momentum": 0}], lr=0.1, momentum=0.9)
    optimizer.add_param_group({"params": (x for x in [c]), "weight_decay": 0.1})
    assert [(g["lr"], g["momentum"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.1, 0.9, 0),
        (0.5, 0, 0),
        (0.1, 0.9, 0.1),
    ]
    before = to_numpy(b.data).copy()
    for p in (a, b, c):
        p.grad = Tensor(np.ones_like(to_numpy(p.data)))
    optimizer.step()
    np.testing.assert_array_equal(to_numpy(b.data), before - np.float32(0.5))
    assert set(optimizer.state) == {a, c}
    assert "Parameter Group 2" in repr(optimizer)


def test_zero_grad():
    p = parameters()[0]
    optimizer = SGD([p], lr=0.1)
    p.grad = grad = Tensor(np.ones(5, np.float32))
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is grad
    assert not to_numpy(grad.data).any()
    optimizer.zero_grad()
    assert p.grad is None
    optimizer.zero_grad()


def test_closure_is_run_with_gradients_on():
    from minigrad.autograd import no_grad

    p = Parameter(np.full(2, 3, np.float32))
    optimizer = SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with no_grad():
        assert optimizer.step(closure).item() == 18
    assert to_numpy(p.data).tolist() == [0, 0]


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_restored_it_continues_with_the_same_bits(stop):
    tensors = parameters()
    optimizer = SGD(tensors, lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True)
    run(optimizer, tensors, range(stop), missing={(0, 0)})
    saved = copy.deepcopy(optimizer.state_dict())
    others = [Tensor(to_numpy(t.data).copy(), requires_grad=True) for t in tensors]
    run(optimizer, tensors, range(stop, 9))

    other = SGD(others, lr=7)
    other.load_state_dict(saved)
    run(other, others, range(stop, 9))
    for p, q in zip(tensors, others, strict=True):
        np.testing.assert_array_equal(to_numpy(p.data), to_numpy(q.data))


def test_pytorchs_state_can_be_loaded():
    torch = pytest.importorskip("torch")
    tensors = parameters()
    theirs = [torch.tensor(t.detach().numpy().copy()) for t in tensors]
    other = torch.optim.SGD(theirs, lr=0.1, momentum=0.9)
    run(other, theirs, range(5), torch.from_numpy)
    optimizer = SGD(tensors, lr=1)
    optimizer.load_state_dict(other.state_dict())
    for p, q in zip(tensors, theirs, strict=True):
        np.testing.assert_array_equal(
            to_numpy(optimizer.state[p]["momentum_buffer"].data), other.state[q]["momentum_buffer"].numpy()
        )
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_numpy_numbers_do_not_change_the_dtype():
    p = parameters()[0]
    p.grad = Tensor(np.ones(5, np.float32))
    optimizer = SGD([p], lr=np.float64(0.1), momentum=np.float32(0.5))
    optimizer.step()
    assert p.data.dtype == optimizer.state[p]["momentum_buffer"].dtype == np.float32
    assert type(optimizer.param_groups[0]["lr"]) is float


# ---- wrong arguments -----------------------------------------------------------------------------------------------------

one = Tensor(np.zeros(2, np.float32), requires_grad=True)
two = Tensor(np.zeros(2, np.float32), requires_grad=True)
BAD = {
    "empty": ([], {}, ValueError, "params is empty"),
    "used iterator": (iter(()), {}, ValueError, "iterator used before"),
    "a tensor": (one, {}, TypeError, "must be a list of tensors or of groups, got Tensor"),
    "a set": ({one}, {}, TypeError, "a set has no fixed order"),
    "an array": ([one, np.zeros(2)], {}, TypeError, "parameter number 1 is a ndarray"),
    "a name": ([("weight", one), ("bias", 3)], {}, TypeError, "parameter 'bias' is a int"),
    "half named": ([("weight", one), two], {}, ValueError, "not both"),
    "integers": ([Tensor(np.zeros(2, np.int64))], {}, TypeError, "floating-point numbers, got dtype int64"),
    "twice": ([one, two, one], {}, ValueError, "parameters number 0 and number 2 are the same tensor"),
    "twice, named": ([("a.weight", one), ("b.weight", one)], {}, ValueError, "'a.weight' and 'b.weight' are the same"),
    "in two groups": ([{"params": [two, one]}, {"params": [one]}], {}, ValueError, "number 1 and number 2 are the same"),
    "group without params": ([{"lr": 1}], {}, TypeError, '"params"'),
    "group of a set": ([{"params": {one}}], {}, TypeError, '"params" of a group'),
    "a group and a tensor": ([{"params": [one]}, two], {}, TypeError, "must be a dictionary"),
    "lr": ([one], {"lr": -0.1}, ValueError, "lr must be at least 0, got -0.1"),
    "lr nan": ([one], {"lr": math.nan}, ValueError, "lr must be at least 0, got nan"),
    "lr inf": ([one], {"lr": math.inf}, ValueError, "lr must be at least 0, got inf"),
    "lr text": ([one], {"lr": "0.1"}, TypeError, "lr must be a number, got '0.1'"),
    "lr of a group": ([{"params": [one], "lr": -1}], {}, ValueError, "lr must be at least 0, got -1"),
    "momentum": ([one], {"momentum": -1}, ValueError, "momentum must be at least 0"),
    "weight_decay": ([one], {"weight_decay": -1}, ValueError, "weight_decay must be at least 0"),
    "nesterov": ([one], {"nesterov": True}, ValueError, "needs momentum > 0 and dampening = 0"),
    "nesterov, dampening": ([one], {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "needs momentum"),
    "nesterov, number": ([one], {"nesterov": 1}, TypeError, "nesterov must be True or False"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments(name):
    params, options, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        SGD(params, **options)


def test_a_computed_tensor_is_refused():
    with pytest.raises(ValueError, match="computed by mul: only leaf tensors"):
        SGD([Parameter(np.ones(2, np.float32)) * 2])


def test_a_group_that_is_refused_changes_nothing():
    optimizer = SGD([one], lr=0.1)
    with pytest.raises(ValueError, match="same tensor"):
        optimizer.add_param_group({"params": [two, one]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (np.ones(3, np.float32), r"gradient of parameter b is float32 of shape \(3,\)"),
        (np.ones(2, np.float64), "gradient of parameter b is float64"),
    ],
)
def test_a_gradient_that_does_not_fit_stops_the_step_before_anything_changes(gradient, message):
    a, b = (Parameter(np.ones(2, np.float32)) for _ in range(2))
    optimizer = SGD([("a", a), ("b", b)], lr=0.1, momentum=0.9)
    a.grad, b.grad = Tensor(np.ones(2, np.float32)), Tensor(gradient)
    with pytest.raises(RuntimeError, match=message):
        optimizer.step()
    assert to_numpy(a.data).tolist() == [1, 1]
    assert not optimizer.state


def test_a_converted_parameter_is_noticed():
    p = Parameter(np.ones(2, np.float32))
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    p.grad = Tensor(np.ones(2, np.float32))
    optimizer.step()
    p.data, p.grad = p.data.astype(np.float64), Tensor(np.ones(2))
    with pytest.raises(RuntimeError, match="velocity of parameter number 0 of its group is float32"):
        optimizer.step()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: [], "must be a dictionary"),
        (lambda s: {"state": {}}, "must be a dictionary with the keys"),
        (lambda s: {**s, "param_groups": s["param_groups"] * 2}, r"groups of \[2, 2\] parameters, this optimizer has \[2\]"),
        (lambda s: {**s, "state": {5: {}}}, "state for parameter 5"),
        (lambda s: {**s, "state": {0: {"momentum_buffer": Tensor(np.ones(3))}}}, r"has shape \(3,\), the parameter has \(2,\)"),
        (lambda s: {**s, "param_groups": [{**s["param_groups"][0], "lr": -1}]}, "lr must be at least 0"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    optimizer = SGD([one, two], lr=0.1, momentum=0.9)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(change(optimizer.state_dict()))
    assert optimizer.state_dict() == before


def test_a_subclass_defines_the_update():
    class Sign(Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def update(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p.data -= group["lr"] * np.sign(p.grad.data)

    p = Parameter(np.array([1, -1], np.float32))
    p.grad = Tensor(np.array([5, -2], np.float32))
    Sign([p], 0.5).step()
    assert to_numpy(p.data).tolist() == [0.5, -0.5]
    with pytest.raises(NotImplementedError, match="must define update"):
        Optimizer([p], {}).step()
