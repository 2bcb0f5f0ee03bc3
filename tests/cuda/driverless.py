"""CuPy's own code on a driver that is not there: whatever minigrad asks of CuPy is asked for real, but no kernel runs.

CuPy's modules are C code that calls the functions of two of them, ``runtime`` and ``driver``, through pointers. These are
replaced before the rest of CuPy looks at them: memory is the processor's, modules and streams are numbers, a launch is counted.
Results mean nothing, so what is found is what CuPy refuses: values of launches, arguments, names. As a program it prints, as
JSON, what went wrong in each of ``PROGRAMS``.
"""

from __future__ import annotations

import collections
import ctypes
import itertools
import json
import os
import re
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
import pytest

from minigrad.device import array_module

__all__ = ["PROGRAMS"]

_TYPES = {
    **{"PyObject *": ctypes.py_object, "float": ctypes.c_float, "unsigned int": ctypes.c_uint, "intptr_t": ctypes.c_ssize_t},
    **dict.fromkeys(("size_t", "uintmax_t"), ctypes.c_size_t),
    **dict.fromkeys(("int", "CUdevice", "cudaMemcpyKind"), ctypes.c_int),
}
_kept: list = []  # functions that C code points to
_handles = itertools.count(1)
_capturing: set[int] = set()
launches: collections.Counter[str] = collections.Counter()
_names: dict[int, str] = {}  # of functions of modules

_c = ctypes.CDLL(None)
_c.calloc.restype, _c.calloc.argtypes, _c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t] * 2, [ctypes.c_void_p]


# ---- the driver --------------------------------------------------------------------------------------------------------


def _new(*_) -> int:
    return next(_handles)


def _allocate(size: int, *_) -> int:
    return _c.calloc(size + 64, 1)


def _free(pointer: int, *_) -> None:
    _c.free(pointer)


def _copy(target: int, source: int, size: int, *_) -> None:
    ctypes.memmove(target, source, size)


def _fill(target: int, value: int, size: int, *_) -> None:
    ctypes.memset(target, value, size)


def _end_capture(stream: int) -> int:
    _capturing.discard(stream)
    return next(_handles)


def _function(module: int, name) -> int:
    number = next(_handles)
    _names[number] = name.decode() if isinstance(name, bytes) else name
    return number


def _launch(function: int, *_) -> None:
    launches[_names[function]] += 1


def _properties(index: int) -> dict:
    return {"name": b"no card", "major": 9, "minor": 0, "multiProcessorCount": 132, "warpSize": 32, "totalGlobalMem": 80 << 30}


FUNCTIONS = {
    **dict.fromkeys(("malloc", "mallocAsync", "hostAlloc"), _allocate),
    **dict.fromkeys(("free", "freeAsync", "freeHost"), _free),
    **dict.fromkeys(("memcpy", "memcpyAsync"), _copy),
    **dict.fromkeys(("memset", "memsetAsync"), _fill),
    **dict.fromkeys(("eventCreate", "eventCreateWithFlags", "graphInstantiate", "moduleLoad", "moduleLoadData"), _new),
    **dict.fromkeys(("streamCreate", "streamCreateWithFlags", "streamCreateWithPriority", "ctxGetCurrent"), _new),
    "deviceGetAttribute": lambda attribute, device: {75: 9, 76: 0}.get(attribute, 1024),  # the compute capability
    "driverGetVersion": lambda: 13000,
    "eventElapsedTime": lambda start, end: 1.0,
    "eventQuery": lambda event: 0,
    "getDeviceCount": lambda: 1,
    "getDeviceProperties": _properties,
    "launchKernel": _launch,
    "memGetInfo": lambda: (70 << 30, 80 << 30),
    "moduleGetFunction": _function,
    "occupancyMaxPotentialBlockSize": lambda *_: (4, 256),
    "runtimeGetVersion": lambda: 13000,
    "streamBeginCapture": lambda stream, *_: _capturing.add(stream),
    "streamEndCapture": _end_capture,
    "streamIsCapturing": lambda stream: int(stream in _capturing),
    "streamQuery": lambda stream: 0,
}


def _replace(module: ModuleType) -> None:
    """Let the functions that a module of CuPy's shares with others be those above, or do nothing."""
    name_of, set_pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_SetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    set_pointer.argtypes = [ctypes.py_object, ctypes.c_void_p]
    for name, capsule in module.__pyx_capi__.items():
        signature = re.fullmatch(r"(.*?) ?\((.*)\)", name_of(capsule).decode())
        if signature is None or signature[1] not in _TYPES or name in ("check_status", "get_build_version"):
            continue
        result = signature[1]
        parameters = [] if signature[2] == "void" else signature[2].split(", ")
        hidden = {i for i, p in enumerate(parameters) if "__pyx" in p}  # what Cython adds to the arguments
        function = FUNCTIONS.get(name, (lambda *_: None) if result == "PyObject *" else lambda *_: 0)

        def call(*given, function=function, hidden=hidden):
            return function(*[value for i, value in enumerate(given) if i not in hidden])

        types = [ctypes.c_int if "skip_dispatch" in p else _TYPES.get(p, ctypes.c_void_p) for p in parameters]
        pointer = ctypes.CFUNCTYPE(_TYPES[result], *types)(call)
        _kept.append(pointer)
        set_pointer(capsule, ctypes.cast(pointer, ctypes.c_void_p))
        setattr(module, name, lambda *given, function=function, **_: function(*given))


class _Cublas:
    """cuBLAS, which computes nothing. CuPy's own calls it asks for in C; ours is looked at."""

    def gemmEx(self, *arguments: int) -> None:
        if len(arguments) != 19 or not all(isinstance(a, int) for a in arguments):
            raise TypeError(f"gemmEx takes 19 integers, got {arguments}")

    def __getattr__(self, name: str) -> Callable | int:
        return 0 if name.isupper() else lambda *_: 0


def install() -> ModuleType:
    """CuPy on this driver."""
    from cupy_backends.cuda.api import driver, runtime

    _replace(runtime)
    _replace(driver)
    import cupy
    from cupy.cuda import compiler, device
    from cupy_backends.cuda import libs

    libs.cublas, device.get_cublas_handle = _Cublas(), lambda: 1
    compiler._nvrtc_version, cupy.cuda.nvrtc.getVersion = (13, 0), lambda: (13, 0)
    compiler.compile_using_nvrtc = lambda *given, **named: (b"nothing", {e: e for e in _expressions(*given, **named)})
    return cupy


def _expressions(source, options=(), arch=None, filename="", name_expressions=None, *given, **named) -> tuple:
    return tuple(name_expressions or ())


# ---- what is asked of it -----------------------------------------------------------------------------------------------


def _training(name: str, size: int = 32, captured: bool = False, amp: str | None = None, optimizer: str = "SGD") -> Callable:
    """Steps of a network, all on the card: eager, or captured and replayed."""

    def program() -> None:
        import minigrad as mg
        from minigrad import models
        from minigrad.nn.functional import cross_entropy

        model = models.create(name, num_classes=10).cuda()
        chosen = getattr(mg.optim, optimizer)(model.parameters(), lr=0.1, **({"momentum": 0.9} if optimizer != "Adam" else {}))
        scaler = mg.amp.GradScaler("cuda", enabled=amp == "float16")

        def step(images, classes):
            chosen.zero_grad()
            with mg.autocast("cuda", dtype=getattr(mg, amp or "float16"), enabled=amp is not None):
                loss = cross_entropy(model(images), classes)
            scaler.scale(loss).backward()
            scaler.step(chosen)
            scaler.update()
            return loss

        run = mg.cuda.graph(step, warmup=1) if captured else step
        images, classes = mg.randn(4, 3, size, size).cuda(), mg.zeros(4, dtype=mg.int64).cuda()
        before = launches.total()
        for _ in range(3):
            run(images, classes)
        assert launches.total() > before, "nothing was launched"
        assert not captured or run.replays == 2

    return program


def _memory() -> None:
    import minigrad as mg

    x = mg.zeros(1 << 20, device="cuda")
    assert mg.cuda.memory_allocated() >= x.data.nbytes <= mg.cuda.max_memory_allocated() <= mg.cuda.memory_reserved()
    assert mg.cuda.mem_get_info() == (70 << 30, 80 << 30)
    mg.cuda.reset_peak_memory_stats()
    mg.cuda.empty_cache()
    pool = array_module(x.data).get_default_memory_pool()
    pool.set_limit(size=pool.total_bytes() + (1 << 20))
    with pytest.raises(mg.cuda.OutOfMemoryError, match=r"asked for 64\.00 MiB on card 0") as caught:
        mg.zeros(1 << 24, device="cuda")
    assert caught.value.__context__ is None
    pool.set_limit(size=0)


def _streams_and_transfers() -> None:
    import minigrad as mg

    start, end, side = mg.cuda.Event(enable_timing=True), mg.cuda.Event(enable_timing=True), mg.cuda.Stream()
    start.record()
    side.wait_stream(mg.cuda.current_stream())
    with mg.cuda.stream(side):
        mg.ones(3, device="cuda") * 2
    end.record()
    end.synchronize()
    assert start.elapsed_time(end) == 1.0
    assert side.query()
    assert mg.cuda.get_device_capability() == (9, 0)
    values = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    for array in (values, values.transpose(0, 3, 1, 2), values[:, ::2]):
        np.testing.assert_array_equal(mg.tensor(array).cuda().cpu().numpy(), array)
    images = mg.data.ImageDataset(np.arange(20 * 64, dtype=np.uint8).reshape(20, 1, 8, 8), np.arange(20) % 3)
    loader = mg.data.DataLoader(images, 4, num_workers=2, pin_memory=True)
    batches = [x for x, _ in mg.data.to_device(loader, "cuda")]
    for there, (here, _) in zip(batches, loader, strict=True):
        np.testing.assert_array_equal(there.cpu().numpy(), here.numpy())


def _refusals() -> None:
    """What CuPy itself refuses while it captures comes out in our words."""
    import minigrad as mg

    x = mg.ones(3, device="cuda")
    for look in (lambda x: x * x.sum().item(), lambda x: x.cpu(), lambda x: x + mg.ones(3).cuda()):
        step = mg.cuda.graph(look, warmup=1)
        step(x)
        with pytest.raises(RuntimeError, match=r"cuda\.graph: the step cannot be captured"):
            step(x)


def _every_op() -> None:
    """No op gives CuPy an argument that it does not take. Values are wrong, and may be refused as such."""
    from tests.ops.cases import ALL_CASES
    from tests.ops.harness import run
    from tests.ops.test_layouts import channels_last

    wrong = []
    for case in ALL_CASES:
        for layout in ((), (channels_last,)):
            try:
                run(case, np.float32, *layout, device="cuda").backward()
            except (AssertionError, IndexError, ValueError):
                continue
            except Exception as error:
                if "failed inside CUB" in str(error):  # its sorting, which was compiled together with CUDA, finds no driver
                    continue
                wrong.append(f"{case.name}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


PROGRAMS = {
    "a CIFAR ResNet": _training("cifar_resnet14"),
    "the same, captured": _training("cifar_resnet14", captured=True),
    "the same in bfloat16": _training("cifar_resnet14", amp="bfloat16"),
    "the same in bfloat16, captured": _training("cifar_resnet14", captured=True, amp="bfloat16"),
    "the same in float16": _training("cifar_resnet14", amp="float16"),
    "the same with Adam": _training("cifar_resnet14", optimizer="Adam"),
    "the same with RMSprop": _training("cifar_resnet14", optimizer="RMSprop"),
    "GoogLeNet": _training("googlenet", 64),
    "MobileNetV2, captured": _training("mobilenet_v2", 64, captured=True),
    "EfficientNet": _training("efficientnet_b0", 64),
    "AlexNet": _training("alexnet_2012", 227),
    "memory": _memory,
    "streams and transfers": _streams_and_transfers,
    "refusals": _refusals,
    "every op": _every_op,
}


def results() -> Iterator[tuple[str, str]]:
    """(program, what went wrong in it) for all programs."""
    for name, program in PROGRAMS.items():
        try:
            program()
            yield name, ""
        except Exception:
            yield name, traceback.format_exc(limit=-6)


if __name__ == "__main__":
    install()
    print(json.dumps(dict(results())), flush=True)
    os._exit(0)  # what CuPy does at the end would find the functions above gone
