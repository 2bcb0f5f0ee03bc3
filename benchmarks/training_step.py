"""How long one training step takes, beside PyTorch on the same machine in the same run.

    python benchmarks/training_step.py [--nets WORD ...] [--against NAME ...] [--rounds 5] [--threads N] [--out FILE.json]
    python benchmarks/training_step.py --inference [...]            the forward pass alone, in evaluation mode
    python benchmarks/training_step.py --nets WORD --steps 1000     does it slow down, or grow?

A step is forward, cross-entropy, backward, and SGD with momentum 0.9 and weight decay 5e-4, on random data. Before anything is
timed, the loss of both frameworks from the same weights must agree, and in float64 every gradient too.
"""

from __future__ import annotations

import argparse
import copy
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import networks
import numpy as np
from harness import RESULTS, alternate, load_torch, options, ratio, report, select, set_threads
from process import resident_bytes

import minigrad as mg

__all__ = ["CASES", "Case", "random_batch", "torch_form", "training_step"]

SETTINGS = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
CONTENDERS = ("torch", "torch_channels_last", "torch_compile", "numpy")


class Case(NamedTuple):
    """A network and its batch. ``checked``: how many of the images take part in the comparison of gradients in float64."""

    net: str
    batch: int
    shape: tuple[int, int, int]
    classes: int = 10
    checked: int = 2


CASES = {
    "lenet5 batch 1": Case("lenet5", 1, (1, 32, 32), checked=1),
    "lenet5 batch 64": Case("lenet5", 64, (1, 32, 32), checked=64),
    "cifar_resnet14 batch 128": Case("cifar_resnet14", 128, (3, 32, 32), checked=32),
    "cifar_resnet20 batch 128": Case("cifar_resnet20", 128, (3, 32, 32), checked=32),
    "resnet18 batch 32": Case("resnet18", 32, (3, 32, 32)),
    "vgg16_bn batch 64": Case("vgg16_bn", 64, (3, 32, 32)),
    "mobilenet_v1 batch 64": Case("mobilenet_v1", 64, (3, 32, 32)),
    "resnet50 batch 8": Case("resnet50", 8, (3, 224, 224), classes=1000),
}


def main() -> None:
    arguments = _arguments()
    names = select(CASES, arguments.nets)
    threads = set_threads(arguments.threads)
    if arguments.steps:
        for name in names:
            _drift(name, arguments.steps)
        return
    torch = load_torch(threads)
    against = _present(arguments.against, torch)
    rows = []
    for name in names:
        contenders = _contenders(CASES[name], against, torch, arguments.inference)
        figures = alternate(contenders, arguments.rounds)
        rows.append({"name": name, "figures": figures, "ratio": ratio(figures)})
        print(f"{name}: done", file=sys.stderr)
    what = "inference" if arguments.inference else "training_step"
    report(what.replace("_", " "), rows, threads, arguments.out or RESULTS / f"{what}.json")


def _arguments() -> argparse.Namespace:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--nets", nargs="+", metavar="WORD", help=f"cases whose name contains a word; all: {', '.join(CASES)}")
    parser.add_argument(
        "--against",
        nargs="+",
        choices=CONTENDERS,
        default=["torch", "torch_channels_last"],
        metavar="NAME",
        help=f"whom to compare with: {', '.join(CONTENDERS)} (minigrad's reference kernels); default the first two",
    )
    parser.add_argument("--inference", action="store_true", help="time the forward pass alone, in evaluation mode")
    parser.add_argument("--steps", type=int, help="run this many steps of minigrad: steps/s and memory for every tenth part")
    return parser.parse_args()


def _present(against: list[str], torch) -> list[str]:
    """The contenders that this machine has."""
    chosen = [name for name in against if torch is not None or not name.startswith("torch")]
    if "torch_compile" in chosen and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        print("torch_compile is left out: it needs a C++ compiler", file=sys.stderr)
        chosen.remove("torch_compile")
    return chosen


# ---- what is timed -----------------------------------------------------------------------------------------------------


def _contenders(case: Case, against: list[str], torch, inference: bool) -> dict[str, Callable[[], object]]:
    """What each contender runs, all from the same weights on the same images, after their results were compared."""
    images, labels = random_batch(case)
    model = _model(case)
    make = _forward if inference else training_step
    contenders = {"minigrad": make(mg, model, mg.tensor(images), mg.tensor(labels))}
    if torch is not None:
        other = _torch_copy(case.net, model, torch)
        _check_results(model, other, images, labels, torch, inference)
        if not inference:
            _check_gradients(model, other, images[: case.checked], labels[: case.checked], torch)
    for name in against:
        if name == "numpy":
            contenders[name] = _with_reference_kernels(make(mg, copy.deepcopy(model), mg.tensor(images), mg.tensor(labels)))
        else:
            net, x = torch_form(name, _torch_copy(case.net, model, torch), torch.from_numpy(images), torch)
            contenders[name] = make(torch, net, x, torch.from_numpy(labels))
    return contenders


def random_batch(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((case.batch, *case.shape), dtype=np.float32)
    return images, rng.integers(0, case.classes, case.batch)


def _model(case: Case):
    mg.manual_seed(0)
    return networks.create(case.net, mg)


def _torch_copy(net: str, model, torch):
    """The same network in PyTorch, with the same weights."""
    other = networks.create(net, torch)
    other.load_state_dict({key: torch.from_numpy(np.array(value.data)) for key, value in model.state_dict().items()})
    return other


def torch_form(contender: str, net, x, torch) -> tuple:
    """The network and the images as ``contender`` has them: in another memory order, or compiled."""
    if contender == "torch_channels_last":
        return net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return (torch.compile(net), x) if contender == "torch_compile" else (net, x)


def training_step(library, model, x, y) -> Callable[[], None]:
    """One training step; the same lines for both libraries."""
    model.train()
    optimizer = library.optim.SGD(model.parameters(), **SETTINGS)

    def step():
        optimizer.zero_grad()
        library.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def _forward(library, model, x, _) -> Callable[[], None]:
    """The forward pass in evaluation mode; the same lines for both libraries."""
    model.eval()

    def forward():
        with library.no_grad():
            model(x)

    return forward


def _with_reference_kernels(call: Callable[[], None]) -> Callable[[], None]:
    """``call`` with minigrad's reference kernels: plain NumPy in float64, written to be read."""

    def run():
        with _reference_kernels():
            call()

    return run


@contextmanager
def _reference_kernels() -> Iterator[None]:
    from minigrad import kernels

    def choose(value):
        kernels._by_type.clear()  # forget the choice that was made for NumPy arrays
        os.environ.pop("MINIGRAD_KERNELS", None)
        if value is not None:
            os.environ["MINIGRAD_KERNELS"] = value

    before = os.environ.get("MINIGRAD_KERNELS")
    choose("reference")
    try:
        yield
    finally:
        choose(before)


# ---- the comparison before ---------------------------------------------------------------------------------------------


def _check_results(model, other, images, labels, torch, inference: bool) -> None:
    """Raise AssertionError unless both frameworks compute the same in float32: the logits in evaluation mode, else the loss."""
    with mg.no_grad(), torch.no_grad():
        mine, theirs = model(mg.tensor(images)), other.train(not inference)(torch.from_numpy(images))
        if inference:
            _assert_close(mine.numpy(), theirs.numpy(), 1e-4, "logits")
        else:
            mine, theirs = mg.nn.functional.cross_entropy(mine, mg.tensor(labels)), _torch_loss(theirs, labels, torch)
            np.testing.assert_allclose(mine.item(), theirs.item(), rtol=1e-4, err_msg="loss")


def _check_gradients(model, other, images, labels, torch) -> None:
    """Raise AssertionError unless both frameworks compute the same gradients in float64.

    In float32 a single ReLU whose input is 0 but for rounding moves gradients by a thousandth, so they would prove little. The
    gradient of a bias before a BatchNorm is 0 but for rounding: what is tiny beside the largest gradient is not compared.
    """
    exact, other_exact = copy.deepcopy(model).double(), copy.deepcopy(other).double()
    images = images.astype(np.float64)
    mg.nn.functional.cross_entropy(exact(mg.tensor(images)), mg.tensor(labels)).backward()
    _torch_loss(other_exact(torch.from_numpy(images)), labels, torch).backward()
    gradients = [q.grad.numpy() for q in other_exact.parameters()]
    floor = 1e-12 * max(np.abs(g).max() for g in gradients)
    for (name, p), expected in zip(exact.named_parameters(), gradients, strict=True):
        _assert_close(p.grad.numpy(), expected, 1e-8, f"gradient of {name}", floor)


def _torch_loss(logits, labels, torch):
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))


def _assert_close(found, expected, tolerance: float, what: str, floor: float = 0.0) -> None:
    """Equal but for ``tolerance`` times the largest entry, and ``floor``."""
    largest = float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * largest + floor, err_msg=what)


# ---- many steps --------------------------------------------------------------------------------------------------------


def _drift(name: str, steps: int) -> None:
    """Run ``steps`` training steps of minigrad and print, for every tenth part, steps per second and resident memory."""
    case = CASES[name]
    images, labels = random_batch(case)
    step = training_step(mg, _model(case), mg.tensor(images), mg.tensor(labels))
    step()
    print(f"{name}: {steps} steps")
    done = 0
    for part in range(1, 11):
        count, start = steps * part // 10 - done, time.perf_counter()
        for _ in range(count):
            step()
        done += count
        rate = count / (time.perf_counter() - start)
        print(f"  step {done:7d}  {rate:9.2f} steps/s  {resident_bytes() / 2**20:8.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
