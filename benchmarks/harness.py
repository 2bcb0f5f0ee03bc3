"""Timing contenders side by side: alternately, over several rounds, after their results were compared."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

__all__ = ["alternate", "environment", "ratio", "set_threads", "table", "write_json"]


def alternate(contenders: dict[str, Callable[[], object]], rounds: int, seconds: float = 0.3) -> dict[str, list[float]]:
    """Seconds per call of each contender, one figure a round.

    In each round every contender runs in turn for about ``seconds`` (at least twice), so that a slow spell of the machine hits
    all of them. The garbage collector stands still while one runs.
    """
    repeats = {}
    for name, call in contenders.items():
        call()  # compiles, allocates, fills caches
        start = time.perf_counter()
        call()
        repeats[name] = max(2, int(seconds / max(time.perf_counter() - start, 1e-7)))
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for round_ in range(rounds):
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            call, count = contenders[name], repeats[name]
            gc.collect()
            gc.disable()
            start = time.perf_counter()
            for _ in range(count):
                call()
            figures[name].append((time.perf_counter() - start) / count)
            gc.enable()
    return figures


def set_threads(threads: int | None) -> int:
    """Use ``threads`` threads in minigrad; None: its default, the processors that it may use. Returns the number."""
    from minigrad.kernels import cpu

    if threads is not None:
        cpu.set_num_threads(threads)
    return cpu.get_num_threads()


def environment(threads: int) -> dict:
    """What a figure depends on: processor, threads, threading layer, versions."""
    from minigrad.kernels import cpu

    versions = {}
    for package in ("minigrad-numpy", "numpy", "numba", "llvmlite", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": _processor(),
        "threads": threads,
        "threading_layer": cpu.threading_layer(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    simd = [name for name in ("avx512f", "avx2", "neon", "asimd") if name in fields.get("flags", fields.get("Features", ""))]
    return f"{fields.get('model name', platform.machine())}{' ' + simd[0] if simd else ''}"


def table(rows: list[dict], reference: str = "minigrad") -> str:
    """Rows (``{"name", "figures": {contender: seconds per round}}``) as text.

    Shown: median milliseconds with the spread (smallest to largest round), and the ratio of ``reference`` to the fastest other
    contender, as the median over rounds (below 1: ``reference`` is faster).
    """
    contenders = list(rows[0]["figures"])
    header = ["", *(f"{name} ms" for name in contenders), "ratio"]
    lines = [header]
    for row in rows:
        cells = [row["name"]]
        for name in contenders:
            ms = sorted(1e3 * s for s in row["figures"][name])
            cells.append(f"{statistics.median(ms):.2f} ({ms[0]:.2f}-{ms[-1]:.2f})")
        cells.append(f"{row['ratio']:.2f}" if row.get("ratio") is not None else "-")
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def ratio(figures: dict[str, list[float]], reference: str = "minigrad") -> float | None:
    """Median over the rounds of ``reference``'s time divided by the fastest other contender's in the same round."""
    others = [values for name, values in figures.items() if name != reference]
    if not others:
        return None
    best = [min(values) for values in zip(*others, strict=True)]
    return statistics.median(mine / other for mine, other in zip(figures[reference], best, strict=True))


def write_json(path: Path, document: dict) -> None:
    """Write a result so that other runs can be compared with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
