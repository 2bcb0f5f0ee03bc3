"""The calls that ``ops.py`` times for what has no window: normalization, ReLU, linear layers, loss, SGD. See ``op_data.py``."""

from __future__ import annotations

import networks
import numpy as np
from op_data import Calls, image, layouts, plain, without_graph

import minigrad as mg
from minigrad.nn import functional as F

__all__ = ["LINEAR", "LOSS", "MAPS", "sgd_step"]

SETTINGS = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}


def _rule(y: mg.Tensor):
    """The gradient rule that the op recorded: arrays in, arrays out."""
    return y.grad_fn.backward


def _tensor(array: np.ndarray) -> mg.Tensor:
    """A tensor on the array itself (``mg.tensor`` copies), which asks for its gradient."""
    return mg.from_numpy(array).requires_grad_()


# ---- on maps: batch normalization and ReLU -----------------------------------------------------------------------------


def _batch_norm_numbers(shape):
    c = shape[1]
    return image(shape), plain(c, seed=1), plain(c, seed=2), np.zeros(c, np.float32), np.ones(c, np.float32)


def _batch_norm_forward(torch, shape) -> Calls:
    numbers = _batch_norm_numbers(shape)
    x, weight, bias, mean, var = map(mg.from_numpy, numbers)
    calls: Calls = {"minigrad": without_graph(mg, lambda: F.batch_norm(x, mean, var, weight, bias, training=True))}
    for name, (tx, tw, tb, tmean, tvar) in layouts(torch, *numbers):
        arguments = (tx, tmean, tvar, tw, tb)
        calls[name] = without_graph(torch, lambda a=arguments: torch.nn.functional.batch_norm(*a, training=True))
    return calls


def _batch_norm_backward(torch, shape) -> Calls:
    numbers, gy = _batch_norm_numbers(shape), image(shape, 3)
    x, weight, bias, mean, var = numbers
    y = F.batch_norm(_tensor(x), mg.tensor(mean), mg.tensor(var), _tensor(weight), _tensor(bias), training=True)
    rule = _rule(y)
    calls: Calls = {"minigrad": lambda: rule(gy)}
    for name, (tx, tw, tb, tmean, tvar, tgy) in layouts(torch, *numbers, gy):
        _, save_mean, save_rstd = torch.native_batch_norm(tx, tw, tb, tmean, tvar, True, 0.1, 1e-5)
        arguments = (tgy, tx, tw, tmean, tvar, save_mean, save_rstd, True, 1e-5, [True] * 3)
        calls[name] = lambda a=arguments: torch.ops.aten.native_batch_norm_backward.default(*a)
    return calls


def _relu_forward(torch, shape) -> Calls:
    array = image(shape)
    x = mg.from_numpy(array)
    calls: Calls = {"minigrad": without_graph(mg, lambda: F.relu(x))}
    for name, (tx,) in layouts(torch, array):
        calls[name] = without_graph(torch, lambda tx=tx: torch.relu(tx))
    return calls


def _relu_backward(torch, shape) -> Calls:
    array, gy = image(shape), image(shape, 1)
    rule = _rule(F.relu(_tensor(array)))
    calls: Calls = {"minigrad": lambda: rule(gy)}
    for name, (tx, tgy) in layouts(torch, array, gy):
        ty = torch.relu(tx)
        calls[name] = lambda ty=ty, tgy=tgy: torch.ops.aten.threshold_backward.default(tgy, ty, 0)
    return calls


MAPS = {
    "batch_norm_forward": _batch_norm_forward,
    "batch_norm_backward": _batch_norm_backward,
    "relu_forward": _relu_forward,
    "relu_backward": _relu_backward,
}


# ---- on rows: linear layers and the loss -------------------------------------------------------------------------------


def _linear_numbers(batch, features, outputs):
    return plain(batch, features), plain(outputs, features, seed=1, scale=features**-0.5), plain(outputs, seed=2)


def _one(torch, *arrays):
    """As ``layouts``, for arrays that have only one memory order."""
    yield from list(layouts(torch, *arrays))[:1]


def _linear_forward(torch, batch, features, outputs) -> Calls:
    numbers = _linear_numbers(batch, features, outputs)
    x, weight, bias = map(mg.from_numpy, numbers)
    calls: Calls = {"minigrad": without_graph(mg, lambda: F.linear(x, weight, bias))}
    for name, tensors in _one(torch, *numbers):
        calls[name] = without_graph(torch, lambda tensors=tensors: torch.nn.functional.linear(*tensors))
    return calls


def _linear_backward(torch, batch, features, outputs) -> Calls:
    numbers, gy = _linear_numbers(batch, features, outputs), plain(batch, outputs, seed=3)
    rule = _rule(F.linear(*map(_tensor, numbers)))
    calls: Calls = {"minigrad": lambda: rule(gy)}
    for name, (tx, tw, _, tgy) in _one(torch, *numbers, gy):
        calls[name] = lambda tx=tx, tw=tw, tgy=tgy: (tgy.mm(tw), tgy.t().mm(tx), tgy.sum(0))
    return calls


LINEAR = {"linear_forward": _linear_forward, "linear_backward": _linear_backward}


def _loss_numbers(batch, classes):
    return plain(batch, classes), np.random.default_rng(1).integers(0, classes, batch)


def _cross_entropy_forward(torch, batch, classes) -> Calls:
    numbers = _loss_numbers(batch, classes)
    logits, labels = map(mg.from_numpy, numbers)
    calls: Calls = {"minigrad": without_graph(mg, lambda: F.cross_entropy(logits, labels))}
    for name, tensors in _one(torch, *numbers):
        calls[name] = without_graph(torch, lambda tensors=tensors: torch.nn.functional.cross_entropy(*tensors))
    return calls


def _cross_entropy_backward(torch, batch, classes) -> Calls:
    logits, labels = _loss_numbers(batch, classes)
    rule, gy = _rule(F.cross_entropy(_tensor(logits), mg.from_numpy(labels))), np.ones((), np.float32)
    calls: Calls = {"minigrad": lambda: rule(gy)[0]}
    for name, (tx, labels_, tgy) in _one(torch, logits, labels, gy):
        aten, log_p = torch.ops.aten, torch.log_softmax(tx, 1)
        weight = aten.nll_loss_forward.default(log_p, labels_, None, 1, -100)[1]

        def backward(aten=aten, log_p=log_p, labels_=labels_, tgy=tgy, weight=weight):
            g = aten.nll_loss_backward.default(tgy, log_p, labels_, None, 1, -100, weight)
            return aten._log_softmax_backward_data.default(g, log_p, 1, log_p.dtype)

        calls[name] = backward
    return calls


LOSS = {"cross_entropy_forward": _cross_entropy_forward, "cross_entropy_backward": _cross_entropy_backward}


# ---- on parameters: SGD ------------------------------------------------------------------------------------------------


def sgd_step(torch, net: str) -> Calls:
    """One step of SGD with momentum and weight decay on all parameters of a network of ``networks.py``."""
    mg.manual_seed(0)
    parameters = list(networks.create(net, mg).parameters())
    for i, p in enumerate(parameters):
        p.grad = mg.tensor(plain(*p.shape, seed=i, scale=1e-3))
    copies = [[], []] if torch is None else [tensors for _, tensors in layouts(torch, *(p.data for p in parameters))]
    gradients = [[], []] if torch is None else [tensors for _, tensors in layouts(torch, *(p.grad.data for p in parameters))]
    calls: Calls = {"minigrad": _optimizer_step(mg, parameters)}
    for name, tensors, grads in zip(("torch", "torch_channels_last"), copies, gradients, strict=True):
        if tensors:
            for t, g in zip(tensors, grads, strict=True):
                t.requires_grad_().grad = g
            calls[name] = _optimizer_step(torch, tensors)
    return calls


def _optimizer_step(library, parameters):
    optimizer = library.optim.SGD(parameters, **SETTINGS)
    updated = [p.detach() for p in parameters]

    def step():
        optimizer.step()
        return updated

    return step
