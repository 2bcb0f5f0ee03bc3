"""The rules of the CPU kernels, read from their syntax trees.

A tree shows what is written, not what it computes: that a write is indexed by something that comes from the prange index does not
prove that no other iteration writes there. ``test_compiler.py`` runs the iterations one at a time to see that.
"""

from __future__ import annotations

import ast
import builtins
import importlib
from collections.abc import Iterator
from pathlib import Path

from minigrad.kernels import cpu
from minigrad.kernels.cpu._compiler import Kernel

FOLDER = Path(cpu.__file__).parent
COMPILERS = {"jit", "njit", "generated_jit", "vectorize", "guvectorize", "stencil", "cfunc"}
GENERATORS = {"intrinsic", "overload", "overload_method", "overload_attribute", "register_jitable", "lower_builtin"}

# The functions with generated code: which parameters say where one writes, an array and a place in it; None if it writes nothing.
INTRINSICS = {
    **dict.fromkeys(("lanes", "load", "load_first", "load_if", "load_three", "load_where")),
    **dict.fromkeys(("load_narrow", "narrow", "prefetch", "widen")),
    **dict.fromkeys(("fill", "fma", "select_larger", "select_positive", "total_of")),
    **dict.fromkeys(("store", "store_first", "store_integers"), ("x", "at")),
    **{"transpose": ("target", "to"), "tile": ("c", "c_at")},
}

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
        self.intrinsics: dict[str, ast.FunctionDef] = {}
        self.imported: dict[str, tuple[str, str]] = {}  # from modules of the same folder
        self.literals: set[str] = set()  # names of numbers that are written out
        kinds = {"kernel": self.kernels, "device_function": self.device_functions, "vector_intrinsic": self.intrinsics}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef):
                found = kinds.get(_decorator(node))
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
    """The names whose values an expression reads; the size of a view and its vectors are the same for every iteration."""
    if isinstance(node, ast.Attribute) and node.attr in ("size", "shape", "ndim"):
        return set()
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "lanes":
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
        module, original = source.imported.get(name, (source.name, name))
        found = self.sources.get(module)
        return (found, found.device_functions[original]) if found and original in found.device_functions else None

    def intrinsic(self, source: Source, name: str) -> ast.FunctionDef | None:
        """The function with generated code that is called ``name`` in a module."""
        module, original = source.imported.get(name, (source.name, name))
        return self.sources[module].intrinsics.get(original) if module in self.sources else None

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
                fine = called in CALLS | {"prange"} or called.startswith(("np.", "math."))
                fine = fine or self.function(source, called) or self.intrinsic(source, called)
                if not fine or node.keywords:
                    yield f"{place} calls {called}" + (" with keywords" if fine else "")
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in known | CALLS | {"np", "math"}:
                module, original = source.imported.get(node.id, (source.name, node.id))
                literal = module in self.sources and original in self.sources[module].literals
                if not literal and not self.function(source, node.id) and not self.intrinsic(source, node.id):
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
            if isinstance(node, ast.Call):
                yield from self.call(source, function, node, own, seen)

    def call(self, source: Source, function: ast.FunctionDef, node: ast.Call, own: set[str], seen) -> Iterator[str]:
        """What a call writes, or the functions that the called one calls."""
        name = ast.unparse(node.func)
        called, intrinsic = self.function(source, name), self.intrinsic(source, name)
        if not called and not intrinsic:
            return
        parameters = _parameters(called[1]) if called else _parameters(intrinsic)[1:]  # the first is Numba's typing context
        arguments = _unpacked(function, node.args)
        if arguments is None or len(arguments) != len(parameters):
            yield f"line {node.lineno}: {function.name}: the arguments of {name} cannot be told apart"
            return
        given = dict(zip(parameters, arguments, strict=True))
        passed = frozenset(name for name, alternatives in given.items() if all(_values(value) & own for value in alternatives))
        if called:
            step = (called[0].name, called[1].name, passed)
            if step not in seen:
                yield from self.writes(*called, set(passed), seen | {step})
        elif intrinsic.name not in INTRINSICS:
            yield f"line {node.lineno}: {function.name}: what {name} writes is not known here"
        elif INTRINSICS[intrinsic.name] and passed.isdisjoint(INTRINSICS[intrinsic.name]):
            place = [ast.unparse(given[parameter][0]) for parameter in INTRINSICS[intrinsic.name]]
            yield f"line {node.lineno}: {function.name} writes to {', '.join(place)} by {name}, whatever the iteration"

    def module(self, source: Source) -> Iterator[str]:
        """Everything that is compiled is a function of a module, and only _compiler.py and _vector.py know how."""
        top = set(map(id, source.tree.body))
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef) and id(node) not in top:
                for decorator in node.decorator_list:
                    if _names(decorator) & {"kernel", "device_function", "vector_intrinsic"}:
                        yield f"line {node.lineno}: {node.name} is compiled and lies inside something else"
            if source.name == "_compiler":
                continue
            if isinstance(node, ast.keyword) and node.arg == "fastmath":
                yield f"line {node.value.lineno}: fastmath is chosen in _compiler.py"
            name = {ast.Name: "id", ast.Attribute: "attr", ast.alias: "name"}.get(type(node))
            if name and getattr(node, name) in COMPILERS:
                yield f"line {node.lineno}: only _compiler.py calls Numba's {getattr(node, name)}"
            if name and getattr(node, name) in GENERATORS and source.name != "_vector":
                yield f"line {node.lineno}: only _vector.py calls Numba's {getattr(node, name)}"


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


def _unpacked(function: ast.FunctionDef, arguments: list[ast.expr]) -> list[list[ast.expr]] | None:
    """The values that each argument of a call may have, with the elements of a tuple instead of ``*(x, y)`` or ``*name``.

    A name may stand for several tuples of one length. None if the elements cannot be found.
    """
    result = []
    for argument in arguments:
        if not isinstance(argument, ast.Starred):
            result.append([argument])
            continue
        tuples = _assigned(function, argument.value.id) if isinstance(argument.value, ast.Name) else [argument.value]
        if not tuples or not all(isinstance(value, ast.Tuple) for value in tuples):
            return None
        found = [_unpacked(function, value.elts) for value in tuples]
        if None in found or len({len(elements) for elements in found}) > 1:
            return None
        result += [[value for values in same_place for value in values] for same_place in zip(*found, strict=True)]
    return result


def _assigned(function: ast.FunctionDef, name: str) -> list[ast.expr]:
    """All values that a name is given by assignments; none if it gets any in another way."""
    assignments = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    pairs = [pair for node in assignments for target in node.targets for pair in _pairs(target, node.value)]
    values = [value for part, value in pairs if isinstance(part, ast.Name) and part.id == name]
    stored = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store)]
    return values if len(values) == len(stored) and name not in _parameters(function) else []


SOURCES = {path.stem: Source(path.stem, path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.py"))}


def all_kernels() -> list[Kernel]:
    """Every kernel of the package."""
    modules = {name: importlib.import_module(f"minigrad.kernels.cpu.{name}") for name in SOURCES}
    return [getattr(modules[name], function) for name, source in SOURCES.items() for function in source.kernels]
