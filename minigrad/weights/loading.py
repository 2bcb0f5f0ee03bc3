"""Weights from the files of the world into a model: ``model.load("resnet50-0676ba61.pth")``."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minigrad.nn import Module
from minigrad.tensor import Tensor
from minigrad.weights.dialects import recognize
from minigrad.weights.state import load
from minigrad.weights.tensor_file import CheckpointError

__all__ = ["LoadReport", "load_weights", "state_dict_of", "verify_hash"]

WRAPPERS = ("state_dict", "model", "model_state", "model_state_dict", "net", "network", "params")
# torchvision's file names end with the start of the content's SHA-256. Eight digits may be a date instead.
HASH = re.compile(r"-(?!(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$)([0-9a-f]{8,64})$")
SHOWN = 6  # keys that a line of a report lists


class LoadReport(NamedTuple):
    """What ``load_weights`` did, by the model's names.

    ``loaded``        keys that were written
    ``missing``       keys of the model that the file does not have (they keep their values)
    ``unexpected``    keys of the file that the model does not have
    ``mismatched``    key -> (shape in the model, shape in the file) of what was left out
    ``dialect``       whose names the file has, if not the model's own
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    dialect: str | None

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} arrays loaded" + (f" (names of {self.dialect})" if self.dialect else "")]
        if self.mismatched:
            shown = [f"{key} {ours} but {theirs}" for key, (ours, theirs) in self.mismatched.items()]
            lines.append(f"{len(shown)} left out, of another size in the file: {_listed(shown)}")
        if self.missing:
            lines.append(f"{len(self.missing)} not in the file: {_listed(self.missing)}")
        if self.unexpected:
            lines.append(f"{len(self.unexpected)} not in the model: {_listed(self.unexpected)}")
        return "\n".join(lines)


def load_weights(model: Module, path: str | os.PathLike, strict: bool = True) -> LoadReport:
    """Write the weights of a file into ``model``: a method of every module, ``model.load(path)``.

    The file may be minigrad's own, safetensors, or PyTorch's (.pth, .pt, .th) of any age; a state dict, or a checkpoint that
    holds one. Known differences in names are bridged (see ``dialects.py``); numbers of another precision are converted; an
    array of the right size in another shape (a linear layer that was kept as a convolution) is reshaped. If the file's name
    ends like torchvision's with a part of its SHA-256, that is checked.

    ``strict=False`` leaves out what does not fit, such as a classifier for other classes, and the report says what.
    Raises FileNotFoundError, CheckpointError, or, with nothing changed, RuntimeError with a list of what does not fit.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model must be a Module, got {type(model).__name__}")
    verify_hash(path)
    state = state_dict_of(load(path), path)
    targets = model.state_dict()
    names, dialect = recognize(state, targets)
    values = {name: _shaped(state[key], targets.get(name)) for key, name in names.items()}
    own = {name: value for name, value in values.items() if name in targets}
    mismatched = {
        name: (targets[name].shape, tuple(value.shape))
        for name, value in own.items()
        if tuple(value.shape) != targets[name].shape
    }
    fitting = {name: value for name, value in own.items() if name not in mismatched}
    if not fitting:
        raise RuntimeError(_stranger(model, path, state, targets))
    try:
        result = model.load_state_dict(values if strict else fitting, strict=strict)
    except RuntimeError as error:
        raise RuntimeError(f"{os.fspath(path)}: {error}{_hint(mismatched, targets)}") from None
    missing = [name for name in result.missing_keys if name not in mismatched]
    unexpected = [name for name in values if name not in targets]
    return LoadReport(list(fitting), missing, unexpected, mismatched, dialect)


Module.load = load_weights  # nn knows no files


def state_dict_of(content: Any, path: str | os.PathLike = "the file") -> dict[str, Tensor]:
    """The state dict in what a file held: that itself, or what a trainer's checkpoint keeps under "state_dict" or "model".

    Raises CheckpointError if there is none.
    """
    found = content
    for _ in range(3):  # wrapped more than once is rare
        if not isinstance(found, Mapping):
            break
        if found and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()):
            return dict(found)
        inner = [found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)]
        if not inner:
            tensors = {key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, Tensor)}
            if tensors:
                return tensors
            break
        found = inner[0]
    kind = "an empty dictionary" if found == {} else f"a {type(content).__name__}"
    if isinstance(content, Mapping) and content:
        kind = f"a dictionary of {', '.join(map(repr, list(content)[:SHOWN]))}"
    raise CheckpointError(f"{os.fspath(path)} holds no state dict: it is {kind}")


def verify_hash(path: str | os.PathLike) -> bool:
    """Compare the file with the part of its SHA-256 in its name ("resnet50-0676ba61.pth"); False if the name has none.

    Raises CheckpointError if they differ: the file is damaged, or another one.
    """
    match = HASH.search(Path(path).stem)
    if match is None:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if not digest.hexdigest().startswith(match.group(1)):
        raise CheckpointError(
            f"{os.fspath(path)} is damaged or another file: its name promises a SHA-256 that begins with {match.group(1)}, "
            f"it has {digest.hexdigest()[: len(match.group(1))]} (a file of your own may have any other name)"
        )
    return True


def _shaped(value: Tensor, target: Tensor | None) -> Tensor:
    """``value`` in the shape of ``target`` if one is a linear layer's weight and the other the same as a convolution."""
    if target is None or value.ndim == target.ndim or {value.ndim, target.ndim} != {2, 4}:
        return value
    same = value.shape[0] == target.shape[0] and value.numel() == target.numel()
    return value.reshape(target.shape) if same else value


def _listed(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _stranger(model: Module, path: str | os.PathLike, state: Mapping, targets: Mapping) -> str:
    return (
        f"{os.fspath(path)} is of another architecture: none of its {len(state)} arrays ({_listed(list(state))}) fits one of the "
        f"{len(targets)} of {type(model).__name__} ({_listed(list(targets))}); nothing was changed"
    )


def _hint(mismatched: Mapping, targets: Mapping) -> str:
    """What to do about a classifier for other classes, if that is all that does not fit."""
    last = list(targets)[-1].rpartition(".")[0]
    if mismatched and all(name.rpartition(".")[0] == last for name in mismatched):
        return f"\n  Only the last layer ({last}) has another size: strict=False loads all the rest."
    return ""
