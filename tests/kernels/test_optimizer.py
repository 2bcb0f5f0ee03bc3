"""The SGD update: the reference against plain Python and PyTorch, the other kernels against the reference."""

import itertools

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from tests.cuda.on_device import cuda
from tests.kernels.agreement import DTYPES, MEMORY_ORDERS, assert_close, eps

IMPLEMENTATIONS = [reference, cpu, cuda]

# momentum, dampening, weight_decay, nesterov, maximize
OPTIONS = [
    (0.0, 0.0, 0.0, False, False),
    (0.9, 0.0, 0.0, False, False),
    (0.9, 0.0, 0.01, True, False),
    (0.9, 0.3, 0.01, False, True),
    (0.5, 1.0, 0.1, False, False),
]
LR = 0.1


def draw(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(np.array(rng.standard_normal(shape), dtype) for _ in range(3))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("with_velocity", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_reference(options, with_velocity, first):
    momentum, dampening, weight_decay, nesterov, maximize = options
    p, g, v = draw((3, 2), np.float64)
    new_p, new_v = p.copy(), v.copy()
    assert reference.sgd_momentum(new_p, g, new_v if with_velocity else None, LR, *options, first) is None
    for i in np.ndindex(p.shape):
        d = (-g[i] if maximize else g[i]) + weight_decay * p[i]
        velocity = d if first else momentum * v[i] + (1 - dampening) * d
        step = d if not with_velocity else d + momentum * velocity if nesterov else velocity
        np.testing.assert_allclose(new_p[i], p[i] - LR * step, rtol=1e-14)
        np.testing.assert_allclose(new_v[i], velocity if with_velocity else v[i], rtol=1e-14)


@pytest.mark.parametrize("implementation", [cpu, cuda])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("with_velocity", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (5, 3, 3, 3), (40_001,)])
def test_like_the_reference(shape, options, with_velocity, first, dtype, implementation):
    p, g, v = draw(shape, dtype)
    actual, expected = (p.copy(), g.copy(), v.copy()), (p.copy(), g.copy(), v.copy())
    for kernels, (new_p, new_g, new_v) in ((implementation, actual), (reference, expected)):
        kernels.sgd_momentum(new_p, new_g, new_v if with_velocity else None, LR, *options, first)
    # about six roundings of terms that are, without their signs, at most these: the factors round as well
    velocity = abs(v) + abs(g) + options[2] * abs(p)
    assert_close(actual[2], expected[2], 6 * eps(dtype) * velocity, dtype)
    assert_close(actual[0], expected[0], 6 * eps(dtype) * (abs(p) + 2 * LR * velocity), dtype)
    np.testing.assert_array_equal(actual[1], g)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("orders", list(itertools.product(MEMORY_ORDERS, repeat=3)))
def test_memory_orders_are_kept(orders, implementation):
    arrays = draw((4, 3, 5, 2), np.float64)
    expected = tuple(array.copy() for array in arrays)
    implementation.sgd_momentum(*expected, LR, 0.9, 0.0, 0.01, False, False, False)
    actual = tuple(MEMORY_ORDERS[order](array) for order, array in zip(orders, arrays, strict=True))
    strides = [array.strides for array in actual]
    implementation.sgd_momentum(*actual, LR, 0.9, 0.0, 0.01, False, False, False)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)
    assert [array.strides for array in actual] == strides


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_view_changes_only_its_own_elements(implementation):
    p = np.ones((6, 4), np.float32)
    implementation.sgd_momentum(p[::2, 1:3], np.ones((3, 2), np.float32), None, 0.5, 0, 0, 0, False, False, True)
    expected = np.ones((6, 4))
    expected[::2, 1:3] = 0.5
    np.testing.assert_array_equal(p, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_velocity_is_not_read_at_first_and_infinity_stays_infinite(implementation):
    p, g, v = np.array([1.0, 2.0, np.inf]), np.array([1.0, np.inf, 1.0]), np.full(3, np.nan)
    implementation.sgd_momentum(p, g, v, 0.5, 0.9, 0.0, 0.0, False, False, True)
    np.testing.assert_array_equal(v, g)
    np.testing.assert_array_equal(p, [0.5, -np.inf, np.inf])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("options", OPTIONS)
def test_steps_like_torch(options, implementation):
    torch = pytest.importorskip("torch")
    momentum, dampening, weight_decay, nesterov, maximize = options
    rng = np.random.default_rng(0)
    p = rng.standard_normal((4, 3))
    t = torch.nn.Parameter(torch.tensor(p))
    optimizer = torch.optim.SGD([t], LR, momentum, dampening, weight_decay, nesterov, maximize=maximize)
    velocity = np.empty_like(p) if momentum else None
    for step in range(4):
        gradient = rng.standard_normal(p.shape)
        t.grad = torch.tensor(gradient)
        optimizer.step()
        implementation.sgd_momentum(p, gradient, velocity, LR, *options, step == 0)
    np.testing.assert_allclose(p, t.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("with_velocity", [True, False])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_many_at_once(implementation, with_velocity):
    """Parameters of all kinds in one call change as they do one by one; nothing else changes, not even a read-only gradient."""
    arrays = [draw(shape, dtype, seed) for seed, shape in enumerate([(7,), (), (30, 20), (0,), (16_385,)]) for dtype in DTYPES]
    arrays += [tuple(MEMORY_ORDERS[order](a) for a, order in zip(draw((4, 3, 5, 2), np.float32), orders, strict=True))
               for orders in itertools.islice(itertools.permutations(MEMORY_ORDERS, 3), 4)]  # fmt: skip
    unaligned = [np.frombuffer(bytearray(4 * 50 + 1), np.uint8)[1:].view(np.float32) for _ in range(3)]
    for a, values in zip(unaligned, draw(50, np.float32), strict=True):
        a[:] = values
    p, _, v = draw((5, 6), np.float32)
    arrays += [tuple(unaligned), (p, np.broadcast_to(np.float32(2), (5, 6)), v)]
    first = [k % 3 == 0 for k in range(len(arrays))]
    expected = [tuple(a.copy() for a in each) for each in arrays]
    for each, new in zip(expected, first, strict=True):
        reference.sgd_momentum(*each[:2], each[2] if with_velocity else None, LR, 0.9, 0.2, 0.01, False, True, new)
    ps, gs, vs = map(list, zip(*arrays, strict=True))
    implementation.sgd_momentum_all(ps, gs, vs if with_velocity else None, LR, 0.9, 0.2, 0.01, False, True, first)
    for each, right in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(each[0], right[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(each[1], right[1])
        np.testing.assert_allclose(each[2], right[2], rtol=1e-5, atol=1e-6)
