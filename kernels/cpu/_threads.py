"""How many threads run a kernel, and what keeps Numba's thread pools from ending the process.

Numba brings up to three pools ("layers"): ``tbb``, ``omp`` and ``workqueue``. Two of them have sharp edges: ``workqueue`` aborts
the process when two Python threads enter it at once, so launches take turns; ``omp`` kills a child process that was forked after
the pool had started, so such a child runs everything on one thread. The results are the same bits either way.

And Numba must not be interrupted: Ctrl-C at the wrong moment leaves a lock held or a table half filled, until Python ends.
"""

from __future__ import annotations

import functools
import math
import os
import signal
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import numba

__all__ = ["get_num_threads", "set_num_threads", "threading_layer"]

MAXIMUM = numba.config.NUMBA_NUM_THREADS  # the size of the pool: the variable NUMBA_NUM_THREADS, else the CPUs of this process


def _default_count() -> int:
    """All CPUs that this process may use; a container may be granted less time than it sees CPUs."""
    if "NUMBA_NUM_THREADS" not in os.environ:
        with suppress(OSError, ValueError):
            quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
            return max(1, min(MAXIMUM, math.ceil(int(quota) / int(period))))
    return MAXIMUM


def uninterrupted(function):
    """``function``, in which Ctrl-C waits until it has returned."""

    @functools.wraps(function)
    def call(*args):
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(handler):  # no exception can come in
            return function(*args)
        came = []
        signal.signal(signal.SIGINT, lambda *event: came.append(event))
        try:
            return function(*args)
        finally:
            signal.signal(signal.SIGINT, handler)
            if came:
                handler(*came[-1])

    return call


class _Pool:
    """The state of the thread pool: how many threads are asked for, and whether the pool may be used."""

    def __init__(self):
        self.count = _default_count()
        self.usable = not numba.config.DISABLE_JIT
        self.layer: str | None = None  # once it has started
        self.launch_cost = 1  # relative to a launch by omp, some 2 microseconds
        self.lock = threading.RLock()  # re-entrant: a signal handler or a finalizer may run a kernel too

    @uninterrupted
    def start(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about layers that are too old to be chosen
            numba.get_num_threads()
        self.layer = numba.threading_layer()
        if self.layer == "workqueue":
            self.launch_cost = 20  # it puts its threads to sleep after every launch

    def after_fork(self) -> None:
        self.lock = threading.RLock()  # the old one may be held by a thread that this process does not have
        with suppress(ValueError):  # raised by Numba where no pool had started
            numba.threading_layer()
            self.usable = False


class _Applied(threading.local):
    """Numba keeps the number of threads for each Python thread: what it was last told in this one."""

    count = MAXIMUM


_tell = uninterrupted(numba.set_num_threads)
pool = _Pool()
_applied = _Applied()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.after_fork)


def launch(function, args: tuple) -> None:
    """Run a parallel build on the pool."""
    with pool.lock:
        if pool.layer is None:
            pool.start()
        if _applied.count != pool.count:
            _tell(pool.count)
            _applied.count = pool.count
        function(*args)


def get_num_threads() -> int:
    """How many threads run a large kernel: 1 where there is no pool to use."""
    return pool.count if pool.usable else 1


def set_num_threads(n: int) -> None:
    """Run kernels on ``n`` threads from now on, in all Python threads. Results do not depend on ``n``.

    Raises ValueError unless 1 <= n <= the size of the pool, which is fixed when the process starts: the environment
    variable NUMBA_NUM_THREADS, else the number of CPUs.
    """
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(f"n must be an integer, got {n!r}")
    if not 1 <= n <= MAXIMUM:
        raise ValueError(f"n must be from 1 to {MAXIMUM}, got {n}: for more, set NUMBA_NUM_THREADS before Python starts")
    pool.count = n


def threading_layer() -> str:
    """The pool that runs the threads: "tbb", "omp" or "workqueue"; "serial" where kernels run on the calling thread only."""
    if get_num_threads() == 1:
        return "serial"
    with pool.lock:
        if pool.layer is None:
            pool.start()
    return pool.layer
