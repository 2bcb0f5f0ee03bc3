"""Resuming a run with what does not fit it, or where no run is: one clear error, and nothing changes."""

from __future__ import annotations

import os

import pytest

from minigrad.data import DataLoader, ImageDataset
from minigrad.optim import SGD, lr_scheduler
from minigrad.weights import CheckpointError
from tests.training.tiny import EPOCHS, STEPS, Job, images, noise, snapshot

pytestmark = pytest.mark.usefixtures("no_pictures")


def other_model():
    return Job.make(99, width=5)


def other_batch_size():
    return Job.make(99, batch=4)


def other_data():
    job = Job.make(99)
    whole = images()
    job.train = DataLoader(ImageDataset(whole.images[:40], whole.labels[:40]), 8, shuffle=True, transform=noise)
    return job


def no_schedule():
    return Job.make(99, schedule=None)


def other_schedule():
    return Job.make(99, schedule=lambda optimizer: lr_scheduler.StepLR(optimizer, 1))


def other_groups():
    job = Job.make(99)
    first, *rest = job.model.parameters()
    job.optimizer = SGD([{"params": [first]}, {"params": rest}], lr=0.1, momentum=0.9)
    job.scheduler = lr_scheduler.OneCycleLR(job.optimizer, 0.1, total_steps=EPOCHS * STEPS)
    return job


def loader_without_state():
    job = Job.make(99)
    job.train = list(job.train)
    return job


@pytest.mark.parametrize("steps", [4, 6], ids=["in an epoch", "between epochs"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_model, r"shape \(5, 1, 3, 3\)"),
        (other_batch_size, "batch_size=8, this loader has 4"),
        (other_data, "samples=44, this loader has 40"),
        (no_schedule, "with a schedule"),
        (other_schedule, "not one of StepLR"),
        (other_groups, r"groups of \[5\] parameters, this optimizer has \[1, 4\]"),
        (loader_without_state, "train_loader is a list"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(make, message, steps, tmp_path):
    Job.make().fit(run_dir=tmp_path / "run", max_steps=steps)
    files = snapshot(tmp_path / "run")
    job = make()
    before = job.state()
    with pytest.raises(ValueError, match=message) as caught:
        job.fit(run_dir=tmp_path / "run", resume=True)
    assert "cannot continue the run in" in str(caught.value)
    assert job.state() == before
    assert snapshot(tmp_path / "run") == files


def test_a_schedule_that_the_run_did_not_have_is_refused(tmp_path):
    Job.make(schedule=None).fit(run_dir=tmp_path / "run", max_steps=4)
    job = Job.make(99)
    before = job.state()
    with pytest.raises(ValueError, match="without a schedule"):
        job.fit(run_dir=tmp_path / "run", resume=True)
    assert job.state() == before


def test_resuming_where_no_run_is(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent"):
        Job.make().fit(run_dir=tmp_path / "absent", resume=True)
    assert os.listdir(tmp_path) == []
    with pytest.raises(CheckpointError, match=r"not the folder of a run: it has no config\.json"):
        Job.make().fit(run_dir=tmp_path, resume=True)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"it has no last\.safetensors"):
        Job.make().fit(run_dir=tmp_path, resume=True)
    (tmp_path / "config.json").write_text("{no JSON")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged: it is not JSON"):
        Job.make().fit(run_dir=tmp_path, resume=True)
    assert os.listdir(tmp_path) == ["config.json"]
