"""The training loop: ``fit``."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minigrad import random
from minigrad.data import DataLoader, to_device
from minigrad.nn import Module
from minigrad.nn.functional import cross_entropy
from minigrad.optim import ExponentialMovingAverage, Optimizer
from minigrad.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from minigrad.training.arguments import (
    check_additions,
    check_clip_norm,
    check_count,
    check_parts,
    check_schedule_length,
    parse_interval,
    steps_each_batch,
)
from minigrad.training.evaluation import classes_of, device_of_model, evaluate, on_device
from minigrad.training.history import DivergedError, History, Interrupted, describe, not_finite, quality
from minigrad.training.interrupt import Interruption
from minigrad.training.metrics import Metrics, MetricSums
from minigrad.training.mixed import Precision
from minigrad.training.progress import Progress
from minigrad.training.run_folder import RunFolder

__all__ = ["DivergedError", "History", "Interrupted", "fit"]


def fit(
    model: Module,
    train_loader: Iterable,
    test_loader: Iterable | None = None,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    *,
    loss: Callable = cross_entropy,
    test_loss: Callable | None = None,
    mixing: Callable | None = None,
    ema: ExponentialMovingAverage | None = None,
    amp: str | None = None,
    epochs: int = 10,
    scheduler_step: str = "auto",
    clip_norm: float | None = None,
    run_dir: str | os.PathLike | None = None,
    resume: bool = False,
    checkpoint_every: int | str = "60s",
    max_steps: int | None = None,
    progress: bool | str = True,
    config: dict[str, Any] | None = None,
) -> History:
    """Train ``model`` on the batches ``(images, classes)`` of ``train_loader``, and evaluate it after every epoch.

    ``loss``              ``loss(scores, classes)``, the mean over a batch. Where classes are something else, as the numbers of
                          cells in ``PixelLoss``, ``loss.classes(...)`` makes classes of them, for the accuracy
    ``test_loss``         the same for evaluation; None: ``loss``
    ``mixing``            what is done to each training batch, ``(images, classes) -> (images, classes)``, as ``data.Mixup``
    ``ema``               averages of the model's weights, taken after every step: they are what is evaluated, and what
                          ``best.safetensors`` keeps, and at the end the model has them
    ``amp``               "bf16" or "fp16": train and evaluate in mixed precision (see ``mg.autocast``)
    ``scheduler_step``    when the schedule is stepped: after every "epoch" or every "step"; "auto": OneCycleLR after every step
    ``clip_norm``         the largest norm of all gradients together; None leaves them as they are
    ``run_dir``           a new or empty folder for the records and checkpoints of this run; None keeps none
    ``resume``            continue the run in ``run_dir`` from its last checkpoint, to the same bits as if it had never stopped:
                          give the same model, loaders, optimizer and schedule, made anew
    ``checkpoint_every``  steps (50), or seconds ("60s"), between checkpoints within an epoch; there is one after each epoch too
    ``max_steps``         stop after so many steps in all
    ``progress``          True: a bar on a terminal and in notebooks, else lines; False: silent
    ``config``            anything that JSON can hold, kept in ``config.json`` and in the checkpoints

    The first Ctrl-C ends the training after a whole step, saves a checkpoint and raises ``Interrupted``; the second one stops
    at once. Raises DivergedError if the loss or a weight becomes infinite or NaN; TypeError or ValueError, before anything is
    written or changed, if arguments are wrong or, with ``resume``, do not fit the run.
    """
    training = _Training(model, train_loader, test_loader, optimizer, scheduler, loss)
    check_additions(model, test_loss, mixing, ema)
    training.test_loss, training.mixing, training.ema = test_loss or loss, mixing, ema
    training.precision = Precision(model, amp)
    training.epochs = check_count(epochs, "epochs")
    training.max_steps = None if max_steps is None else check_count(max_steps, "max_steps")
    training.per_step = steps_each_batch(scheduler_step, scheduler)
    training.clip_norm = check_clip_norm(clip_norm)
    training.every = parse_interval(checkpoint_every)
    training.progress = Progress(progress)
    if run_dir is None and resume:
        raise ValueError("resume=True needs run_dir=, the folder of the run to continue")
    if resume:
        training.folder = RunFolder.open(run_dir)
        training.restore(training.folder.load_last())
        training.folder.write_metrics(training.history)
    else:
        bad = not_finite(model)
        if bad is not None:
            raise ValueError(f"{bad} of the model holds NaN or infinite values before the first step")
        if training.per_step:
            steps = training.epochs * training.total()
            check_schedule_length(scheduler, steps if max_steps is None else min(steps, max_steps))
        training.begin_epoch(0)
        if run_dir is not None:
            training.folder = RunFolder.create(run_dir, {} if config is None else config, training.state())
    return training.run()


class _Stopped(Exception):
    """Ctrl-C between two test batches."""


class _Training:
    """A training under way: what is trained, with what, and how far it is."""

    def __init__(self, model, train_loader, test_loader, optimizer, scheduler, loss):
        check_parts(model, train_loader, test_loader, optimizer, scheduler, loss)
        self.model, self.train_loader, self.test_loader = model, train_loader, test_loader
        self.optimizer, self.scheduler, self.loss = optimizer, scheduler, loss
        self.test_loss, self.mixing, self.ema = loss, None, None
        self.folder: RunFolder | None = None
        self.epoch, self.batch, self.step = 0, 0, 0  # whole epochs; batches of this epoch; batches in all
        self.place: dict | None = None  # of the loader, if it can start in the middle
        self.epoch_rng: dict = {}  # the random numbers' state when this epoch began
        self.sums = MetricSums()  # over the batches of this epoch
        self.lr = optimizer.param_groups[0]["lr"]  # of the last step
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.seconds = 0.0  # spent in this epoch before it was resumed
        self.tested, self.tested_step = None, 0  # what the last evaluation gave (Metrics), and after which step

    # ---- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> History:
        self.started, self.saved_step, self.saved_time = time.perf_counter(), self.step, time.monotonic()
        with Interruption() as self.ctrl_c:
            try:
                while self.epoch < self.epochs and not self.at_last_step():
                    self.started = time.perf_counter()
                    self.train_epoch()
                    if self.batch < self.total() and self.at_last_step():
                        self.save()
                    else:
                        self.finish_epoch()
                test = self.evaluate()
                if self.ema is not None:
                    self.ema.copy_to()
            finally:
                self.progress.end()
                self.draw()
        seconds = sum(line["seconds"] for line in self.history) + (self.epoch_seconds() if self.batch else 0.0)
        return History(self.history, self.best, test, self.step, seconds, None if self.folder is None else self.folder.path)

    def at_last_step(self) -> bool:
        return self.max_steps is not None and self.step >= self.max_steps

    def total(self) -> float:
        """Batches in an epoch; infinite if the loader does not say."""
        return len(self.train_loader) if hasattr(self.train_loader, "__len__") else math.inf

    def train_epoch(self) -> None:
        """The rest of the epoch, or up to the last step."""
        self.model.train()
        total = self.total()
        self.progress.begin(f"epoch {self.epoch + 1}/{self.epochs}", None if total == math.inf else total, self.batch)
        with contextlib.closing(self.prepared_batches()) as batches:  # the loader's threads end now, not with the memory
            for images, target, place in batches:
                self.train_step(*on_device(self.model, images, target))
                self.place = place
                self.progress.step(self.sums, len(target))
                self.stop_if_asked()
                if self.checkpoint_is_due():
                    self.save()
                if self.at_last_step():
                    break

    def prepared_batches(self) -> Iterator[tuple]:
        """(images, target, the loader's place behind them) for each batch of the rest of the epoch.

        On a card batches are copied there one ahead, if they are the same bits whenever they are asked for.
        """
        where = device_of_model(self.model)
        ahead = where.type == "cuda" and isinstance(self.train_loader, DataLoader) and self.mixing is None
        return to_device(self.placed_batches(), where) if ahead else self.placed_batches()

    def placed_batches(self) -> Iterator[tuple]:
        batches = self.remaining_batches()
        try:
            for images, target in batches:
                if self.mixing is not None:
                    images, target = self.mixing(images, target)
                yield images, target, self.loader_state()
        finally:
            if hasattr(batches, "close"):
                batches.close()

    def begin_epoch(self, epoch: int) -> None:
        self.epoch, self.batch, self.sums, self.seconds = epoch, 0, MetricSums(), 0.0
        if hasattr(self.train_loader, "set_epoch"):
            self.train_loader.set_epoch(epoch)
        self.place = self.loader_state()
        self.epoch_rng = random.get_rng_state()

    def loader_state(self) -> dict | None:
        return self.train_loader.state_dict() if hasattr(self.train_loader, "state_dict") else None

    def remaining_batches(self) -> Iterator:
        """The batches of this epoch from the next one on."""
        if hasattr(self.train_loader, "set_epoch"):
            self.train_loader.set_epoch(self.epoch)
        if self.batch == 0 or self.place is not None:
            return iter(self.train_loader)
        # A loader that cannot start in the middle begins with the random numbers that it began with, and its batches are skipped.
        now = random.get_rng_state()
        random.set_rng_state(self.epoch_rng)
        batches = iter(self.train_loader)
        for _ in range(self.batch):
            next(batches, None)
        random.set_rng_state(now)
        return batches

    def train_step(self, images, target) -> None:
        self.optimizer.zero_grad()
        with self.precision.forward():
            scores = self.model(images)
            loss = self.loss(scores, target)
        value = loss.item()
        self.lr = self.optimizer.param_groups[0]["lr"]
        if not math.isfinite(value):
            raise self.diverged(f"the loss is {value} in step {self.step + 1}")
        self.sums.add(value, scores, classes_of(self.loss, target))
        self.precision.step(loss, self.optimizer, self.clip_norm)
        if self.ema is not None:
            self.ema.update()
        if self.per_step:
            self.scheduler.step()
        self.batch, self.step = self.batch + 1, self.step + 1

    def finish_epoch(self) -> None:
        """Evaluate, step the schedule, record the epoch, save."""
        if self.batch == 0:
            raise ValueError(
                f"train_loader gave no batch in epoch {self.epoch + 1}: is it empty, or an iterator that is used up?"
            )
        self.check_weights()
        test = self.evaluate()
        train = self.sums.result()
        if self.scheduler is not None and not self.per_step:
            measure = (test or train).loss
            self.scheduler.step(*((measure,) if isinstance(self.scheduler, ReduceLROnPlateau) else ()))
        seconds = self.epoch_seconds()
        line = {"epoch": self.epoch + 1, "steps": self.step, "lr": self.lr}
        for part, metrics in (("train", train), ("test", test)):
            if metrics is not None:
                line |= {f"{part}_{name}": getattr(metrics, name) for name in ("loss", "top1", "top5")}
        line |= {"seconds": round(seconds, 3), "images_per_second": round(self.sums.images / max(seconds, 1e-9), 1)}
        self.history.append(line)
        self.begin_epoch(self.epoch + 1)
        improved = test is not None and (self.best is None or quality(line) > quality(self.best))
        if improved:
            self.best = line
        if self.folder is not None:
            if improved:
                with self.averaged():
                    self.folder.save_best(self.model.state_dict(), line)
            self.save()
            self.folder.add_metrics(line)
        self.progress.line(describe(line, self.epochs))

    def evaluate(self) -> Metrics | None:
        """Metrics on the test batches; those of the last time if there was no step since."""
        if self.test_loader is None or (self.tested is not None and self.tested_step == self.step):
            return self.tested
        if hasattr(self.test_loader, "set_epoch"):
            self.test_loader.set_epoch(0)  # the same order every time: sums of losses depend on it in the last bits
        self.progress.begin("testing", len(self.test_loader) if hasattr(self.test_loader, "__len__") else None)
        done = 0

        def after_batch(sums: MetricSums) -> None:
            nonlocal done
            self.progress.step(sums, sums.images - done)
            done = sums.images
            if self.ctrl_c.requested:
                raise _Stopped

        try:
            with self.averaged(), self.precision.forward():
                self.tested = evaluate(self.model, self.test_loader, self.test_loss, after_batch=after_batch)
        except _Stopped:  # only now are the model's own weights back, which the checkpoint must hold
            self.stop_if_asked()
        self.tested_step = self.step
        return self.tested

    def averaged(self) -> contextlib.AbstractContextManager:
        """The model with the averages of its weights inside, if they are taken."""
        return contextlib.nullcontext() if self.ema is None else self.ema.applied()

    def epoch_seconds(self) -> float:
        """Time spent in this epoch, before and after it was resumed."""
        return self.seconds + time.perf_counter() - self.started

    # ---- stopping and saving -------------------------------------------------------------------------------------------

    def stop_if_asked(self) -> None:
        """Save and raise Interrupted if Ctrl-C was pressed; called between two steps."""
        if not self.ctrl_c.requested:
            return
        self.progress.end()
        place = f"after step {self.step} (epoch {min(self.epoch + 1, self.epochs)})"
        if self.folder is None:
            raise Interrupted(f"stopped {place}; nothing was saved, because there is no run_dir")
        if self.epoch < self.epochs:
            self.save()
        raise Interrupted(f"stopped {place}; the checkpoint is {self.folder.last}")

    def checkpoint_is_due(self) -> bool:
        steps, seconds = self.every
        return self.folder is not None and (self.step - self.saved_step >= steps or time.monotonic() - self.saved_time >= seconds)

    def save(self) -> None:
        """Write the checkpoint of the whole state; DivergedError if it is no good one."""
        self.check_weights()
        if self.folder is not None:
            self.folder.save_last(self.state())
        self.saved_step, self.saved_time = self.step, time.monotonic()

    def additions(self) -> tuple[tuple[str, Any, str], ...]:
        return ("ema", self.ema, "averages of the weights (ema)"), ("scaler", self.precision.scaler, "a gradient scaler (amp)")

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            **{name: part.state_dict() for name, part, _ in self.additions() if part is not None},
            "rng": random.get_rng_state(),
            "progress": {
                "epoch": self.epoch,
                "batch": self.batch,
                "step": self.step,
                "place": self.place,
                "epoch_rng": self.epoch_rng,
                "sums": self.sums.state_dict(),
                "lr": self.lr,
                "history": self.history,
                "best": self.best,
                "seconds": self.epoch_seconds() if self.batch else 0.0,
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from ``state()``. Raises ValueError, and changes nothing, if it is not one of this training."""
        progress, optimizer = state["progress"], self.optimizer
        groups = optimizer.param_groups, optimizer.state
        before = [(random.set_rng_state, random.get_rng_state())]
        try:
            self.check_kinds(state)
            random.set_rng_state(state["rng"])
            for part, saved in (
                (self.model, state["model"]),
                (optimizer, state["optimizer"]),
                (self.scheduler, state["scheduler"]),
                *((part, state.get(name)) for name, part, _ in self.additions()),
                (self.train_loader, progress["place"]),
            ):
                if saved is not None:
                    old = copy.deepcopy(part.state_dict()) if part in (self.model, self.ema) else part.state_dict()
                    part.load_state_dict(saved)  # all or nothing
                    before.append((part.load_state_dict, old))
        except (ValueError, TypeError, RuntimeError) as error:
            for load, old in before:
                load(old)
            optimizer.param_groups, optimizer.state = groups  # also without the options that the run's schedule has added
            raise ValueError(f"cannot continue the run in {self.folder.path}: {error}") from error
        for name in ("epoch", "batch", "step", "place", "epoch_rng", "lr", "history", "best", "seconds"):
            setattr(self, name, progress[name])
        self.sums.load_state_dict(progress["sums"])
        self.optimizer.stepped = self.step > 0

    def check_kinds(self, state: dict[str, Any]) -> None:
        """Raise ValueError if the run had a schedule, or a loader with a state, and this training has not, or the reverse."""
        if (self.scheduler is None) != (state["scheduler"] is None):
            raise ValueError(f"it was saved {'without' if state['scheduler'] is None else 'with'} a schedule: give the same")
        for name, part, what in self.additions():
            if (part is None) != (name not in state):
                raise ValueError(f"it was saved {'with' if name in state else 'without'} {what}: give the same")
        if (self.loader_state() is None) != (state["progress"]["place"] is None):
            kind = type(self.train_loader).__name__
            raise ValueError(f"train_loader is a {kind}, but the run had another kind of loader: give the same")

    def check_weights(self) -> None:
        """Raise DivergedError if a parameter or buffer is not finite: such a state must not replace a good one."""
        bad = not_finite(self.model)
        if bad is not None:
            raise self.diverged(f"{bad} holds NaN or infinite values after step {self.step}")

    def diverged(self, what: str) -> DivergedError:
        kept = "" if self.folder is None else f"; the last good checkpoint is {self.folder.last}"
        return DivergedError(
            f"{what} (epoch {self.epoch + 1}): lower the learning rate (now {self.lr:g}), or find the "
            f"first bad value with mg.autograd.detect_anomaly() or --detect-anomaly{kept}"
        )

    def draw(self) -> None:
        if self.folder is None or not self.history:
            return
        try:
            if not self.folder.draw(self.history):
                self.progress.line("no curves.png: matplotlib is not installed (pip install matplotlib)")
        except OSError as error:
            self.progress.line(f"no curves.png: {error}")
