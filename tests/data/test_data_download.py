"""Downloads from a local server: resume, mirrors, checksums, interruptions; and nothing is left under a final name unverified."""

from __future__ import annotations

import errno
import hashlib
import threading

import numpy as np
import pytest
from synthetic import TinyCIFAR10, TinyMNIST, cifar_batches, tar_bytes, write_idx

from minigrad.data import DataError, MissingDataError
from minigrad.data import download as download_module
from minigrad.data.download import RemoteFile, download

CONTENT = np.random.default_rng(0).bytes(2_000_000)


def remote(server, *mirrors: str, content: bytes = CONTENT, size: int | None = None) -> RemoteFile:
    urls = tuple(f"{server.url}/{mirror}/" for mirror in mirrors or ("a",))
    return RemoteFile("file.bin", urls, hashlib.sha256(content).hexdigest(), len(content) if size is None else size)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_download_and_keep(server, tmp_path):
    server.files["/a/file.bin"] = CONTENT
    path = download(remote(server), tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file.bin"]
    path.write_bytes(b"what the user put there")
    assert download(remote(server), path.parent).read_bytes() == b"what the user put there"
    assert len(server.requests) == 1


def test_dropped_connection_is_resumed_where_it_broke_off(server, tmp_path):
    server.files["/a/file.bin"] = CONTENT
    server.drop["/a/file.bin"] = [700_000, 500_000]
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=700000-", "bytes=1200000-"]
    assert names(tmp_path) == ["file.bin"]


def test_server_without_ranges_starts_again(server, tmp_path):
    server.files["/a/file.bin"] = CONTENT
    server.drop["/a/file.bin"] = [700_000]
    server.ranges = False
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_later_call_continues_an_interrupted_one(server, tmp_path, monkeypatch):
    server.files["/a/file.bin"] = CONTENT
    calls = []
    original = download_module.urllib.request.urlopen

    def urlopen(*args, **kwargs):
        response = original(*args, **kwargs)
        read = response.read

        def interrupted(size):
            calls.append(size)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return read(size)

        response.read = interrupted
        return response

    monkeypatch.setattr(download_module.urllib.request, "urlopen", urlopen)
    with pytest.raises(KeyboardInterrupt):
        download(remote(server), tmp_path)
    assert names(tmp_path) == ["file.bin.part"]
    kept = (tmp_path / "file.bin.part").stat().st_size
    assert 0 < kept < len(CONTENT)
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={kept}-"


def test_part_that_was_complete_needs_no_request(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.requests == []
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)])
def test_spoiled_part_is_replaced(server, tmp_path, part):
    server.files["/a/file.bin"] = CONTENT
    (tmp_path / "file.bin.part").write_bytes(part)
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_next_mirror_after_a_missing_a_wrong_and_a_broken_one(server, tmp_path):
    server.files["/wrong/file.bin"] = CONTENT[::-1]
    server.files["/broken/file.bin"] = CONTENT
    server.drop["/broken/file.bin"] = [900_000, 0]
    server.files["/good/file.bin"] = CONTENT
    assert download(remote(server, "missing", "wrong", "broken", "good"), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("/good/file.bin", "bytes=900000-")  # the broken mirror's bytes were kept


@pytest.mark.parametrize("size", [1_000_000, 1])
def test_more_bytes_than_expected_are_refused(server, tmp_path, size):
    server.files["/a/file.bin"] = CONTENT
    with pytest.raises(MissingDataError, match=f"sends more than the expected {size:,} bytes"):
        download(remote(server, size=size), tmp_path)
    assert (tmp_path / "file.bin.part").stat().st_size == 0


def test_all_mirrors_fail(server, tmp_path):
    server.files["/wrong/file.bin"] = CONTENT[::-1]
    file = remote(server, "missing", "wrong")
    with pytest.raises(MissingDataError) as caught:
        download(file, tmp_path)
    message = str(caught.value)
    assert "missing/file.bin: HTTP status 404" in message
    assert "wrong/file.bin: the file there is not the expected one" in message
    assert f"By hand: fetch {file.urls[0]} or {file.urls[1]} and put it into {tmp_path}" in message
    assert "\n" not in message
    assert "file.bin" not in names(tmp_path)


def test_offline(server, tmp_path):
    server.close()
    with pytest.raises(MissingDataError, match=r"Connection refused.*By hand: fetch http://127.0.0.1"):
        download(remote(server), tmp_path)


def test_full_disk_keeps_the_part_and_asks_no_other_mirror(server, tmp_path):
    resource = pytest.importorskip("resource")
    server.files["/a/file.bin"] = server.files["/b/file.bin"] = CONTENT
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, limits[1]))  # writing beyond it fails as on a full disk
    try:
        with pytest.raises(DataError, match=r"cannot write .*file.bin.part: File too large") as caught:
            download(remote(server, "a", "b"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "MINIGRAD_DATA" in str(caught.value)
    assert len(server.requests) == 1
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:600_000]
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=600000-"


def test_no_space_left(server, tmp_path, monkeypatch):
    server.files["/a/file.bin"] = CONTENT

    def write(stream, chunk):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download_module, "_append", write)
    with pytest.raises(DataError, match=r"cannot write .*file.bin.part: No space left on device"):
        download(remote(server), tmp_path)
    assert names(tmp_path) == ["file.bin.part"]


def test_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "a file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write .*(Not a directory|File exists).*MINIGRAD_DATA"):
        download(remote(server), tmp_path / "a file" / "folder")
    assert server.requests == []


def test_read_only_folder(server, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(DataError, match=r"cannot write .*Permission denied"):
        download(remote(server), tmp_path / "folder")


def test_several_downloads_of_one_file_take_turns(server, tmp_path):
    server.files["/a/file.bin"] = CONTENT
    results = []
    threads = [threading.Thread(target=lambda: results.append(download(remote(server), tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(results) == 4
    assert results[0].read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]


# ---- whole data sets --------------------------------------------------------------------------------------------------


def test_mnist_is_downloaded_once(server, tmp_path, monkeypatch):
    arrays = write_idx(tmp_path / "source")
    files = []
    for file in TinyMNIST.files:
        content = (tmp_path / "source" / file.name).read_bytes()
        server.files[f"/m/{file.name}"] = content
        files.append(RemoteFile(file.name, (server.url + "/m/",), hashlib.sha256(content).hexdigest(), len(content)))
    monkeypatch.setattr(TinyMNIST, "files", tuple(files))
    root = tmp_path / "root"
    for _ in range(2):
        data = TinyMNIST(root, train=False, download=True)
        np.testing.assert_array_equal(data.labels, arrays["t10k-labels-idx1-ubyte"])
    assert len(server.requests) == 2
    assert names(root / "TinyMNIST" / "raw") == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    (root / "TinyMNIST" / "raw" / files[3].name).write_bytes(b"damaged later")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz is not an IDX file"):
        TinyMNIST(root, train=False, download=True)


def test_cifar_is_downloaded(server, tmp_path, monkeypatch):
    batches = cifar_batches(TinyCIFAR10)
    content = tar_bytes({f"{TinyCIFAR10.folder}/{name}": rows.tobytes() for name, rows in batches.items()})
    server.files["/c/cifar-10-binary.tar.gz"] = content
    archive = RemoteFile("cifar-10-binary.tar.gz", (server.url + "/c/",), hashlib.sha256(content).hexdigest(), len(content))
    monkeypatch.setattr(TinyCIFAR10, "archive", archive)
    data = TinyCIFAR10(tmp_path, download=True)
    np.testing.assert_array_equal(data.labels[:4], batches["data_batch_1.bin"][:, 0])
    assert len(TinyCIFAR10(tmp_path, train=False)) == 4
    assert names(tmp_path / "TinyCIFAR10") == ["cifar-10-binary.tar.gz"]
