"""Showing how training goes: a bar on a terminal and in a notebook, lines in a log."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from typing import Any

from minigrad.training.metrics import MetricSums

__all__ = ["Progress"]

QUIET_TIME = 20.0  # seconds after which a log gets a line in the middle of an epoch
WIDTH = 100  # characters of a bar on a terminal that does not say how wide it is
REFRESH = 0.1  # seconds between two updates of the numbers beside a bar


class Progress:
    """One display for the phases of a run. ``show``: False is silent, True decides by itself, "bar" and "lines" insist."""

    def __init__(self, show: bool | str = True):
        if show not in (True, False, "bar", "lines"):
            raise ValueError(f'progress must be True, False, "bar" or "lines", got {show!r}')
        self.kind = ("bar" if in_notebook() or sys.stderr.isatty() else "lines") if show is True else show
        self._bar: Any = None

    def begin(self, title: str, total: int | None, done: int = 0) -> None:
        """Start a phase of ``total`` steps (None if unknown), ``done`` of which were done before."""
        self.end()
        self.title, self.total, self.done, self.images = title, total, done, 0
        self.started = self.shown = time.perf_counter()
        if self.kind == "bar":
            self._bar = _bar_class()(total=total, initial=done, desc=title, leave=False, **_bar_options())

    def step(self, sums: MetricSums, images: int) -> None:
        """One more step is done; ``sums`` up to here, ``images`` in this step."""
        self.done += 1
        self.images += images
        now = time.perf_counter()
        last = self.done == self.total
        if self.kind == "bar":
            self._bar.update()
            if now - self.shown >= REFRESH or last:
                self.shown = now
                self._bar.set_postfix_str(self._numbers(sums, now), refresh=False)
        elif self.kind == "lines" and now - self.shown >= QUIET_TIME and not last:
            self.shown = now
            total = "" if self.total is None else f"/{self.total}"
            print(f"{self.title}, step {self.done}{total}: {self._numbers(sums, now)}", flush=True)

    def _numbers(self, sums: MetricSums, now: float) -> str:
        mean = sums.result()
        speed = self.images / max(now - self.started, 1e-9)
        return f"loss {mean.loss:.3f}, accuracy {mean.top1:.1%}, {speed:,.0f} images/s"

    def end(self) -> None:
        """Close the phase; its bar disappears."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def line(self, text: str) -> None:
        """A line that stays, unless silent."""
        self.end()
        if self.kind:
            print(text, flush=True)


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _bar_class() -> type:
    """tqdm's bar for the place: its notebook form needs ipywidgets, and would print a warning without."""
    if in_notebook() and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return tqdm


def _bar_options() -> dict[str, Any]:
    if in_notebook():
        return {"file": sys.stdout}  # a notebook shows standard error as if something went wrong
    try:
        known = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):  # no terminal, or none that says
        known = False
    width = {"dynamic_ncols": True} if known else {"ncols": WIDTH}
    return {"file": sys.stderr, **width}
