"""What differs between two models, layer by layer, in words and numbers.

The layers of both, in the order of the computation, are aligned as one aligns two texts: so that as little as possible has to be
changed, where layers of one kind, with the same settings and output, are alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigrad.training.summary import Row, Summary

__all__ = ["Change", "Difference", "difference"]

GAP = 1.0  # the cost of a layer that only one model has; two layers of different kinds cost two of them


@dataclass(frozen=True)
class Change:
    """One step of the alignment: ``before`` (None if the layer is new), ``after`` (None if it is gone), and the words for it."""

    before: Row | None
    after: Row | None
    words: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not self.words


@dataclass(frozen=True)
class Difference:
    """What ``difference`` returns: ``changes`` in the order of the computation; ``print`` shows those that are any."""

    names: tuple[str, str]
    summaries: tuple[Summary, Summary]
    changes: list[Change]

    def __str__(self) -> str:
        first, second = self.summaries
        lines = [
            f"{name}: {s.parameters:,} parameters, {s.macs:,} MACs" for name, s in zip(self.names, self.summaries, strict=True)
        ]
        lines.append(f"difference: {second.parameters - first.parameters:+,} parameters, {second.macs - first.macs:+,} MACs")
        kinds = self._kinds()
        lines += [f"layers: {', '.join(kinds)}", ""] if kinds else [""]
        alike: list[Change] = []
        for change in self.changes:
            if change.same:
                alike.append(change)
                continue
            lines += _alike(alike)
            alike = []
            lines.append(_changed(change))
        lines += _alike(alike)
        return "\n".join(lines)

    def _kinds(self) -> list[str]:
        """How many layers of each kind there are more or fewer."""
        counts = [Counter(_kind(row) for row in _layers(s)) for s in self.summaries]
        kinds = sorted(set(counts[0]) | set(counts[1]))
        return [f"{counts[0][k]} -> {counts[1][k]} {k}" for k in kinds if counts[0][k] != counts[1][k]]


def difference(first: Summary, second: Summary, names: tuple[str, str] = ("first", "second")) -> Difference:
    """Compare two models by their summaries (``mg.summary``), made for one size of images.

    ``print(difference(mg.summary(a, shape), mg.summary(b, shape), ("a", "b")))`` lists the layers that differ, with what differs
    of them and how many parameters and MACs that is, and how many layers between them are alike.
    """
    a, b = _layers(first), _layers(second)
    changes = []
    for i, j in _alignment(a, b):
        before, after = a[i] if i is not None else None, b[j] if j is not None else None
        changes.append(Change(before, after, _words(before, after)))
    return Difference(names, (first, second), changes)


def _layers(s: Summary) -> list[Row]:
    """Modules without parts, and ops; not an empty Sequential, which passes its input on."""
    return [row for row in s.rows if not row.inner and row.kind != "Sequential"]


def _kind(row: Row) -> str:
    """The kind of a layer, one name for a module and for the op that it calls: ReLU and relu are one."""
    return (row.kind or row.name).replace("_", "").lower()


# ---- alignment ---------------------------------------------------------------------------------------------------------


def _alignment(a: Sequence[Row], b: Sequence[Row]) -> list[tuple[int | None, int | None]]:
    """Pairs (i, j) in order, with None where a layer has no counterpart: the cheapest edit (Needleman & Wunsch 1970)."""
    kinds = [[_kind(row) for row in rows] for rows in (a, b)]
    cost = np.zeros((len(a) + 1, len(b) + 1))
    cost[:, 0], cost[0, :] = GAP * np.arange(len(a) + 1), GAP * np.arange(len(b) + 1)
    pair = np.empty((len(a), len(b)))
    for i, row in enumerate(a):
        pair[i] = [_cost(row, other) if kinds[0][i] == kinds[1][j] else 2 * GAP + 1 for j, other in enumerate(b)]
        for j in range(len(b)):
            cost[i + 1, j + 1] = min(cost[i, j] + pair[i, j], cost[i, j + 1] + GAP, cost[i + 1, j] + GAP)
    steps, i, j = [], len(a), len(b)
    while i or j:
        if i and j and cost[i, j] == cost[i - 1, j - 1] + pair[i - 1, j - 1]:
            i, j = i - 1, j - 1
            steps.append((i, j))
        elif i and cost[i, j] == cost[i - 1, j] + GAP:
            i -= 1
            steps.append((i, None))
        else:
            j -= 1
            steps.append((None, j))
    return steps[::-1]


def _cost(row: Row, other: Row) -> float:
    """Of taking two layers of one kind for counterparts: 0 if they are alike, else less than leaving one out."""
    unlike = (row.settings != other.settings) + (row.output != other.output) + (row.parameters != other.parameters)
    return 0.3 * unlike - (0.1 if row.path == other.path else 0.0)


# ---- words -------------------------------------------------------------------------------------------------------------

CONVOLUTION = ("input channels", "output channels")
USUAL = {"eps=1e-05", "momentum=0.1", "affine=True", "bias=True", "track_running_stats=True", "stride=(1, 1)"}
PART = re.compile(r"(?:(\w+)=)?(\([^)]*\)|[^,]+)(?:, |$)")  # of settings: "3, 64, kernel_size=(7, 7), bias=False"


def _words(before: Row | None, after: Row | None) -> tuple[str, ...]:
    if before is None or after is None:
        row = after if before is None else before
        return (f"{_title(row)}: {'new' if before is None else 'gone'}{_figures(row)}",)
    words = []
    ours, theirs = _parts(before), _parts(after)
    for name in dict.fromkeys((*ours, *theirs)):
        if ours.get(name) != theirs.get(name):
            words.append(f"{name.replace('_', ' ')} {ours.get(name, 'as usual')} -> {theirs.get(name, 'as usual')}")
    if before.output != after.output:
        words.append(f"output {_shape(before)} -> {_shape(after)}")
    for what in ("parameters", "macs"):
        change = getattr(after, what) - getattr(before, what)
        if change:
            words.append(f"{change:+,} {'MACs' if what == 'macs' else what}")
    return tuple(words)


def _parts(row: Row) -> dict[str, str]:
    parts = {}
    for number, (name, value) in enumerate(PART.findall(row.settings)):
        if not name:
            name = CONVOLUTION[number] if "Conv" in row.kind and number < 2 else f"setting {number + 1}"
        parts[name] = value.strip()
    return parts


def _title(row: Row) -> str:
    return f"{row.path} {row.kind}".strip() if row.kind else row.path


def _figures(row: Row) -> str:
    told = [part.group(0).rstrip(", ") for part in PART.finditer(row.settings) if part.group(0).rstrip(", ") not in USUAL]
    figures = [", ".join(told)] if told else []
    figures += [f"output {_shape(row)}"] if row.output is not None else []
    figures += [f"{row.parameters:,} parameters"] if row.parameters else []
    figures += [f"{row.macs:,} MACs"] if row.macs else []
    return f" ({'; '.join(figures)})" if figures else ""


def _shape(row: Row) -> str:
    return " x ".join(map(str, row.output)) if row.output is not None else "none"


def _changed(change: Change) -> str:
    if change.before is None:
        return f"+ {change.words[0]}"
    if change.after is None:
        return f"- {change.words[0]}"
    a, b = _title(change.before), _title(change.after)
    return f"~ {a if a == b else f'{a} | {b}'}: {', '.join(change.words)}"


def _alike(changes: list[Change]) -> list[str]:
    if not changes:
        return []
    first, last = (_title(c.before) for c in (changes[0], changes[-1]))
    return [f"= {first}" if len(changes) == 1 else f"= {len(changes)} alike: {first} ... {last}"]
