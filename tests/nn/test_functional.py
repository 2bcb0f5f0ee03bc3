"""The functions of nn.functional that are not single ops, and nn.utils, beside PyTorch's."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.nn import utils

torch = pytest.importorskip("torch")

TF = torch.nn.functional


def test_every_name_has_the_signature_order_of_pytorch():
    """The arguments come in PyTorch's order; only the name of the first one (x for input) may differ."""
    import inspect

    for name in F.__all__:
        theirs = getattr(TF, name, None)
        if theirs is None:
            assert name == "local_response_norm_paper"
            continue
        try:
            signature = inspect.signature(theirs)
        except ValueError:  # built in, without a signature
            continue
        expected = [n for n in signature.parameters if n not in ("_stacklevel", "dtype", "size_average", "reduce")]
        if expected == ["args", "kwargs"]:
            continue
        ours = list(inspect.signature(getattr(F, name)).parameters)
        assert ours[1:] == expected[1 : len(ours)], name


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda f, x: f.normalize(x), (3, 4)),
        (lambda f, x: f.normalize(x, p=1.0, dim=0), (3, 4)),
        (lambda f, x: f.cosine_similarity(x[0], x[1], dim=-1), (2, 3, 4)),
        (lambda f, x: f.pixel_shuffle(x, 3), (2, 18, 2, 3)),
        (lambda f, x: f.upsample(x, scale_factor=2), (2, 3, 4, 5)),
    ],
)
@pytest.mark.filterwarnings("ignore:`nn.functional.upsample` is deprecated", "ignore:nn.functional.upsample is deprecated")
def test_composed_functions(function, arguments):
    a = np.random.default_rng(0).normal(size=arguments)
    x, t = mg.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    y, u = function(F, x), function(TF, t)
    np.testing.assert_allclose(y.detach().numpy(), u.detach().numpy(), rtol=1e-12)
    (y * y).sum().backward(), (u * u).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_normalize_of_zeros_is_zero():
    x = mg.zeros(2, 3, requires_grad=True)
    y = F.normalize(x)
    y.sum().backward()
    assert not y.detach().numpy().any()
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
@pytest.mark.parametrize("training", [True, False])
def test_running_statistics(name, training):
    a = np.random.default_rng(1).normal(size=(3, 2, 4, 5))
    mean, var = np.array([0.5, -1.0]), np.array([2.0, 3.0])
    ours = [mg.tensor(mean), mg.tensor(var)]
    theirs = [torch.tensor(mean), torch.tensor(var)]
    y = getattr(F, name)(mg.tensor(a), *ours, None, None, training, 0.3)
    t = getattr(TF, name)(torch.tensor(a), *theirs, None, None, training, 0.3)
    np.testing.assert_allclose(y.numpy(), t.numpy(), rtol=1e-10, atol=1e-12)
    for x, u in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.numpy(), u.numpy(), rtol=1e-12)
    assert (ours[0].numpy() == mean).all() != training


def test_wrong_running_statistics_change_nothing():
    x, good, bad = mg.randn(2, 3, 4, 4), mg.zeros(3), mg.ones(4)
    for function in (F.batch_norm, F.instance_norm):
        with pytest.raises(ValueError, match=r"running_var must have one number per channel"):
            function(x, good, bad, None, None, True)
        with pytest.raises(ValueError, match="needs running_mean and running_var, got None"):
            function(x, None, None, None, None, False)
    assert good.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"pixel_shuffle: x must have shape \(N, C \* 2\^2, H, W\)"):
        F.pixel_shuffle(x, 2)


# ---- nn.utils ----------------------------------------------------------------------------------------------------------


def with_gradients():
    rng = np.random.default_rng(2)
    ours, theirs = [], []
    for shape in [(3, 4), (5,), (2, 2)]:
        a, g = rng.normal(size=shape), rng.normal(size=shape)
        p, q = nn.Parameter(mg.tensor(a)), torch.nn.Parameter(torch.tensor(a))
        p.grad, q.grad = mg.tensor(g), torch.tensor(g)
        ours.append(p), theirs.append(q)
    ours.append(nn.Parameter(mg.ones(2))), theirs.append(torch.nn.Parameter(torch.ones(2)))  # without gradient
    return ours, theirs


@pytest.mark.parametrize("norm_type", [2.0, 1.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm(norm_type, max_norm):
    ours, theirs = with_gradients()
    total = utils.clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(total.item(), expected.item(), rtol=1e-12)
    for p, q in zip(ours[:3], theirs[:3], strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)


def test_clip_grad_norm_of_bad_gradients():
    ours, _ = with_gradients()
    ours[1].grad.data[0] = math.inf
    before = ours[0].grad.numpy().copy()
    with pytest.raises(RuntimeError, match="the norm of the gradients is inf"):
        utils.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(ours[0].grad.numpy(), before)
    with pytest.raises(ValueError, match="max_norm must be at least 0"):
        utils.clip_grad_norm_(ours, -1.0)
    with pytest.raises(ValueError, match="norm_type must be positive"):
        utils.clip_grad_norm_(ours, 1.0, 0)
    assert utils.clip_grad_norm_([nn.Parameter(mg.ones(2))], 1.0).item() == 0


def test_clip_grad_value():
    ours, theirs = with_gradients()
    utils.clip_grad_value_(ours, 0.3)
    torch.nn.utils.clip_grad_value_(theirs, 0.3)
    for p, q in zip(ours[:3], theirs[:3], strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())


def test_parameters_as_a_vector():
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    vector = utils.parameters_to_vector(model.parameters())
    assert vector.shape == (8,)
    utils.vector_to_parameters(vector.detach(), other.parameters())
    np.testing.assert_array_equal(other.weight.detach().numpy(), model.weight.detach().numpy())
    vector.sum().backward()
    assert model.weight.grad.numpy().all()
    with pytest.raises(ValueError, match=r"vec must have shape \(8,\)"):
        utils.vector_to_parameters(mg.ones(9), other.parameters())


@pytest.mark.parametrize(("shape", "outputs"), [((0, 4), 3), ((5, 0), 3), ((5, 4), 0), ((2, 3, 0), 4), ((0, 0), 0)])
def test_linear_of_nothing(shape, outputs):
    """No images, no features or no outputs: what is there is the bias."""
    x, weight = mg.ones(*shape).requires_grad_(), mg.ones(outputs, shape[-1]).requires_grad_()
    y = F.linear(x, weight, mg.ones(outputs))
    assert y.shape == (*shape[:-1], outputs)
    if not shape[-1]:
        np.testing.assert_array_equal(y.detach().numpy(), np.ones(y.shape))
    y.sum().backward()
    assert (x.grad.shape, weight.grad.shape) == (x.shape, weight.shape)
