"""The benchmarks of a graphics card, on one where there is one, else on the stand-in for CuPy: what they compute and compare."""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import pytest

import minigrad as mg
from tests.cuda.on_device import cuda, has_card
from tests.test_benchmarks import FOLDER, PARAMETERS


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the folder, as its scripts do; it is forgotten after the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


LARGE = {"mobilenet_v2": 3_504_872, "efficientnet_b0": 5_288_548, "unet": 31_037_698}
NUMBERS = ("tf32", "exact", "bf16")


@pytest.fixture
def card(monkeypatch):
    """CuPy, or what stands in for it."""
    library = cuda.module.loss.cupy
    monkeypatch.setitem(sys.modules, "cupy", library)
    monkeypatch.setattr("gc.collect", lambda: 0)  # which takes longer than these tests, as often as a benchmark does it
    return library


def small_batch(load, net="lenet5", batch=2, shape=(1, 32, 32)):
    return load("gpu_steps").Batch.of(load("training_step").Case(net, batch, shape))


@pytest.mark.parametrize("name", LARGE)
def test_large_networks(load, name):
    """They have the published numbers of parameters and run."""
    model = load("gpu_networks").create(name, mg)
    assert sum(p.numel() for p in model.parameters()) == LARGE[name]
    y = model(mg.randn(2, 3, 32, 32))
    y.sum().backward()
    assert y.shape == ((2, 2, 32, 32) if name == "unet" else (2, 1000))
    assert all(p.grad is not None for p in model.parameters())


def test_the_same_large_networks_in_both_libraries(load):
    torch = pytest.importorskip("torch")
    networks = load("gpu_networks")
    assert set(networks.NAMES) == {*PARAMETERS, *LARGE} == {case.net for case in networks.CASES.values()}
    for name in LARGE:
        mine = {key: tuple(value.shape) for key, value in networks.create(name, mg).state_dict().items()}
        theirs = {key: tuple(value.shape) for key, value in networks.create(name, torch).state_dict().items()}
        assert mine == theirs


def test_labels_of_a_segmentation(load):
    networks = load("gpu_networks")
    assert networks.labels_shape(networks.CASES["unet batch 8"]) == (8, 256, 256)
    assert networks.labels_shape(networks.CASES["resnet50 batch 64"]) == (64,)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_steps_of_both_libraries_agree(load, card, numbers):
    """PyTorch may be one for processors; minigrad's contenders are all timed, eager and captured."""
    torch = pytest.importorskip("torch")
    names = ["minigrad", "minigrad_graph", "torch", "torch_channels_last"]
    (row,) = load("gpu").step_rows("lenet5", small_batch(load), [numbers], names, torch, 2, 0.0, "cpu")
    assert (row["wrong"], row["left_out"], row["in_turn"]) == ({}, {}, True)
    assert {name: len(values) for name, values in row["figures"].items()} == dict.fromkeys(names, 2)
    assert set(row["ratios"]) == {"torch", "torch_channels_last", "torch_best"}
    assert row["gradients"]["compared"] == row["gradients"]["of"] == 10
    json.dumps(row)


def test_steps_without_pytorch(load, card):
    """With running statistics, whose network is captured too."""
    batch = small_batch(load, "cifar_resnet14", 2, (3, 4, 4))
    (row,) = load("gpu").step_rows("small", batch, ["exact"], ["minigrad", "minigrad_graph"], None, 1, 0.0)
    assert (row["wrong"], row["left_out"], row["ratios"]) == ({}, {}, {})
    assert set(row["figures"]) == {"minigrad", "minigrad_graph"}


def outcomes(load):
    """A true outcome, the weights before, and a function that makes a changed copy."""
    steps = load("gpu_steps")
    rng = np.random.default_rng(0)
    before = {"a": rng.standard_normal((5, 4)), "b": rng.standard_normal(30)}
    gradients = {"a": rng.standard_normal((5, 4)), "b": rng.standard_normal(30)}
    after = {name: p - 0.01 * (gradients[name] + 5e-4 * p) for name, p in before.items()}
    truth = steps.Outcome(2.0, gradients, after)

    def found(loss=2.0, factor=1.0, noise=0.0, update=0.0):
        changed = {name: factor * g + noise * rng.standard_normal(g.shape) for name, g in gradients.items()}
        moved = {name: p - 0.01 * (changed[name] + 5e-4 * p) + update for name, p in before.items()}
        return steps.Outcome(loss, changed, moved)

    return steps, truth, before, found


def test_what_is_wrong_with_a_step(load):
    steps, truth, before, found = outcomes(load)

    def wrong(outcome, numbers="exact", yardstick=truth):
        return " ".join(steps.complaints(outcome, truth, numbers, yardstick, before))

    assert wrong(found()) == wrong(found(noise=1e-3)) == wrong(found(noise=1e-3), yardstick=None) == ""
    assert "its loss is 2.001" in wrong(found(loss=2.001))
    assert "its loss is nan" in wrong(found(loss=float("nan")))
    assert "the gradient of a is off by" in wrong(found(noise=0.3))
    assert "the gradient of a is off by" in wrong(found(noise=0.3), yardstick=None)
    assert "the gradient of b is off by nan" in wrong(found(factor=float("nan")), "bf16", found(noise=3.0))
    assert "SGD's update of a is wrong" in wrong(found(update=1e-4))
    assert wrong(found(noise=0.1), "bf16", found(noise=0.1)) == ""  # no further off than PyTorch


def test_noisy_gradients_are_compared_by_their_length(load):
    """Where PyTorch's own gradients are mostly rounding, nothing else can be said."""
    steps, truth, before, found = outcomes(load)
    yardstick = found(noise=1.0)
    assert set(steps.allowed(truth, "bf16", yardstick).values()) == {np.inf}
    assert not list(steps.complaints(found(noise=1.0), truth, "bf16", yardstick, before))
    for factor in (0.0, 0.1, 10.0):
        complaints = list(steps.complaints(found(factor=factor), truth, "bf16", yardstick, before))
        assert [line.split(" has the length")[0] for line in complaints] == ["the gradient of a", "the gradient of b"]


def test_a_wrong_or_failing_step_is_not_timed(load, card, monkeypatch):
    gpu, batch = load("gpu"), small_batch(load)
    kernels = cuda.module
    right = kernels.relu_backward
    truth = gpu.gpu_steps.true_outcome(batch, None)
    monkeypatch.setattr(gpu.gpu_steps, "true_outcome", lambda *_: truth)
    monkeypatch.setattr(kernels, "relu_backward", lambda gy, y, other=None: right(gy * 1.5, y, other))
    monkeypatch.setattr(gpu.gpu_steps, "graph", lambda step: 1 / 0)
    (row,) = gpu.step_rows("lenet5", batch, ["exact"], ["minigrad", "minigrad_graph"], None, 1, 0.0)
    assert row["figures"] == {}
    assert any("gradient of conv1.weight" in line for line in row["wrong"]["minigrad"])
    assert row["left_out"] == {"minigrad_graph": "ZeroDivisionError: division by zero"}
    assert "WRONG" in gpu.steps_table([row])


class Full(MemoryError):
    """As CuPy's OutOfMemoryError says it."""


def test_contenders_that_do_not_fit_together_are_timed_alone(load):
    gpu, live = load("gpu"), []

    class Contender:
        def __init__(self, name):
            live.append(name)
            self.clock = lambda call, count: call() or 0.5

        def __call__(self):
            return self.step()

        def step(self):
            if len(live) > 1 or live == ["c"]:
                raise Full("Out of memory allocating 512 bytes")

    left_out: dict = {}
    figures, in_turn = gpu.measure(["a", "b", "c"], Contender, 2, 0.0, live.clear, left_out)
    assert (figures, in_turn) == ({"a": [0.5, 0.5], "b": [0.5, 0.5]}, False)
    assert left_out == {"c": "the card's memory is too small"}


def test_out_of_memory_in_disguise(load):
    full = load("gpu_card").is_out_of_memory
    hidden = RuntimeError("cuda.graph: the step cannot be captured")
    hidden.__cause__ = Full("Out of memory allocating 1 bytes")
    assert full(hidden)
    assert not full(RuntimeError("an illegal memory access was encountered"))


def test_ratios_of_the_best(load):
    figures = {"minigrad": [4.0, 4.0], "minigrad_graph": [2.0, 3.0], "torch": [4.0, 4.0], "torch_graph": [2.0, 2.0]}
    ratios = load("gpu").ratios
    assert ratios(figures) == {"torch": pytest.approx(0.625), "torch_best": pytest.approx(1.25)}
    assert ratios({"minigrad": [1.0]}) == {}


# ---- its kernels -------------------------------------------------------------------------------------------------------


def small_kernels():
    sys.path.insert(0, str(FOLDER))
    try:
        cases, layers = importlib.import_module("gpu_kernel_cases"), importlib.import_module("layers")
    finally:
        sys.path.remove(str(FOLDER))
    conv, pool = layers.Conv, layers.Pool
    convolutions = conv(8, 5, 16), conv(3, 9, 8, 7, 2, 3), conv(16, 5, 8, 1, 1, 0), conv(8, 6, 8, 3, 2, 1, 8)
    pools = pool("max", 8, 6, 3, 2, 1), pool("avg", 8, 4), pool("adaptive_avg", 8, 4)
    return [
        *(case for of in convolutions for case in cases.convolution(2, of)),
        *cases.normalization((2, 8, 3, 3)),
        *(case for of in pools for case in cases.pooling(2, of)),
        *cases.elementwise((2, 8, 3, 3)),
        *cases.cross_entropy(5, 7),
        *cases.sgd("two arrays", [(3, 2, 1, 1), (5,)]),
    ]


def limits(load):
    return load("gpu_kernels").Ceilings(1e9, dict.fromkeys(NUMBERS, 1e12))


@pytest.mark.parametrize("case", small_kernels(), ids=lambda case: f"{case.kernel} {case.label}")
def test_kernels_beside_pytorch(load, card, case):
    torch = pytest.importorskip("torch")
    for numbers in case.numbers:
        row = load("gpu_kernels").row(case, numbers, limits(load), torch, 1, 0.0, "cpu")
        assert row["wrong"] == []
        assert set(row["figures"]) == {"minigrad", "torch"}
        json.dumps(row)


def test_every_kernel_of_the_list_is_tried(load):
    assert {case.kernel for case in load("gpu_kernel_cases").all_cases()} == {case.kernel for case in small_kernels()}


def test_a_wrong_kernel_is_not_timed(load, card, monkeypatch):
    torch = pytest.importorskip("torch")
    (case,) = (case for case in small_kernels() if case.kernel == "relu_forward")
    monkeypatch.setattr(cuda.module, "relu_forward", lambda x: x * 1.01)
    row = load("gpu_kernels").row(case, "exact", limits(load), torch, 1, 0.0, "cpu")
    assert row["figures"] == {}
    assert row["cells"][1] == "WRONG"


def test_part_of_a_ceiling(load):
    kernels, cases, layers = load("gpu_kernels"), load("gpu_kernel_cases"), load("layers")
    case = next(cases.convolution(64, layers.Conv(64, 56, 128)))
    assert case.bytes(2) == 2 * (64 * 64 * 56 * 56 + 128 * 64 * 9 + 64 * 128 * 56 * 56)
    assert case.operations == 2 * 64 * 128 * 56 * 56 * 64 * 9
    found = kernels.Ceilings(1e12, {"tf32": 1e14, "bf16": 1e18})
    assert found.seconds(case, "tf32") == pytest.approx(case.operations / 1e14)
    assert found.seconds(case, "bf16") == pytest.approx(case.bytes(2) / 1e12)


def test_ceilings(load, card):
    found = load("gpu_kernels").ceilings(NUMBERS, size=1 << 16, side=32, rounds=1, seconds=0.0)
    assert set(found.operations) == set(NUMBERS)
    if not has_card():  # where every event is a millisecond after the last
        assert found.bandwidth == pytest.approx(2 * 65536 / 1e-3)
        assert found.operations["bf16"] == pytest.approx(2 * 32**3 / 1e-3)
    assert cuda.module.allow_tf32 == {"convolution": True, "product": False}


def test_random_arrays_have_no_zeros(load, card):
    array = load("gpu_kernels").random_array((3, 700_000), seed=1).get()
    assert np.abs(array).min() > 0
    assert array.std() == pytest.approx(1, rel=1e-2)


# ---- the card itself ---------------------------------------------------------------------------------------------------


def test_peak_memory(load, card):
    with load("gpu_card").peak_memory(None) as found:
        arrays = [card.empty(1 << 16, np.uint8) for _ in range(3)]
        arrays.clear()
        card.empty(1 << 16, np.uint8)
    before = found["allocated"] - 3 * (1 << 16)
    assert 0 <= before <= found["reserved"]


def test_environment_names_the_card(load, card):
    found = load("gpu_card").environment(None)
    assert found["card"]
    assert found["cupy"] == card.__version__
    json.dumps(found)


def test_without_a_card(load, monkeypatch):
    gpu_card = load("gpu_card")

    def missing(name):
        raise RuntimeError("cannot use device 'cuda':\n no driver")

    monkeypatch.setattr(gpu_card, "module_for", missing)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match=r"and there is none: cannot use device 'cuda': no driver$"):
        load("gpu").main()


@pytest.mark.parametrize("mode", ["steps", "memory", "kernels"])
def test_the_whole_program(load, card, monkeypatch, tmp_path, capsys, mode):
    """Without PyTorch; a child's work is done in this process, which has the stand-in."""
    gpu, kernels, out = load("gpu"), load("gpu_kernels"), tmp_path / "found.json"
    cases = [case for case in small_kernels() if case.kernel in ("relu_forward", "conv2d_forward")]
    monkeypatch.setitem(gpu.CASES, "tiny", load("training_step").Case("lenet5", 1, (1, 32, 32)))
    monkeypatch.setattr(gpu, "_load_torch", lambda: None)
    monkeypatch.setattr(gpu, "child_report", lambda arguments: gpu._memory_of(*arguments[2:]))
    monkeypatch.setattr(kernels, "ceilings", lambda types: limits(load))
    monkeypatch.setattr(kernels, "all_cases", lambda: cases)
    words = {"steps": ["--nets", "tiny"], "memory": ["--nets", "tiny", "--separate"], "kernels": ["--kernels", "relu"]}[mode]
    monkeypatch.setattr(
        sys, "argv", ["gpu.py", *words, "--numbers", "exact", "--rounds", "1", "--seconds", "0", "--out", str(out)]
    )
    gpu.main()
    text, found = capsys.readouterr().out, json.loads(out.read_text())
    assert found["environment"]["card"] in text
    if mode == "kernels":
        assert [row["name"] for row in found["rows"]][-1] == "relu_forward 2x8x3x3 exact"
        assert "relu_forward" in text
        assert "conv2d" not in text
    else:
        (row,) = found["rows"]
        assert row["name"] == "tiny exact"
        assert set(row["figures"]) == {"minigrad", "minigrad_graph"}
        assert all(figure > 0 for values in row["figures"].values() for figure in values)


def test_the_program_ends_with_an_error_after_a_wrong_result(load, card, monkeypatch, tmp_path):
    gpu = load("gpu")
    row = {"name": "tiny exact", "case": "tiny", "numbers": "exact", "figures": {}, "ratios": {}, "in_turn": True}
    monkeypatch.setattr(gpu, "_load_torch", lambda: None)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "found.json")])
    for fault in ({"wrong": {"torch": ["its loss"]}, "left_out": {}}, {"wrong": {}, "left_out": {"minigrad": "failed"}}):
        monkeypatch.setattr(gpu, "_step_rows", lambda *_, fault=fault: [{**row, **fault}])
        with pytest.raises(SystemExit, match=r"wrong, or not computed at all.*: tiny exact$"):
            gpu.main()
    monkeypatch.setattr(gpu, "_step_rows", lambda *_: [{**row, "wrong": {}, "left_out": {"torch_compile": "no compiler"}}])
    gpu.main()


def test_a_kernel_that_fails_does_not_stop_the_others(load, card, monkeypatch):
    kernels = load("gpu_kernels")
    cases = [case for case in small_kernels() if case.kernel in ("relu_forward", "add")]
    monkeypatch.setattr(kernels, "ceilings", lambda types: limits(load))
    monkeypatch.setattr(kernels, "all_cases", lambda: cases)
    monkeypatch.setattr(cuda.module, "relu_forward", lambda x: 1 / 0)
    rows = list(kernels.time_kernels([], ["exact"], None, 1, 0.0))[-2:]
    assert [row["wrong"] for row in rows] == [["ZeroDivisionError: division by zero"], []]
    assert [set(row["figures"]) for row in rows] == [set(), {"minigrad"}]


def test_a_card_too_small_for_the_comparison(load, monkeypatch):
    gpu = load("gpu")

    def full(*_):
        raise Full("Out of memory allocating 1 bytes")

    monkeypatch.setattr(gpu, "step_rows", full)
    arguments = type("Arguments", (), {"nets": ["lenet5 batch 1"], "numbers": NUMBERS, "rounds": 1, "seconds": 0.0})
    (row,) = gpu._step_rows(arguments, [], None)
    assert "memory" in row["left_out"]["minigrad"]
    assert gpu.steps_table([row])
