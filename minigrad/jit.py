"""The marks that networks written for TorchScript carry, without effect: minigrad runs networks as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from minigrad._names import missing

__all__ = [
    "Final",
    "annotate",
    "export",
    "ignore",
    "is_scripting",
    "is_tracing",
    "script_if_tracing",
    "unused",
]

F = TypeVar("F", bound=Callable)

_OUTSIDE = {
    **dict.fromkeys(
        ("script", "trace", "compile", "freeze", "optimize_for_inference", "trace_module"),
        "minigrad runs networks as they are: call the function or module itself",
    ),
    **dict.fromkeys(("load", "save"), "minigrad runs networks as they are: minigrad.load and minigrad.save are for weights"),
    **dict.fromkeys(("ScriptModule", "ScriptFunction", "script_method"), "minigrad runs networks as they are: use nn.Module"),
}


def is_scripting() -> bool:
    """False: the Python code itself is running."""
    return False


def is_tracing() -> bool:
    """False: nobody watches which operations run in order to repeat them."""
    return False


def annotate(the_type: Any, the_value: Any) -> Any:
    """``the_value``; the type is for readers."""
    return the_value


def _unchanged(function: F) -> F:
    """A decorator without effect: returns ``function`` itself."""
    return function


export = unused = script_if_tracing = _overload = _overload_method = _unchanged


def ignore(function: F | None = None, drop: bool = False, **kwargs) -> F | Callable[[F], F]:
    """A decorator without effect, with or without brackets: returns ``function`` itself."""
    return function if callable(function) else _unchanged


def __getattr__(name: str):
    if name in _OUTSIDE:
        raise AttributeError(f"minigrad.jit has no attribute {name!r}: {_OUTSIDE[name]}", name=name)
    raise missing("minigrad.jit", name, __all__)
