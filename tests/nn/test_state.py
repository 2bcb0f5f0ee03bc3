"""state_dict and load_state_dict: keys, order, and the report about what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def values(module) -> dict[str, np.ndarray]:
    return {key: t.numpy().copy() for key, t in module.state_dict().items()}


def assert_unchanged(module, before) -> None:
    for key, value in values(module).items():
        np.testing.assert_array_equal(value, before[key])


def test_state_dict_is_detached_and_shares_memory():
    model = net()
    state = model.state_dict()
    assert list(state) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
        "3.weight", "3.bias",
    ]  # fmt: skip
    assert not any(t.requires_grad for t in state.values())
    assert all(type(t) is mg.Tensor for t in state.values())
    assert state["0.weight"].data is model[0].weight.array
    assert model.state_dict(keep_vars=True)["0.weight"] is model[0].weight
    assert next(iter(model.state_dict(prefix="net."))) == "net.0.weight"


def test_loading_copies_from_tensors_and_arrays_of_any_floating_dtype():
    source, target = net(), net()
    state = source.double().state_dict()
    mixed = {key: t if i % 2 else t.numpy() for i, (key, t) in enumerate(state.items())}
    kept = target[0].weight
    result = target.load_state_dict(mixed)
    assert result == ([], [])
    assert result.missing_keys == []
    assert repr(result) == "<All keys matched successfully>"
    assert target[0].weight is kept
    assert kept.dtype == np.float32
    for key, value in values(target).items():
        np.testing.assert_array_equal(value, state[key].numpy().astype(value.dtype))
    state["0.weight"].data[...] = 0  # a copy: later changes do not show
    assert target[0].weight.data.any()


def test_loading_from_a_module_of_pytorch():
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.Linear(3, 2), nn.Linear(3, 2)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    np.testing.assert_array_equal(ours.weight.detach().numpy(), theirs.weight.detach().numpy())
    with pytest.raises(RuntimeError, match="weight: the state dict holds something that is neither"):
        ours.load_state_dict(theirs.to(torch.bfloat16).state_dict())


def test_loading_is_noticed_by_a_backward_that_needs_the_old_values():
    model = nn.Linear(2, 2)
    y = model(mg.ones(1, 2, requires_grad=True)).sum()
    model.load_state_dict(values(nn.Linear(2, 2)))
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_report_of_everything_that_does_not_fit():
    model = net()
    before = values(model)
    state = values(net())
    state["0.wieght"] = state.pop("0.weight")
    state["fc.bias"] = state.pop("3.bias")
    state["3.weight"] = np.zeros((2, 9), np.float32)
    state["1.bias"] = "text"
    state["1.num_batches_tracked"] = np.array(1.5)
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    assert str(caught.value).split("\n") == [
        "the state dict does not fit Sequential; nothing was changed:",
        "  3 keys do not match:",
        "    1.bias: the state dict holds something that is neither a Tensor nor an array",
        "    1.num_batches_tracked: the model has dtype int64, the state dict float64 with fractions",
        "    3.weight: the model has shape (2, 4), the state dict (2, 9)",
        "  2 keys are missing from the state dict:",
        "    0.weight (4, 3, 3, 3)",
        "    3.bias (2,)",
        "  2 keys are unexpected: the model does not have them:",
        "    0.wieght (4, 3, 3, 3): did you mean '0.weight'?",
        "    fc.bias (2,): did you mean '3.bias'?",
    ]
    assert_unchanged(model, before)


def test_report_of_a_common_prefix_and_of_many_keys():
    model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(8)])
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict({f"module.{key}": value for key, value in values(model).items()})
    text = str(caught.value)
    assert "16 keys are missing" in text
    assert "... and 6 more" in text
    assert text.endswith("Without the prefix 'module.' these keys would fit: remove it first.")


def test_loading_without_strict_ignores_keys_but_not_shapes():
    model = net()
    state = values(net())
    del state["0.bias"]
    state["extra"] = np.ones(3)
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["0.bias"]
    assert result.unexpected_keys == ["extra"]
    assert "missing_keys=['0.bias']" in repr(result)
    np.testing.assert_array_equal(model[3].weight.detach().numpy(), state["3.weight"])
    before = values(model)
    state = values(net()) | {"3.weight": np.zeros((3, 4))}
    with pytest.raises(RuntimeError, match=r"3\.weight: the model has shape \(2, 4\), the state dict \(3, 4\)"):
        model.load_state_dict(state, strict=False)
    assert_unchanged(model, before)


def test_old_checkpoints_may_lack_the_number_of_batches():
    model = net()
    state = values(net())
    del state["1.num_batches_tracked"]
    assert model.load_state_dict(state) == ([], [])
    state = values(net()) | {"1.num_batches_tracked": np.float32(12)}
    model.load_state_dict(state)
    assert model[1].num_batches_tracked.item() == 12


def test_a_state_dict_must_be_a_dictionary():
    with pytest.raises(TypeError, match="state_dict must be a dictionary from names to tensors, got str"):
        net().load_state_dict("model.safetensors")


def test_shared_parameters_have_several_keys():
    model = nn.ModuleDict({"a": nn.Linear(2, 2)})
    model["b"] = model["a"]
    assert list(model.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert len(list(model.parameters())) == 2
    model.load_state_dict(values(model))


def test_the_report_of_single_keys():
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(2, 3).load_state_dict({"weigth": mg.ones(3, 2), "bias": mg.ones(4)})
    text = str(caught.value)
    for line in (
        "1 key does not match:",
        "1 key is missing from the state dict:",
        "1 key is unexpected: the model does not have it:",
    ):
        assert f"  {line}" in text
