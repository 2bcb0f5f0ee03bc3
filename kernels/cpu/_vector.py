"""Vectors in kernels: a register full of numbers as one value.

    v = load(x, at)                        # x[at : at + lanes(x)]
    w = fma(v, fill(x, 2.0), load(y, at))  # v * 2 + y, rounded once
    store(y, at, w + v)

The compiler turns most loops into such code by itself. Written out it is where a loop has many streams of memory, whose
independence the compiler cannot see. Arrays have one dimension and no gaps; ``at`` counts elements and is not checked; ``first``
loads and stores touch only that many elements (a loaded vector holds zeros behind them).

Without the compiler (NUMBA_DISABLE_JIT=1) a vector is a NumPy array.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba.core import config, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from . import _machine
from ._compiler import device_function

__all__ = [
    "clear",
    "copy",
    "fill",
    "fma",
    "lanes",
    "load",
    "load_first",
    "load_if",
    "load_narrow",
    "load_three",
    "load_where",
    "load_wide",
    "narrow",
    "prefetch",
    "select_larger",
    "select_positive",
    "store",
    "store_first",
    "store_integers",
    "total_of",
    "transpose",
    "vector_intrinsic",
    "widen",
]

INDEX = ir.IntType(64)


class Vector(types.Type):
    """The Numba type of a register full of float32 or float64 numbers, or of as many as there are float64 numbers in one."""

    def __init__(self, dtype, narrow: bool = False):
        self.dtype, self.count = dtype, width_of(types.float64 if narrow else dtype)
        super().__init__(name=f"vector({dtype} x {self.count})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(element_type(fe_type.dtype), fe_type.count))


def element_type(dtype) -> ir.Type:
    """LLVM's type of a float32 or float64 number."""
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


def width_of(dtype) -> int:
    """How many numbers of a Numba dtype a vector holds."""
    return _machine.lanes(np.dtype(str(dtype)))


def vector_type(dtype) -> ir.VectorType:
    """LLVM's type of a vector."""
    return ir.VectorType(element_type(dtype), width_of(dtype))


def vector_intrinsic(emulation):
    """Decorator of the code generator of an intrinsic; ``emulation`` does the same in plain Python, without the compiler."""

    def decorate(function):
        return emulation if config.DISABLE_JIT else intrinsic(prefer_literal=True)(function)

    return decorate


# ---- code generation -------------------------------------------------------------------------------------------------


def pointer(context, builder, kind, array, at):
    """The address of element ``at`` of an array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def opaque(builder, address):
    """The same address, of which the compiler does not know how it came about: it cannot rearrange how addresses are computed."""
    return builder.asm(ir.FunctionType(address.type, [address.type]), "", "=r,0", [address], False)


def declared(builder, name: str, vector: ir.VectorType, result: ir.Type, arguments: list[ir.Type]):
    """LLVM's intrinsic function for a type of vector."""
    suffix = f"v{vector.count}{'i' if isinstance(vector.element, ir.IntType) else 'f'}{8 * _bytes(vector)}"
    kind = ir.FunctionType(result, arguments)
    name = f"llvm.{name}.{suffix}" + (".p0" if "masked" in name else "")
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def emit_load(builder, address, vector: ir.VectorType, mask=None):
    """A vector from memory that need not be aligned."""
    at = builder.bitcast(address, vector.as_pointer())
    if mask is not None:
        arguments = [vector.as_pointer(), ir.IntType(32), mask.type, vector]
        function = declared(builder, "masked.load", vector, vector, arguments)
        return builder.call(function, [at, ir.IntType(32)(_bytes(vector)), mask, ir.Constant(vector, None)])
    value = builder.load(at)
    value.align = _bytes(vector)
    return value


def emit_store(builder, value, address, mask=None) -> None:
    """A vector to memory that need not be aligned."""
    vector = value.type
    at = builder.bitcast(address, vector.as_pointer())
    if mask is not None:
        arguments = [vector, vector.as_pointer(), ir.IntType(32), mask.type]
        function = declared(builder, "masked.store", vector, ir.VoidType(), arguments)
        builder.call(function, [value, at, ir.IntType(32)(_bytes(vector)), mask])
        return
    builder.store(value, at).align = _bytes(vector)


def emit_prefetch(builder, address, to_write: bool = False) -> None:
    """Ask for a cache line that will be read or written to. An address that is nobody's does no harm."""
    integer = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), integer, integer, integer])
    function = builder.module.globals.get("llvm.prefetch.p0") or ir.Function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.bitcast(address, ir.IntType(8).as_pointer()), integer(int(to_write)), integer(3), integer(1)])


def emit_fill(builder, number, vector: ir.VectorType):
    """The vector that holds ``number`` everywhere."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count))


def emit_mask(builder, count, vector: ir.VectorType):
    """The mask of the first ``count`` lanes."""
    numbers = ir.VectorType(ir.IntType(32), vector.count)
    limit = emit_fill(builder, builder.trunc(count, ir.IntType(32)), numbers)
    return builder.icmp_signed("<", ir.Constant(numbers, list(range(vector.count))), limit)


def emit_fma(builder, x, y, z):
    """x * y + z, rounded once where the processor can, and then always."""
    if _machine.vector_features() & {"fma", "neon", "avx512f"}:
        return builder.call(declared(builder, "fma", x.type, x.type, [x.type] * 3), [x, y, z])
    return builder.fadd(builder.fmul(x, y), z)


def _bytes(vector: ir.VectorType) -> int:
    return 4 if isinstance(vector.element, ir.FloatType) else 8


# ---- loads and stores ------------------------------------------------------------------------------------------------


@vector_intrinsic(lambda x: _machine.lanes(x.dtype))
def lanes(typing, x):
    """How many numbers a vector of the elements of x holds."""

    def generate(context, builder, sig, args):
        return INDEX(width_of(x.dtype))

    return types.intp(x), generate


@vector_intrinsic(lambda x, at: x[at : at + _machine.lanes(x.dtype)].copy())
def load(typing, x, at):
    """The vector x[at], x[at + 1], ..."""

    def generate(context, builder, sig, args):
        return emit_load(builder, pointer(context, builder, x, *args), vector_type(x.dtype))

    return Vector(x.dtype)(x, types.intp), generate


def _load_first(x, at, count):
    result = np.zeros(_machine.lanes(x.dtype), x.dtype)
    count = min(max(count, 0), len(result))
    result[:count] = x[at : at + count]
    return result


@vector_intrinsic(_load_first)
def load_first(typing, x, at, count):
    """The vector of x[at : at + count] and zeros."""

    def generate(context, builder, sig, args):
        vector = vector_type(x.dtype)
        mask = emit_mask(builder, args[2], vector)
        return emit_load(builder, pointer(context, builder, x, *args[:2]), vector, mask)

    return Vector(x.dtype)(x, types.intp, types.intp), generate


@vector_intrinsic(lambda x, at, step: tuple(x[at + k * step :][: _machine.lanes(x.dtype)].copy() for k in range(3)))
def load_three(typing, x, at, step):
    """The vectors x[at], x[at + step] and x[at + 2 * step], ...

    They are reached from one address: of a dozen vectors with as many addresses, most of those would not stay in registers.
    """

    def generate(context, builder, sig, args):
        first = opaque(builder, pointer(context, builder, x, *args[:2]))
        places = [first, builder.gep(first, [args[2]]), builder.gep(first, [builder.mul(args[2], INDEX(2))])]
        values = [emit_load(builder, place, vector_type(x.dtype)) for place in places]
        return context.make_tuple(builder, sig.return_type, values)

    return types.UniTuple(Vector(x.dtype), 3)(x, types.intp, types.intp), generate


@vector_intrinsic(lambda x, at, there: x[at : at + _machine.lanes(x.dtype)].copy() if there else _load_first(x, 0, 0))
def load_if(typing, x, at, there):
    """The vector x[at], x[at + 1], ..., or zeros if it is not there."""

    def generate(context, builder, sig, args):
        vector, before = vector_type(x.dtype), builder.block
        with builder.if_then(args[2]):
            value, after = emit_load(builder, opaque(builder, pointer(context, builder, x, *args[:2])), vector), builder.block
        result = builder.phi(vector)
        result.add_incoming(ir.Constant(vector, None), before)
        result.add_incoming(value, after)
        return result

    return Vector(x.dtype)(x, types.intp, types.boolean), generate


def _load_narrow(x, at, count):
    result = np.zeros(_machine.lanes(np.float64), x.dtype)
    count = min(max(count, 0), len(result))
    result[:count] = x[at : at + count]
    return result


@vector_intrinsic(_load_narrow)
def load_narrow(typing, x, at, count):
    """As many elements as a float64 vector has: x[at : at + count] and zeros."""

    def generate(context, builder, sig, args):
        vector = ir.VectorType(element_type(x.dtype), width_of(types.float64))
        address = pointer(context, builder, x, *args[:2])
        with builder.if_else(builder.icmp_signed("<", args[2], INDEX(vector.count))) as (partial, whole):
            with partial:
                some, some_from = emit_load(builder, address, vector, emit_mask(builder, args[2], vector)), builder.block
            with whole:
                all_, all_from = emit_load(builder, address, vector), builder.block
        value = builder.phi(vector)
        value.add_incoming(some, some_from)
        value.add_incoming(all_, all_from)
        return value

    return Vector(x.dtype, narrow=True)(x, types.intp, types.intp), generate


@vector_intrinsic(lambda x: x.astype(np.float64))
def widen(typing, x):
    """What ``load_narrow`` gave as a vector of float64."""

    def generate(context, builder, sig, args):
        wide = vector_type(types.float64)
        return args[0] if args[0].type == wide else builder.fpext(args[0], wide)

    return Vector(types.float64)(x), generate


@vector_intrinsic(lambda like, x: x.astype(like.dtype))
def narrow(typing, like, x):
    """A vector of float64 as ``load_narrow`` gives those of the array ``like``."""

    def generate(context, builder, sig, args):
        short = ir.VectorType(element_type(like.dtype), args[1].type.count)
        return args[1] if args[1].type == short else builder.fptrunc(args[1], short)

    return Vector(like.dtype, narrow=True)(like, x), generate


@device_function(reassociate=False, inline=True)
def load_wide(x, at, count):
    """The float64 vector of x[at : at + count] and zeros."""
    return widen(load_narrow(x, at, count))


@vector_intrinsic(lambda x, at: None)
def prefetch(typing, x, at):
    """Ask for the cache line of x[at], which will be written to."""

    def generate(context, builder, sig, args):
        emit_prefetch(builder, pointer(context, builder, x, *args), to_write=True)
        return context.get_dummy_value()

    return types.void(x, types.intp), generate


def _load_where(x, at, count, numbers, number):
    result, count = _load_first(x, at, count), min(max(count, 0), _machine.lanes(x.dtype))
    result[:count][numbers[at : at + count] != number] = 0
    return result


@vector_intrinsic(_load_where)
def load_where(typing, x, at, count, numbers, number):
    """The vector of x[at : at + count] where the int64 of the same place in ``numbers`` is ``number``, else 0."""

    def generate(context, builder, sig, args):
        vector = vector_type(x.dtype)
        kind, mask = ir.VectorType(INDEX, vector.count), emit_mask(builder, args[2], vector)
        found = emit_load(builder, pointer(context, builder, numbers, args[3], args[1]), kind, mask)
        equal = builder.and_(mask, builder.icmp_signed("==", found, emit_fill(builder, args[4], kind)))
        return emit_load(builder, pointer(context, builder, x, args[0], args[1]), vector, equal)

    return Vector(x.dtype)(x, types.intp, types.intp, numbers, types.intp), generate


def _store(x, at, value):
    x[at : at + len(value)] = value


@vector_intrinsic(_store)
def store(typing, x, at, value):
    """x[at], x[at + 1], ... = value."""

    def generate(context, builder, sig, args):
        emit_store(builder, args[2], pointer(context, builder, x, *args[:2]))
        return context.get_dummy_value()

    return types.void(x, types.intp, value), generate


def _store_first(x, at, value, count):
    count = min(max(count, 0), len(value))
    x[at : at + count] = value[:count]


@vector_intrinsic(_store_first)
def store_first(typing, x, at, value, count):
    """x[at : at + count] = the first elements of value. Masked stores are slow on some processors, so whole vectors use none."""

    def generate(context, builder, sig, args):
        _emit_store_first(builder, args[2], pointer(context, builder, x, *args[:2]), args[3])
        return context.get_dummy_value()

    return types.void(x, types.intp, value, types.intp), generate


def _emit_store_first(builder, value, address, count) -> None:
    with builder.if_else(builder.icmp_signed("<", count, INDEX(value.type.count))) as (partial, whole):
        with partial, builder.if_then(builder.icmp_signed("<", INDEX(0), count)):
            emit_store(builder, value, address, emit_mask(builder, count, value.type))
        with whole:
            emit_store(builder, value, address)


def _store_integers(x, at, value, offset, count):
    count = min(max(count, 0), len(value))
    x[at : at + count] = value[:count].astype(np.int64) + offset


@vector_intrinsic(_store_integers)
def store_integers(typing, x, at, value, offset, count):
    """x[at : at + count] = the first elements of value, which are whole numbers, plus offset; x holds int64."""

    def generate(context, builder, sig, args):
        numbers = ir.VectorType(INDEX, args[2].type.count)
        whole = builder.add(builder.fptosi(args[2], numbers), emit_fill(builder, args[3], numbers))
        _emit_store_first(builder, whole, pointer(context, builder, x, *args[:2]), args[4])
        return context.get_dummy_value()

    return types.void(x, types.intp, value, types.intp, types.intp), generate


def _transpose(source, at, step, rows, target, to, row, columns):
    for r in range(_machine.lanes(source.dtype)):
        for k in range(columns):
            target[to + k * row + r] = source[at + r * step + k] if r < rows else 0


@vector_intrinsic(_transpose)
def transpose(typing, source, at, step, rows, target, to, row, columns):
    """target[to + k*row + r] = source[at + r*step + k] for r < rows, 0 for rows <= r < lanes; k < columns <= lanes.

    A block of as many rows as columns is turned in registers: rows that are d apart exchange their parts, for d = 1, 2, 4, ...
    """

    def generate(context, builder, sig, args):
        vector = vector_type(source.dtype)
        count, zero = vector.count, INDEX(0)
        first = pointer(context, builder, source, args[0], args[1])
        values = []
        for r in range(count):
            there = builder.icmp_signed("<", INDEX(r), args[3])
            mask = emit_mask(builder, builder.select(there, args[7], zero), vector)
            values.append(emit_load(builder, builder.gep(first, [builder.mul(args[2], INDEX(r))]), vector, mask))
        distance = 1
        while distance < count:
            values = _exchanged(builder, values, distance)
            distance *= 2
        into = pointer(context, builder, target, args[4], args[5])
        for k, value in enumerate(values):
            with builder.if_then(builder.icmp_signed("<", INDEX(k), args[7])):
                emit_store(builder, value, builder.gep(into, [builder.mul(args[6], INDEX(k))]))
        return context.get_dummy_value()

    numbers = types.intp
    return types.void(source, numbers, numbers, numbers, target, numbers, numbers, numbers), generate


def _exchanged(builder, values, distance: int):
    """Rows whose numbers differ by ``distance`` exchange the elements whose numbers do."""
    count, results = len(values), list(values)
    order = ir.VectorType(ir.IntType(32), count)
    upper = ir.Constant(order, [j if not j & distance else count + j - distance for j in range(count)])
    lower = ir.Constant(order, [j + distance if not j & distance else count + j for j in range(count)])
    for r in range(count):
        if not r & distance:
            results[r] = builder.shuffle_vector(values[r], values[r + distance], upper)
            results[r + distance] = builder.shuffle_vector(values[r], values[r + distance], lower)
    return results


# ---- arithmetic ------------------------------------------------------------------------------------------------------


@vector_intrinsic(lambda x, number: np.full(_machine.lanes(x.dtype), number, x.dtype))
def fill(typing, x, number):
    """The vector that holds ``number`` everywhere, for elements like those of the array x."""

    def generate(context, builder, sig, args):
        return emit_fill(builder, context.cast(builder, args[1], sig.args[1], x.dtype), vector_type(x.dtype))

    return Vector(x.dtype)(x, types.unliteral(number)), generate


@vector_intrinsic(lambda x, y, z: x * y + z)
def fma(typing, x, y, z):
    """x * y + z."""

    def generate(context, builder, sig, args):
        return emit_fma(builder, *args)

    return x(x, x, x), generate


@vector_intrinsic(lambda x, y: np.where(y <= 0, x.dtype.type(0), x))
def select_positive(typing, x, y):
    """x where y > 0 or y is NaN, else 0: what a ReLU lets through, or its gradient."""

    def generate(context, builder, sig, args):
        zero = ir.Constant(args[0].type, [0.0] * args[0].type.count)
        return builder.select(builder.fcmp_ordered("<=", args[1], zero), zero, args[0])

    return x(x, x), generate


@vector_intrinsic(lambda x, y, one, other: np.where((x > y) | (x != x), one, other))
def select_larger(typing, x, y, one, other):
    """``one`` where x > y or x is NaN, ``other`` elsewhere."""

    def generate(context, builder, sig, args):
        larger = builder.fcmp_ordered(">", args[0], args[1])
        nan = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.select(builder.or_(larger, nan), args[2], args[3])

    return x(x, x, x, x), generate


def _total_of(x):
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x[0]


@vector_intrinsic(_total_of)
def total_of(typing, x):
    """The sum of the elements of a vector: of its halves, of the halves of that, and so on."""

    def generate(context, builder, sig, args):
        value, undefined = args[0], ir.Constant(args[0].type, ir.Undefined)
        half = value.type.count // 2
        while half:
            order = [k + half if k < half else k for k in range(value.type.count)]
            moved = builder.shuffle_vector(value, undefined, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))
            value = builder.fadd(value, moved)
            half //= 2
        return builder.extract_element(value, ir.IntType(32)(0))

    return x.dtype(x), generate


def _arithmetic(symbol, instruction: str) -> None:
    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(symbol, Vector, Vector)
    def _lower(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


for _symbol, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _arithmetic(_symbol, _instruction)


# ---- pieces of memory ------------------------------------------------------------------------------------------------


@device_function(reassociate=False, inline=True)
def copy(source, start, target, at, size):
    """target[at : at + size] = source[start : start + size]."""
    step = lanes(source)
    whole = size - size % step
    for k in range(0, whole, step):
        store(target, at + k, load(source, start + k))
    if whole < size:
        store_first(target, at + whole, load_first(source, start + whole, size - whole), size - whole)


@device_function(reassociate=False, inline=True)
def clear(target, at, size):
    """target[at : at + size] = 0."""
    step = lanes(target)
    whole = size - size % step
    for k in range(0, whole, step):
        store(target, at + k, fill(target, 0.0))
    if whole < size:
        store_first(target, at + whole, fill(target, 0.0), size - whole)
