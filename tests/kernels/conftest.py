"""Cache folders for the tests of the kernel cache."""

from __future__ import annotations

import shutil

import pytest

from minigrad.kernels.cpu import _cache
from tests.kernels.caching import begin, files
from tests.kernels.small import doubles, not_yet_compiled


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder for this process, not made yet, and this process as if it had just begun."""
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("MINIGRAD_QUIET", raising=False)
    begin(monkeypatch)
    yield tmp_path / "cache"
    _cache._directory.cache_clear()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache folder that holds ``double``, compiled for float32."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(folder))
        begin(monkeypatch)
        assert doubles(not_yet_compiled())
        _cache._directory.cache_clear()
    return folder


@pytest.fixture
def file(cache, compiled, monkeypatch):
    """The file of ``double`` for float32 in this process's cache folder."""
    shutil.copytree(compiled, cache)
    (file,) = files(cache)
    return file
