"""Processes that run beside the tests, one after the other, on a processor that would be idle: pytest itself keeps one busy.

A test that needs the result of one is marked ``@pytest.mark.beside("name", ...)`` and asks ``beside.result(name)``. The processes
that the chosen tests need start when the session does, in the order of ``JOBS``; those tests come last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["JOBS", "Job", "add", "begin", "end", "result"]

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 1200  # seconds, in which a process that hangs is noticed


@dataclass
class Job:
    """A Python process: the arguments of its interpreter, and its settings.

    Of ours and of Numba's it has no others, but where its cache is, and for which processor it compiles.
    """

    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def run(self) -> object:
        """What the process prints, as JSON."""
        ours, same = ("MINIGRAD", "NUMBA"), ("MINIGRAD_CACHE_DIR", "NUMBA_CPU")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ours) or k.startswith(same)}
        kept |= {"PYTHONDONTWRITEBYTECODE": "1", **self.environment}
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [sys.executable, *self.arguments], cwd=ROOT, env=kept, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True
        ) as process:
            _running.append(process)
            try:
                output, errors = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"{self.arguments} hangs\n{process.communicate()[1][-4000:]}") from None
            finally:
                _running.remove(process)
        assert process.returncode == 0, f"{self.arguments} ended with status {process.returncode}\n{errors[-4000:]}"
        return json.loads(output or "null")


FOUR = {"NUMBA_NUM_THREADS": "4"}

# In such an order that what one process compiles is there when another one, or the tests, need it. Test files add more.
JOBS = {
    "CUDA kernels": Job(("-m", "tests.cuda.host")),
    "convolution float64": Job(("-W", "error", "-m", "tests.kernels.test_convolution", "float64"), FOUR),
    "plain Python": Job(("-m", "tests.kernels.test_compiler", "without_the_compiler"), {"NUMBA_DISABLE_JIT": "1"}),
    "convolution float32": Job(("-W", "error", "-m", "tests.kernels.test_convolution", "float32"), FOUR),
    "CUDA sources": Job(("-m", "tests.cuda.test_sources")),
    **{f"bits {dtype}": Job(("-m", "tests.kernels.test_bits", dtype), FOUR) for dtype in ("float64", "float32")},
}

_running: list[subprocess.Popen] = []
_executor: ThreadPoolExecutor | None = None
_results: dict[str, Future] = {}


def add(name: str, *arguments: str, **environment: str):
    """One more job. Returns the mark of tests that need it."""
    import pytest  # the jobs themselves have no use for it

    JOBS[name] = Job(arguments, environment)
    return pytest.mark.beside(name)


def begin(names: set[str]) -> None:
    """Start these jobs, in the order of ``JOBS``, as many at once as there are idle processors (of two, one)."""
    global _executor
    unknown = names - JOBS.keys()
    if unknown:
        raise ValueError(f"there is no job {min(unknown)!r}: see JOBS in {__name__}")
    if names and _executor is None:
        _executor = ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), thread_name_prefix="beside")
    for name, job in JOBS.items():
        if name in names and name not in _results:
            _results[name] = _executor.submit(job.run)


def result(name: str) -> object:
    """What the job printed, when it is done; raises what it raised."""
    begin({name})
    return _results[name].result()


def end() -> None:
    """Stop what still runs."""
    global _executor
    if _executor is not None:
        _executor.shutdown(wait=False, cancel_futures=True)
        for process in tuple(_running):
            process.kill()
        _executor.shutdown()
    _executor = None
    _results.clear()
