"""Guessing which name was meant, for the errors about names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "missing", "nearest"]


def nearest(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The candidate that is most like ``name``, or None if none is at least ``cutoff`` (0 to 1) like it.

    Upper and lower case count as equal, so that "conv2d" finds "Conv2d".
    """
    names = {candidate.lower(): candidate for candidate in sorted(set(candidates), reverse=True)}
    found = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=cutoff)
    return names[found[0]] if found else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The end of an error message: ``": did you mean 'conv1'?"``, or nothing if no candidate is near."""
    found = nearest(name, candidates)
    return f": did you mean {found!r}?" if found else ""


def missing(owner: str, name: str, candidates: Iterable[str]) -> AttributeError:
    """The AttributeError for ``owner.name`` (an owner in words), with the nearest public name among ``candidates``."""
    hint = "" if name.startswith("_") else did_you_mean(name, [c for c in candidates if not c.startswith("_")])
    return AttributeError(f"{owner} has no attribute {name!r}{hint}", name=name)
