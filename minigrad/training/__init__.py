"""Training and evaluating models, and describing them: ``fit``, ``evaluate``, ``summary``."""

from __future__ import annotations

from minigrad._names import missing
from minigrad.training.evaluation import evaluate
from minigrad.training.loop import DivergedError, History, Interrupted, fit
from minigrad.training.metrics import Metrics
from minigrad.training.summary import Summary, summary

__all__ = ["DivergedError", "History", "Interrupted", "Metrics", "Summary", "evaluate", "fit", "summary"]


def __getattr__(name: str):
    raise missing("minigrad.training", name, __all__)
