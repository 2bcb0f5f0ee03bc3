"""Brackets against PyTorch: random indices of every kind, read and written, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg

torch = pytest.importorskip("torch")

SHAPE = (4, 3, 5, 2)


def random_index(rng: np.random.Generator, unique: bool):
    """A random index for a tensor of SHAPE: (for minigrad, for torch). ``unique``: no position is named twice."""
    items, dim = [], 0
    arrays = int(rng.integers(1, 4))  # the shared length of the index arrays
    while dim < len(SHAPE) and rng.random() < 0.85:
        n, kind = SHAPE[dim], rng.choice(["int", "slice", "none", "dots", "array", "mask", "list", "matrix"])
        if kind == "none":
            items.append(None)
        elif kind == "dots" and Ellipsis not in [i for i in items if i is None or i is Ellipsis]:
            items.append(Ellipsis)
            dim += int(rng.integers(0, len(SHAPE) - dim + 1))
        else:
            items.append(_entry(rng, str(kind), n, arrays, unique))
            dim += 1
    return tuple(items)


def _entry(rng: np.random.Generator, kind: str, n: int, arrays: int, unique: bool):
    if kind == "slice":
        return slice(*(None if rng.random() < 0.3 else int(rng.integers(-n, n + 1)) for _ in range(2)), int(rng.integers(1, 3)))
    if kind == "mask":
        return (
            np.arange(n) % 2 == rng.integers(0, 2)
            if unique
            else np.array([True] * min(arrays, n) + [False] * (n - min(arrays, n)))
        )
    if kind in ("array", "list", "matrix"):
        if unique:
            return rng.permutation(n)[: min(2, n)]
        values = rng.integers(-n, n, (2, arrays) if kind == "matrix" else arrays)
        return values.tolist() if kind == "list" else values
    return int(rng.integers(-n, n))


def convert(index: tuple, make) -> tuple:
    return tuple(make(i) if isinstance(i, np.ndarray) else i for i in index)


def pairs(count: int, unique: bool = False):
    rng = np.random.default_rng(7)
    for _ in range(count):
        index = random_index(rng, unique)
        x = rng.standard_normal(SHAPE)
        t = torch.tensor(x, requires_grad=True)
        try:
            expected = t[convert(index, torch.tensor)]
        except (IndexError, RuntimeError):
            with pytest.raises(IndexError):
                mg.tensor(x)[convert(index, mg.tensor)]
            continue
        yield rng, index, x, t, expected


@pytest.mark.parametrize("channels_last", [False, True])
def test_reading(channels_last):
    tried = 0
    for rng, index, x, t, expected in pairs(400):
        a = mg.tensor(x, requires_grad=True)
        if channels_last:
            a = mg.tensor(x).contiguous(memory_format=mg.channels_last).requires_grad_()
        y = a[convert(index, mg.tensor)]
        assert y.shape == tuple(expected.shape), index
        assert np.array_equal(y.detach().numpy(), expected.detach().numpy()), index
        gy = rng.standard_normal(y.shape)
        y.backward(mg.tensor(gy))
        expected.backward(torch.tensor(gy))
        np.testing.assert_allclose(a.grad.numpy(), t.grad.numpy(), rtol=0, atol=1e-14, err_msg=str(index))
        tried += 1
    assert tried > 150


def test_writing():
    tried = 0
    for rng, index, x, t, picked in pairs(400, unique=True):
        shape = tuple(n if rng.random() < 0.7 else 1 for n in picked.shape)
        v = rng.standard_normal(shape)
        a, value = mg.tensor(x, requires_grad=True), mg.tensor(v, requires_grad=True)
        b, tv = t * 1, torch.tensor(v, requires_grad=True)
        y = a * 1
        y[convert(index, mg.tensor)] = value
        b[convert(index, torch.tensor)] = tv
        assert np.array_equal(y.detach().numpy(), b.detach().numpy()), index
        gy = rng.standard_normal(SHAPE)
        y.backward(mg.tensor(gy))
        b.backward(torch.tensor(gy))
        np.testing.assert_allclose(a.grad.numpy(), t.grad.numpy(), rtol=0, atol=1e-14, err_msg=str(index))
        np.testing.assert_allclose(value.grad.numpy(), tv.grad.numpy(), rtol=0, atol=1e-13, err_msg=str(index))
        tried += 1
    assert tried > 100


def test_the_last_of_several_writers_gets_the_gradient():
    x, value = mg.zeros(3), mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x[mg.tensor([0, 0, 2])] = value
    assert x.tolist() == [2, 0, 3]
    x.backward(mg.tensor([10.0, 20.0, 30.0]))
    assert value.grad.tolist() == [0, 10, 30]


def test_integers_are_applied_before_index_tensors():
    """NumPy gives (2, 3) for this index."""
    assert mg.zeros(2, 3, 4)[0, :, [1, 2]].shape == (3, 2)


def test_views_and_copies():
    x = mg.zeros(3, 4)
    x[1][2:] += 1
    assert x.sum().item() == 2
    x[[0, 1]].fill_(5)  # a copy
    assert x.sum().item() == 2
    x[:, 0] = mg.tensor([1.0, 2.0, 3.0])
    assert x[:, 0].tolist() == [1, 2, 3]


def test_a_value_that_overlaps_the_target():
    x = mg.arange(6)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("index", "error", "match"),
    [
        (7, IndexError, "index 7 is out of range for dimension 0 of size 4"),
        ((0, [0, -4]), IndexError, "index -4 is out of range for dimension 1 of size 3"),
        ((0, 0, 0, 0, 0), IndexError, "too many indices: 5"),
        ((..., 0, ...), IndexError, "only one ellipsis"),
        (slice(None, None, -1), ValueError, "step of a slice must be positive"),
        (1.5, TypeError, "an index must be"),
        (True, TypeError, "not an index"),
        ("name", TypeError, "an index must be"),
        (np.array([0.5]), TypeError, "must hold integers"),
        (np.ones(4, np.uint8), TypeError, "a mask or positions"),
        (np.ones(5, bool), IndexError, "mask of shape"),
        (([0, 1], [0, 1, 2]), IndexError, "broadcast"),
    ],
    ids=str,
)
def test_errors(index, error, match):
    x = mg.ones(*SHAPE)
    with pytest.raises(error, match=match):
        x[index]
    with pytest.raises(error, match=match):
        x[index] = 2.0
    assert bool((x == 1).all())
