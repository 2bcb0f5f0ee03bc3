"""Every public op has a case and an error case, and every row belongs to an op."""

from __future__ import annotations

import collections

import pytest

from minigrad.ops._base import REGISTRY
from tests.ops.case import op_modules, operation
from tests.ops.cases import ALL_CASES, ALL_ERRORS

PUBLIC = sorted({name for module in op_modules().values() for name in module.__all__})


@pytest.mark.parametrize("name", sorted({*PUBLIC, *REGISTRY}))
def test_op_has_rows(name):
    assert name in PUBLIC, f"{name} is registered, but in no module's __all__"
    module = operation(name).__module__.rsplit(".", 1)[-1]
    hint = f"add a row to tests/ops/cases/{module}.py (tests/ops/case.py says how)"
    assert any(case.op == name for case in ALL_CASES), f"{name} has no case: {hint}"
    assert any(error.op == name for error in ALL_ERRORS), f"{name} has no error case: {hint}"


def test_names_are_unique():
    for rows in (ALL_CASES, ALL_ERRORS):
        twice = [name for name, count in collections.Counter(row.name for row in rows).items() if count > 1]
        assert not twice


def test_rows_are_sound():
    for row in [*ALL_CASES, *ALL_ERRORS]:
        operation(row.op)  # exists
    for case in ALL_CASES:
        assert (case.reference is None) != (case.check is None), f"{case.name}: give a reference or, for a random op, a check"
        loose = case.gradient_tolerance > 1e-7 or case.ulp > 64 or case.gradient_ulp > 256 or not case.nan
        assert not loose or case.why, f"{case.name}: say why this row is judged less strictly"
        assert case.gradient_tolerance <= 1e-5, case.name


@pytest.mark.parametrize("name", PUBLIC)
def test_op_is_documented(name):
    assert (operation(name).__doc__ or "").strip(), f"{name} has no docstring"


def test_every_op_is_reachable_from_the_package():
    import minigrad.ops

    missing = [name for name in PUBLIC if getattr(minigrad.ops, name, None) is not operation(name)]
    assert not missing
