"""Einstein summation: sums of products written with one letter for each dimension."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence

import numpy as np

from minigrad.device import array_module
from minigrad.ops._base import check_devices, check_tensor, op, quiet, record
from minigrad.tensor import Tensor

__all__ = ["einsum"]


@op
@quiet
def einsum(equation: str, *operands: Tensor) -> Tensor:
    """The sum of products that ``equation`` describes: ``einsum("nk,km->nm", a, b)`` is the matrix product.

    A letter names a dimension. The same letter in two operands pairs them (lengths equal, or 1, which is broadcast), one that is
    missing behind the arrow is summed over, and one that occurs twice in an operand takes its diagonal. "..." stands for leading
    dimensions. Without an arrow the result has the letters that occur once, in alphabetical order.
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    _check_operands(equation, operands)
    subscripts, output = _parse(equation, operands)
    lengths = _lengths(subscripts, operands)
    terms = [
        _Term(t.data, letters, lengths, set(output).union(*subscripts[:i], *subscripts[i + 1 :]))
        for i, (t, letters) in enumerate(zip(operands, subscripts, strict=True))
    ]
    letters = [term.letters for term in terms]
    arrays = [term.array for term in terms]
    needed = [t.requires_grad for t in operands]

    def backward(gy):
        grads = []
        for i, term in enumerate(terms):
            others = [j for j in range(len(terms)) if j != i]
            if not needed[i]:
                grads.append(None)
                continue
            g = _contract([output, *(letters[j] for j in others)], [gy, *(arrays[j] for j in others)], letters[i])
            grads.append(term.gradient(g))
        return tuple(grads)

    y = _contract(letters, arrays, output)
    if any(array_module(y).may_share_memory(y, t.data) for t in operands):
        y = y.copy()
    return record(y, operands, backward, saves=operands if len(operands) > 1 else ())


# ---- the equation ------------------------------------------------------------------------------------------------------


def _check_operands(equation: str, operands: Sequence[Tensor]) -> None:
    if not isinstance(equation, str):
        raise TypeError(f"equation must be a string such as 'nk,km->nm', got {type(equation).__name__}")
    if not operands:
        raise ValueError("einsum needs at least one operand")
    named = {f"operand {i}": check_tensor(t, f"operand {i}") for i, t in enumerate(operands)}
    check_devices(**named)
    if len({t.dtype for t in operands}) > 1:
        listed = ", ".join(f"{name} is {t.dtype}" for name, t in named.items())
        raise TypeError(f"all operands must have one dtype, but {listed}")


def _parse(equation: str, operands: Sequence[Tensor]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, with letters of their own in the place of "..."."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    subscripts = left.split(",")
    if len(subscripts) != len(operands):
        raise ValueError(f"{equation!r} describes {len(subscripts)} operands, got {len(operands)}")
    unused = [c for c in string.ascii_letters if c not in equation]
    rest = ""  # the letters that "..." stands for
    for i, (letters, t) in enumerate(zip(subscripts, operands, strict=True)):
        named = letters.replace("...", "", 1)
        missing = t.ndim - len(named)
        if not all(c in string.ascii_letters for c in named):
            raise ValueError(f"operand {i} in {equation!r} must be letters and at most one '...', got {letters!r}")
        if missing < 0 or (missing and named == letters):
            raise ValueError(f"operand {i} has {t.ndim} dimensions (shape {t.shape}), but {letters!r} names {len(named)}")
        fresh = "".join(unused[:missing][::-1])  # counted from the last, so that shorter ones broadcast
        subscripts[i] = letters.replace("...", fresh)
        rest = max(rest, fresh, key=len)
    if not arrow:
        joined = "".join(subscripts)
        return subscripts, rest + "".join(sorted(c for c in set(joined) if joined.count(c) == 1 and c not in rest))
    output = output.replace("...", rest)
    known = set("".join(subscripts))
    for c in output:
        if c not in known or output.count(c) > 1:
            raise ValueError(f"{c!r} behind the arrow of {equation!r} must occur once there and in an operand before")
    return subscripts, output


def _lengths(subscripts: Sequence[str], operands: Sequence[Tensor]) -> dict[str, int]:
    """The length of the dimension that each letter names."""
    lengths: dict[str, int] = {}
    for i, (letters, t) in enumerate(zip(subscripts, operands, strict=True)):
        for c, n in zip(letters, t.shape, strict=True):
            if lengths.setdefault(c, n) == 1:
                lengths[c] = n
            elif n not in (1, lengths[c]):
                raise ValueError(f"dimension {c!r} is {lengths[c]} long, but {n} in operand {i} of shape {t.shape}")
    return lengths


# ---- one operand -------------------------------------------------------------------------------------------------------


class _Term:
    """An operand brought into a simple form: every letter once, none that is summed over in this operand alone."""

    def __init__(self, array, letters: str, lengths: dict[str, int], used: set[str]):
        self.shape, self.given, self.used = array.shape, letters, used
        self.distinct = "".join(dict.fromkeys(letters))
        array = self.diagonal(array)
        # Lengths of 1 that others broadcast, and letters that nobody else has, are summed over here.
        alone = [d for d, c in enumerate(self.distinct) if c not in used or array.shape[d] != lengths[c]]
        self.letters = "".join(c for d, c in enumerate(self.distinct) if d not in alone)
        self.diagonal_shape = array.shape
        self.kept_shape = tuple(1 if d in alone else n for d, n in enumerate(array.shape))
        accumulate = np.float64 if array.dtype.kind == "f" else None
        self.array = array.sum(axis=tuple(alone), dtype=accumulate).astype(array.dtype, copy=False) if alone else array

    def diagonal(self, array):
        """The view of ``array`` in which letters that occur several times are one dimension."""
        if len(self.distinct) == len(self.given):
            return array
        steps = [sum(s for s, c in zip(array.strides, self.given, strict=True) if c == d) for d in self.distinct]
        shape = [array.shape[self.given.index(d)] for d in self.distinct]
        return array_module(array).lib.stride_tricks.as_strided(array, shape, steps)

    def gradient(self, g):
        """The gradient of the operand from that of the simple form."""
        library = array_module(g)
        g = library.broadcast_to(g.reshape(self.kept_shape), self.diagonal_shape)
        if len(self.distinct) == len(self.given):
            return g
        gx = library.zeros(self.shape, g.dtype)
        self.diagonal(gx)[...] = g
        return gx


# ---- products ----------------------------------------------------------------------------------------------------------


def _contract(subscripts: Sequence[str], arrays: Sequence, output: str):
    """The sum of products of simple terms, two at a time in an order that keeps the intermediate results small."""
    terms = list(zip(subscripts, arrays, strict=True))
    while len(terms) > 1:
        i, j = _cheapest_pair(terms, output) if len(terms) > 2 else (0, 1)
        (b_letters, b), (a_letters, a) = terms.pop(j), terms.pop(i)
        wanted = set(output).union(*(letters for letters, _ in terms))
        terms.append(_contract_pair(a_letters, a, b_letters, b, wanted))
    letters, array = terms[0]
    extra = tuple(d for d, c in enumerate(letters) if c not in output)
    if extra:
        array = array.sum(axis=extra)
        letters = "".join(c for c in letters if c in output)
    return array.transpose([letters.index(c) for c in output])


def _cheapest_pair(terms: list[tuple], output: str) -> tuple[int, int]:
    """The pair of terms whose product takes the fewest multiplications."""

    def cost(pair: tuple[int, int]) -> int:
        lengths = {c: n for k in pair for c, n in zip(terms[k][0], terms[k][1].shape, strict=True)}
        return math.prod(lengths.values())

    return min(((i, j) for i in range(len(terms)) for j in range(i + 1, len(terms))), key=cost)


def _contract_pair(a_letters: str, a, b_letters: str, b, wanted: set[str]):
    """(letters, array) of the product of two terms, summed over what both have and nobody else wants: one matrix product."""
    both = [c for c in a_letters if c in b_letters and c in wanted]
    summed = [c for c in a_letters if c in b_letters and c not in wanted]
    rows = [c for c in a_letters if c not in b_letters]
    columns = [c for c in b_letters if c not in a_letters]
    length = {**dict(zip(a_letters, a.shape, strict=True)), **dict(zip(b_letters, b.shape, strict=True))}

    def size(letters: list[str]) -> int:
        return math.prod(length[c] for c in letters)

    a = a.transpose([a_letters.index(c) for c in both + rows + summed]).reshape(size(both), size(rows), size(summed))
    b = b.transpose([b_letters.index(c) for c in both + summed + columns]).reshape(size(both), size(summed), size(columns))
    letters = both + rows + columns
    return "".join(letters), (a @ b).reshape([length[c] for c in letters])
