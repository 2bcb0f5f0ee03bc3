"""The ``minigrad`` command: train, eval, models, summary, diff, info, warmup.

Wrong input ends with one line on standard error and status 2, an interrupted run with 130, a diverged one with 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]

# Options of ``train`` that decide what is computed: they are kept in the run and cannot be given again to continue it.
RECIPE = (
    *("data", "model", "epochs", "batch_size", "lr", "momentum", "weight_decay", "schedule", "augment", "image_size", "seed"),
    *("weights", "freeze_until", "head_only", "train_images"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (those of the process by default); returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt as error:
        print(str(error) or "stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("MINIGRAD_DEBUG", "0") not in ("", "0"):
            raise
        return _fail(error)
    return 0


def _fail(error: Exception) -> int:
    """Say in one line what is wrong; returns the exit status."""
    from minigrad.training import DivergedError

    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without the number in front
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(text.split()) or type(error).__name__
    known = isinstance(error, (ValueError, TypeError, OSError, RuntimeError, ImportError))
    if not known:
        text = f"{type(error).__name__}: {text} (MINIGRAD_DEBUG=1 shows where)"
    print(f"minigrad: {text}", file=sys.stderr)
    return 1 if isinstance(error, DivergedError) or not known else 2


# ---- arguments ---------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"minigrad: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="minigrad", description="Convolutional networks from scratch on NumPy.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_train(commands.add_parser("train", help="train a model (by default a ResNet on the digits that come with minigrad)"))
    _add_eval(commands.add_parser("eval", help="evaluate a trained model on the test images of its data set"))
    models = commands.add_parser("models", help="list the architectures: year, parameters, MACs, paper")
    models.add_argument("words", metavar="WORD", nargs="*", help="only those with one of these words in the name")
    models.set_defaults(run=_models)
    _add_summary(commands.add_parser("summary", help="show the layers of a model: shapes, parameters, MACs, receptive fields"))
    _add_diff(commands.add_parser("diff", help="what differs between two architectures, layer by layer"))
    info = commands.add_parser("info", help="show what is installed here, what is fast, and what is missing")
    info.set_defaults(run=_info)
    warmup = commands.add_parser(
        "warmup", help="compile all kernels for this machine, so that nothing has to wait for that later"
    )
    warmup.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of the arrays (default float32)")
    warmup.set_defaults(run=_warmup)
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", metavar="NAME", help="digits (default), mnist, fashion-mnist, kmnist, cifar10, cifar100, or folder")
    add("--data-dir", metavar="DIR", help="the folder of data sets, or of the images for --data folder")
    add("--model", metavar="NAME", help="an architecture of 'minigrad models' (default: what suits the data)")
    add("--epochs", type=int, help="passes over the training images")
    add("--batch-size", type=int, help="images in a step")
    add("--lr", type=float, help="learning rate; the highest one of a schedule")
    add("--momentum", type=float, help="momentum of SGD")
    add("--weight-decay", type=float, help="this times the weight is added to every gradient")
    add("--schedule", metavar="NAME", help="of the learning rate: one-cycle, cosine, step or constant")
    add("--augment", action=argparse.BooleanOptionalAction, help="change the training images at random (default: yes)")
    add("--image-size", type=int, metavar="PIXELS", help="height and width, for --data folder")
    add("--seed", type=int, help="of weights, order and augmentation (default 0); the same seed gives the same bits")
    add("--weights", metavar="FILE", help="begin with the weights of this file (minigrad's, safetensors, or PyTorch's)")
    add("--freeze-until", metavar="MODULE", help="learn only what comes after this module of the model, as layer3")
    add("--head-only", action="store_const", const=True, help="learn only the last layer, on features computed once")
    add("--train-images", type=int, metavar="N", help="use only N training images, drawn by the seed")
    add("--device", help="cpu (default) or cuda")
    _add_machine(parser)
    add("--out", metavar="DIR", help="a new folder for this run (default: runs/DATA-MODEL-NUMBER)")
    add("--resume", metavar="DIR", help="continue the run in this folder where it stopped")
    add("--checkpoint-every", metavar="N", default="60s", help='steps (50) or seconds ("60s") between checkpoints')
    add("--max-steps", type=int, metavar="N", help="stop after so many steps")
    add("--detect-anomaly", action="store_true", help="name the first op that gives NaN or Inf (slow)")
    add("--progress", choices=("auto", "bar", "lines", "off"), default="auto", help="auto: a bar on a terminal, else lines")
    parser.set_defaults(run=_train)


def _add_eval(parser: argparse.ArgumentParser) -> None:
    runs = "the folder of a run, or a file of weights that a run wrote; of several runs the average"
    parser.add_argument("runs", metavar="RUN", nargs="+", help=runs)
    parser.add_argument("--views", choices=("one", "flip", "ten-crop"), default="one", help="of each image, to be averaged")
    parser.add_argument("--data-dir", metavar="DIR", help="the folder of data sets (default: that of the training)")
    _add_machine(parser)
    parser.set_defaults(run=_eval)


def _add_summary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an architecture of 'minigrad models'")
    parser.add_argument("--num-classes", type=int, metavar="N", help="outputs (default: the model's own)")
    parser.add_argument("--in-channels", type=int, metavar="N", help="channels of the image (default: the model's own)")
    _add_input(parser)
    parser.add_argument("--depth", type=int, metavar="N", help="levels of submodules to show (default: all)")
    parser.set_defaults(run=_summary)


def _add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", metavar="MODEL", nargs=2, help="two architectures of 'minigrad models'")
    _add_input(parser)
    parser.set_defaults(run=_diff)


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", metavar="CxHxW", help="size of an image, as 3x224x224 (default: the model's own)")
    parser.add_argument("--image-size", type=int, nargs="+", metavar="PIXELS", help="one number, or height and width")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, metavar="N", help="threads of a kernel (default: all processors)")
    parser.add_argument("--workers", type=int, metavar="N", default=1, help="threads that prepare batches ahead (default 1)")


# ---- train and eval ----------------------------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> None:
    from contextlib import nullcontext

    from minigrad.autograd import detect_anomaly
    from minigrad.training import fit
    from minigrad.training.arguments import parse_interval
    from minigrad.training.job import Job, Options

    parse_interval(options.checkpoint_every)
    _set_threads(options.threads)
    if options.resume is None:
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
        )
    _report(history, job, folder)


def _job_to_resume(options: argparse.Namespace) -> Any:
    from minigrad.training.job import Job
    from minigrad.training.run_folder import RunFolder

    given = [name for name in (*RECIPE, "device", "out") if getattr(options, name) is not None]
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
    print(f"test accuracy {test.top1:.2%} ({right:,} of {test.n:,} images of {job.options.data})")


def _eval(options: argparse.Namespace) -> None:
    from minigrad.training.ensemble import average_metrics, probabilities

    _set_threads(options.threads)
    jobs = [_trained(Path(run), options) for run in options.runs]
    first = jobs[0]
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
        state = state["model"]
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


def _set_threads(n: int | None) -> None:
    if n is not None:
        from minigrad.kernels.cpu import set_num_threads

        try:
            set_num_threads(n)
        except ValueError as error:
            raise ValueError(f"--threads: {error}") from None


# ---- models, summary, info, warmup -------------------------------------------------------------------------------------


def _models(options: argparse.Namespace) -> None:
    from minigrad import models

    chosen = [n for n in models.list() if not options.words or any(word in n for word in options.words)]
    if not chosen:
        raise ValueError(f"no architecture has {' or '.join(map(repr, options.words))} in its name: see minigrad models")
    rows = [("name", "year", "parameters", "MACs", "input", "paper")]
    for m in map(models.info, chosen):
        shape = "x".join(map(str, m.input_shape))
        paper = f"{m.paper.title} ({m.paper.authors.split(',')[0]} et al.)" if "," in m.paper.authors else str(m.paper.title)
        rows.append((m.name, str(m.year), f"{m.parameters:,}", _macs(m.macs), shape, paper))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for name, year, parameters, macs, shape, paper in rows:
        print(f"{name:<{widths[0]}}  {year}  {parameters:>{widths[2]}}  {macs:>{widths[3]}}  {shape:<{widths[4]}}  {paper}")


def _macs(n: int) -> str:
    """ "4.09 G"."""
    return f"{n / 1e9:.3g} G" if n >= 1e9 else f"{n / 1e6:.3g} M"


def _input(options: argparse.Namespace, name: str) -> tuple[int, int, int]:
    """(C, H, W) that --input or --image-size give, or the model's own."""
    from minigrad import models
    from minigrad.kernels.geometry import pair

    channels, *size = models.info(name).input_shape
    if options.input is not None:
        if options.image_size is not None:
            raise ValueError("give --input or --image-size, not both")
        sizes = options.input.lower().split("x")
        if len(sizes) != 3 or not all(n.isdigit() and int(n) for n in sizes):
            raise ValueError(f"--input takes channels x height x width, as 3x224x224, got {options.input!r}")
        return tuple(int(n) for n in sizes)
    if options.image_size is not None:
        if len(options.image_size) > 2:
            raise ValueError(f"--image-size takes one number, or height and width, got {len(options.image_size)} numbers")
        size = pair(options.image_size[0] if len(options.image_size) == 1 else tuple(options.image_size), "--image-size", 1)
    return (getattr(options, "in_channels", None) or channels, *size)


def _described(options: argparse.Namespace, name: str, shape: tuple[int, int, int], depth: int | None = None) -> Any:
    """The summary of a model for images of a shape; its weights are not drawn, for nobody looks at them."""
    from minigrad import models
    from minigrad.nn import init
    from minigrad.training import summary

    channels = getattr(options, "in_channels", None) or shape[0]
    with init.skipped():
        model = models.create(name, getattr(options, "num_classes", None), channels)
    return summary(model, shape, depth)


def _summary(options: argparse.Namespace) -> None:
    from minigrad import models

    print(models.info(options.model).paper)
    print(_described(options, options.model, _input(options, options.model), options.depth))


def _diff(options: argparse.Namespace) -> None:
    from minigrad.training.difference import difference

    first, second = options.models
    shapes = [_input(options, name) for name in options.models]
    made = [_described(options, name, shape) for name, shape in zip(options.models, shapes, strict=True)]
    if shapes[0] != shapes[1]:
        print(
            f"{first} is made for {'x'.join(map(str, shapes[0]))} and {second} for {'x'.join(map(str, shapes[1]))}: see --input"
        )
    print(difference(*made, (first, second)))


def _info(options: argparse.Namespace) -> None:
    from minigrad.training.report import report

    print(report())


def _warmup(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from minigrad.kernels.cpu import compilation_stats, warmup

    with tqdm(total=1, unit="kernel", dynamic_ncols=True, bar_format="{l_bar}{bar}| {n}/{total} [{elapsed}]") as bar:
        for done, total, name in warmup(options.dtype):
            bar.total, bar.n = total, done
            bar.set_description(name or "done")
    stats = compilation_stats()
    kept = f"kept in {stats.directory}" if stats.directory else "which cannot be kept for the next process"
    print(f"{stats.compiled} kernels compiled and {stats.loaded} found, {kept}")


if __name__ == "__main__":
    sys.exit(main())
