"""Switches of a thread: whether ops are recorded, look for NaN and infinities, and in which precision they compute."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

__all__ = [
    "detect_anomaly",
    "enable_grad",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
    "state",
    "update_plain",
    "use_16_bits",
    "use_cards",
]


class _State(threading.local):
    grad_enabled = True
    anomaly = False
    capture = None  # the CUDA graph that is being made of this thread's launches, see capture.py
    plain = True  # ops run directly: nobody observes, no autocast, and the program has met neither of the next two
    sixteen_bits = False  # the program has met 16-bit numbers
    cards = False  # it has met arrays on a graphics card
    observer = None  # called in the place of every op, see ops/_base.py
    autocast: Mapping = MappingProxyType({})  # device type -> dtype, where autocast is on; see precision.py
    autocast_dtypes: Mapping = MappingProxyType({})  # device type -> dtype that was chosen in the place of the default
    autocast_depth = 0  # autocast blocks around the running code
    autocast_caches = True  # whether parameters that were cast are kept for their next use

    def __init__(self):
        self.modules = []  # the modules whose forward is running, outermost first
        self.autocast_cache = {}  # what is kept: see ops/_precision.py


state = _State()


def update_plain() -> None:
    """Work out ``state.plain``, after the thread's observer or autocast was changed."""
    if state.observer is None and not state.autocast:
        state.__dict__.pop("plain", None)  # the attribute of the class, which all threads share, decides
    else:
        state.plain = False


def use_16_bits() -> None:
    """From now on ops look whether they are given 16-bit numbers, in all threads."""
    if not _State.sixteen_bits:  # what is known of a class is lost when one of its attributes is set, and looked up anew
        _State.sixteen_bits, _State.plain = True, False


def use_cards() -> None:
    """From now on ops look how the arrays that they are given lie in the memory of a graphics card, in all threads."""
    if not _State.cards:
        _State.cards, _State.plain = True, False


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
