"""The IDX format of MNIST and its relatives: bytes 0, 0, type, number of dimensions; sizes (big-endian uint32); the data.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits", section "The IDX file format".
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from minigrad.data.files import DataError, at_end, fill, open_data

__all__ = ["read_idx"]

UNSIGNED_BYTE = 0x08


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 array of ``shape`` in an IDX file, plain or gzip-compressed.

    The declared type and sizes are compared with ``shape`` before anything is allocated, so a file cannot ask for memory.
    Raises DataError that names the file if it is unreadable, truncated, too long, damaged, or holds something else.
    """
    with open_data(path) as stream:
        header = stream.read(4 + 4 * len(shape))
        _check_header(header, shape, path)
        array = fill(stream, np.empty(shape, np.uint8), path)
        at_end(stream, path)
    return array


def _check_header(header: bytes, shape: tuple[int, ...], path: Path) -> None:
    if not header:
        raise DataError(f"{path} is empty: delete it and fetch it again")
    magic = bytes([0, 0, UNSIGNED_BYTE, len(shape)])
    if header[:4] != magic:
        page = header.lstrip()[:1] == b"<"
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes in {len(shape)} dimensions: it begins with {header[:4].hex(' ')}, "
            f"expected {magic.hex(' ')}" + (" (it looks like a web page: was the download refused?)" if page else "")
        )
    if len(header) < 4 + 4 * len(shape):
        raise DataError(f"{path} is truncated within its header: delete it and fetch it again")
    sizes = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
    if sizes != shape:
        raise DataError(
            f"{path} declares {_product(sizes)}, expected {_product(shape)} ({math.prod(shape):,} bytes): is it another file?"
        )


def _product(sizes: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in sizes)
