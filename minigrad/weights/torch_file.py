"""Files of ``torch.save`` without PyTorch: reading all three kinds (``torch_writing.py`` writes the one of today).

========  ===========  ======================================================================================================
kind      PyTorch      content
========  ===========  ======================================================================================================
zip       since 1.6    FOLDER/data.pkl, the pickle of the object; FOLDER/data/KEY, the bytes of each storage; FOLDER/byteorder
stream    0.1.10-1.5   pickles of a magic number, a version, facts of the machine, the object, the storages' keys; then each
                       storage: its number of elements (8 bytes) and its elements, little-endian
tar       before       members "storages", "tensors" (shapes and strides) and "pickle" (the object)
========  ===========  ======================================================================================================

A tensor in the pickle is a view (offset, shape, strides) of a storage that it may share with others. NumPy has no bfloat16:
such storages become float32, which holds every bfloat16 exactly. Nothing in a file is run: see ``minigrad.weights.pickles``.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minigrad.weights import pickles
from minigrad.weights.pickle_values import MAX_DIMS, Storage, View, check_size, short
from minigrad.weights.pickles import Source
from minigrad.weights.tensor_file import CheckpointError
from minigrad.weights.torch_tensors import SPARE, Maker, announced, element_of, storage_identity

__all__ = ["is_torch_file", "load_torch_file"]

MAGIC = 0x1950A86A20F9469CFC6C
ZIP_START = b"PK\x03\x04"
CHUNK = 4 << 20


def load_torch_file(path: str | os.PathLike) -> Any:
    """The object that ``torch.save`` wrote to ``path``, whatever its kind and its name: dictionaries, lists, numbers, texts,
    and a Tensor for each tensor.

    Tensors that shared memory share it again; strides are kept; bfloat16 becomes float32, float16 stays. Parameters require
    gradients. Where a tensor was (a GPU) does not matter. A torch.dtype becomes a NumPy dtype, a torch.device a text, a
    torch.Size a tuple, an OrderedDict or Counter a dictionary; NumPy arrays stay such.

    Raises FileNotFoundError, or CheckpointError for what is damaged, or asks for code to be run (such as a whole model: no
    file can make this function run anything, and there is no way to let it).
    """
    path = os.fspath(path)
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not Path(path).is_file():
        raise CheckpointError(f"{path} is not a file")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            reader = _reader(file.read(512))
            if reader is None:
                raise CheckpointError("it is neither a zip archive nor a stream nor a tar archive as torch.save wrote them")
            file.seek(0)
            return reader(file, size)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read as a PyTorch file: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None


def is_torch_file(path: str | os.PathLike) -> bool:
    """Whether the file begins as those of ``torch.save`` do; its name does not matter."""
    try:
        if not Path(path).is_file():
            return False
        with open(path, "rb") as file:
            return _reader(file.read(512)) is not None
    except OSError:
        return False


def _reader(head: bytes) -> Callable[[BinaryIO, int], Any] | None:
    """Who reads a file that begins so: a function of the file and its size."""
    if head.startswith(ZIP_START):
        return _read_zip
    if head.startswith(b"\x80") and b"\x8a\x0a" + MAGIC.to_bytes(10, "little") in head[:32]:
        return _read_stream
    if head[257:262] == b"ustar":
        return _read_tar
    return None


# ---- the zip archive -----------------------------------------------------------------------------------------------------


def _read_zip(file: BinaryIO, size: int) -> Any:
    archive = _Archive(file, size)
    pickled = [name for name in archive.entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickled) != 1:
        raise CheckpointError("the zip archive holds no single FOLDER/data.pkl")
    folder = pickled[0].removesuffix("data.pkl")
    if folder + "constants.pkl" in archive.entries:
        raise CheckpointError("it is a TorchScript archive, which holds code; save the state_dict() of the model")
    order = "little"
    if folder + "byteorder" in archive.entries:
        order = archive.bytes(folder + "byteorder", limit=16).decode("ascii", "replace")
        if order not in ("little", "big"):
            raise CheckpointError(f"its byte order is {order!r}")
    storages: dict[str, Storage] = {}

    def storage(identity: Any) -> Storage:
        key, dtype, numel = storage_identity(identity, 5)
        known = announced(storages, key, dtype, numel)
        name = f"{folder}data/{key}"
        if name not in archive.entries:
            raise CheckpointError(f"its storage {name} is missing")
        stored = archive.entries[name].file_size
        if stored != known.nbytes:
            raise CheckpointError(f"its storage {name} has {stored} bytes instead of {known.nbytes}")
        return known

    content = archive.bytes(pickled[0])
    source = Source(io.BytesIO(content), len(content))
    value = pickles.load(source, storage)
    if source.left:
        raise CheckpointError(f"{source.left} bytes follow its pickle")
    for key, known in storages.items():
        known.content = archive.array(f"{folder}data/{key}")
    return Maker(order, len(content)).plain(value)


class _Archive:
    """A zip archive whose sizes were compared with the file's before anything is read, with errors that are CheckpointErrors."""

    def __init__(self, file: BinaryIO, size: int):
        try:
            self.zip = zipfile.ZipFile(file)
            infos = self.zip.infolist()
        except _ZIP_ERRORS as error:
            raise CheckpointError(_truncated(error)) from None
        self.entries = {info.filename: info for info in infos}
        if len(self.entries) != len(infos):
            raise CheckpointError("the zip archive holds two entries of the same name")
        for info in infos:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                raise CheckpointError(f"the zip entry {info.filename[:80]!r} is encrypted or compressed in an unknown way")
            if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
                raise CheckpointError(f"the zip entry {info.filename[:80]!r} has two different sizes")
        packed, unpacked = sum(info.compress_size for info in infos), sum(info.file_size for info in infos)
        if packed > size:
            raise CheckpointError(
                f"its zip entries claim {packed} bytes, the file has {size}: truncated, damaged, or of another kind"
            )
        if unpacked > 8 * size + SPARE:
            raise CheckpointError(f"its zip entries claim to expand to {unpacked} bytes, far more than the file's {size}")

    def array(self, name: str) -> np.ndarray:
        """The bytes of an entry, in memory of their own."""
        info = self.entries[name]
        array = np.empty(info.file_size, np.uint8)
        done = 0
        try:
            with self.zip.open(info) as entry:
                while chunk := entry.read(CHUNK):  # the last read compares the checksum
                    if done + len(chunk) > len(array):
                        raise CheckpointError(f"the zip entry {name[:80]!r} is longer than it says")
                    array[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
                    done += len(chunk)
        except _ZIP_ERRORS as error:
            raise CheckpointError(_truncated(error)) from None
        if done < len(array):
            raise CheckpointError(f"the zip entry {name[:80]!r} is shorter than it says")
        return array

    def bytes(self, name: str, limit: int | None = None) -> bytes:
        if limit is not None and self.entries[name].file_size > limit:
            raise CheckpointError(f"the zip entry {name[:80]!r} is too long")
        return self.array(name).tobytes()


# What zipfile raises for archives that are damaged or use features that it lacks.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    IndexError,
    KeyError,
    struct.error,
)


def _truncated(error: Exception) -> str:
    return f"the zip archive is not whole ({str(error)[:100]}): truncated, damaged, or of another kind"


# ---- the stream ----------------------------------------------------------------------------------------------------------


def _read_stream(file: BinaryIO, size: int) -> Any:
    source = Source(file, size)
    storages: dict[str, Storage] = {}

    def storage(identity: Any) -> Storage:
        key, dtype, numel = storage_identity(identity, 6)
        return _part(announced(storages, key, dtype, numel), identity[5])

    magic, version, facts = (pickles.load(source) for _ in range(3))
    if magic != MAGIC or version != 1001 or type(facts) is not dict:
        raise CheckpointError(f"it does not begin as a stream of version 1001 does (but with {short(version)})")
    before = source.left
    value = pickles.load(source, storage)
    length = before - source.left
    keys = pickles.load(source)
    if type(keys) is not list or any(type(key) is not str for key in keys) or sorted(keys) != sorted(storages):
        raise CheckpointError("its list of storages does not fit its tensors")
    for key in keys:
        _fill(storages[key], source)
    if source.left:
        raise CheckpointError(f"{source.left} bytes follow its last storage")
    return Maker("little", length).plain(value)  # storages are so, whatever the machine was


def _part(storage: Storage, place: Any) -> Storage:
    """Files of before 2018 name parts of storages: (name, offset, number of elements)."""
    if place is None:
        return storage
    if type(place) is not tuple or len(place) != 3:
        raise CheckpointError(f"a part of a storage is {short(place)}")
    return storage.part(place[1], place[2])


def _fill(storage: Storage, source: Source) -> None:
    """Read the number of elements, which must be the announced one, and the elements."""
    numel = source.integer(8, signed=True)
    if numel != storage.numel:
        raise CheckpointError(f"a storage has {numel} elements instead of {storage.numel}")
    storage.content = _take(source, storage.nbytes)


def _take(source: Source, n: int) -> np.ndarray:
    if n > source.left:
        raise CheckpointError(f"it ends too early: {n} more bytes are announced, {source.left} are left")
    array = np.empty(n, np.uint8)
    if source.file.readinto(memoryview(array)) != n:
        raise CheckpointError("it ends too early")
    source.left -= n
    return array


# ---- the tar archive -----------------------------------------------------------------------------------------------------


def _read_tar(file: BinaryIO, size: int) -> Any:
    members = _tar_members(file, size)
    missing = [name for name in ("storages", "tensors", "pickle") if name not in members]
    if missing:
        raise CheckpointError(f"the tar archive has no member {missing[0]!r}")
    made: dict[int, Storage | View] = {}

    source = _member(file, members["storages"])
    for _ in range(_count(pickles.load(source))):
        key, _, kind = _tuple_of(pickles.load(source), 3)
        dtype = element_of(kind, "Storage")
        made[_key(key)] = storage = Storage(dtype, source.integer(8, signed=True))
        storage.content = _take(source, storage.nbytes)
    views = pickles.load(source)
    for view in views if type(views) is list else _tuple_of(views, 0):
        target, root, offset, numel = _tuple_of(view, 4)
        made[_key(target)] = _storage(made, root).part(offset, numel)

    source = _member(file, members["tensors"])
    for _ in range(_count(pickles.load(source))):
        key, storage, _ = _tuple_of(pickles.load(source), 3)
        dims = source.integer(4)
        source.read(4)  # what was once the other half of the number of dimensions
        if dims > MAX_DIMS:
            raise CheckpointError(f"a tensor has {dims} dimensions")
        shape, strides = (tuple(source.integer(8, signed=True) for _ in range(dims)) for _ in range(2))
        made[_key(key)] = View(_storage(made, storage), source.integer(8, signed=True), shape, strides)

    def outside(identity: Any) -> Storage | View:
        found = made.get(_key(identity))
        if found is None:
            raise CheckpointError(f"its pickle names {short(identity)}, which the archive does not hold")
        return found

    return Maker("little", members["pickle"][1]).plain(pickles.load(_member(file, members["pickle"]), outside))


def _tar_members(file: BinaryIO, size: int) -> dict[str, tuple[int, int]]:
    """Name -> (where it begins, its size) of the ordinary files in the archive."""
    members: dict[str, tuple[int, int]] = {}
    position = 0
    while position + 512 <= size:
        file.seek(position)
        head = file.read(512)
        if not any(head):
            break
        if len(members) >= 100:
            raise CheckpointError("the tar archive has more members than a PyTorch file")
        try:
            length, checksum = (int(field.strip(b" \0") or b"0", 8) for field in (head[124:136], head[148:156]))
        except ValueError:
            raise CheckpointError("a header of the tar archive is damaged") from None
        if checksum != sum(head[:148] + b" " * 8 + head[156:]) or not 0 <= length <= size - position - 512:
            raise CheckpointError("a header of the tar archive is damaged, or the archive is truncated")
        if head[156:157] in (b"0", b"\0"):
            name = head[:100].rstrip(b"\0").decode("utf-8", "replace").removeprefix("./")
            if name in members:
                raise CheckpointError(f"the tar archive holds two members {name[:80]!r}")
            members[name] = position + 512, length
        position += 512 + -(-length // 512) * 512
    return members


def _member(file: BinaryIO, place: tuple[int, int]) -> Source:
    file.seek(place[0])
    return Source(file, place[1])


def _count(value: Any) -> int:
    return check_size(value, "the number of storages or tensors")


def _tuple_of(value: Any, n: int) -> tuple:
    if type(value) not in (tuple, list) or len(value) != n:
        raise CheckpointError(f"the tar archive has {short(value)} where {n} values belong")
    return tuple(value)


def _key(value: Any) -> int:
    """The number by which a storage or tensor is called, perhaps as a text."""
    if type(value) in (str, bytes) and len(value) <= 20 and value.isdigit() and value.isascii():
        value = int(value)
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise CheckpointError(f"a storage or tensor is called {short(value)}")
    return value


def _storage(made: Mapping[int, Storage | View], key: Any) -> Any:
    found = made.get(_key(key))
    if type(found) is not Storage:
        raise CheckpointError(f"the tar archive has no storage {short(key)}")
    return found
