"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import signal
import sys
import threading

__all__ = ["Interruption"]


class Interruption:
    """``with Interruption() as ctrl_c``: the first Ctrl-C only sets ``ctrl_c.requested``; the second raises KeyboardInterrupt.

    So that work is stopped between two steps, in a state that can be saved. Outside the main thread, where signals cannot be
    caught, and where Ctrl-C is ignored (``nohup``), nothing is changed.
    """

    def __init__(self):
        self.requested = False
        self._before = None

    def __enter__(self) -> Interruption:
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and before not in (signal.SIG_IGN, None):
            self._before = before
            signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *exc_info) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, number, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("\nCtrl-C: stopping after this step; press it again to stop at once", file=sys.stderr)
