"""The Tensor: an array, and where its gradient comes from and goes to.

The arithmetic of tensors lives in ``minigrad.ops``, which installs its functions here as methods and operators
(``Tensor.install``), so that this file knows no op.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import autograd
from minigrad.device import Device, array_module, device_of, is_floating, to_numpy
from minigrad.modes import use_16_bits, use_cards

__all__ = ["Tensor"]


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    ``Tensor(array)`` shares the memory of a NumPy or CuPy array; ``mg.tensor(values)`` copies. Useful attributes:

    ``data``           the array itself
    ``array``          the same array; of a Parameter without the methods that its ``data`` has, and found sooner
    ``requires_grad``  whether operations on it are recorded
    ``grad``           its gradient (a Tensor of the same shape, dtype and memory order) after ``backward()``, or None
    ``origin``         (node, slot) of the op that made it; None for a leaf
    """

    __slots__ = ("__weakref__", "data", "grad", "hooks", "origin", "pending", "requires_grad", "version", "view_version")

    # NumPy asks these before it treats a Tensor as a sequence of numbers: ndarray * Tensor is then Tensor.__rmul__.
    __array_priority__ = 1000

    data: Any
    grad: Tensor | None
    requires_grad: bool

    # numpy ufunc -> op; filled by minigrad.ops
    ufuncs: dict = {}  # noqa: RUF012

    def __init__(self, data, requires_grad: bool = False, *sizes: int):
        """Wrap ``data`` (NumPy or CuPy array; numbers and lists become float32 arrays) without copying it.

        As in PyTorch ``Tensor(2, 3)``, of integers only, has this shape: float32, of zeros.
        """
        if type(data) is not np.ndarray:
            if isinstance(data, np.ndarray):
                data = data.view(np.ndarray)  # of a subclass, as ParameterArray: kernels take the class itself faster
            elif _is_array(data):
                use_cards()
            else:
                if type(data) is int:
                    data, requires_grad, sizes = _zeros_of((data, requires_grad, *sizes)), False, ()
                else:
                    data = _array_from_values(data)
                if not isinstance(requires_grad, (bool, np.bool_)):
                    raise TypeError(f"requires_grad must be True or False, got {requires_grad!r}: for sizes use integers only")
        if data.dtype.kind not in "fiub":
            if not is_floating(data.dtype):
                raise TypeError(f"tensors hold booleans, integers or real numbers, not dtype {data.dtype}")
            use_16_bits()
        if sizes:
            raise TypeError(f"Tensor(data, requires_grad) takes 2 arguments, got {2 + len(sizes)}: for sizes use integers only")
        if requires_grad and data.dtype.kind != "f" and not is_floating(data.dtype):
            raise TypeError(f"requires_grad needs a floating dtype, got {data.dtype}: use float32 or float64")
        self.data = data
        self.requires_grad = requires_grad
        self.grad = None
        self.origin = None
        self.hooks = None
        self.pending = None  # what ``data`` will be, for a result that waits for what follows (see ops/_pending.py)
        # Counts in-place changes; shared by all views of the same memory. Behind the count: see settle().
        self.version = [0]
        self.view_version = None  # for a view: the version of its base when it was taken

    def __getattr__(self, name: str):
        """What Python asks when an attribute is not there: the array of a pending result is computed now."""
        if name in ("data", "array"):
            pending = self.pending
            if pending is not None:
                self.data = pending.array()
                self.pending = None
            return Tensor.data.__get__(self)  # which another thread may have computed just before
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._no_attribute(name)  # raises an AttributeError that helps (ops/methods.py)

    @classmethod
    def of_pending(cls, pending) -> Tensor:
        """A tensor whose array is computed when it is asked for, or together with what follows."""
        y = cls.__new__(cls)
        y.pending, y.requires_grad, y.version = pending, False, [0]
        y.grad = y.origin = y.hooks = y.view_version = None
        return y

    def settle(self) -> None:
        """Compute the pending results that depend on the memory of this tensor, which is about to be changed."""
        for reference in self.version[1:]:
            dependent = reference()
            if dependent is not None:
                dependent.array  # noqa: B018 (asking for the array computes it)
        del self.version[1:]

    @classmethod
    def install(cls, **methods: Callable) -> None:
        """Make functions methods of Tensor; raises AttributeError if a name is taken."""
        for name, function in methods.items():
            if name in cls.__dict__:
                raise AttributeError(f"Tensor already has {name!r}")
            setattr(cls, name, function)

    # ---- description -------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def device(self) -> Device:
        return device_of(self.array)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def is_leaf(self) -> bool:
        """True for a tensor that no recorded op made: it is where gradients end."""
        return self.origin is None

    @property
    def grad_fn(self) -> autograd.Node | None:
        """The node of the op that made this tensor, or None for a leaf."""
        return self.origin[0] if self.origin is not None else None

    @property
    def itemsize(self) -> int:
        return self.array.itemsize

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def size(self, dim: int | None = None):
        """The shape, or the length of dimension ``dim``."""
        return self.array.shape if dim is None else self.array.shape[dim]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        return int(self.array.size)

    nelement = numel

    def stride(self, dim: int | None = None):
        """Steps in memory, in elements, from one index to the next of each dimension (or of dimension ``dim``)."""
        strides = tuple(s // self.array.itemsize for s in self.array.strides)
        return strides if dim is None else strides[dim]

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.array.itemsize

    def is_floating_point(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return is_floating(self.array.dtype)

    def is_contiguous(self) -> bool:
        """Whether the elements lie in memory in the order of their indices (activations lie channels-last instead)."""
        return self.array.flags.c_contiguous

    def __len__(self) -> int:
        if not self.array.ndim:
            raise TypeError("a 0-d tensor has no length")
        return self.array.shape[0]

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ValueError(f"the truth value of a tensor of shape {self.shape} is not defined: use .any() or .all()")
        return bool(self.array.reshape(()))

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.size != 1 or self.array.dtype.kind not in "iub":
            raise TypeError(f"only an integer tensor of one element is an index, got {self.dtype} of shape {self.shape}")
        return int(self.array.item())

    def __float__(self) -> float:
        return float(self.item())

    __hash__ = object.__hash__  # tensors are told apart by identity; == compares their elements

    def __format__(self, spec: str) -> str:
        if not spec:
            return repr(self)
        if self.array.ndim:
            raise TypeError(f"the format {spec!r} needs a 0-d tensor, got shape {self.shape}: use .item() or .tolist()")
        return format(self.item(), spec)

    def __repr__(self) -> str:
        x = to_numpy(self.array)
        x = x.astype(np.float32) if x.dtype.kind == "V" else x  # NumPy has no format for bfloat16
        fractions = x.dtype.kind == "f" and bool((x != np.rint(x))[np.isfinite(x)].any())
        values = np.array2string(
            x,
            max_line_width=80,
            separator=", ",
            precision=4,
            threshold=1000,
            prefix="tensor(",
            floatmode="fixed" if fractions else "maxprec",
        )
        notes = [] if x.size or x.ndim == 1 else [f"size={x.shape}"]
        if self.dtype not in (np.float32, np.int64, np.bool_):
            notes.append(f"dtype={self.dtype}")
        if self.is_cuda:
            notes.append(f"device='{self.device}'")
        if self.origin is not None:
            notes.append(f"grad_fn=<{self.origin[0].name}>")
        elif self.requires_grad:
            notes.append("requires_grad=True")
        return f"tensor({', '.join([values, *notes])})"

    # ---- values ------------------------------------------------------------------------------------------------------

    def item(self):
        """The only element as a Python number. Raises ValueError if there is not exactly one."""
        if self.array.size != 1:
            raise ValueError(f"item() needs a tensor with one element, got shape {self.shape}")
        return self.array.item()

    def tolist(self):
        """The elements as nested lists of Python numbers."""
        return self.array.tolist()

    def numpy(self) -> np.ndarray:
        """The NumPy array that this tensor holds (no copy; of a CUDA tensor a copy).

        Raises RuntimeError if the tensor requires a gradient, because changes to the array would not be seen: use
        ``detach().numpy()``.
        """
        if self.requires_grad:
            raise RuntimeError("numpy() of a tensor that requires grad would lose its history: use detach().numpy()")
        return to_numpy(self.array)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        x = self.numpy()
        if dtype is not None and x.dtype != dtype:
            if copy is False:
                raise ValueError(f"converting {x.dtype} to {dtype} needs a copy")
            return x.astype(dtype)
        return x.copy() if copy else x

    def __array_ufunc__(self, ufunc, method: str, *inputs, **kwargs):
        function = Tensor.ufuncs.get(ufunc)
        if function is not None and method == "__call__" and not kwargs:
            return function(*inputs)
        call = f"np.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "")
        options = f" with {', '.join(kwargs)}" if kwargs else ""
        raise TypeError(f"{call}{options} is not defined for tensors: give it t.detach().numpy(), or use minigrad's functions")

    def __dlpack__(self, **kwargs):
        """Share the memory with another library (``torch.from_dlpack(t)``, ``np.from_dlpack(t)``)."""
        if self.requires_grad:
            raise RuntimeError("a tensor that requires grad cannot be shared: use detach() first")
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def detach(self) -> Tensor:
        """The same memory without history: no gradient flows through the result."""
        y = Tensor(self.array)
        y.version = self.version
        return y

    def detach_(self) -> Tensor:
        """Forget how this tensor was made; it becomes a leaf that requires no gradient."""
        if self.origin is not None and self.view_version is not None:
            raise RuntimeError("detach_ of a view is not possible: use detach()")
        self.origin, self.requires_grad = None, False
        return self

    def __reduce__(self):
        """What pickle and ``copy.copy`` use. Hooks are left out, as in PyTorch."""
        if self.origin is not None:
            raise RuntimeError("only leaf tensors can be pickled or copied: use detach() or clone()")
        self.settle()  # weak references cannot be pickled
        attributes = getattr(self, "__dict__", None)
        return _rebuilt, (type(self), self.array, self.requires_grad, self.grad, self.version, attributes)

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self.origin is not None:
            raise RuntimeError("only leaf tensors can be deep-copied: use detach().clone()")
        y = type(self).__new__(type(self))
        Tensor.__init__(y, self.array.copy(order="K"), self.requires_grad)
        memo[id(self)] = y
        if self.grad is not None:
            y.grad = Tensor(self.grad.array.copy(order="K"))
        if hasattr(self, "__dict__"):
            y.__dict__.update(self.__dict__)
        return y

    # ---- gradients ---------------------------------------------------------------------------------------------------

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` of a leaf; returns the tensor."""
        if self.origin is not None and not requires_grad:
            raise RuntimeError("requires_grad can be switched off for leaves only: use detach() on a computed tensor")
        if requires_grad and not is_floating(self.array.dtype):
            raise TypeError(f"requires_grad needs a floating dtype, got {self.dtype}")
        self.requires_grad = bool(requires_grad)
        return self

    def backward(self, gradient: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Compute the gradient of this tensor with respect to every leaf it depends on, and add it to their ``.grad``.

        ``gradient``: what arrives from above, of this tensor's shape; may be left out for a tensor of one element (then 1).
        ``retain_graph``: keep what the graph holds, so that backward can be called again.
        Raises RuntimeError if nothing requires a gradient, if the graph was freed, or if an array that it needs was changed
        in place; no ``.grad`` is changed then.
        """
        if create_graph:
            raise NotImplementedError("minigrad computes first-order gradients only: create_graph must be False")
        if not self.requires_grad:
            raise RuntimeError("backward(): this tensor does not require grad, nor does anything it was computed from")
        if gradient is None:
            if self.array.size != 1:
                raise RuntimeError(
                    f"backward() of a tensor of shape {self.shape} needs a gradient of that shape: "
                    "reduce it to one number first (loss.mean()), or pass gradient="
                )
            gy = array_module(self.array).ones_like(self.array)
        else:
            gy = gradient.array if isinstance(gradient, Tensor) else gradient
            if not _is_array(gy) or gy.shape != self.shape:
                raise ValueError(f"gradient must be a tensor of shape {self.shape}, got {getattr(gy, 'shape', gy)!r}")
            if array_module(gy) is not array_module(self.array):
                place = f"gradient is on {device_of(gy)}, this tensor on {self.device}"
                raise RuntimeError(f"backward(): {place}: move it with .to(device)")
            gy = gy.astype(self.dtype, copy=False)
        autograd.run_backward([self], [gy], retain_graph)

    def own_gradient(self, gradient, free: bool):
        """The array as ``.grad`` would hold it: a copy, unless it lies in memory as this tensor does and is ``free`` to be kept.

        Where there is a ``.grad`` already, to which it will be added, the array itself.
        """
        if self.grad is not None or (free and gradient.strides == self.array.strides):
            return gradient
        kept = array_module(self.array).empty_like(self.array)  # same dtype and memory order
        kept[...] = gradient
        return kept

    def accumulate_grad(self, gradient) -> None:
        """Add an array, which ``own_gradient`` gave, to ``.grad``."""
        if autograd.state.capture is not None:
            autograd.state.capture.note(self)
        if self.grad is None:
            self.grad = Tensor(gradient)
        else:
            self.grad.array += gradient
            self.grad.version[0] += 1

    def retain_grad(self) -> None:
        """Keep the gradient of this computed tensor in ``.grad`` too (leaves always do)."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad(): this tensor does not require grad")
        if self.origin is not None:
            node, slot = self.origin
            node.retained = {**(node.retained or {}), slot: weakref.ref(self)}

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> autograd.RemovableHandle:
        """Call ``hook(gradient)`` when this tensor's gradient is complete; what it returns (if not None) replaces it."""
        if not self.requires_grad:
            raise RuntimeError("register_hook(): this tensor does not require grad")
        if not callable(hook):
            raise TypeError(f"a hook must be callable, got {type(hook).__name__}")
        if self.origin is None:
            self.hooks = hooks = {} if self.hooks is None else self.hooks
        else:
            node, slot = self.origin
            node.hooks = {} if node.hooks is None else node.hooks
            hooks = node.hooks.setdefault(slot, {})

        def on_array(gradient):
            result = hook(Tensor(gradient))
            return result.array if isinstance(result, Tensor) else result

        handle = autograd.RemovableHandle(hooks)
        hooks[handle.id] = on_array
        return handle

    def bump_version(self) -> None:
        """Say that the memory was changed in place, so that a backward that needs the old values fails clearly."""
        self.version[0] += 1


Tensor.array = Tensor.data  # one slot with two names


def _rebuilt(kind: type, data, requires_grad: bool, grad: Tensor | None, version: list, attributes: dict | None) -> Tensor:
    """A tensor of class ``kind`` from what ``Tensor.__reduce__`` gave."""
    t = kind.__new__(kind)
    Tensor.__init__(t, data, requires_grad)
    t.grad, t.version = grad, version
    if attributes:
        t.__dict__.update(attributes)
    return t


def _zeros_of(sizes: tuple) -> np.ndarray:
    """Zeros of the shape in ``Tensor(2, 3)``; of one size the second is the default of ``requires_grad``."""
    sizes = sizes[:1] if sizes[1:] == (False,) and type(sizes[1]) is bool else sizes
    if not all(type(n) is int and n >= 0 for n in sizes):
        raise TypeError(
            f"Tensor of integers is one of this shape, so they must be at least 0, got {sizes!r}: for numbers use mg.tensor(...)"
        )
    return np.zeros(sizes, np.float32)


def _is_array(x) -> bool:
    return isinstance(x, np.ndarray) or (type(x).__module__.split(".")[0] == "cupy" and hasattr(x, "strides"))


def _array_from_values(values: float | Sequence | np.generic):
    """A float32 array from a number or nested lists; raises TypeError or ValueError that says what was given."""
    if isinstance(values, np.generic):
        return np.asarray(values)
    if isinstance(values, Tensor):
        raise TypeError("Tensor(...) of a Tensor is ambiguous: use detach() or clone()")
    try:
        array = np.array(values)
    except ValueError as error:
        raise ValueError(f"cannot make a tensor of nested lists with unequal lengths: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"cannot make a tensor of {type(values).__name__} values (dtype {array.dtype})")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite
        return array.astype(np.float32)
