"""The contenders of ``gpu.py``: one training step of a network in either library, and whether it computes the right thing.

A step is zero_grad, forward, cross-entropy, backward, and SGD with momentum 0.9 and weight decay 5e-4.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import gpu_networks
import numpy as np
from gpu_card import autocast, card_clock, torch_clock
from training_step import SETTINGS, Case

import minigrad as mg
from minigrad.capture import graph

__all__ = [
    "CONTENDERS",
    "OF_TORCH",
    "Batch",
    "Contender",
    "Outcome",
    "allowed",
    "complaints",
    "deviations",
    "make",
    "true_outcome",
]

OF_TORCH = ("torch", "torch_channels_last", "torch_compile", "torch_reduce_overhead", "torch_graph")
CONTENDERS = ("minigrad", "minigrad_graph", *OF_TORCH)
WARM = 4  # steps before anything is looked at: minigrad captures the fourth


class Batch(NamedTuple):
    """What a network is trained on, and the weights from which every contender starts."""

    case: Case
    images: np.ndarray
    labels: np.ndarray
    weights: dict[str, np.ndarray]

    @classmethod
    def of(cls, case: Case) -> Batch:
        rng = np.random.default_rng(0)
        images = rng.standard_normal((case.batch, *case.shape), dtype=np.float32)
        mg.manual_seed(0)
        state = gpu_networks.create(case.net, mg).state_dict()
        labels = rng.integers(0, case.classes, gpu_networks.labels_shape(case))
        return cls(case, images, labels, {key: np.array(value.numpy()) for key, value in state.items()})


class Outcome(NamedTuple):
    """What the first step from a batch's weights computes; arrays by the names of parameters."""

    loss: float
    gradients: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]


class Contender:
    """A training step that can be timed: ``step()`` runs it and returns the loss.

    ``warm()`` compiles, captures and tunes what there is to; ``first_step()`` starts again from the batch's weights.
    """

    def __init__(self, model, optimizer, step: Callable[[], object], batch: Batch, clock: Callable, put: Callable, get: Callable):
        self.model, self.optimizer, self.step = model, optimizer, step
        self.batch, self.clock = batch, clock
        self._put, self._get = put, get  # write an array into a tensor; a tensor as an array

    def __call__(self) -> object:
        return self.step()

    def warm(self, steps: int = WARM) -> float:
        """Run some steps; returns the seconds that they took."""
        start = time.perf_counter()
        for _ in range(steps):
            loss = self.step()
        self._get(loss)  # waits for the card
        return time.perf_counter() - start

    def first_step(self) -> Outcome:
        """The step from the batch's weights without a velocity, put where they are: graphs know the memory."""
        for key, tensor in self.model.state_dict().items():
            self._put(tensor, self.batch.weights[key])
        for values in self.optimizer.state.values():
            velocity = values.get("momentum_buffer")
            if velocity is not None:
                self._put(velocity, np.zeros(tuple(velocity.shape)))
        loss = float(self._get(self.step()))
        named = dict(self.model.named_parameters())
        gradients = {name: self._get(p.grad) for name, p in named.items()}
        return Outcome(loss, gradients, {name: self._get(p) for name, p in named.items()})


def make(name: str, batch: Batch, numbers: str, torch, device: str = "cuda", double: bool = False) -> Contender:
    """The contender ``name`` (one of ``CONTENDERS``), not warm yet. ``device``: PyTorch's. ``double``: in float64."""
    if name.startswith("minigrad"):
        return _minigrad(name, batch, numbers, double)
    return _torch(name, batch, numbers, torch, device, double)


def _minigrad(name: str, batch: Batch, numbers: str, double: bool) -> Contender:
    model = gpu_networks.create(batch.case.net, mg)
    model.load_state_dict({key: mg.tensor(value) for key, value in batch.weights.items()})
    model = (model.double() if double else model).to("cuda").train()
    x, y = mg.tensor(batch.images.astype(np.float64) if double else batch.images).to("cuda"), mg.tensor(batch.labels).to("cuda")
    optimizer = mg.optim.SGD(model.parameters(), **SETTINGS)

    def step(x, y):
        optimizer.zero_grad()
        with autocast(mg, numbers, "cuda"):
            loss = mg.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    chosen = graph(step) if name == "minigrad_graph" else step

    def put(tensor, array: np.ndarray) -> None:
        with mg.no_grad():
            tensor.copy_(mg.tensor(array.astype(tensor.dtype)).to(tensor.device))

    return Contender(model, optimizer, lambda: chosen(x, y), batch, card_clock, put, lambda t: np.array(t.detach().numpy()))


def _torch(name: str, batch: Batch, numbers: str, torch, device: str, double: bool) -> Contender:
    net = gpu_networks.create(batch.case.net, torch)
    net.load_state_dict({key: torch.from_numpy(value) for key, value in batch.weights.items()})
    net = (net.double() if double else net).to(device).train()
    x, y = torch.from_numpy(batch.images).to(device), torch.from_numpy(batch.labels).to(device)
    x = x.double() if double else x
    if name != "torch":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), fused=True, **SETTINGS)
    compiled = {"torch_compile": {}, "torch_reduce_overhead": {"mode": "reduce-overhead"}}.get(name)
    model = net if compiled is None else torch.compile(net, **compiled)

    def step():
        if name == "torch_reduce_overhead":
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad()
        with autocast(torch, numbers, device):
            loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    chosen = _torch_graph(step, optimizer, torch) if name == "torch_graph" else step

    def put(tensor, array: np.ndarray) -> None:
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(array))

    clock = torch_clock(torch, device)
    return Contender(net, optimizer, chosen, batch, clock, put, lambda t: t.detach().cpu().numpy().copy())


def _torch_graph(step: Callable[[], object], optimizer, torch) -> Callable[[], object]:
    """The whole step as one CUDA graph, made when it is first called, as PyTorch's documentation tells."""
    made: list = []

    def replay():
        if not made:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    step()
            torch.cuda.current_stream().wait_stream(stream)
            optimizer.zero_grad()
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured):
                loss = step()
            made.extend((captured, loss))
        made[0].replay()
        return made[1]

    return replay


# ---- is it right? ------------------------------------------------------------------------------------------------------

# By number type: how far from the true loss, relative to it, and from the true gradients (see ``deviations``) a step may be.
# In deep networks rounding alone moves gradients by more, because rectifiers whose inputs are almost 0 turn the other way. Two
# right implementations are equally far off then, but for a third or so: a gradient may be twice as far as that of PyTorch with
# the same number type. One that might be nine tenths as long as the true one proves nothing (for zeros it is 1, for unrelated
# ones 1.4): of those only the length is compared with PyTorch's.
LOSS = {"exact": 1e-4, "tf32": 5e-3, "bf16": 3e-2}
GRADIENT = {"exact": 0.05, "tf32": 0.05, "bf16": 0.1}
TIMES, MOST, LONGER = 2, 0.9, 3


def true_outcome(batch: Batch, torch, device: str = "cuda") -> Outcome:
    """The first step in float64, by PyTorch, or by minigrad where that is not installed."""
    return make("minigrad" if torch is None else "torch", batch, "exact", torch, device, double=True).first_step()


def deviations(found: Outcome, truth: Outcome) -> dict[str, float]:
    """How far the gradient of each parameter is from the true one: the length of the difference by that of the true gradient.

    What is tiny beside the largest gradient counts as if it had a hundredth of its length: a bias before a normalization has
    no gradient but for rounding.
    """
    floor = 1e-2 * max(map(_length, truth.gradients.values()))
    return {name: _length(found.gradients[name] - g) / max(_length(g), floor) for name, g in truth.gradients.items()}


def complaints(
    found: Outcome, truth: Outcome, numbers: str, yardstick: Outcome | None, start: dict[str, np.ndarray]
) -> Iterator[str]:
    """What is wrong with a contender's first step from the weights ``start``.

    ``yardstick``: PyTorch's with the same number type. Without it gradients are looked at only where nothing is rounded.
    """
    if not abs(found.loss - truth.loss) <= LOSS[numbers] * abs(truth.loss):
        yield f"its loss is {found.loss:.7g}, and should be {truth.loss:.7g}"
    if yardstick is not None or numbers == "exact":
        yield from _wrong_gradients(found, truth, numbers, truth if yardstick is None else yardstick)
    for name, g in found.gradients.items():
        before = start[name].astype(np.float64)
        expected = before - SETTINGS["lr"] * (g + SETTINGS["weight_decay"] * before)
        if not _length(found.parameters[name] - expected) <= 1e-6 * _length(expected) + 1e-30:
            yield f"SGD's update of {name} is wrong"


def allowed(truth: Outcome, numbers: str, yardstick: Outcome) -> dict[str, float]:
    """How far each gradient may be from the true one; infinitely far where that would prove nothing."""
    bounds = {name: max(GRADIENT[numbers], TIMES * far) for name, far in deviations(yardstick, truth).items()}
    return {name: bound if bound <= MOST else np.inf for name, bound in bounds.items()}


def _wrong_gradients(found: Outcome, truth: Outcome, numbers: str, yardstick: Outcome) -> Iterator[str]:
    far, bounds = deviations(found, truth), allowed(truth, numbers, yardstick)
    floor = 1e-2 * max(map(_length, truth.gradients.values()))
    for name, bound in bounds.items():
        mine, theirs = (max(_length(outcome.gradients[name]), floor) for outcome in (found, yardstick))
        if not far[name] <= bound:
            yield f"the gradient of {name} is off by {far[name]:.2g}, and may be by {bound:.2g}"
        elif not theirs / LONGER <= mine <= theirs * LONGER:
            yield f"the gradient of {name} has the length {mine:.3g}, and PyTorch's {theirs:.3g}"


def _length(values: np.ndarray) -> float:
    return float(np.linalg.norm(values.astype(np.float64).ravel()))
