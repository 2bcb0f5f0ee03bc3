"""IDX and CIFAR files: right values from every accepted place, and one clear error for everything else."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import TinyCIFAR10, TinyCIFAR100, TinyMNIST, cifar_batches, idx_bytes, tar_bytes, write_idx

from minigrad.data import KMNIST, MNIST, DataError, FashionMNIST, MissingDataError
from minigrad.data.idx import read_idx

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


# ---- IDX --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "TinyMNIST", "TinyMNIST/raw", "mnist"])
@pytest.mark.parametrize("compress", [True, False])
def test_idx_files_are_found_and_read(tmp_path, place, compress):
    arrays = write_idx(tmp_path / place, compress)
    for train, prefix in ((True, "train"), (False, "t10k")):
        data = TinyMNIST(tmp_path, train)
        assert data.images.shape == (TinyMNIST.sizes[0 if train else 1], 1, 28, 28)
        np.testing.assert_array_equal(data.images[:, 0], arrays[f"{prefix}-images-idx3-ubyte"])
        np.testing.assert_array_equal(data.labels, arrays[f"{prefix}-labels-idx1-ubyte"])
        assert data.labels.dtype == np.int64


def test_gzip_is_recognized_by_content_not_by_name(tmp_path):
    arrays = write_idx(tmp_path)
    for name in arrays:
        (tmp_path / (name + ".gz")).rename(tmp_path / name)
    np.testing.assert_array_equal(TinyMNIST(tmp_path).labels, arrays[LABELS])


def test_folder_comes_from_the_environment(tmp_path, monkeypatch):
    arrays = write_idx(tmp_path)
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    np.testing.assert_array_equal(TinyMNIST(train=False).labels, arrays["t10k-labels-idx1-ubyte"])


def test_missing_file_says_what_to_fetch_and_where_to_put_it(tmp_path):
    write_idx(tmp_path)
    (tmp_path / (IMAGES + ".gz")).unlink()
    with pytest.raises(MissingDataError) as caught:
        TinyMNIST(tmp_path)
    message = str(caught.value)
    assert f"https://ossci-datasets.s3.amazonaws.com/mnist/{IMAGES}.gz" in message
    assert str(tmp_path / "TinyMNIST" / "raw") in message
    assert "\n" not in message
    assert isinstance(caught.value, FileNotFoundError)
    assert list(tmp_path.glob("TinyMNIST")) == []  # nothing was made


def corrupt(data: bytes, how: str) -> bytes:
    if how == "flipped bit":
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
    return {
        "empty": b"",
        "magic only": data[:4],
        "header only": data[:16],
        "short": data[:-1],
        "long": data + b"x",
        "web page": b"<!DOCTYPE html><html>403 Forbidden</html>",
        "float type": data[:2] + b"\x0d" + data[3:],
        "dimensions": data[:3] + b"\x02" + data[4:],
    }[how]


RAW_DAMAGE = {
    "empty": "is empty",
    "magic only": "truncated within its header",
    "header only": "truncated: 0 of 9,408",
    "short": "truncated: 9,407 of 9,408",
    "long": "more data",
    "web page": "web page",
    "float type": "begins with 00 00 0d 03",
    "dimensions": "begins with 00 00 08 02",
}


@pytest.mark.parametrize("how", RAW_DAMAGE)
def test_damaged_idx_file(tmp_path, how):
    arrays = write_idx(tmp_path, compress=False)
    path = tmp_path / IMAGES
    path.write_bytes(corrupt(idx_bytes(arrays[IMAGES]), how))
    with pytest.raises(DataError, match=RAW_DAMAGE[how]) as caught:
        TinyMNIST(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("how", ["short", "flipped bit", "long"])
def test_damaged_gzip_file(tmp_path, how):
    arrays = write_idx(tmp_path)
    path = tmp_path / (IMAGES + ".gz")
    path.write_bytes(corrupt(gzip.compress(idx_bytes(arrays[IMAGES])), how))
    with pytest.raises(DataError, match=r"truncated|damaged|holds more"):
        TinyMNIST(tmp_path)


def test_declared_size_is_refused_before_allocation(tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(bytes([0, 0, 8, 3]) + np.array([2**32 - 1] * 3, ">u4").tobytes())
    with pytest.raises(DataError, match="declares 4294967295 x 4294967295 x 4294967295, expected 60000 x 28 x 28"):
        read_idx(path, (60_000, 28, 28))


def test_gzip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((4, 28, 28))) + bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="more data"):
        read_idx(path, (4, 28, 28))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_labels_out_of_range(tmp_path):
    write_idx(tmp_path, compress=False)
    (tmp_path / LABELS).write_bytes(idx_bytes(np.full(12, 10)))
    with pytest.raises(DataError, match=r"label 10, TinyMNIST has classes 0 ... 9"):
        TinyMNIST(tmp_path)


def test_test_set_in_the_place_of_the_training_set(tmp_path):
    write_idx(tmp_path, compress=False)
    (tmp_path / LABELS).write_bytes((tmp_path / "t10k-labels-idx1-ubyte").read_bytes())
    with pytest.raises(DataError, match="declares 6, expected 12"):
        TinyMNIST(tmp_path)


@pytest.mark.parametrize("wanted", [FashionMNIST, KMNIST])
def test_files_of_a_relative_are_refused(tmp_path, wanted, monkeypatch):
    monkeypatch.setattr(MNIST, "sizes", (12, 6))
    write_idx(tmp_path, compress=False)
    (tmp_path / LABELS).write_bytes(idx_bytes(np.array([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5])))
    with pytest.raises(DataError, match=f"belongs to MNIST, not to {wanted.__name__}"):
        wanted(tmp_path)
    assert len(MNIST(tmp_path)) == 12


def test_unreadable_file(tmp_path, monkeypatch):
    write_idx(tmp_path)

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=r"labels-idx1-ubyte.gz cannot be read: Permission denied"):
        TinyMNIST(tmp_path)


def test_a_folder_with_the_name_of_a_file_is_no_file(tmp_path):
    (tmp_path / IMAGES).mkdir()
    with pytest.raises(MissingDataError):
        TinyMNIST(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_file_is_read_as_it_is_or_refused(tmp_path, data):
    """Whatever bytes are changed, cut or added: the array of the right shape, or a DataError; never anything else."""
    content = bytearray(idx_bytes(np.arange(2 * 3 * 3).reshape(2, 3, 3)))
    if data.draw(st.booleans()):
        content = bytearray(gzip.compress(bytes(content), mtime=0))
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["set", "cut", "insert"]))
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        if kind == "cut":
            del content[at:]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(max_size=5))
        elif content:
            content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "file"
    path.write_bytes(bytes(content))
    problem = str(path)
    try:
        assert read_idx(path, (2, 3, 3)).shape == (2, 3, 3)
    except DataError as error:
        problem = str(error)
    assert str(path) in problem


# ---- CIFAR ------------------------------------------------------------------------------------------------------------


def members(cls, batches, folder=None):
    return {f"{folder or cls.folder}/{name}": rows.tobytes() for name, rows in batches.items()}


def expect(data, cls, batches, train):
    rows = np.concatenate([batches[name] for name in cls.batches[0 if train else 1]])
    skip = len(cls.label_names)
    np.testing.assert_array_equal(data.images, rows[:, skip:].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(data.labels, rows[:, skip - 1])


@pytest.mark.parametrize("cls", [TinyCIFAR10, TinyCIFAR100])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("how", ["gz", "tar", "renamed", "folder", "bare", "single gz"])
def test_cifar_is_found_and_read(tmp_path, cls, train, how):
    batches = cifar_batches(cls)
    if how in ("gz", "tar", "renamed"):
        data = tar_bytes({"./README": b"text", **members(cls, batches)}, "w" if how == "tar" else "w:gz")
        name = cls.archive.name if how == "gz" else cls.archive.name.removesuffix(".gz")  # renamed: gzip data named .tar
        (tmp_path / cls.__name__).mkdir()
        (tmp_path / cls.__name__ / name).write_bytes(data)
    else:
        folder = tmp_path if how == "bare" else tmp_path / cls.folder
        folder.mkdir(exist_ok=True)
        for name, rows in batches.items():
            path = folder / (name + ".gz" if how == "single gz" else name)
            path.write_bytes(gzip.compress(rows.tobytes()) if how == "single gz" else rows.tobytes())
    expect(cls(tmp_path, train), cls, batches, train)


def test_cifar100_uses_the_fine_labels_and_has_their_names(tmp_path):
    batches = cifar_batches(TinyCIFAR100)
    (tmp_path / TinyCIFAR100.archive.name).write_bytes(tar_bytes(members(TinyCIFAR100, batches)))
    data = TinyCIFAR100(tmp_path)
    assert (len(data.classes), data.classes[0], data.classes[99]) == (100, "apple", "worm")
    assert list(data.classes) == sorted(data.classes)
    np.testing.assert_array_equal(data.labels, batches["train.bin"][:, 1])


def test_missing_cifar(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(b"only one of five")
    with pytest.raises(MissingDataError, match=r"needs cifar-10-binary.tar.gz.*https://www.cs.toronto.edu/~kriz/cifar-10"):
        TinyCIFAR10(tmp_path)


def test_labels_of_cifar_out_of_range(tmp_path):
    batches = cifar_batches(TinyCIFAR100)
    batches["train.bin"][2, 0] = 20
    (tmp_path / TinyCIFAR100.archive.name).write_bytes(tar_bytes(members(TinyCIFAR100, batches)))
    with pytest.raises(DataError, match="coarse label 20, TinyCIFAR100 has 20"):
        TinyCIFAR100(tmp_path)
    TinyCIFAR100(tmp_path, train=False)


@pytest.mark.parametrize("size", [0, 3073 * 4 - 1, 3073 * 4 + 1])
def test_cifar_batch_of_wrong_size(tmp_path, size):
    (tmp_path / "test_batch.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=r"test_batch.bin (is truncated|holds more)"):
        TinyCIFAR10(tmp_path, train=False)


def archive_error(tmp_path, data: bytes, match: str) -> None:
    path = tmp_path / TinyCIFAR10.archive.name
    path.write_bytes(data)
    with pytest.raises(DataError, match=match) as caught:
        TinyCIFAR10(tmp_path, train=False)
    assert str(path) in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing was unpacked to disk


def test_truncated_and_foreign_archives(tmp_path):
    data = tar_bytes(members(TinyCIFAR10, cifar_batches(TinyCIFAR10)))
    archive_error(tmp_path, b"", "not a readable tar archive|not in it")
    archive_error(tmp_path, data[: len(data) // 2], "truncated")
    archive_error(tmp_path, b"<html>not found</html>", "not a readable tar archive")
    archive_error(tmp_path, gzip.compress(b"some other text"), "not a readable tar archive")
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 16
    archive_error(tmp_path, bytes(flipped), "damaged|truncated|not a readable")
    archive_error(tmp_path, tar_bytes({"other/test_batch.bin": bytes(3073 * 4)}), "test_batch.bin is not in it")
    archive_error(tmp_path, tar_bytes({f"{TinyCIFAR10.folder}/test_batch.bin": bytes(100)}), "no file of 12,292 bytes")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE])
def test_only_regular_members_are_read(tmp_path, kind):
    info = tarfile.TarInfo(f"{TinyCIFAR10.folder}/test_batch.bin")
    info.type, info.linkname = kind, "/etc/passwd"
    archive_error(tmp_path, tar_bytes({}, extra=[info]), "no file of 12,292 bytes|not a readable")


def test_tar_with_hostile_names_touches_nothing(tmp_path):
    batches = cifar_batches(TinyCIFAR10)
    data = tar_bytes({"../../evil": b"x", "/tmp/evil": b"x", **members(TinyCIFAR10, batches)})
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / TinyCIFAR10.archive.name).write_bytes(data)
    expect(TinyCIFAR10(folder, False), TinyCIFAR10, batches, False)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", TinyCIFAR10.archive.name]


@pytest.mark.parametrize("name", ["other", f"{TinyCIFAR10.folder}/test_batch.bin"])
@pytest.mark.parametrize("size", [2**62, 2**40, -5])
def test_member_that_claims_a_huge_size(tmp_path, name, size):
    """tarfile skips such a member block by block, for years if nobody stops it."""
    info = tarfile.TarInfo(name)
    info.size = size
    header = info.tobuf(tarfile.GNU_FORMAT)
    archive_error(tmp_path, header + bytes(5000), "beyond its end|no file of 12,292 bytes|not a readable|not in it")


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_archive_bomb_is_stopped_at_the_known_size(tmp_path, format):
    """A header may ask tarfile to read a long name of any size into memory; the stream ends before that."""
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb", 1) as packed, tarfile.open(fileobj=packed, mode="w|", format=format) as tar:
        tar.addfile(tarfile.TarInfo("n" * 6_000_000))
    archive_error(tmp_path, buffer.getvalue(), "unpacks to more than")
