"""What a run shows (bar, lines, nothing), the picture of its learning curves, and Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import errno
import importlib.util
import math
import os
import re
import signal
import sys
import threading
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad.training import progress
from minigrad.training.curves import draw_curves
from minigrad.training.interrupt import Interruption
from minigrad.training.metrics import MetricSums
from minigrad.training.progress import Progress
from tests.training.tiny import Job

EPOCH = re.compile(
    r"epoch (\d)/3  loss \d\.\d{3}  accuracy \d+\.\d\d%  \|  test loss \d+\.\d{3}  accuracy \d+\.\d\d%"
    r"  \|  lr \S+  \d+\.\d s  [\d,]+ images/s"
)


@pytest.fixture(autouse=True, scope="module")
def _compiled():
    """Compiling the kernels says so on standard error: not in the middle of a test."""
    Job.make().fit()


def sums():
    found = MetricSums()
    found.add(0.5, mg.tensor(np.eye(4)), mg.tensor([0, 1, 2, 0]))
    return found


# ---- bars and lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lines", True])
def test_lines_in_a_log(kind, capsys):
    """Not on a terminal: one line for each epoch, and nothing else."""
    Job.make().fit(progress=kind)
    out, err = capsys.readouterr()
    assert [EPOCH.fullmatch(line).group(1) for line in out.splitlines()] == ["1", "2", "3"]
    assert err == ""


def test_a_bar_on_standard_error_and_a_line_for_each_epoch_that_stays(capsys, monkeypatch):
    monkeypatch.setattr(progress, "REFRESH", 0)
    Job.make().fit(progress="bar", epochs=2)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    for title, total in (("epoch 1/2", 6), ("epoch 2/2", 6), ("testing", 2)):
        assert re.search(rf"{title}: .*\| 0/{total} ", err)
    assert err.endswith("\r")  # the last bar was removed


def test_silent(capsys):
    Job.make().fit(progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("terminal", "kind"), [(True, "bar"), (False, "lines")])
def test_by_itself_it_is_a_bar_on_a_terminal(terminal, kind, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert Progress(True).kind == kind
    assert (Progress("lines").kind, Progress("bar").kind, Progress(False).kind) == ("lines", "bar", False)


def test_a_bar_shows_where_it_is_and_how_well_it_goes(capsys, monkeypatch):
    monkeypatch.setattr(progress, "REFRESH", 0)
    shown = Progress("bar")
    shown.begin("epoch 3/9", 4, done=2)
    shown.step(sums(), 4)
    shown.step(sums(), 4)
    shown._bar.refresh()
    text = capsys.readouterr().err
    shown.end()
    assert "epoch 3/9:  50%" in text
    assert "| 2/4 " in text
    assert "epoch 3/9: 100%" in text
    assert re.search(r"4/4 .*loss 0\.500, accuracy 75\.0%, [\d,]+ images/s", text)


def test_a_bar_of_unknown_length(capsys):
    shown = Progress("bar")
    shown.begin("testing", None)
    shown.step(sums(), 4)
    shown._bar.refresh()
    shown.end()
    assert re.search(r"testing: 1it ", capsys.readouterr().err)


def test_a_bar_is_gone_after_an_error(capsys):
    from tqdm import tqdm

    job = Job.make()
    job.at_training_pass(2, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        job.fit(progress="bar")
    assert not tqdm._instances
    assert capsys.readouterr().err.endswith("\r")


@pytest.mark.parametrize(("total", "where"), [(5, r"step 3/5"), (None, "step 3")])
def test_a_long_phase_gets_a_line_in_a_log_now_and_then(total, where, capsys, monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    shown = Progress("lines")
    shown.begin("epoch 1/1", total)
    for _ in range(5):
        clock.now += 8
        shown.step(sums(), 4)
    assert capsys.readouterr().out == f"epoch 1/1, {where}: loss 0.500, accuracy 75.0%, 0 images/s\n"


@pytest.fixture
def notebook(monkeypatch):
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))


@pytest.mark.usefixtures("notebook")
def test_in_a_notebook_without_widgets_the_bar_is_text_on_standard_output(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    shown = Progress(True)
    assert shown.kind == "bar"
    shown.begin("testing", 3)
    shown.end()
    out, err = capsys.readouterr()
    assert "testing:   0%" in out
    assert err == ""


# ---- learning curves ---------------------------------------------------------------------------------------------------


def line(epoch, *, test=True, **values):
    plain = {"epoch": epoch, "train_loss": 1 / epoch, "train_top1": 0.5, "test_loss": 2 / epoch, "test_top1": 0.25, **values}
    return {key: value for key, value in plain.items() if test or not key.startswith("test")}


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved."""
    from matplotlib.figure import Figure

    real, seen = Figure.savefig, []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **options: (seen.append(self), real(self, *args, **options)))
    return seen


def curves(axes):
    return {curve.get_label(): list(map(float, curve.get_ydata())) for curve in axes.get_lines()}


def test_both_curves_of_both_measures(figures, tmp_path):
    assert draw_curves([line(1), line(2)], tmp_path / "curves.png", "a title")
    loss, accuracy = figures[0].axes
    assert curves(loss) == {"train (last 0.500)": [1, 0.5], "test (last 1.000)": [2, 1]}
    assert curves(accuracy) == {"train (last 50.00 %)": [50, 50], "test (last 25.00 %)": [25, 25]}
    assert (loss.get_xlabel(), loss.get_ylabel(), accuracy.get_ylabel()) == ("epoch", "loss", "accuracy (%)")
    assert loss.get_ylim()[0] == 0
    assert figures[0].get_suptitle() == "a title"
    assert all(len(axes.get_legend().get_texts()) == 2 for axes in figures[0].axes)
    assert os.listdir(tmp_path) == ["curves.png"]  # and no unfinished one


@pytest.mark.parametrize(
    "history",
    [
        [line(1)],
        [line(1, test=False)],
        [line(k) for k in range(1, 61)],
        [line(1), line(2, train_loss=math.nan, test_loss=math.inf), line(3)],
        [line(k, train_loss=math.nan, test_loss=math.nan) for k in (1, 2)],
        [line(k, train_loss=0.0, test_loss=0.0) for k in (1, 2)],
        [line(1, train_loss=1e30), line(2)],
    ],
    ids=["one epoch", "no tests", "many epochs", "not finite", "all NaN", "zero", "huge"],
)
def test_histories_of_every_kind(history, tmp_path):
    import matplotlib.image

    path = tmp_path / "curves.png"
    path.write_bytes(b"the old picture")
    assert draw_curves(history, path)
    assert matplotlib.image.imread(path).shape[:2] == (480, 1200)


def test_a_run_that_was_continued_without_tests_or_with_them(figures, tmp_path):
    for first in (True, False):
        assert draw_curves([line(1, test=first), line(2, test=not first)], tmp_path / "curves.png")
        found = curves(figures[-1].axes[0])
        (label,) = (label for label in found if label.startswith("test"))
        assert [math.isnan(value) for value in found[label]] == [not first, first]


def test_losses_below_zero_are_seen(figures, tmp_path):
    draw_curves([line(k, train_loss=-float(k), test_loss=-2.0 * k) for k in (1, 2)], tmp_path / "curves.png")
    low, high = figures[0].axes[0].get_ylim()
    assert low <= -4 < -1 <= high


@pytest.mark.parametrize(("worst", "scale"), [(0.5, "linear"), (49.0, "linear"), (51.0, "log"), (math.inf, "linear")])
def test_one_bad_epoch_does_not_press_the_others_flat(figures, tmp_path, worst, scale):
    losses = [1.0, worst, 1.0]
    draw_curves([line(k, train_loss=1.0, test_loss=loss) for k, loss in enumerate(losses, 1)], tmp_path / "curves.png")
    axes = figures[0].axes[0]
    assert axes.get_yscale() == scale
    assert scale == "log" or axes.get_ylim()[0] == 0


def test_without_matplotlib_there_is_no_picture_and_a_line_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    Job.make().fit(run_dir=tmp_path / "run", epochs=1, progress="lines")
    assert "no curves.png: matplotlib is not installed" in capsys.readouterr().out
    assert "curves.png" not in os.listdir(tmp_path / "run")


def test_a_picture_that_cannot_be_written_does_not_stop_the_run(tmp_path, monkeypatch, capsys):
    from matplotlib.figure import Figure

    def savefig(self, path, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", savefig)
    history = Job.make().fit(run_dir=tmp_path / "run", epochs=1, progress="lines")
    assert len(history.epochs) == 1
    assert "no curves.png: [Errno 28] No space left on device" in capsys.readouterr().out


# ---- Ctrl-C ------------------------------------------------------------------------------------------------------------


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("before", ["Python's own", "another"])
def test_the_first_ctrl_c_asks_and_the_second_raises(before, capsys):
    original = signal.getsignal(signal.SIGINT)
    if before == "another":
        signal.signal(signal.SIGINT, lambda number, frame: None)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with Interruption() as interruption:
            assert not interruption.requested
            ctrl_c()
            assert interruption.requested
            assert "Ctrl-C: stopping after this step; press it again to stop at once" in capsys.readouterr().err
            with pytest.raises(KeyboardInterrupt):
                ctrl_c()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, original)


def test_the_handler_is_restored_after_an_error():
    handler = signal.getsignal(signal.SIGINT)
    job = Job.make()
    job.at_training_pass(2, lambda: 1 / (signal.getsignal(signal.SIGINT) is handler))
    with pytest.raises(ZeroDivisionError):
        job.fit()
    assert signal.getsignal(signal.SIGINT) is handler
    Job.make().fit(max_steps=1)
    assert signal.getsignal(signal.SIGINT) is handler


def test_where_ctrl_c_is_ignored_it_stays_ignored():
    original = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            ctrl_c()
            assert not interruption.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, original)


def test_in_another_thread_nothing_is_changed():
    handler, seen, whole = signal.getsignal(signal.SIGINT), [], Job.make()
    whole.fit()
    job = Job.make()

    def work():
        with Interruption() as interruption:
            seen.append((signal.getsignal(signal.SIGINT), interruption.requested))
        job.fit()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(handler, False)]
    assert signal.getsignal(signal.SIGINT) is handler
    assert job.state() == whole.state()


def test_a_terminal_that_does_not_say_how_wide_it_is(monkeypatch):
    """tqdm shows nothing on a terminal of 0 columns, which is what some pseudo-terminals say."""
    monkeypatch.setattr(sys.stderr, "fileno", lambda: 2, raising=False)
    for size, expected in (((0, 0), "ncols"), ((120, 40), "dynamic_ncols")):
        monkeypatch.setattr(os, "get_terminal_size", lambda handle, size=size: os.terminal_size(size))
        assert expected in progress._bar_options()
