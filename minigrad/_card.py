"""Why a graphics card cannot be used, in words that say what to do about it.

Nothing here imports CuPy: it is given the module, or the exception that importing it raised.
"""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType

__all__ = ["OLDEST", "advice", "check_card", "check_driver", "check_libraries", "driver_version", "extra", "why_not_imported"]

OLDEST = (7, 5)  # the compute capability that the kernels need: Turing, 2018
INSUFFICIENT_DRIVER, NO_DEVICE = 35, 100  # of cudaError_t

# What may be installed, by the CUDA version that the driver must have.
EXTRAS = {13: "gpu", 12: "gpu12"}


def driver_version() -> int:
    """The newest CUDA version that the NVIDIA driver of this machine knows, 13000 for 13.0; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        version = ctypes.c_int()
        return version.value if driver.cuDriverGetVersion(ctypes.byref(version)) == 0 else 0
    except (OSError, AttributeError):
        return 0


def extra(version: int) -> str | None:
    """The extra to install for a driver of this version; "gpu" where there is none yet, None where it is too old for any."""
    return next((name for major, name in EXTRAS.items() if version >= 1000 * major), None) if version else "gpu"


def advice(version: int) -> str:
    """What to install on a machine whose driver has this version."""
    if not version:
        return 'install an NVIDIA driver (https://www.nvidia.com/drivers), then: pip install "minigrad-numpy[gpu]"'
    name = extra(version)
    if name is None:
        return f"the NVIDIA driver knows CUDA {_named(version)} at most, and CuPy needs CUDA 12: install a newer driver"
    return f'pip install "minigrad-numpy[{name}]"'


def _named(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def why_not_imported(error: Exception) -> str:
    """What to do after ``import cupy`` failed with ``error``."""
    version = driver_version()
    if isinstance(error, ModuleNotFoundError) and error.name in (None, "cupy"):
        what = "CuPy is not installed" + ("" if version else ", and no NVIDIA driver is found")
        return f"{what}. A card needs an NVIDIA driver and CuPy: {advice(version)}"
    return f"CuPy is installed but cannot be imported: {_first_line(error)}. {_reinstall(version)}"


def check_driver(cupy: ModuleType) -> int:
    """The number of cards. Raises RuntimeError that says what to do if the driver does not serve this CuPy, or finds no card."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # a broken driver shows itself in many exception types
        raise RuntimeError(_driver_trouble(cupy, error)) from None
    if not count:
        raise RuntimeError(_NO_CARD)
    return count


_NO_CARD = "the NVIDIA driver finds no graphics card: does nvidia-smi list one, and does CUDA_VISIBLE_DEVICES hide it?"


def _driver_trouble(cupy: ModuleType, error: Exception) -> str:
    status, version = getattr(error, "status", None), driver_version()
    if status == NO_DEVICE:
        return _NO_CARD
    if status != INSUFFICIENT_DRIVER:
        return f"{type(error).__name__}: {_first_line(error)}. CuPy is installed; the NVIDIA driver has this trouble"
    if not version:
        return f"CuPy is installed, but no NVIDIA driver is found: {advice(0)}"
    needed = cupy.cuda.runtime.runtimeGetVersion()
    text = f"the NVIDIA driver is too old: it knows CUDA {_named(version)} at most, this CuPy was built for CUDA {_named(needed)}"
    name = extra(version)
    if name is None or needed // 1000 <= version // 1000:
        return f"{text}. Install a newer driver"
    return f"{text}. Install a newer driver, or CuPy for this one: {_reinstall(version)}"


def check_libraries(cupy: ModuleType) -> None:
    """Raise RuntimeError if CuPy does not find the compiler for the kernels, which is among CUDA's libraries."""
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # which type it is depends on the version of CuPy
        raise RuntimeError(
            f"CuPy is installed but finds CUDA's libraries not, or those of another version: {_first_line(error)}. "
            f"{_reinstall(driver_version())}"
        ) from None


def _reinstall(version: int) -> str:
    """How to get the package that fits, with CUDA's libraries; two of CuPy's packages do not go together."""
    return f"Remove what is there (pip uninstall cupy cupy-cuda12x cupy-cuda13x), then: {advice(version)}"


def check_card(cupy: ModuleType, index: int) -> None:
    """Raise RuntimeError if card number ``index`` is too old for the kernels."""
    properties = cupy.cuda.runtime.getDeviceProperties(index)
    capability = properties["major"], properties["minor"]
    if capability < OLDEST:
        raise RuntimeError(
            f"{properties['name'].decode()} has compute capability {capability[0]}.{capability[1]}, and the kernels need "
            f"{OLDEST[0]}.{OLDEST[1]} or higher (the cards since Turing, 2018): use device 'cpu'"
        )


def _first_line(error: Exception) -> str:
    """The beginning of an exception's message; CuPy's go over many lines, with frames of equal signs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =\t")]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
