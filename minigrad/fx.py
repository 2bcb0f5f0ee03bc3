"""The mark that networks written for ``torch.fx`` carry, without effect: minigrad traces no networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from minigrad._names import missing

__all__ = ["wrap"]

F = TypeVar("F", str, Callable)

_OUTSIDE = dict.fromkeys(
    ("symbolic_trace", "Tracer", "Graph", "GraphModule", "Interpreter"),
    "minigrad runs networks as they are; minigrad.summary and minigrad.viz show what a network computes",
)


def wrap(fn_or_name: F) -> F:
    """A function, or the name of one, that shall not be traced: returned as it is. Also a decorator."""
    return fn_or_name


def __getattr__(name: str):
    if name in _OUTSIDE:
        raise AttributeError(f"minigrad.fx has no attribute {name!r}: {_OUTSIDE[name]}", name=name)
    raise missing("minigrad.fx", name, __all__)
