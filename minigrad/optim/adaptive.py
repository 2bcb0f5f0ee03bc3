"""What optimizers have in common that keep running averages of the gradient for each element."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

from minigrad.device import array_module, device_of
from minigrad.kernels.layout import flat_views
from minigrad.optim.optimizer import Optimizer, check_alike, check_number
from minigrad.tensor import Tensor

__all__ = ["AdaptiveOptimizer", "add_square", "blocks", "check_options", "lerp", "scratch_on_cards"]

BLOCK = 1 << 16  # elements: six arrays of float32 then take 1.5 MB, which stays in a cache between passes over them


class AdaptiveOptimizer(Optimizer):
    """Base of optimizers whose state is running averages of the shape of the parameter, and a count of the steps.

    A subclass defines ``averages(group)``, the names of the averages (they begin at zero), and ``adapt``, one step of one block.
    ``needed``: the averages that every saved state of this kind of optimizer has.
    """

    needed: tuple[str, ...] = ()

    def averages(self, group: dict[str, Any]) -> list[str]:
        """The names of the averages that the options of ``group`` ask for."""
        raise NotImplementedError(f"{type(self).__name__} must define averages()")

    def adapt(
        self, group: dict[str, Any], step: int, p: Any, g: Any, averages: dict[str, Any], s: Any, t: Any, xp: ModuleType
    ) -> None:
        """Step number ``step`` (from 1) of a block ``p`` of a parameter with gradient ``g``, in place; s, t: scratch."""
        raise NotImplementedError(f"{type(self).__name__} must define adapt()")

    def update(self) -> None:
        """One step of every parameter that has a gradient."""
        work = []  # everything is checked and allocated before the first parameter changes
        for group in self.param_groups:
            names = self.averages(group)
            for i, p in enumerate(group["params"]):
                if p.grad is not None:
                    work.append((group, p, names, self._next_state(p, group, i, names)))
        rooms = scratch_on_cards([p.array for _, p, _, _ in work], 3)
        with np.errstate(all="ignore"):  # what is not finite goes through silently, as everywhere
            for group, p, names, state in work:
                p.settle()
                self._step_of(group, p, names, state, rooms)
                p.bump_version()
                self.state[p] = state

    def _next_state(self, p: Tensor, group: dict[str, Any], index: int, names: list[str]) -> dict[str, Any]:
        check_alike(p.grad.array, p, group, index, "gradient")
        state = dict(self.state.get(p, {}))
        state["step"] = state.get("step", 0) + 1
        for name in names:
            if name in state:
                check_alike(state[name].array, p, group, index, name)
            else:
                state[name] = Tensor(array_module(p.array).zeros_like(p.array))
        return state

    def _step_of(self, group: dict[str, Any], p: Tensor, names: list[str], state: dict[str, Any], rooms: dict) -> None:
        xp, decay, maximize = array_module(p.array), group["weight_decay"], group["maximize"]
        decay = 0 if group.get("decoupled_weight_decay") else decay  # then ``adapt`` sees to it
        arrays = [p.array, p.grad.array, *(state[name].array for name in names)]
        for x, g, *averages, s, t, room in blocks(arrays, 3, rooms):
            if maximize:
                g = xp.negative(g, out=room)
            if decay:
                xp.multiply(x, decay, out=s)
                g = xp.add(g, s, out=room)
            self.adapt(group, state["step"], x, g, dict(zip(names, averages, strict=True)), s, t, xp)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave (PyTorch's may be given too). Arrays are copied; nothing changes on error.

        Raises ValueError if the groups, the number of parameters or a shape does not fit, or the state is another optimizer's.
        """
        states = state_dict.get("state") if isinstance(state_dict, dict) else None
        if isinstance(states, Mapping):
            state_dict = {**state_dict, "state": {key: self._checked(key, state) for key, state in states.items()}}
        super().load_state_dict(state_dict)

    def _checked(self, position: Any, state: Mapping[str, Any]) -> dict[str, Any]:
        missing = [name for name in ("step", *self.needed) if name not in state]
        if missing:
            raise ValueError(
                f"the state of parameter {position} has no {missing[0]}, which {type(self).__name__} needs: "
                "was it saved by another optimizer?"
            )
        step = state["step"]
        try:
            return {**state, "step": int(step)}  # PyTorch's is a tensor
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"step of parameter {position} must be a number of steps, got {step!r}") from None


# ---- shared by optimizers and averages of weights ------------------------------------------------------------------------


def check_options(group: dict[str, Any], numbers: Iterable[str], switches: Iterable[str]) -> None:
    """Raise TypeError or ValueError unless ``numbers`` are at least 0 and ``switches`` are True or False."""
    for name in numbers:
        group[name] = check_number(group[name], name, low=0)
    for name in switches:
        if not isinstance(group[name], bool):
            raise TypeError(f"{name} must be True or False, got {group[name]!r}")


def scratch_on_cards(arrays: Iterable, count: int) -> dict[Any, list]:
    """Memory in which ``blocks`` can compute with any of these arrays that lie on graphics cards: ``count`` of the largest.

    It is taken before anything is changed, so that a card without room for it leaves everything as it was.
    """
    largest: dict[Any, Any] = {}
    for x in arrays:
        if array_module(x) is not np and ((key := _kind(x)) not in largest or x.size > largest[key].size):
            largest[key] = x
    return {key: [array_module(x).empty_like(x).reshape(-1) for _ in range(count)] for key, x in largest.items()}


def _kind(x: Any) -> tuple:
    return x.dtype, device_of(x)


def blocks(arrays: list, scratch: int, rooms: Mapping[Any, list] = MappingProxyType({})) -> Iterator[list]:
    """The arrays (of one shape and dtype) in parts that stay in the cache while several passes go over them.

    With each part come ``scratch`` arrays of its shape to compute in. Arrays on a graphics card, and those that lie in different
    memory orders, come whole. ``rooms``: what ``scratch_on_cards`` gave.
    """
    xp, flat = array_module(arrays[0]), flat_views(*arrays)
    if xp is not np:
        parts = arrays if flat is None else flat
        yield [*parts, *(room[: parts[0].size].reshape(parts[0].shape) for room in rooms[_kind(parts[0])])]
        return
    if flat is None:
        yield [*arrays, *(np.empty_like(arrays[0]) for _ in range(scratch))]
        return
    size = flat[0].size
    length = min(size, BLOCK)
    own = [np.empty(length, flat[0].dtype) for _ in range(scratch)]
    if length == size:
        yield [*flat, *own]
        return
    for start in range(0, size, length):
        parts = [x[start : start + length] for x in flat]
        yield [*parts, *(room[: parts[0].size] for room in own)]


def lerp(average: Any, value: Any, weight: float, s: Any, xp: ModuleType) -> None:
    """average += weight * (value - average), rounded, and with what is not finite, as PyTorch's ``lerp_``; s: scratch."""
    xp.subtract(value, average, out=s)
    if weight < 0.5:
        s *= weight
        average += s
    else:
        s *= 1 - weight
        xp.subtract(value, s, out=average)


def add_square(average: Any, value: Any, kept: float, s: Any, xp: ModuleType) -> None:
    """average = kept * average + (1 - kept) * value^2; s: scratch."""
    average *= kept
    xp.multiply(value, 1 - kept, out=s)
    s *= value
    average += s
