"""What matrix products are made of: register tiles of every size, and packed panels."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from minigrad.kernels.cpu import _machine, _product
from minigrad.kernels.cpu._compiler import kernel, prange
from minigrad.kernels.cpu._product import Filters, multiply, multiply_lines, pack, panel_width
from tests import beside
from tests.kernels.agreement import DTYPES, assert_close, eps
from tests.kernels.small import follow


@kernel(reassociate=False)
def _multiply(c, first, a, b, places, left, right, sizes):
    for _ in prange(1):
        c_at, c_row, start_at, start_row = places
        rows, lines, depth, columns = sizes
        if lines == 1:
            a_at, a_row, a_step, _ = left
            b_at, b_row, _ = right
            multiply(c, c_at, c_row, first, start_at, start_row, a, a_at, a_row, a_step, b, b_at, b_row, rows, depth, columns)
        else:
            multiply_lines(c, c_at, c_row, first, start_at, start_row, a, b, left, right, rows, lines, depth, columns)


follow(_multiply, module=_product)

# ---- products of tiles -------------------------------------------------------------------------------------------------

ROWS, LINES, DEPTH = 30, 3, 20  # at most


class Problem:
    """A product with the most rows, lines, terms and columns that are tried, of small integers, whose sums are exact.

    Between the numbers that are used, and around them, there is NaN. a lies by rows (``along`` = 1) or by columns.
    """

    def __init__(self, dtype, along: int, seed=0):
        columns, rng = 2 * _machine.lanes(dtype), np.random.default_rng(seed)
        self.a = rng.integers(-8, 9, (ROWS, LINES, DEPTH)).astype(np.float64)
        self.b = rng.integers(-8, 9, (LINES, DEPTH, columns)).astype(np.float64)
        self.start = rng.integers(-8, 9, (ROWS, columns)).astype(np.float64)
        a_row, a_step = (LINES * DEPTH + 3, 1) if along == 1 else (1, ROWS + 2)
        a_line = DEPTH if along == 1 else (ROWS + 2) * DEPTH
        self.left, self.right = (5, a_row, a_step, a_line), (7, columns + 1, (columns + 1) * DEPTH + 4)
        self.c_row, self.dtype = columns + 3, dtype
        self.memory_a = _spread(self.a, self.left[0], (a_row, a_line, a_step), dtype)
        self.memory_b = _spread(self.b, self.right[0], (self.right[2], self.right[1], 1), dtype)
        self.memory_start = _spread(self.start, 2, (self.c_row, 1), dtype)

    def run(self, way: str, rows, lines, depth, columns):
        """All memory of c after the product, and what it should be. way: "zeros", "same row", "other array" or "in place"."""
        c = np.full(4 + (ROWS + 2) * self.c_row, np.nan, self.dtype)
        expected, row, at, first = c.astype(np.float64), self.c_row, 3, self.memory_start
        begun = np.zeros((rows, columns))
        if way != "zeros":
            begun = self.start[:1].repeat(rows, 0)[:, :columns] if way == "same row" else self.start[:rows, :columns]
        if way == "in place":
            first = c
            for r in range(rows):
                c[at + r * row :][:columns] = begun[r]
        sums = np.tensordot(self.a[:rows, :lines, :depth], self.b[:lines, :depth, :columns], 2) + begun
        for r in range(rows):
            expected[at + r * row :][:columns] = sums[r]
        start_at = {"zeros": 10**9, "in place": at}.get(way, 2)  # zeros: memory that is not there is not touched
        places = at, row, start_at, {"zeros": -1, "same row": 0}.get(way, row)
        sizes = rows, lines, depth, columns
        _multiply(c, first, self.memory_a, self.memory_b, places, self.left, self.right, sizes, work=1)
        return c, expected

    def check(self, *sizes) -> None:
        actual, expected = self.run(*sizes)
        assert actual.astype(np.float64).tobytes() == expected.tobytes(), sizes


WAYS = ("zeros", "same row", "other array", "in place")


def _spread(numbers, at, steps, dtype) -> np.ndarray:
    """Memory in which the numbers lie so many steps apart, and NaN everywhere else."""
    places = at + sum(step * index for step, index in zip(steps, np.indices(numbers.shape), strict=True))
    memory = np.full(places.max() + 40, np.nan, dtype)
    memory[places] = numbers
    return memory


def check_products(dtype, every=1) -> None:
    """All numbers of rows and columns; with each of them some numbers of lines and terms, in turn."""
    columns = 2 * _machine.lanes(dtype)
    turns = itertools.cycle(itertools.product(WAYS, (1, 2, 3), (0, 1, 2, 3, 7, DEPTH)))
    for along in (1, 0):
        problem = Problem(dtype, along)
        for rows, number in list(itertools.product(range(1, ROWS + 1), range(1, columns + 1)))[::every]:
            for _ in range(2):
                way, lines, depth = next(turns)
                problem.check(way, rows, lines, depth, number)
        for way, depth, rows, number in itertools.product(WAYS, range(DEPTH + 1), (1, 12, 25), (1, columns)):
            problem.check(way, rows, 1, depth, number)
        for way, lines in itertools.product(WAYS, (0, 1)):
            problem.check(way, 0, lines, 3, columns)
        problem.check("zeros", 3, 0, 3, columns)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_integers_are_exact(dtype):
    """And nothing outside of the result is written, nothing outside of the factors is used."""
    check_products(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lines_may_overlap(dtype):
    """As those of the image do, of which every window sees several numbers again."""
    columns, rng = 2 * _machine.lanes(dtype), np.random.default_rng(0)
    a, b, c = (
        rng.integers(-8, 9, 99).astype(dtype),
        rng.integers(-8, 9, (6, columns)).astype(dtype),
        np.zeros((13, columns), dtype),
    )
    _multiply(
        c.reshape(-1),
        c[0],
        a,
        b.reshape(-1),
        (0, columns, 0, -1),
        (4, 2, 1, 30),
        (0, columns, columns),
        (13, 3, 4, columns),
        work=1,
    )
    places = 4 + 2 * np.arange(13)[:, None, None] + 30 * np.arange(3)[:, None] + np.arange(4)
    np.testing.assert_array_equal(c, np.tensordot(a[places], b[np.arange(3)[:, None] + np.arange(4)], 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_normal_numbers(dtype):
    """Within the bound for sums of so many products, and the same bits however the rows and columns are divided."""
    columns, rows, depth, rng = 2 * _machine.lanes(dtype), ROWS, 500, np.random.default_rng(0)
    a, b, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((rows, depth), (depth, columns), (columns,)))

    def run(first, last, begin, end):
        c = np.zeros((last - first, end - begin), dtype)
        places, left = (0, end - begin, begin, 0), (first * depth, depth, 1, 0)
        _multiply(
            c.reshape(-1),
            bias,
            a.reshape(-1),
            b.reshape(-1),
            places,
            left,
            (begin, columns, 0),
            (*c.shape[:1], 1, depth, end - begin),
            work=1,
        )
        return c

    whole, (p, q, r) = run(0, rows, 0, columns), (array.astype(np.float64) for array in (a, b, bias))
    u = (depth + 1) * eps(dtype) / 2
    assert_close(whole, p @ q + r, u / (1 - u) * (abs(p) @ abs(q) + abs(r)), dtype)
    for first, last in [(0, k) for k in range(1, rows)] + [(k, k + 1) for k in range(rows)] + [(5, 14), (7, 18)]:
        assert run(first, last, 0, columns).tobytes() == whole[first:last].tobytes()
    for begin, end in [(0, k) for k in range(1, columns)] + [(k, k + 1) for k in range(columns)] + [(1, columns)]:
        assert run(3, 18, begin, end).tobytes() == np.ascontiguousarray(whole[3:18, begin:end]).tobytes()


def main() -> None:
    for dtype in sys.argv[1:]:
        check_products(np.dtype(dtype).type, every=7)
    print("true")


LESSER = {  # float32 or float64, settings
    "no AVX-512": (["float32"], {"NUMBA_CPU_FEATURES": "-avx512f"}),
    "generic": (["float64"], {"NUMBA_CPU_NAME": "generic"}),
    "no compiler": (["float32", "float64"], {"NUMBA_DISABLE_JIT": "1"}),
}


MARKS = {
    name: beside.add(f"products, {name}", "-W", "error", "-m", "tests.kernels.test_product", *dtypes, **settings)
    for name, (dtypes, settings) in LESSER.items()
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=mark) for name, mark in MARKS.items()])
def test_lesser_processors(name):
    """With fewer registers a tile is computed in parts; without the compiler it is NumPy's product."""
    assert beside.result(f"products, {name}") is True


# ---- panels ------------------------------------------------------------------------------------------------------------


def filters(dtype, groups, outputs, inputs, taps, turned) -> Filters:
    """Weights (G, O/G, C/G, kh*kw) in memory, as the forward pass sees them, or as the input gradient does."""
    window = max(taps) + 1
    values = np.random.default_rng(0).standard_normal(groups * outputs * inputs * window).astype(dtype)
    steps = (window, outputs * window) if turned else (inputs * window, window)
    return Filters(values, groups, outputs, inputs, outputs * inputs * window, *steps, np.array(taps, dtype=np.int64))


def weight_of(f: Filters, g, o, c, t):
    return f.values[g * f.group_step + o * f.output_step + c * f.input_step + f.taps[t]]


FILTERS = {
    "one": (1, 1, 1, (0,)),
    "a window": (1, 7, 5, tuple(range(9))),
    "some taps, mirrored": (1, 33, 20, (8, 6, 2, 0)),
    "groups": (3, 17, 16, (0, 1)),
    "several panels": (2, 70, 33, (1, 0)),
    "1x1": (2, 70, 33, (0,)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("case", FILTERS)
def test_panels(case, turned, dtype):
    f = filters(dtype, *FILTERS[case], turned)
    width, taps = panel_width(f.outputs, dtype), len(f.taps)
    panels = -(-f.outputs // width)
    assert width in (_machine.lanes(dtype), 2 * _machine.lanes(dtype))
    packed, array = pack(f), f.array()
    assert packed.shape == (f.groups, panels, taps * f.inputs, width)
    assert array.shape == (f.groups, f.outputs, f.inputs, taps)
    assert packed.dtype == array.dtype == dtype
    for g, o, c, t in np.ndindex(f.groups, panels * width, f.inputs, taps):
        expected = weight_of(f, g, o, c, t) if o < f.outputs else 0
        assert packed[g, o // width, t * f.inputs + c, o % width] == expected
        if o < f.outputs:
            assert array[g, o, c, t] == expected


def test_the_width_of_panels():
    for dtype in DTYPES:
        step = _machine.lanes(dtype)
        assert [panel_width(n, dtype) for n in (1, step, step + 1, 9 * step)] == [step, step, 2 * step, 2 * step]


if __name__ == "__main__":
    main()
