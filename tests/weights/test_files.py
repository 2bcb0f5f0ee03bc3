"""Files of weights: round trips, other programs' files, damage of every kind, kills and full disks while writing."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import struct
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import safetensors.numpy

from minigrad import weights
from minigrad.kernels.layout import channels_last
from minigrad.tensor import Tensor
from minigrad.weights import CheckpointError
from minigrad.weights.atomic import remove_leftovers, write_atomically

rng = np.random.default_rng(0)
ARRAYS = {
    "conv.weight": rng.standard_normal((4, 3, 2, 2)).astype(np.float32),
    "channels last": channels_last(rng.standard_normal((2, 3, 4, 5)).astype(np.float32)),
    "fortran": np.asfortranarray(rng.standard_normal((3, 4))),
    "every other": np.arange(10)[::2],
    "backwards": np.arange(5, dtype=np.int32)[::-1],
    "big-endian": np.arange(5, dtype=">f8"),
    "one number": np.array(7),
    "nothing": np.zeros((0, 3), np.float32),
    "truth": np.array([True, False]),
    "half": np.arange(3, dtype=np.float16),
    "bytes": np.arange(256, dtype=np.uint8),
    "not numbers": np.array([np.nan, -0.0, np.inf, np.nextafter(np.float32(0), np.float32(1))], np.float32),
    "a/b ü 'c' \n": np.ones(1, np.float32),
}


def assert_same(a, b):
    assert a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=")
    assert a.shape == b.shape
    assert np.ascontiguousarray(a.astype(a.dtype.newbyteorder("="))).tobytes() == np.ascontiguousarray(b).tobytes()


def test_round_trip_of_every_kind_of_array(tmp_path):
    path = tmp_path / "x.safetensors"
    weights.save_file(ARRAYS, path, metadata={"epoch": 3, "loss": 0.1, "name": "ü"})
    arrays = weights.load_file(path)
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert_same(array, arrays[name])
    assert weights.read_metadata(path) == {"epoch": 3, "loss": 0.1, "name": "ü"}
    for name, array in safetensors.numpy.load_file(path).items():  # the official reader agrees
        assert_same(ARRAYS[name], array)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        weights.save({"x": ARRAYS, "n": 1}, tmp_path / name, {"b": 1, "a": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nested_states(tmp_path):
    state = {
        "model": {"conv.weight": Tensor(ARRAYS["conv.weight"]), "conv": {"weight": Tensor(np.zeros(1, np.float32))}},
        "optimizer": {"state": {0: {"momentum_buffer": Tensor(ARRAYS["fortran"])}, 3: {}}, "param_groups": [{"lr": 0.1}]},
        "numbers": (1, -2.5, True, None, "text", math.inf, 0.1 + 0.2),
        "empty": [{}, [], ()],
        "numpy": np.float64(0.1),
    }
    weights.save(state, tmp_path / "state")
    loaded = weights.load(tmp_path / "state")
    assert list(loaded) == list(state)
    assert isinstance(loaded["model"]["conv.weight"], Tensor)
    assert_same(loaded["model"]["conv.weight"].data, ARRAYS["conv.weight"])
    assert loaded["model"]["conv"]["weight"].shape == (1,)
    assert_same(loaded["optimizer"]["state"][0]["momentum_buffer"].data, ARRAYS["fortran"])
    assert loaded["optimizer"]["state"][3] == {}
    assert loaded["numbers"] == state["numbers"]
    assert loaded["empty"] == [{}, [], ()]
    assert loaded["numpy"] == 0.1
    assert math.isnan(_saved_and_loaded(math.nan, tmp_path))
    assert _saved_and_loaded(Tensor(np.ones(2)), tmp_path).tolist() == [1, 1]


def _saved_and_loaded(value, tmp_path):
    weights.save(value, tmp_path / "value")
    return weights.load(tmp_path / "value")


def test_a_state_dict_keeps_its_names_for_other_programs(tmp_path):
    weights.save({"b.weight": Tensor(np.ones(2, np.float32)), "a.bias": Tensor(np.zeros(3))}, tmp_path / "model")
    assert set(safetensors.numpy.load_file(tmp_path / "model")) == {"a.bias", "b.weight"}
    assert list(weights.load(tmp_path / "model")) == ["b.weight", "a.bias"]  # in the order of saving


def test_another_programs_file(tmp_path):
    safetensors.numpy.save_file({"w": ARRAYS["conv.weight"]}, tmp_path / "w", {"format": "pt"})
    assert_same(weights.load(tmp_path / "w")["w"].data, ARRAYS["conv.weight"])
    assert weights.read_metadata(tmp_path / "w") == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": "text", "v": object()}, "cannot save the object at v"),
        ({"a": [1, {"b": {1, 2}}]}, r"cannot save the set at a\.1\.b"),
        ({None: 1}, "keys at the top must be texts or integers, got None"),
        ({"w": np.array(["text"])}, "'w' must be a tensor of numbers"),
        ({"w": np.array([1j])}, "'w' must be a tensor of numbers, got ndarray complex128"),
        ({"__metadata__": np.zeros(1)}, "__metadata__"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(value, message, tmp_path):
    weights.save([1], tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    with pytest.raises(TypeError, match=message):
        weights.save(value, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == before
    assert os.listdir(tmp_path) == ["x"]


def test_a_whole_model_is_refused_with_the_fix(tmp_path):
    class Model:
        def state_dict(self):
            return {}

    with pytest.raises(TypeError, match=r"save its state_dict\(\)"):
        weights.save(Model(), tmp_path / "x")


# ---- damage --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.safetensors"
    weights.save({"a": Tensor(np.arange(6, dtype=np.float32)), "n": 3}, path, {"epoch": 1})
    return path


def test_every_flipped_bit_is_noticed(small):
    content = small.read_bytes()
    for position in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            small.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"small\.safetensors"):
                weights.load(small)


def test_every_truncation_is_noticed(small):
    content = small.read_bytes()
    for size in range(len(content)):
        small.write_bytes(content[:size])
        with pytest.raises(CheckpointError):
            weights.load(small)
    small.write_bytes(content + b"\0")
    with pytest.raises(CheckpointError):
        weights.load(small)


@pytest.mark.parametrize(
    "content",
    [
        b"hello, this is not a file of tensors",
        b"\x80\x04\x95",  # a pickle
        b"PK\x03\x04" + bytes(100),  # a zip archive, such as a PyTorch checkpoint
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 2) + b"{}" + bytes(8),
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[4294967296],"data_offsets":[0,4]}}'[:60],
        struct.pack("<Q", 74) + b'{"__metadata__":{"minigrad":"{\\"format\\":1,\\"sha256\\":5}"},"x":3}         ',
    ],
)
def test_foreign_files(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match="truncated, damaged, or of another kind"):
        weights.load(tmp_path / "x")


def _with_document(path, document):
    safetensors.numpy.save_file({"a": np.zeros(1)}, path, {"minigrad": document})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("no JSON", "metadata cannot be read"),
        ("[]", "metadata cannot be read"),
        ('{"format": 1}', "metadata cannot be read"),
        ('{"format": 99, "sha256": "x"}', "has format 99, this version of minigrad reads 1"),
        ('{"format": 1, "sha256": "x"}', "does not match its checksum"),
    ],
)
def test_documents_that_do_not_fit(document, message, tmp_path):
    _with_document(tmp_path / "x", document)
    with pytest.raises(CheckpointError, match=message):
        weights.load(tmp_path / "x")


@pytest.mark.parametrize("structure", [{"array": "b"}, {"dict": [1]}, {"code": 1}, {"list": 3}, {}, {"dict": [], "list": []}])
def test_a_structure_that_does_not_fit(structure, tmp_path):
    from minigrad.weights.tensor_file import write

    write({"a": np.zeros(1)}, tmp_path / "x", {"structure": structure})
    with pytest.raises(CheckpointError, match="structure does not fit"):
        weights.load(tmp_path / "x")


def test_an_element_type_that_numpy_lacks(tmp_path):
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    with pytest.raises(CheckpointError, match="array 'w' has the element type F8_E4M3"):
        weights.load(tmp_path / "x")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent"):
        weights.load(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="is not a file"):
        weights.load(tmp_path)
    with pytest.raises(OSError, match=r"cannot write .*absent"):
        weights.save([1], tmp_path / "absent" / "x")


# ---- writing -------------------------------------------------------------------------------------------------------------


def test_the_file_has_ordinary_permissions_and_a_link_stays_a_link(tmp_path):
    mask = os.umask(0o022)
    try:
        weights.save([1], tmp_path / "x")
        (tmp_path / "link").symlink_to("x")
        weights.save([2], tmp_path / "link")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644
    assert (tmp_path / "link").is_symlink()
    assert weights.load(tmp_path / "x") == [2]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    weights.save([1], path)
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match=r"cannot write .*x: No space left on device; the old file is unchanged"):
                weights.save([2], path)
        assert weights.load(path) == [1]
        assert os.listdir(tmp_path) == ["x"]


def test_the_content_is_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a)))
    write_atomically(tmp_path / "x", b"content")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_folder_that_cannot_be_forced_to_the_disk_is_no_failure(tmp_path, monkeypatch):
    """The new file has its name by then: an error would say that the old one is unchanged."""
    real, handles = os.fsync, []

    def fsync(handle):
        handles.append(handle)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    weights.save([2], tmp_path / "x")
    assert len(handles) == 2
    assert weights.load(tmp_path / "x") == [2]


def run(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], **options)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    code = """
        import resource, sys, numpy as np
        from minigrad import weights
        weights.save(np.zeros(10), sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        try:
            weights.save(np.ones(1000), sys.argv[1])
        except OSError as error:
            sys.exit(str(error))
    """
    process = run(code, tmp_path / "x", stderr=subprocess.PIPE, text=True)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "File too large; the old file is unchanged" in message
    assert weights.load(tmp_path / "x").tolist() == [0] * 10
    assert os.listdir(tmp_path) == ["x"]


def test_killed_while_saving_the_file_is_always_whole(tmp_path):
    code = """
        import itertools, sys, numpy as np
        from minigrad import weights
        for i in itertools.count():
            weights.save({"n": i, "a": np.full(20000, i, np.float32)}, sys.argv[1])
    """
    path = tmp_path / "x"
    random = np.random.default_rng(1)
    for _ in range(4):
        path.unlink(missing_ok=True)
        process = run(code, path)
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = weights.load(path)
        assert (state["a"].data == state["n"]).all()
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["x"]


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    for name in (".x.1234.tmp", ".y.tmp", "x.tmp", ".z.12a.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".y.tmp", ".z.12a.tmp", "x.tmp"]
