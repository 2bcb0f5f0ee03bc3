"""``pytest --device cuda``: the tests of ops, layers, optimizers and models on a graphics card, which they do not know of.

    pytest --device cuda tests/ops tests/nn tests/optim tests/models

While such a test runs every new tensor that is given an array of the processor has it moved to the card, and everything that is
computed from it stays there: results, gradients, states. So the same tests check the kernels of the card, against the same
references. What they look at comes back as copies (``t.numpy()``, or NumPy's functions for comparing). Tests that look into the
memory of arrays, or share it with tensors, are about the processor and are skipped (``@pytest.mark.processor(reason)``).

``--device standin`` does the same without a card, on the stand-in for CuPy of ``tests/cuda``: slow, but it finds what would fail.
The tests of kernels and those in ``tests/cuda`` run on a card, where there is one, without the option.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from minigrad.tensor import Tensor
from tests.cuda.on_device import as_cupy, cuda, has_card, to_card

FOLDERS = ("ops", "nn", "optim", "models")


def add_option(parser) -> None:
    choices = ("cpu", "cuda", "standin")
    parser.addoption(
        "--device", choices=choices, default="cpu", help="where ops, layers and models are tested; see device_option.py"
    )


def check(config) -> None:
    """Refuse ``--device cuda`` where there is no card."""
    if config.getoption("--device") == "cuda" and not has_card():
        try:
            Tensor(0.0).to("cuda")
            reason = "CuPy finds no card"
        except RuntimeError as error:
            reason = str(error)
        raise pytest.UsageError(f"--device cuda: {reason}")


def is_moved(item) -> bool:
    """Whether a test is one of those that the option moves."""
    return (
        item.config.getoption("--device") != "cpu" and item.path.relative_to(item.config.rootpath / "tests").parts[0] in FOLDERS
    )


@contextlib.contextmanager
def everything_on_the_card() -> Iterator[None]:
    """Inside, tensors are made on the card whatever they are made of."""
    before = Tensor.__init__

    def __init__(self, data, requires_grad=False, *sizes):
        before(self, data, requires_grad, *sizes)
        if isinstance(self.array, np.ndarray):
            self.array = to_card(self.array)

    with as_cupy(), cuda.module.algorithm(exact=True):  # as accurate as the processor: without TF32
        Tensor.__init__ = __init__
        try:
            yield
        finally:
            Tensor.__init__ = before
