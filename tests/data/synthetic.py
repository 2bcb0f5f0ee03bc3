"""Small images and masks, data files in the official formats, and a local web server that misbehaves on request."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from minigrad.data.cifar import CIFAR10, CIFAR100
from minigrad.data.mnist import MNIST


def pixels(shape=(6, 3, 8, 10), seed=0) -> np.ndarray:
    """Random images."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def numbers(shape=(6, 8, 10), highest=4, seed=1) -> np.ndarray:
    """Random masks, in which the highest number occurs."""
    masks = np.random.default_rng(seed).integers(0, highest + 1, shape)
    masks.flat[0] = highest
    return masks


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


class TinyMNIST(MNIST):
    """The format of MNIST with 12 training and 6 test images."""

    sizes = (12, 6)


class TinyCIFAR10(CIFAR10):
    """The format of CIFAR-10 with 4 images in a file."""

    records = (4, 4)


class TinyCIFAR100(CIFAR100):
    """The format of CIFAR-100 with 5 training and 3 test images."""

    records = (5, 3)


def write_idx(folder: Path, compress: bool = True, seed: int = 0) -> dict[str, np.ndarray]:
    """The four files of TinyMNIST; returns their arrays by file name (without .gz)."""
    rng, arrays = np.random.default_rng(seed), {}
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in zip(("train", "t10k"), TinyMNIST.sizes, strict=True):
        arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = rng.integers(0, 10, count, np.uint8)
    for name, array in arrays.items():
        data = idx_bytes(array)
        (folder / (name + ".gz" if compress else name)).write_bytes(gzip.compress(data) if compress else data)
    return arrays


def cifar_batches(cls: type[CIFAR10], seed: int = 0) -> dict[str, np.ndarray]:
    """The records of every file of ``cls``: file name -> uint8 (records, label bytes + 3072)."""
    rng, result = np.random.default_rng(seed), {}
    for names, count in zip(cls.batches, cls.records, strict=True):
        for name in names:
            labels = [rng.integers(0, classes, (count, 1), np.uint8) for _, classes in cls.label_names]
            result[name] = np.concatenate([*labels, rng.integers(0, 256, (count, 3072), np.uint8)], 1)
    return result


def tar_bytes(members: dict[str, bytes], mode: str = "w:gz", extra: list[tarfile.TarInfo] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for info in extra or []:
            tar.addfile(info)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Server:
    """Serves ``files`` (path -> bytes). ``drop[path]``: break the connection after so many bytes, as often as the list says."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.drop: dict[str, list[int]] = {}
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []  # (path, Range header)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.requests.append((self.path, wanted))
                body = outer.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and outer.ranges else 0
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                count = outer.drop[self.path].pop(0) if outer.drop.get(self.path) else len(body)
                self.wfile.write(body[start : start + count])

            def log_message(self, *args):
                """Keep the test's output clean."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(timeout=5)
