"""Loading a state dict into a module: everything is checked, and reported in one message, before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from minigrad._names import nearest
from minigrad.device import is_floating, move
from minigrad.tensor import Tensor

__all__ = ["LoadResult", "load"]

SHOWN = 10  # keys of each kind that a report lists


class LoadResult(NamedTuple):
    """What ``load_state_dict`` returns: the keys that did not match (with ``strict`` there are none)."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"LoadResult(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def load(owner: str, targets: dict[str, Tensor], optional: set[str], state_dict: Mapping, strict: bool) -> LoadResult:
    """Write the values of ``state_dict`` into ``targets`` (by key) of the module called ``owner``.

    ``optional``: keys that may be missing. Raises RuntimeError with the whole report if a shape or dtype does not fit or, with
    ``strict``, if a key is missing or unexpected; nothing is changed then.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must be a dictionary from names to tensors, got {type(state_dict).__name__}")
    values = {key: _array(value) for key, value in state_dict.items()}
    missing = [key for key in targets if key not in values and key not in optional]
    unexpected = [key for key in values if key not in targets]
    faults = {key: _fault(target, values[key]) for key, target in targets.items() if key in values}
    faults = {key: fault for key, fault in faults.items() if fault}
    if faults or (strict and (missing or unexpected)):
        raise RuntimeError(_report(owner, targets, values, faults, missing, unexpected, strict))
    pairs = [(target, move(values[key], target.device)) for key, target in targets.items() if key in values]
    with np.errstate(all="ignore"):  # float64 values beyond float32 become infinite, silently as everywhere
        for target, value in pairs:
            target.array[...] = value
            target.bump_version()
    return LoadResult(missing, unexpected)


def _array(value):
    """The array in a value of a state dict (a Tensor, an array, a number, another library's tensor), or None."""
    if isinstance(value, Tensor):
        return value.array
    if isinstance(value, (int, float)) or hasattr(value, "__array__"):
        try:
            return value if hasattr(value, "__cuda_array_interface__") else np.asarray(value)
        except (TypeError, ValueError, RuntimeError):  # such as a tensor that NumPy has no dtype for
            return None
    return None


def _fault(target: Tensor, value) -> str | None:
    """Why ``value`` cannot be written into ``target``, in words; None if it can."""
    if value is None:
        return "the state dict holds something that is neither a Tensor nor an array"
    if tuple(value.shape) != target.shape:
        return f"the model has shape {target.shape}, the state dict {tuple(value.shape)}"
    if np.dtype(value.dtype).kind not in "fiub" and not is_floating(value.dtype):
        return f"the model has dtype {target.dtype}, the state dict {value.dtype}"
    if target.dtype.kind in "iu" and is_floating(np.dtype(value.dtype)) and not bool((value == np.floor(value)).all()):
        return f"the model has dtype {target.dtype}, the state dict {value.dtype} with fractions"
    return None


# ---- the report --------------------------------------------------------------------------------------------------------


def _report(
    owner: str, targets: dict, values: dict, faults: dict, missing: list[str], unexpected: list[str], strict: bool
) -> str:
    lines = [f"the state dict does not fit {owner}; nothing was changed:"]
    if faults:
        lines += _section("does not match", "do not match", faults, lambda key: f"{key}: {faults[key]}")
    if missing and strict:
        place = "missing from the state dict"
        lines += _section(f"is {place}", f"are {place}", missing, lambda key: f"{key} {targets[key].shape}")
    if unexpected and strict:
        lines += _section(
            "is unexpected: the model does not have it",
            "are unexpected: the model does not have them",
            unexpected,
            lambda key: f"{key} {_shape(values[key])}{_suggestion(key, values[key], missing, targets)}",
        )
        hint = _prefix_hint(unexpected, targets)
        lines += [hint] if hint else []
    return "\n".join(lines)


def _section(one: str, many: str, keys: Iterable[str], describe: Callable[[str], str]) -> list[str]:
    keys = list(keys)
    rest = len(keys) - SHOWN
    lines = [f"  1 key {one}:" if len(keys) == 1 else f"  {len(keys)} keys {many}:"]
    lines += [f"    {describe(key)}" for key in keys[:SHOWN]]
    return [*lines, f"    ... and {rest} more"] if rest > 0 else lines


def _shape(value) -> str:
    return str(tuple(value.shape)) if value is not None else ""


def _suggestion(key: str, value, missing: list[str], targets: dict[str, Tensor]) -> str:
    """The missing key that was probably meant: of the same shape if there is one, and of a similar name."""
    alike = [m for m in missing if value is not None and targets[m].shape == tuple(value.shape)]
    found = nearest(key, alike, cutoff=0.4) or nearest(key, missing, cutoff=0.7)
    return f": did you mean {found!r}?" if found else ""


def _prefix_hint(unexpected: list[str], targets: dict[str, Tensor]) -> str | None:
    """A common prefix that, taken away, makes the keys fit, as "module." of a model that was saved from DataParallel."""
    prefix, dot, _ = str(unexpected[0]).partition(".")
    stripped = [key[len(prefix) + 1 :] for key in map(str, unexpected) if key.startswith(prefix + dot)]
    if dot and len(stripped) == len(unexpected) and all(key in targets for key in stripped):
        return f"  Without the prefix {prefix + dot!r} these keys would fit: remove it first."
    return None
