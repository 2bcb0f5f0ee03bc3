"""The rules of the CPU kernels: read from their syntax trees, from the compiled code, and from runs without the compiler.

A tree shows what is written, not what it computes: that a write is indexed by something that comes from the prange index does not
prove that no other iteration writes there. So all kernels also run here without the compiler, one iteration at a time:
each must write what it writes among the others, and to places of its own.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from minigrad.kernels import cpu
from minigrad.kernels.cpu import _compiler, _threads
from minigrad.kernels.cpu._compiler import FASTMATH, Kernel, device_function, kernel, prange
from tests.kernels.agreement import build
from tests.kernels.small import MUCH, double, doubles, finish, start
from tests.kernels.test_bits import results_of_all_kernels

FOLDER = Path(cpu.__file__).parent
COMPILERS = {"jit", "njit", "generated_jit", "vectorize", "guvectorize", "stencil", "cfunc"}

# What kernels and the functions that they call may call and write: nothing that allocates an array or raises an exception.
CALLS = {"range", "min", "max", "len", "abs", "int", "float", "bool", "round", "zip", "enumerate", "divmod"}
NUMPY = {"bool_", "float32", "float64", "int32", "int64", "intp", "uint32", "uint64", "uintp", "inf", "nan", "pi"}
NODES = (
    *(ast.Assign, ast.AugAssign, ast.For, ast.While, ast.If, ast.Break, ast.Continue, ast.Pass, ast.Return, ast.Expr, ast.Call),
    *(ast.Name, ast.Constant, ast.Tuple, ast.Starred, ast.Subscript, ast.Slice, ast.Attribute, ast.IfExp),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context),
)


class Source:
    """One module: its kernels and device functions, and the names that they can see."""

    def __init__(self, name: str, text: str):
        self.name, self.tree = name, ast.parse(text)
        self.kernels: dict[str, ast.FunctionDef] = {}
        self.device_functions: dict[str, ast.FunctionDef] = {}
        self.imported: dict[str, tuple[str, str]] = {}  # from modules of the same folder
        self.literals: set[str] = set()  # names of numbers that are written out
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef):
                found = {"kernel": self.kernels, "device_function": self.device_functions}.get(_decorator(node))
                if found is not None:
                    found[node.name] = node
            elif isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
                self.imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
            elif isinstance(node, ast.Assign) and _is_literal(node.value):
                self.literals |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        stored = [n.id for n in ast.walk(self.tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        self.literals = {name for name in self.literals if stored.count(name) == 1}


def _decorator(function: ast.FunctionDef) -> str | None:
    """The name of the only decorator, with arguments or without."""
    if len(function.decorator_list) != 1:
        return None
    node = function.decorator_list[0]
    node = node.func if isinstance(node, ast.Call) else node
    return node.id if isinstance(node, ast.Name) else None


def _is_literal(node: ast.expr) -> bool:
    parts = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple, ast.operator, ast.unaryop, ast.Load)
    return all(isinstance(part, parts) and not isinstance(getattr(part, "value", 0), str) for part in ast.walk(node))


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _values(node: ast.AST) -> set[str]:
    """The names whose values an expression reads; the size of a view is the same for every iteration."""
    if isinstance(node, ast.Attribute) and node.attr in ("size", "shape", "ndim"):
        return set()
    own = {node.id} if isinstance(node, ast.Name) else set()
    return own.union(*map(_values, ast.iter_child_nodes(node)))


def _stored(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _parameters(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in function.args.args]


def _loop(function: ast.FunctionDef) -> ast.For | None:
    """The loop over the prange, if it is written as it should be."""
    last = function.body[-1]
    right = isinstance(last, ast.For) and isinstance(last.target, ast.Name) and isinstance(last.iter, ast.Call)
    if right and ast.unparse(last.iter.func) == "prange" and len(last.iter.args) == 1 and not last.iter.keywords:
        return last
    return None


class Rules:
    """What is wrong with the kernels of some modules, each complaint with its line."""

    def __init__(self, sources: dict[str, Source]):
        self.sources = sources

    def function(self, source: Source, name: str) -> tuple[Source, ast.FunctionDef] | None:
        """The device function that is called ``name`` in a module."""
        if name in source.device_functions:
            return source, source.device_functions[name]
        module, original = source.imported.get(name, (None, None))
        if module in self.sources and original in self.sources[module].device_functions:
            return self.sources[module], self.sources[module].device_functions[original]
        return None

    def complaints(self, source: Source) -> Iterator[str]:
        for function in source.kernels.values():
            yield from self.shape(function)
            yield from self.body(source, function)
            loop = _loop(function)
            if loop is not None:
                yield from self.sums(function, loop)
                yield from self.writes(source, function, {loop.target.id})
        for function in source.device_functions.values():
            yield from self.body(source, function)
        yield from self.module(source)

    def shape(self, function: ast.FunctionDef) -> Iterator[str]:
        """Numbers first, then one loop over a prange."""
        loop, ranges = _loop(function), [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == "prange"]
        if loop is None or len(ranges) != 1:
            yield f"line {function.lineno}: {function.name} must end with its only loop over a prange"
        for node in function.body[:-1]:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # the docstring
            if not isinstance(node, ast.Assign) or any(isinstance(n, ast.Subscript) for t in node.targets for n in ast.walk(t)):
                yield f"line {node.lineno}: {function.name} may only name numbers before its loop"
        for node in ast.walk(function):
            if isinstance(node, ast.Return):
                yield f"line {node.lineno}: {function.name} returns"

    def body(self, source: Source, function: ast.FunctionDef) -> Iterator[str]:
        """Nothing that allocates or raises, no name whose value is not in the sources."""
        known = _stored(function) | set(_parameters(function)) | {"prange"}
        arguments = function.args
        if any((arguments.posonlyargs, arguments.kwonlyargs, arguments.vararg, arguments.kwarg, arguments.defaults)):
            yield f"line {function.lineno}: {function.name} may only have plain parameters"
        statements = function.body[1:] if ast.get_docstring(function) else function.body
        for node in (n for statement in statements for n in ast.walk(statement)):
            place = f"line {getattr(node, 'lineno', function.lineno)}: {function.name}"
            if not isinstance(node, NODES) or isinstance(node, ast.MatMult):
                yield f"{place} uses {type(node).__name__}"
            elif isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
                yield f"{place} uses a text"
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np":
                if node.attr not in NUMPY:
                    yield f"{place} uses np.{node.attr}"
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                fine = called in CALLS | {"prange"} or called.startswith(("np.", "math.")) or self.function(source, called)
                if not fine or node.keywords:
                    yield f"{place} calls {called}" + (" with keywords" if fine else "")
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in known | CALLS | {"np", "math"}:
                module, original = source.imported.get(node.id, (source.name, node.id))
                literal = module in self.sources and original in self.sources[module].literals
                if not literal and not self.function(source, node.id):
                    yield f"{place} reads {node.id}, which is no number that is written out: the cache would not see it change"
        for builtin in sorted(_stored(function) & vars(builtins).keys()):
            yield f"line {function.lineno}: {function.name} gives {builtin} another meaning"
        if function.name in source.device_functions and "prange" in _names(function):
            yield f"line {function.lineno}: {function.name} has a prange and is no kernel"

    def sums(self, function: ast.FunctionDef, loop: ast.For) -> Iterator[str]:
        """What an iteration gives a name to is its own: nothing is carried over, so nothing is summed over the iterations."""
        outside = set(_parameters(function)).union(*(_stored(node) for node in function.body[:-1]))
        for name in sorted(_stored(loop) & outside):
            yield f"line {loop.lineno}: {function.name} gives {name} a value inside and outside its loop"

    def writes(self, source: Source, function: ast.FunctionDef, own: set[str], seen=frozenset()) -> Iterator[str]:
        """Every element that is written is found through a name that depends on the prange index."""
        own = _depending(function, own)
        for node in ast.walk(function):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
            for part in (part for target in targets for part in ast.walk(target)):
                if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
                    yield f"line {node.lineno}: {function.name} writes to an attribute"
                if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store) and not _values(part) & own:
                    yield f"line {node.lineno}: {function.name} writes to {ast.unparse(part)}, whatever the iteration"
            if isinstance(node, ast.Call) and (called := self.function(source, ast.unparse(node.func))):
                arguments = _unpacked(function, node.args)
                if arguments is None or len(arguments) != len(_parameters(called[1])):
                    yield f"line {node.lineno}: {function.name}: the arguments of {called[1].name} cannot be told apart"
                    continue
                pairs = zip(_parameters(called[1]), arguments, strict=True)
                passed = frozenset(parameter for parameter, argument in pairs if _values(argument) & own)
                step = (called[0].name, called[1].name, passed)
                if step not in seen:
                    yield from self.writes(*called, set(passed), seen | {step})

    def module(self, source: Source) -> Iterator[str]:
        """Everything that is compiled is a function of a module, and only _compiler.py knows how."""
        top = set(map(id, source.tree.body))
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef) and id(node) not in top:
                for decorator in node.decorator_list:
                    if _names(decorator) & {"kernel", "device_function", "intrinsic"}:
                        yield f"line {node.lineno}: {node.name} is compiled and lies inside something else"
            if source.name == "_compiler":
                continue
            if isinstance(node, ast.keyword) and node.arg == "fastmath":
                yield f"line {node.value.lineno}: fastmath is chosen in _compiler.py"
            name = {ast.Name: "id", ast.Attribute: "attr", ast.alias: "name"}.get(type(node))
            if name and getattr(node, name) in COMPILERS:
                yield f"line {node.lineno}: only _compiler.py calls Numba's {getattr(node, name)}"


def _depending(function: ast.FunctionDef, own: set[str]) -> set[str]:
    """``own`` and all names that get a value from them: numbers computed from the index, views that it selects."""
    while True:
        before = set(own)
        for node in ast.walk(function):
            if isinstance(node, ast.For) and _values(node.iter) & own:
                own = own | _stored(node.target)
            elif isinstance(node, ast.AugAssign) and _values(node.value) & own and isinstance(node.target, ast.Name):
                own = own | {node.target.id}
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    for part, value in _pairs(target, node.value):
                        if _values(value) & own:
                            own = own | {n.id for n in ast.walk(part) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        if own == before:
            return own


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """(a, x), (b, y) of "a, b = x, y"; else the whole of both."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def _unpacked(function: ast.FunctionDef, arguments: list[ast.expr]) -> list[ast.expr] | None:
    """The arguments of a call, with the elements of a tuple instead of ``*name``; None if they cannot be found."""
    result = []
    for argument in arguments:
        if not isinstance(argument, ast.Starred):
            result.append(argument)
            continue
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == [ast.unparse(argument.value)]
        ]
        if len(values) != 1 or not isinstance(values[0], ast.Tuple):
            return None
        result += values[0].elts
    return result


# ---- the rules, on all kernels -----------------------------------------------------------------------------------------

SOURCES = {path.stem: Source(path.stem, path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.py"))}


@pytest.mark.parametrize("name", SOURCES)
def test_rules(name):
    assert list(Rules(SOURCES).complaints(SOURCES[name])) == []


@pytest.mark.parametrize("name", SOURCES)
def test_the_trees_show_everything_that_is_compiled(name):
    """What the rules were applied to is what Numba got."""
    module = importlib.import_module(f"minigrad.kernels.cpu.{name}")
    made = {k: v for k, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__}
    assert {k for k, v in made.items() if isinstance(v, Kernel)} == SOURCES[name].kernels.keys()
    assert {k for k, v in made.items() if hasattr(v, "py_func")} == SOURCES[name].device_functions.keys()


def test_there_are_kernels():
    assert len(all_kernels()) > 20
    assert sum(len(source.device_functions) for source in SOURCES.values()) > 20


def all_kernels() -> list[Kernel]:
    modules = {name: importlib.import_module(f"minigrad.kernels.cpu.{name}") for name in SOURCES}
    return [getattr(modules[name], function) for name, source in SOURCES.items() for function in source.kernels]


def test_nan_and_infinity_count_in_every_kernel():
    """nnan and ninf would let the compiler assume that there are none; "fast" contains them."""
    assert not FASTMATH & {"nnan", "ninf", "fast"}
    modules = [importlib.import_module(f"minigrad.kernels.cpu.{name}") for name in SOURCES]
    functions = [d for m in modules for d in vars(m).values() if hasattr(d, "py_func")]
    functions += [d for k in all_kernels() for d in (k.serial, k.parallel)]
    for function in functions:
        assert set(function.targetoptions["fastmath"]) in (FASTMATH, FASTMATH - {"reassoc"})
        assert function.targetoptions["error_model"] == "numpy"  # a division by zero does not raise
        assert function.targetoptions["nogil"]


# ---- the rules find what they are there for ----------------------------------------------------------------------------

FINE = """
from ._compiler import device_function, kernel, prange
from ._other import fill

BLOCK = 4 * 1024
LOW, HIGH = -1, +1


@kernel(reassociate=False)
def _kernel(x, y, total, n):
    '''A docstring.'''
    size = x.shape[0] // BLOCK
    for task in prange(n * size):
        i, k = task // size, task % size
        row = y[i]
        parts = x[i], row
        _helper(*parts, k)
        largest = 0.0
        for j in range(k * BLOCK, min(n, (k + 1) * BLOCK)):
            largest = max(largest, x[i, j])
            largest += math.sqrt(np.float64(LOW))
        total[i], total[i + n] = largest, fill(total, i)


@device_function
def _helper(x, y, k):
    for i in range(x.size):
        y[i] = x[i] if k else HIGH
"""
OTHER = """
from ._compiler import device_function

@device_function
def fill(values, at):
    values[at] = 0
    return values[at]
"""


def complaints(text: str) -> list[str]:
    sources = {"_text": Source("_text", text), "_other": Source("_other", OTHER)}
    return list(Rules(sources).complaints(sources["_text"]))


def test_a_fine_kernel():
    assert complaints(FINE) == []


WRONG = {
    # one prange
    "more after it": ("        total[i], total[i + n] = largest, fill(total, i)", "    n = 0", "must end with its only loop"),
    "no prange": ("prange(n * size)", "range(n * size)", "must end with its only loop"),
    "two in one": ("range(k * BLOCK,", "prange(k * BLOCK,", "must end with its only loop"),
    "a start": ("prange(n * size)", "prange(1, n * size)", "must end with its only loop"),
    "in a helper": ("range(x.size)", "prange(x.size)", "_helper has a prange and is no kernel"),
    "a write before": ("    size = x.shape[0] // BLOCK", "    size = y[0] = x.shape[0]", "only name numbers before"),
    "a result": ("        row = y[i]", "        row = y[i]\n        return", "_kernel returns"),
    # writes
    "no index": ("total[i], total[i + n] =", "total[0], total[i + n] =", "writes to total[0], whatever the iteration"),
    "no index in a helper": ("_helper(*parts, k)", "_helper(x[i], y, n)", "_helper writes to y[i], whatever the iteration"),
    "no index in another file": ("fill(total, i)", "fill(total, n)", "fill writes to values[at], whatever the iteration"),
    "a whole array": ("        row = y[i]", "        row = y[i]\n        y[:] = 1", "writes to y[:], whatever the iteration"),
    "an attribute": ("        row = y[i]", "        row = y[i]\n        row.size = 1", "writes to an attribute"),
    "unknown arguments": ("parts = x[i], row", "parts = x[i:]", "the arguments of _helper cannot be told apart"),
    # sums
    "a sum": ("        largest = 0.0", "        n += x[i, 0]", "gives n a value inside and outside its loop"),
    "a product": ("        largest = 0.0", "        largest = size = size * 2", "gives size a value inside and outside its loop"),
    # allocation, exceptions
    "an array": ("        row = y[i]", "        row = np.zeros(3)", "uses np.zeros"),
    "a copy": ("        row = y[i]", "        row = y[i].copy()", "calls y[i].copy"),
    "a method": ("        row = y[i]", "        row = y[i]\n        row.fill(0)", "calls row.fill"),
    "a function of NumPy": ("        row = y[i]", "        row = np.exp(y[i])", "uses np.exp"),
    "a list": ("        row = y[i]", "        row = [y[i]]", "uses List"),
    "a comprehension": ("        row = y[i]", "        row = [v for v in y[i]]", "uses ListComp"),
    "a dictionary": ("        row = y[i]", "        row = {}", "uses Dict"),
    "a set": ("        row = y[i]", "        row = {i}", "uses Set"),
    "a generator": ("        row = y[i]", "        row = max(v for v in y[i])", "uses GeneratorExp"),
    "raise": ("        row = y[i]", "        row = y[i]\n        if n: raise ValueError", "uses Raise"),
    "assert": ("        row = y[i]", "        row = y[i]\n        assert n", "uses Assert"),
    "try": ("        row = y[i]", "        try: row = y[i]\n        finally: pass", "uses Try"),
    "a product of matrices": ("        row = y[i]", "        row = x @ y", "uses MatMult"),
    "a lambda": ("        row = y[i]", "        row = lambda: y[i]", "uses Lambda"),
    "a text": ("        row = y[i]", "        row = y[i]\n        print('here')", "uses a text"),
    "in a helper too": ("y[i] = x[i] if k else HIGH", "y[i] = np.sum(x)", "_helper uses np.sum"),
    # names
    "another global": ("* BLOCK, min", "* SIZE, min", "reads SIZE, which is no number that is written out"),
    "a computed global": ("BLOCK = 4 * 1024", "BLOCK = int(1024)", "reads BLOCK, which is no number that is written out"),
    "a changed global": ("HIGH = -1, +1", "HIGH = -1, +1\nLOW = 0", "reads LOW, which is no number that is written out"),
    "a kernel": ("_helper(*parts, k)", "_kernel(*parts, k, n)", "calls _kernel"),
    "a keyword": ("_helper(*parts, k)", "_helper(*parts, k=k)", "calls _helper with keywords"),
    "a default": ("def _helper(x, y, k):", "def _helper(x, y, k=1):", "_helper may only have plain parameters"),
    "a hidden builtin": ("i, k = task // size", "i, k = max = task // size", "gives max another meaning"),
    # modules
    "Numba itself": ("\n\n@device_function", "\n\n@numba.njit(fastmath=True)", "only _compiler.py calls Numba's njit"),
    "its own fastmath": ("\n\n@device_function", "\n\n@device_function(fastmath=True)", "fastmath is chosen in _compiler.py"),
    "a closure": ("\n\n@device_function", "\ndef f():\n  @kernel\n  def g(): 0\n@device_function", "lies inside something else"),
}


@pytest.mark.parametrize(("old", "new", "expected"), WRONG.values(), ids=WRONG)
def test_a_broken_rule_is_found(old, new, expected):
    assert FINE.count(old) == 1
    found = complaints(FINE.replace(old, new))
    assert any(expected in complaint for complaint in found), found


# ---- what the compiler makes of it -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled_results() -> list:
    """The results of all kernels, compiled for float64 and run on one thread."""
    with build("serial"):
        return list(results_of_all_kernels(np.float64))


@kernel
def _allocates(x, y):
    for i in prange(x.shape[0]):
        y[i] = x[i] + 1.0  # a row: an array for the sum


def _machine_code(function: Kernel) -> list[bytes]:
    """The compiled signatures of a kernel, as they are kept on disk."""
    paths = [d._cache._path(signature) for d in (function.serial, function.parallel) for signature in d.overloads]
    assert None not in paths, "the files were edited while the tests ran, or there is no cache folder"
    return [path.read_bytes() for path in paths]


def test_compiled_kernels_allocate_nothing(compiled_results):
    """Not even for an expression of arrays, which a syntax tree does not show."""
    assert compiled_results
    _allocates(*np.ones((2, 3, 4)), work=1)
    assert all(b"NRT_MemInfo_alloc" in code for code in _machine_code(_allocates))
    for function in all_kernels():
        codes = _machine_code(function)
        assert codes, f"no case runs {function.__module__}.{function.__name__}"
        assert not any(b"NRT_MemInfo_alloc" in code for code in codes), f"{function.__module__}.{function.__name__} allocates"


def test_array_arguments_have_few_dimensions(compiled_results):
    """Each costs a parallel build: the numbers of an array are copied for every thread."""
    assert compiled_results
    for function in all_kernels():
        for signature in (*function.serial.overloads, *function.parallel.overloads):
            assert all(getattr(argument, "ndim", 0) <= 5 for argument in signature), f"{function.__name__}{signature}"


# ---- without the compiler ----------------------------------------------------------------------------------------------


def _bits(array: np.ndarray) -> np.ndarray:
    return array.view(f"u{array.dtype.itemsize}")


def _one_at_a_time(self, *args, work) -> None:
    """A kernel in plain Python; then again from the same start, but each iteration alone: the others must not matter to it."""
    function, arrays = self.__wrapped__, [a for a in args if isinstance(a, np.ndarray)]
    name = f"{function.__module__}.{function.__name__}"
    before = [a.copy() for a in arrays]

    def run(iterations) -> list[np.ndarray]:
        for array, first in zip(arrays, before, strict=True):
            if array.flags.writeable:
                array[...] = first
        function.__globals__["prange"] = iterations
        function(*args)
        return [a.copy() for a in arrays]

    counts = []
    together = run(lambda n: counts.append(int(n)) or range(n))
    assert len(counts) == 1, f"{name} has {len(counts)} pranges"
    owners = [np.zeros(a.shape, bool) for a in arrays]
    for index in range(counts[0]):
        for first, alone, all_of_them, owned in zip(before, run(lambda n, i=index: [i]), together, owners, strict=True):
            written = _bits(alone) != _bits(first)
            assert not (written & owned).any(), f"{name}: iteration {index} writes where another one does"
            assert (_bits(alone) == _bits(all_of_them))[written].all(), f"{name}: iteration {index} alone writes something else"
            owned |= written
    for first, all_of_them, owned in zip(before, together, owners, strict=True):
        assert ((_bits(all_of_them) != _bits(first)) == owned).all(), f"{name}: some of its iterations alone do not write"
    for array, result in zip(arrays, together, strict=True):
        if array.flags.writeable:
            array[...] = result


def without_the_compiler(path: str) -> None:
    """Check the iterations of all kernels, and save the results."""
    assert all(inspect.isfunction(function.serial) for function in all_kernels())
    Kernel.__call__ = _one_at_a_time
    np.savez(path, *_flat(results_of_all_kernels(np.float64)))


def _flat(results) -> list[np.ndarray]:
    return [array for _, arrays in results for array in (arrays if isinstance(arrays, tuple) else (arrays,))]


def test_without_the_compiler(compiled_results, tmp_path):
    """With NUMBA_DISABLE_JIT=1 the kernels are plain Python: the same numbers, and no iteration needs or disturbs another."""
    path = tmp_path / "results.npz"
    finish(start("-m", "tests.kernels.test_compiler", "without_the_compiler", str(path), NUMBA_DISABLE_JIT="1"))
    with np.load(path) as file:
        plain = [file[name] for name in file.files]
    compiled = _flat(compiled_results)
    assert len(plain) == len(compiled) > 50
    for ours, theirs in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)  # np.float32(1) stays float32 in NumPy, not in Numba


def _depends_on_order(x, y):
    for i in prange(x.shape[0]):
        y[i] = x[i] + y[i - 1]


def _write_to_one_place(x, y):
    for _ in prange(x.shape[0]):
        y[0] = 1


@pytest.mark.parametrize(
    ("function", "complaint"), [(_depends_on_order, "alone writes something else"), (_write_to_one_place, "writes where another")]
)
def test_iterations_that_meet_are_found(monkeypatch, function, complaint):
    monkeypatch.setitem(globals(), "prange", prange)
    with pytest.raises(AssertionError, match=complaint):
        _one_at_a_time(Kernel(function, FASTMATH), np.arange(1.0, 5.0), np.zeros(4), work=1)


# ---- calling a kernel --------------------------------------------------------------------------------------------------


@pytest.fixture
def chosen(monkeypatch):
    """A kernel that notes which of its builds ran; the pool has two threads and starts them as cheaply as "omp"."""
    ran = []
    function = object.__new__(Kernel)
    function.serial = lambda *args: ran.append(("serial", args))
    function.parallel = "parallel"
    monkeypatch.setattr(_compiler, "launch", lambda function, args: ran.append((function, args)))
    for name, value in {"count": 2, "usable": True, "launch_cost": 1}.items():
        monkeypatch.setattr(_threads.pool, name, value)

    def run(work) -> str:
        function("x", "y", work=work)
        build, args = ran.pop()
        assert (args, ran) == (("x", "y"), [])
        return build

    return run


def test_little_work_stays_on_one_thread(chosen):
    assert chosen(_compiler.SERIAL_WORK - 1) == "serial"
    assert chosen(_compiler.SERIAL_WORK) == "parallel"


def test_a_costly_pool_is_used_for_more_work(chosen, monkeypatch):
    monkeypatch.setattr(_threads.pool, "launch_cost", 20)
    assert chosen(20 * _compiler.SERIAL_WORK - 1) == "serial"
    assert chosen(20 * _compiler.SERIAL_WORK) == "parallel"


@pytest.mark.parametrize(("name", "value"), [("count", 1), ("usable", False)])
def test_without_other_threads_there_is_one(chosen, monkeypatch, name, value):
    monkeypatch.setattr(_threads.pool, name, value)
    assert chosen(MUCH) == "serial"


def test_the_work_must_be_said():
    with pytest.raises(TypeError, match="work"):
        double(np.zeros(1), np.zeros(1))


def test_a_kernel_is_known_by_its_function():
    assert (double.__name__, double.__module__) == ("double", "tests.kernels.small")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_builds_of_a_new_kernel(dtype):
    assert doubles(work=1, dtype=dtype)
    assert doubles(work=MUCH, dtype=dtype)


@device_function
def _sum_of(x):
    total = 0.0
    for i in range(x.size):
        total += x[i]
    return total


@kernel
def _row_sums(x, y):
    for i in prange(x.shape[0]):
        y[i] = _sum_of(x[i])


@pytest.mark.parametrize("work", [1, MUCH])
def test_reassociated_sums_keep_nan_and_infinity(work):
    x = np.ones((5, 100))
    x[1, 70], x[2, 3], x[3, 50], x[3, 51] = np.nan, np.inf, np.inf, -np.inf
    y = np.zeros(5)
    _row_sums(x, y, work=work)
    np.testing.assert_array_equal(y, [100, np.nan, np.inf, np.nan, 100])


def test_decorators_choose_whether_sums_are_reordered():
    functions = [double.serial, kernel(reassociate=False)(double.__wrapped__).serial]
    functions += [_sum_of, device_function(reassociate=False)(_sum_of.py_func)]
    assert ["reassoc" in function.targetoptions["fastmath"] for function in functions] == [True, False, True, False]


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
