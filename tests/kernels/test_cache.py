"""Compiled kernels on disk: found again by the next process, compiled anew after an edit, kept in the right place."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from minigrad.kernels import cpu
from minigrad.kernels.cpu import _cache
from tests.kernels.caching import CANNOT_KEEP, COMPILING, begin, counts, files
from tests.kernels.small import ROOT, doubles, finish, not_yet_compiled, start

# ---- from one process to the next ------------------------------------------------------------------------------------


def two_builds() -> None:
    """Run a kernel of the framework in both builds; print the digest of the results, and what was compiled."""
    sha = hashlib.sha256()
    for side in (10, 200):
        gy = np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32)
        sha.update(cpu.conv2d_backward_bias(gy).tobytes())
    print(json.dumps([sha.hexdigest(), vars(cpu.compilation_stats())]))


def test_the_next_process_compiles_nothing(tmp_path):
    """And says nothing: the line about compiling comes once, from the process that compiles."""
    results = [
        finish(start("-m", "tests.kernels.test_cache", "two_builds", cache=tmp_path, NUMBA_NUM_THREADS="2")) for _ in range(2)
    ]
    (first, first_stats), (second, second_stats) = (output for output, _ in results)
    assert first == second
    assert (first_stats["compiled"], first_stats["loaded"]) == (2, 0)
    assert (second_stats["compiled"], second_stats["loaded"]) == (0, 2)
    assert [errors for _, errors in results] == [COMPILING, ""]
    assert len(files(tmp_path)) == 2
    assert {path.parent for path in files(tmp_path)} == {Path(first_stats["directory"])} == {Path(second_stats["directory"])}


def test_importing_compiles_nothing_and_makes_no_folder(tmp_path):
    code = "import minigrad.kernels.cpu.convolution, minigrad.kernels.cpu._cache as c; print(c._stats.compiled + c._stats.loaded)"
    assert finish(start("-c", code, cache=tmp_path / "cache")) == (0, "")
    assert not (tmp_path / "cache").exists()


def test_a_signature_is_compiled_once(cache, capsys):
    for dtype in (np.float32, np.float64, np.float32):
        assert doubles(not_yet_compiled(), dtype)
    assert counts() == (2, 1)
    assert len(files(cache)) == 2
    assert capsys.readouterr().err == COMPILING


def test_python_threads_compile_a_kernel_once(cache):
    kernel, right, gate = not_yet_compiled(), [], threading.Barrier(4)

    def run():
        gate.wait()
        right.append(doubles(kernel))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4
    assert counts() == (1, 0)


def test_only_the_user_can_read_and_write(cache):
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no owners and modes of files")
    previous = os.umask(0)
    try:
        assert doubles(not_yet_compiled())
    finally:
        os.umask(previous)
    (file,) = files(cache)
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent, file.parent.parent)] == [0o600, 0o700, 0o700]


def test_flush_and_disable(cache):
    kernel = not_yet_compiled()
    assert doubles(kernel)
    assert doubles(kernel, np.float64)
    keeper = kernel.serial._cache
    assert (keeper.cache_path, len(files(cache))) == (cpu.compilation_stats().directory, 2)
    keeper.flush()
    assert files(cache) == []
    other = not_yet_compiled()
    other.serial._cache.disable()
    assert doubles(other)
    assert files(cache) == []
    other.serial._cache.enable()
    assert doubles(other, np.float64)
    assert len(files(cache)) == 1


# ---- an edited kernel ------------------------------------------------------------------------------------------------


def test_an_edit_of_any_file_that_a_kernel_sees_compiles_it_anew(tmp_path):
    """In a copy of the kernels under another name: a kernel takes a function from one file, which takes a number from another."""
    package = tmp_path / "copied"
    shutil.copytree(ROOT / "kernels", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "numbers.py").write_text("FACTOR = 2.0\n")
    (package / "cpu" / "_scaled.py").write_text(
        "from ..numbers import FACTOR\nfrom ._compiler import device_function\n\n\n"
        "@device_function\ndef scaled(x):\n    return FACTOR * x\n"
    )
    (package / "cpu" / "scale.py").write_text(
        "from ._compiler import kernel, prange\nfrom ._scaled import scaled\n\n\n"
        "@kernel\ndef scale(x, y):\n    for i in prange(x.shape[0]):\n        y[i] = scaled(x[i])\n"
    )
    code = """
import json, numpy as np
from copied.cpu import compilation_stats, scale
x, y = np.ones((2, 3))
scale.scale(x, y, work=1)
print(json.dumps([y.tolist(), compilation_stats().compiled]))
"""

    def run():
        return finish(start("-c", code, cache=tmp_path / "cache", cwd=tmp_path))[0]

    assert run() == [[2.0, 2.0, 2.0], 1]
    (package / "numbers.py").write_text("FACTOR = 3.0\n")
    assert run() == [[3.0, 3.0, 3.0], 1]
    (package / "numbers.py").write_text("FACTOR = 2.0\n")  # an old version is found again,
    (package / "cpu" / "pooling.py").write_text((package / "cpu" / "pooling.py").read_text() + "\n")  # and this it does not see
    assert run() == [[2.0, 2.0, 2.0], 0]


SOURCES = {
    "kernel.py": "from ._near import a\nfrom .pack import b, inner\nfrom .pack.deep import c\nfrom . import _sibling",
    "_near.py": "from ..outer import x\nfrom . import _circle",
    "_circle.py": "from . import _near, kernel",
    "_sibling.py": "def f():\n    from ._lazy import late",
    "_lazy.py": "late = 1",
    "__init__.py": "from . import _unseen",
    "_unseen.py": "import math\nfrom kernel import nothing",
    "pack/__init__.py": "b = 1",
    "pack/deep.py": "c = 1",
    "pack/inner.py": "from . import here",
    "pack/here/__init__.py": "from .. import NUMBER",
    "pack/unseen.py": "d = 1",
    "../outer.py": "x = 1",
    "../unseen.py": "y = 1",
}


@pytest.fixture
def sources(tmp_path):
    """A package of files that import one another, as old as files on a disk are."""
    folder = tmp_path / "house" / "cpu"
    for name, text in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _edit(folder / name, text)
    return folder


def _edit(path, text, age=3600.0):
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)


def test_which_files_a_kernel_sees(sources):
    seen = set()
    for name, text in SOURCES.items():
        before = _cache._source_hash(str(sources / "kernel.py"))
        _edit(sources / name, text + "\n# edited")
        if _cache._source_hash(str(sources / "kernel.py")) != before:
            seen.add(name)
    assert {name for name in SOURCES if "unseen" in name} | {"__init__.py"} == SOURCES.keys() - seen


def test_the_compiler_is_one_of_them(sources, monkeypatch):
    """Also for a kernel in a file that names it by an absolute import, as tests and notebooks do."""
    monkeypatch.setattr(_cache, "__file__", str(sources / "_cache.py"))
    _edit(sources / "_compiler.py", "FASTMATH = 1")
    before = _cache._source_hash(str(sources / "kernel.py"))
    _edit(sources / "_compiler.py", "FASTMATH = 2")
    assert _cache._source_hash(str(sources / "kernel.py")) not in (before, None)


def test_a_name_that_is_no_module_comes_from_the_package(sources):
    _edit(sources / "kernel.py", "from . import FACTOR")
    before = _cache._source_hash(str(sources / "kernel.py"))
    _edit(sources / "__init__.py", "FACTOR = 2")
    assert _cache._source_hash(str(sources / "kernel.py")) != before


def test_two_files_that_change_places_are_an_edit(sources):
    before = _cache._source_hash(str(sources / "kernel.py"))
    _edit(sources / "pack/__init__.py", SOURCES["pack/deep.py"])
    _edit(sources / "pack/deep.py", SOURCES["pack/__init__.py"])
    assert _cache._source_hash(str(sources / "kernel.py")) != before


def test_the_place_and_the_time_of_the_files_do_not_matter(sources, tmp_path):
    copied = shutil.copytree(sources.parent, tmp_path / "elsewhere") / "cpu"
    before = _cache._source_hash(str(copied / "kernel.py"))
    assert before == _cache._source_hash(str(sources / "kernel.py"))
    _edit(copied / "kernel.py", SOURCES["kernel.py"], age=7200)
    assert before == _cache._source_hash(str(copied / "kernel.py"))


def test_sources_that_cannot_be_known(sources):
    """A file that changed after it was imported, that is gone, or that is no Python: then no name is safe."""
    path = str(sources / "kernel.py")
    _edit(sources / "_lazy.py", "late = 2", age=-5.0)
    assert _cache._source_hash(path) is None
    _edit(sources / "_lazy.py", "late = ")
    assert _cache._source_hash(path) is None
    _edit(sources / "_lazy.py", "late = 2")
    assert _cache._source_hash(path)
    assert _cache._source_hash(str(sources / "missing.py")) is None
    assert _cache._source_hash("<stdin>") is None


def test_a_kernel_that_was_edited_after_python_started_is_not_kept(cache, tmp_path, monkeypatch, capsys):
    """The code in memory may be older than the file."""
    file = tmp_path / "edited_after_the_start.py"
    file.write_text(
        "from minigrad.kernels.cpu._compiler import kernel, prange\n\n\n"
        "@kernel\ndef double(x, y):\n    for i in prange(x.shape[0]):\n        y[i] = 2 * x[i]\n"
    )
    os.utime(file, (time.time() + 5,) * 2)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert doubles(importlib.import_module("edited_after_the_start").double)
    finally:
        sys.modules.pop("edited_after_the_start", None)
    assert files(cache) == []
    why = "the sources of edited_after_the_start.double are not files, or were changed after Python started"
    assert capsys.readouterr().err == f"{COMPILING}{CANNOT_KEEP}{why})\n"


# ---- where, and how much ---------------------------------------------------------------------------------------------


def test_where_the_folder_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", "~/mine")
    assert _cache._root() == tmp_path / "mine" / "kernels"
    monkeypatch.delenv("MINIGRAD_CACHE_DIR")
    if os.name != "nt":
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert _cache._root() == tmp_path / "xdg" / "minigrad" / "kernels"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert _cache._root() == tmp_path / ".cache" / "minigrad" / "kernels"
        monkeypatch.setattr(sys, "platform", "darwin")
        assert _cache._root() == tmp_path / "Library" / "Caches" / "minigrad" / "kernels"
    else:
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
        assert _cache._root() == tmp_path / "local" / "minigrad" / "kernels"


def test_a_relative_folder_stays_where_it_is(cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", "cache")
    assert doubles(not_yet_compiled())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert doubles(not_yet_compiled())
    assert counts() == (1, 1)


@pytest.mark.parametrize(
    ("target", "name", "value"), [("config", "OPT", 1), ("config", "BOUNDSCHECK", 1), ("numba", "__version__", "0")]
)
def test_another_machine_has_another_folder(cache, monkeypatch, target, name, value):
    ours = cpu.compilation_stats().directory
    monkeypatch.setattr(getattr(_cache, target), name, value)
    _cache._directory.cache_clear()
    assert Path(cpu.compilation_stats().directory).parent == Path(ours).parent
    assert cpu.compilation_stats().directory != ours


def _age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_least_recently_used_go_first(cache, file, monkeypatch):
    """At most LIMIT bytes stay, of all machines and versions together; a use makes a kernel young."""
    others = {}
    for folder, age in ((file.parent, 5000), (cache / "kernels" / "another", 4000), (cache / "kernels" / "another", 2000)):
        folder.mkdir(exist_ok=True)
        others[age] = folder / f"{age}.kernel"
        others[age].write_bytes(bytes(10**6))
        _age(others[age], age)
    _age(file, 3000)
    assert doubles(not_yet_compiled())
    assert counts() == (0, 1)

    monkeypatch.setattr(_cache, "LIMIT", 3_500_000)
    assert doubles(not_yet_compiled(), np.float64)  # room for all
    assert len(files(cache)) == 5

    for limit, left in ((2_500_000, (4000, 2000)), (900_000, ())):
        begin(monkeypatch)
        monkeypatch.setattr(_cache, "LIMIT", limit)
        assert doubles(not_yet_compiled(), np.int32 if left else np.int16)
        assert {age for age, path in others.items() if path.exists()} == set(left)
        assert file.exists()


def test_abandoned_files_go(cache, monkeypatch):
    """What a writer left half written; not what another one may be writing now, nor what is not ours."""
    directory = Path(cpu.compilation_stats().directory)
    names = {"old.tmp": 4000, "new.tmp": 60, "old.txt": 4000}
    for name, age in names.items():
        (directory / name).write_bytes(b"half")
        _age(directory / name, age)
    assert doubles(not_yet_compiled())
    assert {path.name for path in files(cache) if path.suffix != ".kernel"} == {"new.tmp", "old.txt"}


if __name__ == "__main__":
    globals()[sys.argv[1]]()
