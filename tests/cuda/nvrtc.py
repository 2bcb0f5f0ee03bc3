"""CUDA's run-time compiler by itself: it needs no card and no driver, only its library (the package nvidia-cuda-nvrtc)."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path

__all__ = ["compile_for"]


@functools.cache
def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("nvidia")
    found = [p for folder in spec.submodule_search_locations for p in Path(folder).rglob("libnvrtc.so.*")] if spec else []
    if not found:
        raise FileNotFoundError("no libnvrtc: pip install nvidia-cuda-nvrtc")
    return ctypes.CDLL(str(found[0]))


def compile_for(capability: int, code: str, expressions: list[str], options: tuple[str, ...]) -> tuple[int, str]:
    """Compile the kernels of a text for cards of a compute capability (75, 80, ...): (0 if it worked, the compiler's words)."""
    nvrtc, program = _library(), ctypes.c_void_p()
    if nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None):
        raise RuntimeError("nvrtcCreateProgram failed")
    try:
        for expression in expressions:
            nvrtc.nvrtcAddNameExpression(program, expression.encode())
        given = [o.encode() for o in (*options, f"--gpu-architecture=sm_{capability}", "--ptxas-options=-v")]
        result = nvrtc.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        return result, log.value.decode()
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
