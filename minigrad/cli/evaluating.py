"""``minigrad eval``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minigrad.cli.machine import add_machine, set_threads

__all__ = ["add_eval"]


def add_eval(parser: argparse.ArgumentParser) -> None:
    runs = "the folder of a run, or a file of weights that a run wrote; of several runs the average"
    parser.add_argument("runs", metavar="RUN", nargs="+", help=runs)
    parser.add_argument("--views", choices=("one", "flip", "ten-crop"), default="one", help="of each image, to be averaged")
    parser.add_argument("--data-dir", metavar="DIR", help="the folder of data sets (default: that of the training)")
    add_machine(parser.add_argument)
    parser.set_defaults(run=_eval)


def _eval(options: argparse.Namespace) -> None:
    from minigrad.training.ensemble import average_metrics, probabilities
    from minigrad.training.images import has_masks

    set_threads(options.threads)
    jobs = [_trained(Path(run), options) for run in options.runs]
    first = jobs[0]
    if any(has_masks(job.test_loader.dataset) for job in jobs):
        return _eval_pixels(jobs, options)
    for job, run in zip(jobs[1:], options.runs[1:], strict=True):
        if (job.options.data, job.classes) != (first.options.data, first.classes):
            raise ValueError(
                f"{run} has learned {job.options.data}, {options.runs[0]} {first.options.data}: an average needs one"
            )
    found = [probabilities(job.model, job.test_loader, options.views) for job in jobs]
    if len(jobs) > 1:
        for job, run, opinion in zip(jobs, options.runs, found, strict=True):
            print(f"{run}  {job.options.model}  {average_metrics([opinion[0]], opinion[1]).top1:.2%}")
    metrics = average_metrics([p for p, _ in found], found[0][1])
    models = " + ".join(dict.fromkeys(job.options.model for job in jobs)) if len(jobs) > 1 else first.options.model
    which = f"{len(jobs)} models averaged" if len(jobs) > 1 else f"weights {_weights_of(Path(options.runs[0]))}"
    views = "" if options.views == "one" else f", views: {options.views}"
    print(f"{models} on the {metrics.n:,} test images of {first.options.data}, {which}{views}")
    print(f"loss   {metrics.loss:.4f}\ntop-1  {metrics.top1:.2%}")
    if len(first.classes) > 5:
        print(f"top-5  {metrics.top5:.2%}")
    print(_confusion_text(metrics, first.classes))


def _eval_pixels(jobs: list, options: argparse.Namespace) -> None:
    """One network that gives every pixel a class."""
    from minigrad.training import evaluate

    if len(jobs) > 1 or options.views != "one":
        raise ValueError("averages are of networks that give an image one class: name one run, without --views")
    job = jobs[0]
    metrics = evaluate(job.model, job.test_loader, job.test_loss)
    images, weights = len(job.test_loader.dataset), _weights_of(Path(options.runs[0]))
    print(
        f"{job.options.model} on the {metrics.n:,} pixels of the {images:,} test images of {job.options.data}, weights {weights}"
    )
    print(f"loss   {metrics.loss:.4f}\npixels {metrics.top1:.2%}\n{iou_text(metrics, job.classes)}")
    print(_confusion_text(metrics, job.classes))


def iou_text(metrics: Any, classes: Sequence[str]) -> str:
    """One line: intersection over union of each class (of the first ten), and their mean."""
    import numpy as np

    shares = metrics.iou
    parts = [f"{name} {share:.3f}" for name, share in zip(classes[:10], shares[:10].tolist(), strict=False) if share == share]
    return f"IoU    {np.nanmean(shares):.3f} ({', '.join(parts)}{', ...' if len(classes) > 10 else ''})"


def _weights_of(path: Path) -> Path:
    """The file of weights of a run's folder, or the file itself."""
    if not path.is_dir():
        return path
    return next((p for p in (path / "best.safetensors", path / "last.safetensors") if p.is_file()), path / "best.safetensors")


def _trained(path: Path, options: argparse.Namespace) -> Any:
    """The job of a run or of a file that a run wrote, with the weights that it learned."""
    from minigrad.training.job import Job
    from minigrad.weights import CheckpointError, load, read_metadata

    path = _weights_of(path)
    state = load(path)
    config = read_metadata(path).get("config", {})
    changes = {} if options.data_dir is None else {"data_dir": options.data_dir}
    try:
        job = Job.from_config(config, options.workers, training=False, **changes)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be evaluated: {error}") from None
    if "model" in state and "optimizer" in state:  # a checkpoint of a whole run
        state = {**state["model"], **state.get("ema", {}).get("averages", {})}
    job.model.load_state_dict(state)
    return job


def _confusion_text(metrics: Any, classes: Sequence[str]) -> str:
    """The confusion matrix with the classes' names; of many classes only the worst ten, without it."""
    shares = metrics.per_class
    if len(classes) > 20:
        worst = sorted((k for k in range(len(classes)) if shares[k] == shares[k]), key=lambda k: shares[k])[:10]
        return "\n".join(["classes with the lowest accuracy:", *(f"  {classes[k]}  {shares[k]:.1%}" for k in worst)])
    names = [name[:12] for name in classes]
    rows = [["true \\ predicted", *names, "accuracy"]]
    for name, counts, share in zip(names, metrics.confusion, shares, strict=True):
        rows.append([name, *map(str, counts), "" if share != share else f"{share:.1%}"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [[row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))] for row in rows]
    return "\n".join("  ".join(line) for line in lines)
