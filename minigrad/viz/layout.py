"""Drawing a directed graph in layers (Sugiyama, Tagawa & Toda 1981), so that no Graphviz is needed."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["Box", "layered_layout"]

GAP_X, GAP_Y = 24.0, 46.0
SWEEPS = 8


@dataclass
class Box:
    """A node to place: its size in pixels; ``x``, ``y`` (of its centre) are set by the layout."""

    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    layer: int = 0


def layered_layout(
    boxes: dict[Hashable, Box], edges: list[tuple[Hashable, Hashable]]
) -> tuple[float, float, dict[tuple[Hashable, Hashable], list[tuple[float, float]]]]:
    """Place ``boxes`` so that every edge (from, to) points downwards.

    Returns the width and height of the drawing and, for each edge, the points that its line passes on the way. The graph must
    have no cycle.
    """
    _assign_layers(boxes, edges)
    links, chains = _split_long_edges(boxes, edges)
    layers = _order(boxes, links)
    _assign_x(layers, boxes, links)
    width, height = _assign_y(layers, boxes)
    points = {edge: [(boxes[key].x, boxes[key].y) for key in chain] for edge, chain in chains.items()}
    for chain in chains.values():
        for key in chain:
            del boxes[key]
    return width, height, points


def _assign_layers(boxes, edges) -> None:
    """Each box goes one layer below its lowest predecessor; boxes without predecessors move down to just above their user."""
    after = {key: [] for key in boxes}
    waiting = dict.fromkeys(boxes, 0)
    for a, b in edges:
        after[a].append(b)
        waiting[b] += 1
    sources = [key for key, count in waiting.items() if not count]
    ready, order = list(sources), []
    while ready:
        key = ready.pop()
        order.append(key)
        for b in after[key]:
            boxes[b].layer = max(boxes[b].layer, boxes[key].layer + 1)
            waiting[b] -= 1
            if not waiting[b]:
                ready.append(b)
    for key in sources:
        if after[key]:
            boxes[key].layer = min(boxes[b].layer for b in after[key]) - 1


def _split_long_edges(boxes, edges):
    """Edges that cross layers get an invisible box in each, so that lines keep out of the way of boxes."""
    links, chains = [], {}
    for a, b in dict.fromkeys(edges):
        chain = []
        before = a
        for layer in range(boxes[a].layer + 1, boxes[b].layer):
            key = ("line", a, b, layer)
            boxes[key] = Box(8.0, 1.0, layer=layer)
            chain.append(key)
            links.append((before, key))
            before = key
        links.append((before, b))
        chains[(a, b)] = chain
    return links, chains


def _neighbours(boxes, links):
    above, below = {key: [] for key in boxes}, {key: [] for key in boxes}
    for a, b in links:
        below[a].append(b)
        above[b].append(a)
    return above, below


def _order(boxes, links):
    """Order each layer by the mean position of its neighbours, sweeping down and up, to avoid crossings."""
    above, below = _neighbours(boxes, links)
    layers = [[] for _ in range(1 + max(box.layer for box in boxes.values()))]
    for key, box in boxes.items():
        layers[box.layer].append(key)
    place = {key: i for layer in layers for i, key in enumerate(layer)}
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        around = above if down else below
        for layer in layers if down else layers[::-1]:
            mean = {k: sum(place[n] for n in around[k]) / len(around[k]) if around[k] else place[k] for k in layer}
            layer.sort(key=mean.__getitem__)
            place.update({key: i for i, key in enumerate(layer)})
    return layers


def _assign_x(layers, boxes, links) -> None:
    """Pull each box towards the mean of its neighbours without overlapping the ones beside it."""
    above, below = _neighbours(boxes, links)
    for layer in layers:
        x = 0.0
        for key in layer:
            x += boxes[key].width / 2
            boxes[key].x = x
            x += boxes[key].width / 2 + GAP_X
        for key in layer:
            boxes[key].x -= x / 2
    for sweep in range(2 * SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else layers[::-1]:
            around = [(above if down else below)[key] or (below if down else above)[key] for key in layer]
            wish = [sum(boxes[n].x for n in ns) / len(ns) if ns else boxes[k].x for k, ns in zip(layer, around, strict=True)]
            _place_near(layer, wish, boxes)


def _place_near(layer, wish, boxes) -> None:
    """The positions nearest to ``wish`` (mean of a push to the right and one to the left) that keep order and gaps."""
    right, left = list(wish), list(wish)
    for i in range(1, len(layer)):
        right[i] = max(right[i], right[i - 1] + _distance(boxes[layer[i - 1]], boxes[layer[i]]))
    for i in range(len(layer) - 2, -1, -1):
        left[i] = min(left[i], left[i + 1] - _distance(boxes[layer[i]], boxes[layer[i + 1]]))
    for key, a, b in zip(layer, right, left, strict=True):
        boxes[key].x = (a + b) / 2


def _distance(a: Box, b: Box) -> float:
    return (a.width + b.width) / 2 + GAP_X


def _assign_y(layers, boxes) -> tuple[float, float]:
    y = 0.0
    for layer in layers:
        height = max(boxes[key].height for key in layer)
        for key in layer:
            boxes[key].y = y + height / 2
        y += height + GAP_Y
    left = min(box.x - box.width / 2 for box in boxes.values())
    for box in boxes.values():
        box.x -= left
    return max(box.x + box.width / 2 for box in boxes.values()), y - GAP_Y
