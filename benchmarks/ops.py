"""How long every kernel takes over the layers of well-known networks, beside PyTorch.

    python benchmarks/ops.py [--nets WORD ...] [--kernels WORD ...] [--against NAME ...] [--rounds 3] [--threads N] [...]

Each result is compared with PyTorch's before it is timed. The table is sorted by the ratio of minigrad's time to that of the
better of PyTorch's memory orders, worst first; a line for each kernel sums it up.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import networks
import numpy as np
from harness import RESULTS, alternate, load_torch, options, ratio, report, select, set_threads
from layers import NETS, Conv, Pool
from op_data import Calls
from op_maps import LINEAR, LOSS, MAPS, sgd_step
from op_windows import CONVOLUTION, POOLS
from tqdm import tqdm

CONTENDERS = ("torch", "torch_channels_last")
TOLERANCE = 1e-4  # relative to the largest entry; a Winograd convolution may be off by 2e-5


class Case(NamedTuple):
    """One kernel on one shape. ``make(torch)`` gives the calls; torch may be None."""

    kernel: str
    label: str
    nets: tuple[str, ...]
    make: Callable[[object], Calls]


def main() -> None:
    arguments = _arguments()
    threads = set_threads(arguments.threads)
    torch = load_torch(threads)
    rows = [_row(case, torch, arguments) for case in tqdm(_chosen(arguments), disable=None)]
    rows.sort(key=lambda row: -(row["ratio"] or math.inf))
    report("ops", rows, threads, arguments.out or RESULTS / "ops.json")
    print(_summary(rows))


def _arguments() -> argparse.Namespace:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--nets", nargs="+", metavar="WORD", help=f"networks whose name contains a word; all: {', '.join(NETS)}")
    parser.add_argument("--kernels", nargs="+", metavar="WORD", help="kernels whose name contains a word, such as conv2d_forward")
    parser.add_argument("--against", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="PyTorch's memory orders")
    parser.add_argument("--seconds", type=float, default=0.1, help="how long a contender runs in a round (default 0.1)")
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> list[Case]:
    cases = all_cases()
    kernels = select(dict.fromkeys(case.kernel for case in cases), arguments.kernels)
    nets = set(select(dict.fromkeys(net for case in cases for net in case.nets), arguments.nets))
    return [case for case in cases if case.kernel in kernels and nets.intersection(case.nets)]


def _row(case: Case, torch, arguments: argparse.Namespace) -> dict:
    calls = case.make(torch)
    calls = {name: call for name, call in calls.items() if name == "minigrad" or name in arguments.against}
    name = f"{case.kernel} {case.label}"
    _check(name, calls)
    figures = alternate(calls, arguments.rounds, arguments.seconds)
    return {"name": name, "kernel": case.kernel, "nets": case.nets, "figures": figures, "ratio": ratio(figures)}


def _check(name: str, calls: Calls) -> None:
    """Raise AssertionError unless all contenders give the same results, but for rounding."""
    found = {contender: _arrays(call()) for contender, call in calls.items()}
    for contender, arrays in found.items():
        for i, (mine, expected) in enumerate(zip(found["minigrad"], arrays, strict=True)):
            what = f"{name}: result {i} of minigrad and {contender}"
            if mine.dtype.kind == "f":
                np.testing.assert_allclose(mine, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max(), err_msg=what)
            else:
                np.testing.assert_array_equal(mine, expected, err_msg=what)


def _arrays(result) -> list[np.ndarray]:
    """The results of a call (arrays or tensors of either library) as arrays."""
    results = result if isinstance(result, (tuple, list)) else [result]
    return [r if isinstance(r, np.ndarray) else r.numpy() for r in results]


def _summary(rows: list[dict]) -> str:
    """For each kernel: on how many shapes minigrad is faster, and the geometric mean of the ratios."""
    lines = []
    for kernel in sorted({row["kernel"] for row in rows}):
        ratios = [row["ratio"] for row in rows if row["kernel"] == kernel and row["ratio"]]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            lines.append(f"{kernel:28} faster on {sum(r < 1 for r in ratios):3} of {len(ratios):3}, mean ratio {mean:.2f}")
    return "\n".join(lines)


# ---- every kernel on every shape ---------------------------------------------------------------------------------------


def all_cases() -> list[Case]:
    """Every kernel on every distinct shape of the networks in ``layers.py``, and SGD on those of ``networks.py``."""
    found: dict[tuple[str, str], Case] = {}
    for net in NETS:
        for case in _cases_of(net):
            known = found.get((case.kernel, case.label))
            found[case.kernel, case.label] = case if known is None else known._replace(nets=(*known.nets, net))
    return [*found.values(), *(_case("sgd_step", name, name, sgd_step, name) for name in networks.NAMES)]


def _cases_of(name: str) -> Iterator[Case]:
    net = NETS[name]
    for conv in net.convolutions:
        for kernel, make in CONVOLUTION.items():
            if kernel != "conv2d_backward_input" or conv.c > 3:  # nobody needs the gradient of the images
                yield _case(kernel, _conv_label(net.batch, conv), name, make, net.batch, conv)
    for pool in net.pools:
        for way in ("forward", "backward"):
            yield _case(f"{pool.kind}_pool2d_{way}", _pool_label(net.batch, pool), name, POOLS[pool.kind, way], net.batch, pool)
    for c, size in net.maps:
        shape = (net.batch, c, size, size)
        for kernel, make in MAPS.items():
            if net.normalized or not kernel.startswith("batch_norm"):
                yield _case(kernel, _shape_label(shape), name, make, shape)
    for features, outputs in net.linear:
        for kernel, make in LINEAR.items():
            yield _case(kernel, f"{net.batch} x {features} -> {outputs}", name, make, net.batch, features, outputs)
    for kernel, make in LOSS.items():
        yield _case(kernel, f"{net.batch} x {net.classes}", name, make, net.batch, net.classes)


def _case(kernel: str, label: str, net: str, make: Callable, *sizes) -> Case:
    return Case(kernel, label, (net,), lambda torch: make(torch, *sizes))


def _shape_label(shape) -> str:
    return "x".join(map(str, shape))


def _conv_label(batch: int, conv: Conv) -> str:
    shape = _shape_label((batch, conv.c, conv.size, conv.size))
    groups = f" groups {conv.groups}" if conv.groups > 1 else ""
    return f"{shape} -> {conv.o}, {conv.kernel}x{conv.kernel}/{conv.stride} pad {conv.padding}{groups}"


def _pool_label(batch: int, pool: Pool) -> str:
    shape = _shape_label((batch, pool.c, pool.size, pool.size))
    if pool.kind == "adaptive_avg":
        return f"{shape} to 1x1"
    return f"{shape}, {pool.kernel}x{pool.kernel}/{pool.stride} pad {pool.padding}{' ceil' if pool.ceil_mode else ''}"


if __name__ == "__main__":
    main()
