"""Compiled kernels on disk: never trusted when damaged or foreign, and not missed where nothing can be kept."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad.kernels import cpu
from minigrad.kernels.cpu import _cache
from tests.kernels.caching import CANNOT_KEEP, COMPILING, begin, counts, files, several_types
from tests.kernels.small import doubles, finish, not_yet_compiled, start

# ---- files that are not what they should be --------------------------------------------------------------------------


def _sealed(payload: bytes) -> bytes:
    return _cache.MAGIC + hashlib.sha256(payload).digest() + payload


def _flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def _payload(content: bytes) -> bytes:
    return content[len(_cache.MAGIC) + _cache.DIGEST :]


DAMAGES = {
    "empty": lambda content: b"",
    "first line": lambda content: content[: len(_cache.MAGIC)],
    "half": lambda content: content[: len(content) // 2],
    "last byte missing": lambda content: content[:-1],
    "one byte more": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "garbage": lambda content: np.random.default_rng(0).bytes(len(content)),
    "another format": lambda content: content.replace(b"kernel 1\n", b"kernel 0\n", 1),
    "a bit of the digest": lambda content: _flipped(content, len(_cache.MAGIC) + 3),
    "a bit of the code": lambda content: _flipped(content, len(content) // 2),
    "garbage with a digest": lambda content: _sealed(b"garbage"),
    "nothing with a digest": lambda content: _sealed(b""),
    "another object": lambda content: _sealed(pickle.dumps(None)),
    "a name that is gone": lambda content: _sealed(b"cminigrad.kernels.cpu._cache\nno_such_name\n."),
    "no code": lambda content: _sealed(pickle.dumps((pickle.loads(_payload(content))[0], ()))),
    "another kernel": lambda content: _sealed(pickle.dumps((("other",), pickle.loads(_payload(content))[1]))),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_compiled_again(cache, file, damage, capsys):
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    assert doubles(not_yet_compiled())
    assert counts() == (1, 0)
    assert files(cache) == [file]
    assert file.read_bytes() != damaged
    assert doubles(not_yet_compiled())
    assert counts() == (1, 1)
    assert capsys.readouterr().err == COMPILING


def test_a_damaged_file_is_deleted_where_it_cannot_be_replaced(cache, file, monkeypatch):
    file.write_bytes(file.read_bytes()[:-1])
    monkeypatch.setattr(_cache, "_write", lambda path, payload: None)
    assert doubles(not_yet_compiled())
    assert files(cache) == []


def test_a_file_of_another_signature_is_not_run(cache, file):
    """Numba itself would run it, and read float64 numbers as float32 ones."""
    assert doubles(not_yet_compiled(), np.float64)
    (other,) = set(files(cache)) - {file}
    file.write_bytes(other.read_bytes())
    assert doubles(not_yet_compiled(), np.float32)
    assert counts() == (2, 0)


def test_a_folder_in_the_place_of_a_file(cache, file, capsys):
    file.unlink()
    file.mkdir()
    assert doubles(not_yet_compiled())
    assert files(cache) == []  # nothing half written either
    assert capsys.readouterr().err.startswith(COMPILING + CANNOT_KEEP)


def _needs_owners():
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no owners and modes of files")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_replaced(cache, file, mode):
    _needs_owners()
    file.chmod(mode)
    assert doubles(not_yet_compiled())
    assert counts() == (1, 0)
    assert file.stat().st_mode & 0o777 == 0o600
    assert doubles(not_yet_compiled())
    assert counts() == (1, 1)


def test_a_file_of_another_user_is_not_run(cache, file, monkeypatch):
    _needs_owners()
    assert cpu.compilation_stats().directory  # the folder is ours
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert doubles(not_yet_compiled())
    assert counts() == (1, 0)


@pytest.mark.parametrize("depth", [0, 1], ids=["kernels", "machine"])
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_not_used(cache, file, monkeypatch, capsys, mode, depth):
    _needs_owners()
    folder = (file.parent.parent, file.parent)[depth]
    folder.chmod(mode)
    for dtype in (np.float32, np.float64):
        assert doubles(not_yet_compiled(), dtype)
    assert counts() == (2, 0)
    assert files(cache) == [file]
    assert cpu.compilation_stats().directory is None
    why = f"{folder} is writable for other users: chmod 700 it, or delete it"
    assert capsys.readouterr().err == f"{CANNOT_KEEP}{why})\n{COMPILING}"


def test_a_folder_of_another_user_is_not_used(cache, monkeypatch, capsys):
    _needs_owners()
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert doubles(not_yet_compiled())
    assert files(cache) == []
    assert capsys.readouterr().err == f"{CANNOT_KEEP}{cache / 'kernels'} belongs to another user)\n{COMPILING}"


# ---- nowhere to keep anything ----------------------------------------------------------------------------------------


def _cannot(monkeypatch, *names):
    """A folder that can be read only: these functions of os fail. (Modes would not do: they do not stop the superuser.)"""

    def fail(path, *args, **kwargs):
        raise OSError(30, "Read-only file system", str(path))

    for name in names:
        monkeypatch.setattr(os, name, fail)


def test_a_folder_that_cannot_be_written(cache, monkeypatch, capsys):
    """Kernels are compiled in memory, with one line about it and no error."""
    assert cpu.compilation_stats().directory
    _cannot(monkeypatch, "open", "utime", "unlink")
    for dtype in (np.float32, np.float64):
        assert doubles(not_yet_compiled(), dtype)
    assert counts() == (2, 0)
    assert files(cache) == []
    errors = capsys.readouterr().err
    assert errors.startswith(COMPILING + CANNOT_KEEP)
    assert "Read-only file system" in errors
    assert errors.count("\n") == 2


def test_a_filled_folder_that_cannot_be_written_serves(cache, file, monkeypatch, capsys):
    _cannot(monkeypatch, "open", "utime", "unlink")
    assert doubles(not_yet_compiled())
    assert counts() == (0, 1)
    assert capsys.readouterr().err == ""


def test_a_folder_that_vanishes(cache, file, capsys):
    assert doubles(not_yet_compiled())
    shutil.rmtree(cache)
    for dtype in (np.float32, np.float64):
        assert doubles(not_yet_compiled(), dtype)
    assert counts() == (2, 1)
    errors = capsys.readouterr().err
    assert errors.startswith(COMPILING + CANNOT_KEEP)
    assert errors.count("\n") == 2


def full_disk() -> None:
    """No file can be longer than some kilobytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    several_types()


def test_a_full_disk(tmp_path):
    pytest.importorskip("resource", reason="this system has no limits of processes")
    process = start("-m", "tests.kernels.test_cache_damage", "full_disk", "float32", "float64", cache=tmp_path)
    output, errors = finish(process)
    assert output == [[True, True], 2]
    assert files(tmp_path) == []
    assert errors.startswith(COMPILING + CANNOT_KEEP)
    assert errors.count("\n") == 2


@pytest.mark.parametrize("quiet", ["1", "0", ""])
def test_quiet(cache, monkeypatch, capsys, quiet):
    monkeypatch.setenv("MINIGRAD_QUIET", quiet)
    cache.write_text("in the way")
    assert doubles(not_yet_compiled())
    assert cpu.compilation_stats().directory is None
    errors = capsys.readouterr().err
    if quiet == "1":
        assert errors == ""
    else:
        assert errors.startswith(CANNOT_KEEP)
        assert errors.endswith(f"{cache}')\n{COMPILING}")


def test_no_home(monkeypatch, tmp_path, capsys):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("MINIGRAD_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA", "MINIGRAD_QUIET"):
        monkeypatch.delenv(name, raising=False)
    begin(monkeypatch)
    monkeypatch.setattr(Path, "home", no_home)
    try:
        assert doubles(not_yet_compiled())
    finally:
        _cache._directory.cache_clear()
    assert capsys.readouterr().err == f"{CANNOT_KEEP}Could not determine home directory.)\n{COMPILING}"


if __name__ == "__main__":
    globals()[sys.argv[1]]()
