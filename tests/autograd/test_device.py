"""Devices by name, and what happens on a machine without a graphics card."""

from __future__ import annotations

import sys

import pytest

import minigrad as mg


def test_names():
    assert str(mg.device("cpu")) == "cpu"
    assert repr(mg.device("cuda:1")) == "device(type='cuda', index=1)"
    assert repr(mg.device("cuda")) == "device(type='cuda')"
    assert (mg.device("cuda:1").type, mg.device("cuda:1").index) == ("cuda", 1)
    assert mg.device("cuda", 1) == mg.device("cuda:1")
    assert mg.device(mg.device("cpu")) is mg.device("cpu")
    for wrong in ("gpu", "cuda:x", "cuda:-1", "", "CPU", None, 3, "mps"):
        with pytest.raises(ValueError, match=f'device must be "cpu", "cuda" or "cuda:INDEX", got {wrong!r}'):
            mg.device(wrong)
    with pytest.raises(ValueError, match="got 'cuda:-1'"):
        mg.device("cuda", -1)


def test_equality():
    cuda = mg.device("cuda")
    assert cuda == mg.device("cuda:0") == "cuda"
    assert hash(cuda) == hash(mg.device("cuda:0"))
    assert cuda != mg.device("cuda:1")
    assert cuda != "cpu"
    assert mg.device("cpu") == "cpu"
    assert mg.device("cpu") != "mps"  # a name of another library's device is just another name
    assert mg.device("cpu") != 0


def test_to_the_same_device_is_the_tensor_itself():
    x = mg.ones(2)
    assert x.device == "cpu"
    assert x.cpu() is x
    assert x.to("cpu") is x
    assert x.to(mg.device("cpu")) is x


def test_without_a_card(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    assert not mg.cuda.is_available()
    assert mg.cuda.device_count() == 0
    x = mg.ones(2)
    for call in (
        lambda: x.cuda(),
        lambda: x.to("cuda:0"),
        lambda: mg.zeros(2, device="cuda"),
        lambda: mg.tensor([1.0], device="cuda"),
        lambda: mg.nn.Linear(2, 2).cuda(),
        mg.cuda.synchronize,
        mg.cuda.get_device_name,
    ):
        with pytest.raises(
            RuntimeError, match=r"cannot use device 'cuda.*CuPy is not installed.*pip install \"minigrad-numpy\[gpu"
        ):
            call()
