"""Modules and parameters in sequences and dictionaries."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from minigrad.nn._tree import indented
from minigrad.nn.module import Module
from minigrad.nn.parameter import Parameter
from minigrad.tensor import Tensor

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


class _ModuleSequence(Module):
    """Modules under the names "0", "1", ...: what Sequential and ModuleList share."""

    def _position(self, index: int, extra: int = 0) -> int:
        """``index``, which may count from the end, as a position from 0 to len - 1 + ``extra``."""
        index, length = operator.index(index), len(self) + extra
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of range for a {self._get_name()} of {len(self)} modules")
        return index % length

    def _rename(self, modules: Iterable[Module]) -> None:
        self.__dict__["_modules"] = {str(i): module for i, module in enumerate(modules)}

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: int | slice) -> Any:
        modules = list(self)
        return self._slice(index) if isinstance(index, slice) else modules[self._position(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, list(self._modules)[self._position(index)], _module(module))

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._modules)
        for name in names[index] if isinstance(index, slice) else [names[self._position(index)]]:
            del self._modules[name]
        self._rename(list(self))

    def append(self, module: Module):
        """Add a module at the end; returns the container."""
        number = len(self)
        while str(number) in self._modules:  # a slice keeps the names that its modules had
            number += 1
        self.add_module(str(number), _module(module))
        return self

    def extend(self, modules: Iterable[Module]):
        """Add several modules at the end; returns the container."""
        modules = _iterable(modules)
        for module in modules:
            _module(module)
        for module in modules:
            self.append(module)
        return self

    def __add__(self, other: Iterable[Module]):
        return type(self)(*self, *other) if isinstance(self, Sequential) else type(self)([*self, *other])

    def __iadd__(self, other: Iterable[Module]):
        return self.extend(other)

    def pop(self, index: int = -1) -> Module:
        """Take a module out and return it."""
        module = self[index]
        del self[index]
        return module


class Sequential(_ModuleSequence):
    """Modules that are called one after the other: ``Sequential(a, b)`` or ``Sequential(OrderedDict(first=a, second=b))``."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        named = len(args) == 1 and isinstance(args[0], Mapping)
        for name, module in args[0].items() if named else ((str(i), m) for i, m in enumerate(args)):
            self.add_module(name, _module(module))

    def forward(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x

    def _slice(self, index: slice) -> Sequential:
        return type(self)(OrderedDict(list(self._modules.items())[index]))

    def insert(self, index: int, module: Module) -> Sequential:
        """Put a module before position ``index``; returns the container."""
        modules = list(self)
        modules.insert(self._position(index, extra=1) if index >= 0 else self._position(index), _module(module))
        self._rename(modules)
        return self


class ModuleList(_ModuleSequence):
    """A list of modules, whose parameters are found; it has no ``forward``."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def _slice(self, index: slice) -> ModuleList:
        return type(self)(list(self)[index])

    def insert(self, index: int, module: Module) -> None:
        """Put a module before position ``index``."""
        modules = list(self)
        modules.insert(index, _module(module))
        self._rename(modules)

    def __repr__(self) -> str:
        """Neighbours that print alike are folded: ``(0-2): 3 x ReLU()``."""
        runs: list[list] = []  # [first, last, text]
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1][1] = i
            else:
                runs.append([i, i, text])
        if not runs:
            return f"{self._get_name()}()"
        return indented(
            self._get_name(),
            [f"({a}): {text}" if a == b else f"({a}-{b}): {b - a + 1} x {text}" for a, b, text in runs],
        )


class ModuleDict(Module):
    """A dictionary of modules, in the order of insertion, whose parameters are found; it has no ``forward``."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, _module(module))

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """(name, module) pairs."""
        return self._modules.items()

    def clear(self) -> None:
        """Take everything out."""
        self._modules.clear()

    def pop(self, key: str) -> Module:
        """Take a module out and return it."""
        return self._modules.pop(key)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules, from a mapping or from (name, module) pairs."""
        pairs = list(modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules)
        for _, module in pairs:
            _module(module)
        for key, module in pairs:
            self[key] = module


# ---- parameters --------------------------------------------------------------------------------------------------------


def _parameter(value: Any) -> Parameter:
    if not isinstance(value, Tensor):
        raise TypeError(f"expected a Parameter or a Tensor, got {type(value).__name__}")
    return value if isinstance(value, Parameter) else Parameter(value)


class _ParameterContainer(Module):
    """What ParameterList and ParameterDict share."""

    def __len__(self) -> int:
        return len(self._parameters)

    def extra_repr(self) -> str:
        lines = []
        for name, p in self._parameters.items():
            place = f" ({p.device})" if p.is_cuda else ""
            lines.append(f"  ({name}): Parameter containing: [mg.{p.dtype} of size {'x'.join(map(str, p.shape))}{place}]")
        return "\n".join(lines)


class ParameterList(_ParameterContainer):
    """A list of parameters; Tensors that are put into it become Parameters."""

    def __init__(self, values: Iterable[Tensor] | None = None) -> None:
        super().__init__()
        if values is not None:
            self.extend(values)

    def __getitem__(self, index: int | slice) -> Any:
        values = list(self)[index]
        return type(self)(values) if isinstance(index, slice) else values

    def __setitem__(self, index: int, value: Tensor) -> None:
        self._parameters[list(self._parameters)[index]] = _parameter(value)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters.values())

    def __iadd__(self, values: Iterable[Tensor]) -> ParameterList:
        return self.extend(values)

    def append(self, value: Tensor) -> ParameterList:
        """Add a parameter at the end; returns the list."""
        self.register_parameter(str(len(self)), _parameter(value))
        return self

    def extend(self, values: Iterable[Tensor]) -> ParameterList:
        """Add several parameters at the end; returns the list."""
        for parameter in [_parameter(value) for value in _iterable(values)]:
            self.append(parameter)
        return self


class ParameterDict(_ParameterContainer):
    """A dictionary of parameters, in the order of insertion; Tensors that are put into it become Parameters."""

    def __init__(self, parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] | None = None) -> None:
        super().__init__()
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Parameter:
        return self._parameters[key]

    def __setitem__(self, key: str, value: Tensor) -> None:
        self.register_parameter(key, _parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._parameters[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, key: str) -> bool:
        return key in self._parameters

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parameters.keys()

    def values(self) -> Iterable[Parameter]:
        """The parameters."""
        return self._parameters.values()

    def items(self) -> Iterable[tuple[str, Parameter]]:
        """(name, parameter) pairs."""
        return self._parameters.items()

    def update(self, parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> None:
        """Add or replace parameters, from a mapping or from (name, parameter) pairs."""
        pairs = list(parameters.items() if isinstance(parameters, (Mapping, ParameterDict)) else parameters)
        for key, value in pairs:
            self[key] = value


# ---- arguments ---------------------------------------------------------------------------------------------------------


def _module(value: Any) -> Module:
    if not isinstance(value, Module):
        hint = ": call the class, nn.ReLU() instead of nn.ReLU" if isinstance(value, type) else ""
        raise TypeError(f"expected a Module, got {value if hint else type(value).__name__}{hint}")
    return value


def _iterable(values: Any) -> list:
    if not isinstance(values, Iterable):
        raise TypeError(f"expected a list (or another iterable), got {type(values).__name__}")
    return list(values)
