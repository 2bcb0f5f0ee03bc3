"""How much memory training takes, beside PyTorch.

    python benchmarks/memory.py [--nets WORD ...] [--rounds 1] [--threads N] [--out FILE.json]

Each contender runs three training steps in a process of its own. Shown is the peak of that process's resident memory in these
steps, less what it held just before the first one, when the libraries, the network, the optimizer and the images were there
already: activations, gradients, momentum, work space, and what a library loads when it first computes. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import networks
import training_step
from harness import RESULTS, load_torch, options, ratio, report, select, set_threads
from process import child_report, peak_bytes, reset_peak, resident_bytes

import minigrad as mg

CASES = ("resnet18 batch 32", "resnet50 batch 8")
CONTENDERS = ("minigrad", "torch", "torch_channels_last")
STEPS = 3


def main() -> None:
    arguments = _arguments()
    threads = set_threads(arguments.threads)
    if arguments.child:
        print(json.dumps(_measure(*arguments.child, threads)))
        return
    contenders = CONTENDERS if importlib.util.find_spec("torch") else CONTENDERS[:1]
    rows = []
    for case in select(CASES, arguments.nets):
        _run(case, "minigrad", threads)  # compiles kernels that are not kept yet: compilers take memory too
        runs = {name: [_run(case, name, threads) for _ in range(arguments.rounds)] for name in contenders}
        figures = {name: [run["peak"] - run["before"] for run in of] for name, of in runs.items()}
        rows.append({"name": case, "figures": figures, "runs": runs, "ratio": ratio(figures)})
    report("memory", rows, threads, arguments.out or RESULTS / "memory.json", "bytes", shown=("MiB", 2**-20))


def _arguments() -> argparse.Namespace:
    parser = options(__doc__, rounds=1)
    parser.add_argument("--nets", nargs="+", metavar="WORD", help=f"cases whose name contains a word; all: {', '.join(CASES)}")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(case: str, contender: str, threads: int) -> dict:
    """``_measure`` in a process of its own."""
    return child_report([str(Path(__file__)), "--child", case, contender, "--threads", str(threads)])


def _measure(name: str, contender: str, threads: int) -> dict:
    """Bytes held before the first step, and at the peak of the steps."""
    step = _step(training_step.CASES[name], contender, threads)
    gc.collect()
    reset_peak()
    before = resident_bytes()
    for _ in range(STEPS):
        step()
    return {"before": before, "peak": peak_bytes()}


def _step(case: training_step.Case, contender: str, threads: int) -> Callable[[], None]:
    images, labels = training_step.random_batch(case)
    if contender == "minigrad":
        return training_step.training_step(mg, networks.create(case.net, mg), mg.tensor(images), mg.tensor(labels))
    torch = load_torch(threads)
    net, x = training_step.torch_form(contender, networks.create(case.net, torch), torch.from_numpy(images), torch)
    return training_step.training_step(torch, net, x, torch.from_numpy(labels))


if __name__ == "__main__":
    main()
