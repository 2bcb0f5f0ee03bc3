"""Optimizers, learning-rate schedules and averages of weights."""

from minigrad.optim import lr_scheduler
from minigrad.optim.adam import Adam, AdamW
from minigrad.optim.ema import ExponentialMovingAverage
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.rmsprop import RMSprop
from minigrad.optim.sgd import SGD

__all__ = ["Adam", "AdamW", "ExponentialMovingAverage", "Optimizer", "RMSprop", "SGD", "lr_scheduler"]
