"""Results that wait for what follows: the same bits as one op after another, whoever looks at them in between."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.kernels import cpu
from minigrad.ops import _pending

pytestmark = pytest.mark.processor("is about what waits on the processor")


def image(seed=0, shape=(4, 16, 12, 12), requires_grad=True):
    """A large activation that a kernel made, from a leaf."""
    rng = np.random.default_rng(seed)
    leaf = mg.tensor(rng.standard_normal(shape), dtype=mg.float32, requires_grad=requires_grad)
    return leaf, F.conv2d(leaf, mg.tensor(np.eye(shape[1])[:, :, None, None], dtype=mg.float32))


def batch_norm(x, seed=1):
    rng = np.random.default_rng(seed)
    weight, bias = (mg.tensor(rng.standard_normal(x.shape[1]), dtype=mg.float32, requires_grad=True) for _ in range(2))
    return mg.ops.batch_norm_training(x, weight, bias)[0], weight, bias


def touch(t):
    """Ask for the array of ``t``, as anybody may."""
    assert t.data.shape == t.shape
    return t


def ignore(t):
    return t


CHAINS = {
    "relu": lambda y, s, look: F.relu(look(y)),
    "relu_": lambda y, s, look: F.relu(look(y), inplace=True),
    "add_, relu": lambda y, s, look: F.relu(look(look(y).add_(s))),
    "add_, relu_": lambda y, s, look: look(look(y).add_(s)).relu_(),
    "add, relu": lambda y, s, look: F.relu(look(look(y) + s)),
    "add in the other order": lambda y, s, look: F.relu(look(s + look(y))),
    "two sums": lambda y, s, look: F.relu(look(look(look(y) + s) + s)),
    "itself": lambda y, s, look: F.relu(look(look(y) + y)),
    "alpha": lambda y, s, look: F.relu(look(mg.add(look(y), s, alpha=2))),
    "broadcast sum": lambda y, s, look: F.relu(look(look(y) + s.mean((2, 3), keepdim=True))),
    "used twice": lambda y, s, look: F.relu(look(y)) + look(y) * 2,
    "number": lambda y, s, look: F.relu(look(y) + 1.0),
}


def run(chain, look):
    """Result and gradients of a chain of ops on a batch-normalized image and another image."""
    leaf, x = image()
    other, s = image(2)
    y, weight, bias = batch_norm(x)
    z = CHAINS[chain](y, s, look)
    (z * z).sum().backward()
    return [z.data, *(t.grad.data for t in (leaf, other, weight, bias) if t.grad is not None)]


@pytest.mark.parametrize("chain", CHAINS)
def test_same_bits_whoever_looks(chain):
    for ours, theirs in zip(run(chain, ignore), run(chain, touch), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("chain", CHAINS)
def test_like_small_pieces(chain, monkeypatch):
    """With nothing worth waiting for, each op works by itself."""
    ours = run(chain, ignore)
    monkeypatch.setattr(_pending, "SMALL", 10**9)
    for mine, theirs in zip(ours, run(chain, ignore), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_it_waits():
    y = batch_norm(image()[1])[0]
    assert y.pending is not None
    z = F.relu(y)
    assert y.pending is not None, "the normalized image was written out"
    assert z.pending is None
    touch(y)
    assert y.pending is None
    np.testing.assert_array_equal(z.data, np.maximum(y.data, 0))


def test_residual_sum_waits():
    y, s = batch_norm(image()[1])[0], image(2)[1]
    y += s
    assert y.pending is not None
    z = F.relu(y)
    assert y.pending is not None
    np.testing.assert_array_equal(z.data, np.maximum(y.data, 0))


def test_small_or_foreign_arrays_do_not_wait():
    """An array of the caller's may be written to at any time, without a word."""
    array = np.random.default_rng(0).standard_normal((4, 16, 12, 12)).astype(np.float32)
    assert batch_norm(mg.Tensor(array))[0].pending is None
    assert batch_norm(image(shape=(2, 3, 4, 4))[1])[0].pending is None


def test_anomaly_detection_sees_the_normalized_image():
    with mg.autograd.detect_anomaly():
        assert batch_norm(image()[1])[0].pending is None


@pytest.mark.parametrize("inplace", [False, True])
def test_gradient_hooks(inplace):
    y = batch_norm(image()[1])[0]
    seen = []
    y.register_hook(lambda g: seen.append(g.data.copy()))
    z = F.relu(y, inplace=inplace)
    z.sum().backward()
    np.testing.assert_array_equal(seen[0], (z.data > 0).astype(np.float32))


def test_retained_gradient():
    y = batch_norm(image()[1])[0]
    y.retain_grad()
    z = F.relu(y)
    z.sum().backward()
    np.testing.assert_array_equal(y.grad.data, (z.data > 0).astype(np.float32))


class Calls:
    """Counts the rectifier's own passes back through an image."""

    def __init__(self, monkeypatch):
        self.number, backward = 0, cpu.relu_backward

        def counted(gy, y, other=None):
            self.number += 1
            return backward(gy, y, other)

        monkeypatch.setattr(cpu, "relu_backward", counted)


@pytest.mark.parametrize("inplace", [False, True])
def test_the_gradient_of_a_rectifier_needs_no_pass_of_its_own(inplace, monkeypatch):
    calls = Calls(monkeypatch)
    leaf, x = image()
    y, weight, bias = batch_norm(x)
    F.relu(y, inplace=inplace).sum().backward()
    assert calls.number == 0
    expected = [t.grad.data for t in (leaf, weight, bias)]
    leaf, x = image()
    y, weight, bias = batch_norm(x)
    F.relu(touch(y)).sum().backward()
    assert calls.number == 1
    for mine, t in zip(expected, (leaf, weight, bias), strict=True):
        np.testing.assert_array_equal(mine, t.grad.data)


def _hook(y):
    y.register_hook(lambda g: g * 2)


@pytest.mark.parametrize(
    ("prepare", "back"),
    [
        (_hook, lambda y, z: z.sum().backward()),
        (lambda y: y.retain_grad(), lambda y, z: z.sum().backward()),
        (lambda y: None, lambda y, z: mg.autograd.grad(z.sum(), y)),
        (lambda y: None, lambda y, z: (z.sum() + y.sum()).backward()),
        (lambda y: None, lambda y, z: (y.sum() + F.relu(y).sum() + z.sum()).backward()),
        (lambda y: None, lambda y, z: mg.viz.backprop(z.sum())),
    ],
    ids=["hook", "retained", "asked for", "used twice", "rectified twice", "watched"],
)
def test_whoever_asks_for_the_gradient_of_the_normalized_image_gets_it(prepare, back, monkeypatch):
    """The same results as if the rectifier had worked by itself from the start."""
    calls, results = Calls(monkeypatch), []
    for look in (ignore, touch):
        leaf, x = image()
        y, weight, bias = batch_norm(x)
        prepare(y)
        result = back(y, F.relu(look(y)))
        results.append([t.grad for t in (leaf, weight, bias, y)])
        if isinstance(result, tuple):
            results[-1].extend(result)
    assert calls.number >= 2, "one for each run, at least"
    for mine, theirs in zip(*results, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_array_equal(mine.data, theirs.data)


def test_anomalies_of_a_rectifier_are_told_at_the_rectifier():
    leaf, x = image()
    y, _, _ = batch_norm(x)
    z = F.relu(y)
    gradient = mg.zeros_like(z)
    gradient.data[0, 0] = np.nan
    with mg.autograd.detect_anomaly(), pytest.raises(mg.autograd.AnomalyError, match=r"^relu: .*backward gave"):
        z.backward(gradient)
    assert leaf.grad is None


def test_the_graph_can_be_walked_again():
    leaf, x = image()
    y, weight, bias = batch_norm(x)
    loss = F.relu(y).sum()
    loss.backward(retain_graph=True)
    first = [t.grad.data.copy() for t in (leaf, weight, bias)]
    loss.backward()
    for t, once in zip((leaf, weight, bias), first, strict=True):
        np.testing.assert_array_equal(t.grad.data, once + once)


def test_a_forward_hook_gets_the_normalized_image():
    bn, seen = nn.BatchNorm2d(16), []
    bn.register_forward_hook(lambda module, args, output: seen.append(output.data.copy()))
    x = image()[1]
    z = F.relu(bn(x))
    assert seen[0].min() < 0
    np.testing.assert_array_equal(z.data, np.maximum(seen[0], 0))


def test_in_place_change_of_the_input_comes_after():
    _, x = image()
    y = batch_norm(x)[0]
    expected = batch_norm(image()[1])[0].data
    with mg.no_grad():
        x.mul_(2)
    assert y.pending is None, "the change did not wait for the result"
    np.testing.assert_array_equal(y.data, expected)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_in_place_change_of_the_addend_comes_after():
    y, s = batch_norm(image()[1])[0], image(2)[1]
    total = y + s
    expected = (batch_norm(image()[1])[0].data + image(2)[1].data).copy()
    s.zero_()
    np.testing.assert_array_equal(total.data, expected)


def test_in_place_change_of_the_result_is_seen_by_its_sum_only_before():
    y, s = batch_norm(image()[1])[0], image(2)[1]
    total = y + s
    expected = batch_norm(image()[1])[0].data + s.data
    y.mul_(3)
    np.testing.assert_array_equal(total.data, expected)


def test_parameters_may_change():
    _, x = image()
    y, weight, bias = batch_norm(x)
    expected = batch_norm(image()[1])[0].data
    weight.grad, bias.grad = mg.ones(16), mg.ones(16)
    optim.SGD([weight, bias], lr=1.0).step()
    np.testing.assert_array_equal(y.data, expected)


def test_evaluation_without_gradients():
    bn = nn.BatchNorm2d(16).eval()
    with mg.no_grad():
        x = image(requires_grad=False)[1]
        y = bn(x)
        assert y.pending is not None
        z = F.relu(y)
    np.testing.assert_array_equal(z.data, np.maximum(touch(y).data, 0))
    np.testing.assert_allclose(y.data, x.data / np.sqrt(1 + 1e-5), rtol=1e-5, atol=1e-6)


def test_what_asks_for_an_array_gets_it():
    with mg.no_grad():
        y = nn.BatchNorm2d(16).eval()(image(requires_grad=False)[1])
        assert y.shape == (4, 16, 12, 12)
        y = nn.BatchNorm2d(16).eval()(image(requires_grad=False)[1])
        assert "tensor(" in repr(y)
        y = nn.BatchNorm2d(16).eval()(image(requires_grad=False)[1])
        np.testing.assert_array_equal(copy.deepcopy(y).data, y.data)
        y = nn.BatchNorm2d(16).eval()(image(requires_grad=False)[1])
        assert y.detach().data is y.data
        y = nn.BatchNorm2d(16).eval()(image(requires_grad=False)[1])
        assert np.asarray(y).dtype == np.float32


def test_missing_attributes_still_help():
    y = batch_norm(image()[1])[0]
    with pytest.raises(AttributeError, match="softmx"):
        y.softmx  # noqa: B018
    assert y.pending is not None


def test_wrong_shapes_are_named():
    y = batch_norm(image()[1])[0]
    with pytest.raises(ValueError, match="broadcast"):
        y + mg.zeros(4, 15, 12, 12)
    with pytest.raises((ValueError, RuntimeError)):
        y.add_(mg.zeros(2, 4, 16, 12, 12))


def test_nothing_is_kept_alive():
    """A result that was never computed goes with its last reference, and takes its inputs with it."""
    gc.disable()
    try:
        leaf, x = image()
        y = batch_norm(x)[0]
        watched = weakref.ref(x), weakref.ref(y)
        del x, y
        assert [w() for w in watched] == [None, None]
        assert leaf is not None
    finally:
        gc.enable()


def test_a_tensor_that_is_added_again_and_again_remembers_nothing():
    with mg.no_grad():
        s = image(2, requires_grad=False)[1]
        for _ in range(20):
            F.relu(batch_norm(image(requires_grad=False)[1])[0] + s)
    assert len(s.version) <= 2


def test_pickles():
    """Of the result, and of what it waits for."""
    with mg.no_grad():
        x = image(requires_grad=False)[1]
        y = nn.BatchNorm2d(16).eval()(x)
        assert y.pending is not None
        again = pickle.loads(pickle.dumps(x))
        np.testing.assert_array_equal(again.data, x.data)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(nn.BatchNorm2d(16).eval()(x))).data, y.data)


def test_several_threads_ask_at_once():
    for _ in range(20):
        y = batch_norm(image()[1])[0]
        with ThreadPoolExecutor(4) as pool:
            arrays = list(pool.map(lambda _, y=y: y.data.sum(), range(4)))
        assert len(set(map(float, arrays))) == 1


def test_add_to_something_else_is_refused():
    with pytest.raises(TypeError):
        mg.ops.add_(3.0, image()[1])


# ---- sums of gradients -------------------------------------------------------------------------------------------------


def fork(prepare=ignore, uses=2, inplace=False):
    """A rectified image that several convolutions see; the gradients of the image before and of what ``prepare`` asks for."""
    leaf, x = image()
    y = F.relu(x, inplace=inplace)
    prepare(y)
    kernels = [mg.tensor(np.random.default_rng(k).standard_normal((8, 16, 1, 1)), dtype=mg.float32) for k in range(uses)]
    total = sum((F.conv2d(y, w) ** 2).sum() for w in kernels)
    total.backward()
    return leaf.grad.data, y


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("uses", [2, 3])
def test_a_rectifier_adds_the_gradients_of_two_users(uses, inplace, monkeypatch):
    plain, _ = fork(lambda y: y.register_hook(lambda g: None), uses, inplace)
    sums, add = [], cpu.add
    monkeypatch.setattr(cpu, "add", lambda x, y, **kwargs: sums.append(x.ndim) or add(x, y, **kwargs))
    grad, _ = fork(ignore, uses, inplace)
    assert sums.count(4) == {2: 0, 3: 2}[uses]  # of three gradients the first sum is made after all
    np.testing.assert_array_equal(grad, plain)


def test_whoever_asks_sees_the_sum_of_two_gradients():
    plain, _ = fork()
    seen = []
    for prepare in (lambda y: y.register_hook(lambda g: seen.append(g.data.copy())), lambda y: y.retain_grad()):
        grad, y = fork(prepare)
        np.testing.assert_array_equal(grad, plain)
    np.testing.assert_array_equal(seen[0], y.grad.data)
    np.testing.assert_array_equal(np.where(y.data > 0, y.grad.data, 0), plain)
    with mg.autograd.detect_anomaly():
        np.testing.assert_array_equal(fork()[0], plain)


def test_a_target_gets_the_sum_of_two_gradients():
    _, x = image()
    y = F.relu(x)
    gradient = mg.autograd.grad((y * 2).sum() + (y * 3).sum(), y)[0]
    np.testing.assert_array_equal(gradient.data, np.full(y.shape, 5, np.float32))


def test_a_normalization_gets_the_sum_of_two_gradients_from_its_rectifier():
    def run(look):
        leaf, x = image()
        y, weight, bias = batch_norm(x)
        z = F.relu(look(y))
        ((z * z).sum() + (z * 3).sum()).backward()
        return [t.grad.data for t in (leaf, weight, bias)]

    for mine, theirs in zip(run(ignore), run(touch), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_rectifier_without_gradient_marks_no_other_node():
    x = image()[1] * 1
    with mg.no_grad():
        F.relu(x, inplace=True)
    assert not x.origin[0].takes_sums
