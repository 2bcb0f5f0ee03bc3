"""CUDA graphs: a training step is captured once, and then replayed without Python.

    @mg.cuda.graph
    def step(images, classes):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), classes)
        loss.backward()
        optimizer.step()
        return loss

    for images, classes in loader:
        loss = step(images, classes)

A step of a small network is a few hundred launches of a few microseconds each; asking for them one by one takes longer than they
run. A graph asks for all of them at once.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from minigrad.device import array_module, device_of, move
from minigrad.kernels import for_array
from minigrad.modes import state

__all__ = ["CapturedStep", "graph"]

ADVICE = (
    "While a step is captured nothing is computed, so it may not look at a value (.item(), float(x), print, if x > 0, a mask as "
    "index), move tensors between processor and card, or depend on a number that changes from step to step"
)


def graph(step: Callable | None = None, *, warmup: int = 3) -> Callable:
    """``step``, a function of tensors, such that from call ``warmup`` + 1 on it is replayed from a CUDA graph.

    Every call is one step: the first ``warmup`` calls run as they are (they compile kernels and make the optimizer's state), the
    next one is captured and replayed. The tensors that are given are copied into the memory that the graph reads, so they may be
    new ones every time and may lie on the processor; their shapes and dtypes must be those of the captured call. A call with
    others (the last, smaller batch of an epoch) runs without the graph. The returned tensors are the graph's own: the next call
    overwrites them. Arguments that are not tensors are constants of the graph: a call with others runs without it. Tensors inside
    of lists and dictionaries, and arrays, are refused with TypeError.

    What a graph repeats is what the card was asked to do: Python code of the step, prints and counters among it, does not run
    again. Three things change from replay to replay: the inputs, the learning rates of SGD, and the random numbers of dropout.
    Other options of the optimizer must stay as they are; a change of them raises RuntimeError at the next call.

    A label outside of the classes is noticed by the graph: from that call on no parameter changes, and a later call, usually the
    next one, raises IndexError.

    Raises RuntimeError, with the reason, if the step cannot be captured; parameters, statistics and gradients then are what
    they were before that call. ``warmup`` must be at least 1.
    """
    if step is None:
        return functools.partial(graph, warmup=warmup)
    if not callable(step):
        raise TypeError(f"step must be a function of tensors, got {type(step).__name__}")
    if not isinstance(warmup, int) or isinstance(warmup, bool) or warmup < 1:
        raise ValueError(f"warmup must be an integer of at least 1, got {warmup!r}")
    return functools.update_wrapper(CapturedStep(step, warmup), step, updated=())


class CapturedStep:
    """A step that runs by itself, then is captured, then replayed. See ``graph``."""

    def __init__(self, step: Callable, warmup: int):
        self.step, self.warmup = step, warmup
        self.calls = 0  # that ran by themselves
        self.replays = 0
        self._captured: _Captured | None = None
        self._stream = None

    def __call__(self, *inputs: Any) -> Any:
        """One step."""
        for number, x in enumerate(inputs):
            if not _is_tensor(x) and _holds_arrays(x):
                raise TypeError(
                    f"cuda.graph: input {number} of the step is a {type(x).__name__} with arrays, which the graph would hold "
                    "fixed: give each of them as a Tensor, as an argument of its own"
                )
        card = next((device_of(x.array) for x in inputs if _is_tensor(x) and x.is_cuda), None)
        if card is None and self._stream is None:
            raise RuntimeError(
                "cuda.graph: no input of the step lies on a card, and that is where a graph runs: give tensors that were moved "
                'with .to("cuda")'
            )
        if self._stream is None:
            self._card, self._library = card, _library_of(inputs)
            self._stream = self._library.cuda.Stream(non_blocking=True)
        before = self._library.cuda.get_current_stream()
        self._stream.wait_event(before.record())
        try:
            with self._stream:
                return self._run(inputs)
        finally:
            before.wait_event(self._stream.record())

    def _run(self, inputs: tuple) -> Any:
        if self._captured is None and self.calls >= self.warmup:
            self._captured = _Captured(self.step, inputs, self._card, self._library, self._stream)
        if self._captured is None or not self._captured.fits(inputs):
            self.calls += 1
            given = [_on(x, self._card) for x in inputs]
            with _kernels_for(given).rehearsal():
                return self.step(*given)
        self.replays += 1
        return self._captured.replay(inputs)


class _Captured:
    """A graph with the memory that it works in."""

    def __init__(self, step: Callable, inputs: tuple, card, library, stream):
        self.library, self.stream = library, stream
        self.inputs = tuple(_static(x, card) for x in inputs)
        self.leaves: dict[int, tuple] = {}  # id of a leaf -> the leaf, and its gradient before the capture
        self.checks: list[Callable[[], None]] = []  # raise RuntimeError if something that the graph holds fixed was changed
        kernels = _kernels_for(self.inputs)
        self.context, self.pool = kernels.Capture(), library.cuda.MemoryPool()
        kernels.set_capture(self.context)
        state.capture = self
        try:
            with library.cuda.using_allocator(self.pool.malloc):  # nobody else gets memory that a replay writes to
                stream.begin_capture()
                try:
                    self.outputs = step(*self.inputs)
                except BaseException as error:
                    self._give_up()
                    if not isinstance(error, Exception):
                        raise
                    raise RuntimeError(f"cuda.graph: the step cannot be captured: {error}. {ADVICE}") from error
                self.graph = stream.end_capture()
        finally:
            state.capture = None
            kernels.set_capture(None)
        self.gradients = [(leaf, leaf.grad) for leaf, _ in self.leaves.values()]
        pinned = library.cuda.alloc_pinned_memory(8)  # where the card can write while the program goes on
        self.fault, self.written = np.frombuffer(pinned, np.int32, 1), library.cuda.Event(disable_timing=True)
        self.fault[0] = 0
        self.written.record(stream)

    def note(self, leaf) -> None:
        """A leaf whose gradient is about to change."""
        self.leaves.setdefault(id(leaf), (leaf, leaf.grad))

    def _give_up(self) -> None:
        """End the capture; nothing was computed, so only what Python did has to be undone."""
        with contextlib.suppress(Exception):  # a capture that failed cannot be ended well; that it failed is being told
            self.stream.end_capture()
        for leaf, gradient in self.leaves.values():
            leaf.grad = gradient

    def fits(self, inputs: tuple) -> bool:
        """Whether the graph can be replayed with these inputs."""
        return len(inputs) == len(self.inputs) and all(map(_alike, inputs, self.inputs))

    def look_for_faults(self) -> None:
        """Raise IndexError if an earlier replay is known to have met a wrong label. It does not wait for one that runs."""
        if self.written.done and self.fault[0]:
            self.context.fault.fill(0)
            self.fault[0] = 0
            raise IndexError(
                "cuda.graph: a label of an earlier call was outside of the classes; since that call no parameter has changed. "
                "Run the step without the graph on that batch to see which one"
            )

    def replay(self, inputs: tuple) -> Any:
        self.look_for_faults()
        for check in self.checks:
            check()
        for given, static in zip(inputs, self.inputs, strict=True):
            if _is_tensor(static) and given.array is not static.array:
                static.array[...] = move(given.array, device_of(static.array))
        self.context.refresh()
        self.graph.launch(self.stream)
        if self.context.looks_for_faults:
            self.context.fault.get(stream=self.stream, out=self.fault, blocking=False)
            self.written.record(self.stream)
        for leaf, gradient in self.gradients:
            leaf.grad = gradient
            leaf.bump_version()
        return self.outputs


def _is_tensor(x: Any) -> bool:
    return hasattr(x, "array") and hasattr(x, "is_cuda")


def _holds_arrays(x: Any) -> bool:
    """Whether x is a tensor or an array with dimensions, or holds one."""
    if isinstance(x, Mapping):
        return any(map(_holds_arrays, x.values()))
    if isinstance(x, (list, tuple, set)):
        return any(map(_holds_arrays, x))
    return _is_tensor(x) or (hasattr(x, "dtype") and getattr(x, "ndim", 0) > 0)


def _library_of(inputs: tuple):
    return array_module(next(x.array for x in inputs if _is_tensor(x) and x.is_cuda))


def _kernels_for(inputs: Iterable) -> ModuleType:
    return for_array(next(x.array for x in inputs if _is_tensor(x)))


def _on(x: Any, card) -> Any:
    return x.to(card) if _is_tensor(x) else x


def _static(x: Any, card) -> Any:
    """A tensor in memory of its own."""
    if not _is_tensor(x):
        return x
    array = move(x.array, card)
    return type(x)(array.copy(order="K") if array is x.array else array)


def _alike(given: Any, static: Any) -> bool:
    if not _is_tensor(static):
        return type(given) is type(static) and given == static
    return _is_tensor(given) and given.shape == static.shape and given.dtype == static.dtype
