"""Checkpointed functions give the values and gradients of plain ones, and keep nothing between."""

from __future__ import annotations

import gc
import importlib
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.utils.checkpoint import checkpoint, checkpoint_sequential


def network(nn):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Sigmoid(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(8 * 16, 5),
    )


def images(requires_grad: bool = False) -> mg.Tensor:
    x = np.random.default_rng(0).standard_normal((4, 3, 4, 4))
    return mg.tensor(x, dtype=mg.float32, requires_grad=requires_grad)


def trained(run, requires_grad: bool = True) -> list[np.ndarray]:
    """The output and the gradients of one step of the network, through ``run(model, x)``, and its running mean."""
    mg.manual_seed(0)
    model, x = network(nn), images(requires_grad)
    y = run(model, x)
    (y * mg.randn(4, 5)).sum().backward()
    after = mg.rand(3)
    gradients = [p.grad.numpy() for p in model.parameters()] + ([x.grad.numpy()] if requires_grad else [])
    return [y.detach().numpy(), *gradients, after.numpy()]


RUNS = {
    "whole": lambda model, x: checkpoint(model, x),
    "reentrant": lambda model, x: checkpoint(model, x, use_reentrant=True),
    "by name": lambda model, x: checkpoint(lambda *, image: model(image), image=x),
    "closure": lambda model, x: checkpoint(lambda: model(x)),
    "tail": lambda model, x: checkpoint(lambda t: model[4:](t), model[:4](x)),
    "nested": lambda model, x: checkpoint(lambda t: checkpoint(model[3:], checkpoint(model[:3], t)), x),
    "sequential": lambda model, x: checkpoint_sequential(model, 3, x),  # the second of the three starts with an inplace ReLU
    "list": lambda model, x: checkpoint_sequential(list(model), 8, x, use_reentrant=False),
}


@pytest.mark.parametrize("requires_grad", [True, False])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_values_gradients_and_random_numbers_are_those_without(run, requires_grad):
    expected = trained(lambda model, x: model(x), requires_grad)
    for ours, plain in zip(trained(run, requires_grad), expected, strict=True):
        np.testing.assert_array_equal(ours, plain)


def test_gradients_as_return_values():
    model, x = network(nn).eval(), images(requires_grad=True)
    inputs = [x, *model.parameters()]
    weights = mg.randn(4, 5)
    for ours, plain in zip(
        mg.grad((checkpoint(model, x) * weights).sum(), inputs), mg.grad((model(x) * weights).sum(), inputs), strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), plain.numpy())
    assert x.grad is None


def test_gradcheck():
    def function(x, w):
        return checkpoint(lambda a: ((a @ w).tanh(), a.sum()), x)

    x, w = mg.randn(2, 3, requires_grad=True), mg.randn(3, 2, requires_grad=True)
    assert mg.gradcheck(function, (x, w))


def test_what_the_graph_holds_is_let_go():
    made = []

    def function(x):
        y = x.exp()
        made.append(weakref.ref(y.grad_fn))
        return y.sin()

    x = mg.ones(3, requires_grad=True)
    gc.disable()
    try:
        z = checkpoint(function, x).sum()
        assert made[0]() is None, "the first graph waits for the garbage collector"
        z.backward()
        assert len(made) == 2, "run once forward and once backward"
        assert made[1]() is None
    finally:
        gc.enable()
    np.testing.assert_allclose(x.grad.numpy(), np.exp(1) * np.cos(np.exp(1)) * np.ones(3), rtol=1e-6)


def test_other_random_numbers_without_preserve_rng_state():
    seen = []

    def function(x):
        noise = mg.rand(8)
        seen.append(noise.numpy())
        return x * noise

    for preserve in (True, False):
        checkpoint(function, mg.ones(8, requires_grad=True), preserve_rng_state=preserve).sum().backward()
    assert (seen[0] == seen[1]).all()
    assert not (seen[2] == seen[3]).any()


def test_outputs_of_several_kinds():
    x, k = mg.ones(3, requires_grad=True), mg.ones(2)
    y, same, constant, text, unused = checkpoint(lambda a, b: (a * 2, a, b + 1, "text", a * 5), x, k)
    assert (same is x, constant.requires_grad, text, unused.requires_grad) == (True, False, "text", True)
    assert isinstance(checkpoint(lambda a: [a * 2, a * 3], x), list)
    (y.sum() + same.sum()).backward()
    assert x.grad.tolist() == [3.0] * 3
    with mg.no_grad():
        assert not checkpoint(lambda a: a * 2, x).requires_grad


def test_the_graph_can_be_kept():
    x = mg.full((3,), 2.0, requires_grad=True)
    y = checkpoint(lambda a: (a * a).sum(), x)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8.0] * 3
    with pytest.raises(RuntimeError, match="checkpoint: this part of the graph was freed"):
        y.backward()


def test_wrong_use_is_explained():
    x = mg.ones(3, requires_grad=True)
    with pytest.raises(TypeError, match="checkpoint: function must be callable, got Tensor"):
        checkpoint(x, x)
    with pytest.raises(TypeError, match="function must return a tensor, a tuple or a list, got dict"):
        checkpoint(lambda a: {"y": a}, x)
    with pytest.raises(RuntimeError, match=r"the function changed an argument in place.*inplace=False"):
        checkpoint(lambda a: a.mul_(2) + 1, x * 1)
    with pytest.raises(ValueError, match="segments must be an integer from 1 to 8, got 9"):
        checkpoint_sequential(network(nn), 9, images())


def test_changes_between_the_two_runs_are_noticed():
    layer, x = nn.Linear(3, 2), mg.ones(1, 3)
    y = checkpoint(layer, x)
    with mg.no_grad():
        layer.bias += 1
    with pytest.raises(RuntimeError, match="checkpoint: an array that its backward needs was changed in place"):
        y.sum().backward()
    assert layer.weight.grad is None
    lengths = iter((3, 2))
    x = mg.ones(3, requires_grad=True)
    y = checkpoint(lambda a: a[: next(lengths)], x)
    with pytest.raises(RuntimeError, match=r"outputs of shapes \[\(3,\)\] in its first run and \[\(2,\)\] in its second"):
        y.sum().backward()
    assert x.grad is None


def test_anomaly_detection_sees_both_runs():
    model, x = network(nn), images(requires_grad=True)
    with mg.autograd.detect_anomaly():
        checkpoint(model, x).sum().backward()
    with mg.autograd.detect_anomaly(), pytest.raises(mg.autograd.AnomalyError, match="log: the output"):
        checkpoint(lambda a: a.log(), -mg.ones(2, requires_grad=True))


# ---- beside PyTorch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("sequential", [True, False])
def test_running_statistics_and_gradients_are_pytorchs(use_reentrant, sequential):
    torch = pytest.importorskip("torch")
    theirs, ours = network(torch.nn), network(nn)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    found = []
    for library, model in ((torch, theirs), (mg, ours)):
        model[5].p = 0.0  # the random numbers differ
        model[2].inplace = False
        utils = importlib.import_module(library.__name__ + ".utils.checkpoint")
        x = library.tensor(images().numpy(), requires_grad=True)
        if sequential:
            y = utils.checkpoint_sequential(model, 2, x, use_reentrant=use_reentrant)
        else:
            y = utils.checkpoint(model, x, use_reentrant=use_reentrant)
        assert model[1].num_batches_tracked.item() == 1
        (y * y).sum().backward()
        assert model[1].num_batches_tracked.item() == 2, "the second run counts too"
        found.append([x.grad, *(p.grad for p in model.parameters()), *model.buffers()])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-3, atol=1e-5)
