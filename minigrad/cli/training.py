"""``minigrad train`` and ``recipes``."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path
from typing import Any

from minigrad.cli.evaluating import iou_text
from minigrad.cli.machine import add_machine, set_threads

__all__ = ["add_recipes", "add_train"]

# Options of ``train`` that decide what is computed: they are kept in the run and cannot be given again to continue it.
RECIPE = (
    *("recipe", "data", "model", "model_options", "epochs", "batch_size", "image_size", "instances", "train_images", "seed"),
    *("optimizer", "lr", "momentum", "nesterov", "weight_decay", "schedule", "warmup"),
    *("augment", "normalize", "label_smoothing", "mixup", "cutmix", "ema"),
    *("weights", "freeze_until", "head_only", "lr_factor", "amp"),
)


def add_train(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what is trained").add_argument
    what("--recipe", metavar="NAME", help="a published recipe of 'minigrad recipes'; other options replace its values")
    what("--data", metavar="NAME", help="digits (default), mnist, fashion-mnist, kmnist, cifar10, cifar100, folder, cells, masks")
    what("--data-dir", metavar="DIR", help="the folder of data sets, or of the images for --data folder and masks")
    what("--image-size", type=int, metavar="PIXELS", help="height and width, for --data folder, masks and cells")
    what("--instances", action="store_const", const=True, help="for --data masks: masks number the cells instead of classes")
    what("--train-images", type=int, metavar="N", help="use only N training images, drawn by the seed")
    what("--model", metavar="NAME", help="an architecture of 'minigrad models' (default: what suits the data)")
    what("--model-option", metavar="NAME=VALUE", action="append", help="a further argument of the model, as dropout=0.3")
    what("--seed", type=int, help="of weights, order and augmentation (default 0); the same seed gives the same bits")
    _add_how(parser)
    transfer = parser.add_argument_group("going on from weights that were learned before").add_argument
    transfer("--weights", metavar="FILE", help="begin with the weights of this file (minigrad's, safetensors, or PyTorch's)")
    transfer("--freeze-until", metavar="MODULE", help="learn only what comes after this module of the model, as layer3")
    transfer("--head-only", action="store_const", const=True, help="learn only the last layer, on features computed once")
    transfer("--lr-factor", type=float, metavar="F", help="each part of the model learns at F times the rate of the next one")
    run = parser.add_argument_group("the run").add_argument
    run("--device", help="cpu (default) or cuda")
    run("--amp", metavar="TYPE", help="mixed precision: bf16 or fp16 (fast on a graphics card)")
    add_machine(run)
    run("--out", metavar="DIR", help="a new folder for this run (default: runs/DATA-MODEL-NUMBER)")
    run("--resume", metavar="DIR", help="continue the run in this folder where it stopped")
    run("--checkpoint-every", metavar="N", default="60s", help='steps (50) or seconds ("60s") between checkpoints')
    run("--max-steps", type=int, metavar="N", help="stop after so many steps")
    run("--detect-anomaly", action="store_true", help="name the first op that gives NaN or Inf (slow)")
    run("--progress", choices=("auto", "bar", "lines", "off"), default="auto", help="auto: a bar on a terminal, else lines")
    parser.set_defaults(run=_train)


def _add_how(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how it is trained (default: what suits the data)").add_argument
    how("--epochs", type=int, help="passes over the training images; a recipe's schedule is drawn together to them")
    how("--batch-size", type=int, help="images in a step")
    how("--optimizer", metavar="NAME", help="sgd, rmsprop, adam or adamw")
    how("--lr", type=float, help="learning rate; the highest one of a schedule")
    how("--momentum", type=float, help="momentum of sgd and rmsprop")
    how("--nesterov", action=argparse.BooleanOptionalAction, help="momentum in Nesterov's form")
    how("--weight-decay", type=float, help="this times the weight is added to every gradient")
    how("--schedule", metavar="NAME", help="of the learning rate: one-cycle, cosine, step, exponential, plateau or constant")
    how("--warmup", type=float, metavar="EPOCHS", help="in which the rate rises from a tenth")
    how("--augment", metavar="NAME", help="change of training images: none, standard, alexnet, inception or elastic")
    how("--no-augment", dest="augment", action="store_const", const="none", help="the same as --augment none")
    how("--normalize", metavar="NAME", help="with whose mean and deviation: own (the data set's), imagenet or half")
    how("--label-smoothing", type=float, metavar="P", help="spread this part of the target's probability over all classes")
    how("--mixup", type=float, metavar="ALPHA", help="mix images in pairs (0.2 to 1)")
    how("--cutmix", type=float, metavar="ALPHA", help="exchange rectangles of images in pairs (1)")
    how("--ema", type=float, metavar="DECAY", help="evaluate and keep averages of the weights (0.999)")


def add_recipes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="show all values of this one")
    parser.set_defaults(run=_recipes)


def _recipes(options: argparse.Namespace) -> None:
    import dataclasses

    from minigrad.training.recipes import RECIPES, published

    if options.name is not None:
        values = dataclasses.asdict(published(options.name))
        for name, value in values.items():
            print(f"{name.replace('_', '-'):<16}  {'' if value in (None, {}) else value}")
        return
    rows = [("name", "model", "data", "epochs", "batch", "optimizer", "lr", "schedule")]
    for name, r in RECIPES.items():
        rows.append((name, r.model, r.data, str(r.epochs), str(r.batch_size), r.optimizer, f"{r.lr:g}", r.schedule))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def model_options(given: list[str] | None) -> dict[str, Any] | None:
    """{"dropout": 0.3} from ["dropout=0.3"]; values are Python's, and texts where they are none."""
    if given is None:
        return None
    found = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise ValueError(f"--model-option takes NAME=VALUE, as dropout=0.3, got {text!r}")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def _train(options: argparse.Namespace) -> None:
    from contextlib import nullcontext

    from minigrad.autograd import detect_anomaly
    from minigrad.training import fit
    from minigrad.training.arguments import parse_interval
    from minigrad.training.job import Job
    from minigrad.training.options import Options

    parse_interval(options.checkpoint_every)
    set_threads(options.threads)
    if options.resume is None:
        options.model_options = model_options(options.model_option)
        given = {name: getattr(options, name) for name in (*RECIPE, "data_dir", "device")}
        job = Job(Options.resolve(**given), options.workers)
        folder = Path(options.out) if options.out else _free_folder(job.options)
    else:
        job, folder = _job_to_resume(options), Path(options.resume)
    progress = {"auto": True, "off": False}.get(options.progress, options.progress)
    if progress:
        print(f"{job.describe()}\nrun    {folder}", flush=True)
    with detect_anomaly() if options.detect_anomaly else nullcontext():
        history = fit(
            job.learner,
            job.train_loader,
            job.test_loader,
            job.optimizer,
            job.scheduler,
            epochs=job.options.epochs,
            run_dir=folder,
            resume=options.resume is not None,
            checkpoint_every=options.checkpoint_every,
            max_steps=options.max_steps,
            progress=progress,
            config=job.config,
            **job.additions,
        )
    _report(history, job, folder)


def _job_to_resume(options: argparse.Namespace) -> Any:
    from minigrad.training.job import Job
    from minigrad.training.run_folder import RunFolder

    names = ("model_option" if name == "model_options" else name for name in (*RECIPE, "device", "out"))
    given = [name for name in names if getattr(options, name) is not None]
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} cannot be changed in a run that is continued: leave it out")
    config = RunFolder.open(options.resume).config
    changes = {} if options.data_dir is None else {"data_dir": options.data_dir}
    try:
        return Job.from_config(config, options.workers, **changes)
    except ValueError as error:
        raise type(error)(f"{options.resume} cannot be continued: {error}") from None


def _free_folder(options: Any) -> Path:
    """The first of runs/DATA-MODEL-1, -2, ... that does not exist."""
    number = 1
    while (path := Path("runs", f"{options.data}-{options.model}-{number}")).exists():
        number += 1
    return path


def _report(history: Any, job: Any, folder: Path) -> None:
    best, test = history.best, history.test
    curves = f"; curves: {folder / 'curves.png'}" if (folder / "curves.png").exists() else ""
    print(f"{history.steps:,} steps in {history.seconds:.1f} s{curves}")
    if best is not None and best["test_top1"] > test.top1:
        print(f"best test accuracy {best['test_top1']:.2%} after epoch {best['epoch']}: {folder / 'best.safetensors'}")
    right = round(test.top1 * test.n)
    samples = "images" if test.n == len(job.test_loader.dataset) else "pixels of the images"
    print(f"test accuracy {test.top1:.2%} ({right:,} of {test.n:,} {samples} of {job.options.data})")
    if samples != "images":
        print(iou_text(test, job.classes))
