"""Keeping compiled kernels on disk, so that each is compiled once per machine and not once per run.

Numba's own ``cache=True`` does not see changes in other files, can mix up two processes that compile at once, and never recovers
from a damaged file (https://github.com/numba/numba/issues/4807, /10434, /10486). Here every compiled signature of a kernel is one
file, written beside its final name and then renamed, so that a reader finds all of it or nothing. Its name is a hash of everything
the machine code depends on: the source files that the kernel can see, the signature, the options, Numba, LLVM, Python and
the CPU. So nothing is ever overwritten by something else, and an edited kernel is a new file. Whatever is wrong with a file
(truncated, damaged, of another signature), the kernel is compiled again; where nothing can be stored, it is compiled in memory.

The files lie in ``MINIGRAD_CACHE_DIR``, else in the user's cache directory, under ``kernels/``. They contain machine code, so the
folder must belong to the user and must not be writable for others.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import itertools
import os
import pickle
import platform
import secrets
import stat
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba.core import bytecode, config, sigutils
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

__all__ = ["CompilationStats", "KernelCache", "compilation_stats"]

MAGIC = b"minigrad kernel 1\n"
SUFFIX = ".kernel"
LIMIT = 256 * 2**20  # bytes kept; beyond, the kernels that were not used for the longest time go
STALE = 3600.0  # seconds after which a half-written file cannot belong to a living writer

# Numba's settings that change the generated code (the CPU's name and features are taken from the code generator).
CODE_SETTINGS = (
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
    "DEBUG_JIT",
    "ENABLE_AVX",
    "EXTEND_VARIABLE_LIFETIMES",
    "JIT_COVERAGE",
    "LLVM_REFPRUNE_FLAGS",
    "LLVM_REFPRUNE_PASS",
    "LOOP_VECTORIZE",
    "NRT_STATS",
    "OPT",
    "SLP_VECTORIZE",
    "USING_SVML",
)

_import_time = time.time()


@dataclass
class CompilationStats:
    """What this process did for its kernels: signatures compiled, signatures loaded from disk, and where they are kept."""

    compiled: int = 0
    loaded: int = 0
    directory: str | None = None


_stats = CompilationStats()


def compilation_stats() -> CompilationStats:
    """Kernel signatures compiled and loaded by this process so far, and the cache directory (None: kept in memory only)."""
    return CompilationStats(_stats.compiled, _stats.loaded, _directory())


# ---- messages --------------------------------------------------------------------------------------------------------


@functools.cache
def _say_once(kind: str, text: str) -> None:
    """One line on standard error, the first time that ``text`` comes up."""
    if os.environ.get("MINIGRAD_QUIET", "0") in ("", "0"):
        print(f"minigrad: {text}", file=sys.stderr, flush=True)


def _not_kept(reason: object) -> None:
    _say_once("compiled kernels are not kept for the next run", str(reason))


# ---- where -----------------------------------------------------------------------------------------------------------


def _root() -> Path:
    chosen = os.environ.get("MINIGRAD_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "minigrad"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "minigrad"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigrad"
