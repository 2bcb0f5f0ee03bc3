"""How long it takes until something happens: imports, the first training step, the first run on a machine.

    python benchmarks/startup.py [--rounds 5] [--threads N] [--out FILE.json]

Every figure is that of a new Python process. The "first step" of LeNet-5 is counted from the start of the process to its end,
so it holds the start of Python, the imports, making the network, and loading (or, with an empty cache, compiling) the kernels.
Files are in the system's cache: each process is run once before it counts, except where compilation is what is measured.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import RESULTS, options, ratio, report, set_threads
from process import child, child_report, seconds_of

HERE = Path(__file__).resolve().parent

IMPORT = "import json, time, numpy{0}; t = time.perf_counter(); import {1}; print(json.dumps(time.perf_counter() - t))"
FIRST_STEP = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import {{0}} as library
import networks
library.set_num_threads({{1}})
model = networks.create("lenet5", library)
optimizer = library.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
loss = library.nn.functional.cross_entropy(model(library.randn(64, 1, 32, 32)), library.arange(64) % 10)
loss.backward()
optimizer.step()
"""


def main() -> None:
    arguments = options(__doc__, rounds=5).parse_args()
    threads = set_threads(arguments.threads)
    libraries = ["minigrad", "torch"] if importlib.util.find_spec("torch") else ["minigrad"]
    rows = [
        _row("import, beyond NumPy (and Numba)", _import_seconds, libraries, arguments.rounds),
        _row("import and first LeNet-5 step", lambda name: _first_step(name, threads), libraries, arguments.rounds),
        {"name": "the same with an empty kernel cache", "figures": {"minigrad": [_with_empty_cache(threads)]}},
    ]
    if _has_warmup():
        rows.append({"name": "minigrad warmup, empty kernel cache", "figures": {"minigrad": [_warmup_seconds()]}})
    report("startup", rows, threads, arguments.out or RESULTS / "startup.json", shown=("s", 1.0))


def _row(name: str, seconds: Callable[[str], float], libraries: list[str], rounds: int) -> dict:
    """The libraries in turn, after a run of each that does not count."""
    for library in libraries:
        seconds(library)
    figures: dict[str, list[float]] = {library: [] for library in libraries}
    for _ in range(rounds):
        for library in libraries:
            figures[library].append(seconds(library))
    return {"name": name, "figures": figures, "ratio": ratio(figures)}


def _import_seconds(library: str) -> float:
    return child_report(["-c", IMPORT.format(", numba" if library == "minigrad" else "", library)])


def _first_step(library: str, threads: int, variables: dict[str, str] | None = None) -> float:
    return seconds_of(["-c", FIRST_STEP.format(library, threads)], variables)


def _with_empty_cache(threads: int) -> float:
    with tempfile.TemporaryDirectory(prefix="minigrad-startup-") as folder:
        return _first_step("minigrad", threads, {"MINIGRAD_CACHE_DIR": folder})


# ---- the command ``minigrad warmup`` -----------------------------------------------------------------------------------

COMMAND = ["-c", "import sys; from minigrad.cli import main; sys.exit(main())", "warmup"]


def _has_warmup() -> bool:
    """Whether this minigrad has the command that compiles all kernels."""
    return not subprocess.run([sys.executable, *COMMAND, "--help"], capture_output=True, check=False).returncode


def _warmup_seconds() -> float:
    child(["-c", "import minigrad.cli"])
    with tempfile.TemporaryDirectory(prefix="minigrad-startup-") as folder:
        return seconds_of(COMMAND, {"MINIGRAD_CACHE_DIR": folder})


if __name__ == "__main__":
    main()
