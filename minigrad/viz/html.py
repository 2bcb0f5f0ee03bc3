"""Frames of the backpropagation stepper as one self-contained HTML page."""

from __future__ import annotations

import html as escape
from collections.abc import Sequence
from importlib import resources

import numpy as np

__all__ = ["page", "widget"]


def page(frames: Sequence, svg: str) -> str:
    """The page: the graph on the left, the frame on the right, buttons, a slider and the arrow keys to move."""
    sections = "\n".join(_section(i, frame) for i, frame in enumerate(frames))
    template = (resources.files("minigrad.viz") / "files" / "backprop.html").read_text(encoding="utf-8")
    return template.replace("{{graph}}", svg).replace("{{frames}}", sections).replace("{{count}}", str(len(frames)))


def widget(document: str, height: int = 620) -> str:
    """The page inside a frame of its own, so that several of them in a notebook do not disturb one another."""
    source = escape.escape(document, quote=True)
    return f'<iframe srcdoc="{source}" style="width:100%;height:{height}px;border:1px solid #d0d5dd;border-radius:6px"></iframe>'


def _section(i: int, frame) -> str:
    rows = [_row("value", frame.value, frame.shape)]
    came = f"sum over {frame.paths} paths" if frame.paths > 1 else ""
    rows.append(_row("gradient in", frame.gradient, frame.shape, came, "in"))
    for flow in frame.inputs:
        if flow.constant:
            rows.append(_row("constant", flow.value, flow.shape))
            continue
        rows.append(_row(f"{flow.name}: value", flow.value, flow.shape))
        rows.append(_row(f"gradient to {flow.name}", flow.gradient, flow.shape, "", "out"))
        if flow.expected > 1:
            note = f"{flow.arrived} of {flow.expected} paths have arrived; their gradients add up"
            rows.append(_row(f"{flow.name}: so far", flow.total, flow.shape, note, "sum"))
    if frame.error is None:
        check = f"not checked: {escape.escape(frame.unchecked)}"
    else:
        good = frame.error < 1e-4
        check = f'<span class="{"good" if good else "bad"}">agrees to {frame.error:.1e}</span> (relative)' if good else (
            f'<span class="bad">differs by {frame.error:.1e}</span> (relative): a kink nearby, or float32 rounding'
        )  # fmt: skip
    return (
        f'<section data-node="node-{frame.node.index}"{" hidden" if i else ""}>'
        f"<h2>{escape.escape(frame.name)} = {escape.escape(frame.op)}</h2>"
        f'<p class="rule">{escape.escape(frame.rule.forward)}<br><b>{escape.escape(frame.rule.backward)}</b></p>'
        f'<table class="rows">{"".join(rows)}</table><p class="check">finite difference: {check}</p></section>'
    )


def _row(label: str, array: np.ndarray | None, shape: tuple[int, ...], note: str = "", kind: str = "") -> str:
    size = " × ".join(map(str, shape)) or "number"
    body = "<i>too large to show</i>" if array is None else _array(array)
    extra = f"<small>{escape.escape(note)}</small>" if note else ""
    return f'<tr class="{kind}"><th>{escape.escape(label)}<small>{size}</small></th><td>{body}{extra}</td></tr>'


def _array(array: np.ndarray) -> str:
    """Numbers in tables, one for each matrix of the last two dimensions; blue is negative, orange positive."""
    values = np.asarray(array, dtype=np.float64) if array.dtype.kind in "fiub" else np.zeros(array.shape)
    if values.size == 0:
        return "<i>empty</i>"
    finite = np.abs(values[np.isfinite(values)])
    scale = float(finite.max()) if finite.size else 0.0
    matrix = values.reshape((-1, *values.shape[-2:])) if values.ndim >= 2 else values.reshape(1, 1, -1)
    return "".join(f"<table>{''.join(_table_row(row, scale) for row in block)}</table>" for block in matrix)


def _table_row(row: np.ndarray, scale: float) -> str:
    return "<tr>" + "".join(f'<td style="background:{_color(v, scale)}">{_number(v)}</td>' for v in row) + "</tr>"


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _color(value: float, scale: float) -> str:
    if not np.isfinite(value):
        return "#fda29b"
    strength = min(abs(value) / scale, 1.0) * 0.65 if scale else 0.0
    return f"rgba({'53,104,212' if value < 0 else '217,119,6'},{strength:.2f})"
