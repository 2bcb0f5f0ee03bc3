"""What may be added to a training: mixed images, smoothed labels, averages of weights; and that runs with them resume."""

from __future__ import annotations

import functools
import signal

import numpy as np
import pytest

from minigrad import weights
from minigrad.data import Mixup
from minigrad.nn import functional as F
from minigrad.optim import ExponentialMovingAverage
from minigrad.tensor import Tensor
from minigrad.training import Interrupted, evaluate
from tests.training.tiny import EPOCHS, STEPS, Job, plain, records, snapshot

pytestmark = pytest.mark.usefixtures("no_pictures")
SMOOTHED = functools.partial(F.cross_entropy, label_smoothing=0.1)


def additions(job: Job) -> dict:
    ema = ExponentialMovingAverage(job.model, decay=0.9)
    return {"mixing": Mixup(0.4, num_classes=3), "ema": ema, "loss": SMOOTHED, "test_loss": F.cross_entropy}


def test_it_is_the_loop_that_one_would_write():
    ours = Job.make()
    history = ours.fit(**additions(ours))
    job = Job.make()
    mixing, ema = Mixup(0.4, num_classes=3), ExponentialMovingAverage(job.model, decay=0.9)
    for epoch in range(EPOCHS):
        for x, y in job.train:
            x, y = mixing(x, y)
            job.optimizer.zero_grad()
            F.cross_entropy(job.model(x), y, label_smoothing=0.1).backward()
            job.optimizer.step()
            ema.update()
            job.scheduler.step()
        with ema.applied() as model:
            metrics = evaluate(model, job.test)
        assert (metrics.loss, metrics.top1) == (history.epochs[epoch]["test_loss"], history.epochs[epoch]["test_top1"])
    ema.copy_to()  # at the end the model has the averages
    assert ours.state() == job.state()


def test_the_best_weights_are_averages(tmp_path):
    job = Job.make()
    history = job.fit(run_dir=tmp_path / "run", **additions(job))
    job.model.load_state_dict(weights.load(tmp_path / "run" / "best.safetensors"))
    assert evaluate(job.model, job.test).loss == history.best["test_loss"]


@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS, STEPS + 2])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(step, tmp_path):
    whole = Job.make()
    whole.fit(run_dir=tmp_path / "whole", **additions(whole))
    first = Job.make()
    first.fit(run_dir=tmp_path / "run", max_steps=step, **additions(first))
    second = Job.make(seed=99)
    second.fit(run_dir=tmp_path / "run", resume=True, **additions(second))
    assert second.state() == whole.state()
    assert records(tmp_path / "run") == records(tmp_path / "whole")


def test_averages_are_part_of_the_run(tmp_path):
    job = Job.make()
    job.fit(run_dir=tmp_path / "run", max_steps=3, **additions(job))
    before = snapshot(tmp_path / "run")
    other = Job.make()
    state = other.state()
    with pytest.raises(ValueError, match=r"it was saved with averages of the weights \(ema\): give the same"):
        other.fit(run_dir=tmp_path / "run", resume=True)
    assert other.state() == state
    plain_run = Job.make()
    plain_run.fit(run_dir=tmp_path / "plain", max_steps=3)
    with pytest.raises(ValueError, match=r"it was saved without averages of the weights \(ema\): give the same"):
        other.fit(run_dir=tmp_path / "plain", resume=True, **additions(other))
    assert snapshot(tmp_path / "run") == before


def test_a_run_that_cannot_be_resumed_leaves_the_averages(tmp_path):
    job = Job.make(width=5)
    job.fit(run_dir=tmp_path / "run", max_steps=3, **additions(job))
    other = Job.make()
    with_ema = additions(other)
    before = plain(with_ema["ema"].state_dict())
    with pytest.raises(ValueError, match="cannot continue"):
        other.fit(run_dir=tmp_path / "run", resume=True, **with_ema)
    assert plain(with_ema["ema"].state_dict()) == before


def test_wrong_additions():
    job, other = Job.make(), Job.make()
    for wrong, message in (
        ({"mixing": 0.3}, "mixing must be a function or None, got float"),
        ({"test_loss": "mse"}, "test_loss must be a function or None, got str"),
        ({"ema": 0.99}, "ema must be an optim.ExponentialMovingAverage, got float"),
        ({"ema": ExponentialMovingAverage(other.model)}, "ema averages another model: make it from the model that is trained"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            job.fit(**wrong)


def test_a_loss_may_make_classes_of_its_target():
    class Shifted:
        """Classes that are counted from 1."""

        def classes(self, target):
            return target - 1

        def __call__(self, scores, target):
            return F.cross_entropy(scores, target - 1)

    plainly, shifted = Job.make(), Job.make()
    batches = list(shifted.test)
    one = evaluate(plainly.model, batches)
    other = evaluate(shifted.model, [(x, Tensor(y.numpy() + 1)) for x, y in batches], Shifted())
    assert one == other
    assert np.isfinite(one.loss)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_run_that_was_stopped_while_its_averages_were_tested_goes_on_to_the_same_bits(batch, tmp_path):
    whole = Job.make()
    whole.fit(run_dir=tmp_path / "whole", **additions(whole))
    first = Job.make()
    first.at_testing_pass(batch, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted):
        first.fit(run_dir=tmp_path / "run", **additions(first))
    second = Job.make(seed=99)
    second.fit(run_dir=tmp_path / "run", resume=True, **additions(second))
    assert second.state() == whole.state()
    assert records(tmp_path / "run") == records(tmp_path / "whole")
