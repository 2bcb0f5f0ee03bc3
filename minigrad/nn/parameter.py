"""Parameter and Buffer: the tensors that a module owns."""

from __future__ import annotations

from minigrad.tensor import Tensor

__all__ = ["Buffer", "Parameter"]


class Parameter(Tensor):
    """A tensor that a module learns: assigned as an attribute of a Module, it is one of its ``parameters()``.

    ``data``: a Tensor or array, whose memory it shares, or numbers. It requires a gradient unless told otherwise.
    """

    def __init__(self, data=None, requires_grad: bool = True):
        _share(self, data, requires_grad)

    def __setattr__(self, name: str, value) -> None:
        if name == "data" and isinstance(value, Tensor):  # PyTorch's data is a tensor: p.data = w shares the memory of w
            object.__setattr__(self, "version", value.version)
            value = value.data
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not learned, such as a running mean.

    Assigned as an attribute of a Module it is registered; ``persistent=False`` keeps it out of the state dict.
    """

    def __init__(self, data=None, *, persistent: bool = True):
        _share(self, data, False)
        self.persistent = persistent


def _share(self: Tensor, data, requires_grad: bool) -> None:
    """Make ``self`` a leaf that shares the memory (and the count of its changes) of ``data``."""
    if isinstance(data, Tensor):
        Tensor.__init__(self, data.data, requires_grad)
        self.version = data.version
    else:
        Tensor.__init__(self, [] if data is None else data, requires_grad)
