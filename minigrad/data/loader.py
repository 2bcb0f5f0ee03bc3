"""The DataLoader: batches of a data set, shuffled, augmented, normalized, and prepared ahead by threads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np

from minigrad import random
from minigrad.data.dataset import check_seed, gather
from minigrad.data.transforms import ToTensor
from minigrad.device import cuda_is_available, pinned
from minigrad.kernels.layout import channels_last
from minigrad.tensor import Tensor

__all__ = ["DataLoader", "in_parts"]


class DataLoader:
    """Iterate over a data set in batches; each pass over the loader is one epoch.

    A batch of an image data set is ``(images, labels)``: a float32 Tensor (N, C, H, W), channels-last in memory, and an int64
    Tensor (N,); of a ``SegmentationDataset`` it is ``(images, masks)`` with int64 masks (N, H, W). Other data sets give the tuple
    (or dictionary) of Tensors that ``minigrad.data.collate`` makes of their samples.

    ``batch_size``   samples in a batch
    ``shuffle``      a new random order for every epoch
    ``num_workers``  threads that prepare batches ahead; 0 prepares each one when it is asked for. The batches are the same bits
                     for any number
    ``drop_last``    leave out the last batch if it is smaller than the others
    ``prefetch_factor``  batches that each thread prepares ahead
    ``seed``         what order and augmentation derive from; None draws one from the framework's generator (``mg.manual_seed``)
    ``generator``    a NumPy generator to draw the seed from, in place of ``seed``
    ``transform``    a function ``(images, rng) -> images`` applied to the images of a batch (see ``minigrad.data.transforms``);
                     None: the data set's own. Images that are uint8 after it are scaled to 0 ... 1. A transform whose attribute
                     ``joint`` is true (``JointCompose``) is called as ``(images, masks, rng) -> (images, masks)``
    ``pin_memory``   prepare batches in memory from which a graphics card copies by itself, so that ``x.to("cuda")`` does not
                     wait (see ``minigrad.data.to_device``); no effect where there is no card

    The order of an epoch, and the random numbers of each of its batches, depend only on the seed, the epoch and the number of the
    batch. So a pass can start in its middle: ``state_dict()`` says which batch comes next, and after ``load_state_dict`` the
    next pass begins there, without preparing the batches before it.

    Raises ValueError for a data set without samples, or from which ``drop_last`` leaves no batch. An exception in a thread
    is raised where the batch is asked for.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        num_workers: int = 0,
        drop_last: bool = False,
        prefetch_factor: int = 2,
        seed: int | None = None,
        generator: np.random.Generator | None = None,
        transform: Callable | None = None,
        pin_memory: bool = False,
    ):
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(f"dataset must have a length and samples by index, got {type(dataset).__name__}")
        self.dataset, self.shuffle, self.drop_last, self.pin_memory = dataset, bool(shuffle), bool(drop_last), bool(pin_memory)
        self.batch_size = _count(batch_size, "batch_size", 1)
        self.num_workers = _count(num_workers, "num_workers", 0)
        self.prefetch_factor = _count(prefetch_factor, "prefetch_factor", 1)
        self.transform = transform
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be a function (images, rng) -> images, got {transform!r}")
        if len(dataset) == 0:
            raise ValueError("the data set has no samples: a loader needs at least one")
        if len(self) == 0:
            raise ValueError(f"drop_last=True leaves no batch: {len(dataset)} samples, batch_size {batch_size}")
        self.seed = _draw_seed(seed, generator)
        self.epoch = 0  # of the pass that runs, or that comes next
        self.position = 0  # batches of that epoch which were handed out
        self._pass: object | None = None  # the pass that owns epoch and position; None before it begins and when it is over

    def __len__(self) -> int:
        """Batches in an epoch."""
        batches = len(self.dataset) / self.batch_size
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    # ---- epochs and state ---------------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass epoch ``epoch``, from its beginning; a position that was just loaded for this epoch is kept."""
        epoch = check_seed(epoch, "epoch")
        if epoch != self.epoch or self._pass is not None:
            self.epoch, self.position, self._pass = epoch, 0, None

    def state_dict(self) -> dict:
        """Where the loader is: plain numbers, ready for JSON. Taken between two batches, it says that the next one comes next."""
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed, **self._settings()}

    def load_state_dict(self, state: dict) -> None:
        """Continue from ``state_dict()``: the next pass begins at its position.

        Raises ValueError, and changes nothing, if the state is of a loader whose batches differ (size of the data set,
        batch_size, shuffle, drop_last), or is no such state.
        """
        try:
            epoch, position, seed = (check_seed(state[key], key) for key in ("epoch", "position", "seed"))
            saved = {key: state[key] for key in self._settings()}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of a DataLoader: {error!r}") from None
        for key, value in self._settings().items():
            if saved[key] != value:
                raise ValueError(
                    f"the state was saved with {key}={saved[key]!r}, this loader has {value!r}: its batches would differ"
                )
        if position > len(self):
            raise ValueError(f"the state is at batch {position} of an epoch of {len(self)}")
        self.epoch, self.position, self.seed, self._pass = epoch, position, seed, None

    def _settings(self) -> dict:
        return {
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    # ---- batches ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """A pass: the rest of the loaded epoch if a state was loaded, else a new epoch (an abandoned one is not continued)."""
        if self._pass is not None:
            self.epoch, self.position = self.epoch + 1, 0
        self._pass = current = object()
        return self._run(current, self.epoch, self.position)

    def _run(self, current: object, epoch: int, start: int) -> Iterator[Any]:
        order = self.order(epoch)
        finish = _pinned if self.pin_memory and cuda_is_available() else _as_it_is
        work = (lambda k=k: finish(self._prepare(epoch, k, order)) for k in range(start, len(self)))
        with closing(_in_order(work, self.num_workers, self.num_workers * self.prefetch_factor)) as batches:
            for k, batch in enumerate(batches, start):
                if self._pass is current:
                    self.position = k + 1
                yield _to_tensors(batch)
        if self._pass is current:
            self.epoch, self.position, self._pass = epoch + 1, 0, None

    def order(self, epoch: int) -> np.ndarray:
        """The indices of the samples in the order of an epoch, int64."""
        size = len(self.dataset)
        return self._rng(epoch, 0).permutation(size) if self.shuffle else np.arange(size)

    def _rng(self, epoch: int, stream: int) -> np.random.Generator:
        """Random numbers of an epoch: stream 0 for the order, 1 + k for batch k."""
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(self.seed, spawn_key=(epoch, stream))))

    def _prepare(self, epoch: int, k: int, order: np.ndarray) -> Any:
        """Batch ``k`` as arrays. Runs in the threads."""
        batch = gather(self.dataset, order[k * self.batch_size : (k + 1) * self.batch_size])
        transform = self.transform if self.transform is not None else getattr(self.dataset, "batch_transform", None)
        if isinstance(batch, (tuple, np.ndarray)):
            images, *rest = batch if isinstance(batch, tuple) else (batch,)
        elif self.transform is None:
            return batch
        else:
            raise TypeError(
                f"transform needs samples that are images or (image, ...), this data set gives a {type(batch).__name__}"
            )
        if transform is not None:
            count = len(images)
            if getattr(transform, "joint", False):
                images, *rest = transform(images, _only_masks(rest), self._rng(epoch, 1 + k))
            else:
                images = transform(images, self._rng(epoch, 1 + k))
            if len(images) != count:
                raise ValueError(f"the transform made {len(images)} images of a batch of {count}")
        if isinstance(images, np.ndarray) and images.ndim == 4:
            images = ToTensor()(images) if images.dtype == np.uint8 else channels_last(images)
        return (images, *rest) if isinstance(batch, tuple) else images


def _only_masks(rest: list) -> np.ndarray:
    """The masks, from the parts of a batch that follow its images; raises TypeError if there is anything else."""
    if len(rest) == 1 and isinstance(rest[0], np.ndarray) and rest[0].ndim == 3:
        return rest[0]
    parts = ", ".join(str(getattr(part, "shape", type(part).__name__)) for part in rest)
    raise TypeError(
        "a joint transform needs samples (image, mask) with masks (H, W), as SegmentationDataset gives them; this data set gives"
        f" images {'with parts of shape ' + parts if rest else 'alone'}: use minigrad.data.transforms.Compose for those"
    )


def _in_order(work: Iterable[Callable[[], Any]], workers: int, ahead: int) -> Iterator[Any]:
    """The results of the functions in ``work``, in their order; ``workers`` threads compute up to ``ahead`` of them ahead.

    However the iteration ends, no thread is left.
    """
    if workers == 0:
        yield from (function() for function in work)
        return
    executor, pending = ThreadPoolExecutor(workers, thread_name_prefix="minigrad-data"), deque[Future]()
    try:
        for function in work:
            pending.append(executor.submit(function))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def in_parts(function: Callable, batch: Any) -> Any:
    """``batch`` with ``function(part)`` in the place of every part of its tuples and dictionaries."""
    if isinstance(batch, tuple):
        return tuple(in_parts(function, part) for part in batch)
    if isinstance(batch, dict):
        return {key: in_parts(function, part) for key, part in batch.items()}
    return function(batch)


def _to_tensors(batch: Any) -> Any:
    return in_parts(lambda part: Tensor(part) if hasattr(part, "dtype") and not isinstance(part, Tensor) else part, batch)


def _pinned(batch: Any) -> Any:
    return in_parts(lambda part: pinned(part) if isinstance(part, np.ndarray) else part, batch)


def _as_it_is(batch: Any) -> Any:
    return batch


def _count(value: int, name: str, minimum: int) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer of at least {minimum}, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return int(value)


def _draw_seed(seed: int | None, generator: np.random.Generator | None) -> int:
    if seed is not None and generator is not None:
        raise ValueError("give seed or generator, not both")
    if seed is not None:
        return check_seed(seed)
    if generator is not None and not isinstance(generator, np.random.Generator):
        raise TypeError(f"generator must be a numpy.random.Generator, got {type(generator).__name__}: or pass seed=")
    return int((random.generator() if generator is None else generator).integers(2**63))
