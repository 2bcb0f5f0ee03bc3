"""The bits that a CPU kernel returns depend neither on the number of threads nor on whether it runs on the pool at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from minigrad.kernels import cpu
from minigrad.kernels.cpu import _threads
from minigrad.kernels.geometry import AdaptiveGeometry, ConvGeometry, PoolGeometry, ResizeGeometry
from tests.kernels.agreement import DTYPES, build

THREADS = (1, 2, 4)


def calls(dtype):
    """Name -> a call of it that returns arrays. Sizes that make many blocks, the last of them smaller."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    yield from _pooling_calls(draw)
    yield from _normalization_calls(draw)
    yield from _convolution_calls(draw)
    resize = ResizeGeometry.of((3, 20, 11, 13), (23, 17))
    for mode in ("nearest", "bilinear"):
        forward, backward = f"upsample_{mode}2d_forward", f"upsample_{mode}2d_backward"
        yield forward, lambda f=getattr(cpu, forward), x=draw(3, 20, 11, 13): f(x, resize)
        yield backward, lambda f=getattr(cpu, backward), gy=draw(3, 20, 23, 17): f(gy, resize)

    logits, target, glosses = draw(301, 37), rng.integers(0, 37, 301), draw(301)
    options = target, abs(draw(37)), 5, 0.1
    yield "cross_entropy_forward", lambda: cpu.cross_entropy_forward(logits, *options)
    logsumexp = cpu.cross_entropy_forward(logits, *options)[1]
    yield "cross_entropy_backward", lambda: cpu.cross_entropy_backward(glosses, logits, logsumexp, *options)

    arrays = draw(3, 70_001)

    def sgd():
        p, g, v = arrays.copy()
        cpu.sgd_momentum(p, g, v, 0.1, 0.9, 0.0, 1e-4, True, False, False)
        cpu.sgd_momentum(p, g, None, 0.1, 0.9, 0.0, 1e-4, False, False, False)
        return p, v

    yield "sgd_momentum", sgd


def _pooling_calls(draw):
    x = draw(3, 20, 17, 15)
    fixed, adaptive = PoolGeometry.of(x.shape, (3, 2), (2, 1), 1), AdaptiveGeometry.of(x.shape, (4, 7))
    for prefix, g in (("", fixed), ("adaptive_", adaptive)):
        gy = draw(*g.y_shape)
        for kind in ("avg", "max"):
            forward, backward = f"{prefix}{kind}_pool2d_forward", f"{prefix}{kind}_pool2d_backward"
            yield forward, lambda f=getattr(cpu, forward), g=g: f(x, g)
            saved = (getattr(cpu, forward)(x, g)[1],) if kind == "max" else ()
            yield backward, lambda f=getattr(cpu, backward), gy=gy, saved=saved, g=g: f(gy, *saved, g)


def _normalization_calls(draw):
    for view in ((1, 9001, 3, 1), (1, 700, 70, 1), (5, 300, 3, 7), (40, 1, 1, 5000), (3001, 1, 2, 11)):
        x, gy, weight, bias = draw(*view), draw(*view), draw(*view[2:]), draw(*view[2:])
        mean, var = cpu.moments(x)
        yield "moments", lambda x=x: cpu.moments(x)
        yield "normalize_forward", lambda a=(x, mean, var, weight, bias): cpu.normalize_forward(*a)
        for through_statistics in (True, False):
            arguments = gy, x, mean, var, weight, through_statistics
            yield "normalize_backward", lambda a=arguments: cpu.normalize_backward(*a)
    x, gy = draw(3, 21, 13, 9), draw(3, 21, 13, 9)
    for beta in (0.75, 0.6):
        arguments = 5, 0.3, beta
        yield "local_response_norm_forward", lambda a=arguments: cpu.local_response_norm_forward(x, *a, 1.0)
        scale = cpu.local_response_norm_forward(x, *arguments, 1.0)[1]
        yield "local_response_norm_backward", lambda a=arguments, s=scale: cpu.local_response_norm_backward(gy, x, s, *a)


def _convolution_calls(draw):
    return ()


def digests(dtype) -> list[list[str]]:
    """(name, digest of everything that it returned), for every call."""
    result = []
    for name, call in calls(dtype):
        arrays = call()
        sha = hashlib.sha256()
        for array in arrays if isinstance(arrays, tuple) else (arrays,):
            sha.update(array.tobytes())
        result.append([name, sha.hexdigest()])
    return result


def main() -> None:
    """Print the digests of the serial builds and of the parallel ones with 1, 2 and 4 threads, as JSON."""
    result = {}
    for dtype in DTYPES:
        with build("serial"):
            result[f"{dtype.__name__}, serial"] = digests(dtype)
        for threads in THREADS:
            _threads.set_num_threads(threads)
            with build("parallel"):
                result[f"{dtype.__name__}, {threads} threads"] = digests(dtype)
    print(json.dumps(result))


@pytest.fixture(scope="module")
def results() -> dict[str, list[list[str]]]:
    """From a process of its own: the number of threads is fixed when a process starts, and this machine may have fewer."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(max(THREADS))}
    process = subprocess.run(
        [sys.executable, "-m", "tests.kernels.test_bits"], capture_output=True, text=True, env=environment, check=False
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_a_bit(results, dtype, threads):
    serial, parallel = results[f"{dtype.__name__}, serial"], results[f"{dtype.__name__}, {threads} threads"]
    assert [name for (name, ours), (_, theirs) in zip(serial, parallel, strict=True) if ours != theirs] == []


def test_every_kernel_is_among_them(results):
    assert {name for name, _ in next(iter(results.values()))} == set(cpu.__all__)


if __name__ == "__main__":
    main()
