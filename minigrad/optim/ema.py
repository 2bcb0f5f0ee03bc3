"""Averages of a model's weights over the steps of training, which often classify better than the last weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minigrad.device import array_module, device_of, is_floating, move
from minigrad.optim.adaptive import blocks, lerp, scratch_on_cards
from minigrad.optim.optimizer import check_count, check_number
from minigrad.tensor import Tensor

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage:
    """Keeps for every weight w of a model an average a, which begins at w: a = decay * a + (1 - decay) * w in each update.

        ema = ExponentialMovingAverage(model, decay=0.9999)
        for x, y in loader:
            ...
            optimizer.step()
            ema.update()
        with ema.applied():  # the model has the averages inside, its own weights after
            evaluate(model, test_loader)

    ``model``    a Module; its tensors may be replaced later, but not renamed, reshaped or converted
    ``decay``    0 ... 1. The average goes over about the last 1 / (1 - decay) updates
    ``warmup``   in update number n = 0, 1, ... the decay is at most (1 + n) / (10 + n), so that the weights of the
                 beginning are forgotten soon (TensorFlow's ``num_updates``)
    ``buffers``  average floating-point buffers too (the running statistics of batch normalization) and copy the others;
                 else buffers are not looked at, and the averages meet the model's own

    ``averages`` are the averages by name, ``updates`` counts. Recipes of Inception-v3, MobileNetV3 and EfficientNet evaluate
    averages of parameters and statistics with decay 0.9999; torchvision's have no warm-up but copy the weights in the first
    epochs.

    Source: Polyak and Juditsky 1992 for averaging; the formula is that of ``tf.train.ExponentialMovingAverage``.
    """

    def __init__(self, model: Any, decay: float = 0.9999, warmup: bool = True, *, buffers: bool = True):
        if not callable(getattr(model, "named_parameters", None)) or not callable(getattr(model, "named_buffers", None)):
            raise TypeError(f"model must be a Module, got {type(model).__name__}")
        for name, value in (("warmup", warmup), ("buffers", buffers)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {value!r}")
        self.model, self.warmup, self.buffers = model, warmup, buffers
        self.decay = check_number(decay, "decay", low=0, high=1)
        self.updates = 0
        self.averages = {name: Tensor(_copy(t.array)) for name, t in self._tensors(model).items()}
        if not self.averages:
            raise ValueError("model has no parameters to average")
        self._is_applied = False

    def update(self) -> None:
        """Take the present weights into the averages; call it after every ``optimizer.step()``."""
        self._refuse_inside("update")
        pairs = self._pairs(self.model)
        weight = 1 - self.next_decay()
        rooms = scratch_on_cards([average.array for _, average in pairs if is_floating(average.dtype)], 1)
        with np.errstate(all="ignore"):
            for t, average in pairs:
                average.settle()
                if is_floating(average.dtype):
                    for a, x, s in blocks([average.array, t.array], 1, rooms):
                        lerp(a, x, weight, s, array_module(a))
                else:
                    average.array[...] = t.array
                average.bump_version()
        self.updates += 1

    def next_decay(self) -> float:
        """The decay of the next update."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay

    def copy_to(self, model: Any = None) -> None:
        """Write the averages into the model for good, or into another ``model`` with tensors of the same names and shapes."""
        if model is None or model is self.model:
            self._refuse_inside("copy_to")
        _write([(t, average.array) for t, average in self._pairs(self.model if model is None else model)])

    @contextlib.contextmanager
    def applied(self) -> Iterator[Any]:
        """``with ema.applied() as model``: the model has the averages inside, and after it, whatever happens, its own weights.

        What is written into its parameters (and with ``buffers`` into its buffers) meanwhile is lost.
        """
        self._refuse_inside("applied")
        pairs = self._pairs(self.model)
        own = [(t, _copy(t.array)) for t, _ in pairs]
        self._is_applied = True
        try:
            _write([(t, average.array) for t, average in pairs])
            yield self.model
        finally:
            _write(own)
            self._is_applied = False

    def state_dict(self) -> dict[str, Any]:
        """What is needed to continue. The tensors are the averages themselves: copy (or save) them before the next update."""
        return {"decay": self.decay, "warmup": self.warmup, "updates": self.updates, "averages": dict(self.averages)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave. Arrays are copied; raises ValueError, and nothing changes, if it does not fit."""
        wanted = self.state_dict().keys()
        if not isinstance(state_dict, Mapping) or state_dict.keys() != wanted or not isinstance(state_dict["averages"], Mapping):
            raise ValueError(f"state_dict must be a dictionary with the keys {sorted(wanted)}")
        saved = {name: v.array if isinstance(v, Tensor) else np.asarray(v) for name, v in state_dict["averages"].items()}
        _check_names(saved, self.averages, "state_dict")
        for name, average in self.averages.items():
            if saved[name].shape != average.shape:
                raise ValueError(f"the average of {name} has shape {saved[name].shape}, the model has {average.shape}")
        decay = check_number(state_dict["decay"], "decay", low=0, high=1)
        updates = check_count(state_dict["updates"], "updates", low=0)
        if not isinstance(state_dict["warmup"], bool):
            raise ValueError(f"warmup must be True or False, got {state_dict['warmup']!r}")
        _write([(average, move(saved[name], device_of(average.array))) for name, average in self.averages.items()])
        self.decay, self.warmup, self.updates = decay, state_dict["warmup"], updates

    def __repr__(self) -> str:
        return (
            f"ExponentialMovingAverage(decay={self.decay}, warmup={self.warmup}, buffers={self.buffers}, "
            f"updates={self.updates}, tensors={len(self.averages)})"
        )

    def _tensors(self, model: Any) -> dict[str, Tensor]:
        tensors = dict(model.named_parameters())
        if tensors and self.buffers:
            tensors.update(model.named_buffers())
        return tensors

    def _pairs(self, model: Any) -> list[tuple[Tensor, Tensor]]:
        """(tensor of the model, its average); raises unless all of them fit."""
        tensors = self._tensors(model)
        _check_names(tensors, self.averages, "the model")
        for name, average in self.averages.items():
            x, a = tensors[name].array, average.array
            if x.shape != a.shape or x.dtype != a.dtype or type(x) is not type(a):
                raise RuntimeError(
                    f"{name} is {x.dtype} of shape {x.shape} on {device_of(x)}, its average is {a.dtype} of shape {a.shape} "
                    f"on {device_of(a)}: move or convert a model before averaging it"
                )
        return [(tensors[name], average) for name, average in self.averages.items()]

    def _refuse_inside(self, what: str) -> None:
        if self._is_applied:
            raise RuntimeError(f"{what}() inside applied(): the model holds the averages there, not its own weights")


def _check_names(found: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    missing, unexpected = [n for n in expected if n not in found], [n for n in found if n not in expected]
    if missing or unexpected:
        parts = [f"has no {missing[0]!r}"] if missing else []
        parts += [f"has {unexpected[0]!r}, which has no average"] if unexpected else []
        count = len(missing) + len(unexpected)
        raise ValueError(f"{what} {' and '.join(parts)} ({count} names do not fit): is it another model?")


def _copy(x: Any) -> Any:
    """A copy of the array in its memory order."""
    copy = array_module(x).empty_like(x)
    copy[...] = x
    return copy


def _write(pairs: list[tuple[Tensor, Any]]) -> None:
    """Write arrays into tensors, as changes in place."""
    with np.errstate(all="ignore"):
        for t, array in pairs:
            t.settle()
            t.array[...] = array
            t.bump_version()
