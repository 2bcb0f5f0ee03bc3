"""What a model consists of: for every layer its output, parameters, multiplications, memory and receptive field."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.autograd import no_grad
from minigrad.nn import Module
from minigrad.ops._base import observed
from minigrad.tensor import Tensor
from minigrad.training.evaluation import device_of_model, evaluation_mode
from minigrad.training.receptive_field import PIXEL, Field, field_after
from minigrad.training.smallest import smallest_hint

__all__ = ["Row", "Summary", "summary"]


@dataclass
class Row:
    """One module, or one op that a module with submodules calls itself.

    ``level``             0 for the model, 1 for its layers, ...
    ``name``              the last part of the module's path, or the op's name
    ``kind``              the class of the module; "" for an op
    ``output``            shape of the output; None if it is not a tensor
    ``parameters``        own parameters of the module (0 where it was listed before: its parameters are shared)
    ``macs``              multiply-accumulates of convolutions and matrix products
    ``activation_bytes``  of all arrays made, without views
    ``field``             receptive field of the output; None if it does not depend on the input
    ``inner``             whether the rows of the next level are parts of this one, and hold its figures
    ``path``              the module's path in the model ("layer1.0.conv1"), or its caller's and the op's name
    ``settings``          what the module's printed form says of it, or the op's arguments that are not the usual ones
    """

    level: int
    name: str
    kind: str
    output: tuple[int, ...] | None = None
    parameters: int = 0
    macs: int = 0
    activation_bytes: int = 0
    field: Field | None = None
    inner: bool = False
    path: str = ""
    settings: str = ""


@dataclass(frozen=True)
class Summary:
    """What ``summary`` returns: ``print`` shows a table; the totals are numbers.

    ``rows``              all rows in the order of the computation
    ``parameters``        learned numbers, each once
    ``trainable``         those of them that require a gradient
    ``buffers``           numbers that are kept but not learned (running statistics)
    ``macs``              multiply-accumulates of convolutions and matrix products for one input
    ``activation_bytes``  of all arrays that the ops make for one input
    ``parameter_bytes``   of the parameters
    """

    rows: list[Row]
    parameters: int
    trainable: int
    buffers: int
    macs: int
    activation_bytes: int
    parameter_bytes: int
    depth: int | None = None

    def __str__(self) -> str:
        lines = [("layer", "kind", "output", "parameters", "MACs", "activations", "field")]
        for row in _folded(self.rows, self.depth):
            empty = row.inner and not row.parameters  # its figures are in the rows below
            figures = ("", "", "") if empty else (_number(row.parameters), _number(row.macs), _bytes(row.activation_bytes))
            output = " x ".join(map(str, row.output)) if row.output is not None else ""
            lines.append(("  " * row.level + row.name, row.kind, output, *figures, "" if row.field is None else str(row.field)))
        widths = [max(len(line[i]) for line in lines) for i in range(7)]
        text = [_line(line, widths) for line in lines]
        text.insert(1, "-" * len(text[0]))
        frozen = "" if self.trainable == self.parameters else f" ({self.trainable:,} trainable)"
        return "\n".join(
            [
                *(line.rstrip() for line in text),
                "-" * len(text[0]),
                f"parameters   {self.parameters:,}{frozen}, {_bytes(self.parameter_bytes)}; buffers {self.buffers:,}",
                f"MACs         {self.macs:,}",
                f"activations  {_bytes(self.activation_bytes)}",
            ]
        )

    def __repr__(self) -> str:
        return str(self)


def summary(model: Module, input_shape: Sequence[int], depth: int | None = None) -> Summary:
    """Describe ``model`` layer by layer, from one forward pass in evaluation mode with an input of zeros.

    ``input_shape``: (C, H, W) of one image, or any shape with a leading 1 or another batch size. ``depth``: show so many
    levels of submodules (all by default); the figures of deeper ones are added to their parents.

    A multiply-accumulate (MAC) is one multiplication with its addition in a convolution or a matrix product; normalization,
    activations, pooling and biases are not counted, as is usual. The model's modes and buffers stay as they are.
    Raises ValueError if the shape is not one, or if the model does not take such an input.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model must be a Module, got {type(model).__name__}")
    shape = _checked_shape(input_shape)
    if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 0):
        raise ValueError(f"depth must be an integer of at least 0, got {depth!r}")
    parameters = list(model.parameters())
    dtype = next((p.dtype for p in parameters if p.dtype.kind == "f"), np.dtype(np.float32))
    x = Tensor(np.zeros(shape, dtype)).to(device_of_model(model))
    recorder = _Recorder(model, x)
    try:
        with evaluation_mode(model), no_grad(), recorder.attached(), observed(recorder.on_op):
            model(x)
    except ValueError as error:
        hint = smallest_hint(model, *shape[1:]) if len(shape) == 4 else ""
        raise ValueError(f"{error}{hint}") from None
    return Summary(
        recorder.rows,
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(b.numel() for b in model.buffers()),
        sum(row.macs for row in recorder.rows),
        sum(row.activation_bytes for row in recorder.rows),
        sum(p.nbytes for p in parameters),
        depth,
    )


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    numbers = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not numbers or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0 for n in numbers):
        raise ValueError(f"input_shape must be sizes of at least 1 such as (3, 32, 32), got {shape!r}")
    return (1, *numbers) if len(numbers) == 3 else tuple(int(n) for n in numbers)


# ---- watching a forward pass -------------------------------------------------------------------------------------------


class _Recorder:
    """Makes the rows while a forward pass runs: hooks tell of modules, the observer of ops."""

    def __init__(self, model: Module, x: Tensor):
        self.model = model
        self.rows: list[Row] = []
        self.open: list[tuple[Module, Row]] = []  # modules whose forward is running
        self.counted: set[int] = set()  # parameters that have a row
        self.inside = 0  # ops that are running
        self.fields: dict[int, Field | None] = {id(x): PIXEL}
        self.alive: list[Any] = [x]  # as long as they live, no other object has their id

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks on all modules for a while."""
        handles = []
        try:
            for module in self.model.modules():
                handles.append(module.register_forward_pre_hook(self.on_begin, prepend=True))
                handles.append(module.register_forward_hook(self.on_end))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def on_begin(self, module: Module, args: tuple) -> None:
        parent = self.open[-1][0] if self.open else None
        name = next((key for key, child in parent.named_children() if child is module), "?") if parent is not None else "model"
        above = self.open[-1][1].path if self.open else ""
        row = Row(len(self.open), name, type(module).__name__, inner=any(True for _ in module.children()))
        row.path, row.settings = f"{above}.{name}".lstrip(".") if self.open else "", module.extra_repr()
        for p in module.parameters(recurse=False):
            if id(p) not in self.counted:
                self.counted.add(id(p))
                row.parameters += p.numel()
        self.rows.append(row)
        self.open.append((module, row))

    def on_end(self, module: Module, args: tuple, output: Any) -> None:
        _, row = self.open.pop()
        if isinstance(output, Tensor):
            row.output, row.field = output.shape, self.fields.get(id(output))

    def on_op(self, function, args: tuple, kwargs: dict) -> Any:
        """Run an op, and write down what it made, unless another op called it."""
        self.inside += 1
        try:
            result = function(*args, **kwargs)
        finally:
            self.inside -= 1
        if self.inside == 0 and self.open:
            self.note(function, args, kwargs, result)
        return result

    def note(self, function, args: tuple, kwargs: dict, result: Any) -> None:
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        name, arguments = function.__name__, bound.arguments
        tensors = _tensors(arguments.values())
        outputs = _tensors(result if isinstance(result, tuple) else (result,))
        row = self.open[-1][1]
        if row.inner:
            row = Row(len(self.open), name, "", path=f"{row.path}.{name}".lstrip("."), settings=_settings(function, arguments))
            self.rows.append(row)
        known = [(t, field) for t in tensors if (field := self.fields.get(id(t))) is not None]
        for y in outputs:
            if id(y) not in self.fields:
                self.fields[id(y)] = field_after(name, arguments, known, y)
                self.alive.append(y)
            if not any(np.may_share_memory(_host(y), _host(t)) for t in tensors):
                row.activation_bytes += y.nbytes
        if row.kind == "" and outputs:
            row.output, row.field = outputs[0].shape, self.fields[id(outputs[0])]
        row.macs += _macs(name, arguments, outputs)


def _settings(function, arguments: dict[str, Any]) -> str:
    """The arguments of an op that are neither tensors nor the usual ones."""
    usual = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    told = (int, float, str, bool, tuple, list)
    return ", ".join(
        f"{name}={value!r}"
        for name, value in arguments.items()
        if isinstance(value, told) and not _tensors([value]) and not (value is usual[name] or value == usual[name])
    )


def _tensors(values: Any) -> list[Tensor]:
    """The tensors among values, also those in lists and tuples."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found


def _host(t: Tensor) -> np.ndarray:
    return t.data if isinstance(t.data, np.ndarray) else np.empty(0)


def _macs(name: str, arguments: dict[str, Any], outputs: list[Tensor]) -> int:
    """Multiply-accumulates of one op."""
    if name == "conv2d":
        return outputs[0].numel() * math.prod(arguments["weight"].shape[1:])
    if name == "conv_transpose2d":
        return arguments["x"].numel() * math.prod(arguments["weight"].shape[1:])
    if name == "linear":
        return outputs[0].numel() * arguments["weight"].shape[1]
    if name in ("matmul", "mm", "bmm", "mv", "dot", "outer"):
        return outputs[0].numel() * (1 if name == "outer" else arguments["x"].shape[-1])
    if name == "einsum":
        return _einsum_macs(arguments)
    return 0


def _einsum_macs(arguments: dict[str, Any]) -> int:
    """One for each combination of all indices, in a product of two operands; "..." is not taken apart and counts as its size."""
    operands = _tensors(arguments["operands"])
    if len(operands) < 2:
        return 0
    lengths: dict[str, int] = {}
    for letters, t in zip(arguments["equation"].replace(" ", "").partition("->")[0].split(","), operands, strict=True):
        named = letters.replace("...", "")
        rest = t.shape[letters.find("...") :][: t.ndim - len(named)] if "..." in letters else ()
        sizes = [n for i, n in enumerate(t.shape) if not (rest and letters.find("...") <= i < letters.find("...") + len(rest))]
        for letter, n in (*zip(named, sizes, strict=True), ("...", math.prod(rest))):
            lengths[letter] = max(n, lengths.get(letter, 1))
    return math.prod(lengths.values())


# ---- the table ---------------------------------------------------------------------------------------------------------


def _folded(rows: list[Row], depth: int | None) -> list[Row]:
    """The rows of up to ``depth`` levels, with the figures of deeper ones added to the last row above them."""
    if depth is None:
        return rows
    shown: list[Row] = []
    for row in rows:
        if row.level <= depth:
            shown.append(Row(**{**row.__dict__, "inner": row.inner and row.level < depth}))
        else:
            parent = shown[-1]
            parent.parameters += row.parameters
            parent.macs += row.macs
            parent.activation_bytes += row.activation_bytes
    return shown


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return "  ".join([*left, *right])


def _number(n: int) -> str:
    return f"{n:,}" if n else ""


def _bytes(n: int) -> str:
    """ "3.5 MiB"; nothing for 0."""
    power = min((n.bit_length() - 1) // 10, 4) if n else 0
    if not power:
        return f"{n} B" if n else ""
    return f"{n / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"
