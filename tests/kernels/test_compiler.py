"""The compiled kernels: what the compiler makes of them, and what they do without it, one iteration at a time."""

from __future__ import annotations

import base64
import inspect
import json
import sys

import numba
import numpy as np
import pytest

from minigrad.kernels import cpu
from minigrad.kernels.cpu import _compiler, _threads
from minigrad.kernels.cpu._compiler import FASTMATH, Kernel, build, device_function, kernel, prange
from tests import beside
from tests.kernels.rules import all_kernels
from tests.kernels.small import MUCH, double, doubles, not_yet_compiled
from tests.kernels.test_bits import results_of_all_kernels

# ---- what the compiler makes of it -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled_results() -> list:
    """The results of all kernels, compiled for float64 (by the process that compares bits) and run on one thread."""
    beside.result("bits float64")
    with build("serial"):
        return list(results_of_all_kernels(np.float64, thorough=False))


@kernel
def _allocates(x, y):
    for i in prange(x.shape[0]):
        y[i] = x[i] + 1.0  # a row: an array for the sum


def _machine_code(function: Kernel) -> list[bytes]:
    """The compiled signatures of a kernel, as they are kept on disk."""
    paths = [d._cache._path(signature) for d in (function.serial, function.parallel) for signature in d.overloads]
    assert None not in paths, "the files were edited while the tests ran, or there is no cache folder"
    return [path.read_bytes() for path in paths]


def test_kernels_cannot_allocate():
    """Not even for an expression of arrays, which a syntax tree does not show."""
    for which in ("serial", "parallel"):
        message = "NRT required but not enabled|Only accept returning of array passed into the function"
        with build(which), pytest.raises(numba.TypingError, match=message):
            _allocates(*np.ones((2, 3, 4)), work=1)


@pytest.mark.beside("bits float64")
def test_compiled_kernels_count_no_references(compiled_results):
    """The runtime that allocates and counts references to arrays is not asked for anything."""
    assert compiled_results
    for function in all_kernels():
        codes = _machine_code(function)
        assert codes, f"no case runs {function.__module__}.{function.__name__}"
        assert not any(b"NRT_incref" in code or b"NRT_MemInfo_alloc" in code for code in codes), function.__name__


@pytest.mark.beside("bits float64")
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


def without_the_compiler() -> None:
    """Check the iterations of all kernels, and print the results."""
    assert all(inspect.isfunction(function.serial) for function in all_kernels())
    Kernel.__call__ = _one_at_a_time
    _threads.pool.count, _threads.pool.usable = 3, True  # so that the work is shared out
    results = _flat(results_of_all_kernels(np.float64, thorough=False))
    print(json.dumps([[array.dtype.str, array.shape, base64.b64encode(array.tobytes()).decode()] for array in results]))


def _flat(results) -> list[np.ndarray]:
    return [array for _, arrays in results for array in (arrays if isinstance(arrays, tuple) else (arrays,))]


@pytest.mark.beside("plain Python", "bits float64")
def test_without_the_compiler(compiled_results):
    """With NUMBA_DISABLE_JIT=1 the kernels are plain Python: the same numbers, and no iteration needs or disturbs another."""
    plain = [
        np.frombuffer(base64.b64decode(content), dtype).reshape(shape) for dtype, shape, content in beside.result("plain Python")
    ]
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


# ---- read-only arrays --------------------------------------------------------------------------------------------------


def read_only(size: int = 1000) -> np.ndarray:
    return np.broadcast_to(np.arange(size, dtype=np.float32), (size,))


@pytest.mark.parametrize("order", [("read-only", "writeable"), ("writeable", "read-only")])
@pytest.mark.parametrize("work", [1, MUCH])
def test_read_only_arrays_take_the_same_build(order, work):
    function = not_yet_compiled()
    for kind in order:
        x = read_only() if kind == "read-only" else np.arange(1000, dtype=np.float32)
        assert x.flags.writeable == (kind == "writeable")
        y = np.full_like(x, -1, subok=False)
        function(x, y, work=work)
        np.testing.assert_array_equal(y, 2 * x)
    build = function.serial if work == 1 else function.parallel
    assert len(build.overloads) == 1
    assert all(argument.mutable for signature in build.overloads for argument in signature)


def test_a_second_call_with_a_read_only_array_finds_its_build_at_once(monkeypatch):
    function = not_yet_compiled()
    function(read_only(), np.empty(1000, np.float32), work=1)

    def not_again(*args):
        raise AssertionError("looked up again")

    monkeypatch.setattr(function.serial, "_compile_for_args", not_again)
    y = np.empty(1000, np.float32)
    function(read_only(), y, work=1)
    np.testing.assert_array_equal(y, 2 * read_only())


@pytest.mark.parametrize(
    "call",
    [
        lambda a: cpu.relu_forward(np.ones(1000, np.float32), out=a),
        lambda a: cpu.add(np.ones(1000, np.float32), np.ones(1000, np.float32), out=a),
    ],
)
def test_results_are_not_written_into_read_only_arrays(call):
    array = read_only()
    with pytest.raises(ValueError, match="out is a read-only array"):
        call(array)
    np.testing.assert_array_equal(array, np.arange(1000))


def test_read_only_parameters_and_velocities_are_refused():
    good, options = np.ones(1000, np.float32), (0.1, 0.9, 0.0, 0.0, False, False, False)
    with pytest.raises(ValueError, match="parameter is a read-only array"):
        cpu.sgd_momentum(read_only(), good, good.copy(), *options)
    with pytest.raises(ValueError, match="velocity is a read-only array"):
        cpu.sgd_momentum(good, good.copy(), read_only(), *options)
    np.testing.assert_array_equal(good, 1)


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
