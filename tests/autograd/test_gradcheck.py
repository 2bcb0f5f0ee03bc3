"""``mg.gradcheck`` itself: it must find gradients that are wrong, say where, and pass what is right."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import GradcheckError, nn
from minigrad.gradcheck import directional_check
from minigrad.nn import functional as F
from minigrad.ops._base import record
from tests.autograd.helpers import leaf

LARGE = (20, 30)  # 600 inputs and 600 outputs: more than are compared element by element


def squared(factor=2.0, spoil=None):
    """x * x without registration, with the gradient ``factor`` * x and then whatever ``spoil`` does to that array."""

    def squared(x):
        a = x.data

        def backward(gy):
            gx = factor * a * gy
            return gx if spoil is None else spoil(gx)

        return record(a * a, (x,), backward, saves=(x,))

    return squared


def double(*shape) -> mg.Tensor:
    return mg.randn(*shape, dtype=mg.float64, requires_grad=True)


# ---- right gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), LARGE], ids=str)
def test_right_gradients_pass(shape):
    assert mg.gradcheck(squared(), double(*shape)) is True


def test_several_inputs_and_outputs():
    x, w, factor = double(2, 3), double(3), mg.tensor(2.0, dtype=mg.float64)

    def function(x, w, n, factor):
        return x * w, (x.sum(1) ** n) * factor, (x > 0)  # the last cannot have a gradient

    assert mg.gradcheck(function, (x, w, 2, factor))


def test_an_input_that_is_not_used_has_the_gradient_zero():
    assert mg.gradcheck(lambda x, unused: x * 2, (double(2), double(3)))


def test_a_whole_network():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()

    def loss(x, *parameters):
        hidden = F.linear(x, parameters[0], parameters[1]).tanh()
        return F.linear(hidden, parameters[2], parameters[3]).log_softmax(1)[:, 0].mean()

    assert mg.gradcheck(loss, (double(2, 3), *net.parameters()))


def test_inputs_of_float32_are_checked_in_float64():
    """The differences of a float32 function would be wrong in the third digit."""
    seen = []

    def function(x):
        seen.append(x.dtype)
        return (x * x).exp()

    assert mg.gradcheck(function, leaf(0.3, -0.7), atol=1e-9, rtol=1e-9)
    assert set(seen) == {np.dtype(np.float64)}
    with pytest.raises(GradcheckError, match=r"^squared: the gradient of input 0 at"):
        mg.gradcheck(squared(2.01), leaf(0.3, -0.7))


def test_nothing_is_left_behind():
    x = double(2, 2)
    values, state = x.tolist(), mg.get_rng_state()
    mg.gradcheck(lambda x: F.dropout(x, 0.5) * 2, x)
    with pytest.raises(GradcheckError):
        mg.gradcheck(squared(3.0), x)
    assert x.grad is None
    assert x.tolist() == values
    assert mg.get_rng_state() == state


def test_memory_orders_and_places_are_kept():
    seen = []

    def function(x, scale):
        seen.append((x.stride(), scale))
        return x * scale

    x = mg.Tensor(np.ones((1, 3, 2, 2)).transpose(0, 3, 1, 2), requires_grad=True)
    assert mg.gradcheck(function, (x, 2.0))
    assert set(seen) == {(x.stride(), 2.0)}


def test_inside_no_grad():
    with mg.no_grad():
        assert mg.gradcheck(squared(), double(2))
        with pytest.raises(GradcheckError):
            mg.gradcheck(squared(1.0), double(2))


# ---- wrong gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), LARGE], ids=str)
@pytest.mark.parametrize("factor", [1.0, -2.0, 2.02, 0.0])
def test_a_wrong_factor(shape, factor):
    x = double(*shape)
    with pytest.raises(GradcheckError, match=r"^squared: the gradient of input 0 at \(.*\) is .*, the finite difference "):
        mg.gradcheck(squared(factor), x)
    assert mg.gradcheck(squared(factor), x, raise_exception=False) is False


def put(index, value):
    """A ``spoil`` that puts ``value`` into one element of the gradient."""

    def spoil(gx):
        gx[index] = value
        return gx

    return spoil


def test_the_worst_element_is_named():
    x = mg.ones(2, 3, dtype=mg.float64, requires_grad=True)

    def spoil(gx):
        gx[0, 1] *= 1.1
        gx[1, 2] *= 2
        return gx

    with pytest.raises(GradcheckError, match=r"^squared: .* input 0 at \(1, 2\) is 4, the finite difference (2|1\.99)"):
        mg.gradcheck(squared(spoil=spoil), x)


def test_one_wrong_element_of_a_large_input_is_found_and_named():
    x = double(*LARGE)
    with pytest.raises(GradcheckError, match=r"^squared: the gradient of input 0 at \(13, 7\) is 50, the finite difference"):
        mg.gradcheck(squared(spoil=put((13, 7), 50.0)), x)


def test_the_input_is_named_by_its_position():
    good, bad = squared(), squared(3.0)
    with pytest.raises(GradcheckError, match=r"the gradient of input 2 at \(0,\)"):
        mg.gradcheck(lambda n, x, y: good(x) + bad(y), (5, double(1), double(1)))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("shape", [(4,), LARGE], ids=str)
def test_a_gradient_that_is_not_finite(value, shape):
    where = (2,) * len(shape)
    with pytest.raises(GradcheckError, match=rf"at \({', '.join(map(str, where))},?\) is {value}"):
        mg.gradcheck(squared(spoil=put(where, value)), double(*shape))


def test_a_missing_gradient():
    def cut(x):
        return x * 2 + x.detach() * 3

    with pytest.raises(GradcheckError, match=r"is 2, the finite difference (5|4\.99)"):
        mg.gradcheck(cut, double(3))


def test_an_output_that_lost_its_history():
    """It depends on x, but no gradient comes back from it: also where another output is right."""
    with pytest.raises(GradcheckError, match=r"at \(0, 0\) is 0, the finite difference 1"):
        mg.gradcheck(lambda x: (x * 2, x.detach()), double(2, 2))


def test_a_gradient_of_the_wrong_shape():
    for spoil in (lambda gx: gx.sum(keepdims=True), lambda gx: gx[None]):
        with pytest.raises(GradcheckError, match=r"the gradient of input 0 has shape .*, the input \(3,\)"):
            mg.gradcheck(squared(spoil=spoil), double(3))


def test_tolerances():
    x = mg.ones(2, dtype=mg.float64, requires_grad=True)
    assert mg.gradcheck(squared(2.001), x)  # within rtol = 1e-3
    with pytest.raises(GradcheckError):
        mg.gradcheck(squared(2.001), x, rtol=1e-5)
    assert mg.gradcheck(squared(2.1), x, atol=0.2)


# ---- hints and refusals ------------------------------------------------------------------------------------------------


def test_a_kink_is_suspected():
    x = mg.tensor([1.0, 0.0], dtype=mg.float64, requires_grad=True)
    kink = r"at \(1,\) is 0, the finite difference 0\.5; a kink or a step is likely here \(slopes 0 and 1 on its two sides\)"
    with pytest.raises(GradcheckError, match=rf"^relu: .*{kink}: choose another input"):
        mg.gradcheck(mg.relu, x)
    x = mg.tensor([0.5, 1.0], dtype=mg.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match=r"at \(1,\) is 0, .*a kink or a step is likely here"):
        mg.gradcheck(mg.floor, x)
    with pytest.raises(GradcheckError) as caught:
        mg.gradcheck(squared(3.0), x)
    assert "kink" not in str(caught.value)


def test_functions_that_are_not_repeatable():
    calls = []

    def counts(x):
        calls.append(1)
        return x * len(calls)

    with pytest.raises(GradcheckError, match=r"^mul: two calls with the same inputs gave different outputs: .* keeps a state"):
        mg.gradcheck(counts, double(2))
    assert mg.gradcheck(counts, double(2), raise_exception=False) is False
    drifts = squared(spoil=lambda gx: gx * (1 + 1e-9 * (calls.append(1) or len(calls))))
    with pytest.raises(GradcheckError, match="two backward passes with the same inputs gave different gradients"):
        mg.gradcheck(drifts, double(2))


@pytest.mark.parametrize("shape", [(6,), LARGE], ids=str)
def test_dropout_repeats_itself(shape):
    """The framework's generator is put back before every call."""
    assert mg.gradcheck(lambda x: F.dropout(x, 0.5), double(*shape))
    assert mg.gradcheck(lambda x: x * mg.rand(*x.shape, dtype=mg.float64), double(*shape))


def test_what_cannot_be_checked():
    for call, error, message in [
        (lambda: mg.gradcheck(mg.exp, mg.ones(2)), ValueError, "no input requires grad: set requires_grad=True"),
        (lambda: mg.gradcheck(lambda x: x.detach() * 2, double(2)), ValueError, "no output requires grad"),
        (lambda: mg.gradcheck(lambda x: x > 0, double(2)), ValueError, "no output requires grad"),
        (lambda: mg.gradcheck(lambda x: 3.0, double(2)), TypeError, "the function must return tensors, got float"),
        (lambda: mg.gradcheck(lambda x: (x, 3.0), double(2)), TypeError, "the function must return tensors, got float"),
        (lambda: mg.gradcheck(mg.exp, 5), TypeError, "inputs must be a Tensor or a list of arguments, got int"),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_the_generator_is_put_back_when_the_function_fails():
    def fails(x):
        mg.rand(3)
        raise ZeroDivisionError

    x = double(2)
    state = mg.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        mg.gradcheck(fails, x)
    assert mg.get_rng_state() == state


# ---- one direction -----------------------------------------------------------------------------------------------------


def test_directional_check_of_right_gradients():
    assert directional_check(squared(), double(3)) < 1e-10
    assert directional_check(lambda x, w: (x @ w).tanh(), (double(4, 5), double(5, 2))) < 1e-9
    assert directional_check(squared(), double(200, 300)) < 1e-10
    assert directional_check(squared(), leaf(1, 2)) < 1e-10  # as float64


def test_directional_check_of_wrong_gradients():
    """The error of a wrong factor is that factor's: |2.2 - 2| / 2.2."""
    assert directional_check(squared(2.2), leaf(1)) == pytest.approx(0.2 / 2.2, rel=1e-6)
    assert directional_check(squared(1.0), leaf(1)) == pytest.approx(0.5, rel=1e-6)
    assert directional_check(squared(-2.0), leaf(1)) == pytest.approx(2, rel=1e-6)
    assert directional_check(squared(spoil=put((3,), 0.0)), mg.ones(10, requires_grad=True)) > 1e-2


def test_directional_check_of_nothing():
    assert directional_check(lambda x: x * 0, double(3)) == 0
    assert directional_check(lambda x: x * 2, double(0)) == 0
    with pytest.raises(ValueError, match="no input requires grad"):
        directional_check(mg.exp, mg.ones(2))


def test_directional_check_repeats_itself():
    x, function = double(50), squared(2.1)
    one = directional_check(function, x, seed=3)
    assert directional_check(function, x, seed=3) == one
    assert directional_check(function, x, seed=4) != one
