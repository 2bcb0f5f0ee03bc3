"""The graphics card of ``gpu.py``: its clocks, memory, number types and description, for minigrad and for PyTorch.

Both libraries work in one process: they share the card's primary context, and both launch on its legacy default stream. A
function that takes PyTorch's ``device`` also works with PyTorch on the processor, for the tests.
"""

from __future__ import annotations

import gc
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import metadata

import harness

from minigrad.device import module_for

__all__ = [
    "NUMBERS",
    "autocast",
    "card_clock",
    "environment",
    "free_memory",
    "is_out_of_memory",
    "number_type",
    "peak_memory",
    "require_card",
    "torch_clock",
]

# "tf32": float32, whose convolutions may round factors to 10 bits, the default of both libraries; "exact": float32, and nothing
# is rounded; "bf16": autocast to bfloat16.
NUMBERS = ("tf32", "exact", "bf16")


def require_card():
    """CuPy. Without a card, or without CuPy, the program ends with a line that says what is missing."""
    try:
        return module_for("cuda")
    except RuntimeError as error:
        raise SystemExit(f"benchmarks/gpu.py times a graphics card, and there is none: {' '.join(str(error).split())}") from None


# ---- number types ------------------------------------------------------------------------------------------------------


@contextmanager
def number_type(numbers: str, torch) -> Iterator[None]:
    """How both libraries multiply float32 numbers. Products of matrices stay in float32 in both: that is their default."""
    from minigrad.kernels import cuda

    with cuda.algorithm(exact=numbers == "exact"):
        if torch is None:
            yield
            return
        before = _torch_settings(torch, True, numbers != "exact", False)
        try:
            yield
        finally:
            _torch_settings(torch, *before)


def _torch_settings(torch, *values: bool) -> list[bool]:
    """Set whether PyTorch tries which algorithm is fastest, and uses TF32 in convolutions and in products; what was set before.

    By the older names of these settings: ``torch.compile`` refuses to work after the newer ones were used (PyTorch 2.9 to 2.11).
    """
    places = (torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "allow_tf32"), (torch.backends.cuda.matmul, "allow_tf32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are newer ones
        before = [getattr(*place) for place in places]
        for place, value in zip(places, values, strict=True):
            setattr(*place, value)
    return before


def autocast(library, numbers: str, device: str):
    """The library's autocast to bfloat16 where these numbers ask for it."""
    return library.autocast(device, dtype=library.bfloat16) if numbers == "bf16" else nullcontext()


# ---- clocks ------------------------------------------------------------------------------------------------------------


def _by_events(call: Callable[[], object], count: int, start, end, milliseconds: Callable[[], float]) -> float:
    """Seconds per call between two events, which the card notes when it gets there."""
    gc.collect()
    gc.disable()
    try:
        start.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return milliseconds() / 1e3 / count
    finally:
        gc.enable()


def card_clock(call: Callable[[], object], count: int) -> float:
    """Seconds per call by events of CuPy on the current stream."""
    cuda = module_for("cuda").cuda
    cuda.Device().synchronize()
    start, end = cuda.Event(), cuda.Event()
    return _by_events(call, count, start, end, lambda: cuda.get_elapsed_time(start, end))


def torch_clock(torch, device: str) -> Callable[[Callable[[], object], int], float]:
    """A clock as ``card_clock`` by events of PyTorch; for PyTorch on the processor, the processor's clock."""
    if device == "cpu":
        return harness.seconds_per_call

    def clock(call: Callable[[], object], count: int) -> float:
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        return _by_events(call, count, start, end, lambda: start.elapsed_time(end))

    return clock


# ---- memory ------------------------------------------------------------------------------------------------------------


def free_memory(torch) -> None:
    """Give what both libraries keep for later back to the card: neither can ask the other for it."""
    gc.collect()
    cupy = module_for("cuda")
    cupy.cuda.Device().synchronize()
    cupy.get_default_memory_pool().free_all_blocks()
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the card was full: CuPy, PyTorch and minigrad have classes of their own for it, and may hide it in others."""
    while error is not None:
        if "OutOfMemory" in type(error).__name__ or "out of memory" in str(error).lower():
            return True
        error = error.__cause__
    return False


@contextmanager
def peak_memory(torch) -> Iterator[dict[str, int]]:
    """Bytes of the card's memory that its block needs, in a dictionary that is filled at its end.

    "allocated": the most that was in use at once; "reserved": the most that the library had taken from the card, for its pool
    and those of graphs. Of PyTorch, or of CuPy if ``torch`` is None. What cuDNN and cuBLAS take for themselves is in neither.
    """
    found: dict[str, int] = {}
    if torch is not None:
        torch.cuda.reset_peak_memory_stats()
        yield found
        torch.cuda.synchronize()
        found["allocated"], found["reserved"] = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    else:
        hook = _memory_hook(module_for("cuda"))
        with hook:
            yield found
        found["allocated"], found["reserved"] = hook.peak, hook.reserved


def _memory_hook(cupy):
    """Adds up what CuPy's pools take from the card, and give to arrays."""

    class Hook(cupy.cuda.MemoryHook):
        name = "peak of memory"

        def __init__(self):
            pool = cupy.get_default_memory_pool()
            self.used = self.peak = pool.used_bytes()
            self.reserved = pool.total_bytes()

        def alloc_postprocess(self, **sizes):
            if sizes["mem_ptr"]:
                self.reserved += sizes["mem_size"]

        def malloc_postprocess(self, **sizes):
            if sizes["mem_ptr"]:
                self.used += sizes["mem_size"]
                self.peak = max(self.peak, self.used)

        def free_postprocess(self, **sizes):
            self.used -= sizes["mem_size"]

    return Hook()


# ---- what figures depend on --------------------------------------------------------------------------------------------


def environment(torch) -> dict:
    """``harness.environment`` with the card, its driver, and the libraries of CUDA."""
    cupy = module_for("cuda")
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    found = {
        **harness.environment(harness.set_threads(None)),
        "card": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory_bytes": runtime.memGetInfo()[1],
        "driver": _driver(),
        "cuda": {"driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion()},
        "cupy": cupy.__version__,
    }
    if torch is not None:
        found["torch"] = {"version": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        found["versions"]["triton"] = _version("triton")
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    """The release of the driver, which CUDA does not tell; None without NVIDIA's command."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0].strip() or None
