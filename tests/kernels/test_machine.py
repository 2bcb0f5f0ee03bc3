"""What the kernels may use of the processor follows Numba's settings."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from numba.core import config
from numba.core.registry import cpu_target

from minigrad.kernels import cpu
from minigrad.kernels.cpu import _machine


@pytest.fixture
def processor(monkeypatch):
    """Set what Numba finds on this machine, and what its settings say."""

    def set_to(found, features=None, name=None, machine="x86_64") -> None:
        monkeypatch.setattr(_machine, "get_host_cpu_features", lambda: found)
        monkeypatch.setattr(config, "CPU_FEATURES", features)
        monkeypatch.setattr(config, "CPU_NAME", name)
        monkeypatch.setattr(platform, "machine", lambda: machine)
        _machine.vector_features.cache_clear()

    yield set_to
    monkeypatch.undo()
    _machine.vector_features.cache_clear()


ZEN = "+sse2,+avx,+avx2,+fma,+avx512f,-amx-int8"
CASES = {  # what Numba finds, NUMBA_CPU_FEATURES, NUMBA_CPU_NAME, machine -> bytes of a register, registers, some features
    "AVX-512": ((ZEN,), 64, 32, {"avx512f", "fma"}),
    "AVX2": (("+sse2,+avx,+avx2,+fma,-avx512f",), 32, 16, {"avx2", "fma"}),
    "AVX": (("+sse2,+avx,-avx2,-fma,-avx512f",), 32, 16, {"avx"}),
    "SSE": (("+sse2,-avx",), 16, 16, {"sse2"}),
    "nothing": (("",), 16, 16, set()),
    "AVX-512 switched off": ((ZEN, "-avx512f"), 32, 16, {"avx2", "fma"}),
    "AVX switched off": ((ZEN, "-avx512f,-avx,-avx2,-fma"), 16, 16, {"sse2"}),
    "generic": ((ZEN, "", "generic"), 16, 16, set()),
    "generic with AVX": ((ZEN, "+avx,+fma", "generic"), 32, 16, {"avx", "fma"}),
    "ARM": (("+fp-armv8", None, None, "aarch64"), 16, 32, {"neon"}),
    "ARM of Apple": (("", None, None, "arm64"), 16, 32, {"neon"}),
    "generic ARM": (("+fp-armv8", "", "generic", "arm64"), 16, 32, {"neon"}),
}


@pytest.mark.parametrize("name", CASES)
def test_registers(processor, name):
    given, size, registers, features = CASES[name]
    processor(*given)
    assert (_machine.lanes(np.float32), _machine.lanes("float64")) == (size // 4, size // 8)
    assert _machine.registers() == registers
    assert features <= _machine.vector_features()
    assert not _machine.vector_features() & {"amx-int8", ""}
    if size < 64:
        assert "avx512f" not in _machine.vector_features()


def test_what_numba_generates_code_for():
    """Everything that the kernels count on is what the code generator was told."""
    _, _, told = cpu_target.target_context.codegen().magic_tuple()
    if config.CPU_NAME is None and config.CPU_FEATURES is None:
        assert {f"+{name}" for name in _machine.vector_features() - {"neon"}} <= set(told.split(","))


def test_it_is_public():
    assert cpu.vector_features() is _machine.vector_features()
    assert isinstance(cpu.vector_features(), frozenset)
