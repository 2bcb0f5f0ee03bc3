"""``parameter.data``: a NumPy array with a tensor's methods, as programs for PyTorch use it."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn.parameter import ParameterArray
from minigrad.tensor import Tensor

pytestmark = pytest.mark.processor("a ParameterArray is an array of NumPy")


@pytest.fixture
def layer() -> nn.Conv2d:
    return nn.Conv2d(3, 8, 3)


def test_initialization_in_the_style_of_old_programs(layer):
    n = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
    mg.manual_seed(1)
    data = layer.weight.data
    assert data.normal_(0, math.sqrt(2.0 / n)) is data
    layer.bias.data.zero_()
    mg.manual_seed(1)
    np.testing.assert_array_equal(layer.weight.data, mg.empty(8, 3, 3, 3).normal_(0, math.sqrt(2.0 / n)).data)
    assert layer.bias.tolist() == [0.0] * 8
    layer.bias.data.fill_(0.5).mul_(2).add_(-0.25)
    assert layer.bias.tolist() == [0.75] * 8
    layer.weight.data[0].fill_(3)  # a view
    assert (layer.weight[0] == 3).all()
    layer.weight.data.copy_(mg.ones(8, 3, 3, 3)).clamp_(max=0.5)
    assert (layer.weight == 0.5).all()


def test_it_is_an_array_of_numpy(layer):
    data = layer.weight.data
    assert isinstance(data, np.ndarray)
    assert type(data) is ParameterArray
    assert (data.shape, data.size, data.dtype) == ((8, 3, 3, 3), 216, np.float32)
    assert type(data.std()) is np.float32
    assert repr(data) == repr(np.asarray(data))


def test_what_is_computed_is_an_ordinary_array(layer):
    data = layer.weight.data
    for result in (data + 1, data @ data, np.sqrt(abs(data)), data.sum(0), data > 0, -data, data.copy() * data):
        assert type(result) is np.ndarray
    out = layer(mg.ones(1, 3, 5, 5))
    out.sum().backward()
    assert type(out.data) is np.ndarray
    assert type(layer.weight.grad.data) is np.ndarray


def test_changes_in_place_keep_the_array(layer):
    data = layer.weight.data
    expected = np.asarray(data).copy() - 0.5
    layer.weight.data -= 0.5
    np.testing.assert_array_equal(layer.weight.data, expected)
    assert type(layer.weight.data) is ParameterArray
    assert np.shares_memory(layer.weight.data, data)


def test_a_new_array_is_taken_as_it_is(layer):
    array = np.zeros((8, 3, 3, 3), np.float32)
    layer.weight.data = array
    assert np.shares_memory(layer.weight.data, array)
    layer.weight.data = mg.ones(8, 3, 3, 3)
    assert (layer.weight == 1).all()
    layer.weight.data.zero_()
    assert (layer.weight == 0).all()


def test_what_gives_something_new_gives_a_tensor(layer):
    cloned = layer.weight.data.clone()
    assert type(cloned) is Tensor
    assert not np.shares_memory(cloned.data, layer.weight.data)
    assert layer.bias.data.abs().data.tolist() == abs(layer.bias.data).tolist()


def test_copies_and_pickles(layer):
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other.weight.data, layer.weight.data)
        assert not np.shares_memory(other.weight.data, layer.weight.data)
        other.bias.data.zero_()
        assert other.bias.tolist() == [0.0] * 8


def test_pickled_alone_it_is_an_ordinary_array(layer):
    assert type(pickle.loads(pickle.dumps(layer.weight.data))) is np.ndarray


def test_wrong_arguments_are_refused_as_by_the_tensor(layer):
    with pytest.raises(TypeError, match="fill_"):
        layer.bias.data.fill_("one")
    with pytest.raises((RuntimeError, ValueError), match=r"shape|broadcast"):
        layer.bias.data.copy_(mg.ones(9))
    with pytest.raises(AttributeError, match="norml_"):
        layer.bias.data.norml_()
