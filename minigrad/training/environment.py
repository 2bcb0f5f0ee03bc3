"""What a run is made with: versions and machine, for its records and for ``minigrad info``."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["cpu_count", "cpu_name", "environment", "package_version"]

PACKAGES = ("minigrad-numpy", "numpy", "numba", "safetensors")


def environment() -> dict[str, Any]:
    """Versions and machine as plain texts and numbers, ready for JSON."""
    return {
        "python": platform.python_version(),
        **{name: package_version(name) for name in PACKAGES},
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cpus": cpu_count(),
    }


def package_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(("model name", "Model")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
