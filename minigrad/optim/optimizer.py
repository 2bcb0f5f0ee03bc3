"""The base of optimizers: parameter groups with their options, and the state that is kept for each parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

import numpy as np

from minigrad.autograd import enable_grad
from minigrad.device import array_module, device_of, is_floating, move
from minigrad.modes import state
from minigrad.tensor import Tensor

__all__ = ["Optimizer"]


class Optimizer:
    """Holds parameters in groups; a subclass turns their gradients into steps.

    ``params``: an iterable of tensors (``model.parameters()``), of pairs (name, tensor) (``model.named_parameters()``), or of
    dictionaries ``{"params": [...], "lr": ...}``, one for each group. ``defaults``: the options of groups that do not say.

    ``param_groups``  the groups: dictionaries of options, with their tensors under "params"
    ``state``         for each tensor a dictionary of what the optimizer remembers about it

    Raises TypeError for what is not a tensor, ValueError for an empty list, a parameter given twice, a tensor that an op
    made, and options out of range.
    """

    can_be_captured = False  # whether update() may be part of a CUDA graph

    def __init__(self, params: Iterable, defaults: dict[str, Any]):
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.stepped = False  # schedules warn when they are stepped before their optimizer
        for group in _as_groups(params):
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add a group ``{"params": tensors, option: value, ...}``, for example layers that are unfrozen late."""
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f'a parameter group must be a dictionary with the key "params", got {type(group).__name__}')
        names, tensors = _names_and_tensors(group["params"])
        group = {**self.defaults, **group, "params": tensors}
        if names:
            group["param_names"] = names
        self._check_tensors(tensors, names)
        self.check_options(group)
        self.param_groups.append(group)

    def _check_tensors(self, tensors: list[Tensor], names: list[str]) -> None:
        seen: dict[int, str] = {}
        for group in self.param_groups:
            for t, label in zip(group["params"], _labels(group["params"], group.get("param_names"), len(seen)), strict=True):
                seen[id(t)] = label
        for t, label in zip(tensors, _labels(tensors, names, len(seen)), strict=True):
            if not isinstance(t, Tensor):
                raise TypeError(f"params must hold tensors, but parameter {label} is a {type(t).__name__}")
            if not is_floating(t.dtype):
                raise TypeError(f"parameter {label} must hold floating-point numbers, got dtype {t.dtype}")
            if not t.is_leaf:
                raise ValueError(f"parameter {label} was computed by {t.grad_fn.name}: only leaf tensors can be optimized")
            if id(t) in seen:
                raise ValueError(
                    f"parameters {seen[id(t)]} and {label} are the same tensor: a shared parameter must be given once, "
                    "or it would be updated twice in each step"
                )
            seen[id(t)] = label

    def check_options(self, group: dict[str, Any]) -> None:
        """Raise TypeError or ValueError if an option of ``group`` is out of range; subclasses define what that means."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or (``set_to_none=False``) fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if state.capture is not None:
                    state.capture.note(p)
                if set_to_none:
                    p.grad = None
                else:
                    p.grad.array.fill(0)
                    p.grad.bump_version()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. ``closure``, if given, computes the loss first; returns its result."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        if state.capture is not None and not self.can_be_captured:
            raise RuntimeError(
                f"{type(self).__name__} computes with the number of its step, which a CUDA graph would hold fixed: use SGD in a "
                "captured step, or take optimizer.step() out of it"
            )
        self.update()
        self.stepped = True
        return loss

    def update(self) -> None:
        """Change the parameters in place, all or (on an error) none; the part of ``step`` that a subclass defines."""
        raise NotImplementedError(f"{type(self).__name__} must define update()")

    # ---- saving and restoring ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The options of all groups and the state of all parameters; parameters are named by their position.

        ``{"state": {position: {name: tensor}}, "param_groups": [{option: value, "params": positions}]}`` as in PyTorch.
        The tensors are the optimizer's own: copy them (or save them) before the next step.
        """
        positions: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for p in group["params"]:
                positions[id(p)] = len(positions)
            groups.append({**group, "params": [positions[id(p)] for p in group["params"]]})
        return {"state": {positions[id(p)]: dict(s) for p, s in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave (PyTorch's may be given too). Arrays are copied; nothing changes on error.

        Raises ValueError if the groups, the number of parameters or a shape does not fit this optimizer.
        """
        if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= state_dict.keys():
            raise ValueError('state_dict must be a dictionary with the keys "state" and "param_groups"')
        saved = state_dict["param_groups"]
        ours, theirs = [len(g["params"]) for g in self.param_groups], [len(g["params"]) for g in saved]
        if ours != theirs:
            raise ValueError(f"state_dict has groups of {theirs} parameters, this optimizer has {ours}: is it another model's?")
        groups = []
        for group, old in zip(self.param_groups, saved, strict=True):
            groups.append({**group, **old, "params": group["params"]})
            self.check_options(groups[-1])
        positions = [i for group in saved for i in group["params"]]
        tensors = dict(zip(positions, (p for group in self.param_groups for p in group["params"]), strict=True))
        state = {}
        for position, values in state_dict["state"].items():
            if position not in tensors:
                raise ValueError(f"state_dict has a state for parameter {position}, but there are only {len(tensors)}")
            p = tensors[position]
            state[p] = {name: _restored(value, p, f"{name} of parameter {position}") for name, value in values.items()}
        self.param_groups, self.state = groups, state

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


def _as_groups(params: Iterable) -> list[dict]:
    if isinstance(params, (Tensor, str, set, dict)) or not isinstance(params, Iterable):
        hint = "a set has no fixed order" if isinstance(params, set) else "use model.parameters(), or put it into a list"
        raise TypeError(f"params must be a list of tensors or of groups, got {type(params).__name__}: {hint}")
    items = list(params)
    if not items:
        raise ValueError("params is empty: has the model no parameters, or was the iterator used before?")
    if any(isinstance(item, dict) for item in items):
        return items
    return [{"params": items}]


def _names_and_tensors(params: Any) -> tuple[list[str], list]:
    if isinstance(params, Tensor):
        return [], [params]
    if isinstance(params, (str, set, dict)) or not isinstance(params, Iterable):
        raise TypeError(f'"params" of a group must be a tensor or a list of tensors, got {type(params).__name__}')
    items = list(params)
    named = [isinstance(item, tuple) and len(item) == 2 for item in items]
    if not any(named):
        return [], items
    if not all(named):
        raise ValueError("params must be tensors or (name, tensor) pairs, not both")
    return [name for name, _ in items], [t for _, t in items]


def _labels(tensors: list, names: list[str] | None, start: int) -> list[str]:
    """What to call parameters in messages: their names, or else their positions in the whole optimizer."""
    return [repr(name) for name in names] if names else [f"number {start + i}" for i in range(len(tensors))]


def _restored(value: Any, p: Tensor, label: str) -> Any:
    """A copy of a saved value; an array takes the dtype, device and memory order of the parameter."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    array = value.array if isinstance(value, Tensor) else np.asarray(value)
    if array.shape != p.shape:
        raise ValueError(f"{label} has shape {array.shape}, the parameter has {p.shape}: is it another model's?")
    kept = array_module(p.array).empty_like(p.array)
    kept[...] = move(array, device_of(p.array))
    return Tensor(kept)


def check_number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """``value`` as a Python number; raises unless it is a finite real number in ``low`` ... ``high``.

    Python numbers matter: a NumPy float64 among float32 arrays would turn them into float64.
    """
    number = value.item() if isinstance(value, (np.generic, np.ndarray)) and value.size == 1 else value
    if not isinstance(number, Real) or isinstance(number, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(number) and low <= number <= high):
        wanted = "finite" if low == -math.inf else f"at least {low:g}" if high == math.inf else f"in {low:g} ... {high:g}"
        raise ValueError(f"{name} must be {wanted}, got {number!r}")
    return number


def check_count(value: Any, name: str, low: int = 1) -> int:
    """``value`` as a Python integer; raises unless it is an integer of at least ``low``."""
    if not hasattr(value, "__index__") or isinstance(value, (bool, Tensor)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return int(value)


def check_alike(array: Any, p: Tensor, group: dict[str, Any], index: int, what: str) -> None:
    """Raise RuntimeError unless ``array`` fits the parameter, which may have been moved, converted or given a new array."""
    x = p.array
    if array.shape != x.shape or array.dtype != x.dtype or type(array) is not type(x):
        name = group["param_names"][index] if "param_names" in group else f"number {index} of its group"
        raise RuntimeError(
            f"the {what} of parameter {name} is {_described(array)}, the parameter is {_described(p.array)}: "
            "move or convert a model before making its optimizer"
        )


def _described(array: Any) -> str:
    return f"{array.dtype} of shape {array.shape} on {device_of(array)}"
