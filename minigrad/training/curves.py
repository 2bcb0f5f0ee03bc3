"""The picture of how a training went."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

__all__ = ["draw_curves"]

WIDE = 50  # largest loss / smallest loss from which the axis is logarithmic


def draw_curves(history: list[dict], path: Path, title: str = "") -> bool:
    """Loss and accuracy of every epoch (the lines of ``metrics.jsonl``) as a picture; False if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    epochs = [line["epoch"] for line in history]
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name, label, factor in zip(
        figure.subplots(1, 2), ("loss", "top1"), ("loss", "accuracy (%)"), (1, 100), strict=True
    ):
        for part, style in (("train", "--"), ("test", "-")):
            key = f"{part}_{name}"
            if any(key in line for line in history):
                values = [line.get(key, math.nan) * factor for line in history]
                axes.plot(epochs, values, style, marker="." if len(epochs) < 40 else "", label=_label(part, values, name))
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    _scale_losses(figure.axes[0], history)
    if title:
        figure.suptitle(title)
    # A picture that is shown while it is written must be whole: it takes its name when it is done.
    temporary = path.with_name(f".{path.name}.part.png")
    figure.savefig(temporary, dpi=120)
    temporary.replace(path)
    return True


def _scale_losses(axes: Any, history: list[dict]) -> None:
    """From 0, or in powers of 10 where one bad epoch would press all others flat."""
    losses = [value for line in history for key, value in line.items() if key.endswith("_loss") and math.isfinite(value)]
    if losses and min(losses) > 0 and max(losses) > WIDE * min(losses):
        axes.set_yscale("log")
    elif not axes.dataLim.y0 < 0:  # also if there is no finite loss
        axes.set_ylim(bottom=0)


def _label(part: str, values: list[float], name: str) -> str:
    return f"{part} (last {values[-1]:.2f} %)" if name == "top1" else f"{part} (last {values[-1]:.3f})"
