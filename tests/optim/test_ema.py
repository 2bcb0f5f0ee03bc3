"""Averages of weights: the formula, PyTorch's numbers, swapping in and out, saving and restoring, wrong arguments."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from minigrad import nn, weights
from minigrad.device import move, to_numpy
from minigrad.nn import functional as F
from minigrad.optim import SGD, ExponentialMovingAverage, adaptive
from minigrad.tensor import Tensor


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.bn = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.conv(x))).mean((2, 3)))


def snapshot(model):
    return {name: to_numpy(t.data).copy() for name, t in (*model.named_parameters(), *model.named_buffers())}


def change(model, step):
    """As if the model had been trained."""
    rng = np.random.default_rng(step)
    for _, t in (*model.named_parameters(), *model.named_buffers()):
        t.data[...] = move(rng.standard_normal(t.shape), t.device) if t.dtype.kind == "f" else step
        t.bump_version()
    return snapshot(model)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, x in found.items():
        np.testing.assert_array_equal(x, expected[name], err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 1.0])
def test_the_formula(decay, warmup, dtype, monkeypatch):
    monkeypatch.setattr(adaptive, "BLOCK", 5)
    model = Net().to(dtype)
    ema = ExponentialMovingAverage(model, decay, warmup)
    expected = {name: x.astype(np.float64) for name, x in snapshot(model).items()}
    for n in range(40):
        d = min(decay, (1 + n) / (10 + n)) if warmup else decay
        assert ema.next_decay() == d
        for name, x in change(model, n).items():
            expected[name] = d * expected[name] + (1 - d) * x if x.dtype.kind == "f" else x
        ema.update()
    assert ema.updates == 40
    assert ema.averages.keys() == expected.keys()
    for name, average in ema.averages.items():
        assert average.dtype == dict(snapshot(model))[name].dtype
        tolerance = 1e-12 if dtype == np.float64 else 2e-6
        np.testing.assert_allclose(to_numpy(average.data), expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


def test_the_same_numbers_as_pytorch():
    torch = pytest.importorskip("torch")
    model = nn.Linear(3, 2).double()
    other = torch.nn.Linear(3, 2).double()
    theirs = torch.optim.swa_utils.AveragedModel(other, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    ema = None
    for step in range(50):
        for (name, x), q in zip(change(model, step).items(), other.parameters(), strict=True):
            assert name in ("weight", "bias")
            q.data = torch.from_numpy(x)
        if ema is None:  # PyTorch's average begins with the first update
            ema = ExponentialMovingAverage(model, 0.9, warmup=False)
        else:
            ema.update()
        theirs.update_parameters(other)
    for average, q in zip(ema.averages.values(), theirs.module.parameters(), strict=True):
        np.testing.assert_allclose(to_numpy(average.data), q.detach().numpy(), rtol=1e-12)


def test_inside_are_the_averages_and_after_it_the_weights():
    model = Net().eval()
    ema = ExponentialMovingAverage(model, 0.5)
    own = change(model, 0)
    ema.update()
    averages = {name: to_numpy(t.data).copy() for name, t in ema.averages.items()}
    x = Tensor(np.random.default_rng(0).standard_normal((2, 1, 5, 5)).astype(np.float32))
    arrays = [p.array for p in model.parameters()]
    before = model(x).detach().numpy()
    with ema.applied() as inside:
        assert inside is model
        assert_same(snapshot(model), averages)
        assert np.abs(model(x).detach().numpy() - before).max() > 1e-3
        change(model, 9)  # is lost
    assert_same(snapshot(model), own)
    assert_same({name: to_numpy(t.data) for name, t in ema.averages.items()}, averages)
    np.testing.assert_array_equal(model(x).detach().numpy(), before)
    assert all(p.array is array for p, array in zip(model.parameters(), arrays, strict=True))


def test_an_exception_inside_puts_the_weights_back():
    model = Net()
    ema = ExponentialMovingAverage(model)
    own = change(model, 0)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), ema.applied():
            raise error
        assert_same(snapshot(model), own)
    ema.update()  # is allowed again


def test_an_interruption_while_the_averages_are_written_puts_the_weights_back(monkeypatch):
    model = Net()
    ema = ExponentialMovingAverage(model)
    own = change(model, 0)
    written = []

    def settle(t):
        written.append(t)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Tensor, "settle", settle)
    with pytest.raises(KeyboardInterrupt), ema.applied():
        pytest.fail("the averages were not written")
    assert_same(snapshot(model), own)


def test_training_goes_on_with_the_same_bits_after_an_evaluation_of_the_averages():
    rng = np.random.default_rng(0)
    x, y = Tensor(rng.standard_normal((4, 1, 6, 6)).astype(np.float32)), Tensor(np.array([0, 1, 1, 0]))
    model = Net()
    twin = copy.deepcopy(model)

    def train(model, evaluate):
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        ema = ExponentialMovingAverage(model)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model.train()(x), y).backward()
            optimizer.step()
            ema.update()
            if evaluate:
                with ema.applied():
                    model.eval()(x)
        return snapshot(model)

    assert_same(train(model, True), train(twin, False))


def test_swapping_counts_as_a_change_in_place():
    model = nn.Linear(2, 1)
    ema = ExponentialMovingAverage(model)
    loss = (model.weight * model.weight).sum()
    with ema.applied():
        pass
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_without_buffers_the_models_own_are_used():
    model = Net()
    ema = ExponentialMovingAverage(model, 0.5, buffers=False)
    assert list(ema.averages) == [name for name, _ in model.named_parameters()]
    own = change(model, 0)
    ema.update()
    with ema.applied():
        inside = snapshot(model)
    for name, _ in model.named_buffers():
        np.testing.assert_array_equal(inside[name], own[name])
    assert np.abs(inside["fc.weight"] - own["fc.weight"]).max() > 1e-3


def test_copy_to():
    model, other = Net(), Net()
    ema = ExponentialMovingAverage(model, 0.5)
    own = change(model, 0)
    ema.update()
    averages = {name: to_numpy(t.data).copy() for name, t in ema.averages.items()}
    ema.copy_to(other)
    assert_same(snapshot(other), averages)
    assert_same(snapshot(model), own)
    ema.copy_to()
    assert_same(snapshot(model), averages)
    assert all(t.data is not ema.averages[name].data for name, t in model.named_parameters())
    assert other.load_state_dict(ema.averages).missing_keys == []  # the averages are a state dict


def test_a_shared_weight_and_replaced_parameters():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    ema = ExponentialMovingAverage(model, 0.5, warmup=False)
    assert list(ema.averages) == ["0.weight", "0.bias", "1.bias"]
    start = to_numpy(model[0].bias.data).copy()
    model[0].bias = nn.Parameter(np.full(2, 3, np.float32))
    ema.update()
    np.testing.assert_allclose(to_numpy(ema.averages["0.bias"].data), (start + 3) / 2, rtol=1e-6)


@pytest.mark.parametrize("way", ["copy", "file"])
def test_restored_it_continues_with_the_same_bits(way, tmp_path):
    model = Net()
    ema = ExponentialMovingAverage(model, 0.99)
    for step in range(3):
        change(model, step)
        ema.update()
    saved = copy.deepcopy(ema.state_dict())
    if way == "file":
        weights.save(saved, tmp_path / "ema.safetensors")
        saved = weights.load(tmp_path / "ema.safetensors")
    other = Net()
    again = ExponentialMovingAverage(other, 0.5, warmup=False)
    again.load_state_dict(saved)
    assert repr(again) == repr(ema)
    for step in range(3, 9):
        for each, average in ((model, ema), (other, again)):
            change(each, step)
            average.update()
    assert_same(*({name: to_numpy(t.data) for name, t in e.averages.items()} for e in (ema, again)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: [], "must be a dictionary with the keys"),
        (lambda s: {"decay": 1}, "must be a dictionary with the keys"),
        (lambda s: {**s, "decay": 2}, r"decay must be in 0 \.\.\. 1"),
        (lambda s: {**s, "updates": -1}, "updates must be at least 0"),
        (lambda s: {**s, "warmup": 3}, "warmup must be True or False"),
        (lambda s: {**s, "averages": {"fc.weight": Tensor(np.ones(1))}}, r"state_dict has no 'conv.weight' \(8 names do not fit"),
        (lambda s: {**s, "averages": {**s["averages"], "extra": Tensor(np.ones(1))}}, "has 'extra', which has no average"),
        (lambda s: {**s, "averages": {**s["averages"], "fc.bias": Tensor(np.ones(3))}}, r"average of fc.bias has shape \(3,\)"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(damage, message):
    ema = ExponentialMovingAverage(Net())
    before = copy.deepcopy(ema.state_dict())
    good = {**copy.deepcopy(before), "decay": 0.5, "updates": 7, "warmup": False}
    for t in good["averages"].values():
        t.data += 1
    with pytest.raises(ValueError, match=message):
        ema.load_state_dict(damage(good))
    after = ema.state_dict()
    assert_same(*({name: to_numpy(t.data) for name, t in s.pop("averages").items()} for s in (before, after)))
    assert after == before


BAD = {
    "decay below": ((nn.Linear(1, 1), -0.1), {}, ValueError, r"decay must be in 0 \.\.\. 1, got -0.1"),
    "decay above": ((nn.Linear(1, 1), 1.5), {}, ValueError, r"decay must be in 0 \.\.\. 1, got 1.5"),
    "decay of text": ((nn.Linear(1, 1), "0.9"), {}, TypeError, "decay must be a number"),
    "warmup": ((nn.Linear(1, 1), 0.9, 100), {}, TypeError, "warmup must be True or False, got 100"),
    "buffers": ((nn.Linear(1, 1),), {"buffers": 1}, TypeError, "buffers must be True or False"),
    "parameters": ((list(nn.Linear(1, 1).parameters()),), {}, TypeError, "model must be a Module, got list"),
    "no parameters": ((nn.ReLU(),), {}, ValueError, "model has no parameters"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments(name):
    args, options, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        ExponentialMovingAverage(*args, **options)


@pytest.mark.parametrize("what", ["update", "copy_to", "applied"])
def test_what_is_not_allowed_inside(what):
    ema = ExponentialMovingAverage(nn.Linear(2, 1))
    call = ema.applied().__enter__ if what == "applied" else getattr(ema, what)
    with ema.applied(), pytest.raises(RuntimeError, match=rf"{what}\(\) inside applied\(\)"):
        call()


def test_a_model_that_has_changed_is_noticed_before_anything_changes():
    model = Net()
    ema = ExponentialMovingAverage(model)
    before = {name: to_numpy(t.data).copy() for name, t in ema.averages.items()}
    change(model, 0)
    model.fc.double()
    for call in (ema.update, ema.copy_to, ema.applied().__enter__):
        with pytest.raises(RuntimeError, match=r"fc\.weight is float64 of shape"):
            call()
    with pytest.raises(ValueError, match=r"the model has no 'conv.weight' and has 'weight'"):
        ema.copy_to(nn.Linear(1, 1))
    assert_same({name: to_numpy(t.data) for name, t in ema.averages.items()}, before)
    assert ema.updates == 0
