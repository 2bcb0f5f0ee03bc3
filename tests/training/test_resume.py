"""Resuming a run continues to the same bits, however it was stopped: Ctrl-C, max_steps, kill -9 at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minigrad as mg
from minigrad import random
from minigrad.data import DataLoader
from minigrad.optim import lr_scheduler
from minigrad.training import Interrupted, loop
from minigrad.training.run_folder import RunFolder
from tests.training.killed import digest
from tests.training.tiny import EPOCHS, STEPS, Job, images, noise, plain, records, snapshot

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The job at its end, its history, and its run folder."""
    job = Job.make()
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "draw", lambda self, history: True)
        history = job.fit(run_dir=folder)
    return job.state(), plain(history.epochs), records(folder)


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def resume(folder, workers=0, seed=99, **options):
    """Continue the run with a job made from another seed: nothing of that may be left in the result."""
    job = Job.make(seed, workers)
    return job, job.fit(run_dir=folder, resume=True, **options)


def assert_same(job, history, folder, undisturbed):
    state, epochs, files = undisturbed
    assert job.state() == state
    assert plain(history.epochs) == epochs
    assert records(folder) == files
    assert (history.steps, plain(history.best)) == (EPOCHS * STEPS, files["best.safetensors"][1]["metrics"])


# ---- stopped by Ctrl-C -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [1, 4, 6, 9, 18])
def test_ctrl_c_in_a_step(step, workers, tmp_path, undisturbed):
    job = Job.make(workers=workers)
    job.at_training_pass(step, ctrl_c)
    with pytest.raises(Interrupted, match=rf"stopped after step {step} \(epoch {(step - 1) // STEPS + 1}\); .*last\.safetensors"):
        job.fit(run_dir=tmp_path / "run")
    assert RunFolder.open(tmp_path / "run").load_last()["progress"]["step"] == step
    job, history = resume(tmp_path / "run", 2 - workers)
    assert_same(job, history, tmp_path / "run", undisturbed)


@pytest.mark.parametrize("batch", [1, 2, 4, 6])
def test_ctrl_c_while_testing(batch, tmp_path, undisturbed):
    job = Job.make()
    job.at_testing_pass(batch, ctrl_c)
    with pytest.raises(Interrupted, match=rf"after step {(batch + 1) // 2 * STEPS} \(epoch {(batch + 1) // 2}\)"):
        job.fit(run_dir=tmp_path / "run")
    assert RunFolder.open(tmp_path / "run").load_last()["progress"]["step"] == (batch + 1) // 2 * STEPS
    job, history = resume(tmp_path / "run")
    assert_same(job, history, tmp_path / "run", undisturbed)


def test_ctrl_c_while_a_checkpoint_is_written(tmp_path, undisturbed, monkeypatch):
    job = Job.make()
    real = os.replace

    def replace(source, target):
        if job.scheduler.last_epoch == 4 and Path(target).name == "last.safetensors":
            monkeypatch.setattr(os, "replace", real)
            ctrl_c()
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Interrupted, match="after step 5"):
        job.fit(run_dir=tmp_path / "run", checkpoint_every=4)
    job, history = resume(tmp_path / "run")
    assert_same(job, history, tmp_path / "run", undisturbed)


def test_a_second_ctrl_c_stops_at_once_and_the_checkpoint_before_stays(tmp_path, undisturbed):
    job = Job.make()
    job.at_training_pass(5, lambda: (ctrl_c(), ctrl_c()))
    with pytest.raises(KeyboardInterrupt) as caught:
        job.fit(run_dir=tmp_path / "run", checkpoint_every=4)
    assert not isinstance(caught.value, Interrupted)
    job, history = resume(tmp_path / "run")
    assert_same(job, history, tmp_path / "run", undisturbed)


def test_ctrl_c_without_a_run_folder_says_that_nothing_was_saved():
    before = signal.getsignal(signal.SIGINT)
    job = Job.make()
    job.at_training_pass(2, ctrl_c)
    with pytest.raises(Interrupted, match=r"after step 2 \(epoch 1\); nothing was saved, because there is no run_dir"):
        job.fit()
    assert job.scheduler.last_epoch == 2
    assert signal.getsignal(signal.SIGINT) is before


# ---- stopped by max_steps, by errors, and several times ----------------------------------------------------------------


@pytest.mark.parametrize("stops", [[1], [6], [13], [17], [3, 4, 5, 6, 7, 12, 18]])
def test_max_steps(stops, tmp_path, undisturbed):
    for k, steps in enumerate(stops):
        job = Job.make(seed=3 + k)
        history = job.fit(run_dir=tmp_path / "run", resume=k > 0, max_steps=steps)
        assert (history.steps, len(history.epochs)) == (steps, steps // STEPS)
    job, history = resume(tmp_path / "run")
    assert_same(job, history, tmp_path / "run", undisturbed)


def test_every_kind_of_stop_in_one_run(tmp_path, undisturbed):
    Job.make().fit(run_dir=tmp_path / "run", max_steps=2)
    for seed, (stop, number) in enumerate([("train", 3), ("test", 2), ("train", 1), ("train", 7), ("test", 1)]):
        job = Job.make(seed, workers=seed % 3)
        (job.at_training_pass if stop == "train" else job.at_testing_pass)(number, ctrl_c)
        with pytest.raises(Interrupted):
            job.fit(run_dir=tmp_path / "run", resume=True)
    job, history = resume(tmp_path / "run")
    assert_same(job, history, tmp_path / "run", undisturbed)


def test_an_exception_in_the_data(tmp_path, undisturbed):
    def broken(x, rng, left=[8]):  # noqa: B006 - counts the calls
        left[0] -= 1
        if left[0] == 0:
            raise OSError("the network drive is gone")
        return noise(x, rng)

    job = Job.make()
    job.train.transform = broken
    with pytest.raises(OSError, match="network drive"):
        job.fit(run_dir=tmp_path / "run", checkpoint_every=5)
    job, history = resume(tmp_path / "run")
    assert_same(job, history, tmp_path / "run", undisturbed)


def test_times_are_added_up_without_the_time_between(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock.now, monotonic=lambda: clock.now))

    def job():
        made = Job.make()
        made.model.register_forward_hook(lambda module, inputs, output: setattr(clock, "now", clock.now + 1))
        return made

    assert job().fit(run_dir=tmp_path / "run", max_steps=4).seconds == 6  # with two batches of the test
    clock.now += 1000
    history = job().fit(run_dir=tmp_path / "run", resume=True)
    assert [line["seconds"] for line in history.epochs] == [8, 8, 8]
    assert [line["images_per_second"] for line in history.epochs] == [5.5, 5.5, 5.5]
    assert history.seconds == 24


# ---- stopped by kill -9 ------------------------------------------------------------------------------------------------


def start(folder, **arguments):
    arguments = {"run_dir": str(folder), "resume": False, "workers": 0, **arguments}
    command = [sys.executable, "-W", "error", "-m", "tests.training.killed", json.dumps(arguments)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)


def kill_after(step, folder, **arguments):
    """Start a process and kill it as soon as it says that ``step`` is done, wherever it is then; it waits two steps later."""
    process = start(folder, wait=step + 2, **arguments)
    assert f"step {step}" in (line.strip() for line in process.stdout)
    process.kill()
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("file", "number", "moment"),
    [
        ("last.safetensors", 2, "half written"),  # the first is that of the beginning
        ("last.safetensors", 3, "before the rename"),
        ("last.safetensors", 4, "after the rename"),
        ("best.safetensors", 1, "before the rename"),
        ("best.safetensors", 1, "after the rename"),  # the checkpoint does not know of that epoch
        ("metrics.jsonl", 1, "half a line"),
    ],
)
def test_killed_while_writing(file, number, moment, tmp_path, undisturbed):
    process = start(tmp_path / "run", die=(file, number, moment))
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    job, history = resume(tmp_path / "run")
    assert_same(job, history, tmp_path / "run", undisturbed)


@pytest.mark.parametrize(("step", "workers"), [(1, 0), (9, 2)])
def test_killed_at_any_time(step, workers, tmp_path, undisturbed):
    kill_after(step, tmp_path / "run", workers=workers)
    job, history = resume(tmp_path / "run")
    assert_same(job, history, tmp_path / "run", undisturbed)


def test_killed_again_and_again_in_processes_of_their_own(tmp_path, undisturbed):
    kill_after(5, tmp_path / "run", workers=2)
    kill_after(11, tmp_path / "run", resume=True)
    process = start(tmp_path / "run", resume=True, workers=2)
    output = process.communicate(timeout=300)[0].split()
    assert process.returncode == 0
    job, history = resume(tmp_path / "run")  # finished: brings the state into this process
    assert_same(job, history, tmp_path / "run", undisturbed)
    assert output[-2:] == ["done", digest(job)]


# ---- other schedules and loaders ---------------------------------------------------------------------------------------


SCHEDULES = {
    "none": None,
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 1, 0.5),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5),
    "sequence": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=1), lr_scheduler.CosineAnnealingLR(optimizer, 2)], [1]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stepped_after_each_epoch(name, tmp_path):
    whole = Job.make(schedule=SCHEDULES[name])
    epochs = whole.fit(run_dir=tmp_path / "whole").epochs
    for stop in (4, "testing", 10):
        job = Job.make(schedule=SCHEDULES[name])
        if stop == "testing":
            job.at_testing_pass(1, ctrl_c)
            with pytest.raises(Interrupted):
                job.fit(run_dir=tmp_path / str(stop))
        else:
            job.fit(run_dir=tmp_path / str(stop), max_steps=stop)
        job = Job.make(99, schedule=SCHEDULES[name])
        history = job.fit(run_dir=tmp_path / str(stop), resume=True)
        assert job.state() == whole.state()
        assert plain(history.epochs) == plain(epochs)
        assert records(tmp_path / str(stop)) == records(tmp_path / "whole")


class Shuffled:
    """A loader without a state, a length or a place to start in: draws the order of each epoch from the framework's generator."""

    def __iter__(self):
        whole = images()
        order = random.generator().permutation(len(whole))
        for k in range(0, len(whole), 8):
            x, y = whole.batch(order[k : k + 8])
            yield mg.tensor(noise(x, random.generator())), mg.tensor(y)


def fixed():
    return [(mg.tensor(noise(x.numpy() * 255, np.random.default_rng(1))), y) for x, y in DataLoader(images(), 8)]


@pytest.mark.parametrize("loader", [Shuffled, fixed])
@pytest.mark.parametrize("step", [3, 6, 8])
def test_loaders_without_a_state(loader, step, tmp_path):
    whole, stopped, resumed = (Job.make(seed) for seed in (3, 3, 99))
    for job in (whole, stopped, resumed):
        job.train = loader()
    epochs = whole.fit().epochs
    state = whole.state()
    stopped.fit(run_dir=tmp_path / "run", max_steps=step)
    history = resumed.fit(run_dir=tmp_path / "run", resume=True)
    assert resumed.state() == state
    assert plain(history.epochs) == plain(epochs)


def test_a_shuffled_test_loader(tmp_path):
    """Sums of losses depend on their order in the last bits."""
    whole, stopped, resumed = (Job.make(seed) for seed in (3, 3, 99))
    for job in (whole, stopped, resumed):
        job.test = DataLoader(images(), 3, shuffle=True, seed=1)
    epochs = whole.fit().epochs
    stopped.fit(run_dir=tmp_path / "run", max_steps=8)
    assert plain(resumed.fit(run_dir=tmp_path / "run", resume=True).epochs) == plain(epochs)


# ---- a finished run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"epochs": 1}, {"max_steps": 5}])
def test_resuming_a_finished_run_changes_nothing(options, tmp_path, undisturbed):
    first = Job.make().fit(run_dir=tmp_path / "run")
    before = snapshot(tmp_path / "run")
    job, history = resume(tmp_path / "run", **options)
    assert_same(job, history, tmp_path / "run", undisturbed)
    assert history.epochs == first.epochs
    assert (history.best, history.seconds) == (first.best, first.seconds)
    assert history.test.to_dict() == first.test.to_dict()
    assert snapshot(tmp_path / "run") == before


def test_a_finished_run_can_be_made_longer(tmp_path):
    whole = Job.make(schedule=None)
    whole.fit(epochs=4)
    Job.make(schedule=None).fit(run_dir=tmp_path / "run", epochs=2)
    job = Job.make(99, schedule=None)
    history = job.fit(run_dir=tmp_path / "run", epochs=4, resume=True)
    assert [line["epoch"] for line in history.epochs] == [1, 2, 3, 4]
    assert job.state() == whole.state()
