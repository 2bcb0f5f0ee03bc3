"""Downloading a data file: mirrors, resume, progress, a pinned SHA-256; a file gets its name only when it is verified."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from minigrad.data.files import DataError, MissingDataError

__all__ = ["RemoteFile", "download", "how_to_get"]

CHUNK = 1 << 18  # bytes
TIMEOUT = 30  # seconds without a byte
ATTEMPTS = 5  # per mirror: a dropped connection is resumed where it broke off, as long as bytes were gained


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web: its ``name``, the ``mirrors`` (URLs of the folders that hold it), its SHA-256 and size in bytes."""

    name: str
    mirrors: tuple[str, ...]
    sha256: str
    size: int

    @property
    def urls(self) -> list[str]:
        return [mirror + self.name for mirror in self.mirrors]


def how_to_get(file: RemoteFile, folder: Path) -> str:
    """The sentence that tells a user how to get a file by hand."""
    return f"fetch {' or '.join(file.urls)} and put it into {folder}"


def download(file: RemoteFile, folder: Path) -> Path:
    """Fetch ``file`` into ``folder`` (made if needed) and return its path; a file that is already there is kept.

    The bytes go to ``NAME.part`` first. A later call continues an interrupted one (HTTP Range), on any mirror; the finished
    part is compared with the pinned SHA-256 and only then renamed. Two processes that want the same file take turns.

    Raises MissingDataError if no mirror gives the right file (the message says how to get it by hand), and DataError if
    the folder cannot be written to; the part that was fetched so far is kept.
    """
    target, part = folder / file.name, folder / (file.name + ".part")
    if target.is_file():
        return target
    with _writing(part):
        folder.mkdir(parents=True, exist_ok=True)
        stream = open(part, "a+b", buffering=0)  # noqa: SIM115 (closed below). Unbuffered: closing never writes, so never fails
    with stream:
        _wait_for_lock(stream)
        problems = [] if target.is_file() else _fetch_from_any(file, stream, part)
    if problems:
        raise MissingDataError(
            f"{file.name} could not be downloaded ({'; '.join(problems)}). By hand: {how_to_get(file, folder)}"
        )
    if target.is_file():  # another process fetched it while this one waited
        part.unlink(missing_ok=True)
        return target
    try:
        with _writing(part):
            os.replace(part, target)
    except DataError:
        if not target.is_file():  # it is there if the process that was next in turn has just renamed the part
            raise
    return target


def _fetch_from_any(file: RemoteFile, stream: BinaryIO, part: Path) -> list[str]:
    """Fill ``stream`` from the first mirror that works; returns nothing once its content is verified, else what went wrong."""
    problems = []
    for url in file.urls:
        problem = _fetch(url, file, stream, part)
        if problem is None:
            with _writing(part):
                os.fsync(stream.fileno())
            return []
        problems.append(f"{url}: {problem}")
    return problems


def _fetch(url: str, file: RemoteFile, stream: BinaryIO, part: Path) -> str | None:
    """Fill ``stream`` from one mirror; returns None once its content is verified, else what went wrong."""
    for _ in range(ATTEMPTS):
        before = stream.seek(0, os.SEEK_END)
        try:
            problem = _receive(url, file, stream, part)
        except urllib.error.HTTPError as error:
            error.close()
            return f"HTTP status {error.code} {error.reason}"
        except (OSError, HTTPException) as error:  # URLError, timeouts and resets are OSErrors
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        if problem is None and _sha256(stream) == file.sha256:
            return None
        if problem is None:
            problem = "the file there is not the expected one (its SHA-256 differs)"
            with _writing(part):
                stream.truncate(0)
            if not before:
                return problem  # else the part found here was bad: once more from the beginning
        elif stream.seek(0, os.SEEK_END) <= before:
            return problem  # no byte was gained: the next mirror
    return problem


def _receive(url: str, file: RemoteFile, stream: BinaryIO, part: Path) -> str | None:
    """Append what is missing; returns None when ``file.size`` bytes are there, else what went wrong."""
    done = stream.seek(0, os.SEEK_END)
    if done == file.size:
        return None
    if done > file.size:
        done = 0
    request = urllib.request.Request(url, headers={"User-Agent": "minigrad", "Accept-Encoding": "identity"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, _bar(file, done) as bar:
        if not (response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")):
            done = 0  # the server sends the file from its beginning
            bar.reset(file.size)
        with _writing(part):
            stream.truncate(done)
        while chunk := response.read(CHUNK):
            done += len(chunk)
            if done > file.size:
                with _writing(part):
                    stream.truncate(0)
                return f"it sends more than the expected {file.size:,} bytes"
            with _writing(part):
                _append(stream, chunk)
            bar.update(len(chunk))
    return None if done == file.size else f"the connection ended after {done:,} of {file.size:,} bytes"


def _append(stream: BinaryIO, chunk: bytes) -> None:
    """Write all of ``chunk``: an unbuffered file may take only a part of it at a time."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[stream.write(rest) :]


def _sha256(stream: BinaryIO) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


class _CannotWrite(DataError):
    """Raised by ``_writing``; no OSError, so that a full disk is never taken for a network problem and tried again."""


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _CannotWrite(
            f"cannot write {path}: {error.strerror or error}. Choose another folder with root= or MINIGRAD_DATA"
        ) from None


def _wait_for_lock(stream: BinaryIO) -> None:
    """Hold an exclusive lock on the open file until it is closed, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # Windows: two downloads at once spoil each other's part, which the checksum then finds
        return
    with suppress(OSError):  # some network file systems have no locks
        fcntl.flock(stream, fcntl.LOCK_EX)


def _bar(file: RemoteFile, done: int):
    from tqdm.auto import tqdm

    return tqdm(total=file.size, initial=done, unit="B", unit_scale=True, desc=file.name, disable=None, leave=False)
