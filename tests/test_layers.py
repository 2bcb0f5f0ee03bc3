"""The layers of the house: who may import whom, read from the syntax trees of all modules."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the lowest floor up. A module imports from lower floors and from its own package; files that share a floor may import
# one another, packages may not. The package's own __init__ is the roof.
FLOORS = [
    ["minigrad.kernels"],
    [
        *("minigrad._names", "minigrad._outside", "minigrad.fx", "minigrad.hub", "minigrad.jit"),
        *("minigrad.device", "minigrad.modes", "minigrad.precision", "minigrad.autograd", "minigrad.random", "minigrad.cuda"),
        *("minigrad.capture", "minigrad._card", "minigrad._card_memory"),
    ],
    ["minigrad.tensor", "minigrad.creation", "minigrad.gradients", "minigrad.testing"],
    ["minigrad.ops"],
    ["minigrad.nn", "minigrad.optim", "minigrad.data", "minigrad.gradcheck", "minigrad.function", "minigrad.amp"],
    ["minigrad._cuda_amp"],
    ["minigrad.weights", "minigrad.utils"],
    ["minigrad.models"],
    ["minigrad.training", "minigrad.viz"],
    ["minigrad.cli"],
    ["minigrad"],
]

# Methods that reach up to the floor where their work is done, when they are called.
UPWARDS = {("minigrad.nn.module", "minigrad.weights")}

# Library -> where it may be imported. True: at the top of any module; False: inside functions only.
LIBRARIES = {"numpy": True, "tqdm": False, "safetensors": False, "matplotlib": False, "PIL": False, "IPython": False}
CONFINED = {
    "numba": ("minigrad.kernels.cpu",),
    "llvmlite": ("minigrad.kernels.cpu",),
    "cupy": ("minigrad.kernels.cuda", "minigrad.device"),
    "cupy_backends": ("minigrad.kernels.cuda",),
    "ml_dtypes": ("minigrad.device",),
}


@dataclass(frozen=True)
class Import:
    target: str  # the module's full name
    relative: bool
    lazy: bool  # inside a function
    line: int


def _modules() -> dict[str, Path]:
    """Full name -> file of every module of the package; ``kernels/`` is installed as ``minigrad.kernels``."""
    found = {}
    for folder, package in ((ROOT / "minigrad", "minigrad"), (ROOT / "kernels", "minigrad.kernels")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((package, *parts))] = path
    return found


MODULES = _modules()


def _imports(module: str) -> list[Import]:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return list(_walk(ast.parse(path.read_text(encoding="utf-8")), package, lazy=False))


def _walk(node: ast.AST, package: str, lazy: bool) -> Iterator[Import]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return  # never imported when the program runs
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, False, lazy, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            base = f"{above}.{base}".rstrip(".")
        for alias in node.names:  # "from package import module" imports the module
            name = f"{base}.{alias.name}"
            yield Import(name if name in MODULES else base, bool(node.level), lazy, node.lineno)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
        yield from (Import(str(a.value), False, lazy, node.lineno) for a in node.args[:1] if isinstance(a, ast.Constant))
    inside = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, inside)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _floor(module: str) -> tuple[int, str]:
    """(number of the floor, its entry) of a module of the package."""
    for number, entries in enumerate(FLOORS):
        for entry in entries:
            if _within(module, entry) and (entry != "minigrad" or module == "minigrad"):
                return number, entry
    raise AssertionError(f"{module} has no floor: add it to FLOORS in {Path(__file__).name}")


def _is_package(entry: str) -> bool:
    return MODULES[entry].name == "__init__.py"


@pytest.mark.parametrize("module", MODULES)
def test_imports_from_lower_floors_only(module):
    floor, own = _floor(module)
    for found in _imports(module):
        if not _within(found.target, "minigrad"):
            continue
        assert found.target in MODULES, f"{module}, line {found.line}: {found.target} does not exist"
        other_floor, other = _floor(found.target)
        neighbours = other_floor == floor and not _is_package(own) and not _is_package(other)
        upwards = found.lazy and (module, found.target) in UPWARDS
        assert other_floor < floor or other == own or neighbours or upwards, (
            f"{module} (floor {floor}), line {found.line}, imports {found.target} (floor {other_floor})"
        )


@pytest.mark.parametrize("module", MODULES)
def test_libraries(module):
    """Only declared dependencies; numba and cupy in their places; optional and slow ones inside the functions that use them."""
    for found in _imports(module):
        library = found.target.split(".")[0]
        if library in ("minigrad", "__future__") or library in sys.stdlib_module_names:
            continue
        where = f"{module}, line {found.line}: {library}"
        if library in CONFINED:
            allowed = CONFINED[library]
            assert any(_within(module, place) for place in allowed), f"{where} is imported only in {' and '.join(allowed)}"
        else:
            assert library in LIBRARIES, f"{where} is not a dependency"
            assert LIBRARIES[library] or found.lazy, f"{where} must be imported inside the function that needs it"


@pytest.mark.parametrize("module", [m for m in MODULES if _within(m, "minigrad.kernels")])
def test_kernels_stand_alone(module):
    """Kernels use relative imports only, and the three implementations never import one another."""
    implementations = [f"minigrad.kernels.{name}" for name in ("reference", "cpu", "cuda")]
    own = next((i for i in implementations if _within(module, i)), None)
    for found in _imports(module):
        if _within(found.target, "minigrad"):
            assert found.relative, f"{module}, line {found.line}: kernels use relative imports"
        other = next((i for i in implementations if _within(found.target, i)), None)
        assert other in (None, own), f"{module}, line {found.line}, imports {found.target}"


@pytest.mark.parametrize("module", [m for m in MODULES if not _within(m, "minigrad.kernels")])
def test_absolute_imports(module):
    for found in _imports(module):
        assert not found.relative, f"{module}, line {found.line}: use an absolute import"
        assert found.target.split(".")[0] != "kernels", f"{module}, line {found.line}: the package is minigrad.kernels"


def test_no_cycles():
    """No module needs itself, however far around, to be imported."""
    edges = {m: {i.target for i in _imports(m) if not i.lazy and i.target in MODULES and i.target != m} for m in MODULES}
    while edges:
        free = [m for m, targets in edges.items() if not targets & edges.keys()]
        assert free, f"these modules import one another in circles: {sorted(_circle(edges))}"
        for m in free:
            del edges[m]


def _circle(edges: dict[str, set]) -> set[str]:
    """What remains after also taking away the modules that nobody in the rest imports."""
    edges = dict(edges)
    while True:
        imported = set().union(*edges.values())
        outer = [m for m in edges if m not in imported]
        if not outer:
            return set(edges)
        for m in outer:
            del edges[m]


def test_every_module_has_a_docstring_and_annotations_on():
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{module} has no docstring"
        if any(isinstance(n, (ast.FunctionDef, ast.ClassDef)) for n in tree.body):
            assert any(i.target == "__future__" for i in _imports(module)), f"{module}: from __future__ import annotations"
