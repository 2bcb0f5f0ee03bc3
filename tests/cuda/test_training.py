"""Training on a card: the losses of the processor, checkpoints that go from one to the other, and the ``minigrad`` command."""

from __future__ import annotations

import json

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.cli import main
from minigrad.device import to_numpy
from minigrad.training import evaluate
from tests.cuda.on_device import cuda
from tests.training.tiny import EPOCHS, Job, draw_pictures, images, net, noise

pytestmark = pytest.mark.usefixtures("card", "no_pictures")


@pytest.fixture(autouse=True)
def exact():
    """Convolutions without TF32, to compare with the processor's."""
    with cuda.module.algorithm(exact=True):
        yield


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr("minigrad.training.run_folder.RunFolder.draw", lambda self, history: True)


def job_on(device: str, workers: int = 0, pin_memory: bool = False, **options) -> Job:
    job = Job.make(**options)
    job.model.to(device)
    job.train = data.DataLoader(images(), 8, True, num_workers=workers, transform=noise, seed=5, pin_memory=pin_memory)
    job.optimizer = optim.SGD(job.model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True)
    job.scheduler = optim.lr_scheduler.OneCycleLR(job.optimizer, 0.1, total_steps=EPOCHS * 6)
    return job


def losses(history) -> list[float]:
    return [line[name] for line in history.epochs for name in ("train_loss", "test_loss")]


@pytest.mark.parametrize(("workers", "pin_memory"), [(0, False), (2, True)])
def test_the_losses_of_the_processor(workers, pin_memory):
    expected = job_on("cpu")
    there = expected.fit()
    job = job_on("cuda", workers, pin_memory)
    history = job.fit()
    np.testing.assert_allclose(losses(history), losses(there), rtol=2e-4)
    assert [line["test_top1"] for line in history.epochs] == [line["test_top1"] for line in there.epochs]
    for (name, p), q in zip(job.model.state_dict().items(), expected.model.state_dict().values(), strict=True):
        assert p.device == "cuda"
        np.testing.assert_allclose(p.cpu().numpy(), q.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)


def test_resuming_gives_the_same_bits(tmp_path):
    whole = job_on("cuda", 2, True)
    whole.fit(run_dir=tmp_path / "whole")
    job_on("cuda", 2, True).fit(run_dir=tmp_path / "run", max_steps=8)
    resumed = job_on("cuda", 2, True, seed=99)
    resumed.fit(run_dir=tmp_path / "run", resume=True)
    for (name, p), q in zip(resumed.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert p.device == "cuda"
        assert np.array_equal(p.cpu().numpy(), q.cpu().numpy()), name


@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_goes_on_elsewhere(tmp_path, first, second):
    there = job_on("cpu").fit()
    job_on(first).fit(run_dir=tmp_path / "run", max_steps=8)
    job = job_on(second)
    history = job.fit(run_dir=tmp_path / "run", resume=True)
    np.testing.assert_allclose(losses(history), losses(there), rtol=2e-4)
    assert {p.device.type for p in job.model.parameters()} == {second}
    assert {s["momentum_buffer"].device.type for s in job.optimizer.state.values()} == {second}


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "npz"])
def test_weights_in_files(tmp_path, suffix):
    """What a card's model saves a processor's model loads, and the other way round; memory orders do not matter."""
    model = net().cuda()
    path = tmp_path / f"weights.{suffix}"
    mg.save(model.state_dict(), path)
    other = net()
    other.load_state_dict(mg.load(path))
    for p, q in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert q.device == "cpu"
        assert np.array_equal(to_numpy(p.data), to_numpy(q.data))
    again = net().cuda()
    again.load_state_dict(other.state_dict())
    assert all(p.device == "cuda" for p in again.state_dict().values())
    x = mg.ones(2, 1, 6, 6)
    with mg.no_grad():
        np.testing.assert_allclose(again.eval()(x.cuda()).cpu().numpy(), other.eval()(x).numpy(), rtol=1e-5, atol=1e-6)


def test_evaluation():
    model = net()
    loader = data.DataLoader(images(20), 8, transform=noise, seed=1)
    there = evaluate(model, loader)
    loader.set_epoch(0)
    here = evaluate(model.cuda(), loader)
    assert here.loss == pytest.approx(there.loss, rel=1e-5)
    assert np.array_equal(here.confusion, there.confusion)


def test_as_pytorch_users_write_it():
    """A loop by hand, with pinned memory and non_blocking copies, Adam, clipped gradients and averaged weights."""
    results = {}
    for device in ("cpu", "cuda"):
        mg.manual_seed(0)
        model = net().to(device)
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        average = optim.ExponentialMovingAverage(model)
        loader = data.DataLoader(images(), 8, shuffle=True, seed=2, num_workers=1, pin_memory=True)
        seen = []
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            average.update()
            seen += [loss.item(), norm.item()]
        with average.applied(), mg.no_grad():
            seen.append(model.eval()(x).abs().sum().item())
        results[device] = seen
    np.testing.assert_allclose(results["cuda"], results["cpu"], rtol=2e-3)


def test_batches_are_copied_ahead():
    loader = data.DataLoader(images(), 8, seed=1, pin_memory=True, num_workers=2)
    there = list(loader)
    loader.set_epoch(0)
    batches = data.to_device(loader, "cuda")
    for (x, y), (right_x, right_y) in zip(batches, there, strict=True):
        assert x.device == y.device == "cuda"
        assert x.data.strides == right_x.data.strides
        assert np.array_equal(x.cpu().numpy(), right_x.numpy())
        assert np.array_equal(y.cpu().numpy(), right_y.numpy())
    loader.set_epoch(0)
    batches = data.to_device(loader, "cuda")
    next(batches)
    assert loader.position == 2  # one ahead
    batches.close()
    assert [x is not None for x, _ in data.to_device(iter(there[:1]), "cuda")] == [True]
    assert list(data.to_device([], "cuda")) == []
    assert next(data.to_device(there, "cpu"))[0] is there[0][0]


def test_the_command(tmp_path, capsys):
    """The same data, model and recipe on both."""
    pictures = str(draw_pictures(tmp_path / "pictures"))
    options = ["train", "--data", "folder", "--data-dir", pictures, "--image-size", "28", "--model", "lenet5", "--epochs", "1"]
    options += ["--batch-size", "8", "--seed", "1"]
    for device in ("cpu", "cuda"):
        assert not main([*options, "--device", device, "--out", str(tmp_path / device)])
    lines = [(tmp_path / device / "metrics.jsonl").read_text() for device in ("cpu", "cuda")]
    there, here = map(json.loads, lines)
    assert here["train_loss"] == pytest.approx(there["train_loss"], rel=1e-3)
    assert here["test_loss"] == pytest.approx(there["test_loss"], rel=1e-3)
    capsys.readouterr()
    assert not main(["eval", str(tmp_path / "cuda")])
    assert "accuracy" in capsys.readouterr().out
