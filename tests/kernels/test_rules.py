"""Every kernel keeps the rules, and a kernel that breaks one is found."""

from __future__ import annotations

import importlib

import pytest

from minigrad.kernels.cpu._compiler import FASTMATH, Kernel
from tests.kernels.rules import INTRINSICS, SOURCES, Rules, Source, all_kernels

# ---- the rules, on all kernels -----------------------------------------------------------------------------------------


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
    assert {k for k, v in made.items() if type(v).__name__ == "_Intrinsic"} == SOURCES[name].intrinsics.keys()


def test_what_every_intrinsic_writes_is_known():
    functions = {name: function for source in SOURCES.values() for name, function in source.intrinsics.items()}
    assert functions.keys() == INTRINSICS.keys()
    for name, written in INTRINSICS.items():
        assert {argument.arg for argument in functions[name].args.args} >= set(written or ())


def test_there_are_kernels():
    assert len(all_kernels()) > 20
    assert sum(len(source.device_functions) for source in SOURCES.values()) > 20


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
        assert not function.targetoptions["_nrt"]  # no references to arrays are counted


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
    sources |= {name: SOURCES[name] for name in ("_vector", "_tile")}
    return list(Rules(sources).complaints(sources["_text"]))


VECTORS = """
from ._compiler import device_function, kernel, prange
from ._tile import tile
from ._vector import clear, copy, fill, fma, lanes, load, load_first, select_positive, store, store_first, total_of, transpose


@kernel(reassociate=False)
def _kernel(x, y, sums, n):
    for row in prange(n):
        place, step = (y, row * n), lanes(x)
        store(*place, fma(load(x, row), fill(x, 0.5), load(x, row * step)))
        _finish(x, y, row * n + step, n - step)
        copy(x, row, sums[row], 0, n)
        clear(sums[row], 0, n)
        transpose(x, row, n, 3, sums[row], 0, n, 4)
        y[row] = total_of(load(x, 0))
        left = (x, x)
        if n > 4:
            left = (x, y)
        tile(4, 1, sums[row], 0, n, sums[n], 0, -1, *left, *((row, n, 1, n), (0, n, n)), 1, n, step)


@device_function
def _finish(x, y, at, count):
    store_first(y, at, select_positive(load_first(x, at, count), fill(x, 1.0)), count)
"""


@pytest.mark.parametrize("text", [FINE, VECTORS])
def test_a_fine_kernel(text):
    assert complaints(text) == []


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


WRONG_VECTORS = {
    # writes
    "no index": ("(y, row * n)", "(y, n)", "_kernel writes to y, n by store, whatever the iteration"),
    "an index in the value": ("store(*place, fma(load(x, row)", "store(y, 0, fma(load(x, row)", "writes to y, 0 by store"),
    "a number of lanes": ("(y, row * n)", "(y, lanes(sums[row]))", "writes to y, lanes(sums[row]) by store"),
    "another name": ("lanes(x)\n", "lanes(x)\n        put(y, n, load(x, row))\n", "writes to y, n by put"),
    "no index in a helper": ("y, row * n + step, n - step", "y, step, row", "_finish writes to y, at by store_first"),
    "a copy to one place": ("x, row, sums[row], 0, n", "x, row, y, 0, n", "copy writes to target, at + k by store"),
    "the end of a copy": ("x, row, sums[row], 0, n", "x, row, y, 0, n", "copy writes to target, at + whole by store_first"),
    "a cleared place": ("clear(sums[row]", "clear(sums[0]", "clear writes to target, at + k by store"),
    "a tile": ("sums[row], 0, n, sums[n]", "sums[n], 0, n, sums[row]", "writes to sums[n], 0 by tile, whatever the iteration"),
    "unknown arguments": ("left = (x, x)", "left = x[row:]", "the arguments of tile cannot be told apart"),
    "other arguments": ("lanes(x)\n", "lanes(x)\n        if n: place = (y, 0)\n", "writes to y, row * n by store"),
    "more arguments": (
        "lanes(x)\n",
        "lanes(x)\n        if n: place = (y, row, 0)\n",
        "the arguments of store cannot be told apart",
    ),
    "arguments from elsewhere": ("lanes(x)\n", "lanes(x)\n        place = row\n", "the arguments of store cannot be told apart"),
    "too few arguments": ("(0, n, n)), 1, n, step", "(0, n, n)), n, step", "the arguments of tile cannot be told apart"),
    "an unknown intrinsic": ("clear(sums[row], 0, n)", "scatter(sums[row])", "what scatter writes is not known"),
    "a turned block": ("3, sums[row], 0, n, 4", "row, sums[n], 0, row, 4", "writes to sums[n], 0 by transpose"),
    # names
    "no vector function": ("import clear, copy", "import clear", "calls copy"),
    "its code": ("clear(sums[row], 0, n)", "pointer(sums[row], 0, n)", "calls pointer"),
    # modules
    "an intrinsic of its own": ("@device_function", "@intrinsic", "only _vector.py calls Numba's intrinsic"),
    "an overload of its own": ("@device_function", "@overload(abs)", "only _vector.py calls Numba's overload"),
    "a closure": ("\n\n@device", "\ndef f():\n  @vector_intrinsic(0)\n  def g(): 0\n@device", "lies inside something else"),
}

UNKNOWN = """

@vector_intrinsic(None)
def scatter(typing, x):
    pass
"""


@pytest.mark.parametrize(("old", "new", "expected"), WRONG_VECTORS.values(), ids=WRONG_VECTORS)
def test_a_broken_rule_of_vectors_is_found(old, new, expected):
    text = VECTORS.replace(" store,", " store, store as put,") + UNKNOWN
    assert text.count(old) == 1
    found = complaints(text.replace(old, new))
    assert any(expected in complaint for complaint in found), found


@pytest.mark.parametrize(("old", "new", "expected"), WRONG.values(), ids=WRONG)
def test_a_broken_rule_is_found(old, new, expected):
    assert FINE.count(old) == 1
    found = complaints(FINE.replace(old, new))
    assert any(expected in complaint for complaint in found), found
