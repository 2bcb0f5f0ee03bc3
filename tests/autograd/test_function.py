"""``autograd.Function``: ops with a backward of their own, as PyTorch code defines them."""

from __future__ import annotations

import gc
import importlib
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad.autograd import Function


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gy):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gy


class Scaled(Function):
    """x * scale, by the newer style; ``scale`` is a number."""

    @staticmethod
    def forward(x, scale=2.0):
        return x * scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.scale = inputs[1]

    @staticmethod
    def backward(ctx, gy):
        return gy * ctx.scale, None


class SumAndProduct(Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a + b, a * b

    @staticmethod
    def backward(ctx, gsum, gproduct):
        a, b = ctx.saved_variables  # as code from before PyTorch 0.4 says
        return gsum + gproduct * b, gsum + gproduct * a


class PlusOne(Function):
    """Changes its input in place."""

    @staticmethod
    def forward(ctx, k, x):
        x += k
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, gy):
        return None, 2 * gy


def leaf(*shape: int) -> mg.Tensor:
    return mg.tensor(np.random.default_rng(0).uniform(0.5, 2, shape), requires_grad=True)


def test_gradients_are_those_of_backward():
    x = leaf(2, 3)
    y = Cube.apply(x)
    assert y.grad_fn.name == "Cube"
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * x.detach().numpy() ** 2)


def test_gradcheck():
    assert mg.gradcheck(Cube.apply, leaf(2, 3))
    assert mg.gradcheck(Scaled.apply, (leaf(4), 3.0))
    assert mg.gradcheck(SumAndProduct.apply, (leaf(2, 2), leaf(2, 2)))

    class Wrong(Cube):
        @staticmethod
        def backward(ctx, gy):
            return 2 * gy

    with pytest.raises(mg.GradcheckError, match="Wrong: the gradient of input 0"):
        mg.gradcheck(Wrong.apply, leaf(2))


def test_arguments_by_name():
    x = leaf(3)
    y = Scaled.apply(x, scale=5.0)
    y.sum().backward()
    assert x.grad.tolist() == [5.0] * 3


def test_forward_is_not_recorded_and_knows_what_is_needed():
    seen = []

    class Watched(Function):
        @staticmethod
        def forward(ctx, a, b, c):
            seen.append((mg.is_grad_enabled(), ctx.needs_input_grad))
            return a * b

        @staticmethod
        def backward(ctx, gy):
            seen.append((mg.is_grad_enabled(), ctx.needs_input_grad))
            return gy, gy, None

    a, b = leaf(2), leaf(2).detach()
    Watched.apply(a, b, "text").sum().backward()
    assert seen == [(False, (True, False, False))] * 2
    assert b.grad is None
    with mg.no_grad():
        assert Watched.apply(a, b, None).origin is None
    assert not Watched.apply(b, b, None).requires_grad


def test_an_output_that_is_not_used_brings_zeros_or_none():
    a, b = leaf(2), leaf(2)
    total, _ = SumAndProduct.apply(a, b)
    total.sum().backward()
    assert a.grad.tolist() == b.grad.tolist() == [1.0, 1.0]

    class Bare(SumAndProduct):
        @staticmethod
        def forward(ctx, a, b):
            ctx.set_materialize_grads(False)
            return a + b, a * b

        @staticmethod
        def backward(ctx, gsum, gproduct):
            assert gsum is None
            return gproduct, None

    a, b = leaf(2), leaf(2)
    Bare.apply(a, b)[1].sum().backward()
    assert a.grad.tolist() == [1.0, 1.0]
    assert b.grad is None


def test_outputs_without_gradient():
    class Sorted(Function):
        @staticmethod
        def forward(ctx, x):
            order = x.argsort()
            rank = order.to(mg.float64)
            ctx.mark_non_differentiable(rank)
            ctx.save_for_backward(order)
            return x[order], order, rank, "text"

        @staticmethod
        def backward(ctx, gy, *unused):
            (order,) = ctx.saved_tensors
            gx = mg.zeros_like(gy)
            gx[order] = gy
            return gx

    x = mg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    y, order, rank, text = Sorted.apply(x)
    assert (y.requires_grad, order.requires_grad, rank.requires_grad, text) == (True, False, False, "text")
    (y * mg.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [3.0, 1.0, 2.0]


def test_a_view_of_the_input_is_one():
    class Reversed(Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, gy):
            return -gy

    x = leaf(3)
    z = x * 1
    y = Reversed.apply(z)
    y.sum().backward()
    assert x.grad.tolist() == [-1.0] * 3
    z = x * 1
    y = Reversed.apply(z)
    z += 1
    with pytest.raises(RuntimeError, match="view of one that was changed in place"):
        y.sum()


def test_a_gradient_of_another_shape_is_summed_where_it_was_broadcast():
    class Spread(Function):
        @staticmethod
        def forward(ctx, x):
            return x.expand(4, 3)

        @staticmethod
        def backward(ctx, gy):
            return gy.float()

    x = leaf(1, 3)
    Spread.apply(x).sum().backward()
    assert x.grad.tolist() == [[4.0] * 3]
    assert x.grad.dtype == mg.float64


def test_changes_of_saved_tensors_are_noticed():
    x = leaf(3)
    z = x * 1
    y = Cube.apply(z)
    z += 1
    with pytest.raises(RuntimeError, match="Cube: an array that its backward needs was changed in place"):
        y.sum().backward()


def test_an_output_can_be_saved_without_a_knot():
    class Exp(Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, gy):
            return gy * ctx.saved_tensors[0]

    assert mg.gradcheck(Exp.apply, leaf(3))
    y = Exp.apply(leaf(3))
    y += 1
    with pytest.raises(RuntimeError, match="Exp: an array that its backward needs was changed"):
        y.sum().backward()
    gc.collect()
    gc.disable()
    try:
        y = Exp.apply(leaf(3))
        node = weakref.ref(y.grad_fn)
        del y
        assert node() is None, "the graph waits for the garbage collector"
    finally:
        gc.enable()


def test_an_input_changed_in_place():
    x = leaf(3)
    z = x * 3
    y = PlusOne.apply(1, z)
    assert y is z
    z.sum().backward()
    assert x.grad.tolist() == [6.0] * 3
    with pytest.raises(RuntimeError, match="PlusOne: a leaf tensor that requires grad cannot be changed in place"):
        PlusOne.apply(1, leaf(3))

    class Two(PlusOne):
        @staticmethod
        def forward(ctx, k, x):
            ctx.mark_dirty(x)
            return x, x * 2

    with pytest.raises(NotImplementedError, match="Two: mark_dirty is possible for one input, which must be the only output"):
        Two.apply(1, leaf(3) * 1)


def returning(value):
    class Bad(Function):
        @staticmethod
        def forward(ctx, x, k):
            return x * k

        @staticmethod
        def backward(ctx, gy):
            return value(gy)

    return Bad


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (lambda gy: gy, RuntimeError, r"Bad: backward must return a gradient \(or None\) for each of the 2 arguments .* got 1"),
        (lambda gy: (gy, None, gy), RuntimeError, r"each of the 2 arguments of forward, got 3"),
        (lambda gy: (gy, gy), RuntimeError, r"Bad: backward returned a gradient for argument 1, which is not a tensor"),
        (lambda gy: (gy[:2], None), RuntimeError, r"Bad: backward returned shape \(2,\) for argument 0, which has shape \(3,\)"),
        (lambda gy: (gy.numpy(), None), TypeError, r"must return tensors or None, got ndarray for argument 0"),
        (lambda gy: (gy.mul_(2), None), RuntimeError, r"changed the gradient of output 0 in place.*: clone\(\) it first"),
    ],
)
def test_wrong_gradients_are_refused(value, error, message):
    x = leaf(3)
    with pytest.raises(error, match=message):
        (returning(value).apply(x, 2) * 3).sum().backward()
    assert x.grad is None


def test_more_none_than_arguments_are_taken():
    x = leaf(3)
    returning(lambda gy: (gy, None, None, None)).apply(x, 2).sum().backward()
    assert x.grad.tolist() == [1.0] * 3


def test_wrong_use_is_explained():
    with pytest.raises(RuntimeError, match=r"Cube is an autograd function: .* call Cube.apply"):
        Cube()(leaf(2))
    with pytest.raises(NotImplementedError, match=r"must define a static method forward\(ctx, \*args\)"):
        Function.apply(leaf(2))
    with pytest.raises(NotImplementedError, match="first-order gradients only"):
        mg.grad(Cube.apply(leaf(2)).sum(), leaf(2), create_graph=True)

    class Nothing(Function):
        @staticmethod
        def forward(ctx, x):
            return None

    with pytest.raises(TypeError, match="Nothing: forward must return a tensor or a tuple of tensors, got NoneType"):
        Nothing.apply(leaf(2))

    class Saving(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x, 3)

    with pytest.raises(TypeError, match=r"save_for_backward takes tensors, got int as argument 1: set an attribute"):
        Saving.apply(leaf(2))


def test_anomaly_detection_names_it():
    class Spoiled(Cube):
        @staticmethod
        def backward(ctx, gy):
            return mg.Tensor(gy.numpy() * float("nan"))

    with mg.autograd.detect_anomaly(), pytest.raises(mg.autograd.AnomalyError, match="Spoiled: backward gave 3 NaN"):
        Spoiled.apply(leaf(3)).sum().backward()


def test_backward_of_several_tensors():
    x = leaf(2)
    mg.autograd.backward([Cube.apply(x), (2 * x).sum()], [mg.ones(2, dtype=mg.float64), None])
    np.testing.assert_allclose(x.grad.numpy(), 3 * x.detach().numpy() ** 2 + 2)
    with pytest.raises(RuntimeError, match=r"tensors\[1\] has shape \(2,\): give grad_tensors"):
        mg.autograd.backward([x.sum(), x])
    with pytest.raises(ValueError, match="grad_tensors must hold one tensor for each of the 1 tensors, got 2"):
        mg.autograd.backward(x.sum(), [None, None])


# ---- beside PyTorch ----------------------------------------------------------------------------------------------------


def shake(torch):
    """The functions of shake-shake networks, of binary networks and of gradient reversal."""
    function = importlib.import_module(torch.__name__ + ".autograd.function")

    class ShakeShake(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x1, x2, alpha, beta):
            ctx.save_for_backward(x1, x2, alpha, beta)
            return x1 * alpha + x2 * (1 - alpha)

        @staticmethod
        def backward(ctx, grad_output):
            x1, x2, _, beta = ctx.saved_tensors
            grad_x1 = grad_x2 = grad_alpha = grad_beta = None
            if ctx.needs_input_grad[0]:
                grad_x1 = grad_output * beta
            if ctx.needs_input_grad[1]:
                grad_x2 = grad_output * (1 - beta)
            if ctx.needs_input_grad[2]:
                grad_alpha = grad_output * (x1 - x2)
            return grad_x1, grad_x2, grad_alpha, grad_beta

    class Binary(function.Function):
        @staticmethod
        def forward(ctx, input):
            ctx.save_for_backward(input)
            return input.sign()

        @staticmethod
        @function.once_differentiable
        def backward(ctx, grad_output):
            (input,) = ctx.saved_tensors
            grad_input = grad_output.clone()
            grad_input[input.ge(1)] = 0
            grad_input[input.le(-1)] = 0
            return grad_input

    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, alpha):
            ctx.alpha = alpha
            return x.view_as(x)

        @staticmethod
        def backward(ctx, grad_output):
            return grad_output.neg() * ctx.alpha, None

    return ShakeShake.apply, Binary.apply, Reverse.apply


def run(torch, arrays):
    mix, binary, reverse = shake(torch)
    x1, x2, alpha = (torch.tensor(a, requires_grad=True) for a in arrays)
    beta = torch.tensor(0.3, dtype=torch.float64)
    y = mix(torch.relu(x1), x2 * 2, alpha, beta)
    z = reverse(binary(y) * y, 0.5)
    (z * torch.cos(y)).sum().backward()
    return [t.grad.numpy() for t in (x1, x2, alpha)]


def test_functions_of_public_networks_beside_pytorch():
    torch = pytest.importorskip("torch")
    arrays = [*np.random.default_rng(0).standard_normal((2, 2, 3, 4, 4)), np.random.default_rng(1).random((2, 1, 1, 1))]
    for ours, theirs in zip(run(mg, arrays), run(torch, arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
