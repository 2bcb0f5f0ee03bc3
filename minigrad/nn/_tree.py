"""The tree of names below every module: its own parameters and buffers, and its submodules, in the order of assignment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from minigrad._names import did_you_mean
from minigrad.nn.parameter import Buffer, Parameter
from minigrad.tensor import Tensor

__all__ = ["ModuleTree", "indented"]

_TABLES = {"parameter": "_parameters", "buffer": "_buffers", "module": "_modules"}
_LOOKED_UP = ("_parameters", "_modules", "_buffers")  # the most frequent first


class ModuleTree:
    """What a Module knows of its parts; ``nn.Module`` adds what it does with them."""

    def __init__(self) -> None:
        self.__dict__.update(_parameters={}, _buffers={}, _non_persistent_buffers_set=set(), _modules={})

    # ---- registering -------------------------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under ``name``; None reserves the name (``bias=False``). Raises ValueError or TypeError."""
        self._register("parameter", name, param, Parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that belongs to the state but is not learned; ``persistent=False`` keeps it out of the state dict."""
        self._register("buffer", name, tensor, Tensor)
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def register_module(self, name: str, module: ModuleTree | None) -> None:
        """Add a submodule under ``name``, which need not be a Python name: Sequential's are "0", "1", ..."""
        self._register("module", name, module, ModuleTree)

    add_module = register_module

    def _register(self, kind: str, name: str, value: Any, cls: type) -> None:
        self._check_name(kind, name)
        if self._kind_of_name(name) != kind and hasattr(self, name):
            raise ValueError(f"{type(self).__name__} has an attribute {name!r} already: choose another name for the {kind}")
        if value is not None and not isinstance(value, cls):
            raise TypeError(f"{kind} {name!r} must be a {kind.title()} or None, got {type(value).__name__}")
        self.__dict__[_TABLES[kind]][name] = value

    def _check_name(self, kind: str, name: str) -> None:
        cls = type(self).__name__
        if "_modules" not in self.__dict__:
            raise AttributeError(
                f"cannot assign {kind} {name!r} before super().__init__() was called: make it the first line of {cls}.__init__"
            )
        if not isinstance(name, str):
            raise TypeError(f"the name of a {kind} must be a string, got {name!r}")
        if not name or "." in name:
            raise ValueError(f"the name of a {kind} must not be empty and must not hold a dot, got {name!r}")
        if hasattr(type(self), name):
            raise ValueError(f"{name!r} is an attribute of the class {cls}: choose another name for the {kind}")

    def _kind_of_name(self, name: str) -> str | None:
        """What is registered under ``name``: "parameter", "buffer", "module" or None."""
        tables = self.__dict__
        return next((kind for kind, table in _TABLES.items() if name in tables.get(table, ())), None)

    # ---- attributes --------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # Python asks here only for what is not an ordinary attribute.
        tables = self.__dict__
        if "_modules" in tables:  # else __init__ of this class was not called yet
            for table in _LOOKED_UP:
                members = tables[table]
                if name in members:
                    return members[name]
        raise _NoAttribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        kind, held = _kind_of_value(value), self._kind_of_name(name)
        if kind is None and held is None:
            object.__setattr__(self, name, value)
        elif kind is None:  # the name stays what it is: it can be emptied, and a buffer can get another tensor
            if not (value is None or (held == "buffer" and isinstance(value, Tensor))):
                _refuse(held, name, value)
            self.__dict__[_TABLES[held]][name] = value
        else:
            self._check_name(kind, name)
            if held != kind and hasattr(self, name):
                delattr(self, name)
            self.__dict__[_TABLES[kind]][name] = value
            if kind == "buffer" and not value.persistent:
                self._non_persistent_buffers_set.add(name)

    def __delattr__(self, name: str) -> None:
        held = self._kind_of_name(name)
        if held is not None:
            del self.__dict__[_TABLES[held]][name]
            self._non_persistent_buffers_set.discard(name)
        elif name in self.__dict__:
            object.__delattr__(self, name)
        else:
            raise _NoAttribute(self, name)

    def __dir__(self) -> list[str]:
        names = {*dir(type(self)), *self.__dict__}
        for table in _TABLES.values():
            names.update(self.__dict__.get(table, ()))
        return sorted(name for name in names if name.isidentifier())

    # ---- walking -----------------------------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[ModuleTree] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, ModuleTree]]:
        """(name, module) of this module (named ``prefix``) and of everything below it; a shared module once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[ModuleTree]:
        """This module and everything below it; a shared module once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, ModuleTree]]:
        """(name, module) of the modules directly below this one."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[ModuleTree]:
        """The modules directly below this one."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, table: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, tensor in module.__dict__[table].items():
                if tensor is None or (remove_duplicate and id(tensor) in seen):
                    continue
                seen.add(id(tensor))
                yield f"{path}.{name}" if path else name, tensor

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of this module and, with ``recurse``, of everything below it; a shared parameter once."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and, with ``recurse``, of everything below it; a shared parameter once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(name, buffer) of this module and, with ``recurse``, of everything below it; a shared buffer once."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of this module and, with ``recurse``, of everything below it; a shared buffer once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> ModuleTree:
        """The module at the path ``target`` ("layer1.0.conv1"); "" is this module. Raises AttributeError."""
        module = self
        for name in target.split(".") if target else ():
            module = module._modules.get(name)
            if module is None:
                known = [path for path, _ in self.named_modules() if path]
                raise AttributeError(f"{type(self).__name__} has no submodule {target!r}{did_you_mean(target, known)}")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at the path ``target`` ("layer1.0.conv1.weight"). Raises AttributeError."""
        return self._get_member("_parameters", "parameter", target)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at the path ``target`` ("bn1.running_mean"). Raises AttributeError."""
        return self._get_member("_buffers", "buffer", target)

    def _get_member(self, table: str, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        tensor = self.get_submodule(path).__dict__[table].get(name)
        if tensor is None:
            known = [n for n, _ in self._named_members(table, "", True, False)]
            raise AttributeError(f"{type(self).__name__} has no {kind} {target!r}{did_you_mean(target, known)}")
        return tensor

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Tensor, bool]]:
        """(key, tensor, whether a state dict may lack it) in the order of the state dict."""
        for name, tensor in [*self._parameters.items(), *self._buffers.items()]:
            if tensor is not None and name not in self._non_persistent_buffers_set:
                yield prefix + name, tensor, name in self.optional_state
        for name, module in self._modules.items():
            if module is not None:
                yield from module._named_state(f"{prefix}{name}.")

    # ---- description -------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What ``repr`` shows between the parentheses, apart from the submodules; subclasses override it."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [f"({name}): {module!r}" for name, module in self._modules.items()]
        if not lines and "\n" not in extra:
            return f"{self._get_name()}({extra})"
        return indented(self._get_name(), [*([extra] if extra else []), *lines])


class _NoAttribute(AttributeError):
    """Names the nearest attribute, which it looks for only when the message is read: hasattr() stays fast."""

    def __init__(self, module: ModuleTree, name: str):
        super().__init__(name, name=name, obj=None)  # with obj Python would print a suggestion of its own, too
        self.module = module

    def __str__(self) -> str:
        cls = type(self.module).__name__
        message = f"{cls!r} object has no attribute {self.name!r}"
        if "_modules" not in self.module.__dict__:
            return f"{message}: {cls}.__init__ did not call super().__init__()"
        return message + did_you_mean(self.name, dir(self.module))


def _kind_of_value(value: Any) -> str | None:
    if isinstance(value, Parameter):
        return "parameter"
    if isinstance(value, ModuleTree):
        return "module"
    return "buffer" if isinstance(value, Buffer) else None


def _refuse(kind: str, name: str, value: Any) -> NoReturn:
    """Something else was assigned to the name of a parameter, buffer or module."""
    fix = "wrap it in nn.Parameter, or copy it into the parameter inside `with mg.no_grad():`"
    expected = {"parameter": "a Parameter", "buffer": "a Tensor", "module": "a Module"}[kind]
    raise TypeError(
        f"{name!r} is a {kind}: expected {expected} or None, got {type(value).__name__}"
        + (f": {fix}" if kind == "parameter" and isinstance(value, Tensor) else "")
    )


def indented(name: str, entries: Iterable[str]) -> str:
    """ "Name(" with one entry a line, indented, and ")": how modules with parts are printed."""
    lines = [f"  {line}" for entry in entries for line in entry.split("\n")]
    return "\n".join([f"{name}(", *lines, ")"])
