"""Keeping compiled kernels on disk, so that each is compiled once per machine and not once per run.

Numba's own ``cache=True`` does not see changes in other files, can mix up two processes that compile at once, and never recovers
from a damaged file (https://github.com/numba/numba/issues/4807, /10434, /10486). Here every compiled signature of a kernel is
one file, written beside its final name and then renamed, so that a reader finds all of it or nothing. Its name is a hash of all
that the machine code depends on: the source files that the kernel can see, its signature and options, the versions of Numba,
LLVM, NumPy and Python, and the CPU. An edited kernel is a new file. A file that is truncated, damaged or of another signature
is deleted and the kernel compiled again; where nothing can be stored, it is compiled in memory, with one line on standard error.

The folder is ``MINIGRAD_CACHE_DIR``, else ``minigrad`` in the user's cache directory. What it holds is run, so it must
belong to the user and must not be writable for others.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import itertools
import os
import pickle
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
DIGEST = hashlib.sha256().digest_size
LIMIT = 256 * 2**20  # bytes kept on disk; beyond it, the kernels that were not used for the longest time go
ABANDONED = 3600.0  # seconds after which a half-written file has lost its writer

# Numba's settings that change the generated code. (The CPU's name and features come from the code generator itself.)
CODE_SETTINGS = (
    *("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "DEBUG_JIT", "ENABLE_AVX", "EXTEND_VARIABLE_LIFETIMES", "JIT_COVERAGE"),
    *("LLVM_REFPRUNE_FLAGS", "LLVM_REFPRUNE_PASS", "LOOP_VECTORIZE", "NRT_STATS", "OPT", "SLP_VECTORIZE", "USING_SVML"),
)

_imported_at = time.time()


# ---- what happened ---------------------------------------------------------------------------------------------------


@dataclass
class CompilationStats:
    """Kernel signatures that this process compiled and loaded from disk, and the folder (None: nothing can be kept)."""

    compiled: int = 0
    loaded: int = 0
    directory: str | None = None


_stats = CompilationStats()
_said: set[str] = set()


def compilation_stats() -> CompilationStats:
    """How many kernel signatures this process has compiled and loaded from disk so far, and where they are kept."""
    directory = _directory()
    return CompilationStats(_stats.compiled, _stats.loaded, str(directory) if directory else None)


def _say(subject: str, text: str) -> None:
    """One line on standard error, once for each subject; none with MINIGRAD_QUIET=1."""
    if subject not in _said and os.environ.get("MINIGRAD_QUIET", "0") in ("", "0"):
        print(f"minigrad: {text}", file=sys.stderr, flush=True)
    _said.add(subject)


def _cannot_keep(reason: object) -> None:
    _say("keep", f"compiled kernels cannot be kept for the next run ({reason})")


# ---- the folder ------------------------------------------------------------------------------------------------------


def _root() -> Path:
    chosen = os.environ.get("MINIGRAD_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute() / "kernels"  # also after a change of the working directory
    if os.name == "nt":
        caches = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "minigrad" / "kernels"


@functools.cache
def _directory() -> Path | None:
    """The folder for this machine and these versions, made if needed; None where it cannot be used."""
    machine = (
        *(numba.__version__, llvmlite.__version__, np.__version__, sys.implementation.cache_tag, sys.version_info[:3]),
        cpu_target.target_context.codegen().magic_tuple(),
        [(name, str(getattr(config, name, None))) for name in CODE_SETTINGS],
    )
    try:
        root = _root()
        directory = root / hashlib.sha256(repr(machine).encode()).hexdigest()[:16]
        root.parent.mkdir(parents=True, exist_ok=True)
        for folder in (root, directory):
            folder.mkdir(mode=0o700, exist_ok=True)
            _check_owner(folder, folder.stat())
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        _cannot_keep(error)
        return None
    return directory


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Raise PermissionError unless ``path`` is the user's and nobody else can write to it."""
    if hasattr(os, "geteuid"):
        if status.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"{path} is writable for other users: chmod 700 it, or delete it")


def _discard_surplus(root: Path) -> None:
    """Delete what was used least recently beyond LIMIT bytes, and what writers left half written."""
    kept = []
    for path in root.glob("*/*"):
        with suppress(OSError):
            status = path.stat()
            if path.suffix == ".kernel":
                kept.append((status.st_mtime, status.st_size, path))
            elif path.suffix == ".tmp" and status.st_mtime < time.time() - ABANDONED:
                path.unlink()
    surplus = sum(size for _, size, _ in kept) - LIMIT
    for _, size, path in sorted(kept):
        if surplus <= 0:
            break
        surplus -= size
        with suppress(OSError):
            path.unlink()


# ---- the sources that a kernel can see -------------------------------------------------------------------------------


def _source_hash(path: str) -> str | None:
    """Hash of the file at ``path`` and of all files of this package that it imports from, directly or not.

    None if there is no such file, or if one was changed after this process imported it: then text and code may differ.
    """
    seen: dict[str, str] = {}
    pending = [path, str(Path(__file__).with_name("_compiler.py"))]
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        try:
            status = os.stat(file)
            if status.st_mtime > _imported_at:
                return None
            seen[file], imported = _read_source(file, status.st_mtime_ns, status.st_size)
        except (OSError, SyntaxError):
            return None
        pending += imported
    return hashlib.sha256(repr(sorted((Path(file).name, digest) for file, digest in seen.items())).encode()).hexdigest()


@functools.cache
def _read_source(file: str, mtime_ns: int, size: int) -> tuple[str, tuple[str, ...]]:
    """Hash of the file, and the files that its relative imports name. (Time and size only mark a new version of the file.)"""
    text = Path(file).read_bytes()
    imported = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = Path(file).parents[node.level - 1]
            for alias in node.names:
                imported += _file_of(folder.joinpath(*(node.module or "").split(".")), alias.name)
    return hashlib.sha256(text).hexdigest(), tuple(imported)


def _file_of(source: Path, name: str) -> list[str]:
    """The file that ``from source import name`` takes the name from: source is a module or a package, and name may be one."""
    places = (source.with_name(f"{source.name}.py"), source / f"{name}.py", source / name / "__init__.py", source / "__init__.py")
    return [str(place) for place in places if place.is_file()][:1]


# ---- one kernel's files ----------------------------------------------------------------------------------------------


class KernelCache(_Cache):
    """What Numba asks before it compiles a signature of one function, and tells after."""

    def __init__(self, function, options: dict):
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._options = sorted((key, str(sorted(value) if isinstance(value, set) else value)) for key, value in options.items())
        self._sources = _source_hash(function.__code__.co_filename)
        self._enabled = True

    @property
    def cache_path(self) -> str | None:
        directory = _directory()
        return str(directory) if directory else None

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        """Forget the compiled signatures of this kernel."""
        directory = _directory()
        for path in directory.glob(f"{self._name}-*.kernel") if directory else ():
            _delete(path)

    def load_overload(self, sig, target_context) -> CompileResult | None:
        """The kernel compiled for ``sig`` from disk, or None: then Numba compiles it."""
        target_context.refresh()
        path = self._path(sig)
        if path is not None and (payload := _read(path)) is not None:
            try:
                stored, parts = pickle.loads(payload)
                if stored != self._key(sig):
                    raise ValueError(f"{path} holds {stored}")
                result = CompileResult._rebuild(target_context, *parts)
            except Exception:  # whatever another version or a damaged file makes of it: compile again
                _delete(path)
            else:
                _stats.loaded += 1
                return result
        _stats.compiled += 1
        _say("compile", "compiling kernels for this machine (once) ...")
        _make_symbols_unique(os.getpid())
        return None

    def save_overload(self, sig, data: CompileResult) -> None:
        """Keep a compiled kernel. Never fails: what cannot be kept is compiled again by the next process."""
        path = self._path(sig)
        if path is None:
            if self._enabled and not self._sources:
                _cannot_keep(f"the sources of {self._name} are not files, or were changed after Python started")
            return
        try:
            if data.library.has_dynamic_globals:
                raise ValueError(f"{self._name} refers to addresses of this process")
            _write(path, dumps((self._key(sig), data._reduce())))
        except Exception as error:
            _cannot_keep(error)

    def _key(self, sig) -> tuple:
        arguments, _ = sigutils.normalize_signature(sig)
        return self._name, self._options, self._sources, tuple(arguments)

    def _path(self, sig) -> Path | None:
        directory = _directory() if self._enabled and self._sources else None
        return directory and directory / f"{self._name}-{hashlib.sha256(repr(self._key(sig)).encode()).hexdigest()[:32]}.kernel"


def _read(path: Path) -> bytes | None:
    """The payload of a file of ours, or None if there is none; a damaged file is deleted."""
    try:
        with path.open("rb") as file:
            _check_owner(path, os.fstat(file.fileno()))
            content = file.read()
    except OSError:
        return None
    digest, payload = content[len(MAGIC) :][:DIGEST], content[len(MAGIC) + DIGEST :]
    if not content.startswith(MAGIC) or hashlib.sha256(payload).digest() != digest:
        _delete(path)
        return None
    with suppress(OSError):
        os.utime(path)  # the time of the last use, for _discard_surplus
    return payload


def _write(path: Path, payload: bytes) -> None:
    """Publish a file in one step. Readers check the digest, so nothing need be forced to the disk."""
    temporary = path.with_name(f"{path.stem}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with open(descriptor, "wb") as file:
            file.write(MAGIC + hashlib.sha256(payload).digest() + payload)
        os.replace(temporary, path)
    except BaseException:
        _delete(temporary)
        raise
    if "surplus" not in _said:  # once per process
        _said.add("surplus")
        _discard_surplus(path.parent.parent)


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


@functools.cache
def _make_symbols_unique(process: int) -> None:
    """Start Numba's numbering of functions at a random place, once in every process that compiles.

    Numba tells functions of one name apart by a counter, which is part of their symbols, and the linker takes the first of two
    equal symbols. Code that two processes compiled and that a third one loads must therefore never carry the same number.
    """
    bytecode.FunctionIdentity._unique_ids = itertools.count(secrets.randbits(62))
