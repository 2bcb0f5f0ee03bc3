"""Devices: transfers keep memory orders, streams and events, and every way in which a card can be missing has its own advice."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad import _card
from tests.ops.test_layouts import LAYOUTS

device = importlib.import_module("minigrad.device")  # ``mg.device`` is the function

# ---- transfers ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool", "bfloat16"])
def test_there_and_back(layout, dtype):
    """Values, dtype and the order of the axes in memory stay; the copy is dense."""
    given = np.random.default_rng(0).uniform(0, 2, (2, 3, 4, 5))
    x = layout(given.astype(device.bfloat16() if dtype == "bfloat16" else dtype))
    there = device.move(x, "cuda")
    back = device.to_numpy(there)
    order = sorted(range(4), key=lambda axis: -abs(x.strides[axis]))
    for copy in (there, back):
        assert copy.dtype == x.dtype
        assert copy.transpose(order).flags.c_contiguous
    assert back.tobytes() == x.tobytes()
    assert device.move(there, "cuda:0") is there
    assert device.move(x, "cpu") is x


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1, 1, 1)])
def test_odd_shapes(shape):
    x = np.ones(shape, np.float32)
    assert device.to_numpy(device.move(x, "cuda")).shape == shape
    assert device.pinned(x).shape == shape
    expanded = np.broadcast_to(np.float32(3), (2, 5))
    assert np.array_equal(device.to_numpy(device.move(expanded, "cuda")), expanded)


@pytest.mark.usefixtures("card")
def test_gradients_come_back():
    x = mg.randn(2, 3, 4, 4, requires_grad=True)
    y = x.to("cuda").permute(0, 2, 3, 1)
    assert y.is_cuda
    (y * y).sum().backward()
    assert x.grad.device == "cpu"
    np.testing.assert_allclose(x.grad.numpy(), 2 * x.detach().numpy(), rtol=1e-6)


@pytest.mark.usefixtures("card")
def test_creation_and_names():
    for t in (mg.zeros(2, device="cuda"), mg.randn(2, device="cuda:0"), mg.tensor([1.0], device="cuda"), mg.ones(2).cuda(0)):
        assert t.device == mg.device("cuda:0") == "cuda"
        assert repr(t).endswith("device='cuda:0')")
        assert mg.zeros_like(t).is_cuda
        assert t.cpu().device == "cpu"
    with pytest.raises(RuntimeError, match=r"device 'cuda:7' does not exist: this machine has \d"):
        mg.zeros(2, device="cuda:7")
    with pytest.raises(ValueError, match="device must be a card"):
        mg.cuda.get_device_name("cpu")


# ---- mg.cuda -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("card")
def test_cards():
    assert mg.cuda.is_available()
    assert mg.cuda.device_count() >= 1
    found = mg.cuda.get_device_properties("cuda")
    assert found.name == mg.cuda.get_device_name() == mg.cuda.get_device_name(0)
    assert mg.cuda.get_device_capability() == (found.major, found.minor) >= _card.OLDEST
    assert mg.cuda.is_bf16_supported() == (found.major >= 8)
    with mg.cuda.device(0) as card:
        assert card.idx == mg.cuda.current_device() == 0
    mg.cuda.set_device("cuda:0")
    mg.cuda.synchronize()
    mg.cuda.manual_seed_all(3)


@pytest.mark.usefixtures("card")
def test_streams_and_events():
    start, end = mg.cuda.Event(enable_timing=True), mg.cuda.Event(enable_timing=True)
    default, side = mg.cuda.current_stream(), mg.cuda.Stream()
    assert default == mg.cuda.default_stream() != side
    x = mg.ones(1000, device="cuda")
    start.record()
    side.wait_stream(default)
    with mg.cuda.stream(side):
        assert mg.cuda.current_stream() == side
        y = x + 1
    assert mg.cuda.current_stream() == default
    default.wait_stream(side)
    end.record()
    end.synchronize()
    side.synchronize()
    assert end.query()
    assert side.query()
    assert start.elapsed_time(end) >= 0
    assert float(y.sum()) == 2000
    with pytest.raises(ValueError, match="enable_timing=True"):
        start.elapsed_time(mg.cuda.Event())
    with mg.cuda.stream(None):
        assert mg.cuda.current_stream() == default


# ---- what is missing ---------------------------------------------------------------------------------------------------


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


def fake_cupy(count=1, error=None, nvrtc=None, runtime=13020, capability=(9, 0)):
    """A module with what is asked of CuPy before it is used."""

    def fail_or(value, error):
        def function(*_):
            if error is not None:
                raise error
            return value

        return function

    cupy = types.ModuleType("cupy")
    properties = {"name": b"Some Card", "major": capability[0], "minor": capability[1]}
    cupy.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(
            getDeviceCount=fail_or(count, error),
            getDevice=lambda: 0,
            runtimeGetVersion=lambda: runtime,
            getDeviceProperties=lambda index: properties,
        ),
        nvrtc=types.SimpleNamespace(getVersion=fail_or((13, 2), nvrtc)),
        get_allocator=lambda: None,
    )
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(malloc=len)
    return cupy


INSUFFICIENT = CUDARuntimeError(35, "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")
LIBRARY = RuntimeError('\n====\nFailure finding "libnvrtc.so.13": No such file\n====\n')
UNINSTALL = r"pip uninstall cupy cupy-cuda12x cupy-cuda13x\), then: pip install"

# driver's CUDA version, CuPy (None: not installed; an exception: importing it fails), what the message must say
TROUBLES = {
    "nothing": (
        0,
        None,
        r"CuPy is not installed, and no NVIDIA driver is found.*install an NVIDIA driver.*minigrad-numpy\[gpu\]",
    ),
    "no CuPy": (13000, None, r'CuPy is not installed\. .*: pip install "minigrad-numpy\[gpu\]"$'),
    "no CuPy, driver of CUDA 12": (12040, None, r'CuPy is not installed\. .*: pip install "minigrad-numpy\[gpu12\]"$'),
    "no CuPy, driver of CUDA 11": (11080, None, r"the NVIDIA driver knows CUDA 11\.8 at most.*install a newer driver"),
    "CuPy is broken": (13000, ImportError("=====\nFailed to import\n"), rf"cannot be imported: Failed to import\. .*{UNINSTALL}"),
    "no driver": (
        0,
        fake_cupy(error=INSUFFICIENT),
        r"CuPy is installed, but no NVIDIA driver is found: install an NVIDIA driver",
    ),
    "driver too old for this CuPy": (
        12040,
        fake_cupy(error=INSUFFICIENT),
        rf'knows CUDA 12\.4 at most, this CuPy was built for CUDA 13\.2\. .*CuPy for this one.*{UNINSTALL} "minigrad.*\[gpu12\]"',
    ),
    "driver too old for any": (11040, fake_cupy(error=INSUFFICIENT), r"knows CUDA 11\.4 at most.*\. Install a newer driver$"),
    "no card": (
        13000,
        fake_cupy(error=CUDARuntimeError(100, "cudaErrorNoDevice")),
        r"finds no graphics card.*CUDA_VISIBLE_DEVICES",
    ),
    "cards hidden": (13000, fake_cupy(count=0), r"finds no graphics card.*CUDA_VISIBLE_DEVICES"),
    "another trouble": (
        13000,
        fake_cupy(error=CUDARuntimeError(999, "cudaErrorUnknown")),
        r"cudaErrorUnknown\. CuPy is installed",
    ),
    "CUDA's libraries are missing": (
        13000,
        fake_cupy(nvrtc=LIBRARY),
        rf'libraries not.*libnvrtc.so.13.*{UNINSTALL} ".*\[gpu\]"',
    ),
    "libraries of another CUDA": (12040, fake_cupy(nvrtc=LIBRARY, runtime=12090), rf'{UNINSTALL} "minigrad-numpy\[gpu12\]"'),
    "an old card": (
        13000,
        fake_cupy(capability=(7, 0)),
        r"Some Card has compute capability 7\.0, and the kernels need 7\.5 or higher",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_is_missing(monkeypatch, trouble):
    version, cupy, message = TROUBLES[trouble]
    monkeypatch.setattr(_card, "driver_version", lambda: version)
    if isinstance(cupy, ImportError):
        monkeypatch.delitem(sys.modules, "cupy", raising=False)
        real = importlib.import_module

        def import_module(name):
            if name == "cupy":
                raise cupy
            return real(name)

        monkeypatch.setattr(device.importlib, "import_module", import_module)
    else:
        monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert not mg.cuda.is_available()
    for _ in range(2):  # asking again gives the same answer
        with pytest.raises(RuntimeError, match=message) as caught:
            mg.ones(2).to("cuda")
    assert str(caught.value).count("cannot use device 'cuda'") == 1
    assert "\n" not in str(caught.value)
    assert mg.cuda.device_count() == 0
    mg.cuda.empty_cache()


def test_the_version_of_the_driver():
    version = _card.driver_version()
    assert isinstance(version, int)
    assert version == 0 or version >= 1000
    assert [_card.extra(v) for v in (0, 11080, 12000, 12090, 13000, 14020)] == ["gpu", None, "gpu12", "gpu12", "gpu", "gpu"]
