"""The benchmarks: their networks and layers are the published ones, and their arithmetic of figures is right."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import minigrad as mg
from minigrad.kernels.geometry import ConvGeometry, PoolGeometry

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the folder, as its scripts do; it is forgotten after the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


PARAMETERS = {
    "lenet5": 61_706,
    "cifar_resnet14": 175_258,
    "cifar_resnet20": 269_722,
    "resnet18": 11_173_962,
    "vgg16_bn": 14_728_266,
    "resnet50": 25_557_032,
    "mobilenet_v1": 3_217_226,
}


def test_every_network_is_listed(load):
    assert set(load("networks").NAMES) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_numbers_of_parameters(load, name):
    model = load("networks").create(name, mg)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["cifar_resnet14", "cifar_resnet20", "mobilenet_v1"])
def test_networks_run(load, name):
    model = load("networks").create(name, mg)
    y = model(mg.randn(2, 3, 32, 32))
    y.sum().backward()
    assert y.shape == (2, 10)
    assert all(p.grad is not None for p in model.parameters())


def test_the_same_network_in_both_libraries(load):
    torch = pytest.importorskip("torch")
    networks = load("networks")
    for name in networks.NAMES:
        mine = {key: tuple(value.shape) for key, value in networks.create(name, mg).state_dict().items()}
        theirs = {key: tuple(value.shape) for key, value in networks.create(name, torch).state_dict().items()}
        assert mine == theirs


def test_layers_have_the_sizes_that_kernels_compute(load):
    for net in load("layers").NETS.values():
        for conv in net.convolutions:
            x, weight = (net.batch, conv.c, conv.size, conv.size), (conv.o, conv.c // conv.groups, conv.kernel, conv.kernel)
            geometry = ConvGeometry.of(x, weight, conv.stride, conv.padding, 1, conv.groups)
            assert geometry.oh == geometry.ow == conv.out_size
        for pool in net.pools:
            PoolGeometry.of((net.batch, pool.c, pool.size, pool.size), pool.kernel, pool.stride, pool.padding)
        assert all(a[1] == b[0] for a, b in zip(net.linear, net.linear[1:], strict=False))


def test_layers_of_the_networks_are_timed(load):
    """The convolutions that ``layers.py`` lists are those of ``networks.py``."""
    networks, layers = load("networks"), load("layers")
    for name, net in (("resnet18", "resnet18_32"), ("mobilenet_v1", "mobilenet_v1"), ("vgg16_bn", "vgg16_bn")):
        modules = [m for m in networks.create(name, mg).modules() if isinstance(m, mg.nn.Conv2d)]
        used = {(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.groups) for m in modules}
        assert used == {(c.c, c.o, c.kernel, c.stride, c.groups) for c in layers.NETS[net].convolutions}


def test_ratio_is_taken_round_by_round(load):
    harness = load("harness")
    figures = {"minigrad": [2.0, 20.0, 3.0], "torch": [4.0, 40.0, 1.0], "torch_channels_last": [1.0, 50.0, 6.0]}
    assert harness.ratio(figures) == pytest.approx(2.0)  # 2 / 1, 20 / 40, 3 / 1
    assert harness.ratio({"minigrad": [1.0]}) is None


def test_contenders_take_turns(load):
    calls = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in ("a", "b", "c")}
    figures = load("harness").alternate(contenders, rounds=3, seconds=0.0)
    assert calls == [*"aabbcc", *"abc", *"bca", *"cab"]
    assert {name: len(values) for name, values in figures.items()} == {"a": 3, "b": 3, "c": 3}


def test_table_shows_what_is_missing(load):
    rows = [
        {"name": "step", "figures": {"minigrad": [0.001, 0.003, 0.002], "torch": [0.2, 0.2, 0.2]}, "ratio": 0.01},
        {"name": "alone", "figures": {"minigrad": [1.0]}},
    ]
    lines = load("harness").table(rows).splitlines()
    assert lines[0].split() == ["minigrad", "ms", "torch", "ms", "ratio"]
    assert lines[1].split() == ["step", "2.00", "(1.00-3.00)", "200", "(200-200)", "0.01"]
    assert lines[2].split() == ["alone", "1000", "-", "-"]


def test_select(load):
    select = load("harness").select
    assert select(["lenet5", "resnet18", "resnet50"], ["resnet", "lenet"]) == ["lenet5", "resnet18", "resnet50"]
    assert select(["lenet5", "resnet18"], None) == ["lenet5", "resnet18"]
    with pytest.raises(SystemExit, match="nothing is called 'vgg'"):
        select(["lenet5"], ["vgg"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_of_the_process(load):
    """In a process of its own: in one with a long past the system may have memory at hand for a large block."""
    process = load("process")
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import process;"
        "process.reset_peak(); before = process.resident_bytes();"
        "block = bytearray(b'x') * (64 * 2**20); del block;"
        "print(json.dumps({'peak': process.peak_bytes() - before, 'after': process.resident_bytes() - before}))"
    )
    report = process.child_report(["-c", code, str(FOLDER)])
    assert report["peak"] > 60 * 2**20
    assert report["after"] < 32 * 2**20
