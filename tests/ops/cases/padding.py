"""Rows for minigrad/ops/padding.py."""

from __future__ import annotations

import numpy as np

from minigrad.tensor import Tensor
from tests.ops.case import Case, Draw, Error, Raw

NUMPY = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(x: np.ndarray, pad: tuple, mode: str = "constant", value: float = 0) -> np.ndarray:
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [tuple(pad[i : i + 2]) for i in range(len(pad) - 2, -1, -2)]
    more = {"constant_values": value} if mode == "constant" else {}
    y = np.pad(x, [(max(b, 0), max(a, 0)) for b, a in pairs], NUMPY[mode], **more)
    return y[tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(y.shape, pairs, strict=True))]


def case(id: str, shape: tuple, pads: tuple, **kwargs) -> Case:
    def draw(d: Draw) -> tuple:
        return (d.normal(*shape), pads, kwargs)

    return Case("pad", id, draw, pad, torch="nn.functional.pad", step=1)


CASES = [
    case("image", (2, 3, 4, 5), (1, 2, 0, 3)),
    case("value", (2, 3, 4, 5), (1, 1, 1, 1), value=-2.5),
    case("crop", (2, 3, 5, 6), (-1, -2, 2, -1)),
    case("crop everything", (2, 3), (-1, -2)),
    case("channels", (2, 3, 2, 2), (0, 0, 0, 0, 1, 2)),
    case("vector", (4,), (2, 0)),
    case("nothing", (2, 3), (0, 0)),
    case("no pairs", (2, 3), ()),
    case("reflect", (2, 3, 4, 5), (2, 1, 3, 0), mode="reflect"),
    case("reflect as far as possible", (1, 2, 3, 4), (3, 3, 2, 2), mode="reflect"),
    case("replicate", (2, 3, 4, 5), (2, 1, 3, 0), mode="replicate"),
    case("replicate far", (1, 1, 1, 2), (4, 5, 3, 3), mode="replicate"),
    Case(
        "pad",
        "tensors",
        lambda d: (d.normal(2, 3), [Raw(Tensor(np.array([1]))), Raw(Tensor(np.array(2)))]),
        lambda x, _: np.pad(x, ((0, 0), (1, 2))),
        torch=lambda torch, x, _: torch.nn.functional.pad(x, (1, 2)),
        step=1,
    ),
    case("circular", (2, 3, 4, 5), (2, 1, 3, 0), mode="circular"),
    case("circular as far as possible", (1, 2, 3, 4), (4, 4, 3, 3), mode="circular"),
]

ERRORS = [
    Error("pad", "odd", lambda d: (d.normal(2, 3), (1,)), ValueError, "pairs"),
    Error("pad", "too many", lambda d: (d.normal(3), (1, 1, 1, 1)), ValueError, "at most 1 dimensions"),
    Error("pad", "number", lambda d: (d.normal(3), 1), TypeError, "pad must be a list or tuple of integers"),
    Error("pad", "mode", lambda d: (d.normal(3), (1, 1), "same"), ValueError, "mode must be one of"),
    Error("pad", "crops too much", lambda d: (d.normal(3), (-2, -2)), ValueError, r"shape \(3,\) would become \(-1,\)"),
    Error("pad", "reflects too much", lambda d: (d.normal(1, 1, 3, 3), (3, 0), "reflect"), ValueError,
          r"at most 2 to dimension 3 of size 3, got \(3, 0\)"),
    Error("pad", "wraps too much", lambda d: (d.normal(1, 1, 3, 3), (4, 0), "circular"), ValueError, "at most 3"),
    Error("pad", "repeats nothing", lambda d: (d.normal(2, 0), (1, 0), "replicate"), ValueError, "at most 0"),
    Error("pad", "crops mirrored", lambda d: (d.normal(1, 1, 3, 3), (-1, 0), "reflect"), ValueError,
          'only mode "constant" can crop'),
    Error("pad", "value of a mirror", lambda d: (d.normal(1, 1, 3, 3), (1, 0), "reflect", 2.0), ValueError, "value is for mode"),
    Error("pad", "value", lambda d: (d.normal(3), (1, 0), "constant", "0"), TypeError, "value must be a number"),
]  # fmt: skip
