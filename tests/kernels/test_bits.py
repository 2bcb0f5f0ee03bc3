"""The bits that a CPU kernel returns depend neither on the number of threads nor on whether it runs on the pool at all."""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np
import pytest

from minigrad.kernels import cpu
from minigrad.kernels.cpu import _threads
from minigrad.kernels.cpu._algorithms import choose
from minigrad.kernels.cpu._compiler import build
from minigrad.kernels.geometry import AdaptiveGeometry, ConvGeometry, PoolGeometry, ResizeGeometry
from tests import beside
from tests.kernels.agreement import DTYPES

THREADS = (1, 2, 4)


def results_of_all_kernels(dtype, place=np.asarray, thorough=True):
    """(name of a kernel, what it returns), of sizes that make many blocks, the last of them smaller.

    place: where inputs lie. thorough: every form of a normalization's backward for every view; else each for one view, for
    plain Python, which takes long.
    """
    rng = np.random.default_rng(0)

    def draw(*shape):
        return place(rng.standard_normal(shape).astype(dtype))

    yield from _convolutions(draw)
    yield from _convolutions_by_name(draw)
    yield from _elementwise_and_products(draw)
    yield from _poolings(draw)
    yield from _normalizations(draw, thorough)

    resize = ResizeGeometry.of((3, 20, 11, 13), (23, 17))
    for mode in ("nearest", "bilinear"):
        for direction, shape in (("forward", resize.x_shape), ("backward", resize.y_shape)):
            name = f"upsample_{mode}2d_{direction}"
            yield name, getattr(cpu, name)(draw(*shape), resize)

    yield "sums_by_position", cpu.sums_by_position(draw(301, 7), rng.integers(0, 37, 301), 40)

    logits, glosses, options = draw(301, 37), draw(301), (rng.integers(0, 37, 301), abs(draw(37)), 5, 0.1)
    losses, logsumexp = cpu.cross_entropy_forward(logits, *options)
    yield "cross_entropy_forward", (losses, logsumexp)
    yield "check_labels", np.array([cpu.check_labels(options[0], classes, 5) for classes in (37, 36)])
    yield "cross_entropy_backward", cpu.cross_entropy_backward(glosses, logits, logsumexp, *options)

    p, g, v = draw(3, 70_001)
    cpu.sgd_momentum(p, g, v, 0.1, 0.9, 0.2, 1e-4, True, False, False)
    cpu.sgd_momentum(p, g, None, 0.1, 0.9, 0.0, 1e-4, False, True, False)
    yield "sgd_momentum", (p, v)
    many = [[array[k : 2 * k].copy() for k in (1, 3000, 70, 9001)] for array in (p, g, v)]
    cpu.sgd_momentum_all(*many, 0.1, 0.9, 0.2, 1e-4, False, False, [True, False, False, False])
    yield "sgd_momentum_all", (*many[0], *many[2])
    yield "scale_all", (cpu.scale_all(many[1], 0.3), *many[1])
    yield "dropout_noise", cpu.dropout_noise(draw(30, 40), (30, 40), 0.3, np.random.Generator(np.random.Philox(1)))
    mean, var, running = abs(draw(3, 70))
    yield "normalization_constants", cpu.normalization_constants(mean, var, running, None, 1e-5, True, True)[:3]
    cpu.update_running(running, None, mean, var, 0.1, 1.5)
    yield "update_running", running


def _convolutions(draw):
    cases = ((3, 6, 19, 17), (14, 3, 3, 2), 2, 2), ((2, 9, 12, 31), (9, 1, 3, 3), 1, 9), ((2, 19, 7, 8), (19, 1, 5, 5), 2, 19)
    cases += (((1, 7, 3, 4), (100, 7, 1, 1), 1, 1),)  # the outputs of its weight gradient are shared out
    for shape, filters, stride, groups in cases:
        g = ConvGeometry.of(shape, filters, stride, 1, 1, groups)
        x, weight, bias, gy = draw(*shape), draw(*filters), draw(filters[0]), draw(*g.y_shape)
        columns = cpu.im2col(x, g)
        yield "im2col", columns
        yield "col2im", cpu.col2im(columns, g)
        yield "conv2d_forward", cpu.conv2d_forward(x, weight, bias, g)
        yield "conv2d_backward_input", cpu.conv2d_backward_input(gy, weight, g)
        yield "conv2d_backward_weight", cpu.conv2d_backward_weight(gy, x, g)
        yield "conv2d_backward_bias", cpu.conv2d_backward_bias(gy)
        t = ConvGeometry.of_transposed(g.y_shape, filters, stride, 1, 0, 1, groups)
        bias, gy = draw(t.c), draw(*t.x_shape)
        yield "conv_transpose2d_forward", cpu.conv_transpose2d_forward(draw(*t.y_shape), weight, bias, t)
        yield "conv_transpose2d_backward_input", cpu.conv_transpose2d_backward_input(gy, weight, t)
        yield "conv_transpose2d_backward_weight", cpu.conv_transpose2d_backward_weight(gy, draw(*t.y_shape), t)


# algorithm, x shape, weight shape, stride, groups: several blocks and parts of each
BY_NAME = (
    ("im2col", (2, 150, 7, 9), (20, 150, 3, 3), 1, 1),  # columns of some taps at a time
    ("im2col", (3, 20, 18, 11), (36, 10, 3, 3), 1, 2),
    ("lines", (3, 10, 17, 12), (20, 10, 3, 3), 1, 1),
    ("lines", (2, 3, 19, 18), (35, 3, 5, 5), 2, 1),
    ("lines", (3, 3, 19, 18), (35, 3, 2, 2), 1, 1),
    ("winograd", (4, 17, 13, 14), (20, 17, 3, 3), 1, 1),
    ("winograd", (2, 260, 13, 14), (40, 260, 3, 3), 1, 1),  # inputs and products apart
    ("small winograd", (60, 37, 5, 4), (33, 37, 3, 3), 1, 1),
    ("direct", (2, 37, 9, 21), (37, 1, 3, 3), 1, 37),
    ("direct", (2, 6, 9, 8), (9, 2, 3, 3), 2, 3),
)


def _convolutions_by_name(draw):
    for name, shape, filters, stride, groups in BY_NAME:
        g = ConvGeometry.of(shape, filters, stride, 1, 1, groups)
        x, weight, bias, gy = draw(*shape), draw(*filters), draw(filters[0]), draw(*g.y_shape)
        with cpu.algorithm(name):
            assert choose(g) == name
            yield "conv2d_forward", cpu.conv2d_forward(x, weight, bias, g)
            yield "conv2d_backward_input", cpu.conv2d_backward_input(gy, weight, g)
            yield "conv2d_backward_weight", cpu.conv2d_backward_weight(gy, x, g)


def _elementwise_and_products(draw):
    x, y = draw(2, 70_001)
    yield "relu_forward", cpu.relu_forward(x)
    yield "relu_backward", cpu.relu_backward(x, y)
    yield "relu_backward", cpu.relu_backward(x, y, x)
    yield "add", cpu.add(x, y)
    # packed and not, few rows, long sums, both transposed, inner and outer products
    pairs = [(draw(150, 37), draw(37, 45)), (draw(7, 1100), draw(1100, 70)), (draw(70, 150).T, draw(60, 70).T)]
    for left, right in [*pairs, (draw(2, 300), draw(200, 300).T), (draw(150, 2), draw(2, 300))]:
        yield "matmul", cpu.matmul(left, right, draw(right.shape[1]))


def _poolings(draw):
    x = draw(3, 20, 17, 15)
    for prefix, g in (("", PoolGeometry.of(x.shape, (3, 2), (2, 1), 1)), ("adaptive_", AdaptiveGeometry.of(x.shape, (4, 7)))):
        gy = draw(*g.y_shape)
        y, indices = getattr(cpu, f"{prefix}max_pool2d_forward")(x, g)
        yield f"{prefix}max_pool2d_forward", (y, indices)
        yield f"{prefix}max_pool2d_backward", getattr(cpu, f"{prefix}max_pool2d_backward")(gy, indices, g)
    few = PoolGeometry.of((3, 5, 9, 8), 3, 2)
    gy, (_, indices) = draw(*few.y_shape), cpu.max_pool2d_forward(draw(3, 5, 9, 8), few)
    yield "max_pool2d_backward", cpu.max_pool2d_backward(gy, indices, few)
    for prefix, g in (("", PoolGeometry.of(x.shape, (3, 2), (2, 1), 1)), ("adaptive_", AdaptiveGeometry.of(x.shape, (4, 7)))):
        gy = draw(*g.y_shape)
        yield f"{prefix}avg_pool2d_forward", getattr(cpu, f"{prefix}avg_pool2d_forward")(x, g)
        yield f"{prefix}avg_pool2d_backward", getattr(cpu, f"{prefix}avg_pool2d_backward")(gy, g)


def _normalizations(draw, thorough):
    for number, view in enumerate(((1, 40001, 3, 1), (1, 700, 70, 1), (5, 3001, 3, 7), (40, 1, 1, 5000), (3001, 1, 2, 11))):
        x, gy, weight, bias = draw(*view), draw(*view), draw(*view[2:]), draw(*view[2:])
        mean, var = cpu.moments(x)
        yield "moments", (mean, var)
        yield "normalize_forward", cpu.normalize_forward(x, mean, var, weight, bias)
        forms = [(True,), (False,), (True, bias, True)]
        for form in forms if thorough else [forms[number % 3]]:
            yield "normalize_backward", cpu.normalize_backward(gy, x, mean, var, weight, *form)
    x, gy = draw(3, 21, 13, 9), draw(3, 21, 13, 9)
    for beta in (0.75, 0.6):
        y, scale = cpu.local_response_norm_forward(x, 5, 0.3, beta, 1.0)
        yield "local_response_norm_forward", (y, scale)
        yield "local_response_norm_backward", cpu.local_response_norm_backward(gy, x, scale, 5, 0.3, beta)


def digests(dtype) -> list[list[str]]:
    """(name of a kernel, digest of everything that it returned), for every call."""
    result = []
    for name, arrays in results_of_all_kernels(dtype):
        sha = hashlib.sha256()
        for array in arrays if isinstance(arrays, tuple) else (arrays,):
            sha.update(array.tobytes())
        result.append([name, sha.hexdigest()])
    return result


def main(name: str) -> None:
    """Print the digests of the serial builds and of the parallel ones with 1, 2 and 4 threads, as JSON."""
    dtype, result = np.dtype(name).type, {}
    with build("serial"):
        result["serial"] = digests(dtype)
    for threads in THREADS:
        _threads.set_num_threads(threads)
        with build("parallel"):
            result[f"{threads} threads"] = digests(dtype)
    print(json.dumps(result))


# In processes of their own: the number of threads is fixed when a process starts, and this machine may have fewer.
IN_PROCESSES = pytest.mark.beside(*(f"bits {dtype.__name__}" for dtype in DTYPES))


@IN_PROCESSES
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_a_bit(dtype, threads):
    results = beside.result(f"bits {dtype.__name__}")
    serial, parallel = results["serial"], results[f"{threads} threads"]
    assert [name for (name, ours), (_, theirs) in zip(serial, parallel, strict=True) if ours != theirs] == []


@IN_PROCESSES
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_is_among_them(dtype):
    assert {name for name, _ in beside.result(f"bits {dtype.__name__}")["serial"]} == set(cpu.__all__)


if __name__ == "__main__":
    main(sys.argv[1])
