"""The Tensor as a Python object: making one, describing it, its numbers, copies and pickles."""

from __future__ import annotations

import copy
import operator
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from tests.autograd.helpers import leaf

# ---- making one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (1, mg.int64, ()),
        (1.5, mg.float32, ()),
        (True, mg.bool, ()),
        ([], mg.float32, (0,)),
        ([[], []], mg.float32, (2, 0)),
        ([1, 2], mg.int64, (2,)),
        ([1, 2.5], mg.float32, (2,)),
        ([True, False], mg.bool, (2,)),
        ([True, 2], mg.int64, (2,)),
        ([[1.0], [2.0]], mg.float32, (2, 1)),
        ((1, 2), mg.int64, (2,)),
        (range(3), mg.int64, (3,)),
        (1e300, mg.float32, ()),
    ],
    ids=str,
)
def test_dtypes_of_python_values_are_pytorchs(data, dtype, shape):
    torch = pytest.importorskip("torch")
    t = mg.tensor(data)
    assert (t.dtype, t.shape) == (dtype, shape)
    theirs = torch.tensor(data)
    assert str(theirs.dtype) == f"torch.{dtype}"
    assert tuple(theirs.shape) == shape
    assert theirs.tolist() == t.tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"])
def test_arrays_and_numpy_numbers_keep_their_dtype(dtype):
    array = np.array([0, 1, 1], dtype)
    for data in (array, array[0], [array[0], array[1]], [array, array], mg.tensor(array)):
        assert mg.tensor(data).dtype == dtype
    assert mg.tensor(array).tolist() == array.tolist()
    assert mg.tensor([1.0], dtype=dtype).dtype == dtype
    assert mg.tensor(array.astype(array.dtype.newbyteorder("S"))).dtype == array.dtype


def test_nested_tensors():
    assert mg.tensor([mg.tensor(1.0), mg.tensor(2.0)]).tolist() == [1, 2]
    assert mg.tensor([mg.ones(2), mg.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    assert mg.tensor([leaf(1)[0], leaf(2)[0]]).requires_grad is False


def test_tensor_copies_and_the_class_shares():
    array = np.zeros(2, np.float32)
    copied, shared = mg.tensor(array), Tensor(array)
    array[0] = 1
    assert copied.tolist() == [0, 0]
    assert shared.tolist() == [1, 0]
    assert shared.data is array
    original = leaf(1, 2)
    again = mg.tensor(original, requires_grad=True)
    assert not np.shares_memory(again.data, original.data)
    assert again.is_leaf
    assert Tensor([1, 2]).dtype == np.float32  # as torch.Tensor([1, 2])


def test_tensor_keeps_the_memory_order():
    array = np.zeros((2, 4, 5, 3), np.float32).transpose(0, 3, 1, 2)
    assert mg.tensor(array).data.strides == array.strides
    assert mg.tensor(Tensor(array)).stride() == (60, 1, 15, 3)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([[1], [1, 2]], ValueError, "cannot make a tensor of these values"),
        (2**70, ValueError, "integers of more than 64 bits"),
        ("abc", TypeError, "data must be numbers.*got str"),
        (None, TypeError, "data must be numbers.*got NoneType"),
        ([1.0, None], TypeError, "data must be numbers"),
        (1j, TypeError, "data must be numbers.*got complex"),
        ({}, TypeError, "data must be numbers.*got dict"),
        (np.array([1j]), TypeError, "not dtype complex128"),
        (np.array(["a"]), TypeError, "not dtype <U1"),
        (np.array([None]), TypeError, "not dtype object"),
        (np.array([0], "M8[D]"), TypeError, r"not dtype datetime64\[D\]"),
    ],
    ids=str,
)
def test_what_is_no_tensor(data, error, message):
    with pytest.raises(error, match=message):
        mg.tensor(data)
    if isinstance(data, np.ndarray):
        with pytest.raises(TypeError, match="tensors hold booleans, integers or real numbers, not dtype"):
            Tensor(data)


def test_integers_are_the_shape_as_in_pytorch():
    for sizes in ((2,), (0,), (2, 3), (1, 0), (2, 3, 1, 4)):
        t = Tensor(*sizes)
        assert (t.shape, t.dtype, t.requires_grad) == (sizes, np.float32, False)
    assert Tensor(2.0).shape == ()
    assert Tensor(np.int64(2)).item() == 2


def test_wrong_calls_of_the_class():
    with pytest.raises(TypeError, match="requires_grad must be True or False, got 3: for sizes use integers only"):
        Tensor(2.0, 3)
    with pytest.raises(TypeError, match="takes 2 arguments, got 3: for sizes use integers only"):
        Tensor(np.ones(2), True, 3)
    for wrong in ((2, -1), (2, True), (2, 3.0, 4), (-1,)):
        with pytest.raises(TypeError, match=r"Tensor of integers is one of this shape.*for numbers use mg.tensor"):
            Tensor(*wrong)
    with pytest.raises(TypeError, match=r"Tensor\(...\) of a Tensor is ambiguous: use detach\(\) or clone\(\)"):
        Tensor(mg.ones(2))
    with pytest.raises(ValueError, match="nested lists with unequal lengths"):
        Tensor([[1], [1, 2]])
    with pytest.raises(TypeError, match="cannot make a tensor of NoneType"):
        Tensor(None)


def test_only_floating_tensors_require_grad():
    for make in (lambda: mg.tensor([1, 2], requires_grad=True), lambda: Tensor(np.ones(2, bool), requires_grad=True)):
        with pytest.raises(TypeError, match="requires_grad needs a floating dtype, got"):
            make()
    with pytest.raises(TypeError, match="requires_grad needs a floating dtype, got int64"):
        mg.arange(3).requires_grad_()
    x = mg.ones(2)
    assert x.requires_grad_() is x
    assert x.requires_grad
    assert not x.requires_grad_(False).requires_grad
    with pytest.raises(RuntimeError, match=r"switched off for leaves only: use detach\(\)"):
        (leaf(1) * 2).requires_grad_(False)


# ---- describing it -----------------------------------------------------------------------------------------------------


def test_attributes_and_sizes():
    x = mg.zeros(2, 3, 4, dtype=mg.float64)
    assert (x.shape, x.size(), x.size(1), x.size(-1)) == ((2, 3, 4), (2, 3, 4), 3, 4)
    assert (x.ndim, x.dim(), x.numel(), x.nelement(), len(x)) == (3, 3, 24, 24, 2)
    assert (x.itemsize, x.element_size(), x.nbytes) == (8, 8, 192)
    assert (x.stride(), x.stride(1), x.mT.stride()) == ((12, 4, 1), 4, (12, 1, 4))
    assert x.is_contiguous()
    assert not x.mT.is_contiguous()
    assert x.is_floating_point()
    assert not mg.arange(3).is_floating_point()
    assert x.device == "cpu"
    assert not x.is_cuda
    with pytest.raises(TypeError, match="a 0-d tensor has no length"):
        len(mg.tensor(1.0))
    with pytest.raises(IndexError):
        x.size(3)


def test_unknown_attributes_name_the_nearest():
    x = mg.ones(2)
    with pytest.raises(AttributeError, match=r"a Tensor has no attribute 'reshap': did you mean 'reshape'\?"):
        x.reshap  # noqa: B018
    with pytest.raises(AttributeError, match=r"did you mean 'requires_grad_?'\?"):
        x.require_grad  # noqa: B018
    with pytest.raises(AttributeError, match=r"^a Tensor has no attribute 'qqqqq'$"):
        x.qqqqq  # noqa: B018
    with pytest.raises(AttributeError, match="requires_gard"):
        x.requires_gard = True
    assert not hasattr(x, "__cuda_array_interface__")
    assert getattr(x, "qqqqq", 7) == 7


REPRESENTED = {
    "integral": [1.0, -2.0, 30.0],
    "fractions": [0.5, 0.123456, 2.0],
    "number": 0.5,
    "integral number": 3.0,
    "int": [[1, 2], [30, 4]],
    "bool": [True, False],
    "empty": [],
    "empty matrix": [[], []],
    "nan and fractions": [float("nan"), 0.5, -float("inf")],
    "small": [1e-8, 1.0],
    "wide range": [0.5, 2000.0],
    "large": [100000.5],
    "block": [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]],
    "long row": [i + 0.25 for i in range(30)],
}


@pytest.mark.parametrize("values", REPRESENTED.values(), ids=REPRESENTED)
def test_repr_is_pytorchs(values):
    torch = pytest.importorskip("torch")
    assert repr(mg.tensor(values)) == repr(torch.tensor(values))
    assert str(mg.tensor(values)) == repr(mg.tensor(values))


def test_repr_of_other_dtypes_and_of_what_requires_grad():
    x = leaf(1, 2)
    assert repr(mg.tensor([0.1], dtype=mg.float64)) == "tensor([0.1000], dtype=float64)"
    assert repr(mg.tensor([np.nan, 1.0])) == "tensor([nan,  1.])"
    assert repr(mg.arange(2000)) == "tensor([   0,    1,    2, ..., 1997, 1998, 1999])"
    assert repr(mg.zeros(2, 0, dtype=mg.int32)) == "tensor([], size=(2, 0), dtype=int32)"
    assert repr(x) == "tensor([1., 2.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 4.], grad_fn=<mul>)"
    assert repr(mg.nn.Parameter(mg.ones(1))) == "Parameter containing:\ntensor([1.], requires_grad=True)"
    assert repr(mg.zeros(1, dtype=mg.uint8)) == "tensor([0], dtype=uint8)"


def test_format():
    assert f"{mg.tensor(3.14159):.2f} {leaf(2)[0]:5.1f} {mg.tensor(7):03d}" == "3.14   2.0 007"
    assert f"{mg.tensor([1.0, 2.0])}" == "tensor([1., 2.])"
    assert f"{mg.tensor(1.5)}" == "tensor(1.5000)"
    with pytest.raises(TypeError, match=r"the format '.2f' needs a 0-d tensor, got shape \(2,\)"):
        f"{mg.ones(2):.2f}"


# ---- its numbers -------------------------------------------------------------------------------------------------------


def test_item_and_tolist():
    assert type(mg.tensor(1.5).item()) is float
    assert type(mg.tensor([[3]]).item()) is int
    assert type(mg.tensor(True).item()) is bool
    assert leaf(1.5).item() == 1.5
    assert mg.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert leaf(1.5, 2).tolist() == [1.5, 2.0]
    assert mg.tensor(2.5).tolist() == 2.5
    with pytest.raises(ValueError, match=r"item\(\) needs a tensor with one element, got shape \(2,\)"):
        mg.ones(2).item()


def test_python_numbers():
    assert (int(mg.tensor(2.7)), float(mg.tensor([3])), bool(mg.tensor(0.0)), bool(mg.tensor([[5]]))) == (2, 3.0, False, True)
    assert float(leaf(1.5)) == 1.5
    assert round(float(mg.tensor(1.26)), 1) == 1.3
    for convert in (int, float):
        with pytest.raises(ValueError, match="one element"):
            convert(mg.ones(2))
    for several in (mg.ones(2), mg.zeros(0)):
        with pytest.raises(ValueError, match=r"truth value.*use \.any\(\) or \.all\(\)"):
            bool(several)


def test_index():
    """Integers of one element count as positions; a float is none, as in PyTorch."""
    assert ["a", "b", "c"][mg.tensor(1)] == "b"
    assert operator.index(mg.tensor([2], dtype=mg.uint8)) == 2
    assert list(range(mg.tensor(3))) == [0, 1, 2]
    for wrong in (mg.tensor(1.0), mg.arange(2), mg.zeros(0, dtype=mg.int64)):
        with pytest.raises(TypeError, match="only an integer tensor of one element is an index"):
            operator.index(wrong)


def test_iteration():
    x = leaf(1, 2)
    rows = list(x)
    assert [r.item() for r in rows] == [1, 2]
    first, second = x * 3
    (first * 10 + second).backward()
    assert x.grad.tolist() == [30, 3]
    assert [row.tolist() for row in mg.tensor([[1, 2], [3, 4]])] == [[1, 2], [3, 4]]
    assert list(mg.zeros(0, 3)) == []
    assert [i.item() for i in reversed(mg.arange(3))] == [2, 1, 0]
    with pytest.raises(TypeError, match="a 0-d tensor cannot be iterated over"):
        iter(mg.tensor(1.0))


def test_membership_hash_and_python_functions():
    x = mg.tensor([1.0, 2.0])
    assert 2 in x
    assert 3 not in x
    assert len({x, x, mg.tensor([1.0, 2.0])}) == 2  # by identity, so that tensors can be keys
    assert sum([x, x]).tolist() == [2, 4]
    assert max(mg.tensor(1), mg.tensor(2)).item() == 2
    assert sorted([mg.tensor(2), mg.tensor(1)])[0].item() == 1
    assert abs(mg.tensor([-1.0])).tolist() == [1]
    assert (+x) is x
    assert (-x).tolist() == [-1, -2]


# ---- copies ------------------------------------------------------------------------------------------------------------


def channels_last_leaf() -> Tensor:
    x = Tensor(np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3).transpose(0, 3, 1, 2), requires_grad=True)
    (x * 2).sum().backward()
    return x


def test_deepcopy():
    x = channels_last_leaf()
    x.register_hook(lambda g: g * 100)
    y = copy.deepcopy([x, x])[1]
    assert y.requires_grad
    assert y.is_leaf
    assert (y.tolist(), y.grad.tolist()) == (x.tolist(), x.grad.tolist())
    assert y.data.strides == x.data.strides
    assert not np.shares_memory(y.data, x.data)
    assert not np.shares_memory(y.grad.data, x.grad.data)
    with mg.no_grad():
        y += 1
    assert x.version == [0]
    (y * 2).sum().backward()
    assert y.grad.tolist() == (x.grad * 2).tolist()  # the hook stayed with x
    one, two = copy.deepcopy([x, x])
    assert one is two
    with pytest.raises(RuntimeError, match=r"only leaf tensors can be deep-copied: use detach\(\).clone\(\)"):
        copy.deepcopy(x * 2)


def test_copy_shares_memory_and_the_count_of_changes():
    x = leaf(1, 2)
    y = copy.copy(x)
    assert y is not x
    assert y.data is x.data
    w = (leaf(1, 1) * x.detach()).sum()
    with mg.no_grad():
        y += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        w.backward()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    x = channels_last_leaf()
    x.register_hook(lambda g: g * 100)  # cannot be pickled, and is left out as in PyTorch
    for t in (x, mg.arange(3), mg.tensor(2.5, dtype=mg.float64), mg.nn.Parameter(mg.ones(2)), mg.nn.Buffer(mg.ones(2))):
        y = pickle.loads(pickle.dumps(t, protocol))
        assert type(y) is type(t)
        assert (y.dtype, y.requires_grad, y.tolist()) == (t.dtype, t.requires_grad, t.tolist())
        assert (y.grad is None) == (t.grad is None)
    y = pickle.loads(pickle.dumps(x, protocol))
    assert y.grad.tolist() == x.grad.tolist()
    (y * 3).sum().backward()
    assert (y.grad - x.grad).tolist() == mg.full(x.shape, 3.0).tolist()


def test_computed_tensors_cannot_be_pickled():
    with pytest.raises(RuntimeError, match=r"only leaf tensors can be pickled or copied: use detach\(\)"):
        pickle.dumps(leaf(1) * 2)
    assert pickle.loads(pickle.dumps((leaf(1) * 2).detach())).tolist() == [2]
