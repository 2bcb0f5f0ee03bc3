"""Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import minigrad as mg
from minigrad import nn


def names(module) -> list[str]:
    return [f"{name}:{type(m).__name__}" for name, m in module._modules.items()]


def test_sequential_is_a_list_that_can_be_called():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(model) == 3
    assert model[-1] is model[2]
    assert names(model[1:]) == ["1:ReLU", "2:Linear"]  # the names stay, as in PyTorch
    assert isinstance(model[:2], nn.Sequential)
    assert model[:2](mg.ones(4, 2)).shape == (4, 3)
    model.append(nn.Sigmoid()).extend([nn.Tanh()])
    model.insert(1, nn.Dropout())
    assert names(model) == ["0:Linear", "1:Dropout", "2:ReLU", "3:Linear", "4:Sigmoid", "5:Tanh"]
    model[1] = nn.Identity()
    del model[4]
    del model[-1]
    assert names(model) == ["0:Linear", "1:Identity", "2:ReLU", "3:Linear"]
    assert isinstance(model.pop(1), nn.Identity)
    assert model(mg.ones(4, 2)).shape == (4, 1)
    assert names(nn.Sequential(nn.ReLU()) + nn.Sequential(nn.Tanh())) == ["0:ReLU", "1:Tanh"]
    part = nn.Sequential(nn.ReLU(), nn.Tanh())[1:]
    assert names(part.append(nn.ELU())) == ["1:Tanh", "2:ELU"]  # nothing is overwritten


def test_sequential_of_names():
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 3), act=nn.ReLU()))
    assert model.conv is model[0]
    assert list(model.state_dict()) == ["conv.weight", "conv.bias"]
    assert names(model[:1]) == ["conv:Conv2d"]


def test_module_list_and_dict_register_their_modules():
    modules = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    modules.append(nn.ReLU())
    modules += [nn.Tanh()]
    modules.insert(0, nn.Identity())
    assert names(modules) == ["0:Identity", "1:Linear", "2:Linear", "3:ReLU", "4:Tanh"]
    assert isinstance(modules[1:3], nn.ModuleList)
    assert len(list(modules.parameters())) == 4
    assert names(modules + nn.ModuleList([nn.ELU()]))[-1] == "5:ELU"
    with pytest.raises(NotImplementedError, match="ModuleList must define forward"):
        modules(mg.ones(1))

    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Linear(1, 1)
    table.update({"c": nn.Tanh()})
    assert list(table) == list(table.keys()) == ["a", "b", "c"]
    assert "b" in table
    assert isinstance(table.pop("a"), nn.ReLU)
    assert [name for name, _ in table.items()] == ["b", "c"]
    del table["c"]
    assert len(table) == 1
    assert list(table.values()) == [table["b"]]
    table.clear()
    assert not table


def test_parameter_containers():
    ps = nn.ParameterList([mg.ones(2), nn.Parameter(mg.zeros(3))])
    ps.append(mg.ones(1))
    ps += [mg.ones(4)]
    assert [p.shape for p in ps] == [(2,), (3,), (1,), (4,)]
    assert all(isinstance(p, nn.Parameter) for p in ps)
    assert [n for n, _ in ps.named_parameters()] == ["0", "1", "2", "3"]
    assert len(ps[1:3]) == 2
    ps[0] = mg.zeros(5)
    assert ps[0].shape == (5,)

    table = nn.ParameterDict({"a": mg.ones(2, 3)})
    table["b"] = nn.Parameter(mg.ones(()))
    assert list(table.state_dict()) == ["a", "b"]
    assert "a" in table
    assert len(table) == 2
    del table["a"]
    assert [name for name, _ in table.items()] == list(table.keys()) == ["b"]


@pytest.mark.processor("a description says where tensors lie")
def test_descriptions_of_parameter_containers_are_pytorchs():
    torch = pytest.importorskip("torch")

    def build(library):
        nn = library.nn
        ps = nn.ParameterList([nn.Parameter(library.ones(2, 3)), nn.Parameter(library.ones(()))])
        return nn.ModuleList([ps, nn.ParameterDict({"w": nn.Parameter(library.ones(4))}), nn.ParameterList()])

    assert repr(build(mg)) == repr(build(torch)).replace("torch.FloatTensor", "mg.float32").replace("torch.", "mg.")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Sequential(nn.ReLU), TypeError, r"call the class, nn.ReLU\(\) instead of nn.ReLU"),
        (lambda: nn.Sequential([nn.ReLU()]), TypeError, "expected a Module, got list"),
        (lambda: nn.ModuleList(nn.ReLU()), TypeError, "expected a list"),
        (lambda: nn.Sequential(nn.ReLU())[3], IndexError, "index 3 is out of range for a Sequential of 1 modules"),
        (lambda: nn.ModuleDict({"a.b": nn.ReLU()}), ValueError, "must not hold a dot"),
        (lambda: nn.ModuleDict({"keys": nn.ReLU()}), ValueError, "'keys' is an attribute of the class ModuleDict"),
        (lambda: nn.ParameterList([3.0]), TypeError, "expected a Parameter or a Tensor, got float"),
    ],
)
def test_wrong_contents(make, error, message):
    with pytest.raises(error, match=message):
        make()
