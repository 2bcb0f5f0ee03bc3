"""Reading members of a tar archive in memory. Nothing is unpacked to disk, so no name or link in the archive can do harm."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from minigrad.data.files import DataError, fill, open_data

__all__ = ["read_members"]

CHUNK = 1 << 18  # bytes


def read_members(path: Path, names: Sequence[str], size: int, limit: int) -> list[np.ndarray]:
    """The members ``names`` (exactly these names) of a tar archive, plain or gzip-compressed: uint8 arrays of ``size`` bytes.

    The archive is read once, front to back, to its end (which verifies gzip's checksum) but no further than ``limit`` bytes.
    Raises DataError that names the file if it is no such archive, damaged or truncated, unpacks to more than ``limit`` bytes,
    lacks a member, or if a member is no regular file of ``size`` bytes.
    """
    found: dict[str, np.ndarray] = {}
    try:
        with open_data(path) as unlimited:
            stream = _Capped(unlimited, limit, path)
            with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar:
                for member in tar:
                    name = member.name.removeprefix("./")
                    if name in names and name not in found:
                        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.size != size:
                            raise DataError(f"{path} is another archive: {name} in it is no file of {size:,} bytes")
                        found[name] = fill(tar.extractfile(member), np.empty(size, np.uint8), path)
            while stream.read(CHUNK):  # only zeros are left, and gzip's checksum behind them
                pass
    except tarfile.TarError as error:
        raise DataError(f"{path} is not a readable tar archive: {error}") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{path} is another archive, or truncated: {missing[0]} is not in it")
    return [found[name] for name in names]


class _Capped:
    """A stream that gives at most ``limit`` bytes, then raises DataError: a small archive cannot unpack without end.

    It also raises when it is read on and on beyond its end, as tarfile does to skip a member that claims a huge size.
    """

    def __init__(self, stream: BinaryIO, limit: int, path: Path):
        self.stream, self.limit, self.left, self.path = stream, limit, limit, path
        self.reads_at_end = 0

    def read(self, size: int) -> bytes:
        chunk = self.stream.read(min(size, self.left + 1))
        self.left -= len(chunk)
        if self.left < 0:
            raise DataError(f"{self.path} unpacks to more than {self.limit:,} bytes: it is damaged or another file")
        if not chunk:
            self.reads_at_end += 1
            if self.reads_at_end > 100:
                raise DataError(f"{self.path} is damaged: a member of the archive goes beyond its end")
        return chunk
