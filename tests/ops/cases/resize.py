"""Rows for minigrad/ops/resize.py."""

from __future__ import annotations

from tests.ops import references
from tests.ops.case import Case, Error


def resized(id: str, x: tuple, **kwargs) -> Case:
    return Case("interpolate", id, lambda d: (d.normal(*x), kwargs), references.interpolate, torch="nn.functional.interpolate",
                scale="absolute", ulp=16, step=1)  # fmt: skip


CASES = [
    resized("nearest, twice", (2, 3, 3, 4), scale_factor=2),
    resized("nearest, to a size", (1, 2, 5, 4), size=(7, 9)),
    resized("nearest, smaller", (1, 2, 7, 8), size=(3, 5)),
    resized("nearest, odd factor", (1, 2, 5, 6), scale_factor=(1.5, 0.7)),
    resized("bilinear, twice", (2, 3, 3, 4), scale_factor=2, mode="bilinear"),
    resized("bilinear, to a size", (1, 2, 5, 4), size=(7, 9), mode="bilinear"),
    resized("bilinear, smaller", (1, 2, 7, 8), size=(3, 5), mode="bilinear"),
    resized("bilinear, odd factor", (1, 2, 5, 6), scale_factor=(1.5, 0.75), mode="bilinear"),
    resized("bilinear, corners aligned", (1, 2, 5, 4), size=(7, 9), mode="bilinear", align_corners=True),
    resized("bilinear, corners aligned, to one pixel", (1, 2, 5, 4), size=(1, 1), mode="bilinear", align_corners=True),
    resized("area", (2, 3, 7, 6), size=(3, 4), mode="area"),
    resized("empty batch", (0, 2, 3, 3), size=5, mode="bilinear"),
]

ERRORS = [
    Error("interpolate", "size and factor", lambda d: (d.normal(1, 1, 3, 3), 4, 2.0), ValueError, "exactly one of size and"),
    Error("interpolate", "neither", lambda d: (d.normal(1, 1, 3, 3),), ValueError, "exactly one of size and scale_factor"),
    Error("interpolate", "mode", lambda d: (d.normal(1, 1, 3, 3), 4, {"mode": "cubic"}), ValueError, 'mode must be "nearest"'),
    Error(
        "interpolate",
        "corners",
        lambda d: (d.normal(1, 1, 3, 3), 4, {"align_corners": True}),
        ValueError,
        "align_corners belongs",
    ),
    Error("interpolate", "factor", lambda d: (d.normal(1, 1, 3, 3), {"scale_factor": -1}), ValueError, "scale_factor must be"),
    Error("interpolate", "nothing left", lambda d: (d.normal(1, 1, 3, 3), {"scale_factor": 0.1}), ValueError, "leaves no pixels"),
    Error("interpolate", "size 0", lambda d: (d.normal(1, 1, 3, 3), 0), ValueError, "size must be at least 1"),
    Error("interpolate", "3 dimensions", lambda d: (d.normal(1, 3, 3), 4), ValueError, "x must have 4 dimensions"),
    Error("interpolate", "no pixels", lambda d: (d.normal(1, 1, 0, 3), 4), ValueError, "no pixels"),
    Error("interpolate", "integers", lambda d: (d.integers(0, 9, 1, 1, 3, 3), 4), TypeError, "x must hold floating"),
]
