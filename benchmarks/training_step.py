"""How long one training step takes, beside PyTorch on the same machine in the same run.

    python benchmarks/training_step.py [--nets NAME ...] [--rounds 5] [--threads N] [--out FILE.json]

A step is forward, cross-entropy, backward, and SGD with momentum 0.9 and weight decay 5e-4, on random data. Before anything is
timed, the loss of both frameworks from the same weights must agree, and in float64 every gradient too.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path

import numpy as np
from harness import alternate, environment, ratio, set_threads, table, write_json

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import models, optim

CASES = {  # name: (model, batch, image shape)
    "lenet5 batch 1": ("lenet5", 1, (1, 32, 32)),
    "lenet5 batch 64": ("lenet5", 64, (1, 32, 32)),
    "cifar_resnet14 batch 128": ("cifar_resnet14", 128, (3, 32, 32)),
    "cifar_resnet20 batch 128": ("cifar_resnet20", 128, (3, 32, 32)),
}
SETTINGS = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", nargs="+", choices=list(CASES), default=list(CASES), help="which cases (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the contenders alternate (default 5)")
    parser.add_argument("--threads", type=int, help="threads of each contender (default: the processors)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training_step.json"), help="the JSON file")
    arguments = parser.parse_args()
    threads = set_threads(arguments.threads)
    torch = _torch(threads)
    rows = []
    for name in arguments.nets:
        contenders = _contenders(*CASES[name], torch)
        figures = alternate(contenders, arguments.rounds)
        rows.append({"name": name, "figures": figures, "ratio": ratio(figures)})
        print(f"{name}: done", file=sys.stderr)
    found = environment(threads)
    print(table(rows))
    print(f"{found['processor']}, {threads} threads ({found['threading_layer']}), {found['versions']}")
    write_json(arguments.out, {"benchmark": "training step", "unit": "seconds", "environment": found, "rows": rows})


def _torch(threads: int):
    """PyTorch, limited to ``threads``, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: timing minigrad alone", file=sys.stderr)
        return None
    torch.set_num_threads(threads)
    return torch


def _contenders(model_name: str, batch: int, shape: tuple[int, ...], torch) -> dict:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, *shape), dtype=np.float32)
    labels = rng.integers(0, 10, batch)
    mg.manual_seed(0)
    model = models.create(model_name)
    contenders = {}
    if torch is not None:
        from torch_models import create

        state = {key: torch.from_numpy(np.array(value.data)) for key, value in model.state_dict().items()}
        for layout in ("torch", "torch channels_last"):
            other = create(model_name)
            other.load_state_dict(state)
            x = torch.from_numpy(images)
            if layout == "torch channels_last":
                other, x = other.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
            else:
                _compare(model, images, labels, other, torch)
            contenders[layout] = _torch_step(torch, other, x, torch.from_numpy(labels))
    return {"minigrad": _step(model, mg.tensor(images), mg.tensor(labels)), **contenders}


def _step(model, x, y):
    optimizer = optim.SGD(model.parameters(), **SETTINGS)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def _torch_step(torch, model, x, y):
    optimizer = torch.optim.SGD(model.parameters(), **SETTINGS)

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def _compare(model, images, labels, other, torch) -> None:
    """Raise AssertionError unless both frameworks compute the same loss, and in float64 the same gradients.

    In float32 a single ReLU whose input is 0 but for rounding moves gradients by a thousandth, so they would prove little.
    """
    with mg.no_grad(), torch.no_grad():
        mine = F.cross_entropy(model(mg.tensor(images)), mg.tensor(labels))
        theirs = torch.nn.functional.cross_entropy(other(torch.from_numpy(images)), torch.from_numpy(labels))
    np.testing.assert_allclose(mine.item(), theirs.item(), rtol=1e-5)
    exact, other_exact = copy.deepcopy(model).double(), copy.deepcopy(other).double()
    images = images.astype(np.float64)
    F.cross_entropy(exact(mg.tensor(images)), mg.tensor(labels)).backward()
    torch.nn.functional.cross_entropy(other_exact(torch.from_numpy(images)), torch.from_numpy(labels)).backward()
    for (name, p), q in zip(exact.named_parameters(), other_exact.parameters(), strict=True):
        expected = q.grad.numpy()
        np.testing.assert_allclose(p.grad.numpy(), expected, rtol=0, atol=1e-9 * np.abs(expected).max(), err_msg=name)


if __name__ == "__main__":
    main()
