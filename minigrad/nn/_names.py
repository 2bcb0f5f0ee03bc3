"""Guessing which name was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]


def nearest(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The candidate that is most like ``name``, or None if none is at least ``cutoff`` (0 to 1) like it."""
    found = difflib.get_close_matches(str(name), sorted(set(candidates)), n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The end of an error message: ``": did you mean 'conv1'?"``, or nothing if no candidate is near."""
    found = nearest(name, candidates)
    return f": did you mean {found!r}?" if found else ""
