"""Data sets: what a loader needs (``len``, one sample, a batch of samples), and the ones that wrap tensors or other data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import random
from minigrad.tensor import Tensor

__all__ = ["Dataset", "Subset", "TensorDataset", "collate", "gather", "random_split"]


class Dataset:
    """Base of data sets: a subclass gives ``__len__`` and ``__getitem__(index)``, one sample, usually ``(image, label)``.

    ``batch(indices)`` gives many samples at once; the default stacks single ones, a data set that keeps its samples in
    arrays does better. With ``DataLoader(num_workers=...)`` both are called from several threads.
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def batch(self, indices: Sequence[int]) -> Any:
        """The samples ``indices``, stacked along a new first axis (see ``collate``)."""
        return collate([self[int(i)] for i in indices])


class TensorDataset(Dataset):
    """Samples that are the rows of tensors (or arrays) of equal length: sample i is ``(tensors[0][i], tensors[1][i], ...)``."""

    def __init__(self, *tensors: Tensor | np.ndarray):
        if not tensors:
            raise ValueError("TensorDataset needs at least one tensor")
        for t in tensors:
            if not hasattr(t, "shape") or not hasattr(t, "dtype"):
                raise TypeError(f"TensorDataset takes tensors or arrays, got {type(t).__name__}: wrap it in mg.tensor(...)")
            if len(t.shape) == 0:
                raise ValueError("TensorDataset takes tensors with at least one axis, got a single number")
        if len({t.shape[0] for t in tensors}) > 1:
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
            raise ValueError(f"all tensors of a TensorDataset must have the same first size, got shapes {shapes}")
        self.tensors = tensors

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: int) -> tuple:
        return tuple(t[index] for t in self.tensors)

    def batch(self, indices: Sequence[int]) -> tuple:
        """Arrays of the rows ``indices``."""
        rows = np.asarray(indices)
        return tuple((t.data if isinstance(t, Tensor) else t)[rows] for t in self.tensors)

    def __repr__(self) -> str:
        return f"TensorDataset({', '.join(str(tuple(t.shape)) for t in self.tensors)})"


class Subset(Dataset):
    """The samples ``indices`` of another data set, in that order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]):
        rows = np.asarray(indices)
        if rows.size == 0:
            rows = rows.astype(np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise TypeError(f"indices must be a list of integers, got {rows.dtype} of shape {rows.shape}")
        size = len(dataset)
        if rows.size and not (-size <= rows.min() and rows.max() < size):
            raise IndexError(f"indices must lie in 0 ... {size - 1}, got {rows.min()} ... {rows.max()}")
        self.dataset = dataset
        self.indices = np.where(rows < 0, rows + size, rows).astype(np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def batch(self, indices: Sequence[int]) -> Any:
        """The samples ``indices`` of this subset, stacked."""
        return gather(self.dataset, self.indices[np.asarray(indices)])

    @property
    def batch_transform(self):
        """The transform of the data set behind it, which a loader applies to whole batches."""
        return getattr(self.dataset, "batch_transform", None)

    def __repr__(self) -> str:
        return f"Subset({len(self)} of {self.dataset!r})"


def random_split(
    dataset: Dataset, lengths: Sequence[int | float], generator: int | np.random.Generator | None = None
) -> list[Subset]:
    """Split a data set at random into parts that do not overlap.

    ``lengths``: the sizes, which must sum to ``len(dataset)``; or fractions that sum to 1 (samples left over by rounding
    down go to the first parts, one each, as in PyTorch).
    ``generator``: a seed or a NumPy generator; None draws from the framework's own (see ``mg.manual_seed``).
    """
    total = len(dataset)
    if not isinstance(lengths, (list, tuple)) or not lengths or any(isinstance(n, bool) or not n >= 0 for n in lengths):
        raise ValueError(f"lengths must be a list of sizes or of fractions, all at least 0, got {lengths!r}")
    if all(isinstance(n, (int, np.integer)) for n in lengths):
        sizes = [int(n) for n in lengths]
    elif math.isclose(sum(lengths), 1) and max(lengths) <= 1:
        sizes = [math.floor(total * fraction) for fraction in lengths]
        for k in range(total - sum(sizes)):
            sizes[k % len(sizes)] += 1
    else:
        sizes = []
    if sum(sizes) != total:
        raise ValueError(
            f"lengths must sum to the {total} samples of the data set, or be fractions that sum to 1, got {lengths!r}"
        )
    if generator is None:
        generator = random.generator()
    elif not isinstance(generator, np.random.Generator):
        generator = np.random.Generator(np.random.Philox(check_seed(generator, "generator")))
    order = generator.permutation(total)
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def check_seed(seed: int, name: str = "seed") -> int:
    """``seed`` as a Python integer; raises TypeError or ValueError (naming the argument) unless it is an integer >= 0."""
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise TypeError(f"{name} must be an integer of at least 0, got {seed!r}")
    if seed < 0:
        raise ValueError(f"{name} must be an integer of at least 0, got {seed}")
    return int(seed)


def gather(dataset: Any, indices: np.ndarray) -> Any:
    """The samples ``indices`` of any data set, stacked: by its own ``batch`` where it has one, else one by one."""
    batch = getattr(dataset, "batch", None)
    return batch(indices) if batch is not None else collate([dataset[int(i)] for i in indices])


def collate(samples: list) -> Any:
    """Stack samples into a batch of arrays.

    Tuples and dictionaries are stacked part by part. Integers become int64, floats float32, arrays and tensors of equal
    shapes get a new first axis, and anything else stays a list. Raises ValueError if shapes differ.
    """
    first = samples[0]
    if isinstance(first, (tuple, list)):
        if len({len(sample) for sample in samples}) > 1:
            raise ValueError("samples of one batch have different numbers of parts")
        return tuple(collate(list(parts)) for parts in zip(*samples, strict=True))
    if isinstance(first, dict):
        return {key: collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (bool, np.bool_)):
        return np.array(samples, np.bool_)
    if isinstance(first, (int, np.integer)):
        return np.array(samples, np.int64)
    if isinstance(first, (float, np.floating)):
        return np.array(samples, np.float32)
    if not isinstance(first, (Tensor, np.ndarray)):
        return samples
    arrays = [sample.data if isinstance(sample, Tensor) else sample for sample in samples]
    shapes = list(dict.fromkeys(a.shape for a in arrays))
    if len(shapes) > 1:
        raise ValueError(f"samples of one batch have different shapes: {shapes[0]} and {shapes[1]}; crop or resize them first")
    return np.stack(arrays)
