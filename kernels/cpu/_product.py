"""A matrix product for blocks that lie in the cache."""

from __future__ import annotations

from ._compiler import device_function

__all__ = ["add_product", "padded_width"]


def padded_width(columns: int) -> int:
    """The width of a buffer for so many columns, so that its rows are whole vectors: a narrow row is slower than a wide one."""
    return max(16, -(-columns // 8) * 8)


@device_function(reassociate=False)
def add_product(a, b, c):
    """c (M, N) += a (M, K) @ b (K, N). Rows of b and c are contiguous; every sum runs over K in ascending order.

    Eight rows of b at a time stay in the first-level cache while the rows of c pass by: eight multiplications for each time that
    an element of c is read and written, and consecutive rows do not wait for one another.
    """
    rows, depth = a.shape
    columns = b.shape[1]
    whole = depth - depth % 8
    for k in range(0, whole, 8):
        b0, b1, b2, b3, b4, b5, b6, b7 = b[k], b[k + 1], b[k + 2], b[k + 3], b[k + 4], b[k + 5], b[k + 6], b[k + 7]
        for m in range(rows):
            row = c[m]
            a0, a1, a2, a3 = a[m, k], a[m, k + 1], a[m, k + 2], a[m, k + 3]
            a4, a5, a6, a7 = a[m, k + 4], a[m, k + 5], a[m, k + 6], a[m, k + 7]
            for n in range(columns):
                total = row[n] + a0 * b0[n] + a1 * b1[n] + a2 * b2[n] + a3 * b3[n]
                row[n] = total + a4 * b4[n] + a5 * b5[n] + a6 * b6[n] + a7 * b7[n]
    for k in range(whole, depth):
        b0 = b[k]
        for m in range(rows):
            row = c[m]
            a0 = a[m, k]
            for n in range(columns):
                row[n] += a0 * b0[n]
