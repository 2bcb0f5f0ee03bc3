"""PyTorch's places for things that are not layers: ``utils.data``, ``utils.checkpoint``, ``utils.model_zoo``."""

from __future__ import annotations

from minigrad._names import missing
from minigrad.utils import checkpoint, data, model_zoo

__all__ = ["checkpoint", "data", "model_zoo"]

# What PyTorch has and minigrad leaves out: name -> what to do instead.
_OUTSIDE = {
    "benchmark": "Python's timeit measures as well",
    "cpp_extension": "a kernel of your own is a NumPy or Numba function in a minigrad.autograd.Function",
    "mobile_optimizer": "minigrad runs networks as they are",
    "tensorboard": "minigrad.training.fit writes metrics and learning curves into its run folder",
}


def __getattr__(name: str):
    if name in _OUTSIDE:
        raise AttributeError(f"minigrad.utils has no attribute {name!r}: {_OUTSIDE[name]}", name=name)
    raise missing("minigrad.utils", name, __all__)
