"""Vectors in kernels: every function, in both dtypes, compiled for this processor, for lesser ones, and not compiled at all."""

from __future__ import annotations

import ctypes
import itertools
import json
import mmap
import os

import numpy as np
import pytest

from minigrad.kernels.cpu import _machine, _vector
from minigrad.kernels.cpu._compiler import kernel, prange
from minigrad.kernels.cpu._vector import (
    clear,
    copy,
    fill,
    fma,
    lanes,
    load,
    load_first,
    load_if,
    load_three,
    load_where,
    load_wide,
    narrow,
    prefetch,
    select_larger,
    select_positive,
    store,
    store_first,
    store_integers,
    total_of,
    transpose,
    widen,
)
from tests import beside
from tests.kernels.agreement import DTYPES, eps
from tests.kernels.small import follow


@kernel
def _move(x, y, start, at, count, way):
    for _ in prange(1):
        if way == 0:
            store(y, at, load(x, start))
        elif way == 1:
            store(y, at, load_first(x, start, count))
        elif way == 2:
            store_first(y, at, load(x, start), count)
        elif way == 3:
            copy(x, start, y, at, count)
        elif way == 4:
            clear(y, at, count)
        else:
            store_first(y, at, load_first(x, start, count), count)


@kernel(reassociate=False)
def _compute(x, y, z, number, out):
    for _ in prange(1):
        a, b, c, step = load(x, 0), load(y, 0), load(z, 0), lanes(x)
        store(out, 0, a + b)
        store(out, step, a - b)
        store(out, 2 * step, a * b)
        store(out, 3 * step, a / b)
        store(out, 4 * step, fma(a, b, c))
        store(out, 5 * step, select_positive(a, b))
        store(out, 6 * step, fill(x, number))
        store(out, 7 * step, fill(x, 1.5))
        store(out, 8 * step, fill(x, -2))
        out[9 * step] = total_of(a)


@kernel
def _turn(source, at, step, rows, target, to, row, columns):
    for _ in prange(1):
        transpose(source, at, step, rows, target, to, row, columns)


@kernel
def _count(x, y, numbers, number, out, integers, at, offset, count):
    for _ in prange(1):
        store(out, 0, load_where(x, at, count, numbers, number))
        store(out, lanes(x), select_larger(load(x, 0), load(y, 0), fill(x, 1.0), fill(x, 2.0)))
        store_integers(integers, at, load(y, lanes(x)), offset, count)


@kernel
def _look(x, at, step, there, count, out, wide):
    for _ in prange(1):
        a, b, c = load_three(x, at, step)
        store(out, 0, a)
        store(out, lanes(x), b)
        store(out, 2 * lanes(x), c)
        store(out, 3 * lanes(x), load_if(x, at + 1, there))
        store(wide, 0, load_wide(x, at, count))


@kernel
def _look_only(x, at, there, count, out, wide):
    for _ in prange(1):
        store(out, 0, load_if(x, at, there))
        store(wide, 0, load_wide(x, at, count))


@kernel
def _round(like, x, out):
    for _ in prange(1):
        store(out, 0, widen(narrow(like, load(x, 0))))


@kernel
def _ask(x, at):
    for _ in prange(1):
        prefetch(x, at)


follow(_move, _compute, _turn, _count, _look, _look_only, _round, _ask, module=_vector)


def moved(x, y, start, at, count, way):
    """What the kernel should leave in y."""
    result, step = y.copy(), _machine.lanes(x.dtype)
    if way in (0, 1):
        result[at : at + step] = 0
    if way in (0, 2):
        result[at : at + (step if way == 0 else count)] = x[start : start + (step if way == 0 else count)]
    elif way == 4:
        result[at : at + count] = 0
    else:
        result[at : at + count] = x[start : start + count]
    return result


# ---- moving numbers ----------------------------------------------------------------------------------------------------


def check_moves(dtype) -> None:
    """Whole vectors and their beginnings, at aligned and unaligned places; nothing else changes."""
    step = _machine.lanes(dtype)
    x, y = np.random.default_rng(0).standard_normal((2, 6 * step)).astype(dtype)
    x[:: step + 1] = np.nan
    x[1 :: step + 1] = np.inf
    x[2 :: step + 1] = -0.0
    for way in range(6):
        for count in range(step + 1):
            for first, at in ((0, 0), (1, 0), (0, step - 1), (3, 2 * step + 1)):
                actual = y.copy()
                _move(x, actual, first, at, count, way, work=1)
                assert actual.tobytes() == moved(x, y, first, at, count, way).tobytes(), (way, count, first, at)


def check_pieces(dtype) -> None:
    """``copy`` and ``clear`` of more than a vector."""
    step = _machine.lanes(dtype)
    x, y = np.random.default_rng(0).standard_normal((2, 6 * step)).astype(dtype)
    for way in (3, 4):
        for count in range(step + 1, 3 * step + 2):
            for first, at in ((0, 0), (step + 1, 1), (2, step)):
                actual = y.copy()
                _move(x, actual, first, at, count, way, work=1)
                assert actual.tobytes() == moved(x, y, first, at, count, way).tobytes(), (way, count, first, at)


def check_counts_below_zero(dtype) -> None:
    """Fewer than no numbers are none."""
    step = _machine.lanes(dtype)
    for count in (-1, -step, -1000):
        for way in (1, 2, 5):
            x, y = np.ones(2 * step, dtype), np.full(2 * step, 2, dtype)
            _move(x, y, 0, step, count, way, work=1)
            np.testing.assert_array_equal(y, [2] * step + [0 if way == 1 else 2] * step)


def check_several_and_wide_and_optional(dtype) -> None:
    """Three vectors that are ``step`` apart, one that may not be there, and one of float64 numbers."""
    size, double = _machine.lanes(dtype), _machine.lanes(np.float64)
    x = np.random.default_rng(0).standard_normal(10 * size).astype(dtype)
    x[::7], x[1::7] = np.nan, np.inf
    for at, step, there, count in itertools.product((0, 1, size), (-1, 0, 2, size + 1), (True, False), range(-1, double + 3)):
        start, out, wide = at + 2 * size, np.full(4 * size, 5, dtype), np.full(double, 5.0)
        _look(x, start, step, there, count, out, wide, work=1)
        pieces = [x[start + k * step :][:size] for k in range(3)]
        np.testing.assert_array_equal(out, np.concatenate([*pieces, x[start + 1 :][:size] * 1 if there else np.zeros(size)]))
        valid = min(max(count, 0), double)
        np.testing.assert_array_equal(wide, np.append(x[start : start + valid].astype(np.float64), np.zeros(double - valid)))


def check_transpose(dtype) -> None:
    """Blocks of all sizes, turned into rows in ascending and in descending order; what is not a number of the block is 0."""
    size = _machine.lanes(dtype)
    source, target = np.random.default_rng(0).standard_normal((2, 50 + (size + 1) * (size + 2))).astype(dtype)
    source[7::size], source[8::size] = np.nan, np.inf
    for rows, columns in itertools.product(range(-2, size + 3), range(size + 1)):
        for at, step, to, row in ((0, size, 0, size), (3, 9, 2, size + 1), (1, 1, (size - 1) * size, -size)):
            expected = target.copy()
            for r, k in np.ndindex(size, columns):
                expected[to + k * row + r] = source[at + r * step + k] if r < rows else 0
            actual = target.copy()
            _turn(source, at, step, rows, actual, to, row, columns, work=1)
            assert actual.tobytes() == expected.tobytes(), (rows, columns, at, step, to, row)


def check_the_end_of_memory(dtype) -> None:
    """What lies behind the first numbers is not touched: the page behind them is not even readable."""
    step, page = _machine.lanes(dtype), mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    array = np.frombuffer(memory, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    behind = ctypes.c_void_p(array.ctypes.data + page)
    assert libc.mprotect(behind, ctypes.c_size_t(page), 0) == 0
    numbers, other = array[:page].view(dtype), np.full(3 * step, 7, dtype)
    for count in range(step):
        place = numbers.size - count
        numbers[-2 * step :] = np.arange(2 * step)
        expected = np.concatenate([numbers[place:], np.zeros(step - count, dtype), other[step:]])
        _move(numbers, other, place, 0, count, 1, work=1)
        np.testing.assert_array_equal(other, expected)
        for way in (2, 3, 4):
            _move(np.arange(9.0, 9 + step).astype(dtype), numbers, 0, place, count, way, work=1)
            np.testing.assert_array_equal(numbers[place:], np.zeros(count) if way == 4 else np.arange(9, 9 + count))
            np.testing.assert_array_equal(numbers[-2 * step : place], np.arange(2 * step - count))
        wide = np.full(_machine.lanes(np.float64), 7.0)
        _look_only(numbers, numbers.size - min(count, wide.size - 1), False, min(count, wide.size - 1), other, wide, work=1)
        np.testing.assert_array_equal(other[:step], np.zeros(step))
        _turn(numbers, place - 2, 2, (count + 2) // 2, np.zeros(step * step, dtype), 0, step, 2, work=1)
    assert libc.mprotect(behind, ctypes.c_size_t(page), 3) == 0


# ---- arithmetic --------------------------------------------------------------------------------------------------------


def computed(x, y, z, number=0.1):
    """The rows of ``_compute``, and the sum."""
    step = x.size
    out = np.full(9 * step + 1, 5, x.dtype)
    _compute(x, y, z, number, out, work=1)
    return out[:-1].reshape(9, step), out[-1]


def check_arithmetic(dtype) -> None:
    step, u = _machine.lanes(dtype), eps(dtype) / 2
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y, z = rng.standard_normal((3, step)).astype(dtype)
        rows, total = computed(x, y, z)
        for actual, expected in zip(rows, (x + y, x - y, x * y, x / y), strict=False):
            assert actual.tobytes() == expected.tobytes()
        a, b, c = (array.astype(np.float64) for array in (x, y, z))
        assert (abs(rows[4] - (a * b + c)) <= 2 * u * (abs(a * b) + abs(a * b + c))).all()
        np.testing.assert_array_equal(rows[6], np.full(step, 0.1, dtype))
        np.testing.assert_array_equal(rows[7:], np.stack([np.full(step, 1.5), np.full(step, -2)]))
        while len(x) > 1:
            x = x[: len(x) // 2] + x[len(x) // 2 :]
        assert total == x[0]


def check_fma_rounds_once_where_the_processor_can(dtype) -> None:
    step, small = _machine.lanes(dtype), eps(dtype)
    ones = np.ones(step, dtype)
    rows, _ = computed(ones + dtype(small), ones - dtype(small), -ones)
    once = _machine.vector_features() & {"fma", "neon", "avx512f"} and not isinstance(_compute.serial, type(check_moves))
    np.testing.assert_array_equal(rows[4], np.full(step, -(small**2) if once else 0, dtype))


def check_nan_and_infinity(dtype) -> None:
    """They spread as in NumPy, and no neighbour gets any."""
    step = _machine.lanes(dtype)
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], dtype)
    for shift in range(len(values)):
        for k in range(0, len(values) + step, step):
            index = np.arange(k, k + step)
            x, y, z = values[index % 7], values[(index + shift) % 7], values[(index + 2 * shift) % 7]
            rows, total = computed(x, y, z)
            with np.errstate(all="ignore"):
                expected = x + y, x - y, x * y, x / y, x * y + z
                assert np.isnan(total) or not np.isnan(x).any()
            for actual, numbers in zip(rows, expected, strict=False):
                np.testing.assert_array_equal(actual, numbers)


def check_narrow(dtype) -> None:
    """A float64 number becomes the nearest one of the dtype."""
    size = _machine.lanes(np.float64)
    values = np.array([1 + 2.0**-24, 1 + 3 * 2.0**-24, -0.1, 1e300, -1e-300, np.nan, -np.inf, 16777217.0] * 2)
    for first in range(len(values) - size + 1):
        x, out = values[first : first + size].copy(), np.zeros(size)
        _round(np.zeros(1, dtype), x, out, work=1)
        np.testing.assert_array_equal(out, x.astype(dtype).astype(np.float64))


def check_prefetch(dtype) -> None:
    """Nothing is changed, and an address that is nobody's does no harm."""
    x = np.arange(100).astype(dtype)
    for at in (0, 99, 10**6, -(10**6), 2**55):
        _ask(x, at, work=1)
    np.testing.assert_array_equal(x, np.arange(100))


def check_select_positive(dtype) -> None:
    """x where y > 0 or y is NaN: it is selected, not multiplied, so what is not let through leaves no NaN."""
    step, nan, inf = _machine.lanes(dtype), np.nan, np.inf
    cases = [(2, 3, 2), (nan, 1, nan), (inf, inf, inf), (-inf, 1e-30, -inf), (4, nan, 4), (nan, nan, nan), (-inf, nan, -inf)]
    cases += [(2, 0, 0), (2, -0.0, 0), (2, -1, 0), (nan, -1, 0), (nan, 0, 0), (inf, -inf, 0), (-inf, 0, 0)]
    cases += [(1, 5e-324 if dtype == np.float64 else 1e-45, 1)]  # the smallest number above 0
    for k in range(0, len(cases), 2):
        x, y, expected = np.array((cases * 20)[k : k + step], dtype).T
        rows, _ = computed(np.ascontiguousarray(x), np.ascontiguousarray(y), np.ones(step, dtype))
        np.testing.assert_array_equal(rows[5], expected)


def check_select_larger(dtype) -> None:
    """Where x > y or x is NaN."""
    step, nan, inf = _machine.lanes(dtype), np.nan, np.inf
    cases = [(2, 1, 1), (1, 2, 2), (1, 1, 2), (0, -0.0, 2), (nan, 1, 1), (1, nan, 2), (nan, nan, 1), (inf, 1, 1), (-inf, -inf, 2)]
    for k in range(9):
        x, y, expected = np.array((cases * 20)[k : k + step], dtype).T
        out, numbers = np.zeros(2 * step, dtype), np.zeros(step, np.int64)
        _count(*map(np.ascontiguousarray, (x, np.append(y, y))), numbers, 0, out, numbers, 0, 0, 0, work=1)
        np.testing.assert_array_equal(out[step:], expected)


def check_integers(dtype) -> None:
    """Whole numbers are stored as int64, and what belongs to one number is found again; nothing else is read or changed."""
    step, large = _machine.lanes(dtype), 2**40
    x = np.arange(1, 3 * step + 1).astype(dtype)
    x[0] = np.nan  # it is not asked for
    y = np.append(np.zeros(step), np.arange(step) * 1000.0 - 3).astype(dtype)
    numbers = large + np.arange(3 * step) % 3
    for at, count in itertools.product((1, step + 1), range(-1, step + 1)):
        out, integers = np.full(2 * step, 7, dtype), np.full(3 * step, -1, np.int64)
        _count(x, y, numbers, large + 1, out, integers, at, large, count, work=1)
        valid = np.arange(at, at + max(count, 0))
        expected = np.zeros(step, dtype)
        expected[: valid.size] = np.where(numbers[valid] == large + 1, x[valid], 0)
        np.testing.assert_array_equal(out[:step], expected)
        written = np.full(3 * step, -1)
        written[valid] = large + y[step : step + valid.size].astype(np.int64)
        np.testing.assert_array_equal(integers, written)


CHECKS = {name[6:]: function for name, function in list(globals().items()) if name.startswith("check_")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CHECKS)
def test_vectors(name, dtype):
    if name == "the_end_of_memory" and not hasattr(os, "fork"):
        pytest.skip("needs mprotect")
    with np.errstate(all="ignore"):
        CHECKS[name](dtype)


# ---- other processors --------------------------------------------------------------------------------------------------


def main() -> None:
    """Run all checks; print the lanes of float32 and float64 and the instruction sets."""
    for dtype in DTYPES:
        for name, check in CHECKS.items():
            if name != "the_end_of_memory" or hasattr(os, "fork"):
                with np.errstate(all="ignore"):
                    check(dtype)
    print(json.dumps([_machine.lanes(np.float32), _machine.lanes(np.float64), sorted(_machine.vector_features())]))


LESSER = {
    "no AVX-512": ({"NUMBA_CPU_FEATURES": "-avx512f"}, 32),
    "no AVX": ({"NUMBA_CPU_FEATURES": "-avx512f,-avx,-avx2,-fma"}, 16),
    "generic": ({"NUMBA_CPU_NAME": "generic"}, 16),
    "AVX disabled": ({"NUMBA_ENABLE_AVX": "0"}, 16),
    "no compiler": ({"NUMBA_DISABLE_JIT": "1"}, 64),
}


MARKS = {
    name: beside.add(f"vectors, {name}", "-W", "error", "-m", "tests.kernels.test_vector", **settings)
    for name, (settings, _) in LESSER.items()
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=mark) for name, mark in MARKS.items()])
def test_lesser_processors(name):
    """The same checks in a process that may not use all that this processor can do."""
    (single, double, features), most = beside.result(f"vectors, {name}"), LESSER[name][1]
    size = min(most, 4 * _machine.lanes(np.float32))
    assert (single, double) == (size // 4, size // 8)
    if most == 16:
        assert not {"avx", "avx2", "avx512f"} & set(features)


if __name__ == "__main__":
    main()
