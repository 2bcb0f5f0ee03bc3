"""Training steps in CUDA graphs: the same numbers as without, and clear words where that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn
from minigrad.optim import SGD, Adam

pytestmark = pytest.mark.usefixtures("card")


def network(dropout: float = 0.0) -> nn.Module:
    mg.manual_seed(0)
    return nn.Sequential(
        *(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 1),
            nn.ReLU(),
        ),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(8, 5)),
    ).cuda()


def batches(count: int, size: int = 4):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield mg.tensor(rng.standard_normal((size, 3, 8, 8)).astype(np.float32)), mg.tensor(rng.integers(0, 5, size))


class Training:
    """A network with its optimizer and a step."""

    def __init__(self, dropout: float = 0.0, captured: bool = True, **options):
        self.model = network(dropout)
        self.optimizer = SGD(self.model.parameters(), **{"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, **options})
        self.step = mg.cuda.graph(self.run, warmup=2) if captured else self.run

    def run(self, images, classes):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(images), classes)
        loss.backward()
        self.optimizer.step()
        return loss

    def train(self, data, rates=None) -> list[float]:
        losses = []
        for number, (images, classes) in enumerate(data):
            if rates:
                self.optimizer.param_groups[0]["lr"] = rates[number]
            losses.append(self.step(images.cuda(), classes.cuda()).item())
        return losses

    def state(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.model.state_dict().items()}


def assert_same(a: Training, b: Training) -> None:
    for (name, x), y in zip(a.state().items(), b.state().values(), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_replays_compute_what_the_step_computes(dropout):
    """Losses, weights, running statistics and the random numbers of dropout, while the learning rate changes."""
    rates = [0.1, 0.1, 0.1, 0.05, 0.05, 0.01, 0.02]
    captured, plain = Training(dropout), Training(dropout, captured=False)
    states = []
    with _implicit():
        for training in (captured, plain):
            mg.manual_seed(1)
            states.append((training.train(batches(7), rates), mg.get_rng_state()))
    assert states[0] == states[1]
    assert_same(captured, plain)
    assert (captured.step.calls, captured.step.replays) == (2, 5)


def _implicit():
    """cuBLAS may not be captured: without it both runs take the same kernels."""
    from tests.cuda.on_device import cuda

    return cuda.module.algorithm("implicit")


def test_kernels_of_the_capture_are_built_before(monkeypatch):
    """Compiling, and loading what was compiled, may not be part of a capture."""
    from tests.cuda.on_device import cuda

    training = Training()
    training.train(batches(2))
    kernel = cuda.module._compiler.Kernel
    monkeypatch.setattr(kernel, "build", lambda self, *arguments: pytest.fail(f"{self.name}{arguments} is built late"))
    training.train(batches(2))
    assert training.step.replays == 2


def test_two_runs_give_the_same_bits():
    first, second = Training(0.5), Training(0.5)
    losses = []
    for training in (first, second):
        mg.manual_seed(1)
        losses.append(training.train(batches(20)))
    assert losses[0] == losses[1]
    assert_same(first, second)


def test_gradients_are_those_of_the_last_step():
    captured, plain = Training(), Training(captured=False)
    captured.train(batches(5))
    with _implicit():
        plain.train(batches(5))
    for p, q in zip(captured.model.parameters(), plain.model.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())


def test_other_shapes_run_without_the_graph():
    captured, plain = Training(), Training(captured=False)
    data = [*batches(4), *batches(1, size=3), *batches(2)]
    with _implicit():
        assert captured.train(data) == plain.train(data)
    assert_same(captured, plain)
    assert (captured.step.calls, captured.step.replays) == (3, 4)


def test_inputs_may_lie_on_the_processor():
    captured, plain = Training(), Training(captured=False)
    with _implicit():
        for images, classes in batches(2):
            captured.step(images.cuda(), classes.cuda())
        for images, classes in [*batches(4)][2:]:
            last = captured.step(images, classes)
        losses = plain.train(batches(4))
    assert last.item() == losses[-1]


def test_inputs_are_not_changed():
    step = mg.cuda.graph(lambda x: x * 2 + 1, warmup=1)
    x, y = mg.ones(2, 3, device="cuda"), mg.full((2, 3), 5.0, device="cuda")
    assert step(x).tolist() == [[3] * 3] * 2
    assert step(x).tolist() == [[3] * 3] * 2
    result = step(y)
    assert result.tolist() == [[11] * 3] * 2
    assert step(x) is result
    assert (x.tolist(), y.tolist()) == ([[1] * 3] * 2, [[5] * 3] * 2)


REFUSED = {
    "item": (lambda x: x * x.sum().item(), "operation not permitted when stream is capturing"),
    "truth": (lambda x: x * 2 if x.sum() > 0 else x, "operation not permitted when stream is capturing"),
    "numpy": (lambda x: x.cpu() * 2, "operation not permitted when stream is capturing"),
    "transfer": (lambda x: x + mg.ones(3).cuda(), "a transfer to a card cannot be part of a CUDA graph"),
    "data": (lambda x: x + mg.tensor([1.0, 2.0, 3.0], device="cuda"), "a transfer to a card cannot be part of a CUDA graph"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_captured(name):
    function, words = REFUSED[name]
    step = mg.cuda.graph(function, warmup=1)
    x = mg.ones(3, device="cuda")
    step(x)
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=f"(?s)cuda.graph: the step cannot be captured: .*{words}.*it may not look at a value"
        ):
            step(x)
    assert (x * 2).tolist() == [2, 2, 2]  # the process goes on


def test_a_capture_that_fails_changes_nothing():
    training = Training(captured=False)
    look = []

    def run(images, classes):
        loss = training.run(images, classes)
        look.append(loss.item())
        return loss

    step = mg.cuda.graph(run, warmup=1)
    (images, classes), *_ = [(x.cuda(), y.cuda()) for x, y in batches(1)]
    step(images, classes)
    before, gradients = training.state(), [p.grad.numpy() for p in training.model.parameters()]
    momentum = {k: v["momentum_buffer"].numpy() for k, v in training.optimizer.state.items()}
    with pytest.raises(RuntimeError, match="cannot be captured"):
        step(images, classes)
    for name, value in training.state().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    for p, gradient in zip(training.model.parameters(), gradients, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), gradient)
        np.testing.assert_array_equal(training.optimizer.state[p]["momentum_buffer"].numpy(), momentum[p])
    assert np.isfinite(training.run(images, classes).item())


def test_adam_is_refused():
    model = nn.Linear(3, 2).cuda()
    optimizer = Adam(model.parameters())

    @mg.cuda.graph(warmup=1)
    def step(x):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    step(mg.ones(1, 3, device="cuda"))
    with pytest.raises(RuntimeError, match="Adam computes with the number of its step"):
        step(mg.ones(1, 3, device="cuda"))


def test_options_that_the_graph_holds():
    training = Training()
    training.train(batches(4))
    training.optimizer.param_groups[0]["momentum"] = 0.5
    before = training.state()
    with pytest.raises(RuntimeError, match=r"momentum of SGD was 0.9 when the step was captured and is 0.5 now"):
        training.train(batches(1))
    for name, value in training.state().items():
        np.testing.assert_array_equal(value, before[name])


def test_wrong_labels():
    """They are noticed on the card; parameters stay what they were, and after the error training goes on."""
    training, other = Training(), Training(captured=False)
    data = [*batches(6)]
    with _implicit():
        training.train(data[:4])
        other.train(data[:4])
        before = {name: value for name, value in training.state().items() if not name.startswith("1.")}
        images, classes = data[4]
        wrong = mg.tensor([0, 5, 1, -1])
        assert np.isnan(training.step(images.cuda(), wrong.cuda()).item())
        with pytest.raises(IndexError, match="a label of an earlier call was outside of the classes; since that call no"):
            training.step(images.cuda(), classes.cuda())
        for name, value in before.items():
            np.testing.assert_array_equal(training.state()[name], value, err_msg=name)
        other.model(images.cuda())  # whose batch the running statistics have seen too
        assert training.train(data[4:]) == other.train(data[4:])
    assert_same(training, other)


def test_bad_arguments():
    with pytest.raises(TypeError, match="step must be a function of tensors, got int"):
        mg.cuda.graph(3)
    with pytest.raises(ValueError, match="warmup must be an integer of at least 1, got 0"):
        mg.cuda.graph(lambda x: x, warmup=0)
    with pytest.raises(RuntimeError, match="no input of the step lies on a card"):
        mg.cuda.graph(lambda x: x)(mg.ones(3))


@pytest.mark.parametrize("make", [np.asarray, lambda a: [mg.tensor(a)], lambda a: {"images": (mg.tensor(a),)}])
def test_arrays_that_the_graph_would_hold_fixed(make):
    step, x = mg.cuda.graph(lambda x, other: x * 2), mg.ones(3, device="cuda")
    assert step(x, None).tolist() == [2, 2, 2]
    with pytest.raises(TypeError, match=r"input 1 of the step is a \w+ with arrays, which the graph would hold fixed"):
        step(x, make(np.ones(2)))


def test_other_constants_run_without_the_graph():
    step, x = mg.cuda.graph(lambda x, factor: x * factor, warmup=1), mg.ones(3, device="cuda")
    results = [step(x, factor).tolist() for factor in (2.0, 2.0, 3.0, np.float32(2), 2.0)]
    assert results == [[2] * 3, [2] * 3, [3] * 3, [2] * 3, [2] * 3]
    assert (step.calls, step.replays) == (3, 2)
