"""All cases of all ops: one module of rows for each module of minigrad.ops, collected here."""

from __future__ import annotations

import importlib
import pkgutil

from tests.ops.case import Case, Error

__all__ = ["ALL_CASES", "ALL_ERRORS"]

ALL_CASES: list[Case] = []
ALL_ERRORS: list[Error] = []

for _found in pkgutil.iter_modules(__path__):
    _module = importlib.import_module(f"{__name__}.{_found.name}")
    ALL_CASES += _module.CASES
    ALL_ERRORS += _module.ERRORS
