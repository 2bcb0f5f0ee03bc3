"""Timing contenders side by side: alternately, over several rounds, after their results were compared."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

__all__ = [
    "RESULTS",
    "aligned",
    "alternate",
    "cell",
    "digits",
    "environment",
    "load_torch",
    "options",
    "ratio",
    "report",
    "seconds_per_call",
    "select",
    "set_threads",
    "table",
    "write_json",
]

RESULTS = Path(__file__).resolve().parent / "results"
THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


# ---- timing ------------------------------------------------------------------------------------------------------------


def alternate(
    contenders: dict[str, Callable[[], object]],
    rounds: int,
    seconds: float = 0.3,
    clock: Callable[[Callable[[], object], int], float] | None = None,
) -> dict[str, list[float]]:
    """Seconds per call of each contender, one figure a round.

    In each round every contender runs in turn for about ``seconds`` (at least once), so that a slow spell of the machine hits
    all of them. ``clock(call, count)``: seconds per call of ``count`` calls, by default ``seconds_per_call``.
    """
    clock = clock or seconds_per_call
    repeats = {}
    for name, call in contenders.items():
        call()  # compiles, allocates, fills caches
        repeats[name] = max(1, round(seconds / max(clock(call, 1), 1e-7)))
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for round_ in range(rounds):
        turn = round_ % max(len(names), 1)
        for name in names[turn:] + names[:turn]:
            figures[name].append(clock(contenders[name], repeats[name]))
    return figures


def seconds_per_call(call: Callable[[], object], count: int) -> float:
    """Seconds per call of ``count`` calls by the clock of the processor. The garbage collector stands still meanwhile."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - start) / count
    finally:
        gc.enable()


def ratio(figures: dict[str, list[float]]) -> float | None:
    """minigrad's figure divided by the smallest of the others in the same round, the median over the rounds; None if alone."""
    others = [values for name, values in figures.items() if name != "minigrad"]
    if not others:
        return None
    best = [min(values) for values in zip(*others, strict=True)]
    return statistics.median(mine / other for mine, other in zip(figures["minigrad"], best, strict=True))


# ---- the machine -------------------------------------------------------------------------------------------------------


def set_threads(threads: int | None) -> int:
    """Use ``threads`` threads in minigrad; None: its default, the processors that it may use. Returns the number."""
    from minigrad.kernels import cpu

    if threads is not None:
        cpu.set_num_threads(threads)
    return cpu.get_num_threads()


def load_torch(threads: int):
    """PyTorch, limited to ``threads`` threads, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: minigrad is timed alone, and its results are not compared", file=sys.stderr)
        return None
    torch.set_num_threads(threads)
    return torch


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
        "variables": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
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


# ---- the command line and the report -----------------------------------------------------------------------------------


def options(description: str, rounds: int) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds in which the contenders alternate (default {rounds})")
    parser.add_argument("--threads", type=int, help="threads of each contender (default: the processors)")
    parser.add_argument("--out", type=Path, help="the JSON file (default: in benchmarks/results)")
    return parser


def select(names: Iterable[str], words: Iterable[str] | None) -> list[str]:
    """The names that contain one of the words, all without words; the program ends if a word fits none."""
    names = list(names)
    if not words:
        return names
    for word in words:
        if not any(word in name for name in names):
            raise SystemExit(f"nothing is called {word!r}; there are: {', '.join(names)}")
    return [name for name in names if any(word in name for word in words)]


def table(rows: list[dict], unit: str = "ms", scale: float = 1e3) -> str:
    """Rows (``{"name", "figures": {contender: one figure a round}, "ratio"}``) as text.

    Shown: the median, times ``scale``, with the spread (smallest to largest round), and the ratio of minigrad to the best other
    contender (below 1: minigrad is better).
    """
    contenders = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    header = ["", *(f"{name} {unit}" for name in contenders), "ratio"]
    lines = [header]
    for row in rows:
        cells = [cell(row["figures"].get(name), scale) for name in contenders]
        found = row.get("ratio")
        lines.append([row["name"], *cells, "-" if found is None else f"{found:.2f}"])
    return aligned(lines)


def aligned(lines: list[list[str]]) -> str:
    """Lines of cells as text, with cells of one column below each other."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def cell(figures: list[float] | None, scale: float) -> str:
    """The median of figures, times ``scale``, with the spread."""
    if not figures:
        return "-"
    values = sorted(scale * value for value in figures)
    if len(values) == 1:
        return digits(values[0])
    return f"{digits(statistics.median(values))} ({digits(values[0])}-{digits(values[-1])})"


def digits(value: float) -> str:
    """Three significant digits at least, and no more than three decimals."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def report(
    benchmark: str,
    rows: list[dict],
    threads: int,
    out: Path,
    unit: str = "seconds",
    shown: tuple[str, float] = ("ms", 1e3),
) -> None:
    """Print the table and the environment, and write both as JSON: figures in ``unit``, in the table in ``shown``."""
    found = environment(threads)
    print(table(rows, *shown))
    print(f"{found['processor']}, {threads} threads ({found['threading_layer']}), {found['versions']}")
    write_json(out, {"benchmark": benchmark, "unit": unit, "environment": found, "rows": rows})


def write_json(path: Path, document: dict) -> None:
    """Write a result so that other runs can be compared with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
