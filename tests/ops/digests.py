"""Prints {case: SHA-256 of outputs and gradients} for the cases that reach kernels, as JSON.

Run as ``python -m tests.ops.digests`` by ``test_threads.py``, with all kernels on all threads however little there is to do.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from minigrad.kernels.cpu import _compiler
from tests.ops.case import operation
from tests.ops.cases import ALL_CASES
from tests.ops.harness import run

MODULES = ("convolution", "pooling", "normalization", "resize", "losses")


def main() -> None:
    _compiler.SERIAL_WORK = 0
    cases = [case for case in ALL_CASES if operation(case.op).__module__.rpartition(".")[2] in MODULES]
    json.dump({case.name: run(case, np.float32).backward().digest() for case in cases}, sys.stdout)


if __name__ == "__main__":
    main()
