"""Replacing a file so that, whatever happens, either the old or the new content is there, whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["remove_leftovers", "write_atomically"]


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Make ``data`` the content of the file ``path``.

    It goes to a temporary file in the same folder, is forced to the disk, and then takes the name of the old file in one step:
    a crash, a kill or a full disk at any moment leaves the old file as it was. Raises OSError that names the path.
    """
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(target.parent)
    except OSError as error:
        kept = "; the old file is unchanged" if target.exists() else ""
        raise OSError(error.errno, f"cannot write {os.fspath(path)}: {os.strerror(error.errno or 0)}{kept}") from None


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Delete the temporary files that killed processes left in ``folder``."""
    for leftover in Path(folder).glob(".*.tmp"):
        parts = leftover.name.rsplit(".", 2)
        if len(parts) == 3 and parts[1].isdigit():
            leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Force the new name to the disk, where the system can do that for a folder (Windows and some network drives cannot)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
