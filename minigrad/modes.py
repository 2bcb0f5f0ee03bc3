"""Switches of a thread: whether ops are recorded, and whether they look for NaN and infinities."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable

__all__ = [
    "detect_anomaly",
    "enable_grad",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
    "state",
]


class _State(threading.local):
    grad_enabled = True
    anomaly = False
    observer = None  # called in the place of every op, see ops/_base.py; None: ops run directly

    def __init__(self):
        self.modules = []  # the modules whose forward is running, outermost first


state = _State()


class _Switch:
    """Sets one flag of the thread's state; usable as a context manager and as a decorator."""

    flag: str

    def __init__(self, value: bool):
        self.value = bool(value)
        self.before: list[bool] = []

    def __enter__(self):
        self.before.append(getattr(state, self.flag))
        setattr(state, self.flag, self.value)
        return self

    def __exit__(self, *exc_info) -> None:
        setattr(state, self.flag, self.before.pop())

    def __call__(self, function: Callable) -> Callable:
        if not callable(function):
            raise TypeError(f"{type(self).__name__} decorates functions, got {type(function).__name__}")
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            before = getattr(state, self.flag)  # kept per call, so that threads and recursion do not meet
            setattr(state, self.flag, self.value)
            try:
                return function(*args, **kwargs)
            finally:
                setattr(state, self.flag, before)

        return wrapper

    def _wrap_generator(self, function: Callable) -> Callable:
        """A generator function whose body runs with the flag set; the code that it yields to keeps its own."""

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            generator = function(*args, **kwargs)
            resume, value = generator.send, None
            while True:
                before = getattr(state, self.flag)
                setattr(state, self.flag, self.value)
                try:
                    item = resume(value)
                except StopIteration as stop:
                    return stop.value
                finally:
                    setattr(state, self.flag, before)
                try:
                    resume, value = generator.send, (yield item)
                except BaseException as error:  # thrown in from outside, or GeneratorExit: the function's to handle
                    resume, value = generator.throw, error

        return wrapper


class _BareSwitch(_Switch):
    """A switch to a fixed value; as a decorator it may stand without brackets."""

    def __new__(cls, function: Callable | None = None):
        self = super().__new__(cls)
        if function is None:
            return self
        self.__init__()
        return self(function)


class _SwitchAtOnce(_Switch):
    """A switch that is set when it is made; as a context manager or a decorator it restores what was before."""

    def __init__(self, mode: bool):
        super().__init__(mode)
        self.outside = getattr(state, self.flag)
        setattr(state, self.flag, self.value)

    def __enter__(self):
        self.before.append(self.outside)
        setattr(state, self.flag, self.value)
        return self

    def __call__(self, function: Callable) -> Callable:
        setattr(state, self.flag, self.outside)
        return super().__call__(function)


class no_grad(_BareSwitch):
    """Inside ``with no_grad():`` (or a function decorated ``@no_grad()`` or ``@no_grad``) nothing is recorded for backward."""

    flag = "grad_enabled"

    def __init__(self):
        super().__init__(False)


class enable_grad(_BareSwitch):
    """Records again inside a ``no_grad`` block."""

    flag = "grad_enabled"

    def __init__(self):
        super().__init__(True)


class set_grad_enabled(_SwitchAtOnce):
    """Sets recording to ``mode`` at once; as a context manager or a decorator it restores what was before."""

    flag = "grad_enabled"


def is_grad_enabled() -> bool:
    """Whether ops of this thread are recorded for backward."""
    return state.grad_enabled


class detect_anomaly(_Switch):
    """Inside it, the first op that produces a NaN or an infinity, forward or backward, raises ``AnomalyError``.

    The error names the op, the module it ran in and the line of your code. Every value is looked at: use it to find a fault,
    not to train.
    """

    flag = "anomaly"

    def __init__(self):
        super().__init__(True)


class set_detect_anomaly(_SwitchAtOnce):
    """Switches anomaly detection on or off at once; as a context manager or a decorator it restores what was before."""

    flag = "anomaly"
