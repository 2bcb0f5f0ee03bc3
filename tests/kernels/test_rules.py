"""Every kernel keeps the rules, and a kernel that breaks one is found."""

from __future__ import annotations

import importlib

import pytest

from minigrad.kernels.cpu._compiler import FASTMATH, Kernel
from tests.kernels.rules import SOURCES, Rules, Source, all_kernels

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
