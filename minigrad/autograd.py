"""The graph of a computation and the walk back through it. No mathematics, no op and no kernel lives here.

An op that is given tensors that require gradients makes a ``Node``. Its *edges* say where the gradients of its inputs go: to the
node that made the input, or to a leaf tensor. ``run_backward`` visits the nodes from the newest to the oldest, which is a valid
order because an op can only use what existed before it. Gradients are taken out of the table as the walk goes and nodes are
emptied behind it, so that memory is freed early; a tensor's ``.grad`` is set at the very end, or not at all if anything failed.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import linecache
import os
import sys
from collections.abc import Callable, Sequence

import numpy as np

from minigrad.device import array_module, is_floating
from minigrad.kernels import for_array
from minigrad.modes import (
    detect_anomaly,
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
    state,
)

__all__ = [
    "AnomalyError",
    "Deferred",
    "Node",
    "detect_anomaly",
    "enable_grad",
    "is_grad_enabled",
    "no_grad",
    "run_backward",
    "set_detect_anomaly",
    "set_grad_enabled",
    "state",
]


class AnomalyError(RuntimeError):
    """A NaN or an infinity appeared while anomaly detection was on."""


# ---- the graph ---------------------------------------------------------------------------------------------------------

_counter = itertools.count()


class Node:
    """One recorded op.

    ``backward(*gys)`` takes the gradient of each output (arrays; None where an output was not used) and returns the gradient of
    each input: one array, or a sequence with None where there is none. ``edges[i]`` says where the gradient of input i goes:
    None (nowhere), a leaf tensor, or the pair (node, slot) of the node that made it.
    """

    __slots__ = (
        "__weakref__",
        "backward",
        "call",
        "edges",
        "hooks",
        "index",
        "made",
        "op",
        "outputs",
        "released",
        "retained",
        "saved",
        "takes_deferred",
        "takes_sums",
        "values",
    )

    def __init__(self, backward: Callable, edges: tuple, saved: Sequence, outputs: int = 1, name: str | None = None):
        self.index = next(_counter)
        self.op = name or backward.__qualname__  # "conv2d.<locals>.backward"; cut to its first part when asked for
        self.backward = backward
        self.edges = edges
        self.saved = saved  # (version counter, its value when saved) of every array that backward reads
        self.outputs = outputs
        self.released = False
        self.hooks = None  # slot -> functions to call on the gradient of that output
        self.retained = None  # slot -> weak reference to a tensor that asked to keep its gradient
        self.made = None  # where it was made, in words; kept while anomaly detection is on
        self.call = None  # (function, args, kwargs) of a small op, for the step-by-step view
        self.values = None  # its small outputs, likewise
        self.takes_deferred = False  # whether backward can use a Deferred gradient
        self.takes_sums = False  # whether it can use a DeferredSum

    @property
    def name(self) -> str:
        """The name of the op: "conv2d"."""
        return self.op.split(".", 1)[0]

    @property
    def next_functions(self) -> tuple:
        """(node, slot) for each input that came from an op, as in PyTorch."""
        return tuple(edge for edge in self.edges if type(edge) is tuple)

    def __repr__(self) -> str:
        return f"<{self.name} node {self.index}>"

    def check_saved(self) -> None:
        """Raise RuntimeError if an array that backward reads was changed since it was saved, or was freed."""
        if self.released:
            raise RuntimeError(
                f"{self.name}: this part of the graph was freed by an earlier backward(): "
                "call the forward pass again, or keep the graph with backward(retain_graph=True) the first time"
            )
        for version, value in self.saved:
            if version[0] != value:
                raise RuntimeError(
                    f"{self.name}: an array that its backward needs was changed in place after the forward pass (version "
                    f"{version[0]}, saved at {value}){self.where()}: replace the in-place operation (x += y, x[i] = y, "
                    "inplace=True, optimizer.step() before backward()) by one that makes a new tensor, or clone() first"
                )

    def where(self) -> str:
        return f", made {self.made}" if self.made else ""

    def release(self) -> None:
        """Drop everything that backward held."""
        self.released = True
        self.backward = self.call = self.values = None
        self.edges = self.saved = ()


class Deferred:
    """The gradient ``finish()``, which a node that ``takes_deferred`` gets unfinished, because it has a faster way.

    Nobody else sees one: not hooks, nor an observer, nor the sum of several gradients.
    """

    __slots__ = ("finish", "gradient")

    def __init__(self, gradient, finish: Callable):
        self.gradient, self.finish = gradient, finish


class DeferredSum(Deferred):
    """The sum of two gradients, which a node that ``takes_sums`` adds while it reads them."""

    __slots__ = ("other",)

    def __init__(self, gradient, other):
        super().__init__(gradient, functools.partial(for_array(gradient).add, gradient, other))
        self.other = other


def finished(gradient):
    """The gradient as an array."""
    return gradient.finish() if isinstance(gradient, Deferred) else gradient


@no_grad()  # what hooks compute is not recorded
@np.errstate(all="ignore")  # backward keeps to IEEE arithmetic like the ops
def run_backward(
    roots: Sequence,
    gradients: Sequence,
    retain_graph: bool = False,
    targets: Sequence | None = None,
    observer: Callable | None = None,
) -> list | None:
    """Carry ``gradients`` (arrays) of the tensors ``roots`` back through the graph.

    Without ``targets`` the leaves' ``.grad`` receive (add up) their gradients. With ``targets`` (tensors) nothing is stored and
    the list of their gradients, arrays or None, is returned. ``observer(node, gys, gxs)`` is called at every node.
    """
    walk = _Walk(targets, sums=not state.anomaly and observer is None)
    for root, gradient in zip(roots, gradients, strict=True):
        walk.deliver(root.origin if root.origin is not None else root, gradient)
    while walk.heap:
        node = heapq.heappop(walk.heap)[1]
        gys = walk.take(node)
        node.check_saved()
        gxs = node.backward(*gys)
        if type(gxs) is not tuple:
            gxs = (gxs,)
        if state.anomaly or observer is not None:
            gxs = tuple([finished(gx) for gx in gxs])
        if state.anomaly:
            _check_backward(node, gys, gxs)
        if observer is not None:
            observer(node, gys, gxs)
        for edge, gx in zip(node.edges, gxs, strict=True):
            if edge is not None and gx is not None:
                walk.deliver(edge, gx)
        if not retain_graph:
            node.release()
    gys = gxs = gx = None
    return walk.finish()


class _Walk:
    """The gradients that are under way during one backward pass."""

    def __init__(self, targets: Sequence | None, sums: bool):
        self.sums = sums  # whether sums may be deferred
        self.heap: list = []  # (-index, node): newest first
        self.pending: dict = {}  # node -> [gradient, owned] for each output
        self.leaves: dict = {}  # id of a leaf -> [gradient, owned, leaf]
        self.retained: list = []  # (tensor, gradient) for retain_grad()
        self.targets = targets
        self.wanted = None if targets is None else {t.origin: None for t in targets if t.origin is not None}

    def deliver(self, edge, gradient) -> None:
        """Add ``gradient`` to what waits at ``edge``."""
        if type(edge) is tuple:
            node, slot = edge
            entry = self.pending.get(node)
            if entry is None:
                entry = self.pending[node] = [[None, False] for _ in range(node.outputs)]
                heapq.heappush(self.heap, (-node.index, node))
            entry = entry[slot]
        else:
            gradient = finished(gradient)
            entry = self.leaves.get(id(edge))
            if entry is None:
                entry = self.leaves[id(edge)] = [None, False, edge]
        if entry[0] is None:
            entry[0] = gradient
        else:  # what came first may be somebody else's array, so the first sum goes into a new one
            owned = entry[1] or type(entry[0]) is DeferredSum
            first, gradient = finished(entry[0]), finished(gradient)
            if self.sums and not owned and type(edge) is tuple and node.takes_sums:
                entry[0] = DeferredSum(first, gradient)
                return
            entry[0] = for_array(gradient).add(first, gradient, out=first if owned else None)
            entry[1] = True

    def take(self, node: Node) -> list:
        """The complete gradients of the node's outputs, after their hooks."""
        gys = [entry[0] for entry in self.pending.pop(node)]
        if not (node.takes_deferred or node.takes_sums) or node.hooks or node.retained or self.wanted:
            gys = [finished(gy) for gy in gys]
        if node.hooks:
            for slot, hooks in node.hooks.items():
                if gys[slot] is not None:
                    gys[slot] = run_hooks(hooks, gys[slot])
        if node.retained:
            for slot, reference in node.retained.items():
                tensor = reference()
                if tensor is not None and gys[slot] is not None:
                    self.retained.append((tensor, gys[slot]))
        if self.wanted:
            for slot in range(node.outputs):
                if (node, slot) in self.wanted:
                    self.wanted[(node, slot)] = gys[slot]
        return gys

    def finish(self) -> list | None:
        """Store the gradients, now that nothing can fail any more, or return those of the targets."""
        for entry in self.leaves.values():
            if entry[2].hooks:
                entry[0], entry[1] = run_hooks(entry[2].hooks, entry[0]), False
        if self.targets is not None:
            leaf = {key: entry[0] for key, entry in self.leaves.items()}
            return [leaf.get(id(t)) if t.origin is None else self.wanted[t.origin] for t in self.targets]
        for tensor in (*(entry[2] for entry in self.leaves.values()), *(tensor for tensor, _ in self.retained)):
            _check_grad(tensor)
        ready = []  # all memory is taken before the first .grad changes
        for entry in self.leaves.values():
            gradient, entry[0] = entry[0], None
            # A gradient that nothing else refers to (this variable and the argument of getrefcount are two) needs no copy.
            free = sys.getrefcount(gradient) <= 2 and _is_alone(gradient)
            ready.append((entry[2], entry[2].own_gradient(gradient, free)))
        ready += [(tensor, tensor.own_gradient(gradient, False)) for tensor, gradient in self.retained]
        for tensor, gradient in ready:
            tensor.accumulate_grad(gradient)
        return None


def _is_alone(gradient) -> bool:
    """Whether no other array shares the memory of ``gradient``."""
    if gradient.base is None:
        return True
    is_alone = getattr(for_array(gradient), "is_alone", None)  # of kernels that use their memory again
    return is_alone is not None and is_alone(gradient)


def _check_grad(tensor) -> None:
    """Raise RuntimeError if a new gradient cannot be added to what was assigned to ``tensor.grad``."""
    kept = tensor.grad
    if kept is None:
        return
    array, x = getattr(kept, "array", None), tensor.array
    if getattr(array, "dtype", None) == x.dtype and array.shape == x.shape and array_module(array) is array_module(x):
        return
    found = f"{array.dtype} of shape {array.shape}" if hasattr(array, "dtype") else type(kept).__name__
    raise RuntimeError(f"the .grad of a tensor ({x.dtype} of shape {x.shape}) was set to {found}: set it to None instead")


def run_hooks(hooks: dict, gradient):
    """Pass an array through hook functions; each may return a replacement of the same shape."""
    for hook in tuple(hooks.values()):
        result = hook(gradient)
        if result is not None:
            if not hasattr(result, "dtype"):
                raise TypeError(f"a gradient hook must return None or a Tensor, got {type(result).__name__}")
            if result.shape != gradient.shape:
                raise ValueError(f"a gradient hook must return shape {gradient.shape}, got {result.shape}")
            if result.dtype != gradient.dtype:
                raise TypeError(f"a gradient hook must return dtype {gradient.dtype}, got {result.dtype}")
            gradient = result
    return gradient


class RemovableHandle:
    """What registering a hook returns: ``handle.remove()`` takes the hook away again."""

    _ids = itertools.count()

    def __init__(self, hooks: dict):
        self.id = next(self._ids)
        self._hooks = hooks

    def remove(self) -> None:
        """Take the hook away; harmless when it is gone already."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc_info) -> None:
        self.remove()


# ---- anomaly detection -------------------------------------------------------------------------------------------------

_NOT_THE_USERS = tuple(os.path.dirname(os.path.abspath(path)) + os.sep for path in (__file__, np.__file__))


def describe_origin() -> str:
    """The module and the user's line that are running now, in words."""
    parts = []
    if state.modules:
        parts.append(f"in module {state.modules[0].path_to(state.modules[-1])}")
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        frame = frame.f_back
    if frame is not None:
        name, line = frame.f_code.co_filename, frame.f_lineno
        code = linecache.getline(name, line).strip()
        parts.append(f"at {name}, line {line}" + (f": {code}" if code else ""))
    return " ".join(parts)


def _faults(x) -> str:
    """ "3 NaN and 1 Inf of 64 values", or an empty string for a clean (or not floating) array."""
    xp = array_module(x)
    if not is_floating(x.dtype) or bool(xp.isfinite(x).all()):
        return ""
    nans, infs = int(xp.isnan(x).sum()), int(xp.isinf(x).sum())
    return " and ".join(f"{n} {what}" for n, what in ((nans, "NaN"), (infs, "Inf")) if n) + f" of {x.size} values"


def check_forward(op: str, outputs: Sequence, inputs: Sequence) -> str:
    """Raise AnomalyError if an output (array) is not finite; else return where the op was called, in words."""
    origin = describe_origin()
    for y in outputs:
        found = _faults(y)
        if found:
            came = [f"input {i} already held {_faults(x)}" for i, x in enumerate(inputs) if x is not None and _faults(x)]
            source = f"; {', '.join(came)}" if came else "; its inputs were finite"
            raise AnomalyError(f"{op}: the output {tuple(y.shape)} holds {found} {origin}{source}")
    return origin


def _check_backward(node: Node, gys: Sequence, gxs: Sequence) -> None:
    for i, gx in enumerate(gxs):
        found = "" if gx is None else _faults(gx)
        if found:
            came = next((_faults(gy) for gy in gys if gy is not None and _faults(gy)), "")
            source = f"its incoming gradient already held {came}" if came else "its incoming gradient was finite"
            where = node.where() or ", made outside detect_anomaly (run the forward pass inside it to see the line)"
            raise AnomalyError(f"{node.name}: backward gave {found} in the gradient of input {i}{where}; {source}")
