"""The graph of a computation as an SVG picture."""

from __future__ import annotations

import html
import itertools
from pathlib import Path

from minigrad.autograd import Node
from minigrad.tensor import Tensor
from minigrad.viz.layout import Box, layered_layout

__all__ = ["Graph", "graph", "trace"]

FONT = 12
CHARACTER = 7.2  # width of a character of the 12-pixel monospaced font
MARGIN = 14
LIMIT = 2000  # boxes; more would be no picture


class Trace:
    """The nodes and leaves that a tensor was computed from.

    ``nodes``: newest first, which is the order of the backward pass. ``leaves``: tensors that require a gradient.
    ``edges``: pairs (key of the source, key of the user), where a key is a Node or the id of a leaf. ``names``: key -> label.
    """

    def __init__(self, root: Tensor, names: dict[int, str]):
        self.root = root.origin[0]
        self.nodes: list[Node] = []
        self.leaves: dict[int, Tensor] = {}
        self.edges: list[tuple] = []
        seen, stack = {self.root}, [self.root]
        while stack:
            node = stack.pop()
            self.nodes.append(node)
            for edge in node.edges:
                if edge is None:
                    continue
                if isinstance(edge, Tensor):
                    self.leaves[id(edge)] = edge
                    self.edges.append((id(edge), node))
                    continue
                self.edges.append((edge[0], node))
                if edge[0] not in seen:
                    seen.add(edge[0])
                    stack.append(edge[0])
        self.nodes.sort(key=lambda node: -node.index)
        self.names = self._name(names)

    def _name(self, given: dict[int, str]) -> dict:
        """Short names: what the caller gave to leaves, else p1, p2, ...; v1, v2, ... for results, in order of creation."""
        names = {}
        unnamed = 0
        for key in sorted(self.leaves, key=lambda key: min(n.index for k, n in self.edges if k == key)):
            if key in given:
                names[key] = given[key]
            else:
                unnamed += 1
                names[key] = f"p{unnamed}"
        for i, node in enumerate(reversed(self.nodes), 1):
            names[node] = f"v{i}"
        return names


def trace(root: Tensor, names=None) -> Trace:
    """The graph below ``root``. ``names``: a dict name -> tensor, a Module (its parameters' names), or None.

    Raises TypeError or ValueError if ``root`` has no graph.
    """
    if not isinstance(root, Tensor):
        raise TypeError(f"expected the Tensor at the end of a computation, got {type(root).__name__}")
    if root.origin is None:
        raise ValueError("this tensor was not computed from anything that requires a gradient: there is no graph to show")
    if root.origin[0].released:
        raise ValueError("this graph was freed by backward(): draw it before, or call backward(retain_graph=True)")
    if names is None:
        pairs = []
    elif hasattr(names, "named_parameters"):
        pairs = list(names.named_parameters())
    else:
        pairs = list(names.items())
    return Trace(root, {id(tensor): name for name, tensor in pairs})


class Graph:
    """A drawn graph: shows itself in a notebook; ``save(path)`` writes the SVG file; ``svg`` is its text."""

    def __init__(self, svg: str, width: float, height: float):
        self.svg, self.width, self.height = svg, width, height

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<picture of a graph, {self.width:.0f} x {self.height:.0f}: .save('graph.svg') writes it>"

    def save(self, path: str | Path) -> Path:
        """Write the picture to ``path``; returns it."""
        path = Path(path)
        path.write_text(self.svg, encoding="utf-8")
        return path


def graph(root: Tensor, names=None) -> Graph:
    """Draw how ``root`` (usually the loss) was computed: leaves on top, one box per op, ``root`` at the bottom.

    ``names``: a dict name -> tensor or a Module, to label the leaves. Raises ValueError if there is no graph, if it was freed,
    or if it has more than 2,000 boxes.
    """
    return draw(trace(root, names))


def draw(found: Trace) -> Graph:
    """The picture of a trace. Every box carries the id ``node-N`` (N: the node's index), for highlighting."""
    if len(found.nodes) + len(found.leaves) > LIMIT:
        raise ValueError(f"the graph has {len(found.nodes)} ops, too many for a picture: draw a part of the model")
    labels = {node: _node_lines(found, node) for node in found.nodes}
    labels |= {key: [found.names[key], shape_text(leaf.shape)] for key, leaf in found.leaves.items()}
    boxes = {key: _box(lines) for key, lines in labels.items()}
    width, height, lines = layered_layout(boxes, found.edges)
    parts = [_edge(boxes[a], boxes[b], lines[(a, b)]) for a, b in dict.fromkeys(found.edges)]
    leaf_ids = {key: f"leaf-{i}" for i, key in enumerate(found.leaves)}
    parts += [_shape(leaf_ids.get(key) or f"node-{key.index}", key in leaf_ids, boxes[key], labels[key]) for key in labels]
    w, h = width + 2 * MARGIN, height + 2 * MARGIN
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:.0f}" height="{h:.0f}" viewBox="{-MARGIN} {-MARGIN} {w:.0f} {h:.0f}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{FONT}">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#667085"/></marker></defs>'
        f'<rect x="{-MARGIN}" y="{-MARGIN}" width="{w:.0f}" height="{h:.0f}" fill="#ffffff"/>{"".join(parts)}</svg>'
    )
    return Graph(svg, w, h)


def shape_text(shape: tuple[int, ...]) -> str:
    """ "2 x 3", or "number" for a tensor without dimensions."""
    return " x ".join(map(str, shape)) if shape else "number"


def _node_lines(found: Trace, node: Node) -> list[str]:
    shape = [shape_text(node.values[0].shape)] if node.values else []
    return [f"{found.names[node]} = {node.name}", *shape]


def _box(lines: list[str]) -> Box:
    return Box(max(map(len, lines)) * CHARACTER + 20, len(lines) * (FONT + 4) + 12)


def _shape(name: str, leaf: bool, box: Box, lines: list[str]) -> str:
    x, y = box.x - box.width / 2, box.y - box.height / 2
    style = 'rx="3" fill="#fff4e0" stroke="#d97706"' if leaf else 'rx="9" fill="#eaf1ff" stroke="#3568d4"'
    texts = "".join(
        f'<text x="{box.x:.1f}" y="{y + 6 + (i + 1) * (FONT + 4) - 4:.1f}" text-anchor="middle"'
        f' fill="{"#111827" if i == 0 else "#667085"}">{html.escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    rectangle = f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" {style}/>'
    return f'<g id="{name}">{rectangle}{texts}</g>'


def _edge(a: Box, b: Box, points: list[tuple[float, float]]) -> str:
    """A smooth line from the bottom of box a to the top of box b through ``points``."""
    stops = [(a.x, a.y + a.height / 2), *points, (b.x, b.y - b.height / 2)]
    path = f"M{stops[0][0]:.1f},{stops[0][1]:.1f}"
    for (x0, y0), (x1, y1) in itertools.pairwise(stops):
        middle = (y0 + y1) / 2
        path += f" C{x0:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{y1:.1f}"
    return f'<path d="{path}" fill="none" stroke="#667085" marker-end="url(#arrow)"/>'
