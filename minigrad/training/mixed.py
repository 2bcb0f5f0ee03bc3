"""Mixed precision in the training loop: autocast around the forward pass, and for float16 a scale for the loss."""

from __future__ import annotations

import contextlib

import numpy as np

from minigrad.amp import GradScaler
from minigrad.device import bfloat16
from minigrad.nn import Module
from minigrad.nn.utils import clip_grad_norm_
from minigrad.optim import Optimizer
from minigrad.precision import autocast
from minigrad.tensor import Tensor
from minigrad.training.evaluation import device_of_model

__all__ = ["AMP", "Precision"]

AMP = ("fp16", "bf16")


class Precision:
    """How a model is trained: ``amp`` is "fp16", "bf16", or None for the dtype of its parameters."""

    def __init__(self, model: Module, amp: str | None = None):
        if amp not in (*AMP, None):
            raise ValueError(f"amp must be {', '.join(map(repr, AMP))} or None, got {amp!r}")
        self.model = model
        self.dtype = None if amp is None else np.dtype(np.float16) if amp == "fp16" else bfloat16()
        # float16 cannot hold small gradients; where they are depends on the model, so the scale has to find its size
        self.scaler = GradScaler(device_of_model(model).type) if amp == "fp16" else None

    def forward(self) -> contextlib.AbstractContextManager:
        """What the forward pass and the loss have to be inside of."""
        return contextlib.nullcontext() if self.dtype is None else autocast(device_of_model(self.model).type, self.dtype)

    def step(self, loss: Tensor, optimizer: Optimizer, clip_norm: float | None) -> None:
        """Backward, and the optimizer's step, which is left out where the scale was too large."""
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward()
        if clip_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)
            clip_grad_norm_(self.model.parameters(), clip_norm)
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()
