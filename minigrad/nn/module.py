"""Module: the base class of every layer and model. It knows its parameters, buffers and submodules by name."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from minigrad.autograd import RemovableHandle, state
from minigrad.device import Device, bfloat16, is_floating, move
from minigrad.device import device as device_named
from minigrad.nn import _state
from minigrad.nn._hooks import BackwardHooks
from minigrad.nn._tree import ModuleTree
from minigrad.tensor import Tensor

__all__ = ["Module"]

M = TypeVar("M", bound="Module")


class Module(ModuleTree):
    """A part of a network. Subclasses assign parameters and submodules as attributes and define ``forward``:

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(1, 8, 3)
                self.fc = nn.Linear(8, 10)

            def forward(self, x):
                return self.fc(F.relu(self.conv(x)).mean((2, 3)))

    ``training`` says whether the module is in training mode (dropout drops, batch normalization uses the batch).
    """

    training: bool
    optional_state: tuple[str, ...] = ()  # own keys that a state dict may lack, because older checkpoints do not have them

    def __init__(self) -> None:
        super().__init__()
        self.__dict__.update(
            training=True,
            _forward_pre_hooks=OrderedDict(),
            _forward_hooks=OrderedDict(),
            _backward_pre_hooks=OrderedDict(),
            _backward_hooks=OrderedDict(),
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; every subclass defines it. Call the module itself, not this method, so that hooks run."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, ...)")

    # ---- calling -----------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        running = state.modules
        running.append(self)
        try:
            if self._forward_pre_hooks or self._forward_hooks or self._backward_pre_hooks or self._backward_hooks:
                return self._call_with_hooks(args, kwargs)
            return self.forward(*args, **kwargs)
        except (ValueError, TypeError, IndexError, RuntimeError) as error:
            _put_path_in_front(error, running)
            raise
        finally:
            running.pop()

    def _call_with_hooks(self, args: tuple, kwargs: dict) -> Any:
        for hook, with_kwargs in tuple(self._forward_pre_hooks.values()):
            changed = hook(self, args, kwargs) if with_kwargs else hook(self, args)
            if changed is None:
                continue
            if not with_kwargs:
                args = changed if isinstance(changed, tuple) else (changed,)
            elif isinstance(changed, tuple) and len(changed) == 2 and isinstance(changed[1], dict):
                args, kwargs = changed
            else:
                raise TypeError(f"a forward pre-hook with kwargs must return None or (args, kwargs), got {changed!r}")
        backward = None
        if self._backward_hooks or self._backward_pre_hooks:
            backward = BackwardHooks(self, tuple(self._backward_pre_hooks.values()), tuple(self._backward_hooks.values()))
            args = backward.enter(args)
        output = self.forward(*args, **kwargs)
        for hook, with_kwargs in tuple(self._forward_hooks.values()):
            changed = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
            output = output if changed is None else changed
        return output if backward is None else backward.leave(output)

    def path_to(self, module: Module) -> str:
        """Where ``module`` is, seen from this one: "layer2.0.fc (Linear)"; only its class if it is not below this one."""
        name = self._name_of(module)
        return f"{name} ({type(module).__name__})" if name else type(module).__name__

    def _name_of(self, module: Module) -> str | None:
        return next((name for name, m in self.named_modules() if m is module), None)

    # ---- hooks -------------------------------------------------------------------------------------------------------

    def register_forward_pre_hook(self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args)`` before ``forward``; what it returns (if not None) replaces the arguments.

        ``with_kwargs``: call ``hook(module, args, kwargs)``, which returns None or (args, kwargs). ``prepend``: before the
        hooks that are there already. ``remove()`` of the returned handle takes the hook away.
        """
        return _add_hook(self._forward_pre_hooks, hook, prepend, (hook, with_kwargs))

    def register_forward_hook(self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after ``forward``; what it returns (if not None) replaces the output.

        ``with_kwargs``: call ``hook(module, args, kwargs, output)``.
        """
        return _add_hook(self._forward_hooks, hook, prepend, (hook, with_kwargs))

    def register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when backward reaches the outputs; what it returns replaces the gradients."""
        return _add_hook(self._backward_pre_hooks, hook, prepend, hook)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the inputs are complete.

        Both are tuples, with None for what has no gradient; what the hook returns (if not None) replaces ``grad_input``.
        While a module has backward hooks its inputs and outputs are views, which cannot be changed in place.
        """
        return _add_hook(self._backward_hooks, hook, prepend, hook)

    # ---- state -------------------------------------------------------------------------------------------------------

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Every parameter and persistent buffer by its path, in PyTorch's order.

        The tensors share the memory of the model's (``copy.deepcopy`` keeps them as they are now) and are detached unless
        ``keep_vars``. A shared parameter appears under each of its names.
        """
        return {key: t if keep_vars else t.detach() for key, t, _ in self._named_state(prefix)}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> _state.LoadResult:
        """Copy the tensors (or arrays) of ``state_dict`` into this module's parameters and buffers.

        With ``strict`` the keys must be exactly those of ``state_dict()``. If anything does not fit, RuntimeError lists all
        missing, unexpected and mis-shaped keys, with the names that were probably meant, and nothing is changed.
        """
        entries = list(self._named_state())
        targets = {key: tensor for key, tensor, _ in entries}
        return _state.load(type(self).__name__, targets, {key for key, _, may in entries if may}, state_dict, strict)

    def load(self, path: str | os.PathLike, strict: bool = True) -> Any:
        """Load the weights of a file: minigrad's, safetensors, or PyTorch's; see ``minigrad.weights.load_weights``."""
        from minigrad.weights import load_weights  # a floor above

        return load_weights(self, path, strict)

    # ---- modes and conversions -----------------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Put this module and everything below it into training mode (``mode=False``: evaluation mode)."""
        if not isinstance(mode, bool):
            raise ValueError(f"mode must be True (training) or False (evaluation), got {mode!r}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Put this module and everything below it into evaluation mode."""
        return self.train(False)

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call ``fn(module)`` for every module below this one, children first, and for this one; returns the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Set ``requires_grad`` of every parameter: ``model.layer1.requires_grad_(False)`` freezes a part."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of every parameter, or with ``set_to_none=False`` fill them with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.array.fill(0)
                parameter.grad.bump_version()

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """Move this module to a device and convert its floating-point tensors to a dtype, in place; returns the module.

        ``to(device)``, ``to(dtype)``, ``to(device, dtype)``, ``to(tensor)``: a device is "cpu", "cuda" or "cuda:1", a dtype
        float32, float64, float16 or bfloat16. The Parameter objects stay the same, so that an optimizer that was made before
        still holds them.
        """
        where, dtype = _destination(*args, **kwargs)
        if dtype is not None and not is_floating(dtype):
            raise TypeError(f"a module can be converted to a floating dtype only (float32, float64), got {dtype}")

        def convert(x):
            x = x if where is None else move(x, where)
            return x.astype(dtype, copy=False) if dtype is not None and is_floating(x.dtype) else x

        self._convert(convert)
        return self

    def _convert(self, convert: Callable) -> None:
        """Replace the array of every parameter, gradient and buffer; all are made before the first is put in place."""
        tensors = {}
        for tensor in (*self.parameters(), *self.buffers()):
            tensors[id(tensor)] = tensor
            if tensor.grad is not None:
                tensors[id(tensor.grad)] = tensor.grad
        converted = [(tensor, convert(tensor.array)) for tensor in tensors.values()]
        for tensor, array in converted:
            if array is not tensor.array:
                tensor.array, tensor.version = array, [0]  # new memory: nobody else's changes count for it

    def float(self: M) -> M:
        """Convert every floating-point tensor to float32."""
        return self.to(np.float32)

    def double(self: M) -> M:
        """Convert every floating-point tensor to float64."""
        return self.to(np.float64)

    def half(self: M) -> M:
        """Convert every floating-point tensor to float16. To train, leave the module in float32 and use ``mg.autocast``."""
        return self.to(np.float16)

    def bfloat16(self: M) -> M:
        """Convert every floating-point tensor to bfloat16. To train, leave the module in float32 and use ``mg.autocast``."""
        return self.to(bfloat16())

    def cpu(self: M) -> M:
        """Move this module to the processor."""
        return self.to("cpu")

    def cuda(self: M, device: int | str | Device | None = None) -> M:
        """Move this module to the graphics card (``device``: its number or name)."""
        return self.to(f"cuda:{device}" if isinstance(device, int) else device or "cuda")


def _add_hook(hooks: OrderedDict, hook: Callable, prepend: bool, entry: Any) -> RemovableHandle:
    if not callable(hook):
        raise TypeError(f"a hook must be callable, got {type(hook).__name__}")
    handle = RemovableHandle(hooks)
    hooks[handle.id] = entry
    hooks.move_to_end(handle.id, last=not prepend)
    return handle


def _put_path_in_front(error: Exception, running: list[Module]) -> None:
    """Begin the message of an error with the path of the innermost module whose forward raised it."""
    if type(error) not in (ValueError, TypeError, IndexError, RuntimeError) or hasattr(error, "minigrad_module"):
        return  # subclasses have arguments of their own
    module = running[-1]
    path = running[0]._name_of(module)
    path = type(module).__name__ if path is None else path  # a module that was not assigned as an attribute
    error.minigrad_module = path
    if path and len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (f"{path}: {error.args[0]}",)


def _destination(
    *args: Any, device=None, dtype=None, non_blocking: bool = False, memory_format=None
) -> tuple[Device | None, np.dtype | None]:
    """The device and the dtype that the arguments of ``Module.to`` ask for; the last two are accepted and ignored."""
    for value in args:
        if isinstance(value, Tensor):
            device, dtype = value.device, value.dtype
        elif isinstance(value, (str, Device)):
            device = value
        elif isinstance(value, (type, np.dtype)):
            dtype = value
        elif value is not None and not isinstance(value, bool):
            raise TypeError(f"to() takes a device, a dtype or a Tensor, got {value!r}")
    return None if device is None else device_named(device), None if dtype is None else np.dtype(dtype)
