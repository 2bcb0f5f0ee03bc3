"""Finding data files and reading them with suspicion: sizes are known beforehand, and nothing beyond them is read or unpacked."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["DataError", "MissingDataError", "at_end", "data_root", "fill", "find_file", "open_data"]

GZIP_MAGIC = b"\x1f\x8b"


class DataError(ValueError):
    """A data file that cannot be used: truncated, damaged, foreign, unreadable. The message names the file and what is wrong."""


class MissingDataError(DataError, FileNotFoundError):
    """A data set whose files are not there. The message says which file to fetch from where, and where to put it."""


def data_root(root: str | os.PathLike | None = None) -> Path:
    """The folder of data sets: ``root``, else the environment variable MINIGRAD_DATA, else ``~/.cache/minigrad/data``."""
    if root is not None and not isinstance(root, (str, os.PathLike)):
        raise TypeError(f"root must be the path of a folder or None, got {root!r}")
    if root is None:
        root = os.environ.get("MINIGRAD_DATA")
    if root:
        return Path(root).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "minigrad" / "data"


def find_file(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    """The first regular file with one of ``names`` in one of ``folders`` (folder by folder), or None."""
    names = tuple(names)
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


@contextmanager
def open_data(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` for reading; a file that begins as a gzip file is unpacked on the way, whatever its name.

    What goes wrong while it is open (unreadable, damaged or truncated gzip data) is raised as a DataError that names the file.
    """
    try:
        with open(path, "rb") as raw:
            if raw.peek(2)[:2] == GZIP_MAGIC:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield unpacked
            else:
                yield raw
    except EOFError:
        raise DataError(f"{path} is truncated: its gzip data end early. Delete it and fetch it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}. Delete it and fetch it again") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def fill(stream: BinaryIO, array: np.ndarray, path: Path) -> np.ndarray:
    """Read exactly ``array.nbytes`` bytes into ``array`` (uint8, C-contiguous); raises DataError if fewer are there."""
    view, done = memoryview(array).cast("B") if array.size else memoryview(b""), 0
    while done < array.nbytes:
        count = stream.readinto(view[done:])
        if not count:
            raise DataError(f"{path} is truncated: {done:,} of {array.nbytes:,} bytes of data. Delete it and fetch it again")
        done += count
    return array


def at_end(stream: BinaryIO, path: Path) -> None:
    """Raise DataError if anything is left to read (reading the end also verifies a gzip file's checksum)."""
    if stream.read(1):
        raise DataError(f"{path} holds more data than its format says: it is damaged or another file")
