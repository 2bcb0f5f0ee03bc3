"""What ``minigrad info`` prints: what is installed on this machine, what is fast, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator

from minigrad.cuda import device_count, get_device_properties
from minigrad.data import is_available
from minigrad.data import list as list_data_sets
from minigrad.data.files import data_root
from minigrad.data.registry import OWN_FOLDERS
from minigrad.device import module_for
from minigrad.kernels import cpu
from minigrad.training.environment import cpu_count, cpu_name, environment, package_version

__all__ = ["report"]

# Package: what it is for.
OPTIONAL = {
    "matplotlib": "pictures of learning curves",
    "pillow": "folders of images",
    "nbclient": "running the notebooks",
    "torch": "comparing with PyTorch in tests and benchmarks",
}
VECTORS = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("neon", "NEON"), ("sse2", "SSE2"))


def report() -> str:
    """Several lines of text: a name, and what there is."""
    return "\n".join(f"{name:<12}{text}" for name, text in _lines())


def _lines() -> Iterator[tuple[str, str]]:
    found = environment()
    yield "minigrad", f"{found['minigrad-numpy']} on Python {found['python']}, {found['system']}"
    yield "packages", ", ".join(f"{name} {found[name]}" for name in ("numpy", "numba", "safetensors"))
    yield "processor", f"{cpu_name()}, {cpu_count()} available, vectors: {_vectors()}"
    layer = cpu.threading_layer()
    slow = "; slow to start: install tbb, or a Numba with OpenMP" if layer == "workqueue" else ""
    yield "threads", f"{cpu.get_num_threads()} ({layer}{slow})"
    directory = cpu.compilation_stats().directory
    yield "kernels", f"kept in {directory}" if directory else "compiled anew in every run: set MINIGRAD_CACHE_DIR to a folder"
    yield "GPU", _gpu()
    for name, purpose in OPTIONAL.items():
        version = package_version(name)
        yield name, version if version else f"not installed (for {purpose}): pip install {name}"
    yield "data", f"{data_root()}: {', '.join(_data_sets())}"


def _vectors() -> str:
    features = cpu.vector_features()
    return next((name for feature, name in VECTORS if feature in features), "none known")


def _gpu() -> str:
    """The cards and CUDA, or why there are none and what to install."""
    try:
        cupy = module_for("cuda")
    except RuntimeError as error:
        return f"none: {error}"
    runtime = cupy.cuda.runtime
    versions = f"CUDA {_version(runtime.runtimeGetVersion())}, driver for CUDA {_version(runtime.driverGetVersion())}"
    cards = [get_device_properties(i) for i in range(device_count())]
    found = (f"{c.name}, {c.total_memory / 2**30:.1f} GiB, compute capability {c.major}.{c.minor}" for c in cards)
    return f"{'; '.join(found)}; {versions}, CuPy {cupy.__version__}"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _data_sets() -> Iterator[str]:
    for name in list_data_sets():
        if name not in OWN_FOLDERS:
            yield name if is_available(name) else f"{name} (not here)"
