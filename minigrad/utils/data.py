"""PyTorch's place for data sets and the loader, which are in ``minigrad.data``."""

from __future__ import annotations

from minigrad._names import missing
from minigrad.data import DataLoader, Dataset, Subset, TensorDataset, random_split

__all__ = ["DataLoader", "Dataset", "Subset", "TensorDataset", "random_split"]


def __getattr__(name: str):
    raise missing("minigrad.utils.data", name, __all__)
