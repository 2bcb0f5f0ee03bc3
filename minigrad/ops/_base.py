"""What every op is made of.

An op is a function of tensors with its backward nested inside it:

    @op
    def exp(x):
        y = xp(x).exp(x.array)
        def backward(gy):              # arrays in, arrays out
            return gy * y
        return record(y, (x,), backward, saves_output=True)

``backward`` may keep arrays, never the output Tensor (that would tie a knot that only the garbage collector can undo), must not
change the arrays it is given, and returns one gradient per input: an array of the input's shape and dtype, or None.
``saves`` lists the inputs whose arrays ``backward`` reads, so that a later in-place change of them is noticed.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

import numpy as np

from minigrad import autograd
from minigrad.autograd import AnomalyError, Node
from minigrad.device import array_module, device_of, is_floating
from minigrad.modes import update_plain
from minigrad.tensor import Tensor

__all__ = [
    "as_tensor",
    "check_alike",
    "check_devices",
    "check_dtypes",
    "check_float",
    "check_inplace",
    "check_tensor",
    "data_of",
    "no_gradient",
    "normalize_dims",
    "observed",
    "op",
    "other_names",
    "quiet",
    "record",
    "record_inplace",
    "record_outputs",
    "record_pending",
    "times",
    "unbroadcast",
    "with_own_names",
    "xp",
]

F = TypeVar("F", bound=Callable)

REGISTRY: dict[str, Callable] = {}  # every op by name; the tests walk it

# NumPy warns where IEEE arithmetic just gives NaN or Inf; ops keep to IEEE and say nothing (see detect_anomaly).
quiet = np.errstate(all="ignore")

SMALL = 256  # outputs and inputs of at most so many elements are remembered for the step-by-step view


def op(function: F) -> F:
    """Decorator of every differentiable op: registers it, and puts its name in front of the errors that it raises.

    The op also takes PyTorch's names of the arguments: ``input`` for ``x``, ``axis`` for ``dim``, ``keepdims`` for ``keepdim``.
    """
    name, aliases = function.__name__, other_names(function)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            if kwargs and not aliases.keys().isdisjoint(kwargs):
                args, kwargs = with_own_names(aliases, args, kwargs)
            y = function(*args, **kwargs) if autograd.state.plain else _specially(function, args, kwargs)
        except (ValueError, TypeError, IndexError, RuntimeError, ZeroDivisionError) as error:
            _named(error, name)
            raise
        first = y if type(y) is Tensor else y[0] if type(y) is tuple and y else None
        if first is not None and first.origin is not None and first.pending is None and first.array.size <= SMALL:
            _remember(first.origin[0], y, wrapper, args, kwargs)
        return y

    REGISTRY[name] = wrapper
    return wrapper


def no_gradient(function: F) -> F:
    """Decorator of an op whose result never requires a gradient (comparisons, argmax); otherwise like ``op``."""
    name, aliases = function.__name__, other_names(function)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            if kwargs and not aliases.keys().isdisjoint(kwargs):
                args, kwargs = with_own_names(aliases, args, kwargs)
            return function(*args, **kwargs) if autograd.state.plain else _specially(function, args, kwargs)
        except (ValueError, TypeError, IndexError, RuntimeError, ZeroDivisionError) as error:
            _named(error, name)
            raise

    wrapper.no_gradient = True
    REGISTRY[name] = wrapper
    return wrapper


def other_names(function: Callable) -> dict[str, str]:
    """{PyTorch's name: ours} of the arguments of ``function`` that PyTorch calls otherwise, or by two names."""
    ours = list(inspect.signature(function).parameters)
    names = {"axis": "dim", "keepdims": "keepdim"}
    names = {other: own for other, own in names.items() if own in ours and other not in ours}
    return {"input": "x", **names} if ours[:1] == ["x"] and "input" not in ours else names


def with_own_names(aliases: dict[str, str], args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The arguments of a call under our names; ``input=`` becomes the first positional one, where the call has none."""
    if "out" in kwargs:  # NumPy's functions ask so: np.sum(x) calls x.sum(axis=None, dtype=None, out=None)
        raise TypeError("out= is not possible; for NumPy's functions use x.detach().numpy()")
    if not args and "input" in kwargs and "input" in aliases:
        args, kwargs = (kwargs["input"],), {name: value for name, value in kwargs.items() if name != "input"}
    return args, {aliases.get(name, name): value for name, value in kwargs.items()}


def _named(error: Exception, name: str) -> None:
    """Begin the exception's message with the op's name (the innermost op's, if ops call ops)."""
    if not getattr(error, "minigrad_op", None) and not isinstance(error, AnomalyError):  # which names it already
        error.args = (f"{name}: {error.args[0] if error.args else error}", *error.args[1:])
        error.minigrad_op = name


def _remember(node: Node, y, function: Callable, args: tuple, kwargs: dict) -> None:
    """Keep the call of a small op, so that the step-by-step view can show its values and check its gradient.

    Not if an argument is the result (in-place ops): the call could not be repeated, and would tie node and tensor in a knot.
    """
    if node.call is not None:
        return
    for a in args:
        if a is y or (isinstance(a, Tensor) and a.array.size > SMALL):
            return
    node.call = (function, args, kwargs)
    node.values = tuple([t.array for t in y]) if type(y) is tuple else (y.array,)


@contextmanager
def observed(observer: Callable) -> Iterator[None]:
    """Inside it every op of this thread is ``observer(function, args, kwargs)``, which must call it and return its result.

    ``function.__name__`` is the op's name. Ops that an op calls are observed too, inside its own call.
    """
    before, autograd.state.observer = autograd.state.observer, observer
    update_plain()
    try:
        yield
    finally:
        autograd.state.observer = before
        update_plain()


def _specially(function: Callable, args: tuple, kwargs: dict):
    """The result of an op where somebody observes, autocast is on, or 16-bit numbers or CuPy arrays may be given."""
    from minigrad.ops._precision import call  # it casts, which is an op

    return call(function, args, kwargs)


# ---- recording ---------------------------------------------------------------------------------------------------------


def record(
    data,
    inputs: Sequence[Tensor | None],
    backward: Callable,
    saves: Sequence[Tensor | None] = (),
    saves_output: bool = False,
    view_of: Tensor | None = None,
    name: str | None = None,
) -> Tensor:
    """The Tensor of the array ``data``, with a node in the graph if gradients are on and an input requires one.

    ``inputs``: tensors (or None) in the order in which ``backward`` returns gradients. ``saves``: the inputs that ``backward``
    reads, ``saves_output``: it reads ``data``. ``view_of``: the input whose memory ``data`` shares.
    ``name``: the op's, where backward is not nested in the function of that name.
    """
    y = Tensor(data)
    if view_of is not None:
        y.version, y.view_version = view_of.version, view_of.version[0]
    state = autograd.state
    if state.grad_enabled or state.anomaly:
        return _recorded(y, data, inputs, backward, saves, saves_output, name)
    return y


def record_pending(
    pending, inputs: Sequence[Tensor | None], backward: Callable, saves: Sequence[Tensor | None] = (), name: str | None = None
) -> Tensor:
    """Like ``record`` for a result whose array is computed later (see ``_pending.py``)."""
    return _recorded(Tensor.of_pending(pending), pending, inputs, backward, saves, False, name)


def _recorded(y: Tensor, data, inputs, backward: Callable, saves, saves_output: bool, name: str | None) -> Tensor:
    state = autograd.state
    if state.grad_enabled and (data.dtype.kind == "f" or is_floating(data.dtype)):
        edges = _edges(inputs)
        if edges is not None:
            saved = [(t.version, t.version[0]) for t in saves if t is not None]
            if saves_output:
                saved.append((y.version, y.version[0]))
            node = Node(backward, edges, saved, 1, name)
            y.requires_grad = True
            y.origin = (node, 0)
            if state.anomaly:
                node.made = _check(name or backward.__qualname__, (data,), inputs)
            return y
    if state.anomaly:
        _check(name or backward.__qualname__, (data,), inputs)
    return y


def record_outputs(
    datas: Sequence,
    inputs: Sequence[Tensor | None],
    backward: Callable,
    saves: Sequence[Tensor | None] = (),
    view_of: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Like ``record`` for an op with several outputs; ``backward`` takes one gradient per output, None where unused."""
    ys = tuple(Tensor(data) for data in datas)
    for y in ys:
        if view_of is not None:
            y.version, y.view_version = view_of.version, view_of.version[0]
    if autograd.state.anomaly:
        made = _check(backward.__qualname__, datas, inputs)
    edges = _edges(inputs) if autograd.state.grad_enabled else None
    if edges is not None:
        node = Node(backward, edges, [(t.version, t.version[0]) for t in saves if t is not None], len(ys))
        if autograd.state.anomaly:
            node.made = made
        for slot, y in enumerate(ys):
            if is_floating(y.array.dtype):
                y.requires_grad = True
                y.origin = (node, slot)
    return ys


def record_inplace(
    x: Tensor,
    inputs: Sequence[Tensor | None],
    backward: Callable,
    saves: Sequence[Tensor | None] = (),
    saves_output: bool = False,
) -> Tensor:
    """``x``, whose array was just changed in place (after ``check_inplace(x)``), with the change recorded.

    ``inputs`` starts with ``x`` itself: the gradient of the old value continues to whatever made it.
    """
    state = autograd.state
    edges = _edges(inputs) if state.grad_enabled else None  # before the version moves: x[0] = x[1] is allowed
    x.version[0] += 1
    if edges is not None:
        saved = [(t.version, t.version[0]) for t in saves if t is not None]
        if saves_output:
            saved.append((x.version, x.version[0]))
        node = Node(backward, edges, saved)
        if x.origin is not None:
            _move_retained(x, node)
        x.requires_grad = True
        x.origin = (node, 0)
        x.view_version = None  # as a view it has its memory to itself: see check_inplace
        if state.anomaly:
            node.made = _check(backward.__qualname__, (x.array,), inputs[1:])
        return x
    if state.anomaly:
        _check(backward.__qualname__, (x.array,), inputs[1:])
    return x


def _move_retained(x: Tensor, node: Node) -> None:
    """After ``x.retain_grad()`` it is the gradient of the new value, made by ``node``, that x keeps."""
    old, slot = x.origin
    if old.retained and slot in old.retained:
        node.retained = {0: old.retained.pop(slot)}


def check_inplace(x: Tensor, *others: Tensor | None) -> None:
    """Raise RuntimeError, before anything is changed, if ``x`` must not be changed in place.

    Pending results that are computed from its memory are computed first.
    """
    x.settle()
    if not getattr(x.array.flags, "writeable", True):
        raise RuntimeError(
            "a tensor whose memory is read-only (one that expand() made, or of a read-only array) cannot be changed in place: "
            "clone() it first"
        )
    if not autograd.state.grad_enabled:
        return
    if x.requires_grad and x.origin is None:
        raise RuntimeError(
            "a leaf tensor that requires grad cannot be changed in place while gradients are recorded: "
            "do it inside `with mg.no_grad():`, or make a new tensor"
        )
    differentiable = [t for t in others if t is not None and t.requires_grad]
    # A view without gradient may take values that have one if no other tensor (nor a node) counts changes of its memory.
    if x.view_version is not None and (x.requires_grad or (differentiable and sys.getrefcount(x.version) > 2)):
        raise RuntimeError(
            "a view cannot be changed in place where gradients are recorded, because the tensor that it is a view of would not "
            "know: change that one (x[index] = value), or clone() the view first"
        )
    if not is_floating(x.array.dtype) and differentiable:
        raise RuntimeError(f"a tensor of dtype {x.dtype} cannot hold values that require grad")
    for t in differentiable:
        _check_current(t)


def _edges(inputs: Sequence[Tensor | None]) -> tuple | None:
    """Where the gradient of each input goes; None if no input requires one."""
    needed = False
    edges = []
    for t in inputs:
        if t is None or not t.requires_grad:
            edges.append(None)
            continue
        needed = True
        _check_current(t)
        edges.append(t.origin if t.origin is not None else t)
    return tuple(edges) if needed else None


def _check_current(t: Tensor) -> None:
    if t.view_version is not None and t.view_version != t.version[0] and t.origin is not None:
        raise RuntimeError("this tensor is a view of one that was changed in place after the view was taken: take the view again")


def _check(op: str, outputs: Sequence, inputs: Sequence[Tensor | None]) -> str:
    return autograd.check_forward(op.split(".", 1)[0], outputs, [data_of(t) for t in inputs])


# ---- arguments ---------------------------------------------------------------------------------------------------------


def xp(x: Tensor) -> ModuleType:
    """The array library (``numpy`` or ``cupy``) of a tensor."""
    return array_module(x.array)


def data_of(t: Tensor | None):
    """The array of a tensor; None stays None."""
    return None if t is None else t.array


def check_tensor(value, name: str = "x") -> Tensor:
    """``value``, or a TypeError that names the argument if it is not a Tensor."""
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        fix = f"mg.tensor({name})" if isinstance(value, (list, tuple, int, float, np.ndarray)) else f"a Tensor as {name}"
        raise TypeError(f"{name} must be a Tensor, got {kind}: use {fix}")
    return value


def check_float(value, name: str = "x") -> Tensor:
    """``value`` if it is a tensor of floating-point numbers, else a TypeError that names the argument."""
    dtype = check_tensor(value, name).array.dtype
    if dtype.kind != "f" and not is_floating(dtype):
        raise TypeError(f"{name} must hold floating-point numbers, got dtype {value.dtype}: use {name}.float()")
    return value


def check_alike(**tensors: Tensor | None) -> None:
    """Raise TypeError or RuntimeError unless all tensors are of one floating dtype and lie on one device."""
    first = None
    for t in tensors.values():  # quickly past what is right, for every layer comes through here
        if t is None:
            continue
        array = t.array if isinstance(t, Tensor) else None
        if type(array) is not np.ndarray or (array.dtype.kind != "f" if first is None else array.dtype != first):
            break
        first = array.dtype
    else:
        return
    check_dtypes(**tensors)
    check_devices(**tensors)


def check_devices(**tensors: Tensor | None) -> None:
    """Raise RuntimeError unless all tensors lie on one device; the message names each argument and its device."""
    if all([t is None or type(t.array) is np.ndarray for t in tensors.values()]):  # noqa: C419 (a generator takes longer)
        return
    places = {name: device_of(t.array) for name, t in tensors.items() if t is not None}
    if len(set(places.values())) > 1:
        listed = ", ".join(f"{name} on {place}" for name, place in places.items())
        raise RuntimeError(f"all tensors must be on one device, got {listed}: move them with .to(device)")


def check_dtypes(**tensors: Tensor | None) -> None:
    """Raise TypeError unless all tensors are of one floating dtype; the message names each argument and its dtype."""
    kinds = {name: check_float(t, name).array.dtype for name, t in tensors.items() if t is not None}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
        raise TypeError(f"all tensors must have one dtype, but {listed}: convert with .float() or .double()")


def as_tensor(value, like: Tensor) -> Tensor:
    """``value`` (a Tensor, array or number) as a Tensor on the device of ``like``; a number takes its floating dtype."""
    if isinstance(value, Tensor):
        return value
    library = xp(like)
    if isinstance(value, np.generic) or not hasattr(value, "dtype"):
        if isinstance(value, (list, tuple)):
            raise TypeError(f"expected a Tensor or a number, got {type(value).__name__}: use mg.tensor(...)")
        dtype = like.dtype if is_floating(like.dtype) else None
        if library is np:
            return Tensor(np.asarray(value, dtype))
        return Tensor(library.full((), value, dtype or np.asarray(value).dtype))  # a launch, and no transfer
    return Tensor(value)


def normalize_dims(dim, ndim: int, name: str = "dim") -> tuple[int, ...]:
    """Dimensions as non-negative integers: None means all, negative ones count from the end; IndexError if out of range."""
    if dim is None:
        return tuple(range(ndim))
    dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    result = []
    for d in dims:
        if not isinstance(d, (int, np.integer)) or isinstance(d, bool):
            raise TypeError(f"{name} must be an integer or a tuple of integers, got {dim!r}")
        if not -max(ndim, 1) <= d < max(ndim, 1):
            raise IndexError(f"{name}={d} is out of range for a tensor of {ndim} dimensions")
        result.append(int(d) % max(ndim, 1))
    if len(set(result)) != len(result):
        raise ValueError(f"{name}={dim!r} names a dimension twice")
    return tuple(result) if ndim else ()


def times(a, b):
    """The array a * b, of a's shape and dtype, in the memory order of a, which CuPy's operators do not keep."""
    library = array_module(a)
    return a * b if library is np else library.multiply(a, b, out=library.empty_like(a))


def unbroadcast(g, shape: tuple[int, ...]):
    """Sum the array ``g`` over the dimensions along which an input of ``shape`` was broadcast."""
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    axes = (*range(lead), *(i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1))
    if not axes:
        return g.reshape(shape)
    if g.dtype.itemsize < 4:  # 16-bit numbers are added up in 32 bits, and rounded once
        return g.sum(axis=axes, keepdims=True, dtype=np.float32).astype(g.dtype).reshape(shape)
    return g.sum(axis=axes, keepdims=True).reshape(shape)
