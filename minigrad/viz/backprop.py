"""Stepping through backpropagation: one frame for each op that the backward pass visits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minigrad.autograd import Node, no_grad, run_backward
from minigrad.device import to_numpy
from minigrad.tensor import Tensor
from minigrad.viz import html
from minigrad.viz.graph import Trace, draw, shape_text, trace
from minigrad.viz.rules import Rule, rule_of

__all__ = ["Backprop", "Flow", "Frame", "backprop"]


@dataclass
class Flow:
    """One input of an op: its value, and the gradient that the op sends to it. Arrays are None where they are too large."""

    name: str
    shape: tuple[int, ...]
    value: np.ndarray | None = None
    gradient: np.ndarray | None = None  # None with constant=True: no gradient flows there
    total: np.ndarray | None = None  # the sum of the gradients that arrived there so far
    arrived: int = 0  # how many gradients that sum has
    expected: int = 0  # how many there will be
    constant: bool = False


@dataclass
class Frame:
    """One step: the gradient of an op's output comes in, the gradients of its inputs go out."""

    node: Node
    name: str
    op: str
    rule: Rule
    shape: tuple[int, ...]
    value: np.ndarray | None
    gradient: np.ndarray | None
    paths: int  # from how many users of the output the gradient came
    inputs: list[Flow] = field(default_factory=list)
    error: float | None = None  # relative difference from a finite difference
    unchecked: str = ""  # why there is no such check


class Backprop:
    """The frames of a backward pass. Shows itself in a notebook as a player; ``print`` gives the text; ``save`` an HTML file.

    ``len(steps)``, ``steps[i]`` and iteration give the ``Frame`` objects.
    """

    def __init__(self, frames: list[Frame], found: Trace):
        self.frames = frames
        self._trace = found
        self._svg = draw(found).svg

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index):
        return self.frames[index]

    def __iter__(self):
        return iter(self.frames)

    def text(self) -> str:
        """Every frame as plain text."""
        return "\n\n".join(_frame_text(i, len(self), frame) for i, frame in enumerate(self.frames, 1))

    __str__ = text

    def __repr__(self) -> str:
        return f"<{len(self)} steps of backpropagation: print() shows them, .save('steps.html') writes a page>"

    def html(self) -> str:
        """A self-contained page that plays the frames; needs no server and no network."""
        return html.page(self.frames, self._svg)

    def save(self, path: str | Path) -> Path:
        """Write the page to ``path``; returns it."""
        path = Path(path)
        path.write_text(self.html(), encoding="utf-8")
        return path

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": html.widget(self.html()), "text/plain": self.text()}


def backprop(root: Tensor, names=None) -> Backprop:
    """Run the backward pass of ``root`` (usually the loss) step by step, and keep what happened in each step.

    ``names``: a dict name -> tensor or a Module, to label the leaves. No ``.grad`` is changed and the graph is kept, so that
    ``root.backward()`` can follow. Values are shown for arrays of up to 256 elements. Each op's gradient is compared with a
    finite difference in float64. Raises ValueError if there is no graph, or ``root`` is not a single number.
    """
    found = trace(root, names)
    if root.data.size != 1:
        raise ValueError(f"expected one number to go back from, got shape {root.shape}: reduce it first, as in y.sum()")
    recorder = _Recorder(found)
    run_backward([root], [np.ones_like(root.data)], retain_graph=True, targets=[], observer=recorder)
    return Backprop(recorder.frames, found)


class _Recorder:
    """Turns what run_backward shows of each node into frames."""

    def __init__(self, found: Trace):
        self.found = found
        self.frames: list[Frame] = []
        self.arrived: dict = {}  # key -> [count, sum]
        self.expected: dict = {}
        for node in found.nodes:
            for edge in node.edges:
                if edge is not None:
                    self.expected[_key(edge)] = self.expected.get(_key(edge), 0) + 1

    def __call__(self, node: Node, gys, gxs) -> None:
        rule = rule_of(node.name)
        value = to_numpy(node.values[0]).copy() if node.values else None
        gy = gys[0]
        shape = value.shape if value is not None else () if gy is None else gy.shape
        small = value is not None
        frame = Frame(
            node, self.found.names[node], node.name, rule, shape, value, _copy(gy) if small else None,
            self.arrived.get((node, 0), (0,))[0],
        )  # fmt: skip
        operands = _operands(node)
        for edge, gx, operand in zip(node.edges, gxs, operands, strict=True):
            if edge is not None and gx is not None:
                frame.inputs.append(self._flow(edge, gx, operand))
        for tensor in _call_tensors(node):
            if not tensor.requires_grad:
                frame.inputs.append(Flow("constant", tensor.shape, _copy(tensor.data), constant=True))
        frame.error, frame.unchecked = _finite_difference(node, gys, gxs, operands)
        self.frames.append(frame)

    def _flow(self, edge, gx, operand: Tensor | None) -> Flow:
        key = _key(edge)
        count, total = self.arrived.get(key, (0, 0))
        self.arrived[key] = count + 1, total + gx
        source = edge[0] if isinstance(edge, tuple) else id(edge)
        shown = gx.size <= 256
        return Flow(
            self.found.names[source],
            gx.shape,
            _copy(operand.data) if operand is not None and shown else None,
            _copy(gx) if shown else None,
            _copy(self.arrived[key][1]) if shown else None,
            count + 1,
            self.expected[key],
        )


def _key(edge):
    return edge if isinstance(edge, tuple) else id(edge)


def _copy(array) -> np.ndarray | None:
    return None if array is None else np.array(to_numpy(array))


def _call_tensors(node: Node) -> list[Tensor]:
    """The tensors among the arguments with which a small op was called, in order."""
    if node.call is None:
        return []
    _, args, kwargs = node.call
    found = []
    for value in (*args, *kwargs.values()):
        found += [v for v in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(v, Tensor)]
    return found


def _operands(node: Node) -> list[Tensor | None]:
    """For each edge of the node the argument that it belongs to, where that is known."""
    free = _call_tensors(node)
    result = []
    for edge in node.edges:
        match = next((t for t in free if edge is not None and (t is edge or t.origin == edge)), None)
        if match is not None:
            free = _without_first(free, match)
        result.append(match)
    return result


def _without_first(items: list, item) -> list:
    index = next(i for i, t in enumerate(items) if t is item)
    return items[:index] + items[index + 1 :]


# ---- the check against a finite difference -----------------------------------------------------------------------------


def _finite_difference(node: Node, gys, gxs, operands) -> tuple[float | None, str]:
    """Relative difference between the op's gradient and a central difference along a random direction, in float64."""
    if node.call is None:
        return None, "too large to show and check"
    if node.name.startswith("dropout"):
        return None, "random: another call draws another mask"
    if any(edge is not None and t is None for edge, t in zip(node.edges, operands, strict=True)):
        return None, "its input was changed in place since"
    rng = np.random.default_rng(0)
    directions = {}  # position among the tensors of the call -> direction
    positions, analytic = _positions(node, operands), 0.0
    for operand, gx, position in zip(operands, gxs, positions, strict=True):
        if operand is not None and gx is not None:
            directions[position] = rng.standard_normal(operand.shape)
            analytic += float(np.sum(to_numpy(gx).astype(np.float64) * directions[position]))
    step = 1e-6
    numeric = (_evaluate(node, gys, directions, step) - _evaluate(node, gys, directions, -step)) / (2 * step)
    return abs(analytic - numeric) / max(abs(analytic), abs(numeric), 1e-3), ""


def _positions(node: Node, operands) -> list[int]:
    """Where each operand stands among the tensors of the call; the same tensor given twice takes both places in turn."""
    tensors, used, result = _call_tensors(node), set(), []
    for operand in operands:
        place = next((i for i, t in enumerate(tensors) if t is operand and i not in used), -1)
        used.add(place)
        result.append(place)
    return result


def _evaluate(node: Node, gys, directions: dict[int, np.ndarray], step: float) -> float:
    """The sum of gy * y where each tensor of the call is moved by ``step`` along its direction."""
    function, args, kwargs = node.call
    counter = iter(range(1_000_000))

    def moved(value):
        if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
            return type(value)(moved(v) for v in value)
        if not isinstance(value, Tensor):
            return value
        position = next(counter)
        data = to_numpy(value.data)
        data = data.astype(np.float64) if data.dtype.kind == "f" else data
        return Tensor(data + step * directions[position] if position in directions else data.copy())

    with no_grad():
        y = function(*[moved(a) for a in args], **{k: moved(v) for k, v in kwargs.items()})
    ys = y if isinstance(y, tuple) else (y,)
    return float(sum(np.sum(to_numpy(gy) * t.data) for gy, t in zip(gys, ys, strict=False) if gy is not None))


# ---- text --------------------------------------------------------------------------------------------------------------


def _frame_text(number: int, total: int, frame: Frame) -> str:
    lines = [f"step {number} of {total}   {frame.name} = {frame.op}   {shape_text(frame.shape)}"]
    lines += [f"  rule        {frame.rule.forward}", f"              {frame.rule.backward}"]
    lines += _block("value", frame.value)
    source = f"(sum over {frame.paths} paths)" if frame.paths > 1 else ""
    lines += _block("gradient in", frame.gradient, source)
    for flow in frame.inputs:
        if flow.constant:
            lines += _block("constant", flow.value)
            continue
        lines += _block(f"to {flow.name}", flow.gradient, f"(value {_short(flow.value)})" if flow.value is not None else "")
        if flow.expected > 1:
            lines += _block(f"  {flow.arrived} of {flow.expected}", flow.total, "(summed so far)")
    check = f"differs by {frame.error:.1e}" if frame.error is not None else f"none: {frame.unchecked}"
    lines.append(f"  finite difference: {check}")
    return "\n".join(lines)


def _block(label: str, array: np.ndarray | None, note: str = "") -> list[str]:
    text = "(large)" if array is None else np.array2string(array, precision=4, suppress_small=True, threshold=64)
    rows = text.split("\n")
    return [f"  {label:<12}{rows[0]} {note}".rstrip(), *(" " * 14 + row for row in rows[1:])]


def _short(array: np.ndarray) -> str:
    text = np.array2string(array, precision=3, suppress_small=True, threshold=8).replace("\n", "")
    return text if len(text) <= 48 else f"of {shape_text(array.shape)}"
