"""Saving and loading whole states: nested dictionaries and lists of tensors, numbers and texts, in one safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from minigrad.tensor import Tensor
from minigrad.weights.tensor_file import CheckpointError, read, write
from minigrad.weights.torch_file import is_torch_file, load_torch_file

__all__ = ["load", "save"]


def save(state: Any, path: str | os.PathLike, metadata: dict[str, Any] | None = None) -> None:
    """Write a state dict, or any nesting of dictionaries, lists and tuples of them with numbers, texts and None, to ``path``.

    The file is in the safetensors format, whatever its name: it holds no code, and other programs can read the tensors.
    A model's state dict keeps its names; nested ones are joined by dots ("model.conv1.weight"). The old file, if any, is
    replaced in one step. ``metadata``: see ``minigrad.weights.save_file``.

    Raises TypeError (which names the place) for anything else, such as a whole model: save its ``state_dict()``.
    """
    arrays: dict[str, Any] = {}
    structure = _encode(state, "", arrays)
    write(arrays, path, {"metadata": metadata or {}, "structure": structure})


def load(path: str | os.PathLike) -> Any:
    """What ``save`` wrote, with Tensors for the arrays; of another program's safetensors file a dictionary of Tensors;
    of a file of ``torch.save`` what ``load_torch_file`` gives. What a file is shows in its content: its name does not matter.

    Raises FileNotFoundError, or CheckpointError for a truncated, damaged or foreign file. No file can run code.
    """
    if is_torch_file(path):
        return load_torch_file(path)
    arrays, document = read(path)
    if document is None or "structure" not in document:
        return {name: Tensor(array) for name, array in arrays.items()}
    try:
        return _decode(document["structure"], arrays)
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{os.fspath(path)} is damaged: its structure does not fit its arrays") from None


def _encode(value: Any, place: str, arrays: dict[str, Any]) -> Any:
    """``value`` as JSON, with its arrays moved into ``arrays``."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor) or (hasattr(value, "dtype") and hasattr(value, "strides")):
        name = place or "tensor"
        while name in arrays:
            name += "'"
        arrays[name] = value
        return {"array": name}
    inner = place + "." if place else ""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, (str, int)) or isinstance(key, bool):
                raise TypeError(f"save: the keys at {place or 'the top'} must be texts or integers, got {key!r}")
        return {"dict": [[key, _encode(v, f"{inner}{key}", arrays)] for key, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(v, f"{inner}{i}", arrays) for i, v in enumerate(value)]}
    hint = ": save its state_dict()" if hasattr(value, "state_dict") else ""
    raise TypeError(f"save: cannot save the {type(value).__name__} at {place or 'the top'}{hint}")


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return Tensor(arrays[content])
    if kind == "dict":
        return {key: _decode(v, arrays) for key, v in content}
    if kind not in ("list", "tuple"):
        raise ValueError(kind)
    items = [_decode(v, arrays) for v in content]
    return items if kind == "list" else tuple(items)
