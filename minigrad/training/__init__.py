"""Training and evaluating models, and describing them: ``fit``, ``evaluate``, ``summary``."""

from __future__ import annotations

from minigrad._names import missing
from minigrad.training.evaluation import evaluate
from minigrad.training.loop import DivergedError, History, Interrupted, fit
from minigrad.training.metrics import Metrics

__all__ = ["DivergedError", "History", "Interrupted", "Metrics", "evaluate", "fit"]


def __getattr__(name: str):
    raise missing("minigrad.training", name, __all__)
