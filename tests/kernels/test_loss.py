"""Cross-entropy: the reference against loops, the other kernels against the reference, all against PyTorch."""

import itertools
import math

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from tests.cuda.on_device import cuda
from tests.kernels.agreement import DTYPES, EPS64, assert_close, eps

SHAPES = [(1, 1), (7, 5), (4, 10), (3, 1000), (2, 1500), (0, 4)]
IGNORED = -100
OPTIONS = list(itertools.product([False, True], [0.0, 0.1, 1.0]))  # class weights, label smoothing


def draw(shape, dtype, weighted, seed=0):
    """logits, target, weight, glosses; every fourth row is ignored."""
    rng = np.random.default_rng(seed)
    logits = (3 * rng.standard_normal(shape)).astype(dtype)
    target = rng.integers(0, shape[1], shape[0])
    target[3::4] = IGNORED
    weight = rng.uniform(0.2, 2, shape[1]).astype(dtype) if weighted else None
    return logits, target, weight, rng.standard_normal(shape[0]).astype(dtype)


def loops(logits, target, weight, smoothing):
    losses, gradients = np.zeros(len(logits)), np.zeros(logits.shape)
    for i, row in enumerate(logits.tolist()):
        if target[i] == IGNORED:
            continue
        w = [1.0] * len(row) if weight is None else weight.tolist()
        largest = max(row)
        total = math.fsum(math.exp(v - largest) for v in row)
        log_p = [v - largest - math.log(total) for v in row]
        # the target distribution, smoothed; each class's share of the loss counts with its weight
        q = [smoothing / len(row) + (1 - smoothing if k == target[i] else 0.0) for k in range(len(row))]
        losses[i] = -math.fsum(q[k] * w[k] * log_p[k] for k in range(len(row)))
        mass = math.fsum(q[k] * w[k] for k in range(len(row)))
        gradients[i] = [mass * math.exp(log_p[k]) - q[k] * w[k] for k in range(len(row))]
    return losses, gradients


@pytest.mark.parametrize(("weighted", "smoothing"), OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_reference(shape, weighted, smoothing):
    logits, target, weight, glosses = draw(shape, np.float64, weighted)
    losses, logsumexp = reference.cross_entropy_forward(logits, target, weight, IGNORED, smoothing)
    expected, gradients = loops(logits, target, weight, smoothing)
    np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=1e-14)
    glogits = reference.cross_entropy_backward(glosses, logits, logsumexp, target, weight, IGNORED, smoothing)
    np.testing.assert_allclose(glogits, glosses[:, None] * gradients, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("implementation", [cpu, cuda])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("weighted", "smoothing"), OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_reference(shape, weighted, smoothing, dtype, implementation):
    logits, target, weight, glosses = draw(shape, dtype, weighted)
    losses, logsumexp = implementation.cross_entropy_forward(logits, target, weight, IGNORED, smoothing)
    expected_losses, expected_logsumexp = reference.cross_entropy_forward(logits, target, weight, IGNORED, smoothing)
    slack = (shape[1] + 20) * EPS64  # float64 sums of K terms, and a few roundings of terms of the size of the largest logit
    size = 1 + abs(logits).max(axis=1, initial=0).astype(np.float64)
    w = 2.0 if weighted else 1.0
    assert_close(logsumexp, expected_logsumexp, slack * size, np.float64)
    assert_close(losses, expected_losses, eps(dtype) * expected_losses + 2 * w * slack * size, dtype)
    glogits = implementation.cross_entropy_backward(glosses, logits, logsumexp, target, weight, IGNORED, smoothing)
    expected = reference.cross_entropy_backward(glosses, logits, logsumexp, target, weight, IGNORED, smoothing)
    assert_close(glogits, expected, eps(dtype) * abs(expected) + w * slack * (abs(glosses) * size)[:, None], dtype)
    assert glogits.flags.c_contiguous


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("implementation", [reference, cpu, cuda])
def test_large_logits(implementation, dtype):
    """Neither overflow at 10^30 nor, at an offset of 10^4, probabilities that are off in the fourth digit."""
    huge = np.array([[1e30, 0, -1e30], [-1e30, 0, 1e30]], dtype)
    losses, _ = implementation.cross_entropy_forward(huge, np.array([0, 2]), None, IGNORED, 0.0)
    np.testing.assert_array_equal(losses, 0)

    small = np.array([[0.5, -1.0, 0.25]], dtype)
    target, ones = np.array([1]), np.ones(1, dtype)
    results = []
    for offset in (0, 1e4):
        logits = small + dtype(offset)  # these sums are exact
        losses, logsumexp = implementation.cross_entropy_forward(logits, target, None, IGNORED, 0.0)
        glogits = implementation.cross_entropy_backward(ones, logits, logsumexp, target, None, IGNORED, 0.0)
        results.append((losses, glogits))
    for near, far in zip(*results, strict=True):
        np.testing.assert_allclose(far, near, rtol=max(eps(dtype), 1e-11))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("implementation", [reference, cpu, cuda])
def test_infinite_and_nan_logits_like_torch(implementation, smoothing):
    torch = pytest.importorskip("torch")
    inf, nan = np.inf, np.nan
    rows = [[0, -inf, 1], [-inf, 0, 1], [-inf, -inf, -inf], [inf, 0, 1], [0, inf, 1], [nan, 0, 1], [0, 1, nan], [inf, inf, -inf]]
    logits, target = np.array(rows), np.zeros(len(rows), np.int64)
    losses, logsumexp = implementation.cross_entropy_forward(logits, target, None, IGNORED, smoothing)
    glogits = implementation.cross_entropy_backward(np.ones(len(rows)), logits, logsumexp, target, None, IGNORED, smoothing)
    t = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(t, torch.tensor(target), reduction="none", label_smoothing=smoothing)
    expected.sum().backward()
    np.testing.assert_allclose(losses, expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(glogits, t.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("weighted", "smoothing"), OPTIONS)
@pytest.mark.parametrize("implementation", [reference, cpu, cuda])
def test_like_torch(implementation, weighted, smoothing):
    torch = pytest.importorskip("torch")
    logits, target, weight, glosses = draw((20, 6), np.float64, weighted)
    t = torch.tensor(logits, requires_grad=True)
    class_weights = None if weight is None else torch.tensor(weight)
    expected = torch.nn.functional.cross_entropy(
        t, torch.tensor(target), class_weights, ignore_index=IGNORED, reduction="none", label_smoothing=smoothing
    )
    expected.backward(torch.tensor(glosses))
    losses, logsumexp = implementation.cross_entropy_forward(logits, target, weight, IGNORED, smoothing)
    np.testing.assert_allclose(losses, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    glogits = implementation.cross_entropy_backward(glosses, logits, logsumexp, target, weight, IGNORED, smoothing)
    np.testing.assert_allclose(glogits, t.grad.numpy(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("implementation", [cpu, cuda])
def test_strided_inputs(implementation):
    logits, target, weight, glosses = draw((7, 5), np.float64, True)
    expected, logsumexp = implementation.cross_entropy_forward(logits, target, weight, IGNORED, 0.1)
    wide = np.asfortranarray(logits), np.repeat(target, 2)[::2], np.repeat(weight, 3)[::3]
    np.testing.assert_array_equal(implementation.cross_entropy_forward(*wide, IGNORED, 0.1)[0], expected)
    again = implementation.cross_entropy_backward(np.repeat(glosses, 2)[::2], wide[0], logsumexp, *wide[1:], IGNORED, 0.1)
    np.testing.assert_array_equal(
        again, implementation.cross_entropy_backward(glosses, logits, logsumexp, target, weight, IGNORED, 0.1)
    )


@pytest.mark.parametrize("target_dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("implementation", [reference, cpu, cuda])
def test_labels_are_checked(implementation, target_dtype):
    labels = np.random.default_rng(0).integers(0, 7, (5, 300)).astype(target_dtype)
    assert implementation.check_labels(labels, 7, IGNORED)
    assert implementation.check_labels(labels[:, ::-3], 7, IGNORED)
    assert implementation.check_labels(labels[:0], 7, IGNORED)
    assert implementation.check_labels(labels, 6, 6)
    assert not implementation.check_labels(labels, 6, 5)
    if target_dtype is not np.uint8:
        labels[4, 299] = IGNORED
        assert implementation.check_labels(labels, 7, IGNORED)
        assert not implementation.check_labels(labels, 7, IGNORED - 1)
        labels[4, 299] = -1
        assert not implementation.check_labels(labels, 7, IGNORED)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [3, 40, 1100])
def test_labels_that_are_no_class_give_nan_on_a_card(classes, smoothing):
    """While a step is captured nobody looks at labels. Nothing outside of an array is read or written."""
    rng = np.random.default_rng(0)
    logits, weight = rng.standard_normal((6, classes)), rng.uniform(0.2, 2, classes)
    good = np.array([0, 1, IGNORED, 2, classes - 1, 1])
    bad, wrong = good.copy(), [1, 3, 5]
    bad[wrong] = [classes, -1, 2**40]
    expected, logsumexp = cuda.cross_entropy_forward(logits, good, weight, IGNORED, smoothing)
    losses, _ = cuda.cross_entropy_forward(logits, bad, weight, IGNORED, smoothing)
    expected[wrong] = np.nan
    np.testing.assert_array_equal(losses, expected)
    arguments = np.ones(6), logits, logsumexp
    expected = cuda.cross_entropy_backward(*arguments, good, weight, IGNORED, smoothing)
    expected[wrong] = np.nan
    np.testing.assert_array_equal(cuda.cross_entropy_backward(*arguments, bad, weight, IGNORED, smoothing), expected)


def test_no_classes():
    logits, target = np.zeros((3, 0)), np.full(3, IGNORED)
    for implementation in (reference, cuda):
        losses, logsumexp = implementation.cross_entropy_forward(logits, target, None, IGNORED, 0.0)
        np.testing.assert_array_equal(losses, np.zeros(3))
        np.testing.assert_array_equal(logsumexp, np.zeros(3))
        glogits = implementation.cross_entropy_backward(np.ones(3), logits, logsumexp, target, None, IGNORED, 0.0)
        assert glogits.shape == (3, 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits(dtype):
    """Computed in float64, and rounded once."""
    dtype = np.dtype(dtype if dtype == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    half = 2.0**-11 if dtype == np.float16 else 2.0**-8  # of a unit in the last place
    for shape in ((9, 5), (4, 1500)):
        arrays = draw(shape, dtype, True)
        logits, target, weight, glosses = (a if a.dtype == np.int64 else a.astype(np.float64) for a in arrays)
        losses, logsumexp = cuda.cross_entropy_forward(arrays[0], target, arrays[2], IGNORED, 0.1)
        expected, expected_logsumexp = reference.cross_entropy_forward(logits, target, weight, IGNORED, 0.1)
        np.testing.assert_allclose(logsumexp, expected_logsumexp, rtol=1e-12)
        glogits = cuda.cross_entropy_backward(arrays[3], arrays[0], logsumexp, target, arrays[2], IGNORED, 0.1)
        gradients = reference.cross_entropy_backward(glosses, logits, logsumexp, target, weight, IGNORED, 0.1)
        assert losses.dtype == glogits.dtype == dtype
        assert_close(losses.astype(np.float64), expected, 1.01 * half * abs(expected) + 1e-7)
        assert_close(glogits.astype(np.float64), gradients, 1.01 * half * abs(gradients) + 1e-7)
