"""Looking at a process from inside (its memory) and starting others (children that report one figure)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["child", "child_report", "peak_bytes", "reset_peak", "resident_bytes", "seconds_of"]

STATUS = Path("/proc/self/status")


# ---- memory of this process --------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    """Bytes of memory that this process holds now (Linux)."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most bytes that this process has held since it started, or since ``reset_peak`` (Linux)."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Let ``peak_bytes`` start again from what is held now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(field: str) -> int:
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise SystemExit(f"{STATUS} cannot be read ({error.strerror}): memory is measured on Linux only") from None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


# ---- other processes ---------------------------------------------------------------------------------------------------


def child(arguments: list[str], variables: dict[str, str] | None = None) -> str:
    """What ``python *arguments`` prints on standard output; the program ends with its error output if it fails."""
    environment = {**os.environ, **(variables or {})}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"python {' '.join(arguments)} failed ({done.returncode}):\n{done.stderr}")
    return done.stdout


def child_report(arguments: list[str], variables: dict[str, str] | None = None) -> dict:
    """The JSON object in the last line that ``python *arguments`` prints."""
    return json.loads(child(arguments, variables).splitlines()[-1])


def seconds_of(arguments: list[str], variables: dict[str, str] | None = None) -> float:
    """Seconds from the start to the end of ``python *arguments``."""
    start = time.perf_counter()
    child(arguments, variables)
    return time.perf_counter() - start
