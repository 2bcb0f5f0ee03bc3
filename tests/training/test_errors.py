"""When fit() cannot go on: losses and weights that diverge, and wrong arguments, after which nothing is written or changed."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

import minigrad as mg
from minigrad import weights
from minigrad.nn import functional as F
from minigrad.optim import lr_scheduler
from minigrad.training import DivergedError, fit
from tests.training.tiny import EPOCHS, STEPS, Job, snapshot

pytestmark = pytest.mark.usefixtures("no_pictures")

# ---- diverged ----------------------------------------------------------------------------------------------------------


def loss_that_becomes(value, step):
    """Cross entropy, which in the given training step is multiplied by ``value``."""
    count = 0

    def loss(scores, target):
        nonlocal count
        count += scores.requires_grad
        return F.cross_entropy(scores, target) * (value if count == step else 1.0)

    return loss


def spoil_weights(job, step):
    """Make one weight NaN in the given step, as an overflow in the backward pass would."""
    real, count = job.optimizer.step, 0

    def step_():
        nonlocal count
        real()
        count += 1
        if count == step:
            job.model[5].weight.data[1, 2] = math.nan

    job.optimizer.step = step_


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("step", [1, 5, 8])
def test_a_loss_that_is_not_finite(value, step, tmp_path):
    job = Job.make()
    message = rf"the loss is {value} in step {step} \(epoch {(step + 5) // 6}\): lower the learning rate .*last\.safetensors"
    with pytest.raises(DivergedError, match=message):
        job.fit(run_dir=tmp_path / "run", loss=loss_that_becomes(value, step), checkpoint_every=1)
    state = weights.load(tmp_path / "run" / "last.safetensors")
    assert state["progress"]["step"] == step - 1
    assert job.scheduler.last_epoch == step - 1
    assert all(np.isfinite(t.data).all() for t in state["model"].values())


@pytest.mark.parametrize("every", [1, 100])
@pytest.mark.parametrize("step", [3, 6, 12, 18])
def test_weights_that_are_not_finite(step, every, tmp_path):
    """In the middle of an epoch the next checkpoint or the next loss shows it, at its end the check before the evaluation."""
    job = Job.make()
    spoil_weights(job, step)
    with pytest.raises(DivergedError, match=r"5\.weight holds NaN or infinite values after step|the loss is nan in step 4"):
        job.fit(run_dir=tmp_path / "run", checkpoint_every=every)
    state = weights.load(tmp_path / "run" / "last.safetensors")
    assert state["progress"]["step"] == (step - 1 if every == 1 else (step - 1) // 6 * 6)
    assert all(np.isfinite(t.data).all() for t in state["model"].values())
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == (step - 1) // 6


@pytest.mark.parametrize("with_test", [True, False])
@pytest.mark.parametrize("options", [{}, {"max_steps": 4}])
def test_weights_that_are_not_finite_after_the_last_step_without_a_run_folder(options, with_test):
    job = Job.make()
    job.test = job.test if with_test else None
    spoil_weights(job, options.get("max_steps", 18))
    with pytest.raises(
        DivergedError, match=r"5\.weight holds NaN .* after step (18|4) \(epoch [13]\).*detect_anomaly\(\)"
    ) as caught:
        job.fit(**options)
    assert "checkpoint" not in str(caught.value)


def test_the_run_can_be_continued_from_before_it_diverged(tmp_path):
    whole = Job.make()
    whole.fit()
    job = Job.make()
    spoil_weights(job, 9)
    with pytest.raises(DivergedError):
        job.fit(run_dir=tmp_path / "run", checkpoint_every=1)
    resumed = Job.make(99)
    resumed.fit(run_dir=tmp_path / "run", resume=True)
    assert resumed.state() == whole.state()


def test_a_test_loss_that_is_not_finite_is_no_divergence(tmp_path):
    """The scores of a strange test image may overflow while the training goes well."""
    job = Job.make()
    batches = [(mg.tensor(np.full((2, 1, 6, 6), np.inf, np.float32)), mg.tensor([0, 1]))]
    job.test = batches
    history = job.fit(run_dir=tmp_path / "run")
    assert len(history.epochs) == 3
    assert not math.isfinite(history.test.loss)


# ---- wrong arguments ---------------------------------------------------------------------------------------------------


def other_schedule(job):
    return lr_scheduler.StepLR(Job.make(schedule=None).optimizer, 1)


def bad_weights(job):
    job.model[1].running_var.data[0] = math.inf
    return job.model


def plateau(job):
    return lr_scheduler.ReduceLROnPlateau(job.optimizer)


NOTHING = object()
COUNT = "must be an integer of at least 1, got"
INTERVAL = 'checkpoint_every must be a number of steps such as 50, or of seconds such as "60s", got'


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "net"}, "model must be a Module, got str"),
        ({"model": bad_weights}, r"1\.running_var of the model holds NaN or infinite values before the first step"),
        ({"train_loader": None}, "train_loader must give batches when it is iterated over, got NoneType"),
        ({"test_loader": 5}, "test_loader must give batches when it is iterated over, got int"),
        ({"optimizer": None}, r"optimizer must be an Optimizer such as mg\.optim\.SGD, got NoneType"),
        ({"scheduler": "cosine"}, r"scheduler must be a schedule of mg\.optim\.lr_scheduler, got str"),
        ({"scheduler": other_schedule}, "scheduler belongs to another optimizer"),
        ({"loss": None}, "loss must be a function"),
        *[({"epochs": n}, f"epochs {COUNT}") for n in (0, -1, 1.5, True, "3")],
        *[({"max_steps": n}, f"max_steps {COUNT}") for n in (0, 2.5)],
        ({"scheduler_step": "batch"}, 'scheduler_step must be "auto", "epoch" or "step", got \'batch\''),
        ({"scheduler_step": "step", "scheduler": plateau}, "does not go with ReduceLROnPlateau"),
        *[({"clip_norm": n}, "clip_norm must be a number greater than 0") for n in (0, -1.0, math.nan, "1", True)],
        *[({"checkpoint_every": n}, INTERVAL) for n in (0, -5, 2.5, True, None, [], "", "s", "0s", "-1s", "nans", "abc", "5m")],
        *[({"progress": kind}, "progress must be True, False") for kind in ("loud", 2, None)],
        ({"run_dir": None, "resume": True}, r"resume=True needs run_dir=, the folder of the run to continue"),
        ({"config": "text"}, "config must be a dictionary of what JSON can hold"),
        ({"config": {"x": NOTHING}}, "config must be a dictionary of what JSON can hold: .*object is not JSON serializable"),
        ({"config": {(1, 2): 3}}, "config must be a dictionary of what JSON can hold: keys must be"),
        ({"config": {"x": math.nan}}, "config must be a dictionary of what JSON can hold: Out of range"),
    ],
)
def test_wrong_arguments_are_one_clear_error_and_nothing_is_written(wrong, message, tmp_path):
    job = Job.make()
    wrong = {name: value(job) if callable(value) else value for name, value in wrong.items()}
    before = job.state()
    arguments = {
        "model": job.model,
        "train_loader": job.train,
        "test_loader": job.test,
        "optimizer": job.optimizer,
        "scheduler": job.scheduler,
        "epochs": EPOCHS,
        "run_dir": tmp_path / "a" / "run",
        "progress": False,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        fit(**{**arguments, **wrong})
    assert os.listdir(tmp_path) == []
    if "scheduler" not in wrong:
        assert job.state() == before


def test_the_optimizer_is_asked_for_when_it_is_left_out():
    job = Job.make()
    with pytest.raises(TypeError, match="optimizer must be an Optimizer"):
        fit(job.model, job.train, job.test)


@pytest.mark.parametrize(
    ("value", "interval"), [(50, (50, math.inf)), ("50", (50, math.inf)), ("60s", (math.inf, 60)), (" 0.5s ", (math.inf, 0.5))]
)
def test_intervals(value, interval):
    from minigrad.training.arguments import parse_interval

    assert parse_interval(value) == interval


def test_a_schedule_that_cannot_be_saved_leaves_no_folder(tmp_path):
    job = Job.make()
    job.scheduler.watcher = NOTHING
    with pytest.raises(TypeError, match=r"cannot save the object at scheduler\.watcher"):
        job.fit(run_dir=tmp_path / "a" / "run")
    assert os.listdir(tmp_path) == []


def test_scores_that_are_not_of_classes_change_no_weight():
    job = Job.make(schedule=None)
    job.train = [(mg.zeros(4, 1, 6, 6), mg.zeros(4, 3))]
    before = {name: t.tolist() for name, t in job.model.named_parameters()}
    with pytest.raises(ValueError, match=r"accuracy needs scores \(N, classes\) and classes \(N,\), got \(4, 3\)"):
        job.fit(loss=F.mse_loss)
    assert {name: t.tolist() for name, t in job.model.named_parameters()} == before


def test_data_that_do_not_fit_the_model_leave_the_checkpoint_of_the_beginning(tmp_path):
    job = Job.make()
    job.train = [(mg.zeros(2, 3, 6, 6), mg.tensor([0, 1]))]
    with pytest.raises(ValueError, match="expects C=1 input channels"):
        job.fit(run_dir=tmp_path / "run")
    assert sorted(snapshot(tmp_path / "run")) == ["config.json", "last.safetensors", "metrics.jsonl"]
    resumed, whole = Job.make(99), Job.make()
    resumed.train = whole.train = [(mg.zeros(2, 1, 6, 6), mg.tensor([0, 1]))]
    whole.fit()
    resumed.fit(run_dir=tmp_path / "run", resume=True)
    assert resumed.state()["model"] == whole.state()["model"]


def test_a_schedule_that_is_too_short_is_found_before_the_first_step(tmp_path):
    job = Job.make(schedule=lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=STEPS))
    before = job.state()
    with pytest.raises(ValueError, match=r"total_steps=6, but this training takes 12 steps: give it total_steps=12"):
        job.fit(epochs=2, run_dir=tmp_path / "run")
    assert job.state() == before
    assert not (tmp_path / "run").exists()
    job.fit(epochs=2, max_steps=STEPS)


def test_an_optimizer_of_another_model():
    job, other = Job.make(), Job.make()
    with pytest.raises(ValueError, match="optimizer holds no parameter of model"):
        fit(job.model, job.train, optimizer=other.optimizer, progress=False)
