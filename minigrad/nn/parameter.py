"""Parameter and Buffer: the tensors that a module owns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.tensor import Tensor

__all__ = ["Buffer", "Parameter", "ParameterArray"]


class ParameterArray(np.ndarray):
    """The ``data`` of a Parameter: a NumPy array that has a Tensor's methods, too, where arrays have none of that name.

    In PyTorch ``data`` is a tensor, and many a network is initialized with ``m.weight.data.normal_(0, 0.02)`` or
    ``m.bias.data.zero_()``. What NumPy has keeps NumPy's meaning, and what is computed from such an array is an ordinary one;
    only its views are of this kind.
    """

    __slots__ = ()

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        array = np.asarray(array)
        return array[()] if return_scalar or not array.ndim else array

    def __reduce_ex__(self, protocol: Any) -> Any:
        return np.asarray(self).__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return repr(np.asarray(self))


def _method(name: str) -> Callable:
    def method(self: ParameterArray, *args: Any, **kwargs: Any) -> Any:
        x = Tensor(np.asarray(self))
        result = getattr(x, name)(*args, **kwargs)
        return self if result is x else result  # what works in place

    method.__name__, method.__doc__ = name, getattr(Tensor, name).__doc__
    return method


for _name in dir(Tensor):
    if not _name.startswith("_") and not hasattr(np.ndarray, _name) and callable(getattr(Tensor, _name)):
        setattr(ParameterArray, _name, _method(_name))


class Parameter(Tensor):
    """A tensor that a module learns: assigned as an attribute of a Module, it is one of its ``parameters()``.

    ``data``: a Tensor or array, whose memory it shares, or numbers. It requires a gradient unless told otherwise. In the memory
    of the processor ``parameter.data`` is a ``ParameterArray``.
    """

    def __init__(self, data=None, requires_grad: bool = True):
        _share(self, data, requires_grad)

    @property
    def data(self) -> Any:
        """The array, as a ``ParameterArray``."""
        array = self.array
        return array.view(ParameterArray) if type(array) is np.ndarray else array

    @data.setter
    def data(self, value: Any) -> None:
        if isinstance(value, Tensor):  # PyTorch's data is a tensor: p.data = w shares the memory of w
            self.version, value = value.version, value.array
        self.array = np.asarray(value) if type(value) is ParameterArray else value

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
