"""Builds kernels for the processor: the text of a ``.cu`` file behind ``host.h``, by the C++ compiler of this machine."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

__all__ = ["HostModule", "compiler", "host_module"]

_one_at_a_time = threading.Lock()

HEADER = Path(__file__).with_name("host.h")
OPTIONS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-U_FORTIFY_SOURCE", "-fvisibility=hidden")
OPTIONS += ("-ffp-contract=off", "-fno-strict-aliasing")  # what a card rounds once, with fma(), is rounded once here too

ENTRY = """
extern "C" __attribute__((visibility("default"))) const char* run_{number}(const unsigned* grid, const unsigned* block,
        int shared_bytes, void** values, int count, const int* sizes, int backwards) {{
    return host::launch(&{expression}, grid, block, shared_bytes, values, count, sizes, backwards);
}}
"""


@functools.cache
def compiler() -> tuple[str, ...]:
    """The command of a C++ compiler: $CXX, c++, g++, clang++, or the one in the package ziglang."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(name):
            return (name,)
    try:
        import ziglang  # noqa: F401
    except ImportError:
        raise FileNotFoundError("no C++ compiler: install one (Debian: apt-get install g++), or pip install ziglang") from None
    return (sys.executable, "-m", "ziglang", "c++")


def _folder() -> Path:
    cache = os.environ.get("MINIGRAD_CACHE_DIR")
    folder = Path(cache) / "host-kernels" if cache else Path(tempfile.gettempdir()) / f"minigrad-host-kernels-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class HostModule:
    """Some instances of the kernel templates of a text, built together when the first of them runs, unless they were before."""

    def __init__(self, code: str, expressions: list[str]):
        self.expressions = sorted(expressions)
        entries = "".join(ENTRY.format(number=n, expression=e) for n, e in enumerate(self.expressions))
        self.text = f'#include "{HEADER}"\n{code}\n{entries}'

    @property
    def path(self) -> Path:
        """The library, there or not; its name says what it was made of."""
        made_of = "\0".join((self.text, HEADER.read_text(encoding="utf-8"), *OPTIONS, *compiler()))
        return _folder() / f"{hashlib.sha256(made_of.encode()).hexdigest()[:32]}.so"

    def build(self) -> Path:
        path = self.path
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                text, library = Path(folder) / "kernel.cpp", Path(folder) / "kernel.so"
                text.write_text(self.text, encoding="utf-8")
                done = subprocess.run([*compiler(), *OPTIONS, str(text), "-o", str(library)], capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(f"the kernels do not compile for the processor:\n{done.stderr[:6000]}")
                os.replace(library, path)
        return path

    @functools.cached_property
    def library(self) -> ctypes.CDLL:
        return ctypes.CDLL(str(self.build()))

    def run(self, expression: str, grid, block, pointers: list, sizes: list, shared: int, backwards: bool) -> None:
        """Run every thread of a launch. Raises RuntimeError that says what a kernel did wrong."""
        function = getattr(self.library, f"run_{self.expressions.index(expression)}")
        function.restype = ctypes.c_char_p
        grid, block = np.array(grid, np.uint32), np.array(block, np.uint32)
        values, byte_counts = np.array(pointers, np.uintp), np.array(sizes, np.int32)
        with _one_at_a_time:  # the threads of a card are states of one and the same thread here
            failure = function(
                *(grid.ctypes, block.ctypes, ctypes.c_int(shared), values.ctypes, ctypes.c_int(len(pointers))),
                *(byte_counts.ctypes, ctypes.c_int(backwards)),
            )
        if failure:
            raise RuntimeError(f"{expression}: {failure.decode()}")


@functools.cache
def host_module(code: str) -> HostModule:
    """All instances of the kernels of a file with this text, which take hardly longer to build than one."""
    cuda = sys.modules["minigrad.kernels.cuda._compiler"]
    kernels = [kernel for kernel in cuda.KERNELS if cuda.source(kernel.file) == code]
    return HostModule(code, [expression for kernel in kernels for expression in kernel.instances.values()])


def main() -> None:
    """Build all kernels; print their files, as JSON."""
    from tests.cuda.on_device import cuda

    files = sorted({kernel.file for kernel in cuda.module._compiler.KERNELS})
    for file in files:
        host_module(cuda.module._compiler.source(file)).build()
    print(json.dumps(files))


if __name__ == "__main__":
    main()
