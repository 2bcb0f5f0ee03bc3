"""The run folder: what is in it, what is refused, full disks while it is written, damage of its checkpoint, leftovers."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from minigrad import weights
from minigrad.training import Metrics, evaluate, loop
from minigrad.training.run_folder import RunFolder
from minigrad.weights import CheckpointError, atomic
from tests.training.tiny import Job, plain, snapshot


def strict(text):
    """JSON without NaN and Infinity, which Python would read."""

    def refuse(name):
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


# ---- contents ----------------------------------------------------------------------------------------------------------


def test_contents(tmp_path):
    import matplotlib.image

    job = Job.make()
    config = {"title": "a tiny net", "options": {"lr": 0.1, "name": "ü"}}
    history = job.fit(run_dir=tmp_path / "deep" / "run", config=config)
    folder = tmp_path / "deep" / "run"
    assert history.run_dir == folder
    assert sorted(os.listdir(folder)) == ["best.safetensors", "config.json", "curves.png", "last.safetensors", "metrics.jsonl"]

    found = strict((folder / "config.json").read_text(encoding="utf-8"))
    assert found.pop("environment").keys() >= {"python", "numpy", "numba", "minigrad-numpy", "cpu", "cpus", "system"}
    assert found == config

    assert [strict(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] == history.epochs

    picture = matplotlib.image.imread(folder / "curves.png")
    assert picture.shape[:2] == (480, 1200)
    assert 0.02 < (picture[..., :3] < 0.9).mean() < 0.5

    other = Job.make(99).model
    other.load_state_dict(weights.load(folder / "best.safetensors"))
    assert evaluate(other, job.test).loss == history.best["test_loss"]
    assert weights.read_metadata(folder / "best.safetensors") == {"config": config, "metrics": history.best}
    assert safetensors.numpy.load_file(folder / "best.safetensors").keys() == job.model.state_dict().keys()

    last = weights.load(folder / "last.safetensors")
    assert plain(last["model"]) == job.state()["model"]
    assert plain(last["optimizer"]) == job.state()["optimizer"]
    assert last["progress"]["history"] == history.epochs
    assert weights.read_metadata(folder / "last.safetensors") == {"config": config}


@pytest.fixture
def tests_give(monkeypatch):
    """Evaluations give these (accuracy, loss) in turn; the weights at each are in the list that is returned."""

    def prepare(*results):
        seen, left = [], list(results)

        def evaluate(model, *args, **options):
            seen.append(plain(model.state_dict()))
            top1, loss = left.pop(0)
            return Metrics(loss, top1, 1.0, 1, np.ones((1, 1), np.int64))

        monkeypatch.setattr(loop, "evaluate", evaluate)
        return seen

    return prepare


@pytest.mark.usefixtures("no_pictures")
def test_best_is_of_the_best_epoch(tmp_path, tests_give):
    seen = tests_give((0.5, 1.0), (0.8, 0.9), (0.8, 0.9), (0.7, 0.1))
    history = Job.make(schedule=None).fit(epochs=4, run_dir=tmp_path / "run")
    assert history.best["epoch"] == 2
    assert plain(weights.load(tmp_path / "run" / "best.safetensors")) == seen[1]
    assert plain(weights.load(tmp_path / "run" / "last.safetensors")["model"]) == seen[3]
    assert weights.read_metadata(tmp_path / "run" / "best.safetensors")["metrics"]["epoch"] == 2


def test_metrics_that_are_not_finite_are_null_in_the_records_and_gaps_in_the_picture(tmp_path, tests_give):
    tests_give((0.1, math.nan), (0.1, math.inf), (0.2, 1.0), (0.2, 1.0))
    history = Job.make().fit(run_dir=tmp_path / "run")
    lines = [strict(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["test_loss"] for line in lines] == [None, None, 1.0]
    assert math.isnan(history.epochs[0]["test_loss"])
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    resumed = Job.make(99).fit(run_dir=tmp_path / "run", resume=True, max_steps=18)
    assert [repr(line["test_loss"]) for line in resumed.epochs] == ["nan", "inf", "1.0"]


# ---- where a run may be ------------------------------------------------------------------------------------------------


def test_an_empty_folder_and_missing_parents_are_taken(tmp_path):
    for path in (tmp_path / "a" / "b" / "run", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        Job.make().fit(run_dir=str(path), max_steps=1)
        assert RunFolder.open(path).load_last()["progress"]["step"] == 1


@pytest.mark.parametrize("entry", ["last.safetensors", "notes.txt", ".hidden", "folder"])
def test_a_folder_with_something_in_it_is_refused_and_nothing_changes(entry, tmp_path):
    path = tmp_path / entry
    path.mkdir() if entry == "folder" else path.write_text("precious")
    job = Job.make()
    before = job.state()
    with pytest.raises(FileExistsError, match=r"is not empty: choose another one, or continue the run in it with resume"):
        job.fit(run_dir=tmp_path)
    assert os.listdir(tmp_path) == [entry]
    assert entry == "folder" or path.read_text() == "precious"
    assert job.state() == before


def test_a_file_is_refused(tmp_path):
    (tmp_path / "x").write_text("precious")
    with pytest.raises(FileExistsError, match="x is a file: choose another folder for the run"):
        Job.make().fit(run_dir=tmp_path / "x")
    with pytest.raises(OSError, match=r"cannot write to the folder .*run: Not a directory"):
        Job.make().fit(run_dir=tmp_path / "x" / "run")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Job.make().fit(run_dir=tmp_path / "x", resume=True)
    assert (tmp_path / "x").read_text() == "precious"


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(("owner", "name"), [(Path, "mkdir"), (os, "replace")], ids=["mkdir", "replace"])
def test_a_folder_that_cannot_be_written_leaves_nothing(owner, name, number, tmp_path, monkeypatch):
    """``number``: at the first, second, third call of a function of the system."""
    real, left = getattr(owner, name), number

    def fails(*args, **options):
        nonlocal left
        left -= 1
        if left == 0:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(*args, **options)

    monkeypatch.setattr(owner, name, fails)
    job = Job.make()
    before = job.state()
    with pytest.raises(OSError, match=r"cannot write to the folder .*run: Permission denied"):
        job.fit(run_dir=tmp_path / "a" / "run")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []
    assert job.state() == before


# ---- full disks --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_pictures")
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    """The first checkpoint fits, those with the velocities do not."""
    whole = Job.make()
    whole.fit()
    Job.make().fit(run_dir=tmp_path / "run", max_steps=4)
    before = snapshot(tmp_path / "run")
    job = Job.make(99)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["last.safetensors"]) - 100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*last\.safetensors: File too large; the old file is unchanged"):
            job.fit(run_dir=tmp_path / "run", resume=True, checkpoint_every=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert snapshot(tmp_path / "run") == before
    resumed = Job.make(99)
    resumed.fit(run_dir=tmp_path / "run", resume=True)
    assert resumed.state() == whole.state()


class Full:
    """A file on a disk that is full."""

    def __init__(self, path, mode):
        self.file = open(path, mode)  # noqa: SIM115 - it is closed in __exit__

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.file.close()

    def write(self, data):
        self.file.write(data[:100])
        self.file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("file", ["last.safetensors", "best.safetensors"])
def test_a_disk_that_is_full_at_the_end_of_an_epoch(file, tmp_path, monkeypatch):
    def open_(path, mode):
        return (Full if file in Path(path).name else open)(path, mode)

    whole, job = Job.make(), Job.make()
    whole.fit()
    job.at_testing_pass(3, lambda: monkeypatch.setattr(atomic, "open", open_, raising=False))
    with pytest.raises(OSError, match=rf"cannot write .*{file}: No space left on device; the old file is unchanged"):
        job.fit(run_dir=tmp_path / "run")
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path / "run"))[-3:] == ["config.json", "last.safetensors", "metrics.jsonl"]
    resumed = Job.make(99)
    history = resumed.fit(run_dir=tmp_path / "run", resume=True)
    assert resumed.state() == whole.state()
    assert plain(weights.read_metadata(tmp_path / "run" / "best.safetensors")["metrics"]) == plain(history.best)


# ---- damage ------------------------------------------------------------------------------------------------------------


def flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


DAMAGES = {
    "empty": (lambda content: b"", "truncated, damaged, or of another kind"),
    "truncated": (lambda content: content[:-1], "truncated, damaged, or of another kind"),
    "half": (lambda content: content[: len(content) // 2], "truncated, damaged, or of another kind"),
    "one bit": (flipped, "does not match its checksum"),
    "zeros": (lambda content: bytes(len(content)), "truncated, damaged, or of another kind"),
    "zip": (lambda content: b"PK\x03\x04" + content, "truncated, damaged, or of another kind"),
    "weights": (lambda content: safetensors.numpy.save({"w": np.ones(3)}), "a file of weights, not a checkpoint of a run"),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The files of a run that was stopped."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    Job.make().fit(run_dir=folder, max_steps=8)
    return snapshot(folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_nothing_changes(damage, stopped, tmp_path):
    change, message = DAMAGES[damage]
    files = {**stopped, "last.safetensors": change(stopped["last.safetensors"])}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    job = Job.make(99)
    before = job.state()
    with pytest.raises(CheckpointError, match=rf"last\.safetensors.*{message}"):
        job.fit(run_dir=tmp_path, resume=True)
    assert job.state() == before
    assert snapshot(tmp_path) == files


@pytest.mark.parametrize("missing", ["optimizer", "scheduler", "rng", "progress"])
def test_another_programs_checkpoint_is_refused(missing, stopped, tmp_path):
    for name, content in stopped.items():
        (tmp_path / name).write_bytes(content)
    state = weights.load(tmp_path / "last.safetensors")
    del state[missing]
    weights.save(state, tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of a run"):
        Job.make(99).fit(run_dir=tmp_path, resume=True)


@pytest.mark.usefixtures("no_pictures")
def test_the_other_files_are_made_again_and_leftovers_of_killed_writers_removed(stopped, tmp_path):
    for name in ("config.json", "last.safetensors"):
        (tmp_path / name).write_bytes(stopped[name])
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "st')
    for name in (".last.safetensors.123.tmp", ".best.safetensors.4567.tmp", ".metrics.jsonl.1.tmp"):
        (tmp_path / name).write_bytes(b"half a file")
    for name in ("notes.txt", ".mine.tmp", "last.safetensors.copy"):
        (tmp_path / name).write_text("precious")
    job, whole = Job.make(99), Job.make()
    history = job.fit(run_dir=tmp_path, resume=True)
    whole.fit()
    assert job.state() == whole.state()
    assert [strict(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == history.epochs
    kept = [
        "config.json",
        "last.safetensors",
        "metrics.jsonl",
        "best.safetensors",
        "notes.txt",
        ".mine.tmp",
        "last.safetensors.copy",
    ]
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
    assert (tmp_path / "config.json").read_bytes() == stopped["config.json"]


@pytest.mark.usefixtures("no_pictures")
def test_a_resumed_run_keeps_its_config(tmp_path):
    Job.make().fit(run_dir=tmp_path / "run", max_steps=3, config={"title": "first"})
    Job.make().fit(run_dir=tmp_path / "run", resume=True, config={"title": "second"})
    assert json.loads((tmp_path / "run" / "config.json").read_text())["title"] == "first"
    for name in ("last", "best"):
        assert weights.read_metadata(tmp_path / "run" / f"{name}.safetensors")["config"] == {"title": "first"}


def test_the_checkpoint_is_written_after_so_many_steps(tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(RunFolder, "save_last", lambda self, state: steps.append(state["progress"]["step"]))
    monkeypatch.setattr(RunFolder, "draw", lambda self, history: True)
    Job.make().fit(run_dir=tmp_path / "run", checkpoint_every=4)
    assert steps == [0, 4, 6, 10, 12, 16, 18]
    steps.clear()
    Job.make().fit(run_dir=tmp_path / "other", checkpoint_every="1e9s")
    assert steps == [0, 6, 12, 18]


def test_the_checkpoint_is_written_after_so_many_seconds(tmp_path, monkeypatch):
    clock, steps = [100.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(RunFolder, "save_last", lambda self, state: steps.append(state["progress"]["step"]))
    monkeypatch.setattr(RunFolder, "draw", lambda self, history: True)
    job = Job.make()
    job.at_training_pass(3, lambda: clock.append(clock.pop() + 59.9))
    job.model.register_forward_hook(lambda module, inputs, output: clock.append(clock.pop() + 0.03))
    job.fit(run_dir=tmp_path / "run", epochs=1)
    assert steps == [0, 4, 6]
