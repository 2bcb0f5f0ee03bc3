"""What the calls that ``ops.py`` times are made of: random numbers, and the same numbers in PyTorch's two memory orders.

No graph is recorded on either side. A forward pass is the kernel itself, or the function of ``nn.functional`` inside
``no_grad()``; a gradient is the kernel, or the rule that the forward pass recorded (``grad_fn.backward``: arrays in, arrays out),
beside the PyTorch operator that its autograd would run. minigrad's activations lie channels-last in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from minigrad.kernels import for_array

__all__ = ["Calls", "image", "kernels", "layouts", "plain", "without_graph"]

Calls = dict[str, Callable[[], object]]  # contender -> call; all return the same results
kernels = for_array(np.empty(0, np.float32))


def image(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Random numbers (N, C, H, W), channels-last in memory."""
    n, c, h, w = shape
    return np.random.default_rng(seed).standard_normal((n, h, w, c), dtype=np.float32).transpose(0, 3, 1, 2)


def plain(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    """Random numbers, C-contiguous."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * np.float32(scale)


def layouts(torch, *arrays: np.ndarray) -> Iterator[tuple[str, list]]:
    """(contender, tensors) for both of PyTorch's memory orders; nothing without PyTorch."""
    if torch is not None:
        tensors = [torch.from_numpy(np.array(array, order="C")) for array in arrays]
        yield "torch", tensors
        yield "torch_channels_last", [t.clone(memory_format=_memory(torch, t)) for t in tensors]


def _memory(torch, tensor):
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def without_graph(library, call: Callable[[], object]) -> Callable[[], object]:
    """``call`` inside the library's ``no_grad()``."""

    def run():
        with library.no_grad():
            return call()

    return run
