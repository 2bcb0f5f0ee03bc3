"""Every layer and loss against finite differences in float64, in training and in evaluation mode."""

from __future__ import annotations

import inspect

import pytest

import minigrad as mg
from minigrad import nn
from minigrad.gradcheck import directional_check
from tests.nn.layers import LAYERS, LOSSES, image, loss_inputs

TOLERANCE = 1e-7

# Layers without a gradient of their own to check, or that hold others.
OTHERS = {"Module", "Sequential", "ModuleList", "ModuleDict", "Parameter", "ParameterList", "ParameterDict", "Buffer"}
SEEDS = {"Hardtanh(-0.5, 2.0)": 1}  # of inputs none of which lies within a step of a kink
MORE = [("LocalResponseNormPaper(3, alpha=0.1)", (2, 4, 5, 5)), ("Dropout(0.3)", (2, 4, 5, 5)), ("Dropout2d(0.3)", (2, 4, 5, 5))]


def gradient_error(module: nn.Module, *inputs) -> float:
    """Relative error of the gradient along a random direction through the inputs and all parameters at once."""
    parameters = list(module.parameters())
    for p in parameters:  # also those that start as ones and zeros
        p.data[...] = mg.randn(*p.shape, dtype=p.dtype).data

    def function(x, *values):
        saved = [p.data for p in parameters]
        try:
            return _call_with(module, parameters, values, x, *inputs[1:])
        finally:
            for p, array in zip(parameters, saved, strict=True):
                p.data = array

    return directional_check(function, (inputs[0], *parameters))


def _call_with(module, parameters, values, *inputs):
    """The module's output as a function of ``values``, which take the places of its parameters in the graph."""
    places = [(owner, name) for owner in module.modules() for name, p in owner._parameters.items() if p is not None]
    kept = [owner._parameters[name] for owner, name in places]
    try:
        for (owner, name), old in zip(places, kept, strict=True):
            owner._parameters[name] = values[next(i for i, p in enumerate(parameters) if p is old)]
        y = module(*inputs)
    finally:
        for (owner, name), old in zip(places, kept, strict=True):
            owner._parameters[name] = old
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("call", "shape"), [*LAYERS, *MORE], ids=[call for call, _ in [*LAYERS, *MORE]])
def test_layer(call, shape, training):
    layer = eval(f"nn.{call}", {"nn": nn}).double().train(training)
    error = gradient_error(layer, mg.tensor(image(shape, SEEDS.get(call, 0)), requires_grad=True))
    assert error <= TOLERANCE


@pytest.mark.parametrize(("call", "kind"), LOSSES, ids=[call for call, _ in LOSSES])
def test_loss(call, kind):
    x, target = loss_inputs(call, kind)
    assert gradient_error(eval(f"nn.{call}", {"nn": nn}), mg.tensor(x, requires_grad=True), mg.tensor(target)) <= TOLERANCE


def test_a_wrong_gradient_is_found():
    class Wrong(nn.Linear):
        def forward(self, x):
            return super().forward(x) + (self.weight * 1e-5).sum().detach()

    assert gradient_error(Wrong(6, 5).double(), mg.tensor(image((3, 6)), requires_grad=True)) > TOLERANCE


def test_every_layer_has_a_row():
    named = {call.partition("(")[0] for call, _ in [*LAYERS, *LOSSES, *MORE]}
    layers = {name for name in nn.__all__ if inspect.isclass(getattr(nn, name))}
    assert layers - OTHERS - named == set()
