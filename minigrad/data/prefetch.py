"""Batches on a graphics card, copied there while the card still computes with the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from minigrad import cuda
from minigrad.data.loader import in_parts
from minigrad.device import Device, device
from minigrad.tensor import Tensor

__all__ = ["to_device"]


def to_device(batches: Iterable, where: str | Device) -> Iterator[Any]:
    """The batches of a loader with their tensors on the device ``where``.

    On a card each batch is copied in a stream of its own, one batch ahead of the computation, so that neither waits for the
    other; make the loader with ``pin_memory=True``, or the copy takes the time of the program:

        for images, classes in mg.data.to_device(loader, "cuda"):

    On the processor the batches come as they are. Raises RuntimeError if there is no such card.
    """
    where = device(where)
    return _ahead(batches, where) if where.type == "cuda" else _moved(batches, where)


def _moved(batches: Iterable, where: Device) -> Iterator[Any]:
    for batch in batches:
        yield in_parts(lambda part: part.to(where) if isinstance(part, Tensor) else part, batch)


def _ahead(batches: Iterable, where: Device) -> Iterator[Any]:
    with cuda.device(where) as card:
        stream, where = cuda.Stream(), Device("cuda", card.idx)
    ahead, batches = None, iter(batches)
    try:
        for batch in batches:
            with cuda.device(where):
                # What the copies go into may have been a batch that is gone, but with which the card has not finished yet.
                stream.wait_stream(cuda.current_stream())
                source = batch
                with cuda.stream(stream):
                    batch = in_parts(lambda part: part.to(where) if isinstance(part, Tensor) else part, source)
                copied = stream.record_event()
            if ahead is not None:
                yield _ready(*ahead[:2], where)
                ahead[1].synchronize()  # long done: only now may the memory that it was copied from be used again
            ahead = batch, copied, source
            del batch, source
        if ahead is not None:
            yield _ready(*ahead[:2], where)
    finally:
        stream.synchronize()  # nothing is being written any more to memory that is given back
        if hasattr(batches, "close"):
            batches.close()


def _ready(batch: Any, copied: cuda.Event, where: Device) -> Any:
    """The batch, for work that comes behind it in the current stream."""
    with cuda.device(where):
        copied.wait()
    return batch
