"""What the tests of the kernel machinery share: kernels that compile in a fraction of a second, and processes that run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numba import get_thread_id

from minigrad.kernels.cpu import _cache
from minigrad.kernels.cpu._compiler import Kernel, device_function, kernel, prange

ROOT = Path(__file__).resolve().parents[2]
MUCH = 10**9  # work that is worth waking threads for, whatever that costs


@device_function
def twice(value):
    return value + value


@kernel
def double(x, y):
    for i in prange(x.shape[0]):
        y[i] = twice(x[i])


@kernel
def note_threads(threads):
    for i in prange(threads.shape[0]):
        threads[i] = get_thread_id()


def doubles(function=double, dtype=np.float32, work=1, size=1000) -> bool:
    """Whether ``double`` or another build of it computes what it should."""
    x = np.arange(size, dtype=dtype)
    y = np.full_like(x, -1)
    function(x, y, work=work)
    return bool((y == 2 * x).all())


def not_yet_compiled(function: Kernel = double) -> Kernel:
    """The kernel as a new process has it."""
    return Kernel(function.__wrapped__, function.serial.targetoptions["fastmath"])


def follow(*kernels: Kernel, module) -> None:
    """Compile kernels of the tests anew after an edit of a module: by itself the cache sees only what is imported relatively."""
    for build in (build for function in kernels for build in (function.serial, function.parallel) if hasattr(build, "_cache")):
        hashes = build._cache._sources, _cache._source_hash(module.__file__)
        build._cache._sources = None if None in hashes else "+".join(hashes)


def start(*command: str, cache: Path | None = None, cwd: Path = ROOT, **environment: str) -> subprocess.Popen:
    """A Python process in an environment without settings of ours and of Numba's but these."""
    kept = {k: v for k, v in os.environ.items() if k == "MINIGRAD_CACHE_DIR" or not k.startswith(("MINIGRAD", "NUMBA"))}
    kept |= {"PYTHONDONTWRITEBYTECODE": "1"} | ({"MINIGRAD_CACHE_DIR": str(cache)} if cache else {}) | environment
    return subprocess.Popen(
        [sys.executable, *command], cwd=cwd, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen, returncode: int = 0, timeout: float = 120) -> tuple[object, str]:
    """What the process printed, as JSON, and what it wrote to standard error."""
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"hangs\n{process.communicate()[1][-4000:]}") from None
    assert process.returncode == returncode, f"exit status {process.returncode}\n{errors[-4000:]}"
    return json.loads(output or "null"), errors
