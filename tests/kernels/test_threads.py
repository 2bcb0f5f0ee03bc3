"""The thread pool: how many threads run, and that neither other threads, nor forks, nor signals bring it down.

Each scenario runs in a process of its own, on pools of both kinds. That threads change no bit is in ``test_bits.py``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minigrad.kernels import cpu
from minigrad.kernels.cpu import _compiler, _threads
from tests import beside
from tests.kernels.small import MUCH, double, doubles, finish, note_threads, start

LAYERS = [
    pytest.param(
        layer,
        marks=pytest.mark.skipif(
            not importlib.util.find_spec(f"numba.np.ufunc.{module}"), reason=f"Numba has no layer {layer} on this system"
        ),
    )
    for layer, module in (("omp", "omppool"), ("workqueue", "workqueue"))
]


def scenario(name: str, layer: str | None = None, threads: int = 4, **environment: str) -> object:
    """What a function of this file returns in a process of its own."""
    environment |= {"NUMBA_THREADING_LAYER": layer} if layer else {}
    return finish(start("-m", "tests.kernels.test_threads", name, NUMBA_NUM_THREADS=str(threads), **environment))[0]


def right() -> bool:
    """Whether kernels on the pool compute what they should: a small one, and one of the framework, whose sums are exact here."""
    gy = np.arange(3 * 100 * 100, dtype=np.float32).reshape(1, 3, 100, 100) % 64
    return doubles(work=MUCH) and cpu.conv2d_backward_bias(gy).tolist() == gy.sum(axis=(0, 2, 3)).tolist()


def in_threads(count: int, function) -> list:
    """What ``function`` returns in each of ``count`` threads that start at the same time; None where it fails."""
    results, gate = [None] * count, threading.Barrier(count)

    def run(k):
        gate.wait()
        results[k] = function()

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# ---- how many ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _count():
    """The number of threads is as it was afterwards."""
    count = _threads.pool.count
    yield
    _threads.pool.count = count


@pytest.mark.usefixtures("_count")
@pytest.mark.parametrize("n", [0, -1, _threads.MAXIMUM + 1, 10**30])
def test_numbers_of_threads_that_cannot_be(n):
    before = cpu.get_num_threads()
    with pytest.raises(
        ValueError, match=rf"^n must be from 1 to {_threads.MAXIMUM}, got {n}: for more, set NUMBA_NUM_THREADS before"
    ):
        cpu.set_num_threads(n)
    assert cpu.get_num_threads() == before


@pytest.mark.usefixtures("_count")
@pytest.mark.parametrize("n", [1.0, "2", None, True, (1,)])
def test_numbers_of_threads_that_are_none(n):
    with pytest.raises(TypeError, match=r"^n must be an integer, got "):
        cpu.set_num_threads(n)


@pytest.mark.usefixtures("_count")
def test_one_thread_is_the_calling_one():
    cpu.set_num_threads(_threads.MAXIMUM)
    assert cpu.get_num_threads() == _threads.MAXIMUM
    cpu.set_num_threads(1)
    assert (cpu.get_num_threads(), cpu.threading_layer()) == (1, "serial")


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000\n", 8),
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),  # a thread and a half
        ("1000 100000\n", 1),
        ("9900000 100000\n", 8),
        ("", 8),
        (None, 8),
    ],
)
def test_a_container_may_grant_fewer_threads_than_it_shows(monkeypatch, quota, count):
    def read(path):
        assert path == Path("/sys/fs/cgroup/cpu.max")
        if quota is None:
            raise FileNotFoundError
        return quota

    monkeypatch.setattr(_threads, "MAXIMUM", 8)
    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert _threads._default_count() == count
    monkeypatch.setenv("NUMBA_NUM_THREADS", "8")  # who says it means it
    assert _threads._default_count() == 8


def counting() -> object:
    """The threads that ran a kernel, by what was asked for; in this thread and in another one."""
    doubles(work=1)  # little work
    started = _threads.pool.layer is not None
    seen = []
    for n in (4, 2, 3, 1):
        cpu.set_num_threads(n)
        for call in (lambda function: function(), lambda function: in_threads(1, function)):
            threads = np.full(1000, -1)
            call(partial(note_threads, threads, work=MUCH))
            seen.append([n, sorted(set(threads.tolist())), cpu.get_num_threads()])
    return started, seen, cpu.threading_layer()


@pytest.mark.parametrize("layer", LAYERS)
def test_as_many_threads_as_were_asked_for(layer):
    started, seen, last = scenario("counting", layer)
    assert not started  # nothing called for a pool
    assert seen == [[n, list(range(n)), n] for n in (4, 2, 3, 1) for _ in range(2)]
    assert last == "serial"


def alone() -> object:
    """Whether kernels that are worth a pool are right, and whether there is one."""
    return right(), cpu.get_num_threads(), cpu.threading_layer(), _threads.pool.layer


def test_one_thread_never_starts_a_pool():
    assert scenario("alone", threads=1) == [True, 1, "serial", None]


def test_without_the_compiler_there_is_no_pool():
    assert scenario("alone", NUMBA_DISABLE_JIT="1") == [True, 1, "serial", None]


# ---- other threads -----------------------------------------------------------------------------------------------------


def crowd() -> object:
    """Eight threads run kernels at once, while another one changes how many threads each of them gets."""
    done = threading.Event()

    def change():
        while not done.is_set():
            for n in (1, 2, 3, 4):
                cpu.set_num_threads(n)

    changing = threading.Thread(target=change)
    changing.start()
    results = in_threads(8, lambda: all(doubles(work=MUCH) for _ in range(200)) and right())
    done.set()
    changing.join()
    return results, _threads.pool.layer


def crowd_on(layer: str):
    settings = {"NUMBA_NUM_THREADS": "4", "NUMBA_THREADING_LAYER": layer}
    return beside.add(f"crowd on {layer}", "-m", "tests.kernels.test_threads", "crowd", **settings)


@pytest.mark.parametrize("layer", [pytest.param(*p.values, marks=[*p.marks, crowd_on(*p.values)]) for p in LAYERS])
def test_python_threads_may_run_kernels_at_once(layer):
    """The layer "workqueue" ends the process when two threads enter it."""
    assert beside.result(f"crowd on {layer}") == [[True] * 8, layer]


# ---- forks -------------------------------------------------------------------------------------------------------------


def forked(function) -> int:
    """The exit status of a child process that ends with 0 if ``function`` returns True there, within a minute."""
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            os._exit(0 if function() else 1)
        except BaseException as error:
            print("in the child:", repr(error), file=sys.stderr, flush=True)
        os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def serial() -> bool:
    """Whether kernels run, right, and on the calling thread only; also if more are asked for."""
    cpu.set_num_threads(3)
    return (cpu.get_num_threads(), cpu.threading_layer()) == (1, "serial") and right() and _threads.pool.count == 3


def forks() -> object:
    """Children born before the pool has started, after it, from another thread, and while threads hold the lock of the pool."""
    results = {"before": forked(lambda: right() and cpu.get_num_threads() == 4)}
    assert right()
    results["after"] = forked(serial)
    results["grandchild"] = forked(lambda: serial() and forked(serial) == 0)
    done = threading.Event()

    def run():
        while not done.is_set():
            if not doubles(work=MUCH):
                return False
        return True

    def fork():
        results["from a thread, among others"] = [forked(serial) for _ in range(10)]
        done.set()

    forking = threading.Thread(target=fork)
    forking.start()
    results["others"] = in_threads(3, run)
    forking.join()
    results["parent"] = right(), cpu.get_num_threads(), cpu.threading_layer()
    return results


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_children(layer):
    """The layer "omp" ends such a child as soon as it uses the pool; "workqueue" would wait for threads that it does not have."""
    assert scenario("forks", layer) == {
        "before": 0,
        "after": 0,
        "grandchild": 0,
        "from a thread, among others": [0] * 10,
        "others": [True] * 3,
        "parent": [True, 4, layer],
    }


# ---- signals -----------------------------------------------------------------------------------------------------------


def signals() -> object:
    """Handlers that run kernels themselves, on a thread that may be about to launch one. Then Ctrl-C at a hundred moments."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs in the background ignore it
    assert right()
    handled = []
    signal.signal(signal.SIGALRM, lambda *_: handled.append(doubles(work=MUCH)))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    while len(handled) < 50:
        assert doubles(work=MUCH)
    signal.setitimer(signal.ITIMER_REAL, 0)

    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    x = np.arange(10**6, dtype=np.float32)
    y = np.empty_like(x)
    interrupts = 0
    for k in range(100):
        try:
            # more of them come in case that the first is lost, in a method __del__
            signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.00005 * k, 0.1)
            while True:
                for n in (2, 3, 4):  # so that every launch has a number to tell
                    cpu.set_num_threads(n)
                    double(x, y, work=MUCH)
        except KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, 0)
            interrupts += 1
    return all(handled), interrupts, right(), in_threads(3, right), _threads.pool.layer


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
@pytest.mark.parametrize("layer", LAYERS)
def test_signals(layer):
    """Afterwards all threads can use the pool. Numba takes locks that an interrupt would leave locked."""
    assert scenario("signals", layer) == [True, 100, True, [True] * 3, layer]


if __name__ == "__main__":
    if sys.argv[1] != "counting":
        _compiler.SERIAL_WORK = 0  # all kernels go to the pool
    print(json.dumps(globals()[sys.argv[1]]()))
