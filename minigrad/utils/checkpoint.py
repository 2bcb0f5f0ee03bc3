"""Checkpoints in a network's forward pass: less memory for more time (Chen et al. 2016).

A checkpointed function runs as usual, but what its graph holds is let go at once; only the arguments are kept. On the way back it
runs again, with the same random numbers, and the gradients go through that second graph.

The first graph is needed only for its *border*: the tensors from outside (arguments, parameters, whatever the function refers to)
that the outputs depend on. One node with edges to the border stands for the whole function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import autograd, random
from minigrad.autograd import Node, enable_grad, run_backward
from minigrad.nn import Module, Sequential
from minigrad.tensor import Tensor

__all__ = ["checkpoint", "checkpoint_sequential"]


def checkpoint(function: Callable, *args, use_reentrant: bool | None = None, preserve_rng_state: bool = True, **kwargs) -> Any:
    """``function(*args, **kwargs)``, computed without keeping what backward needs, and computed again when backward comes.

    ``function`` returns a tensor, or a tuple or list of tensors (and other things), and must do the same in the second run. It
    may change no argument in place. ``preserve_rng_state``: the second run draws the random numbers of the first (dropout).
    Running statistics of batch normalization are updated by both runs, as in PyTorch. ``use_reentrant`` has no effect: gradients
    of arguments, parameters and everything else are right in either case, also by ``autograd.grad``.
    """
    if not callable(function):
        raise TypeError(f"checkpoint: function must be callable, got {type(function).__name__}")
    if not autograd.is_grad_enabled():
        return function(*args, **kwargs)
    run = _Run(function, args, kwargs, preserve_rng_state)
    result, outputs, border = run.first()
    if not outputs:
        return result
    node = Node(run.backward, tuple(border.values()), run.saved, len(outputs), "checkpoint")
    if autograd.state.anomaly:
        node.made = autograd.describe_origin()
    recorded = {}
    for slot, y in enumerate(outputs):
        recorded[id(y)] = y_out = Tensor(y.data, requires_grad=True)
        y_out.version, y_out.view_version, y_out.origin = y.version, y.view_version, (node, slot)
    if isinstance(result, Tensor):
        return recorded.get(id(result), result)
    return type(result)(recorded.get(id(y), y) for y in result)


def checkpoint_sequential(
    functions: Sequential | Sequence[Callable],
    segments: int,
    input: Tensor,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
) -> Tensor:
    """A chain of modules or functions, cut into ``segments`` parts of equal length of which all but the last are checkpointed.

    The last one is run again at once on the way back, so nothing would be saved. See ``checkpoint``.
    """
    chain = list(functions.children() if isinstance(functions, Module) else functions)
    if isinstance(segments, bool) or not isinstance(segments, (int, np.integer)) or not 1 <= segments <= len(chain):
        raise ValueError(f"checkpoint_sequential: segments must be an integer from 1 to {len(chain)}, got {segments!r}")

    def part(start: int, stop: int) -> Callable:
        def run(x):
            if getattr(chain[start], "inplace", False):
                x = x.clone()  # a checkpoint's argument must stay as it is
            for function in chain[start:stop]:
                x = function(x)
            return x

        return run

    size, x = len(chain) // int(segments), input
    cuts = [size * k for k in range(int(segments))]
    for start in cuts[:-1]:
        x = checkpoint(part(start, start + size), x, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state)
    return part(cuts[-1], len(chain))(x)


class _Run:
    """A function and its arguments, to be run twice."""

    def __init__(self, function: Callable, args: tuple, kwargs: dict, preserve_rng_state: bool):
        self.call = (function, args, kwargs)
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        self.saved = [(t.version, t.version[0]) for t in tensors]
        self.rng_state = random.get_rng_state() if preserve_rng_state else None
        self.border: list[tuple] = []  # the keys of the edges, in the order of the node's
        self.shapes: list[tuple[int, ...]] = []

    def first(self) -> tuple[Any, list[Tensor], dict]:
        """(result, the tensors among it that need the node, key -> edge of the border)."""
        result, outputs, nodes = self.run()
        border = {_key(edge): edge for node in nodes for edge in node.edges if _is_outside(edge, nodes)}
        self.border = list(border)
        self.shapes = [y.shape for y in outputs]
        self.saved += [(t.version, t.version[0]) for t in border.values() if isinstance(t, Tensor)]
        return result, outputs, border

    def run(self) -> tuple[Any, list[Tensor], dict]:
        """(result, the tensors in it that the function's own graph made, the nodes of that graph)."""
        start = Node(_nothing, (), ()).index  # older nodes are not the function's
        function, args, kwargs = self.call
        with enable_grad():
            result = function(*args, **kwargs)
        if not isinstance(result, (Tensor, tuple, list)) or hasattr(result, "_fields"):
            raise TypeError(f"checkpoint: function must return a tensor, a tuple or a list, got {type(result).__name__}")
        if any(version[0] != value for version, value in self.saved):
            raise RuntimeError(
                "checkpoint: the function changed an argument in place, so it cannot run again from the same values: "
                "use inplace=False in its first layer, or give it a clone()"
            )
        outputs = {
            id(y): y
            for y in ([result] if isinstance(result, Tensor) else result)
            if isinstance(y, Tensor) and y.origin is not None and y.origin[0].index > start
        }
        return result, list(outputs.values()), _nodes_since(start, outputs.values())

    def backward(self, *gys):
        """The gradient at each edge of the border, from those of the outputs."""
        now = random.get_rng_state()
        try:
            if self.rng_state is not None:
                random.set_rng_state(self.rng_state)
            _, outputs, nodes = self.run()
        finally:
            if self.rng_state is not None:
                random.set_rng_state(now)
        if [y.shape for y in outputs] != self.shapes:
            raise RuntimeError(
                f"checkpoint: the function gave outputs of shapes {self.shapes} in its first run and "
                f"{[y.shape for y in outputs]} in its second: it must do the same when backward runs it again"
            )
        ends = _cut(nodes)
        used = [(y, gy) for y, gy in zip(outputs, gys, strict=True) if gy is not None]
        targets = [ends[key] for key in self.border if key in ends]
        found = run_backward([y for y, _ in used], [gy for _, gy in used], targets=targets)
        gradients = dict(zip([key for key in self.border if key in ends], found, strict=True))
        return tuple([gradients.get(key) for key in self.border])


def _nothing() -> None:
    """The backward of a node that only marks a time."""


def _nodes_since(start: int, outputs) -> dict:
    """The nodes newer than number ``start`` that ``outputs`` were computed by (as the keys of a dictionary, in order)."""
    found, waiting = {}, [y.origin[0] for y in outputs]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = None
            waiting += [before for before, _ in node.next_functions if before.index > start]
    return found


def _is_outside(edge, nodes: dict) -> bool:
    return edge is not None and not (type(edge) is tuple and edge[0] in nodes)


def _key(edge) -> tuple:
    """What tells the same edge in two graphs: the node, or the leaf, that it leads to."""
    return (id(edge[0]), edge[1]) if type(edge) is tuple else (id(edge), None)


def _cut(nodes: dict) -> dict:
    """Lead the edges that leave these nodes to new leaves, where a walk ends; key of the edge -> leaf."""
    ends = {}
    for node in nodes:
        edges = []
        for edge in node.edges:
            if _is_outside(edge, nodes):
                edge = ends.setdefault(_key(edge), Tensor(np.empty(0, np.float32)))
            edges.append(edge)
        node.edges = tuple(edges)
    return ends
