"""Indices on a card: CuPy wraps those that are out of range without a word, so they are checked before."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from tests.cuda.on_device import cuda, has_card, to_card


@pytest.fixture(autouse=True)
def card(monkeypatch):
    """CuPy, or what stands in for it."""
    library = sys.modules[type(to_card(np.zeros(1))).__module__] if has_card() else cuda.module.loss.cupy
    monkeypatch.setitem(sys.modules, "cupy", library)
    return library


def on_card(values, **options):
    return mg.tensor(np.array(values), device="cuda", **options)


WRONG = {
    "brackets": lambda x, i: x[i],
    "brackets of columns": lambda x, i: x[:, i],
    "assignment": lambda x, i: x.__setitem__(i, 1.0),
    "gather": lambda x, i: x.gather(0, i.reshape(-1, 1)),
    "index_select": lambda x, i: x.index_select(1, i),
    "scatter": lambda x, i: x.scatter(0, i.reshape(-1, 1), 1.0),
    "index_add": lambda x, i: x.index_add(0, i, mg.ones(3, 4, device="cuda")),
}


@pytest.mark.parametrize("indices", [[0, 4, 1], [0, -5, 1]])
@pytest.mark.parametrize("use", WRONG)
def test_positions_out_of_range_are_refused(use, indices):
    x = on_card(np.ones((4, 4), np.float32))
    with pytest.raises(IndexError, match=rf"index {indices[1]} is out of range for dimension \d of size 4"):
        WRONG[use](x, on_card(indices))
    np.testing.assert_array_equal(x.cpu().numpy(), 1)


@pytest.mark.parametrize("indices", [[0, 3, 1], [-4, 3, -1]])
def test_positions_in_range(indices):
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    x = on_card(values, requires_grad=True)
    y = x[on_card(indices)]
    np.testing.assert_array_equal(y.detach().cpu().numpy(), values[indices])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.cpu().numpy()[:, 0], [1, 1 - (indices[0] < 0), 0, 1 + (indices[0] < 0)])


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_wrong_labels_are_named(loss):
    with pytest.raises(ValueError, match=r"target\[1\] is 4, but input has 4 classes: labels must be in 0 \.\.\. 3"):
        loss(on_card(np.zeros((3, 4), np.float32)), on_card([0, 4, 1]))
    with pytest.raises(ValueError, match="the labels seem to count from 1, use target - 1"):
        loss(on_card(np.zeros((3, 4), np.float32)), on_card([1, 4, 2]))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_losses_are_those_of_the_processor(loss, weighted, reduction):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 5, 3, 4)).astype(np.float32), rng.integers(0, 5, (2, 3, 4))
    target[0, 1] = -100
    weight, results = rng.uniform(0.2, 2, 5).astype(np.float32), []
    for device in ("cpu", "cuda"):
        logits = mg.tensor(x, device=device, requires_grad=True)
        w = mg.tensor(weight, device=device) if weighted else None
        y = loss(logits, mg.tensor(target, device=device), w, reduction=reduction)
        y.sum().backward()
        results.append((y.detach().cpu().numpy(), logits.grad.cpu().numpy()))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_a_loss_can_be_captured(loss, card):
    """Neither the labels nor the number that a mean divides by are looked at."""
    logits, target = on_card(np.zeros((3, 4), np.float32), requires_grad=True), on_card([0, -100, 1])
    loss(logits, target).backward()  # kernels are compiled before
    stream = card.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        y = loss(logits, target)
        y.backward()
        graph = stream.end_capture()
        graph.launch()
        stream.synchronize()
    if has_card():  # the stand-in runs what is CuPy's own at once, and the kernels with the graph
        assert np.isfinite(y.item())
    assert cuda.module.check_labels(target.data, 4, -100)
