"""Rows for minigrad/ops/einsum.py."""

from __future__ import annotations

import numpy as np

from tests.ops.case import Case, Draw, Error, Raw


def case(id: str, equation: str, *shapes: tuple) -> Case:
    def draw(d: Draw) -> tuple:
        return Raw(equation), *(d.normal(*shape) for shape in shapes)

    return Case("einsum", id, draw, lambda eq, *xs: np.einsum(eq, *xs), torch="einsum", scale="absolute", ulp=16)


CASES = [
    case("matrix product", "nk,km->nm", (2, 3), (3, 4)),
    case("implicit output", "ij,jk", (2, 3), (3, 4)),
    case("implicit order", "ba", (2, 3)),
    case("stacks", "bij,bjk->bik", (4, 2, 3), (4, 3, 2)),
    case("inner product", "i,i->", (4,), (4,)),
    case("outer product", "i,j->ij", (3,), (4,)),
    case("transposed", "ijk->kij", (2, 3, 4)),
    case("as it is", "ij->ij", (2, 3)),
    case("sum", "ij->", (2, 3)),
    case("sum of one", "ij->j", (2, 3)),
    case("trace", "ii->", (3, 3)),
    case("diagonal", "ii->i", (3, 3)),
    case("diagonal of three", "iji->j", (3, 2, 3)),
    case("diagonal in a product", "ii,ij->j", (3, 3), (3, 2)),
    case("lonely letters", "ij,kl->ik", (2, 3), (4, 5)),
    case("lonely in one", "ijk,j->i", (2, 3, 4), (3,)),
    case("elementwise", "ij,ij->ij", (2, 3), (2, 3)),
    case("three operands", "ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    case("four operands", "bi,ij,bj,b->b", (4, 2), (2, 3), (4, 3), (4,)),
    case("bilinear form", "bi,oij,bj->bo", (4, 2), (5, 2, 3), (4, 3)),
    case("ellipsis", "...ij,...jk->...ik", (5, 2, 3), (5, 3, 2)),
    case("ellipsis broadcast", "...ij,jk->...ik", (4, 5, 2, 3), (3, 2)),
    case("ellipsis of unequal lengths", "...i,...i->...", (2, 4, 3), (4, 3)),
    case("ellipsis implicit", "...j,j", (2, 3, 4), (4,)),
    case("ellipsis for nothing", "...i->...", (3,)),
    case("length 1 broadcast", "ij,ij->ij", (1, 3), (2, 3)),
    case("length 1 broadcast and summed", "ij,ij->j", (2, 1), (2, 3)),
    case("spaces", " i j , j -> i ", (2, 3), (3,)),
    case("capitals", "aA,Ab->ab", (2, 3), (3, 2)),
    case("empty", "ij,jk->ik", (2, 0), (0, 3)),
    case("number", ",i->i", (), (3,)),
    Case("einsum", "the same twice", lambda d: (Raw("ij,ij->i"), *(d.normal(2, 3),) * 2), lambda eq, *xs: np.einsum(eq, *xs),
         torch="einsum", scale="absolute", ulp=16),
    Case("einsum", "operands in a list", lambda d: (Raw("i,i->"), [d.normal(3), d.normal(3)]),
         lambda eq, xs: np.einsum(eq, *xs), scale="absolute", ulp=16),
]  # fmt: skip


def error(id: str, equation, *shapes: tuple, match: str, kind: type[Exception] = ValueError) -> Error:
    return Error("einsum", id, lambda d: (Raw(equation), *(d.normal(*shape) for shape in shapes)), kind, match)


ERRORS = [
    error("operands", "ij,jk", (2, 3), match="describes 2 operands, got 1"),
    error("dimensions", "ijk", (2, 3), match=r"operand 0 has 2 dimensions \(shape \(2, 3\)\), but 'ijk' names 3"),
    error("too many dimensions", "i", (2, 3), match="names 1"),
    error("lengths", "ij,jk->ik", (2, 3), (4, 2), match="dimension 'j' is 3 long, but 4 in operand 1"),
    error("unknown letter", "ij->k", (2, 3), match="'k' behind the arrow"),
    error("letter twice", "ij->ii", (2, 3), match="must occur once"),
    error("sign", "i1->i", (2, 3), match="must be letters"),
    error("two ellipses", "...i...->i", (2, 3), match="at most one"),
    error("no string", 3, (2, 3), match="must be a string", kind=TypeError),
    error("no operands", "ij", match="at least one operand"),
    Error("einsum", "list", lambda d: (Raw("i"), [1, 2]), TypeError, "operand 0 must be a Tensor"),
    Error("einsum", "dtypes", lambda d: (Raw("i,i"), d.normal(2), d.integers(0, 2, 2)), TypeError, "one dtype"),
]
