"""Memory that is used again: what is in use is never handed out, and what is not goes back."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
import types
import weakref

import numpy as np
import pytest

from minigrad.kernels import cpu
from minigrad.kernels.cpu import _buffers
from minigrad.kernels.cpu._buffers import LINE, SHARED, SMALLEST, STALE, buffer_stats, empty, empty_cache, zeros

SIZE = 4 * SMALLEST  # bytes of the arrays here


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
    """As if no array had been made before."""
    monkeypatch.setattr(_buffers, "_free", {})
    monkeypatch.setattr(_buffers, "_kept", set())
    monkeypatch.setattr(_buffers, "_sizes", [])
    monkeypatch.setattr(_buffers, "_clock", 0)


def array(size=SIZE) -> np.ndarray:
    return empty((size,), np.uint8)


def place(x) -> int:
    """The address of the first element."""
    return x.__array_interface__["data"][0]


def kept() -> int:
    """How many pieces of memory are kept."""
    return len(_buffers._kept)


def memory_of(x) -> _buffers._Memory:
    (memory,) = (memory for memory in _buffers._kept if memory.is_lent() and memory.loan() is x.base)
    return memory


# ---- arrays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, bool, "f4"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (100, 200), (2, 3, 4, 5000), (7, 0, 9999), (1, SIZE + 1)])
def test_shape_and_dtype(shape, dtype):
    for make in (empty, zeros, empty):
        x = make(shape, dtype)
        assert (type(x), x.shape, x.dtype) == (np.ndarray, shape, np.dtype(dtype))
        assert x.flags.c_contiguous
        assert x.flags.writeable
        assert x.flags.aligned
        x[...] = 1


def test_arrays_begin_at_a_cache_line():
    arrays = [array(SMALLEST + k) for k in range(0, 300, 7)]
    again = {place(x) for x in arrays}
    assert {address % LINE for address in again} == {0}
    del arrays
    assert {place(x) for x in [array(SMALLEST + k) for k in range(0, 300, 7)]} <= again


def test_all_of_the_memory_can_be_written():
    """The last byte of one array is not the first of another."""
    arrays = [array() for _ in range(20)]
    for k, x in enumerate(arrays):
        x[:] = k
    assert all((x == k).all() for k, x in enumerate(arrays))
    spans = sorted((place(x), place(x) + x.nbytes) for x in arrays)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_zeros_are_zeros_also_in_used_memory():
    x = array()
    x[:] = 255
    first = place(x)
    del x
    again = zeros((SIZE // 8,), np.float64)
    assert place(again) == first
    assert not again.any()


def test_the_same_bytes_serve_any_shape_and_dtype():
    first = place(empty((SIZE // 4,), np.float32))
    assert place(empty((2, SIZE // 16), np.float64)) == first
    assert place(empty((SIZE,), bool)) == first
    assert kept() == 1


def test_the_memory_used_last_comes_first():
    """It is the most likely to be in a cache."""
    arrays = [array() for _ in range(3)]
    places = [place(x) for x in arrays]
    for k in (1, 2, 0):
        arrays[k] = None
    again = [array() for _ in range(3)]
    assert [place(x) for x in again] == [places[0], places[2], places[1]]


def test_large_memory_serves_arrays_that_are_a_little_smaller():
    """The smallest that fits; not what is much larger, nor what is in use; and of small arrays only the same size."""
    mib = SHARED
    places = {size: place(array(size)) for size in (4 * mib, 5 * mib, 6 * mib, 2 * SMALLEST)}
    x = array(4 * mib + 1)
    assert (place(x), x.size) == (places[5 * mib], 4 * mib + 1)
    assert place(array(3 * mib)) not in places.values()
    y = array(4 * mib + 1)
    assert place(y) not in places.values()  # 6 MiB are too many
    del x
    assert place(array(5 * mib)) == places[5 * mib]
    assert place(array(2 * SMALLEST - 1)) not in places.values()


def test_small_arrays_are_not_kept():
    x = array(SMALLEST - 1)
    assert x.base is None
    assert kept() == 0
    assert (buffer_stats().used, buffer_stats().free) == (0, 0)
    x = array(SMALLEST)
    assert x.base is not None
    assert kept() == 1


def test_invalid_shapes_and_dtypes():
    for shape, dtype in (((-1,), np.float32), ((-1, -SIZE), np.float32)):
        with pytest.raises(ValueError, match="negative"):
            empty(shape, dtype)
    with pytest.raises(TypeError):
        empty((SIZE,), "no dtype")
    x, y = array(), array()
    assert not np.shares_memory(x, y)


# ---- what is in use ----------------------------------------------------------------------------------------------------

HOLDERS = {
    "itself": lambda x: x,
    "a view": lambda x: x[10:20],
    "one element": lambda x: x[-1:],
    "an empty view": lambda x: x[:0],
    "a view of a view of a view": lambda x: x[5:].reshape(-1, 1)[::2].view(np.int8),
    "a transpose": lambda x: x.reshape(64, -1).T,
    "another dtype": lambda x: x.view(np.float32),
    "a broadcast": lambda x: np.broadcast_to(x, (3, x.size)),
    "strides": lambda x: np.lib.stride_tricks.as_strided(x[1:], (3,), (7,)),
    "a memoryview": memoryview,
    "a memoryview of a memoryview": lambda x: memoryview(x)[3:],
    "DLPack": lambda x: x.__dlpack__(),
    "an array from DLPack": np.from_dlpack,
    "an array from the buffer": lambda x: np.frombuffer(x, np.int32),
    "a subclass": lambda x: x.view(np.recarray),
    "an iterator": lambda x: iter(x),
    "a flat iterator": lambda x: x.flat,
    "ctypes": lambda x: np.ctypeslib.as_ctypes(x),
    "the array interface": lambda x: np.asarray(type("Other", (), {"__array_interface__": x.__array_interface__, "array": x})()),
    "a method": lambda x: x.sum,
    "its base": lambda x: x.base,
    "a cycle": lambda x: _cycle(x),
    "a closure": lambda x: lambda: x,
}


def _cycle(x) -> list:
    cycle = [x]
    cycle.append(cycle)
    return cycle


@pytest.mark.parametrize("name", HOLDERS)
def test_whatever_holds_an_array_keeps_it(name):
    x = array()
    memory = memory_of(x)
    holder = HOLDERS[name](x)
    del x
    assert _buffers._kept == {memory}
    assert memory.is_lent()
    others = [array() for _ in range(5)]
    assert all(memory_of(x) is not memory for x in others)
    assert buffer_stats().used == 6 * SIZE
    del holder
    if memory.is_lent():  # in a cycle of references
        gc.collect()
    assert [loan.memory for loan in _buffers._free[SIZE]] == [memory]
    again = array()
    assert memory_of(again) is memory


def test_tensors_of_other_libraries_keep_it():
    torch = pytest.importorskip("torch")
    for convert in (torch.from_numpy, torch.from_dlpack):
        tensor = convert(empty((SIZE // 4,), np.float32))
        view = tensor[3:]
        del tensor
        other = empty((SIZE // 4,), np.float32)
        assert not other.ctypes.data <= view.data_ptr() < other.ctypes.data + SIZE
        del view, other
    assert kept() <= 2


def test_an_array_that_another_thread_holds():
    made, done, places = threading.Event(), threading.Event(), []

    def hold():
        x = array()
        places.append(place(x))
        made.set()
        done.wait(10)
        x[:] = 3

    thread = threading.Thread(target=hold)
    thread.start()
    made.wait(10)
    assert place(array()) not in places
    done.set()
    thread.join()
    both = [array(), array()]
    assert places[0] in {place(x) for x in both}
    assert kept() == 2


def test_an_array_in_a_frame_of_an_exception():
    """A traceback holds the variables of its functions, and so their arrays."""

    def fail():
        x = array()
        raise RuntimeError(place(x))

    try:
        fail()
    except RuntimeError as error:
        kept_alive = error
    assert place(array()) != kept_alive.args[0]
    first = kept_alive.args[0]
    del kept_alive
    assert first in {place(x) for x in [array(), array()]}


def test_a_result_of_a_kernel_is_not_handed_out_again():
    x = np.random.default_rng(0).standard_normal((8, 16, 20, 20)).astype(np.float32)
    results = [cpu.relu_forward(x) for _ in range(5)]
    assert all(not np.shares_memory(a, b) for k, a in enumerate(results) for b in results[:k])
    assert all((result == results[0]).all() for result in results)
    places = {place(result) for result in results}
    del results
    assert place(cpu.relu_forward(x)) in places


# ---- threads, finalizers -----------------------------------------------------------------------------------------------


def test_no_array_is_handed_out_twice():
    """Eight threads make, mark, keep, pass on and drop arrays; each finds its own marks as long as it holds an array."""
    count, rounds, failures, shared = 8, 400, [], []
    gate = threading.Barrier(count)

    def work(number):
        rng, held = np.random.default_rng(number), []
        gate.wait()
        try:
            for k in range(rounds):
                x = array(SIZE + 64 * int(rng.integers(3)))
                mark = (number * rounds + k) % 251
                x[::97] = mark
                x[-1] = mark
                held.append((x[int(rng.integers(50)) * 97 :: 97], mark))
                if rng.integers(4) == 0:
                    shared.append(held.pop(0))
                if len(shared) > 20 and rng.integers(2):
                    held.append(shared.pop())
                if len(held) > 6:
                    held.pop(int(rng.integers(6)))
                if rng.integers(50) == 0:
                    (empty_cache if rng.integers(2) else buffer_stats)()
                failures.extend((number, k) for view, mark in held if not (view == mark).all())
        except IndexError:
            pass  # another thread was faster
        except Exception as error:
            failures.append((number, repr(error)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all((view == mark).all() for view, mark in shared)
    shared.clear()
    assert buffer_stats().used == 0
    free = _buffers._all_free()
    assert len({id(memory) for memory in free}) == len(free)


def test_finalizers_may_make_arrays():
    """A finalizer runs at any allocation, also in the middle of ``empty``."""
    made = []

    class Finalized:
        def __init__(self):
            self.cycle, self.array = self, array()

        def __del__(self):
            made.append(array())
            made[-1][:] = 7

    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        held = []
        for k in range(100):
            Finalized()
            held.append(array())
            held[-1][:] = k
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert len(made) == 100
    assert all((x == k).all() for k, x in enumerate(held))
    assert all((x == 7).all() for x in made)
    assert len({place(x) for x in held + made}) == 200


def test_dropped_in_the_middle_of_empty(monkeypatch):
    """While an array is looked for, one is dropped and others are made, in every order."""
    lend, nested, busy = _buffers._Memory.lend, [], []

    def lend_and_drop(memory, shape, dtype):
        if not busy and len(nested) < 3:
            busy.append(True)
            nested.append(array())
            held.pop()
            busy.pop()
        return lend(memory, shape, dtype)

    held = [array() for _ in range(4)]
    monkeypatch.setattr(_buffers._Memory, "lend", lend_and_drop)
    x = array()
    monkeypatch.undo()
    alive = [x, *held, *nested]
    assert len(alive) == 5
    assert len({place(y) for y in alive}) == 5


# ---- giving memory back ------------------------------------------------------------------------------------------------


def test_stats():
    assert cpu.buffer_stats() == _buffers.BufferStats(0, 0)
    x, y = array(), array(2 * SIZE)
    assert buffer_stats() == _buffers.BufferStats(3 * SIZE, 0)
    del x
    assert buffer_stats() == _buffers.BufferStats(2 * SIZE, SIZE)
    del y
    assert buffer_stats() == _buffers.BufferStats(0, 3 * SIZE)


def test_empty_cache():
    """All that no array uses goes, and nothing else."""
    x, y, z = array(), array(), array(2 * SIZE)
    memory = [weakref.ref(memory_of(a).view) for a in (x, y, z)]
    del y, z
    x[:] = 5
    cpu.empty_cache()
    assert buffer_stats() == _buffers.BufferStats(SIZE, 0)
    assert [reference() is None for reference in memory] == [False, True, True]
    assert (x == 5).all()
    del x
    empty_cache()
    assert kept() == 0
    assert memory[0]() is None
    assert array().nbytes == SIZE


def test_sizes_that_are_no_longer_used_are_given_back():
    """A program that goes on with other sizes does not keep the memory of the first."""
    x = array(8 * SIZE)
    old = weakref.ref(memory_of(x).view)
    del x
    for k in range(100 + STALE * 2 + 10):
        array(SIZE)
        if k % 10 == 0:
            array(SIZE + 1024 * (1 + k // 10 % 2))
    array(3 * SIZE)
    assert old() is None
    assert kept() <= 5


def test_sizes_in_use_stay_kept():
    """The arrays of a training step are made again in the next one: none of them is given back and asked for again."""
    sizes = [SIZE + 64 * k for k in range(200)]
    for size in sizes:
        array(size)
    before = {id(memory) for memory in _buffers._all_free()}
    for _ in range(3):
        for size in sizes:
            array(size)
    assert {id(memory) for memory in _buffers._all_free()} == before


def test_ever_new_sizes_do_not_pile_up():
    """Images of ever other sizes, each seen once: what is kept does not grow without end."""
    for k in range(1500):
        array(2**20 + k)
    assert buffer_stats().free < 2**29


def test_no_interrupt_is_lost_when_an_array_goes():
    """An exception in a callback of Python code would only be printed."""
    x = array()
    assert isinstance(memory_of(x).loan.__callback__, types.BuiltinMethodType)


def test_where_references_are_not_counted_no_array_is_alone(monkeypatch):
    monkeypatch.setattr(_buffers, "COUNTED", False)
    assert not _buffers.is_alone(array())


def test_memory_outlives_the_interpreter_quietly():
    """What is lent when Python ends is taken back by then or not, but never with an error."""
    code = "from minigrad.kernels.cpu._buffers import empty; import numpy; kept = [empty((9999,), 'f8') for _ in range(9)]"
    code += "\nclass Late:\n    def __del__(self, kept=kept): kept.clear()\nlate = [Late()]; late.append(late); numpy.late = late"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_view_of_a_small_array_is_alone_if_nobody_else_has_that():
    x = empty((8,), np.float32).reshape(2, 4)
    assert x.base is not None
    assert _buffers.is_alone(x)
    base = x.base
    assert not _buffers.is_alone(x)
    del base
    other = x.base[:2]
    assert not _buffers.is_alone(x)
    del other
    assert _buffers.is_alone(x)
    assert not _buffers.is_alone(np.frombuffer(bytearray(16), np.uint8))


def test_alone():
    """Whether something else refers to the memory of an array."""
    x = _buffers.empty((100, 100), np.float32)
    assert _buffers.is_alone(x)
    y = x.reshape(-1)
    assert not _buffers.is_alone(x)
    del x
    assert _buffers.is_alone(y)
    assert not _buffers.is_alone(np.zeros((100, 100), np.float32))
