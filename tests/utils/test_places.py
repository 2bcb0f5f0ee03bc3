"""PyTorch's places for things: they import, do what they can, and say what lies outside."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys

import pytest

import minigrad as mg
from minigrad import fx, hub, jit
from minigrad.utils import data, model_zoo


def test_data_is_that_of_minigrad():
    for name in data.__all__:
        assert getattr(data, name) is getattr(mg.data, name)
    assert mg.utils.data is data
    with pytest.raises(AttributeError, match=r"minigrad.utils.data has no attribute 'DataLoder': did you mean 'DataLoader'"):
        data.DataLoder  # noqa: B018


@pytest.mark.parametrize("load", [hub.load_state_dict_from_url, model_zoo.load_url])
def test_weights_are_not_downloaded(load):
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    with pytest.raises(NotImplementedError) as caught:
        load(url, model_dir="models", progress=False)
    assert f"download {url} yourself" in str(caught.value)
    assert "model.load('resnet18-f37072fd.pth')" in str(caught.value)
    with pytest.raises(TypeError, match="url must be a string, got NoneType"):
        load(None)


def test_marks_for_torchscript_have_no_effect():
    def function():
        """Nothing."""

    for decorator in (jit.unused, jit.export, jit.ignore, jit.ignore(drop=True), jit.script_if_tracing, fx.wrap):
        assert decorator(function) is function
    assert fx.wrap("function") == "function"
    assert jit.annotate(list[int], [1]) == [1]
    assert (jit.is_scripting(), jit.is_tracing()) == (False, False)


@pytest.mark.parametrize(
    ("owner", "name", "advice"),
    [
        ("minigrad", "compile", "kernels are compiled already: use the function or module itself"),
        ("minigrad", "quantization", "for 16 bits see minigrad.autocast"),
        ("minigrad.jit", "script", "call the function or module itself"),
        ("minigrad.jit", "trace", "call the function or module itself"),
        ("minigrad.jit", "is_scriptin", "did you mean 'is_scripting'"),
        ("minigrad.fx", "symbolic_trace", "minigrad.summary"),
        ("minigrad.fx", "rap", "did you mean 'wrap'"),
        ("minigrad.hub", "load", "minigrad.models has the known architectures"),
        ("minigrad.hub", "load_state_dict_from_ur", "did you mean 'load_state_dict_from_url'"),
        ("minigrad.utils", "tensorboard", "run folder"),
        ("minigrad.utils", "dta", "did you mean 'data'"),
    ],
)
def test_what_lies_outside_says_what_to_do(owner, name, advice):
    module = importlib.import_module(owner)
    with pytest.raises(AttributeError, match=f"{owner} has no attribute '{name}'") as caught:
        getattr(module, name)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    "statement",
    ["import minigrad.onnx", "from minigrad import onnx", "from minigrad.onnx import export", "import minigrad.onnx.utils"],
)
def test_importing_what_lies_outside_says_what_to_do(statement):
    with pytest.raises(ImportError, match=r"there is no minigrad.onnx: minigrad does not export networks"):
        exec(statement)


@pytest.mark.parametrize(
    ("statement", "advice"),
    [
        ("from minigrad.nn.modules.utils import _pair", "all layers are in minigrad.nn itself"),
        ("from minigrad.nn.parallel import DataParallel", "use the module itself"),
        ("from minigrad.utils.tensorboard import SummaryWriter", "run folder"),
    ],
)
def test_packages_inside_packages_too(statement, advice):
    with pytest.raises(ImportError, match=r"there is no minigrad\.") as caught:
        exec(statement)
    assert advice in str(caught.value)


def test_other_modules_that_are_not_there_are_missing_as_usual():
    assert importlib.util.find_spec("minigrad.something") is None
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'minigrad.something'"):
        importlib.import_module("minigrad.something")


def test_they_are_imported_when_they_are_used():
    code = (
        "import sys, minigrad\n"
        "names = ['minigrad.' + n for n in ('utils', 'hub', 'jit', 'fx', 'nn', 'data')]\n"
        "print([n for n in names if n in sys.modules], minigrad.utils.checkpoint.checkpoint.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[] checkpoint\n", done.stderr
