"""PyTorch's functions that download weights, which say here how to do it: minigrad reads files, it fetches none."""

from __future__ import annotations

import os
from typing import NoReturn
from urllib.parse import urlparse

from minigrad._names import missing

__all__ = ["load_state_dict_from_url"]

_OUTSIDE = dict.fromkeys(("load", "list", "help"), "minigrad.models has the known architectures, minigrad.load reads weights")


def load_state_dict_from_url(url: str, *args, **kwargs) -> NoReturn:
    """Raises NotImplementedError, which says how to load the file of ``url``. Other arguments have no effect."""
    if not isinstance(url, str):
        raise TypeError(f"url must be a string, got {type(url).__name__}")
    file = os.path.basename(urlparse(url).path) or "weights.pth"
    raise NotImplementedError(
        f"minigrad does not download weights: download {url} yourself and give the file to the model, model.load({file!r}), or "
        f"get its state dict by minigrad.load({file!r})"
    )


def __getattr__(name: str):
    if name in _OUTSIDE:
        raise AttributeError(f"minigrad.hub has no attribute {name!r}: {_OUTSIDE[name]}", name=name)
    raise missing("minigrad.hub", name, __all__)
