"""The implementations of the kernels have the same names and signatures, and the reference explains each of them."""

from __future__ import annotations

import importlib
import inspect

import pytest

from minigrad.kernels import cpu, reference
from tests.cuda.on_device import cuda

NAMES = sorted(reference.__all__)
OTHERS = {"cpu": cpu, "cuda": cuda.module}


@pytest.mark.parametrize("package", OTHERS)
def test_same_names(package):
    assert set(OTHERS[package].__all__) == set(reference.__all__)
    assert len(set(reference.__all__)) == len(reference.__all__)


def signature(function) -> str:
    """The signature with NumPy's name for arrays, whichever library's they are."""
    return str(inspect.signature(function)).replace("cupy.ndarray", "np.ndarray")


@pytest.mark.parametrize("package", OTHERS)
@pytest.mark.parametrize("name", NAMES)
def test_same_signature_in_the_same_file(name, package):
    ours, theirs = getattr(reference, name), getattr(OTHERS[package], name)
    assert signature(ours) == signature(theirs)
    assert ours.__module__.replace("reference", package) == theirs.__module__


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_annotated(name):
    signature = inspect.signature(getattr(reference, name))
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


@pytest.mark.parametrize("name", NAMES)
def test_docstrings(name):
    assert len(inspect.getdoc(getattr(reference, name)).splitlines()) >= 3
    for package in OTHERS.values():
        assert inspect.getdoc(getattr(package, name)).startswith("See reference.")


@pytest.mark.parametrize(
    "file",
    ["convolution", "dropout", "elementwise", "loss", "normalization", "optimizer", "pooling", "product", "resize", "scaling"],
)
@pytest.mark.parametrize("package", ["reference", *OTHERS])
def test_files_export_what_the_package_exports(package, file):
    module = importlib.import_module(f"minigrad.kernels.{package}.{file}")
    exported = importlib.import_module(f"minigrad.kernels.{package}").__all__
    assert set(module.__all__) == {name for name in exported if getattr(module, name, None) is not None}
