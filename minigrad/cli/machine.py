"""``minigrad info`` and ``warmup``, and the options for the machine that other commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["add_info", "add_machine", "add_warmup", "set_threads"]


def add_info(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_info)


def add_warmup(parser: argparse.ArgumentParser) -> None:
    help_text = "of the arrays (default float32)"
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help=help_text)
    parser.set_defaults(run=_warmup)


def add_machine(add: Callable) -> None:
    """Add the options with ``add``, the ``add_argument`` of a parser or of a group."""
    add("--threads", type=int, metavar="N", help="threads of a kernel (default: all processors)")
    add("--workers", type=int, metavar="N", default=1, help="threads that prepare batches ahead (default 1)")


def set_threads(n: int | None) -> None:
    if n is not None:
        from minigrad.kernels.cpu import set_num_threads

        try:
            set_num_threads(n)
        except ValueError as error:
            raise ValueError(f"--threads: {error}") from None


def _info(options: argparse.Namespace) -> None:
    from minigrad.training.report import report

    print(report())


def _warmup(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from minigrad.kernels.cpu import compilation_stats, warmup

    with tqdm(total=1, unit="kernel", dynamic_ncols=True, bar_format="{l_bar}{bar}| {n}/{total} [{elapsed}]") as bar:
        for done, total, name in warmup(options.dtype):
            bar.total, bar.n = total, done
            bar.set_description(name or "done")
    stats = compilation_stats()
    kept = f"kept in {stats.directory}" if stats.directory else "which cannot be kept for the next process"
    print(f"{stats.compiled} kernels compiled and {stats.loaded} found, {kept}")
