"""The innermost part of every matrix product: a tile of the result that stays in registers while it is summed.

A row of the tile is one or two vectors wide. For every step of the sum the vectors of a row of b are loaded once, and each is
multiplied by a number of every row of a: with 12 rows and 2 vectors that is 24 multiplications for 14 loads, which keeps the
arithmetic units of current processors busy (Goto & van de Geijn 2008; Van Zee & van de Geijn 2015).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from . import _machine
from ._vector import (
    INDEX,
    emit_fill,
    emit_fma,
    emit_load,
    emit_mask,
    emit_prefetch,
    emit_store,
    opaque,
    pointer,
    vector_intrinsic,
    vector_type,
)

__all__ = ["tile"]

SHARED = 3  # rows of a that are reached from one address: with no, one or two row lengths added


def _tile(rows, vectors, c, c_at, c_row, start, start_at, start_row, a, b, left, right, lines, depth, columns):
    (a_at, a_row, a_step, a_line), (b_at, b_row, b_line) = left, right
    line, k = np.repeat(np.arange(lines), depth), np.tile(np.arange(depth), lines)
    left = a[a_at + a_row * np.arange(rows)[:, None] + a_step * k + a_line * line]
    right = b[b_at + (b_row * k + b_line * line)[:, None] + np.arange(columns)]
    for r in range(rows):
        first = start[start_at + r * start_row :][:columns] if start_row >= 0 else 0
        c[c_at + r * c_row : c_at + r * c_row + columns] = left[r] @ right + first


@vector_intrinsic(_tile)
def tile(typing, rows, vectors, c, c_at, c_row, start, start_at, start_row, a, b, left, right, lines, depth, columns):
    """c[r, n] = start[r, n] + sum over i < lines and k < depth of a[r, i, k] * b[i, k, n], for r < rows and n < columns.

    rows, vectors: literal numbers; columns <= vectors * lanes. Arrays have one dimension: c[r, n] is c[c_at + r*c_row + n] and
    start[r, n] is start[start_at + r*start_row + n] (start_row = 0: the same row for all, start_row = -1: zeros). With
    left = (a_at, a_row, a_step, a_line) and right = (b_at, b_row, b_line), a[r, i, k] is a[a_at + r*a_row + k*a_step + i*a_line]
    and b[i, k, n] is b[b_at + k*b_row + i*b_line + n]. Sums run in the order of (i, k); the start is added last, so that a long
    sum that is made of parts rounds like the sum of its parts.
    """
    count, wide = rows.literal_value, vectors.literal_value
    numbers = types.intp
    tuples = types.UniTuple(numbers, 4), types.UniTuple(numbers, 3)
    arguments = (rows, vectors, c, numbers, numbers, start, numbers, numbers, a, b, *tuples, *(numbers,) * 3)

    def generate(context, builder, sig, args):
        vector = vector_type(c.dtype)
        _, _, c_, c_at, c_row, start_, start_at, start_row, a_, b_, left, right, lines, depth, columns = args
        a_at, a_row, a_step, a_line = cgutils.unpack_tuple(builder, left)
        b_at, b_row, b_line = cgutils.unpack_tuple(builder, right)
        addresses = [
            pointer(context, builder, kind, array, at)
            for kind, array, at in ((c, c_, c_at), (start, start_, start_at), (a, a_, a_at), (b, b_, b_at))
        ]
        steps = c_row, start_row, a_row, a_step, a_line, b_row, b_line
        full = builder.icmp_signed("==", columns, INDEX(wide * vector.count))
        masks = [emit_mask(builder, builder.sub(columns, INDEX(v * vector.count)), vector) for v in range(wide)]
        if _machine.masked_loads_are_free():  # one loop serves all; it is stores whose masks cost time
            _rows(builder, vector, count, wide, addresses, steps, (lines, depth), masks, full)
        else:
            with builder.if_else(full) as (whole, tail):
                with whole:
                    _rows(builder, vector, count, wide, addresses, steps, (lines, depth), [None] * wide, full)
                with tail:
                    _rows(builder, vector, count, wide, addresses, steps, (lines, depth), masks, full)
        return context.get_dummy_value()

    return types.void(*arguments), generate


def _rows(builder, vector, count, wide, addresses, steps, sizes, masks, full) -> None:
    """As many rows at a time as there are registers for."""
    most = (_machine.registers() - 1 - wide) // wide
    parts = -(-count // most)
    for part in range(parts):
        first, last = count * part // parts, count * (part + 1) // parts
        c, start, a, b = addresses
        c_row, start_row, a_row = steps[:3]

        def moved(address, step, by=first):
            return builder.gep(address, [builder.mul(step, INDEX(by))])

        moved_addresses = moved(c, c_row), moved(start, start_row), moved(a, a_row), b
        _part(builder, vector, last - first, wide, moved_addresses, steps, sizes, masks, full)


def _part(builder, vector, rows, wide, addresses, steps, sizes, masks, full) -> None:
    """The loops over i and k. What they sum is carried from one iteration to the next in phi nodes, which become registers."""
    c, start, a, b = addresses
    c_row, start_row, a_row, a_step, a_line, b_row, b_line = steps
    lines, depth = sizes
    places = [(r, v) for r in range(rows) for v in range(wide)]

    def row(address, step, r, v):
        return builder.gep(address, [builder.add(builder.mul(step, INDEX(r)), INDEX(v * vector.count))])

    for r, v in places:  # what is written at the end is fetched meanwhile
        emit_prefetch(builder, row(c, c_row, r, v), to_write=True)
    zero = ir.Constant(vector, [0.0] * vector.count)
    bases = [builder.gep(a, [builder.mul(a_row, INDEX(r))]) for r in range(0, rows, SHARED)]
    offsets = [builder.mul(a_row, INDEX(r)) for r in range(min(SHARED, rows))]
    ahead = builder.gep(a, [builder.mul(a_row, INDEX(rows))])
    begin, names = builder.block, ("line", "loop", "next", "end", "more", "done")
    line, loop, following, end, more, done = (builder.append_basic_block(name) for name in names)
    some = builder.and_(builder.icmp_signed("<", INDEX(0), depth), builder.icmp_signed("<", INDEX(0), lines))
    builder.cbranch(some, line, end)

    builder.position_at_end(line)
    i, b_i, *a_i = (_phi(builder, value.type, ((value, begin),)) for value in (INDEX(0), b, *bases))
    kept = [_phi(builder, vector, ((zero, begin),)) for _ in places]
    builder.branch(loop)

    builder.position_at_end(loop)
    k, b_k, *a_k = (_phi(builder, value.type, ((value, line),)) for value in (INDEX(0), b_i, *a_i))
    sums = [_phi(builder, vector, ((value, line),)) for value in kept]
    right = [emit_load(builder, builder.gep(b_k, [INDEX(v * vector.count)]), vector, masks[v]) for v in range(wide)]
    # Else the address of each row would be computed from that of the row before: a chain as long as the tile is high, on which
    # every step of the sum would wait.
    seen = [opaque(builder, address) for address in a_k]
    emit_prefetch(builder, builder.gep(ahead, [builder.mul(k, INDEX(rows))]))  # the next rows, if they follow one another
    numbers = [builder.gep(seen[r // SHARED], [offsets[r % SHARED]]) for r in range(rows)]
    left = [emit_fill(builder, builder.load(number), vector) for number in numbers]
    new = [emit_fma(builder, left[r], right[v], total) for (r, v), total in zip(places, sums, strict=True)]
    next_k = builder.add(k, INDEX(1))
    nexts = [next_k, builder.gep(b_k, [b_row]), *(builder.gep(address, [a_step]) for address in seen), *new]
    for phi, value in zip((k, b_k, *a_k, *sums), nexts, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, following)

    builder.position_at_end(following)
    next_i = builder.add(i, INDEX(1))
    nexts = [next_i, builder.gep(b_i, [b_line]), *(builder.gep(address, [a_line]) for address in a_i), *new]
    for phi, value in zip((i, b_i, *a_i, *kept), nexts, strict=True):
        phi.add_incoming(value, following)
    builder.cbranch(builder.icmp_signed("<", next_i, lines), line, end)

    builder.position_at_end(end)
    totals = [_phi(builder, vector, ((zero, begin), (value, following))) for value in new]
    builder.cbranch(builder.icmp_signed("<", start_row, INDEX(0)), done, more)
    builder.position_at_end(more)
    given = [emit_load(builder, row(start, start_row, r, v), vector, masks[v]) for r, v in places]
    greater = [builder.fadd(total, value) for total, value in zip(totals, given, strict=True)]
    builder.branch(done)
    builder.position_at_end(done)
    results = [_phi(builder, vector, ((one, end), (other, more))) for one, other in zip(totals, greater, strict=True)]

    def put(masks):
        for (r, v), result in zip(places, results, strict=True):
            emit_store(builder, result, row(c, c_row, r, v), masks[v])

    if masks[0] is None:
        put(masks)
    else:
        with builder.if_else(full) as (whole, tail):
            with whole:
                put([None] * wide)
            with tail:
                put(masks)


def _phi(builder, kind, incoming):
    node = builder.phi(kind)
    for value, block in incoming:
        node.add_incoming(value, block)
    return node
