"""Hooks of modules: before and after forward, and around backward, as in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn


class TwoInTwoOut(nn.Module):
    def forward(self, a, b, factor=1):
        return a * b * factor, a + b


def test_forward_hooks_see_and_replace():
    layer, seen = nn.Linear(2, 3), []
    handle = layer.register_forward_hook(lambda module, args, y: seen.append((module, args[0].shape, y.shape)))
    layer.register_forward_pre_hook(lambda module, args: (args[0] * 0,))
    layer.register_forward_hook(lambda module, args, y: y + 1)
    y = layer(mg.ones(4, 2))
    assert seen == [(layer, (4, 2), (4, 3))]
    np.testing.assert_allclose(y.detach().numpy(), np.broadcast_to(layer.bias.detach().numpy() + 1, (4, 3)))
    handle.remove()
    handle.remove()  # harmless
    layer(mg.ones(4, 2))
    assert len(seen) == 1


def test_forward_hooks_with_keyword_arguments_and_their_order():
    module, order = TwoInTwoOut(), []
    module.register_forward_pre_hook(lambda m, args, kwargs: (args, {"factor": 5}), with_kwargs=True)
    module.register_forward_pre_hook(lambda m, args: order.append("first"), prepend=True)
    module.register_forward_hook(lambda m, args, kwargs, y: order.append(kwargs["factor"]), with_kwargs=True)
    assert module(mg.ones(1), mg.ones(1), factor=2)[0].item() == 5
    assert order == ["first", 5]
    module.register_forward_pre_hook(lambda m, args, kwargs: args, with_kwargs=True)
    with pytest.raises(TypeError, match=r"must return None or \(args, kwargs\)"):
        module(mg.ones(1), mg.ones(1))
    with pytest.raises(TypeError, match="a hook must be callable, got str"):
        module.register_forward_hook("print")


def backward_calls(library, module, tensor):
    """What full backward hooks see in ``library``: a list of (grad_input, grad_output) as nested lists."""
    seen = []

    def hook(m, grad_input, grad_output):
        seen.append([[None if g is None else g.tolist() for g in gs] for gs in (grad_input, grad_output)])

    module.register_full_backward_hook(hook)
    a, b = tensor([1.0, 2.0]), tensor([3.0, 4.0])
    a.requires_grad_(), b.requires_grad_()
    y, z = module(a, b)
    (y.sum() * 2 + z.sum()).backward()
    y, z = module(a, b)
    y.sum().backward()  # z has no gradient
    module(b.detach(), b.detach())  # nothing requires a gradient
    return seen, a.grad.tolist()


def test_full_backward_hooks_see_what_pytorchs_see():
    torch = pytest.importorskip("torch")
    theirs = type("TwoInTwoOut", (torch.nn.Module,), {"forward": TwoInTwoOut.forward})()
    assert backward_calls(mg, TwoInTwoOut(), mg.tensor) == backward_calls(torch, theirs, torch.tensor)


def test_full_backward_hooks_replace_gradients():
    layer = nn.Linear(2, 2)
    x = mg.ones(1, 2, requires_grad=True)
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0] * 0 + 7,))
    layer.register_full_backward_pre_hook(lambda m, go: (go[0] * 3,))
    layer(x).sum().backward()
    assert x.grad.tolist() == [[7, 7]]
    assert layer.bias.grad.tolist() == [3, 3]


def test_full_backward_hooks_of_a_first_layer_and_of_a_leaf_model():
    layer, seen = nn.Linear(2, 2), []
    handle = layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, [g.tolist() for g in go])))
    layer(mg.ones(1, 2)).sum().backward()  # its input requires no gradient
    assert seen == [((None,), [[[1, 1]]])]
    with mg.no_grad():
        layer(mg.ones(1, 2))
    handle.remove()
    y = layer(mg.ones(1, 2, requires_grad=True))
    y.sum().backward()
    assert len(seen) == 1


def test_full_backward_hooks_survive_retain_graph_and_keep_gradients():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    x = mg.randn(5, 3).to(np.float64).requires_grad_()
    net(x).sum().backward()
    plain = [p.grad.numpy().copy() for p in net.parameters()]
    net.zero_grad()
    calls = []
    for module in net:
        module.register_full_backward_hook(lambda m, gi, go: calls.append(type(m).__name__))
    loss = net(x).sum()
    loss.backward(retain_graph=True)
    assert calls == ["Linear", "ReLU", "Linear"]
    for p, expected in zip(net.parameters(), plain, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), expected)
    loss.backward()
    assert len(calls) == 6


def test_wrong_results_of_backward_hooks_change_no_gradient():
    for result, message in [((1, 2), "1 gradients"), ((mg.ones(3),), "shapes of grad_input"), ((None,), "shapes of grad_input")]:
        layer = nn.Linear(2, 2)
        layer.register_full_backward_hook(lambda m, gi, go, result=result: result)
        x = mg.ones(1, 2, requires_grad=True)
        with pytest.raises(ValueError, match=f"a backward hook must return .*{message}"):
            layer(x).sum().backward()
        assert x.grad is None
        assert layer.weight.grad is None


def test_backward_hooks_need_tensors_as_outputs():
    module = nn.Sequential()
    module.register_full_backward_hook(lambda m, gi, go: None)
    with pytest.raises(TypeError, match="must return a Tensor or a tuple of Tensors, got dict"):
        module({"x": mg.ones(1)})


def test_changing_a_hooked_output_in_place_is_refused():
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda m, gi, go: None)
    y = layer(mg.ones(1, 2, requires_grad=True))
    with pytest.raises(RuntimeError, match="view"):
        y += 1
