"""Matrix products. See ``kernels/reference/product.py``, and ``_product.py`` for how they are computed.

The matrix on the right is used where it is if its rows are contiguous, else its panels are packed first. Products with few rows
read every number of the right matrix once and are as fast as the memory: they are sums along its columns or rows. Sums of few
terms (the weight gradient of a small batch) are as fast as the memory that they fill, row by row.
"""

from __future__ import annotations

import numpy as np

from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._product import Filters, multiply, pack, panel_width
from ._threads import get_num_threads
from ._vector import fill, fma, lanes, load, load_first, store_first, total_of

__all__ = ["matmul"]

FEW = 16  # rows up to which a product with a transposed matrix is made of inner products
TERMS = 4  # up to which a product is made of outer ones
ROWS = 96  # rows of a task
DEPTH = 512  # terms that are summed at a time: sums of parts round less than one long sum, and the parts stay in the cache


def matmul(x: np.ndarray, y: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """See reference."""
    if x.ndim == 2:
        z = empty((x.shape[0], y.shape[1]), x.dtype)
        if z.size:
            _product(x, y, bias, z)
        return z
    z = empty((*x.shape[:2], y.shape[2]), x.dtype)
    for first, second, total in zip(x, y, z, strict=True):
        if total.size:
            _product(first, second, bias, total)
    return z


def _product(x, y, bias, z) -> None:
    """Fill z (M, N)."""
    (m, depth), n = x.shape, y.shape[1]
    if not x.flags.c_contiguous and not x.flags.f_contiguous:
        x = np.ascontiguousarray(x)
    start = np.zeros(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    if depth <= TERMS < m:
        _outer_products(np.ascontiguousarray(x), np.ascontiguousarray(y).reshape(-1), start, z, work=m * n * depth // 4)
        return
    transposed = y.flags.f_contiguous and not y.flags.c_contiguous
    if transposed and m <= FEW:
        _inner_products(np.ascontiguousarray(x), y.T, start, z, work=m * n * depth // 4)
        return
    width = panel_width(n, x.dtype)
    panels = -(-n // width)
    if y.flags.c_contiguous:
        packed, panel_step, row = y.reshape(-1), width, n
    else:
        values = y.T if transposed else np.ascontiguousarray(y.T)
        f = Filters(values.reshape(-1), 1, n, depth, n * depth, depth, 1, np.zeros(1, np.int64))
        packed, panel_step, row = pack(f).reshape(-1), depth * width, width
    threads = get_num_threads()
    blocks = -(-m // ROWS)
    blocks = blocks if blocks >= threads else min(-(-m // 12), threads)
    parts = 1 if blocks >= threads else min(panels, -(-threads // blocks))
    sizes = m, n, depth, blocks, parts, panels, width
    straight = x.flags.c_contiguous
    memory, steps = (x, (depth, 1, panel_step, row)) if straight else (x.T, (1, m, panel_step, row))
    work = m * n * depth // 8
    _multiply(memory.reshape(-1), packed, start, z.reshape(-1), sizes, steps, min(threads, blocks * parts), work=work)


@kernel(reassociate=False)
def _multiply(x, packed, bias, z, sizes, steps, workers):
    for worker in prange(workers):
        m, _, _, blocks, parts, panels, _ = sizes
        for task in range(worker * blocks * parts // workers, (worker + 1) * blocks * parts // workers):
            block, part = task // parts, task % parts
            first, last = m * block // blocks, m * (block + 1) // blocks
            _multiply_block(x, packed, bias, z, first, last, panels * part // parts, panels * (part + 1) // parts, sizes, steps)


@device_function(reassociate=False)
def _multiply_block(x, packed, bias, z, first, last, begin, end, sizes, steps):
    _, n, depth, _, _, _, width = sizes
    x_row, x_step, panel_step, row = steps
    start_row = 0 if bias.size else -1
    for panel in range(begin, end):
        at, seen, columns = panel * width, first * x_row, min(width, n - panel * width)
        part = min(depth, DEPTH)
        multiply(
            *(z, first * n + at, n, bias, at, start_row),
            x,
            seen,
            x_row,
            x_step,
            packed,
            panel * panel_step,
            row,
            last - first,
            part,
            columns,
        )
        for k in range(DEPTH, depth, DEPTH):
            into, used = (z, first * n + at, n, z, first * n + at, n), panel * panel_step + k * row
            multiply(*into, x, seen + k * x_step, x_row, x_step, packed, used, row, last - first, min(DEPTH, depth - k), columns)


@kernel(reassociate=False)
def _outer_products(x, y, bias, z):
    for row in prange(z.shape[0]):
        _outer_product(x[row], y, bias, z[row])


@device_function(reassociate=False, inline=True)
def _outer_product(x, y, bias, z):
    step, n = lanes(z), z.size
    for column in range(0, n, step):
        count, total = n - column, fill(z, 0.0)
        for k in range(x.size):
            total = fma(fill(z, x[k]), load_first(y, k * n + column, count), total)
        store_first(z, column, total + load_first(bias, column, count) if bias.size else total, count)


@kernel(reassociate=False)
def _inner_products(x, y, bias, z):
    for block in prange(-(-z.shape[1] // 4)):
        first, last, row = 4 * block, min(z.shape[1], 4 * block + 4), 0
        while last - first == 4 and row + 2 <= z.shape[0]:
            _inner_tile(x[row], x[row + 1], y, z, row, first)
            row += 2
        for r in range(row, z.shape[0]):
            for column in range(first, last):
                z[r, column] = _inner_product(x[r], y[column])
        if bias.size:
            for r in range(z.shape[0]):
                for column in range(first, last):
                    z[r, column] += bias[column]


@device_function(reassociate=False)
def _inner_tile(x0, x1, y, z, row, column):
    """Two rows times four columns: every vector that is loaded serves several sums."""
    y0, y1, y2, y3 = y[column], y[column + 1], y[column + 2], y[column + 3]
    a0, a1, a2, a3 = fill(x0, 0.0), fill(x0, 0.0), fill(x0, 0.0), fill(x0, 0.0)
    b0, b1, b2, b3 = fill(x0, 0.0), fill(x0, 0.0), fill(x0, 0.0), fill(x0, 0.0)
    for k in range(0, x0.size, lanes(x0)):
        left = x0.size - k
        u, v = load_first(x0, k, left), load_first(x1, k, left)
        w0, w1, w2, w3 = load_first(y0, k, left), load_first(y1, k, left), load_first(y2, k, left), load_first(y3, k, left)
        a0, a1, a2, a3 = fma(u, w0, a0), fma(u, w1, a1), fma(u, w2, a2), fma(u, w3, a3)
        b0, b1, b2, b3 = fma(v, w0, b0), fma(v, w1, b1), fma(v, w2, b2), fma(v, w3, b3)
    z[row, column], z[row, column + 1] = total_of(a0), total_of(a1)
    z[row, column + 2], z[row, column + 3] = total_of(a2), total_of(a3)
    z[row + 1, column], z[row + 1, column + 1] = total_of(b0), total_of(b1)
    z[row + 1, column + 2], z[row + 1, column + 3] = total_of(b2), total_of(b3)


@device_function(reassociate=False, inline=True)
def _inner_product(x, y):
    """Four vectors of partial sums, so that none waits for another."""
    step = lanes(x)
    t0, t1, t2, t3 = fill(x, 0.0), fill(x, 0.0), fill(x, 0.0), fill(x, 0.0)
    whole = x.size - x.size % (4 * step)
    for k in range(0, whole, 4 * step):
        t0 = fma(load(x, k), load(y, k), t0)
        t1 = fma(load(x, k + step), load(y, k + step), t1)
        t2 = fma(load(x, k + 2 * step), load(y, k + 2 * step), t2)
        t3 = fma(load(x, k + 3 * step), load(y, k + 3 * step), t3)
    for k in range(whole, x.size, step):
        t0 = fma(load_first(x, k, x.size - k), load_first(y, k, x.size - k), t0)
    return total_of((t0 + t1) + (t2 + t3))
