"""How long one training step takes on a graphics card, beside PyTorch on the same card in the same run.

    python benchmarks/gpu.py [--nets WORD ...] [--numbers tf32 exact bf16] [--against NAME ...] [--rounds 5] [--out FILE.json]
    python benchmarks/gpu.py --kernels [WORD ...] [...]    every kernel, and which part of the card's speed it reaches
    python benchmarks/gpu.py --separate [...]              peak memory on the card, each contender in a process of its own

It needs a card and CuPy (pip install "minigrad-numpy[gpu]"); PyTorch with CUDA is optional. A step is that of
``training_step.py``, on random data, eager and captured into a CUDA graph. Before anything is timed, its first step is compared
with float64 (see ``gpu_steps.py``); a contender whose result is wrong is not timed, and the program ends with status 1. Compiling
takes PyTorch minutes for all networks: ``--nets resnet18`` for a first look. The file is written after every row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import gpu_steps
from gpu_card import NUMBERS, environment, free_memory, is_out_of_memory, number_type, peak_memory, require_card
from gpu_kernels import time_kernels
from gpu_networks import CASES
from gpu_steps import CONTENDERS, OF_TORCH, Batch, Contender, Outcome
from harness import RESULTS, aligned, alternate, cell, select, table, write_json
from process import child_report

__all__ = ["main", "measure", "ratios", "step_rows", "steps_table"]


def main() -> None:
    arguments = _arguments()
    require_card()
    if arguments.child:
        print(json.dumps(_memory_of(*arguments.child)))
        return
    torch = _load_torch()
    against = arguments.against if torch is not None else []
    if arguments.separate:
        rows, what, unit = _memory_rows(arguments, against), "gpu_memory", "bytes"
    elif arguments.kernels is not None:
        rows = time_kernels(arguments.kernels, arguments.numbers, torch, arguments.rounds, arguments.seconds / 10)
        what, unit = "gpu_kernels", "seconds"
    else:
        rows, what, unit = _step_rows(arguments, against, torch), "gpu", "seconds"
    out, found = arguments.out or RESULTS / f"{what}.json", environment(torch)
    done: list[dict] = []
    for row in rows:
        done.append(row)
        write_json(out, {"benchmark": what, "unit": unit, "environment": found, "rows": done})
        print(f"{row['name']}: done", file=sys.stderr, flush=True)
    print(_shown(what, done))
    print(f"{found['card']}, driver {found['driver']}, CUDA {found['cuda']}, CuPy {found['cupy']}, PyTorch {found.get('torch')}")
    if wrong := [
        row["name"] for row in done if row.get("wrong") or any(n.startswith("minigrad") for n in row.get("left_out", ()))
    ]:
        raise SystemExit(f"wrong, or not computed at all (see above): {', '.join(wrong)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", nargs="+", metavar="WORD", help=f"cases whose name contains a word; all: {', '.join(CASES)}")
    parser.add_argument("--numbers", nargs="+", choices=NUMBERS, default=NUMBERS, help="number types (default: all three)")
    parser.add_argument("--against", nargs="+", choices=OF_TORCH, default=OF_TORCH, metavar="NAME", help=", ".join(OF_TORCH))
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the contenders alternate (default 5)")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="how long a contender runs in a round (default 0.5; a tenth of it for kernels)"
    )
    parser.add_argument("--out", type=Path, help="the JSON file (default: in benchmarks/results)")
    parser.add_argument("--separate", action="store_true", help="peak memory, each contender in a process of its own")
    parser.add_argument("--kernels", nargs="*", metavar="WORD", help="kernels (whose name contains a word) instead of steps")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def _load_torch():
    """PyTorch with CUDA, or None."""
    try:
        import torch
    except ImportError:
        torch = None
    if torch is None or not torch.cuda.is_available():
        print("PyTorch with CUDA is not here: minigrad is timed alone, and compared with itself in float64", file=sys.stderr)
        return None
    return torch


def _shown(what: str, rows: list[dict]) -> str:
    if what == "gpu":
        return steps_table(rows)
    if what == "gpu_memory":
        return table(rows, "MiB", 2**-20)
    lines = [["", "minigrad ms", "torch ms", "ratio", "GB/s", "TFLOP/s", "of the ceiling"]]
    return aligned(lines + [row["cells"] for row in rows])


# ---- training steps ----------------------------------------------------------------------------------------------------


def _step_rows(arguments: argparse.Namespace, against: list[str], torch) -> Iterable[dict]:
    names = [name for name in CONTENDERS if name not in OF_TORCH or name in against]
    for case in select(CASES, arguments.nets):
        batch = Batch.of(CASES[case])
        try:
            yield from step_rows(case, batch, arguments.numbers, names, torch, arguments.rounds, arguments.seconds)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = {"minigrad": "the card's memory is too small for the comparison in float64"}
            print(f"{case} is left out: {reason['minigrad']}", file=sys.stderr)
            row = {"name": case, "case": case, "numbers": "-", "in_turn": True, "wrong": {}, "left_out": reason}
            yield {**row, "figures": {}, "ratios": {}}


def step_rows(
    case: str, batch: Batch, types: Iterable[str], names: list[str], torch, rounds: int, seconds: float, device: str = "cuda"
) -> Iterable[dict]:
    """One row for each number type: figures of the contenders whose first step is right. ``device``: PyTorch's."""
    truth = gpu_steps.true_outcome(batch, torch, device)
    for numbers in types:
        with number_type(numbers, torch):
            yardstick = None if torch is None else _first_step(gpu_steps.make("torch", batch, numbers, torch, device))
            row = {"name": f"{case} {numbers}", "case": case, "numbers": numbers, "wrong": {}, "left_out": {}}
            if yardstick is not None:
                bounds = gpu_steps.allowed(truth, numbers, yardstick).values()
                row["gradients"] = {"compared": sum(bound <= gpu_steps.MOST for bound in bounds), "of": len(bounds)}

            def prepare(name, numbers=numbers, yardstick=yardstick, row=row):
                free_memory(torch)
                return _checked(name, lambda: gpu_steps.make(name, batch, numbers, torch, device), truth, yardstick, row)

            row["figures"], row["in_turn"] = measure(names, prepare, rounds, seconds, lambda: free_memory(torch), row["left_out"])
        row["ratios"] = ratios(row["figures"])
        if {"torch_compile", "torch_reduce_overhead"}.intersection(names):
            torch.compiler.reset()
        free_memory(torch)
        yield row


def _first_step(contender: Contender) -> Outcome:
    contender.warm()
    return contender.first_step()


def _checked(name: str, make: Callable[[], Contender], truth: Outcome, yardstick: Outcome | None, row: dict) -> Contender | None:
    """The contender, warm, if its first step is right; else None, and the row says why."""
    try:
        contender = make()
        warm = contender.warm()
        faults = list(gpu_steps.complaints(contender.first_step(), truth, row["numbers"], yardstick, contender.batch.weights))
    except Exception as error:  # whatever it is, the others can be timed
        if is_out_of_memory(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        row["left_out"][name] = reason
        print(f"{row['name']}: {name} is left out: {reason[:500]}", file=sys.stderr)
        return None
    row.setdefault("warm_up_seconds", {})[name] = warm
    if faults:
        row["wrong"][name] = faults
        print(f"{row['name']}: {name} is WRONG and not timed: {'; '.join(faults[:3])}", file=sys.stderr)
        return None
    return contender


def measure(
    names: list[str],
    prepare: Callable[[str], Contender | None],
    rounds: int,
    seconds: float,
    free: Callable[[], None],
    left_out: dict[str, str],
) -> tuple[dict[str, list[float]], bool]:
    """Figures of the contenders, and whether they took turns. Graphs keep their memory: if the card cannot hold all contenders,
    they are timed one after another.
    """
    try:
        contenders = {name: contender for name in names if (contender := prepare(name)) is not None}
        return alternate(contenders, rounds, seconds, _clock), True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    contenders, figures = {}, {}
    for name in names:
        free()
        try:
            if (contender := prepare(name)) is not None:
                figures |= alternate({name: contender}, rounds, seconds, _clock)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            left_out[name] = "the card's memory is too small"
        contender = None
    return figures, False


def _clock(contender: Contender, count: int) -> float:
    return contender.clock(contender.step, count)


def ratios(figures: dict[str, list[float]]) -> dict[str, float]:
    """The best contender of minigrad to PyTorch, to its channels_last form, and to its best: medians over the rounds."""

    def best(names):
        there = [name for name in names if figures.get(name)]
        return min(there, key=lambda name: statistics.median(figures[name]), default=None)

    mine, theirs = best(n for n in figures if n not in OF_TORCH), best(OF_TORCH)
    if mine is None or theirs is None:
        return {}
    others = {name: figures[name] for name in OF_TORCH[:2] if name in figures} | {"torch_best": figures[theirs]}
    return {name: statistics.median(a / b for a, b in zip(figures[mine], of, strict=True)) for name, of in others.items()}


def steps_table(rows: list[dict]) -> str:
    """For each network a line for each contender, milliseconds with the spread, and a column for each number type."""
    blocks = []
    for case in dict.fromkeys(row["case"] for row in rows):
        of = [row for row in rows if row["case"] == case]
        lines = [[f"{case}, ms", *(row["numbers"] + ("" if row["in_turn"] else ", not in turn") for row in of)]]
        for name in CONTENDERS:
            if any(name in (*row["figures"], *row["wrong"], *row["left_out"]) for row in of):
                lines.append([name, *("WRONG" if name in row["wrong"] else cell(row["figures"].get(name), 1e3) for row in of)])
        for name in (*OF_TORCH[:2], "torch_best"):
            if any(name in row["ratios"] for row in of):
                found = [row["ratios"].get(name) for row in of]
                lines.append([f"  minigrad / {name}", *("-" if r is None else f"{r:.2f}" for r in found)])
        blocks.append(aligned(lines))
    return "\n\n".join(blocks)


# ---- memory ------------------------------------------------------------------------------------------------------------


def _memory_rows(arguments: argparse.Namespace, against: list[str]) -> Iterable[dict]:
    for case in select(CASES, arguments.nets):
        for numbers in arguments.numbers:
            row = {"name": f"{case} {numbers}", "runs": {}, "left_out": {}}
            for name in (name for name in CONTENDERS if name not in OF_TORCH or name in against):
                try:
                    row["runs"][name] = child_report([str(Path(__file__)), "--child", case, numbers, name])
                except SystemExit as failure:
                    row["left_out"][name] = str(failure)
                    print(f"{row['name']}: {name} is left out: {failure}", file=sys.stderr)
            row["figures"] = {name: [run["allocated"]] for name, run in row["runs"].items()}
            row["ratio"] = ratios(row["figures"]).get("torch_best")
            yield row


def _memory_of(case: str, numbers: str, name: str) -> dict[str, int]:
    """Peak memory of a contender alone in this process."""
    torch = None
    if name in OF_TORCH:
        import torch
    with number_type(numbers, torch), peak_memory(torch) as found:
        gpu_steps.make(name, Batch.of(CASES[case]), numbers, torch).warm()
    return found


if __name__ == "__main__":
    main()
