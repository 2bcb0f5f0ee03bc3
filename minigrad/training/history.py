"""What ``fit`` returns and raises, and the lines that tell of an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigrad.device import array_module, is_floating
from minigrad.nn import Module
from minigrad.training.metrics import Metrics

__all__ = ["DivergedError", "History", "Interrupted", "describe", "not_finite", "quality"]


class DivergedError(RuntimeError):
    """The loss or the weights became infinite or NaN. The last checkpoint is from before."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after a whole step. The message says how to continue."""


@dataclass
class History:
    """What ``fit`` returns.

    ``epochs``   one dictionary for each epoch, as in ``metrics.jsonl``
    ``best``     the one with the best test accuracy (the lower loss among equals); None without a test loader
    ``test``     metrics on the test loader at the end; None without one
    ``steps``    updates of the parameters
    ``seconds``  time in all epochs, interruptions not counted
    ``run_dir``  the run folder, or None
    """

    epochs: list[dict[str, Any]]
    best: dict[str, Any] | None
    test: Metrics | None
    steps: int
    seconds: float
    run_dir: Path | None


def describe(line: dict[str, Any], epochs: int) -> str:
    """One line of text for an epoch."""
    width = len(str(epochs))
    text = f"epoch {line['epoch']:>{width}}/{epochs}  loss {line['train_loss']:.3f}  accuracy {line['train_top1']:.2%}"
    if "test_loss" in line:
        text += f"  |  test loss {line['test_loss']:.3f}  accuracy {line['test_top1']:.2%}"
    return f"{text}  |  lr {line['lr']:.2g}  {line['seconds']:.1f} s  {line['images_per_second']:,.0f} images/s"


def not_finite(model: Module) -> str | None:
    """The name of the first parameter or buffer that holds NaN or an infinity."""
    for name, tensor in model.state_dict().items():
        if is_floating(tensor.data.dtype) and not bool(array_module(tensor.data).isfinite(tensor.data).all()):
            return name
    return None


def quality(line: dict[str, Any]) -> tuple[float, float]:
    """What the best epoch has most of: the test accuracy, and among equals the lower loss."""
    loss = line["test_loss"]
    return line["test_top1"], -math.inf if math.isnan(loss) else -loss
