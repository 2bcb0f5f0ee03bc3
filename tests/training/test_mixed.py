"""Training in mixed precision: the loop that one would write, the scale in checkpoints, and what is refused."""

from __future__ import annotations

import pytest

import minigrad as mg
from minigrad import nn, weights
from minigrad.nn import functional as F
from minigrad.optim import ExponentialMovingAverage
from minigrad.training import evaluate
from tests.training.tiny import EPOCHS, STEPS, Job, plain, records

pytestmark = pytest.mark.usefixtures("no_pictures")
DTYPES = {"bf16": mg.bfloat16, "fp16": mg.float16}


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("amp", DTYPES)
def test_it_is_the_loop_that_one_would_write(amp, clip):
    ours = Job.make()
    history = ours.fit(amp=amp, clip_norm=clip)
    job = Job.make()
    scaler = mg.amp.GradScaler("cpu", enabled=amp == "fp16")
    for epoch in range(EPOCHS):
        for x, y in job.train:
            job.optimizer.zero_grad()
            with mg.autocast("cpu", DTYPES[amp]):
                loss = F.cross_entropy(job.model(x), y)
            scaler.scale(loss).backward()
            if clip is not None:
                scaler.unscale_(job.optimizer)
                nn.utils.clip_grad_norm_(job.model.parameters(), clip)
            scaler.step(job.optimizer)
            scaler.update()
            job.scheduler.step()
        with mg.autocast("cpu", DTYPES[amp]):
            metrics = evaluate(job.model, job.test)
        assert (metrics.loss, metrics.top1) == (history.epochs[epoch]["test_loss"], history.epochs[epoch]["test_top1"])
    assert ours.state() == job.state()
    assert {p.dtype for p in ours.model.parameters()} == {mg.dtype("float32")}


def test_it_is_another_training():
    states = []
    for amp in (None, *DTYPES):
        job = Job.make()
        job.fit(amp=amp, max_steps=2)
        states.append(str(job.state()["model"]))
    assert len(set(states)) == 3


@pytest.mark.parametrize("amp", DTYPES)
@pytest.mark.parametrize("steps", [4, STEPS + 1])
def test_a_run_goes_on_to_the_same_bits(amp, steps, tmp_path):
    """With averages of the weights, beside the scale."""
    whole, halves = Job.make(), Job.make()
    history = whole.fit(amp=amp, ema=ExponentialMovingAverage(whole.model, 0.9), run_dir=tmp_path / "whole")
    halves.fit(amp=amp, ema=ExponentialMovingAverage(halves.model, 0.9), run_dir=tmp_path / "halves", max_steps=steps)
    halves = Job.make(99)
    options = {"amp": amp, "ema": ExponentialMovingAverage(halves.model, 0.9), "run_dir": tmp_path / "halves"}
    assert plain(halves.fit(resume=True, **options).epochs) == plain(history.epochs)
    assert halves.state() == whole.state()
    assert records(tmp_path / "halves") == records(tmp_path / "whole")


@pytest.mark.parametrize(("steps", "scale", "good"), [(4, 65536.0, 4), (5, 32768.0, 0)])
def test_the_checkpoint_keeps_the_scale(steps, scale, good, tmp_path):
    """The fifth step overflows."""
    Job.make().fit(amp="fp16", run_dir=tmp_path / "run", max_steps=steps)
    saved = weights.load(tmp_path / "run" / "last.safetensors")["scaler"]
    assert (saved["scale"], saved["growth_interval"], saved["_growth_tracker"]) == (scale, 2000, good)


@pytest.mark.parametrize(
    ("before", "now", "word"), [("fp16", None, "with"), (None, "fp16", "without"), ("bf16", "fp16", "without")]
)
def test_another_precision_is_refused(before, now, word, tmp_path):
    Job.make().fit(amp=before, run_dir=tmp_path / "run", max_steps=2)
    with pytest.raises(ValueError, match=rf"it was saved {word} a gradient scaler \(amp\): give the same"):
        Job.make().fit(amp=now, run_dir=tmp_path / "run", resume=True)


def test_a_step_whose_gradients_overflow_is_left_out(monkeypatch):
    """With a scale that is too large nothing changes but the scale, until it is small enough."""
    monkeypatch.setattr("minigrad.amp.GradScaler.__init__.__defaults__", ("cuda", 2.0**60, 2.0, 2.0**-20, 2000, True))
    job = Job.make()
    before = [p.numpy().copy() for p in map(mg.Tensor.detach, job.model.parameters())]
    job.fit(amp="fp16", max_steps=1)
    assert all((p.data == old).all() for p, old in zip(job.model.parameters(), before, strict=True))
    assert not job.optimizer.state
    job.fit(amp="fp16", max_steps=5)
    assert any((p.data != old).any() for p, old in zip(job.model.parameters(), before, strict=True))


def test_unknown_precision():
    with pytest.raises(ValueError, match="amp must be 'fp16', 'bf16' or None, got 'fp8'"):
        Job.make().fit(amp="fp8")
