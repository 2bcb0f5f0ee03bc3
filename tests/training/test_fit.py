"""fit(): it trains as a loop written by hand would, what it returns, schedules, loaders of every kind, modes, wrong arguments."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from minigrad import nn
from minigrad.nn import functional as F
from minigrad.nn.utils import clip_grad_norm_
from minigrad.optim import SGD, lr_scheduler
from minigrad.training import History, Metrics, evaluate, loop
from tests.training.tiny import EPOCHS, STEPS, Job, one_cycle, plain, snapshot

pytestmark = pytest.mark.usefixtures("no_pictures")


# ---- training ----------------------------------------------------------------------------------------------------------


def test_it_learns():
    job = Job.make(schedule=None)
    history = job.fit(epochs=8)
    assert history.epochs[-1]["train_loss"] < history.epochs[0]["train_loss"] / 2
    assert history.test.accuracy > 0.9


def test_it_is_the_loop_that_one_would_write():
    ours = Job.make()
    ours.fit(clip_norm=0.5)
    job = Job.make()
    for _ in range(EPOCHS):
        for x, y in job.train:
            job.optimizer.zero_grad()
            F.cross_entropy(job.model(x), y).backward()
            clip_grad_norm_(job.model.parameters(), 0.5)
            job.optimizer.step()
            job.scheduler.step()
    assert ours.state() == job.state()


def test_what_it_returns():
    job = Job.make()
    history = job.fit()
    assert isinstance(history, History)
    assert [list(line) for line in history.epochs] == [
        ["epoch", "steps", "lr"]
        + [f"{part}_{name}" for part in ("train", "test") for name in ("loss", "top1", "top5")]
        + ["seconds", "images_per_second"]
    ] * EPOCHS
    assert [(line["epoch"], line["steps"]) for line in history.epochs] == [(1, 6), (2, 12), (3, 18)]
    assert all(type(value) in (int, float) for line in history.epochs for value in line.values())
    assert (history.steps, history.run_dir) == (18, None)
    assert history.seconds == pytest.approx(sum(line["seconds"] for line in history.epochs))
    assert history.test == evaluate(job.model, job.test)
    last = history.epochs[-1]
    assert (history.test.loss, history.test.top1, history.test.top5) == (last["test_loss"], last["test_top1"], last["test_top5"])
    assert history.best in history.epochs
    assert history.best["test_top1"] == max(line["test_top1"] for line in history.epochs)


def test_train_metrics_are_over_the_samples_of_the_epoch_as_they_were_seen():
    job, seen = Job.make(), []

    def loss(scores, target):
        value = F.cross_entropy(scores, target)
        if job.model.training:
            seen.append((value.item(), (scores.detach().numpy().argmax(1) == target.numpy()).sum(), len(target)))
        return value

    line = job.fit(epochs=1, loss=loss).epochs[0]
    assert line["train_loss"] == pytest.approx(sum(value * n for value, _, n in seen) / 44, rel=1e-12)
    assert line["train_top1"] == sum(right for _, right, _ in seen) / 44


def test_the_best_epoch_is_that_of_the_highest_accuracy_then_of_the_lowest_loss(monkeypatch):
    results = [(0.5, 0.1), (0.7, math.nan), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.6, 0.0)]
    tests = iter([Metrics(loss, top1, 1.0, 1, np.ones((1, 1), np.int64)) for top1, loss in results])
    monkeypatch.setattr(loop, "evaluate", lambda *args, **options: next(tests))
    assert Job.make(schedule=None).fit(epochs=len(results)).best["epoch"] == 4


def test_without_a_test_loader(tmp_path):
    job = Job.make()
    job.test = None
    history = job.fit(run_dir=tmp_path / "run")
    assert (history.best, history.test, len(history.epochs)) == (None, None, EPOCHS)
    assert not any(key.startswith("test") for line in history.epochs for key in line)
    assert sorted(snapshot(tmp_path / "run")) == ["config.json", "last.safetensors", "metrics.jsonl"]


# ---- schedules, clipping, max_steps ------------------------------------------------------------------------------------


def halving(optimizer):
    return lr_scheduler.ExponentialLR(optimizer, 0.5)


@pytest.mark.parametrize(
    ("schedule", "scheduler_step", "steps"),
    [
        (halving, "auto", 3),
        (halving, "epoch", 3),
        (halving, "step", 18),
        (one_cycle, "auto", 18),
        (one_cycle, "epoch", 3),
        (one_cycle, "step", 18),
    ],
)
def test_when_the_schedule_is_stepped(schedule, scheduler_step, steps):
    job = Job.make(schedule=schedule)
    job.fit(scheduler_step=scheduler_step)
    assert job.scheduler.last_epoch == steps


def test_the_records_have_the_rate_of_the_last_step_of_each_epoch():
    assert [line["lr"] for line in Job.make(schedule=halving).fit().epochs] == [0.05, 0.025, 0.0125]
    after_steps = Job.make(schedule=halving).fit(scheduler_step="step").epochs
    assert [line["lr"] for line in after_steps] == pytest.approx([0.05 / 2**5, 0.05 / 2**11, 0.05 / 2**17])
    assert [line["lr"] for line in Job.make(schedule=None).fit().epochs] == [0.05] * 3


@pytest.mark.parametrize("part", ["test", "train"])
def test_plateau_is_given_the_test_loss_or_else_the_training_loss(part, monkeypatch):
    given = []
    monkeypatch.setattr(lr_scheduler.ReduceLROnPlateau, "step", lambda self, value: given.append(value))
    job = Job.make(schedule=lr_scheduler.ReduceLROnPlateau)
    job.test = job.test if part == "test" else None
    assert given == [line[f"{part}_loss"] for line in job.fit().epochs]


def test_clip_norm_limits_all_gradients_together():
    def step(clip_norm):
        job = Job.make(schedule=None)
        job.optimizer = SGD(job.model.parameters(), lr=1.0)
        before = [p.detach().numpy().copy() for p in job.model.parameters()]
        job.fit(max_steps=1, clip_norm=clip_norm)
        return np.concatenate([(p.detach().numpy() - b).ravel() for p, b in zip(job.model.parameters(), before, strict=True)])

    free, clipped = step(None), step(0.01)
    assert np.linalg.norm(free) > 0.02
    assert np.linalg.norm(clipped) == pytest.approx(0.01, rel=1e-3)
    np.testing.assert_allclose(clipped / 0.01, free / np.linalg.norm(free), atol=1e-4)
    np.testing.assert_array_equal(step(math.inf), free)


@pytest.mark.parametrize(("max_steps", "steps", "epochs"), [(4, 4, 0), (6, 6, 1), (8, 8, 1), (18, 18, 3), (1000, 18, 3)])
def test_max_steps(max_steps, steps, epochs):
    job = Job.make()
    history = job.fit(max_steps=max_steps)
    assert (history.steps, len(history.epochs), job.scheduler.last_epoch) == (steps, epochs, steps)
    assert history.test == evaluate(job.model, job.test)  # with the last weights, also in the middle of an epoch
    assert history.seconds >= sum(line["seconds"] for line in history.epochs) > -1


# ---- loaders -----------------------------------------------------------------------------------------------------------


class Iterable:
    """A loader without a length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class Indexed:
    """A loader of the old protocol: batches by number, IndexError at the end."""

    def __init__(self, batches):
        self.batches = batches

    def __getitem__(self, k):
        return self.batches[k]


@pytest.mark.parametrize("kind", [list, tuple, Iterable, Indexed, "generator"])
@pytest.mark.parametrize("max_steps", [None, 4, 6])
def test_any_iterable_of_batches_is_a_loader(kind, max_steps):
    expected, job = Job.make(), Job.make()
    whole = expected.fit(epochs=1, max_steps=max_steps)
    batches, tests = list(job.train), list(job.test)
    if kind == "generator":
        job.train, job.test = (batch for batch in batches), (batch for batch in tests)
    else:
        job.train, job.test = kind(batches), kind(tests)
    history = job.fit(epochs=1, max_steps=max_steps)
    assert plain(job.model.state_dict()) == plain(expected.model.state_dict())
    assert (history.test, history.steps) == (whole.test, whole.steps)
    if max_steps == 6 and kind not in (list, tuple):
        assert history.epochs == []  # without a length, nothing says that the epoch was over
    else:
        assert plain(history.epochs) == plain(whole.epochs)


def test_a_generator_is_used_up_after_one_epoch(tmp_path):
    job = Job.make()
    job.train = (batch for batch in list(job.train))
    with pytest.raises(ValueError, match=r"train_loader gave no batch in epoch 2: .* used up"):
        job.fit(run_dir=tmp_path / "run")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("train", "test", "message"), [([], None, "train_loader gave no batch in epoch 1"), (None, [], "samples")]
)
def test_loaders_that_give_nothing(train, test, message):
    job = Job.make()
    job.train, job.test = job.train if train is None else train, test
    with pytest.raises(ValueError, match=message):
        job.fit()


@pytest.mark.parametrize("fails", [False, True])
def test_no_thread_of_the_loader_is_left(fails):
    job, caught = Job.make(workers=2), None
    if fails:
        job.at_training_pass(2, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError) as caught:  # its traceback keeps the loader's iterator alive
            job.fit()
    else:
        job.fit(max_steps=3)
    assert (caught is not None) == fails
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("minigrad-data")]


# ---- modes -------------------------------------------------------------------------------------------------------------


def test_the_model_is_in_training_mode_for_training_and_in_evaluation_mode_for_testing():
    job, seen = Job.make(), []
    job.model.eval()
    job.model.register_forward_hook(
        lambda module, inputs, output: seen.append(
            ("train" if output.requires_grad else "test", {m.training for m in module.modules()})
        )
    )
    job.fit(epochs=2)
    assert seen == [*[("train", {True})] * STEPS, *[("test", {False})] * 2] * 2
    assert job.model.training


def test_a_model_that_keeps_a_part_in_evaluation_mode_keeps_its_statistics():
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
            return self

    job = Job.make(schedule=None)
    job.model = Frozen(*job.model)
    before = job.model[1].running_mean.tolist()
    job.fit()
    assert [module.training for module in job.model] == [True, False, True, True, True, True]
    assert job.model[1].running_mean.tolist() == before
