"""PyTorch's files: the three kinds, written by hand and by PyTorch, and what hostile and damaged ones are answered with."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest

from minigrad import weights
from minigrad.tensor import Tensor
from minigrad.weights import CheckpointError, load_torch_file, save_torch_file
from minigrad.weights import pickles as pickles_module

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = ("zip", "stream", "tar")


# ---- a writer of PyTorch's files, without PyTorch ----------------------------------------------------------------------


class Raw(bytes):
    """Instructions of a pickle that stand for a value."""


def encode(value) -> bytes:
    """The instructions that make a value, of version 2."""
    if isinstance(value, Raw):
        return value
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return struct.pack("<ci", b"J", value) if len(data) <= 4 else b"\x8a" + bytes([len(data)]) + data
    if isinstance(value, float):
        return struct.pack(">cd", b"G", value)
    if isinstance(value, str):
        return struct.pack("<cI", b"X", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(encode, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(encode, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(encode(k) + encode(v) for k, v in value.items()) + b"u"
    raise TypeError(type(value))


def pickled(value) -> bytes:
    return b"\x80\x02" + encode(value) + b"."


def name(module, attribute) -> Raw:
    return Raw(f"c{module}\n{attribute}\n".encode())


def call(module, attribute, *arguments) -> Raw:
    return Raw(name(module, attribute) + encode(arguments) + b"R")


NO_HOOKS = call("collections", "OrderedDict")


def storage(key, kind, numel, *more) -> Raw:
    return Raw(encode(("storage", name("torch", f"{kind}Storage"), key, "cpu", numel, *more)) + b"Q")


def view(stored, size, stride, offset=0, grad=False) -> Raw:
    return call("torch._utils", "_rebuild_tensor_v2", stored, offset, size, stride, grad, NO_HOOKS)


def zip_of(content: bytes, storages: dict[str, bytes], folder="archive", order=None, compression=zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", content)
        if order is not None:
            archive.writestr(f"{folder}/byteorder", order)
        for key, data in storages.items():
            archive.writestr(f"{folder}/data/{key}", data)
        archive.writestr(f"{folder}/version", "3\n")
    return buffer.getvalue()


def stream_of(content: bytes, storages: dict[str, tuple[int, bytes]]) -> bytes:
    parts = [pickled(MAGIC), pickled(1001), pickled({"protocol_version": 1001, "little_endian": True}), content]
    parts.append(pickled(list(storages)))
    for numel, data in storages.values():
        parts += [struct.pack("<q", numel), data]
    return b"".join(parts)


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as archive:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_tensor(key, stored, size, stride, offset, kind="FloatTensor") -> bytes:
    numbers = struct.pack(f"<ii{2 * len(size) + 1}q", len(size), 0, *size, *stride, offset)
    return pickled((key, stored, name("torch", kind))) + numbers


def tar_storage(key, kind, numel, data) -> bytes:
    return pickled((key, "cpu", name("torch", f"{kind}Storage"))) + struct.pack("<q", numel) + data


FLAT = np.arange(12, dtype=np.float32) - 3.5
COUNT = np.array([5, -6], np.int64)


def example(kind: str) -> bytes:
    """A small checkpoint: an array, its transposed and shifted views, a count, an empty tensor, one number, plain values."""
    if kind == "tar":
        views = {
            "w": ((3, 4), (4, 1), 0),
            "t": ((4, 3), (1, 4), 0),
            "part": ((2,), (4,), 5),
            "one": ((), (), 7),
            "none": ((0, 3), (3, 1), 0),
        }
        tensors = [tar_tensor(100 + i, 1, *parts) for i, parts in enumerate(views.values())]
        tensors.append(tar_tensor(200, 2, (2,), (1,), 0, "LongTensor"))
        entries = {key: Raw(encode(100 + i) + b"Q") for i, key in enumerate(views)} | {"n": Raw(encode("200") + b"Q")}
        storages = tar_storage(1, "Float", 12, FLAT.tobytes()) + tar_storage(2, "Long", 2, COUNT.tobytes())
        members = {
            "storages": pickled(2) + storages + pickled([]),
            "tensors": pickled(len(tensors)) + b"".join(tensors),
            "pickle": pickled({"model": entries, "epoch": 3, "lr": [0.1, None, True]}),
        }
        return tar_of(members)
    more = (None,) if kind == "stream" else ()
    a, b = storage("0", "Float", 12, *more), storage("1", "Long", 2, *more)
    entries = {
        "w": view(a, (3, 4), (4, 1)),
        "t": view(a, (4, 3), (1, 4)),
        "part": view(a, (2,), (4,), 5),
        "one": view(a, (), (), 7),
        "none": view(a, (0, 3), (3, 1)),
        "n": view(b, (2,), (1,)),
    }
    content = pickled({"model": entries, "epoch": 3, "lr": [0.1, None, True]})
    if kind == "zip":
        return zip_of(content, {"0": FLAT.tobytes(), "1": COUNT.tobytes()})
    return stream_of(content, {"0": (12, FLAT.tobytes()), "1": (2, COUNT.tobytes())})


def check_example(loaded):
    assert list(loaded) == ["model", "epoch", "lr"]
    assert loaded["epoch"] == 3
    assert loaded["lr"] == [0.1, None, True]
    model = loaded["model"]
    assert list(model) == ["w", "t", "part", "one", "none", "n"]
    assert all(type(tensor) is Tensor and not tensor.requires_grad for tensor in model.values())
    np.testing.assert_array_equal(model["w"].data, FLAT.reshape(3, 4))
    np.testing.assert_array_equal(model["t"].data, FLAT.reshape(3, 4).T)
    np.testing.assert_array_equal(model["part"].data, FLAT[[5, 9]])
    np.testing.assert_array_equal(model["n"].data, COUNT)
    assert model["n"].data.dtype == np.int64
    assert model["one"].shape == ()
    assert model["one"].item() == 3.5
    assert model["none"].shape == (0, 3)
    model["w"].data[1, 1] = 99  # they share their memory, and it can be written
    assert model["t"].data[1, 1] == model["part"].data[0] == 99
    assert model["t"].version is model["w"].version


def loaded_from(content: bytes, tmp_path, filename="file"):
    (tmp_path / filename).write_bytes(content)
    return load_torch_file(tmp_path / filename)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("filename", ["model.pth", "model.safetensors", "model"])
def test_the_three_kinds_are_recognized_by_their_content(kind, filename, tmp_path):
    (tmp_path / filename).write_bytes(example(kind))
    check_example(load_torch_file(tmp_path / filename))
    check_example(weights.load(tmp_path / filename))


def test_safetensors_are_still_recognized(tmp_path):
    weights.save({"a": 1}, tmp_path / "model.pth")
    assert weights.load(tmp_path / "model.pth") == {"a": 1}
    with pytest.raises(CheckpointError, match="neither a zip archive nor a stream nor a tar"):
        load_torch_file(tmp_path / "model.pth")
    header = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(0x280)
    (tmp_path / "pickle").write_bytes(struct.pack("<Q", 0x280) + header + b"\7")  # begins as a pickle does: 80 02
    assert weights.load(tmp_path / "pickle")["w"].tolist() == [7]


@pytest.mark.parametrize("order", [None, "little", "big"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_archives_of_every_folder_byte_order_and_compression(order, compression, tmp_path):
    sign = ">" if order == "big" else "<"
    bits = np.array([0x3F80, 0xFF80, 0x7FC1, 0x0001], sign + "u2")  # 1, -inf, a NaN, the smallest
    bytes_ = {"a": FLAT.astype(sign + "f4"), "b": np.arange(3).astype(sign + "f2"), "c": bits, "d": np.array([0, 1, 7], "u1")}
    kinds = {"a": "Float", "b": "Half", "c": "BFloat16", "d": "Bool"}
    entries = {key: view(storage(key, kinds[key], a.size), (a.size,), (1,)) for key, a in bytes_.items()}
    content = zip_of(pickled(entries), {k: a.tobytes() for k, a in bytes_.items()}, "my model", order, compression)
    loaded = loaded_from(content, tmp_path)
    np.testing.assert_array_equal(loaded["a"].data, FLAT)
    assert loaded["b"].data.dtype == np.float16
    assert loaded["b"].tolist() == [0, 1, 2]
    assert loaded["c"].data.dtype == np.float32
    assert loaded["c"].data.view(np.uint32).tolist() == [0x3F800000, 0xFF800000, 0x7FC10000, 0x00010000]
    assert loaded["d"].data.dtype == np.bool_
    assert loaded["d"].data.view(np.uint8).tolist() == [0, 1, 1]
    assert all(tensor.data.dtype.isnative for tensor in loaded.values())


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("Float", "f4"),
        ("Double", "f8"),
        ("Half", "f2"),
        ("Int", "i4"),
        ("Long", "i8"),
        ("Short", "i2"),
        ("Char", "i1"),
        ("Byte", "u1"),
    ],
)
def test_every_element_type(kind, code, tmp_path):
    array = np.array([1, 100, 3], code)
    loaded = loaded_from(zip_of(pickled(view(storage("k", kind, 3), (3,), (1,))), {"k": array.tobytes()}), tmp_path)
    assert loaded.data.dtype == code
    assert loaded.tolist() == [1, 100, 3]


def test_unsigned_elements_and_bytes_without_a_type(tmp_path):
    stored = Raw(encode(("storage", name("torch.storage", "UntypedStorage"), "0", "cpu", 8)) + b"Q")
    typed = call("torch._utils", "_rebuild_tensor_v3", stored, 1, (3,), (1,), False, NO_HOOKS, name("torch", "uint16"))
    content = pickled({"typed": typed, "bytes": view(stored, (8,), (1,)), "storage": stored})
    loaded = loaded_from(zip_of(content, {"0": np.arange(4, dtype="<u2").tobytes()}), tmp_path)
    assert loaded["typed"].data.dtype == np.uint16
    assert loaded["typed"].tolist() == [1, 2, 3]
    assert loaded["bytes"].tolist() == loaded["storage"].tolist() == [0, 0, 1, 0, 2, 0, 3, 0]


def numpy_dtype(code, order) -> Raw:
    return Raw(call("numpy", "dtype", code, False, True) + encode((3, order, None, None, None, -1, -1, 0)) + b"b")


def numpy_array(module, code, order, shape, data, fortran=False) -> Raw:
    made = call(module, "_reconstruct", name("numpy", "ndarray"), (0,), call("_codecs", "encode", "b", "latin1"))
    return Raw(made + encode((1, shape, numpy_dtype(code, order), fortran, call("_codecs", "encode", data, "latin1"))) + b"b")


def test_other_values(tmp_path):
    stored = storage("0", "Float", 2)
    plain = view(stored, (2,), (1,))
    eight = np.array([2.5, -1], ">f8").tobytes().decode("latin-1")
    value = {
        "ordered": Raw(NO_HOOKS + b"(" + encode("a") + encode(1) + b"u" + encode({"_metadata": {}}) + b"b"),
        "pairs": call("collections", "OrderedDict", [["x", 1], ["y", 2]]),
        "counter": call("collections", "Counter", {30: 1, 60: 2}),
        "size": call("torch", "Size", (2, 3)),
        "device": call("torch", "device", "cuda", 1),
        "cpu": call("torch", "device", "cpu"),
        "dtype": [name("torch", "float64"), name("torch", "bfloat16")],
        "number": call("numpy.core.multiarray", "scalar", numpy_dtype("f8", ">"), call("_codecs", "encode", eight[:8], "latin1")),
        "array": numpy_array("numpy._core.multiarray", "f8", ">", (2, 1), eight),
        "truth": numpy_array("numpy.core.multiarray", "b1", "|", (2,), "\0\5"),
        "fortran": numpy_array("numpy.core.multiarray", "u1", "|", (2, 2), "\0\1\2\3", fortran=True),
        "parameter": call("torch._utils", "_rebuild_parameter", plain, True, NO_HOOKS),
        "with state": call("torch._utils", "_rebuild_parameter_with_state", plain, False, NO_HOOKS, {"tag": 1}),
        "old": call("torch._utils", "_rebuild_tensor", stored, 1, (1,), (1,)),
        "repeated": view(stored, (3, 2), (0, 1)),
        "long": [1 << 63, -(1 << 100)],
        "python 2": [Raw(b"U\3abc"), Raw(b"T\2\0\0\0\xff\xfe")],
        None: False,
    }
    loaded = loaded_from(zip_of(pickled(value), {"0": np.float32([1, 2]).tobytes()}), tmp_path)
    assert loaded["ordered"] == {"a": 1}
    assert loaded["pairs"] == {"x": 1, "y": 2}
    assert loaded["counter"] == {30: 1, 60: 2}
    assert loaded["size"] == (2, 3)
    assert (loaded["device"], loaded["cpu"]) == ("cuda:1", "cpu")
    assert loaded["dtype"] == [np.float64, np.float32]
    assert loaded["number"] == 2.5
    assert type(loaded["number"]) is float
    assert loaded["array"].dtype == np.float64
    assert loaded["array"].tolist() == [[2.5], [-1]]
    assert loaded["truth"].tolist() == [False, True]
    assert loaded["fortran"].tolist() == [[0, 2], [1, 3]]
    assert loaded["parameter"].requires_grad
    assert not loaded["with state"].requires_grad
    assert np.shares_memory(loaded["parameter"].data, loaded["with state"].data)
    assert loaded["old"].tolist() == [2]
    assert loaded["repeated"].tolist() == [[1, 2]] * 3
    loaded["repeated"].data[0, 0] = 5  # in a place of its own
    assert loaded["repeated"].data[1, 0] == 1
    assert loaded["long"] == [1 << 63, -(1 << 100)]
    assert loaded["python 2"] == ["abc", b"\xff\xfe"]
    assert loaded[None] is False


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_what_python_pickles(version, tmp_path):
    """Every instruction that Python uses for plain values, by all versions of the pickles."""
    shared = ["x" * 300, "ü", b"b" * 300, b"short", "y" * 70000]
    value = [
        {"a": shared, "again": shared, 1: OrderedDict(b=2.5), None: Counter([1, 1, 2]), False: (), b"bytes": {}},
        *[(1 << n, -(1 << n), (1 << n) - 1) for n in (0, 7, 8, 15, 16, 31, 32, 63, 64, 200)],
        [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], list(range(2500)), dict.fromkeys(map(str, range(300)), False)],
        [float("inf"), -0.0, 1e-320, True, False, None],
    ]
    loaded = loaded_from(zip_of(pickle.dumps(value, version), {}), tmp_path)
    assert repr(loaded) == repr(_plain(value))


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return type(value)(map(_plain, value)) if isinstance(value, (list, tuple)) else value


# ---- what hostile files are answered with ------------------------------------------------------------------------------


def refused(content: bytes, message: str, tmp_path, megabytes=80, measured=True):
    """The file is refused with one error that names it, and with little memory; what nests a billion would never end."""
    path = tmp_path / "hostile.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        weights.load(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    if not measured:
        return
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            weights.load(path)
        assert tracemalloc.get_traced_memory()[1] < megabytes << 20
    finally:
        tracemalloc.stop()


def refused_pickle(content: bytes, message: str, tmp_path, storages=None, **limits):
    """The pickle is refused in a zip archive; the stream shares its reader."""
    refused(zip_of(content, {"0": FLAT.tobytes()} if storages is None else storages), message, tmp_path, **limits)


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("__builtin__", "exec"),
        ("torch", "load"),
        ("torch", "FloatStorage.__init__"),
        ("torch.hub", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch.storage", "_load_from_bytes"),
        ("torch.nn.modules.linear", "Linear"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections.OrderedDict", ""),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("codecs", "encode"),
        ("functools", "partial"),
        ("minigrad.weights.pickles", "GLOBALS"),
        ("x" * 200, "\x1b[31m"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_no_name_but_the_allowed_ones(module, attribute, kind, tmp_path):
    content = pickled({"model": call(module, attribute, f"touch {tmp_path}/run")})
    file = {
        "zip": lambda: zip_of(content, {}),
        "stream": lambda: stream_of(content, {}),
        "tar": lambda: tar_of({"storages": pickled(0) + pickled([]), "tensors": pickled(0), "pickle": content}),
    }[kind]()
    shown = "xxx" if len(module) > 60 else f"{module}.{attribute}".replace(".", r"\.")
    refused(file, rf"asks for {shown}.*, which is code and not weights", tmp_path)
    assert os.listdir(tmp_path) == ["hostile.pth"]


def test_names_from_the_stack_and_from_python_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/run",)

    for version in (2, 4, 5):
        refused_pickle(pickle.dumps({"a": Evil()}, version), r"asks for (posix|nt)\.system", tmp_path)
    refused(stream_of(pickled(1), {})[:-6] + pickle.dumps(Evil(), 2), r"asks for|ends too early|list of storages", tmp_path)
    assert os.listdir(tmp_path) == ["hostile.pth"]


def test_the_readers_have_no_way_to_run_a_name():
    """No import of pickle, importlib or the like, no eval, no exec, no getattr in the code."""
    for file in ("pickles.py", "pickle_values.py", "torch_file.py", "torch_tensors.py", "torch_writing.py"):
        tree = ast.parse((Path(pickles_module.__file__).parent / file).read_text())
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "_pickle", "importlib", "marshal", "shelve", "subprocess", "sys", "builtins"}
            if isinstance(node, ast.Name):
                assert node.id not in {"eval", "exec", "compile", "getattr", "setattr", "__import__", "globals", "__builtins__"}
    assert all(module.split(".")[0] in ("collections", "torch", "numpy", "_codecs") for module, _ in pickles_module.GLOBALS)


A = storage("0", "Float", 12)
V = Raw(name("torch._utils", "_rebuild_tensor_v2"))
LIES = {
    "more elements than the storage": (view(A, (13,), (1,)), r"reaches to element 13 of a storage of 12"),
    "strides beyond": (view(A, (3, 4), (5, 1)), r"shape \(3, 4\) with strides \(5, 1\) reaches to element 14"),
    "offset beyond": (view(A, (2,), (1,), 11), "reaches to element 13"),
    "one number beyond": (view(A, (), (), 12), "reaches to element 13"),
    "negative offset": (view(A, (1,), (1,), -1), "the offset of a tensor is -1"),
    "negative size": (view(A, (-1,), (1,)), r"the shape of a tensor is -1"),
    "negative stride": (view(A, (2,), (-1,), 3), "the strides of a tensor is -1"),
    "huge size": (view(A, (1 << 62,), (0,)), "the shape of a tensor is 46116"),
    "a product that overflows": (view(A, (1 << 32, 1 << 32), (0, 0)), "too large"),
    "a product that overflows, empty": (view(A, (0, 1 << 40, 1 << 40), (0, 0, 0)), "too large"),
    "few elements repeated": (view(A, (1 << 30,), (0,)), "repeats few elements too often"),
    "few elements repeated a little, often": ([view(A, (1 << 21,), (0,))] * 20, "repeats few elements too often"),
    "two lengths": (view(A, (2, 2), (1,)), r"shape \(2, 2\) has strides \(1,\)"),
    "too many dimensions": (view(A, (1,) * 65, (1,) * 65), "the shape of a tensor is a tuple"),
    "a truth for a size": (view(A, (True,), (1,)), "the shape of a tensor is True"),
    "a number with a point": (view(A, (2.0,), (1,)), "the shape of a tensor is 2.0"),
    "no shape": (view(A, None, (1,)), "the shape of a tensor is None"),
    "no storage": (view({}, (1,), (1,)), "made of a dict instead of a storage"),
    "another number of elements": (view(storage("0", "Float", 11), (1,), (1,)), "has 48 bytes instead of 44"),
    "another type": ([A, storage("0", "Int", 12)], "has 12 elements of float32, and 12 of int32"),
    "huge storage": (storage("0", "Float", 1 << 60), "number of elements is 11529"),
    "negative storage": (storage("0", "Float", -12), "number of elements is -12"),
    "absent storage": (storage("../0", "Float", 12), r"storage archive/data/\.\./0 is missing"),
    "a storage of no class": (Raw(encode(("storage", 5, "0", "cpu", 12)) + b"Q"), "of the class 5"),
    "a storage of a class that is none": (
        Raw(encode(("storage", name("collections", "OrderedDict"), "0", "cpu", 12)) + b"Q"),
        r"of the class collections\.OrderedDict",
    ),
    "an unknown outside name": (Raw(encode("0") + b"Q"), "refers to '0', which is no storage"),
    "a complex storage": (storage("0", "ComplexFloat", 6), r"asks for torch\.ComplexFloatStorage"),
    "a negated tensor": (
        call("torch._utils", "_rebuild_tensor_v2", A, 0, (1,), (1,), False, NO_HOOKS, {"neg": True}),
        "conjugated or negated",
    ),
    "too few arguments": (call("torch._utils", "_rebuild_tensor_v2", A), "_rebuild_tensor_v2 with 1 arguments"),
    "too many arguments": (call("torch", "device", "cpu", 1, 2, 3), "torch.device with 4 arguments"),
    "a parameter of nothing": (call("torch._utils", "_rebuild_parameter", 1, True, NO_HOOKS), "made of 1 instead of a tensor"),
    "a call of a class": (call("torch", "FloatStorage", 10), "FloatStorage, which cannot be called"),
    "a call of a value": (Raw(encode("os") + b")R"), "calls 'os', which cannot be called"),
    "a class as a value": ({"a": name("collections", "OrderedDict")}, "gives collections.OrderedDict where a value belongs"),
    "the state of a tensor": (Raw(view(A, (1,), (1,)) + encode({"data": 1}) + b"b"), "sets the state of a View"),
    "the state of a class": (
        Raw(name("torch", "FloatStorage") + encode({"make": 1}) + b"b"),
        "sets the state of torch.FloatStorage",
    ),
    "the state of a list": (Raw(b"]}b"), r"sets the state of \[\]"),
    "items of a tensor": (Raw(view(A, (1,), (1,)) + encode(0) + encode(1) + b"s"), "fills a View as if it were a dict"),
    "an item appended to a dictionary": (Raw(b"}Na"), "fills a dict as if it were a list"),
    "a list as a key": ({1: 2, "x": Raw(b"}]Ns")}, r"has the key \[\]"),
    "a tuple as a key": (Raw(b"})Ns"), r"has the key \(\)"),
    "a number of 61 bits as a key": (Raw(b"}" + encode((1 << 61) - 0) + b"Ns"), "has the key 23058"),
    "a key without a value": (Raw(b"}(Nu"), "key without a value"),
    "a dictionary of no pairs": (call("collections", "OrderedDict", [1, 2]), "no pairs"),
    "NumPy's objects": (numpy_array("numpy.core.multiarray", "O8", "|", (1,), "12345678"), "elements of 'O8'"),
    "a NumPy array shorter than its shape": (
        numpy_array("numpy.core.multiarray", "f4", "<", (3,), "12345678"),
        "shape .3,. and has 2",
    ),
    "a NumPy array of a huge shape": (numpy_array("numpy.core.multiarray", "f4", "<", (1 << 40, 0), ""), "ok|claims"),
    "a NumPy array without content": (
        call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), (0,), "b"),
        "a NumPyArray where a value belongs",
    ),
    "a NumPy dtype alone": (numpy_dtype("f4", "<"), "a NumPyDType where a value belongs"),
    "a NumPy number of two": (call("numpy.core.multiarray", "scalar", numpy_dtype("f4", "<"), "12345678"), "unknown form"),
    "another encoding": (call("_codecs", "encode", "text", "rot13"), "encodes 'text' as 'rot13'"),
    "wide bytes": (call("_codecs", "encode", "\u1234", "latin1"), "bytes above 255"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies(lie, tmp_path):
    value, message = LIES[lie]
    if message.startswith("ok|"):  # an empty array is one, whatever its shape
        assert loaded_from(zip_of(pickled(value), {"0": FLAT.tobytes()}), tmp_path).size == 0
        return
    refused_pickle(pickled(value), message, tmp_path)


def nested(begin: bytes, step: bytes, n: int, end: bytes = b".") -> bytes:
    return b"\x80\x02" + begin + step * n + end


def again(function: bytes, arguments: tuple, n: int) -> bytes:
    """The same call ``n`` times: four bytes each."""
    return b"\x80\x02" + function + b"q\0" + encode(arguments) + b"q\1" + b"h\0h\1R0" * n + b"N."


BOMBS = {
    "a text of 2^62 bytes": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62), "ends too early: 4611686018427387904 more bytes"),
    "bytes of 2^63": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 63), "ends too early"),
    "bytes of 4 GiB": (b"\x80\x03B" + struct.pack("<I", (1 << 32) - 1) + bytes(100), "ends too early"),
    "a frame of 2^60": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.", "ends too early"),
    "a number of 2 GiB": (b"\x80\x02\x8b" + struct.pack("<I", 1 << 31), "instruction b'.x8b'"),
    "a bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60), "instruction b'.x96'"),
    "a far place of the memory": (b"\x80\x02]r\xff\xff\xff\xff.", None),
    "a place without a value": (b"\x80\x02h\x05.", "refers to a value 5"),
    "deep lists": (nested(b"]", b"]", 50_000, b"a" * 50_000 + b"."), "too often or too deep"),
    "deep tuples": (nested(b")", b"\x85", 100_000), "too often or too deep"),
    "deep tuples in a dictionary": (nested(b"}" + encode("x") + b")", b"\x85", 90_000, b"s."), "too often or too deep"),
    "a list in itself": (b"\x80\x02]q\0h\0a.", "too often or too deep"),
    "a billion in lists": (b"\x80\x02]" + b"".join(b"q%c](h%ch%ch%ce" % (i, i, i, i) for i in range(60)) + b".", "too often"),
    "a billion in tuples": (b"\x80\x02)" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(80)) + b".", "too often"),
    "a billion as a key": (b"\x80\x02})" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(80)) + b"Ns.", "has the key a tuple"),
    "many empty lists": (nested(b"](", b"]", 2_000_000, b"e."), "more values"),
    "many marks": (nested(b"", b"(", 5_000_000), "more values"),
    "a dictionary copied again and again": (
        again(name("collections", "OrderedDict"), ({i: i for i in range(2000)},), 50_000),
        "copies more|more values",
    ),
    "a text encoded again and again": (
        again(name("_codecs", "encode"), ("x" * 100_000, "latin1"), 50_000),
        "copies more",
    ),
    "a number of a long text again and again": (
        again(name("numpy.core.multiarray", "scalar"), (numpy_dtype("u1", "<"), "x" * 100_000), 50_000),
        "unknown form",
    ),
    "a tensor again and again": (
        again(name("torch._utils", "_rebuild_tensor"), (A, 0, (1,) * 64, (1,) * 64), 300_000),
        "more values",
    ),
    "more taken than made": (b"\x80\x02N00N.", "takes more values"),
    "nothing": (b"\x80\x02.", "takes more values"),
    "a value below the mark": (b"\x80\x02N(0", "takes more values"),
    "a group that did not begin": (b"\x80\x02Nt.", "did not begin"),
    "version 1": (b"\x80\x01N.", "of version 1"),
    "a text instruction": (b"\x80\x02I01\n.", "instruction b'I'"),
    "a new object": (b"\x80\x02" + name("collections", "OrderedDict") + b")\x81.", "instruction b'.x81'"),
    "a name without end": (b"\x80\x02c" + b"x" * 10_000, "has no end"),
    "a text that is none": (b"\x80\x02X\1\0\0\0\xff.", "not UTF-8"),
    "a second pickle behind": (b"\x80\x02N." + pickled(call("os", "system")), "bytes follow"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs(bomb, tmp_path):
    content, message = BOMBS[bomb]
    if message is None:
        assert loaded_from(zip_of(content, {}), tmp_path) == []
        return
    refused_pickle(
        content, message, tmp_path, measured="billion" not in bomb and (len(content) < 1 << 16 or "empty lists" in bomb)
    )


def test_hostile_zip_archives(tmp_path):
    content = pickled(view(A, (12,), (1,)))
    buffer = io.BytesIO(zip_of(content, {"0": FLAT.tobytes()}))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data.pkl", pickled(1))
    refused(buffer.getvalue(), "two entries of the same name", tmp_path)
    bomb = zip_of(content, {"0": bytes(100 << 20)}, compression=zipfile.ZIP_DEFLATED)
    refused(bomb, "claim to expand to 1048", tmp_path)
    refused(zip_of(content, {"0": FLAT.tobytes()[:-1]}), "has 47 bytes instead of 48", tmp_path)
    # a small entry that really expands to more, and to less, than its header says
    small = zip_of(content, {"0": bytes(48)}, compression=zipfile.ZIP_DEFLATED)
    for size in (40, 56):
        lie = small.replace(struct.pack("<I", 48), struct.pack("<I", size))
        assert lie != small
        refused(lie, f"has {size} bytes instead of 48", tmp_path)
        n = size // 4
        agreed = zip_of(pickled(view(storage("0", "Float", n), (n,), (1,))), {"0": bytes(48)}, compression=zipfile.ZIP_DEFLATED)
        refused(agreed.replace(struct.pack("<I", 48), struct.pack("<I", size)), "not whole|than it says", tmp_path)
    honest = zip_of(pickled(1), {"0": bytes(1000)})
    refused(honest.replace(struct.pack("<II", 1000, 1000), struct.pack("<II", 1 << 31, 1 << 31)), "claim .* truncated", tmp_path)
    refused(honest.replace(struct.pack("<II", 1000, 1000), struct.pack("<II", 1000, 999)), "two different sizes", tmp_path)
    refused(zip_of(pickled(1), {}, compression=zipfile.ZIP_BZIP2), "compressed in an unknown way", tmp_path)
    refused(zip_of(pickled(1), {}, folder="a/b"), "no single FOLDER/data.pkl", tmp_path)
    refused(
        zip_of(pickled(1), {"../../constants.pkl": b"", "../data.pkl": b""}, order="middle"), "byte order is 'middle'", tmp_path
    )
    refused(zip_of(pickled(1), {}, order="x" * 100), "too long", tmp_path)
    refused(b"PK\3\4" + bytes(100), "not whole.*truncated, damaged, or of another kind", tmp_path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry in ("m/data.pkl", "m/constants.pkl", "m/code/x.py"):
            archive.writestr(entry, "")
    refused(buffer.getvalue(), "TorchScript archive", tmp_path)
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    refused(buffer.getvalue(), r"no single FOLDER/data\.pkl", tmp_path)


def test_hostile_streams(tmp_path):
    entry = view(storage("0", "Float", 12, None), (12,), (1,))
    data = (12, FLAT.tobytes())
    refused(stream_of(pickled(entry), {"0": (1 << 60, b"")}), "has 1152921504606846976 elements instead of 12", tmp_path)
    refused(stream_of(pickled(entry), {"0": (-1, b"")}), "has -1 elements", tmp_path)
    refused(stream_of(pickled(entry), {"0": (12, FLAT.tobytes()[1:])}), "48 more bytes are announced, 47 are left", tmp_path)
    refused(stream_of(pickled(entry), {}), "list of storages does not fit", tmp_path)
    refused(stream_of(pickled(entry), {"0": data, "1": data}), "list of storages does not fit", tmp_path)
    refused(stream_of(pickled(entry), {"0": data}) + b"more", "4 bytes follow", tmp_path)
    huge = view(storage("0", "Float", 1 << 40, None), (1 << 40,), (1,))
    refused(stream_of(pickled(huge), {"0": (1 << 40, b"")}), "ends too early: 4398046511104 more bytes", tmp_path)
    part = view(storage("0", "Float", 12, ("1", 8, 5)), (1,), (1,))
    refused(stream_of(pickled(part), {"0": data}), "a part of a storage reaches to element 13 of 12", tmp_path)
    refused(
        stream_of(pickled(entry), {"0": data}).replace(pickled(1001), pickled(1002)), "version 1001 does .but with 1002", tmp_path
    )


def test_parts_of_storages_in_old_streams(tmp_path):
    parts = {
        "a": view(storage("0", "Float", 12, ("1", 4, 6)), (2, 3), (3, 1)),
        "b": view(storage("0", "Float", 12, ("2", 8, 4)), (2,), (2,), 1),
    }
    loaded = loaded_from(stream_of(pickled(parts), {"0": (12, FLAT.tobytes())}), tmp_path)
    np.testing.assert_array_equal(loaded["a"].data, FLAT[4:10].reshape(2, 3))
    np.testing.assert_array_equal(loaded["b"].data, FLAT[[9, 11]])
    loaded["a"].data[1, 2] = 99
    assert loaded["b"].data[0] == 99


def test_hostile_tar_archives(tmp_path):
    def tar(storages=b"", tensors=b"", content=None, n=1, more=b""):
        storages = storages or tar_storage(1, "Float", 12, FLAT.tobytes())
        tensors = tensors or tar_tensor(9, 1, (12,), (1,), 0)
        members = {"storages": pickled(n) + storages + (more or pickled([])), "tensors": pickled(1) + tensors}
        return tar_of(members | {"pickle": content or pickled(Raw(encode(9) + b"Q"))})

    (tmp_path / "x").write_bytes(tar())
    assert weights.load(tmp_path / "x").shape == (12,)
    (tmp_path / "x").unlink()
    refused(tar(tensors=tar_tensor(9, 1, (13,), (1,), 0)), "reaches to element 13", tmp_path)
    refused(tar(tensors=tar_tensor(9, 1, (2,), (1,), -1)), "the offset of a tensor is -1", tmp_path)
    refused(tar(tensors=tar_tensor(9, 2, (2,), (1,), 0)), "has no storage 2", tmp_path)
    refused(tar(tensors=pickled((9, 1, name("torch", "FloatTensor"))) + struct.pack("<ii", 1 << 30, 0)), "dimensions", tmp_path)
    refused(tar(storages=tar_storage(1, "Float", 1 << 40, b"")), "ends too early", tmp_path)
    refused(tar(n=1 << 40), "ends too early|it does not|has the instruction|values belong", tmp_path)
    refused(tar(n=-1), "number of storages or tensors is -1", tmp_path)
    refused(tar(content=pickled(Raw(encode(8) + b"Q"))), "names 8, which the archive does not hold", tmp_path)
    refused(tar(more=pickled([(5, 1, 8, 5)])), "a part of a storage reaches to element 13", tmp_path)
    refused(tar_of({"storages": pickled(0) + pickled([])}), "has no member 'tensors'", tmp_path)
    damaged = bytearray(tar())
    damaged[124:135] = b"77777777777"
    refused(bytes(damaged), "header of the tar archive is damaged", tmp_path)


# ---- damage ------------------------------------------------------------------------------------------------------------


def answer(content: bytes, tmp_path):
    """What the reader says to a file: None for an error of the one kind, the value otherwise; anything else fails the test."""
    path = tmp_path / "damaged"
    path.write_bytes(content)
    try:
        return [load_torch_file(path)]
    except CheckpointError:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_noticed(kind, tmp_path):
    content = example(kind)
    end = len(content.rstrip(b"\0")) if kind == "tar" else len(content)  # an archive may lack the empty blocks at its end
    for size in range(0, end, {"zip": 7, "stream": 2, "tar": 37}[kind]):
        assert answer(content[:size], tmp_path) is None, size


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes_give_an_error_or_a_value(kind, tmp_path):
    content = example(kind)
    random = np.random.default_rng(0)
    outcomes = Counter()
    for _ in range(300):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), random.integers(1, 4)):
            damaged[position] = random.integers(256)
        outcomes[answer(bytes(damaged), tmp_path) is None] += 1
    assert outcomes[True] > 100


def test_shuffled_instructions_give_an_error_or_a_value(tmp_path):
    """Pickles of random instructions, which go deeper into the machine than flipped bytes do."""
    random = np.random.default_rng(1)
    atoms = [
        encode(v) for v in (None, True, 0, 1, -1, 5, 1 << 70, 0.5, "0", "latin1", "f4", "<", (), (1,), (2, 3), [], {}, [[1, 2]])
    ]
    atoms += [A, *[name(*names) for names in pickles_module.GLOBALS], NO_HOOKS, view(A, (3,), (1,))]
    codes = [c for c in pickles_module.INSTRUCTIONS if c not in (b"X", b"c", b"T", b"B", b"\x8d", b"\x8e", b"\x80", b"\x95")]
    values = 0
    for _ in range(1000):
        parts = []
        for _ in range(random.integers(1, 25)):
            if random.random() < 0.6:
                parts.append(atoms[random.integers(len(atoms))])
            else:
                parts.append(codes[random.integers(len(codes))] + (b"\0" if random.random() < 0.3 else b""))
        values += answer(zip_of(b"\x80\x02" + b"".join(parts) + b".", {"0": FLAT.tobytes()}), tmp_path) is not None
    assert values >= 5


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent"):
        load_torch_file(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="is not a file"):
        load_torch_file(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(CheckpointError, match="neither a zip"):
        load_torch_file(tmp_path / "empty")


# ---- bfloat16 in safetensors -------------------------------------------------------------------------------------------


def test_bfloat16_in_safetensors_becomes_float32(tmp_path):
    bits = np.array([[0x3F80, 0xFF80, 0x7FC1], [1, 0x8000, 0x4049]], "<u2")
    data = {
        "w": ("BF16", [2, 3], bits.tobytes()),
        "a": ("F32", [1], np.float32([7]).tobytes()),
        "e": ("BF16", [0, 3], b""),
        "o": ("BF16", [], bits[0, :1].tobytes()),
    }
    header, content = {}, b""
    for key, (kind, shape, part) in data.items():
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [len(content), len(content) + len(part)]}
        content += part
    text = json.dumps(header).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + content)
    loaded = weights.load(tmp_path / "x")
    assert loaded["w"].data.dtype == np.float32
    np.testing.assert_array_equal(loaded["w"].data.view(np.uint32), bits.astype(np.uint32) << 16)
    assert loaded["a"].tolist() == [7]
    assert loaded["e"].shape == (0, 3)
    assert loaded["o"].item() == 1
    assert weights.load_file(tmp_path / "x")["w"].flags.writeable


# ---- writing -----------------------------------------------------------------------------------------------------------

STATE = {
    "model": {
        "conv.weight": Tensor(np.arange(24.0).reshape(2, 3, 2, 2).astype(np.float32).transpose(0, 1, 3, 2)),
        "n": Tensor(np.array(5)),
    },
    "optimizer": {
        "state": {0: {"momentum_buffer": np.arange(6.0)[::-2], "step": 3}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 1)}],
    },
    "values": [None, True, -1, 1 << 31, -(1 << 31), -(1 << 31) - 1, 1 << 100, "ü", 0.1, (), [], {}, np.float32(0.5)],
    "kinds": [Tensor(np.array([1, 0], k)) for k in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?", ">f4")],
    "empty": Tensor(np.zeros((0, 3), np.float32)),
}


def assert_equal_states(a, b, path="state"):
    if hasattr(b, "dtype") and hasattr(b, "shape") and not isinstance(b, np.generic):
        first, second = (np.asarray(x.data if isinstance(x, Tensor) else x) for x in (a, b))
        assert first.dtype == second.dtype.newbyteorder("="), path
        assert first.shape == second.shape, path
        np.testing.assert_array_equal(first, second, err_msg=path)
    elif isinstance(b, dict):
        assert list(a) == list(b), path
        for key in b:
            assert_equal_states(a[key], b[key], f"{path}.{key}")
    elif isinstance(b, (list, tuple)):
        assert type(a) is type(b), path
        assert len(a) == len(b), path
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_equal_states(*pair, f"{path}.{i}")
    else:
        assert a == b, path
        assert type(a) is type(b) or isinstance(b, np.generic), path


def test_what_is_written_is_read(tmp_path):
    save_torch_file(STATE, tmp_path / "x.pth")
    assert_equal_states(weights.load(tmp_path / "x.pth"), STATE)
    save_torch_file(STATE, tmp_path / "y")
    assert (tmp_path / "x.pth").read_bytes() == (tmp_path / "y").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["x.pth", "y"]


def test_a_tensor_that_appears_twice_is_written_once(tmp_path):
    tied = Tensor(np.zeros(1000, np.float32))
    save_torch_file({"a": tied, "b": tied, "view": tied.reshape(10, 100), "c": tied.data}, tmp_path / "x")
    assert os.path.getsize(tmp_path / "x") < 10_000
    loaded = weights.load(tmp_path / "x")
    assert np.shares_memory(loaded["a"].data, loaded["b"].data)
    assert not np.shares_memory(loaded["a"].data, loaded["view"].data)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": [1, object()]}, r"cannot save the object at w\.1"),
        ({None: 1}, "keys at the top must be texts or integers, got None"),
        ({"w": np.array(["text"])}, "PyTorch has no tensors of <U4, the dtype at w"),
        (Tensor(np.zeros(1, np.uint16)), "no tensors of uint16, the dtype at the top"),
        ({"w": 1 << 5000}, "the integer at w is too large"),
        ({"w": "\ud800"}, "the text at w cannot be written"),
        ({"w": 1j}, "cannot save the complex at w"),
    ],
)
def test_what_cannot_be_written_is_named_and_nothing_is_written(value, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        save_torch_file(value, tmp_path / "x")
    endless: list = []
    endless.append(endless)
    with pytest.raises(TypeError, match="more than 100"):
        save_torch_file(endless, tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    save_torch_file([1], tmp_path / "x")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="the old file is unchanged"):
        save_torch_file([2], tmp_path / "x")
    assert weights.load(tmp_path / "x") == [1]


# ---- PyTorch's own -----------------------------------------------------------------------------------------------------


def same_as_torch(ours, theirs, path=""):
    """Compare what minigrad read with what torch.load gives."""
    torch = pytest.importorskip("torch")
    if isinstance(theirs, torch.Tensor):
        assert type(ours) is Tensor, path
        assert ours.requires_grad == theirs.requires_grad, path
        wide = theirs.detach().float() if theirs.dtype == torch.bfloat16 else theirs.detach()
        assert ours.shape == tuple(wide.shape), path
        assert ours.data.dtype == wide.numpy().dtype, path
        np.testing.assert_array_equal(ours.data, wide.numpy(), err_msg=path)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs), path
        for key in theirs:
            same_as_torch(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), path
        for i, pair in enumerate(zip(ours, theirs, strict=True)):
            same_as_torch(*pair, f"{path}.{i}")
    else:
        assert ours == theirs, path
        assert type(ours) is type(theirs), path


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_checkpoint_of_pytorch(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(16, 2))
    model.to(memory_format=torch.channels_last)
    model.half_copy = torch.nn.Parameter(torch.randn(3).half())
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60, 60])
    model(torch.randn(2, 3, 4, 4)).sum().backward()
    model.half_copy.grad = torch.zeros(3).half()
    optimizer.step()
    scheduler.step()
    base = torch.arange(20.0)
    state = {
        "epoch": 3,
        "arch": "net",
        "state_dict": model.state_dict(),
        "parameters": dict(model.named_parameters()),
        "optimizer": optimizer.state_dict(),
        "scheduler": {k: dict(v) if k == "milestones" else v for k, v in scheduler.state_dict().items()},
        "rng": torch.get_rng_state(),
        "views": [base, base[3:9:2], base.reshape(4, 5).T, base[19], base[:0], base.reshape(2, 2, 5).permute(2, 0, 1)[1:]],
        "kinds": [
            torch.ones(2).to(getattr(torch, k)) for k in ("float16", "bfloat16", "float64", "int8", "int16", "uint8", "bool")
        ],
        "bits": torch.arange(-32768, 32767, 7, dtype=torch.int16).view(torch.bfloat16),
        "expanded": torch.ones(1, 3).expand(4, 3),
    }
    torch.save(state, tmp_path / "x.tar", _use_new_zipfile_serialization=zipped)
    ours, theirs = weights.load(tmp_path / "x.tar"), torch.load(tmp_path / "x.tar", weights_only=True)
    same_as_torch(ours, theirs)
    views = [tensor.data for tensor in ours["views"]]
    assert all(np.shares_memory(views[0], other) for other in views[1:] if other.size)
    assert [a.strides for a in views[1:4]] == [(8,), (4, 20), ()]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_versions_of_pickles_and_other_values_of_pytorch(zipped, version, tmp_path):
    torch = pytest.importorskip("torch")
    state = {
        "accuracy": np.float64(91.5),
        "count": np.int64(3),
        "confusion": np.arange(6).reshape(2, 3)[:, ::-1].copy(),
        "fortran": np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "milestones": Counter([3, 3, 5]),
        "unsigned": torch.arange(3).to(torch.uint16),
        "model": OrderedDict(weight=torch.ones(2)),
        "bytes": b"\x00\xff",
    }
    if version == 5:  # which writes NumPy arrays in another way
        del state["confusion"], state["fortran"]
    torch.save(state, tmp_path / "x", _use_new_zipfile_serialization=zipped, pickle_protocol=version)
    ours = weights.load(tmp_path / "x")
    assert list(ours) == list(state)
    assert (ours["accuracy"], ours["count"], ours["device"], ours["size"]) == (91.5, 3, "cpu", (1, 2))
    assert ours["dtype"] == np.float16
    assert ours["milestones"] == {3: 2, 5: 1}
    assert ours["unsigned"].tolist() == [0, 1, 2]
    assert ours["unsigned"].data.dtype == np.uint16
    assert ours["bytes"] == b"\x00\xff"
    assert ours["model"]["weight"].tolist() == [1, 1]
    for key in ("confusion", "fortran"):
        if key in state:
            assert ours[key].dtype == state[key].dtype
            np.testing.assert_array_equal(ours[key], state[key])


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_model_of_pytorch_is_refused(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"x\.pt .*asks for torch\.nn\.modules\.linear\.Linear.*save a state_dict\(\)"):
        weights.load(tmp_path / "x.pt")


def test_pytorch_reads_the_files_written_by_hand(tmp_path):
    """So the fixtures above are what PyTorch takes for its own formats."""
    torch = pytest.importorskip("torch")
    for kind in KINDS:
        (tmp_path / "x").write_bytes(example(kind))
        theirs = torch.load(tmp_path / "x", weights_only=kind != "tar")
        same_as_torch(weights.load(tmp_path / "x"), theirs)


def test_pytorch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch")
    save_torch_file(STATE, tmp_path / "x.pth")
    theirs = torch.load(tmp_path / "x.pth", weights_only=True)
    assert_equal_states(STATE["model"], {k: v.numpy() for k, v in theirs["model"].items()})
    assert theirs["optimizer"]["state"][0]["momentum_buffer"].tolist() == [5, 3, 1]
    assert theirs["optimizer"]["param_groups"] == [{"lr": 0.1, "betas": (0.9, 1)}]
    assert theirs["values"] == STATE["values"]
    assert [t.tolist() for t in theirs["kinds"]] == [[1, 0]] * 10
    assert tuple(theirs["empty"].shape) == (0, 3)
    same_as_torch(weights.load(tmp_path / "x.pth"), theirs)


def test_bfloat16_of_pytorch_in_safetensors(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    values = torch.randn(3, 5).bfloat16()
    save_file({"w": values}, tmp_path / "x")
    np.testing.assert_array_equal(weights.load(tmp_path / "x")["w"].data, values.float().numpy())


@pytest.mark.data
@pytest.mark.skipif("MINIGRAD_TEST_DATA" not in os.environ, reason="MINIGRAD_TEST_DATA names no folder of real data")
def test_a_real_file_of_2018():
    path = Path(os.environ["MINIGRAD_TEST_DATA"]) / "weights" / "resnet20-12fca82f.th"
    loaded = weights.load(path)
    assert list(loaded) == ["best_prec1", "state_dict"]
    assert loaded["best_prec1"] == 91.78000183105469
    state = loaded["state_dict"]
    assert len(state) == 97
    assert next(iter(state)) == "module.conv1.weight"
    assert sum(tensor.data.size for key, tensor in state.items() if "running" not in key) == 269_722
    torch = pytest.importorskip("torch")
    same_as_torch(loaded, torch.load(path, map_location="cpu", weights_only=True))
