"""The same bits at any number of threads, for every case that reaches kernels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processor("compares numbers of threads")

ROOT = Path(__file__).resolve().parents[2]


def _digests(threads: int) -> dict[str, str]:
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads), "MINIGRAD_KERNELS": "cpu"}
    command = [sys.executable, "-m", "tests.ops.digests"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_bits_do_not_depend_on_threads():
    one = _digests(1)
    assert one
    for threads in (2, 4):
        other = _digests(threads)
        assert [name for name in one if one[name] != other[name]] == []
