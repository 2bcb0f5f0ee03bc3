"""Every kernel of minigrad as a part of what the card can do: ``gpu.py --kernels``.

Two ceilings are measured: bytes per second of a copy within the card's memory, and operations per second of a large product by
cuBLAS, for each number type. No kernel can be faster than the bytes that it must read and write, and the operations that it must
compute, take at these speeds: the longer of the two times, divided by the kernel's, is the part of the ceiling that it reaches.
Arrays that fit into the card's cache can be read faster than that; a part above 1 says so.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from gpu_card import card_clock, free_memory, number_type, torch_clock
from gpu_kernel_cases import Case, all_cases
from harness import alternate, digits, select

from minigrad.device import bfloat16, module_for, to_numpy
from minigrad.kernels.layout import channels_last

__all__ = ["Ceilings", "ceilings", "random_array", "row", "time_kernels"]

# How far a result may be from that of PyTorch in float64, by its largest entry.
TOLERANCE = {"tf32": 5e-3, "exact": 1e-4, "bf16": 2e-2}
ITEMSIZE = {"tf32": 4, "exact": 4, "bf16": 2}


class Ceilings(NamedTuple):
    """Bytes per second, and operations per second of each number type."""

    bandwidth: float
    operations: dict[str, float]

    def seconds(self, case: Case, numbers: str) -> float:
        """The least that a kernel can take."""
        return max(case.bytes(ITEMSIZE[numbers]) / self.bandwidth, case.operations / self.operations[numbers])


def time_kernels(words: list[str], types: Iterable[str], torch, rounds: int, seconds: float) -> Iterable[dict]:
    """A row for each ceiling, then for each kernel and number type."""
    limits = ceilings(types)
    yield _ceiling_row("copy of 2 GiB", limits.bandwidth, 0)
    for numbers, operations in limits.operations.items():
        yield _ceiling_row(f"product of 8192 x 8192 {numbers}", 0, operations)
    cases = all_cases()
    names = select(dict.fromkeys(case.kernel for case in cases), words)
    for case in cases:
        for numbers in types if case.kernel in names else ():
            if numbers in case.numbers:
                yield _row_or_failure(case, numbers, limits, torch, rounds, seconds)
                free_memory(torch)


def _row_or_failure(case: Case, numbers: str, limits: Ceilings, torch, rounds: int, seconds: float) -> dict:
    try:
        return row(case, numbers, limits, torch, rounds, seconds)
    except Exception as error:  # whatever it is, the others can be timed
        return _wrong_row(case, numbers, [" ".join(f"{type(error).__name__}: {error}".split())])


# ---- ceilings ----------------------------------------------------------------------------------------------------------


def ceilings(types: Iterable[str], size: int = 2 << 30, side: int = 8192, rounds: int = 5, seconds: float = 0.3) -> Ceilings:
    """Measured on this card: a copy of ``size`` bytes, and products of matrices of ``side`` x ``side``. The best round counts."""
    found = {numbers: 2 * side**3 / _seconds_of_product(side, numbers, rounds, seconds) for numbers in types}
    limits = Ceilings(2 * size / _seconds_of_copy(size, rounds, seconds), found)
    free_memory(None)
    return limits


def _seconds_of_copy(size: int, rounds: int, seconds: float) -> float:
    source = random_array((size // 4,))
    target = source.copy()
    return _best(lambda: target.data.copy_from_device_async(source.data, size), rounds, seconds)


def _seconds_of_product(side: int, numbers: str, rounds: int, seconds: float) -> float:
    x, y = (random_array((side, side), numbers, seed) for seed in range(2))
    with number_type(numbers, None), _products_in(numbers) as kernels:
        return _best(lambda: kernels.matmul(x, y), rounds, seconds)


class _products_in:
    """Products of float32 matrices round their factors where ``numbers`` are "tf32"."""

    def __init__(self, numbers: str):
        from minigrad.kernels import cuda

        self.kernels, self.rounded = cuda, numbers == "tf32"

    def __enter__(self):
        self.before = dict(self.kernels.allow_tf32)
        self.kernels.allow_tf32["product"] = self.rounded
        return self.kernels

    def __exit__(self, *exc_info) -> None:
        self.kernels.allow_tf32.update(self.before)


def _best(call: Callable[[], object], rounds: int, seconds: float) -> float:
    return min(alternate({"": call}, rounds, seconds, card_clock)[""])


def _ceiling_row(name: str, bandwidth: float, operations: float) -> dict:
    return {
        "name": f"ceiling: {name}",
        "bytes_per_second": bandwidth,
        "operations_per_second": operations,
        "cells": [f"ceiling: {name}", "-", "-", "-", _digits(bandwidth / 1e9), _digits(operations / 1e12), "-"],
    }


# ---- a kernel ----------------------------------------------------------------------------------------------------------


def row(case: Case, numbers: str, limits: Ceilings, torch, rounds: int, seconds: float = 0.05, device: str = "cuda") -> dict:
    """Figures of a kernel, after its result was compared with PyTorch's in float64. ``device``: PyTorch's."""
    with number_type(numbers, torch):
        arrays = [_on_card(*given, numbers=numbers, seed=seed) for seed, given in enumerate(case.inputs)]
        calls = {"minigrad": case.mine(*arrays)}
        wrong: list[str] = []
        if torch is not None and case.torch is not None:
            tensors = [_tensor(a, torch, device) for a in arrays]
            expected = _results(case.torch(torch, *(t.double() if t.is_floating_point() else t for t in tensors))())
            wrong = _differences(_results(calls["minigrad"]()), expected, TOLERANCE[numbers])
            calls["torch"] = case.torch(torch, *tensors)
        if wrong:
            return _wrong_row(case, numbers, wrong)
        clocks = {"minigrad": card_clock, "torch": None if torch is None else torch_clock(torch, device)}
        named = {library: _Named(call, clocks[library]) for library, call in calls.items()}
        figures = alternate(named, rounds, seconds, lambda call, count: call.clock(call.call, count))
    known = {"name": case.name(numbers), "kernel": case.kernel, "numbers": numbers, "wrong": []}
    return {**known, "figures": figures, **_part(case, numbers, limits, figures)}


def _wrong_row(case: Case, numbers: str, wrong: list[str]) -> dict:
    name = case.name(numbers)
    print(f"{name} is WRONG and not timed: {'; '.join(wrong)[:500]}", file=sys.stderr)
    cells = [name, "WRONG", *["-"] * 5]
    return {"name": name, "kernel": case.kernel, "numbers": numbers, "wrong": wrong, "figures": {}, "cells": cells}


class _Named(NamedTuple):
    call: Callable[[], object]
    clock: Callable

    def __call__(self):
        return self.call()


def _part(case: Case, numbers: str, limits: Ceilings, figures: dict[str, list[float]]) -> dict:
    """What a kernel's time means."""
    median = {library: float(np.median(values)) for library, values in figures.items()}
    mine, theirs = median["minigrad"], median.get("torch")
    bandwidth, operations = case.bytes(ITEMSIZE[numbers]) / mine, case.operations / mine
    part = limits.seconds(case, numbers) / mine
    ratio = None if theirs is None else mine / theirs
    beside = ["-", "-"] if theirs is None else [digits(1e3 * theirs), f"{ratio:.2f}"]
    cells = [case.name(numbers), digits(1e3 * mine), *beside]
    return {
        "bytes": case.bytes(ITEMSIZE[numbers]),
        "operations": case.operations,
        "bytes_per_second": bandwidth,
        "operations_per_second": operations,
        "part_of_ceiling": part,
        "ratio": ratio,
        "cells": [*cells, _digits(bandwidth / 1e9), _digits(operations / 1e12), f"{part:.2f}"],
    }


def _digits(value: float) -> str:
    return digits(value) if value else "-"


# ---- arrays ------------------------------------------------------------------------------------------------------------


def random_array(shape: Sequence[int], numbers: str = "exact", seed: int = 0):
    """Random numbers on the card: about a million, over and over, for the processor makes them slowly."""
    cupy, count = module_for("cuda"), math.prod(shape)
    block = np.random.default_rng(seed).standard_normal(min(count, 1_048_573), dtype=np.float32)
    numbers_on_card = cupy.tile(cupy.asarray(block), -(-count // len(block)))[:count].reshape(shape)
    return numbers_on_card.astype(bfloat16()) if numbers == "bf16" else numbers_on_card


def _on_card(kind: str, *shape: int, numbers: str, seed: int):
    """The array that a case asks for (see ``Case.inputs``): random numbers or labels; images channels-last."""
    if kind == "labels":
        count, classes = shape
        return module_for("cuda").asarray(np.random.default_rng(seed).integers(0, classes, count))
    array = random_array(shape, numbers, seed)
    return channels_last(array) if kind == "image" else array


def _tensor(array, torch, device: str):
    """The same numbers in PyTorch; images channels-last."""
    host = to_numpy(array)
    low = host.dtype.name == "bfloat16"
    tensor = torch.from_numpy(np.ascontiguousarray(host.astype(np.float32) if low else host)).to(device)
    tensor = tensor.to(torch.bfloat16) if low else tensor
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _results(found) -> list[np.ndarray]:
    """The results of a call (arrays of CuPy or tensors of PyTorch) in float32: that is fine enough for a comparison."""
    found = found if isinstance(found, (tuple, list)) else [found]
    return [r.detach().float().cpu().numpy() if hasattr(r, "detach") else to_numpy(r).astype(np.float32) for r in found]


def _differences(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> list[str]:
    """What is wrong with results."""
    wrong = [] if len(found) == len(expected) else [f"{len(found)} results instead of {len(expected)}"]
    for i, (mine, theirs) in enumerate(zip(found, expected, strict=False)):
        largest = np.abs(theirs).max()
        far = np.abs(mine.reshape(theirs.shape) - theirs).max() / max(largest, np.finfo(np.float32).tiny)
        if not far <= tolerance:
            wrong.append(f"result {i} is off by {far:.2g} of its largest entry, and may be by {tolerance:.2g}")
    return wrong
