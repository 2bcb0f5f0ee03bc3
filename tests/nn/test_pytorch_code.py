"""Network definitions as they are written for PyTorch run on minigrad when only the import changes.

Each of ``pytorch_code.py`` and ``pytorch_habits.py`` is built with minigrad and, where PyTorch is installed, with PyTorch too:
the names, shapes and order of the state dict, the outputs in evaluation mode and the gradients must agree.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import minigrad as mg
from tests.nn import pytorch_habits
from tests.nn.pytorch_code import DEFINITIONS, SIZES, unet

# ---- both libraries ----------------------------------------------------------------------------------------------------


def build(make, name: str):
    """The network of ``make`` with the library ``name``, whose modules are imported as in the definitions."""
    return make(*(importlib.import_module(name + module) for module in ("", ".nn", ".nn.functional")))


def images(make, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, *SIZES.get(make, (16, 16))))


ON_THE_PROCESSOR = {"filled": pytest.mark.processor("begins with weight.data.normal_, which arrays of NumPy have")}
MAKES = [
    pytest.param(make, id=make.__name__, marks=ON_THE_PROCESSOR.get(make.__name__, ()))
    for make in (*DEFINITIONS, *pytorch_habits.DEFINITIONS)
]


@pytest.mark.parametrize("make", MAKES)
def test_definition_runs(make):
    mg.manual_seed(0)
    model = build(make, "minigrad")
    y = model(mg.tensor(images(make), dtype=mg.float32))
    assert y.shape == ((3, 2, 13, 10) if make is unet else (3, 5))
    (y * mg.randn(*y.shape)).sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert np.isfinite(p.grad.numpy()).all(), name
    assert any(p.grad.numpy().any() for p in model.parameters())


@pytest.mark.parametrize("make", MAKES)
def test_definition_computes_what_pytorch_does(make):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = build(make, "minigrad"), build(make, "torch")
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [(k, v.shape) for k, v in state.items()]
    assert [k for k, _ in ours.named_modules()] == [k for k, _ in theirs.named_modules()]
    ours.load_state_dict(state)

    x = images(make).astype(np.float32)
    ours.eval(), theirs.eval()
    with mg.no_grad(), torch.no_grad():
        y, expected = ours(mg.tensor(x)).numpy(), theirs(torch.from_numpy(x)).numpy()
    assert y.shape == expected.shape
    assert abs(y - expected).max() <= 1e-4 * abs(expected).max()

    # in training mode, but without dropout: its random numbers differ
    for module in (*ours.modules(), *theirs.modules()):
        module.training = "Dropout" not in type(module).__name__
        if hasattr(module, "drop_rate"):
            module.drop_rate = 0.0
    ours, theirs, x = ours.double(), theirs.double(), images(make)  # where differences are faults, not roundings
    y, expected = ours(mg.tensor(x)), theirs(torch.from_numpy(x))
    weights = np.random.default_rng(1).standard_normal(y.shape)
    (y * mg.tensor(weights)).sum().backward()
    (expected * torch.from_numpy(weights)).sum().backward()
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    largest = max(abs(g).max() for g in gradients.values())
    for name, p in ours.named_parameters():
        g = gradients[name]
        assert abs(p.grad.numpy() - g).max() <= 1e-4 * max(abs(g).max(), 1e-6 * largest), name
    for (name, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


# ---- single names and call forms ---------------------------------------------------------------------------------------

CALLS = [
    lambda torch, F, x: F.max_pool2d(input=x, kernel_size=2),
    lambda torch, F, x: F.pad(input=x, pad=(1, 0, 2, 1), mode="reflect"),
    lambda torch, F, x: F.batch_norm(input=x, running_mean=None, running_var=None, training=True),
    lambda torch, F, x: F.pixel_unshuffle(F.pixel_shuffle(input=x, upscale_factor=2), downscale_factor=2),
    lambda torch, F, x: F.channel_shuffle(x, 4) if hasattr(F, "channel_shuffle") else torch.channel_shuffle(x, 4),
    lambda torch, F, x: F.celu(x, 0.5) + F.softsign(x),
    lambda torch, F, x: F.prelu(x, torch.tensor([0.3], dtype=x.dtype)),
    lambda torch, F, x: torch.mean(input=x, axis=(2, 3), keepdims=True),
    lambda torch, F, x: torch.max(x, axis=1).values + torch.squeeze(x.amax(axis=1, keepdims=True), axis=1),
    lambda torch, F, x: torch.stack((x, x), axis=1).flatten(start_dim=1).argmax(axis=1),
    lambda torch, F, x: torch.clip(x, -1, 1).multiply(2).subtract(0.5).divide(3).true_divide(2).absolute(),
    lambda torch, F, x: x.clamp_min(0.1) + x.clamp_max(-0.1) + x.where(x > 0, -x),
    lambda torch, F, x: torch.narrow(x, 1, 2, 3).tile(1, 2, 1) + torch.tile(x[:, :3], (2, 1)),
    lambda torch, F, x: torch.diff(x) + torch.diff(x, n=2, dim=1).sum() + torch.diff(x[:, :1], dim=1).sum(),
    lambda torch, F, x: torch.swapaxes(x, 1, 2) + x.moveaxis(1, 2) + x.swapdims(2, 1),
    lambda torch, F, x: x.type(torch.FloatTensor) + x.type(torch.float32) + x.type("torch.FloatTensor"),
    lambda torch, F, x: x.new(2, 3).zero_() + x.new([1, 2, 3]) + x.new(x[0, 0, 0, :3].size()).fill_(2) + x.ndimension(),
    lambda torch, F, x: x.double().type(x.type()) + torch.zeros(1).type("torch.DoubleTensor").type(x.type()),
    lambda torch, F, x: torch.Tensor(2, 3).fill_(1) + torch.Tensor(3).zero_() + torch.Tensor([1, 2, 3]),
    lambda torch, F, x: F.lp_pool2d(x, 2, 2) + F.lp_pool2d(input=x, norm_type=4.0, kernel_size=(2, 2), stride=(2, 2)),
    lambda torch, F, x: torch.FloatTensor([[1, 2], [3, 4]]) + torch.LongTensor([1, 2]),
    lambda torch, F, x: torch.autograd.Variable(x, requires_grad=True) * torch.is_floating_point(x) * torch.numel(x),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_call_gives_what_pytorch_gives(number):
    a = np.random.default_rng(number).standard_normal((2, 8, 4, 6)).astype(np.float32)
    y = CALLS[number](mg, mg.nn.functional, mg.tensor(a)).detach().numpy()
    torch = pytest.importorskip("torch")
    expected = CALLS[number](torch, torch.nn.functional, torch.from_numpy(a)).detach().numpy()
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_without_dim_warns_and_chooses_as_pytorch(name, shape):
    a = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with pytest.warns(UserWarning, match=f"Implicit dimension choice for {name} has been deprecated") as caught:
        y = getattr(mg.nn.functional, name)(mg.tensor(a)).numpy()
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(y, getattr(mg, name)(mg.tensor(a), 0 if a.ndim in (1, 3) else 1).numpy())
    torch = pytest.importorskip("torch")
    with pytest.warns(UserWarning, match="Implicit dimension choice"):
        expected = getattr(torch.nn.functional, name)(torch.from_numpy(a)).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.processor("the name of a type says where a tensor lies")
def test_small_names_that_public_code_uses():
    assert mg.nn.init._calculate_fan_in_and_fan_out(mg.ones(4, 3, 2, 2)) == (12, 16)
    assert mg.optim.lr_scheduler._LRScheduler is mg.optim.lr_scheduler.LRScheduler
    layer = mg.nn.Linear(2, 2)
    assert layer.to(memory_format=mg.channels_last) is layer
    state = mg.get_rng_state()
    mg.cuda.manual_seed(3), mg.cuda.manual_seed_all(3), mg.cuda.empty_cache()
    assert mg.get_rng_state() == state
    mg._assert(True, "fine")
    with pytest.raises(AssertionError, match="four dimensions"):
        mg._assert(False, "four dimensions")
    names = [
        mg.ones(1, dtype=t).type() for t in (mg.float16, mg.float64, mg.uint8, mg.int8, mg.int16, mg.int32, mg.int64, mg.bool)
    ]
    assert names == [f"torch.{n}Tensor" for n in ("Half", "Double", "Byte", "Char", "Short", "Int", "Long", "Bool")]
    with pytest.raises(ValueError, match=r"lp_pool2d: norm_type must be positive, got 0"):
        mg.nn.functional.lp_pool2d(mg.ones(1, 1, 2, 2), 0, 2)


def test_data_of_a_parameter_takes_a_tensor():
    layer, new = mg.nn.Linear(3, 2), mg.ones(2, 3)
    layer.weight.data = new
    assert layer(mg.ones(1, 3)).shape == (1, 2)
    new.zero_()
    assert not layer.weight.detach().numpy().any(), "the memory is shared"
    assert layer.weight.requires_grad


def test_wrong_keywords_are_still_errors():
    x = mg.ones(1, 1, 4, 4)
    functional = mg.nn.functional
    with pytest.raises(TypeError, match=r"relu: .*multiple values|relu: .*'x'"):
        functional.relu(x, input=x)
    with pytest.raises(TypeError, match=r"relu: .*unexpected keyword argument 'axis'"):
        functional.relu(x, axis=1)
    with pytest.raises(TypeError, match=r"mean: .*multiple values"):
        mg.mean(x, 1, axis=1)
    with pytest.raises(ValueError, match=r"prelu: weight must hold one number, or one for each of 1 channels, got shape \(3,\)"):
        functional.prelu(x, mg.ones(3))
    with pytest.raises(ValueError, match="celu: alpha must not be 0"):
        functional.celu(x, 0)
    with pytest.raises(ValueError, match=r"channel_shuffle: x must have shape \(N, C, ...\) with C divisible by groups=2"):
        functional.channel_shuffle(x, 2)
    with pytest.raises(ValueError, match=r"pixel_unshuffle: x must have shape \(N, C, H \* 3, W \* 3\)"):
        functional.pixel_unshuffle(x, 3)
    with pytest.raises(ValueError, match=r"Softmax2d expects x of shape \(N, C, H, W\)"):
        mg.nn.Softmax2d()(mg.ones(2, 3))


@pytest.mark.parametrize(
    ("owner", "name", "advice"),
    [
        ("minigrad", "backends", "there is nothing to set"),
        ("minigrad.nn", "DataParallel", "use the module itself"),
        ("minigrad.nn", "Conv1d", "nn.Conv2d with kernel_size"),
        ("minigrad.nn", "LSTM", "convolutional networks"),
        ("minigrad.nn", "modules", "all layers are in minigrad.nn itself"),
        ("minigrad.nn", "BatchNom2d", "did you mean 'BatchNorm2d'?"),
        ("minigrad.nn.functional", "max_pol2d", "did you mean 'max_pool2d'?"),
    ],
)
def test_what_is_left_out_says_what_to_use(owner, name, advice):
    module = importlib.import_module(owner)
    assert not hasattr(module, name)
    with pytest.raises(AttributeError, match=f"{owner} has no attribute '{name}'") as caught:
        getattr(module, name)
    assert advice in str(caught.value)
