"""Importing minigrad works everywhere and stays light: each test starts an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("cupy", "matplotlib", "PIL", "tqdm", "torch", "safetensors", "numba", "scipy", "IPython")


def python(*arguments: str, env: dict | None = None, without: tuple = (), path: Path | None = None) -> str:
    """Standard output of ``python *arguments``; fails with its standard error. ``path`` comes first on the import path."""
    environment = {k: v for k, v in os.environ.items() if k not in without and not k.startswith("MINIGRAD")}
    environment.update(env or {}, **({"PYTHONPATH": str(path)} if path else {}))
    done = subprocess.run([sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_imports_nothing_heavy():
    loaded = python("-c", "import minigrad, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))").split()
    assert not set(loaded) & set(HEAVY)


@pytest.mark.parametrize("flags", [["-W", "error"], ["-OO"], ["-I"], ["-X", "utf8=0"]], ids=" ".join)
def test_imports_with_flags(flags):
    assert python(*flags, "-c", "import minigrad as mg; print(mg.ones(2).sum().item())") == "2.0\n"


def test_imports_without_home():
    code = "import minigrad as mg; print((mg.ones(2, 3) + 1).sum().item())"
    assert python("-c", code, without=("HOME", "USERPROFILE", "XDG_CACHE_HOME")) == "12.0\n"


def test_imports_in_the_plain_locale():
    assert python("-c", "import minigrad; print('fine')", env={"LC_ALL": "C", "LANG": "C"}) == "fine\n"


def test_kernels_run_without_a_writable_cache(tmp_path):
    """A cache folder that cannot be made means compiling in memory, not failing; a file stands where the folder would."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    code = "import minigrad as mg; print(mg.nn.functional.max_pool2d(mg.ones(1, 1, 2, 2), 2).item())"
    assert python("-c", code, env={"MINIGRAD_CACHE_DIR": str(blocked / "cache")}) == "1.0\n"


@pytest.mark.parametrize("failure", ["ImportError('libcuda.so.1: cannot open')", "RuntimeError('CUDA driver version')"])
def test_a_broken_cupy_does_no_harm(tmp_path, failure):
    """A CuPy that fails to import is found out when something asks for the GPU, and the error says what is wrong."""
    (tmp_path / "cupy.py").write_text(f"raise {failure}\n")
    code = """
import minigrad as mg
from minigrad.device import cuda_is_available

assert mg.ones(2).sum().item() == 2
assert not cuda_is_available()
try:
    mg.ones(2).cuda()
except RuntimeError as error:
    print(error)
"""
    message = python("-c", code, path=tmp_path)
    assert "cannot use device 'cuda'" in message
    assert failure.split("'")[1] in message


def test_a_cupy_without_a_card_does_no_harm(tmp_path):
    """CuPy imports on a machine without a driver; its first call fails."""
    (tmp_path / "cupy.py").write_text(
        """
class cuda:
    class runtime:
        def getDeviceCount():
            raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
"""
    )
    code = "from minigrad.device import cuda_is_available; print(cuda_is_available())"
    assert python("-c", code, path=tmp_path) == "False\n"
