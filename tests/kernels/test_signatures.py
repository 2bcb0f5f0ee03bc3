"""The implementations of the kernels have the same names and signatures, and the reference explains each of them."""

import importlib
import inspect

import pytest

from minigrad.kernels import cpu, reference

NAMES = sorted(reference.__all__)


def test_same_names():
    assert set(cpu.__all__) == set(reference.__all__)
    assert len(set(reference.__all__)) == len(reference.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_same_signature_in_the_same_file(name):
    ours, theirs = getattr(reference, name), getattr(cpu, name)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert ours.__module__.replace("reference", "cpu") == theirs.__module__


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_annotated(name):
    signature = inspect.signature(getattr(reference, name))
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


@pytest.mark.parametrize("name", NAMES)
def test_docstrings(name):
    assert len(inspect.getdoc(getattr(reference, name)).splitlines()) >= 3
    assert inspect.getdoc(getattr(cpu, name)).startswith("See reference.")


@pytest.mark.parametrize(
    "file", ["convolution", "elementwise", "loss", "normalization", "optimizer", "pooling", "product", "resize"]
)
@pytest.mark.parametrize("package", ["reference", "cpu"])
def test_files_export_what_the_package_exports(package, file):
    module = importlib.import_module(f"minigrad.kernels.{package}.{file}")
    exported = importlib.import_module(f"minigrad.kernels.{package}").__all__
    assert set(module.__all__) == {name for name in exported if getattr(module, name, None) is not None}
