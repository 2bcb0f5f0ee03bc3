"""evaluate() and its metrics: against loops over single samples, with ties, NaN, unequal batches; modes, errors, round trips."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.autograd import state
from minigrad.data import DataLoader, TensorDataset
from minigrad.nn import functional as F
from minigrad.tensor import Tensor
from minigrad.training import Metrics, evaluate
from minigrad.training.metrics import MetricSums


class Scores(nn.Module):
    """A model whose scores are its input."""

    def forward(self, x):
        return x


def sums_of(*batches, losses=None):
    sums = MetricSums()
    for k, (scores, target) in enumerate(batches):
        sums.add(0.0 if losses is None else losses[k], mg.tensor(scores), mg.tensor(target))
    return sums


def one_by_one(scores, target):
    """top-1, top-5 and the confusion matrix, from the definitions; of equal scores the one with the lowest number counts."""
    classes = scores.shape[1]
    top1 = top5 = 0
    confusion = [[0] * classes for _ in range(classes)]
    for row, own in zip(scores.tolist(), target.tolist(), strict=True):
        order = sorted(range(classes), key=lambda k, row=row: (-row[k], k))
        top1 += order[0] == own
        top5 += own in order[:5]
        confusion[own][order[0]] += 1
    return top1 / len(target), top5 / len(target), confusion


@pytest.mark.parametrize("classes", [1, 2, 5, 6, 30])
@pytest.mark.parametrize("levels", [3, 10**6], ids=["ties", "no ties"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_single_samples(classes, levels, dtype):
    rng = np.random.default_rng(classes)
    scores, target = rng.integers(0, levels, (200, classes)).astype(dtype), rng.integers(0, classes, 200)
    found = sums_of((scores[:150], target[:150]), (scores[150:], target[150:])).result()
    top1, top5, confusion = one_by_one(scores, target)
    assert (found.top1, found.top5, found.n) == (top1, top5, 200)
    assert found.accuracy == found.top1
    assert found.confusion.dtype == np.int64
    assert found.confusion.tolist() == confusion
    for k in range(classes):
        own = [row for row, t in zip(scores, target, strict=True) if t == k]
        right = sum(int(row.argmax() == k) for row in own)
        assert found.per_class[k] == right / len(own)


def test_ties_count_for_the_class_with_the_lower_number():
    scores = np.zeros((7, 7), np.float32)
    found = sums_of((scores, np.arange(7))).result()
    assert (found.top1, found.top5) == (1 / 7, 5 / 7)
    assert found.confusion[:, 0].tolist() == [1] * 7


def test_five_classes_or_fewer_are_always_among_the_five_highest():
    scores = np.random.default_rng(0).standard_normal((40, 5))
    assert sums_of((scores, np.arange(40) % 5)).result().top5 == 1


def test_infinite_scores_are_ordered():
    scores = np.array([[-np.inf, np.inf, 0], [-np.inf, -np.inf, -np.inf], [0, 1, np.inf]])
    found = sums_of((scores, np.array([1, 0, 0]))).result()
    assert found.top1 == 2 / 3
    assert found.confusion.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_sample_with_a_nan_score_is_never_right(where):
    """Whatever the class: a model that has diverged must not look like one that knows class 0."""
    for own in range(3):
        scores = np.zeros((1, 3), np.float32)
        scores[0, own], scores[0, where] = 9, np.nan
        everything = np.full((1, 3), np.nan, np.float32)
        found = sums_of((scores, np.array([own])), (everything, np.array([own])), (np.eye(3), np.arange(3))).result()
        assert (found.top1, found.top5, found.n) == (3 / 5, 3 / 5, 5)
        assert found.confusion.tolist() == np.eye(3).tolist()  # taken for no class


def test_per_class_is_nan_for_a_class_without_samples():
    found = sums_of((np.eye(3)[[0, 0, 1]], np.array([0, 1, 1]))).result()
    np.testing.assert_array_equal(found.per_class, [1, 0.5, np.nan])


def test_the_loss_is_the_mean_over_samples_not_over_batches():
    found = sums_of((np.eye(2), np.arange(2)), (np.eye(2)[:1], np.arange(1)), losses=[1.0, 4.0]).result()
    assert found.loss == 2
    assert math.isnan(sums_of((np.eye(2), np.arange(2)), losses=[math.nan]).result().loss)


def test_equality_is_of_the_numbers():
    found = [sums_of((np.eye(3)[[0, 0, k]], np.array([0, 1, 2]))).result() for k in (2, 2, 1)]
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert found[0] != "another thing"


def test_text_and_dictionary():
    found = Metrics(0.123456, 0.5, 0.75, 4, np.array([[1, 1], [1, 1]]))
    assert repr(found) == "Metrics(loss=0.1235, top1=50.00%, top5=75.00%, n=4)"
    expected = {"loss": 0.123456, "top1": 0.5, "top5": 0.75, "n": 4, "confusion": [[1, 1], [1, 1]]}
    assert json.loads(json.dumps(found.to_dict())) == expected


# ---- wrong arguments, round trip ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        (np.zeros((4, 3)), np.zeros(5, np.int64), r"got \(4, 3\) and int64 \(5,\)"),
        (np.zeros((4, 3)), np.zeros((4, 3), np.int64), r"got \(4, 3\) and int64 \(4, 3\)"),
        (np.zeros((4, 3)), np.zeros(4, np.float32), r"got \(4, 3\) and float32 \(4,\)"),
        (np.zeros((4, 3, 2, 2)), np.zeros((4, 2, 3), np.int64), r"accuracy needs scores \(N, classes\) and classes \(N,\)"),
        (np.zeros((4, 3)), np.full((4, 3), 0.5, np.float32), r"got \(4, 3\) and float32 \(4, 3\)"),
        (np.zeros(3), np.zeros((), np.int64), r"accuracy needs scores \(N, classes\)"),
        (np.zeros((2, 3)), np.array([0, 3]), r"classes must lie in 0 \.\.\. 2, got 0 \.\.\. 3"),
        (np.zeros((2, 3)), np.array([-1, 1]), r"classes must lie in 0 \.\.\. 2, got -1 \.\.\. 1"),
        (np.zeros((2, 3)), np.array([-100, 1]), r"got -100"),  # cross_entropy leaves such a sample out
        (np.zeros((2, 4)), np.array([0, 1]), r"scores for 4 classes after scores for 3"),
        (np.zeros((2, 1)), np.array([0, 0]), r"scores for 1 classes after scores for 3"),
    ],
)
def test_wrong_shapes_and_classes_are_refused_and_nothing_changes(scores, target, message):
    sums = sums_of((np.eye(3), np.arange(3)), losses=[0.5])
    before = copy.deepcopy(sums.state_dict())
    with pytest.raises(ValueError, match=message):
        sums.add(1.0, mg.tensor(scores), mg.tensor(target))
    assert sums.state_dict() == before


def test_nothing_to_average():
    with pytest.raises(ValueError, match="the loader gave no batch"):
        MetricSums().result()


@pytest.mark.parametrize("first", [0, 1, 2])
def test_sums_continue_from_a_saved_state(first):
    rng = np.random.default_rng(1)
    batches = [(rng.standard_normal((n, 7)).astype(np.float32), rng.integers(0, 7, n)) for n in (5, 3)]
    losses = [0.1, 0.7]
    whole = sums_of(*batches, losses=losses).result()
    saved = json.loads(json.dumps(sums_of(*batches[:first], losses=losses).state_dict()))
    resumed = MetricSums()
    resumed.load_state_dict(saved)
    for loss, (scores, target) in list(zip(losses, batches, strict=True))[first:]:
        resumed.add(loss, mg.tensor(scores), mg.tensor(target))
    assert resumed.result().to_dict() == whole.to_dict()
    assert resumed.result().confusion.dtype == np.int64


# ---- evaluate ----------------------------------------------------------------------------------------------------------


def test_evaluate_with_an_unequal_last_batch():
    rng = np.random.default_rng(2)
    scores, target = rng.standard_normal((23, 4)).astype(np.float32), rng.integers(0, 4, 23)
    found = evaluate(Scores(), DataLoader(TensorDataset(mg.tensor(scores), mg.tensor(target)), 5))
    top1, top5, confusion = one_by_one(scores, target)
    assert (found.top1, found.top5, found.n, found.confusion.tolist()) == (top1, top5, 23, confusion)
    losses = np.log(np.exp(scores.astype(np.float64)).sum(1)) - scores[np.arange(23), target]
    assert found.loss == pytest.approx(losses.mean(), rel=1e-6)


def test_evaluate_with_another_loss():
    batches = [(mg.tensor(np.eye(2)), mg.tensor([0, 1])), (mg.tensor(np.eye(2)[:1]), mg.tensor([1]))]
    found = evaluate(Scores(), batches, lambda scores, target: F.mse_loss(scores, F.one_hot(target, 2).double()))
    assert found.loss == pytest.approx(1 / 3)
    assert found.top1 == 2 / 3


@pytest.mark.parametrize("loader", [[], iter(()), ()])
def test_evaluate_with_a_loader_that_gives_nothing(loader):
    with pytest.raises(ValueError, match="the loader gave no batch"):
        evaluate(Scores(), loader)


def test_after_batch_is_given_the_sums_so_far():
    batches = [(mg.tensor(np.eye(3)), mg.tensor([0, 1, 0])), (mg.tensor(np.eye(3)[:2]), mg.tensor([0, 1]))]
    seen = []
    evaluate(Scores(), batches, after_batch=lambda sums: seen.append((sums.n, sums.top1)))
    assert seen == [(3, 2), (5, 4)]


class Watched(nn.Module):
    """Two layers with modes of their own, and a record of the modes and of gradients at each pass."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.BatchNorm1d(3)
        self.body = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3))
        self.frozen.eval()
        self.seen = []

    def forward(self, x):
        y = self.body(self.frozen(x))
        self.seen.append((self.training, self.frozen.training, self.body[0].training, state.grad_enabled, y.requires_grad))
        return y


@pytest.mark.parametrize("fails", [False, True])
def test_evaluation_mode_without_gradients_and_each_module_gets_its_own_mode_back(fails):
    model = Watched()
    modes = [module.training for module in model.modules()]
    before = {name: t.tolist() for name, t in model.state_dict().items()}
    batches = [(mg.randn(4, 3), mg.tensor([0, 1, 2, 9 if fails else 0]))] * 2
    if fails:
        with pytest.raises(ValueError, match="9"):
            evaluate(model, batches)
    else:
        assert evaluate(model, batches).n == 8
    assert set(model.seen) == {(False, False, False, False, False)}
    assert [module.training for module in model.modules()] == modes
    assert modes != [True] * len(modes)
    assert state.grad_enabled
    assert {name: t.tolist() for name, t in model.state_dict().items()} == before
    assert all(p.grad is None for p in model.parameters())


# ---- probabilities and pixels ------------------------------------------------------------------------------------------


def test_of_probabilities_the_class_with_the_largest_is_meant():
    scores = Tensor(np.float32([[1, 2, 3], [3, 2, 1], [0, 5, 0]]))
    one, other = MetricSums(), MetricSums()
    one.add(0.5, scores, Tensor(np.array([2, 1, 1])))
    other.add(0.5, scores, Tensor(np.float32([[0.2, 0.3, 0.5], [0.1, 0.9, 0], [0.3, 0.4, 0.3]])))
    assert one.result() == other.result()


def test_every_pixel_is_a_sample():
    rng = np.random.default_rng(0)
    scores, classes = rng.standard_normal((2, 3, 4, 5)).astype(np.float32), rng.integers(0, 3, (2, 4, 5))
    sums = MetricSums()
    sums.add(1.0, Tensor(scores), Tensor(classes))
    found = sums.result()
    confusion = np.zeros((3, 3), np.int64)
    for i in range(2):
        for y in range(4):
            for x in range(5):
                confusion[classes[i, y, x], scores[i, :, y, x].argmax()] += 1
    assert found.n == 40
    np.testing.assert_array_equal(found.confusion, confusion)
    assert found.top1 == np.trace(confusion) / 40


def test_iou_by_hand():
    sums = MetricSums()
    given, classes = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 0, 0])
    sums.add(1.0, Tensor(np.eye(3, dtype=np.float32)[given]), Tensor(classes))
    iou = sums.result().iou
    assert iou[:2].tolist() == [2 / 4, 2 / 4]
    assert np.isnan(iou[2])


def test_pixels_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"accuracy needs scores \(N, classes\) and classes \(N,\)"):
        MetricSums().add(1.0, Tensor(np.zeros((2, 3, 4, 5), np.float32)), Tensor(np.zeros((2, 4, 4), np.int64)))
