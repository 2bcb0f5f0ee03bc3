"""Compiled kernels on disk: many processes at once, processes that die, and interruptions."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from minigrad.kernels.cpu import _cache
from tests.kernels.caching import counts, files, several_types
from tests.kernels.small import double, doubles, finish, not_yet_compiled, start

# ---- many processes, and some that die ------------------------------------------------------------------------------


def together() -> None:
    """The same, when as many processes as there are types are here."""
    meeting = Path(os.environ["MEETING"])
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < len(TYPES):
        time.sleep(0.001)
    several_types()


TYPES = ("float32", "float64", "int32")


def test_processes_that_compile_at_once(tmp_path):
    """Each in another order. What each of them left is then loaded into one process."""
    cache, meeting = tmp_path / "cache", tmp_path / "meeting"
    meeting.mkdir()
    command = ("-m", "tests.kernels.test_cache_processes")
    orders = [(*TYPES[k:], *TYPES[:k]) for k in range(len(TYPES))]
    processes = [start(*command, "together", *order, cache=cache, MEETING=str(meeting)) for order in orders]
    results = [finish(process)[0] for process in processes]
    assert [right for right, _ in results] == [[True] * len(TYPES)] * len(TYPES)
    assert [path.suffix for path in files(cache)] == [".kernel"] * len(TYPES)
    assert finish(start(*command, "several_types", *TYPES, cache=cache)) == ([[True] * len(TYPES), 0], "")


def symbols() -> None:
    """Print the names under which the linker knows the compiled code."""
    assert doubles(double)
    print(json.dumps([result.fndesc.mangled_name for result in double.serial.overloads.values()]))


def test_processes_never_use_the_same_symbol(tmp_path):
    """A process that loads what two others compiled would run the code of one of them for both."""
    command = ("-m", "tests.kernels.test_cache_processes", "symbols")  # in which the order of a set may be a part
    processes = [start(*command, cache=tmp_path / str(k), PYTHONHASHSEED="0") for k in range(2)]
    (first,), (second,) = (finish(process)[0] for process in processes)
    assert first != second


def killed() -> None:
    """Die, without a chance to clean up, while a kernel is compiled or while it is written."""

    def die(*args):
        os.kill(os.getpid(), signal.SIGKILL)

    if sys.argv[2] == "compiling":
        _cache.KernelCache.save_overload = die
    else:
        os.replace = die
    doubles(double)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("when", ["compiling", "writing"])
def test_a_killed_process_leaves_a_cache_that_works(cache, when):
    finish(start("-m", "tests.kernels.test_cache_processes", "killed", when, cache=cache), -signal.SIGKILL)
    left = files(cache)
    assert [path.suffix for path in left] == {"compiling": [], "writing": [".tmp"]}[when]
    for _ in range(2):
        assert doubles(not_yet_compiled())
    assert counts() == (1, 1)
    assert len(set(files(cache)) - set(left)) == 1


def test_ctrl_c_waits_for_the_compiler(cache, monkeypatch):
    """It comes when the kernel is compiled and kept. Numba interrupted half-way may fail ever after."""
    monkeypatch.setattr(_cache, "_make_symbols_unique", lambda process: signal.raise_signal(signal.SIGINT))
    handler = signal.getsignal(signal.SIGINT)
    kernel = not_yet_compiled()
    with pytest.raises(KeyboardInterrupt):
        doubles(kernel)
    assert signal.getsignal(signal.SIGINT) is handler
    assert counts() == (1, 0)
    assert len(files(cache)) == 1
    assert doubles(kernel)
    assert counts() == (1, 0)


def test_any_handler_of_ctrl_c_is_called_after_the_compiler(cache, monkeypatch):
    monkeypatch.setattr(_cache, "_make_symbols_unique", lambda process: signal.raise_signal(signal.SIGINT))
    handled = []
    before = signal.signal(signal.SIGINT, lambda number, frame: handled.append((number, len(files(cache)))))
    try:
        assert doubles(not_yet_compiled())
    finally:
        signal.signal(signal.SIGINT, before)
    assert handled == [(signal.SIGINT, 1)]


def test_an_interrupted_write_leaves_nothing(cache, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            doubles(not_yet_compiled())
    assert files(cache) == []
    assert doubles(not_yet_compiled())
    assert len(files(cache)) == 1


if __name__ == "__main__":
    globals()[sys.argv[1]]()
