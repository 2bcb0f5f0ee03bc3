"""Switching recording off and on: as context managers, as decorators, in generators, across threads, after exceptions."""

from __future__ import annotations

import threading

import pytest

import minigrad as mg
from minigrad.autograd import set_detect_anomaly
from minigrad.autograd import state as autograd_state
from tests.autograd.helpers import leaf


def recorded() -> bool:
    """Whether ops are recorded: what the switch says and what an op does must agree."""
    enabled = mg.is_grad_enabled()
    assert (leaf(1) * 2).requires_grad == enabled
    return enabled


def test_no_grad_and_enable_grad():
    assert recorded()
    with mg.no_grad():
        assert not recorded()
        with mg.enable_grad():
            assert recorded()
            with mg.no_grad():
                assert not recorded()
            assert recorded()
        assert not recorded()
    assert recorded()


def test_results_inside_no_grad_are_leaves():
    x = leaf(1, 2)
    with mg.no_grad():
        y = x * 2
        z = mg.ones(2, requires_grad=True)  # what is made new may still ask for gradients
    assert (y.requires_grad, y.is_leaf, y.grad_fn) == (False, True, None)
    assert z.requires_grad
    assert x.requires_grad
    (z * y).sum().backward()
    assert z.grad.tolist() == [2, 4]
    assert x.grad is None


def test_backward_inside_no_grad():
    x = leaf(1, 2)
    y = (x * x).sum()
    with mg.no_grad():
        y.backward()
    assert x.grad.tolist() == [2, 4]


def test_set_grad_enabled():
    with mg.set_grad_enabled(False):
        assert not recorded()
        with mg.set_grad_enabled(True):
            assert recorded()
        assert not recorded()
    assert recorded()
    try:
        mg.set_grad_enabled(False)
        assert not recorded()
    finally:
        mg.set_grad_enabled(True)
    assert recorded()


@pytest.mark.parametrize("make", [mg.no_grad, lambda: mg.set_grad_enabled(False), mg.inference_mode])
def test_context_managers_can_be_used_again(make):
    switch = make()
    for _ in range(2):
        with switch:
            assert not recorded()
        assert recorded()


def test_exceptions_restore():
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        raise ZeroDivisionError
    assert recorded()

    @mg.no_grad()
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert recorded()


# ---- decorators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decorator", [mg.no_grad, mg.no_grad(), mg.inference_mode(), mg.inference_mode], ids=range(4))
def test_no_grad_as_a_decorator(decorator):
    @decorator
    def predict(x, scale=1):
        """The answer."""
        return recorded(), x * scale

    assert predict(2, scale=3) == (False, 6)
    assert (predict.__name__, predict.__doc__) == ("predict", "The answer.")
    assert recorded()


@pytest.mark.parametrize("decorator", [mg.enable_grad, mg.enable_grad()], ids=["bare", "called"])
def test_enable_grad_as_a_decorator(decorator):
    with mg.no_grad():
        assert decorator(recorded)()
        assert not recorded()


def test_set_grad_enabled_as_a_decorator():
    """Decorating leaves the switch as it was; calling turns it for the time of the call."""
    function = mg.set_grad_enabled(False)(recorded)
    assert recorded()
    assert not function()
    assert recorded()


def test_set_detect_anomaly_as_a_decorator_and_twice():
    function = set_detect_anomaly(True)(lambda: autograd_state.anomaly)
    assert not autograd_state.anomaly
    assert function()
    switch = set_detect_anomaly(True)
    for _ in range(2):
        with switch:
            assert autograd_state.anomaly
        assert not autograd_state.anomaly


def test_recursion_under_a_decorator():
    @mg.no_grad()
    def outer(n):
        assert not recorded()
        with mg.enable_grad():
            below = recorded() if n == 0 else outer(n - 1)
            assert recorded()
        assert not recorded()
        return below

    assert outer(3)
    assert recorded()


def test_methods_can_be_decorated():
    class Model:
        @mg.no_grad()
        def predict(self):
            return recorded()

    assert not Model().predict()


def test_only_functions_can_be_decorated():
    for switch in (mg.no_grad, mg.enable_grad):
        with pytest.raises(TypeError, match=f"{switch.__name__} decorates functions, got bool"):
            switch(False)


# ---- generators --------------------------------------------------------------------------------------------------------


def test_a_decorated_generator_does_not_leak():
    """Its body runs without recording, the code between its steps keeps its own mode."""

    @mg.no_grad()
    def batches():
        for i in range(3):
            yield i, recorded()
        return "done"

    seen = []
    for i, inside in batches():
        seen.append((i, inside, recorded()))
    assert seen == [(i, False, True) for i in range(3)]
    with mg.no_grad():
        assert next(mg.enable_grad(batches.__wrapped__)()) == (0, True)
        assert not recorded()

    def delegate():
        result = yield from batches()
        yield result

    assert list(delegate())[-1] == "done"


def test_a_decorated_generator_takes_values_and_exceptions():
    @mg.no_grad
    def echo():
        got = []
        while True:
            try:
                got.append((yield list(got)))
            except KeyError as error:
                got.append(error.args[0])
            assert not recorded()

    steps = echo()
    assert next(steps) == []
    assert steps.send(1) == [1]
    assert steps.throw(KeyError("caught")) == [1, "caught"]
    with pytest.raises(ZeroDivisionError):
        steps.throw(ZeroDivisionError)
    assert recorded()


def test_closing_a_decorated_generator_runs_its_cleanup():
    cleaned = []

    @mg.no_grad()
    def rows():
        try:
            yield 1
        finally:
            cleaned.append(recorded())

    steps = rows()
    assert next(steps) == 1
    steps.close()
    assert cleaned == [False]
    assert recorded()


# ---- threads -----------------------------------------------------------------------------------------------------------


def in_thread(function) -> list:
    """What ``function()`` returns in a new thread, as a list of one."""
    result: list = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result


def test_every_thread_has_its_own_mode():
    with mg.no_grad():
        assert in_thread(recorded) == [True]
        assert not recorded()

    def switch_off_for_good():
        mg.set_grad_enabled(False)
        return recorded()

    assert in_thread(switch_off_for_good) == [False]
    assert recorded()


def test_a_decorated_function_in_two_threads_at_once():
    inside, leave = threading.Event(), threading.Event()

    @mg.no_grad()
    def wait():
        inside.set()
        assert leave.wait(60)
        return recorded()

    result: list = []
    thread = threading.Thread(target=lambda: result.append((wait(), recorded())))
    thread.start()
    assert inside.wait(60)
    assert recorded()
    leave.set()
    thread.join()
    assert result == [(False, True)]


def test_backward_in_several_threads():
    """Graphs of different threads do not meet."""

    def work():
        x = leaf(*range(50))
        y = x
        for _ in range(50):
            y = y * 1.5 + x
        y.sum().backward()
        return x.grad.tolist()

    expected = work()
    results: list = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
