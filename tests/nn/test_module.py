"""Module: registering, attributes, walking, modes, conversions, errors with paths, copies."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.autograd import AnomalyError, state
from minigrad.device import to_numpy
from minigrad.nn import functional as F


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        return x + self.fc(x.mean((2, 3))).reshape(*x.shape[:2], 1, 1)


class Net(nn.Module):
    """A net with everything: nested containers, a free parameter, buffers, a shared layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(mg.ones(1))
        self.register_buffer("offset", mg.zeros(1))
        self.register_buffer("scratch", mg.zeros(2), persistent=False)
        self.stem = nn.Conv2d(3, 4, 3)
        self.layers = nn.Sequential(Block(4), nn.Sequential(Block(4), nn.ReLU()))
        self.heads = nn.ModuleList([nn.Linear(4, 2) for _ in range(3)])
        self.again = self.stem
        self.nothing = None

    def forward(self, x):
        x = self.layers(self.stem(x) * self.scale + self.offset).mean((2, 3))
        return self.heads[0](x) + self.heads[1](x) + self.heads[2](x)


IMAGE = (2, 3, 6, 6)


# ---- registering and attributes ----------------------------------------------------------------------------------------


def test_attributes_are_registered_in_order_and_found():
    net = Net()
    assert [n for n, _ in net.named_children()] == ["stem", "layers", "heads"]  # "again" is the stem
    assert [n for n, _ in net.named_parameters()][:4] == ["scale", "stem.weight", "stem.bias", "layers.0.conv.weight"]
    assert [n for n, _ in net.named_parameters(remove_duplicate=False)][-2:] == ["again.weight", "again.bias"]
    assert [n for n, _ in net.named_buffers()][:3] == ["offset", "scratch", "layers.0.bn.running_mean"]
    assert [n for n, _ in net.named_parameters(prefix="net", recurse=False)] == ["net.scale"]
    assert [n for n, _ in net.named_modules(prefix="net")][:4] == ["net", "net.stem", "net.layers", "net.layers.0"]
    assert len(list(net.parameters())) == len({id(p) for p in net.parameters()})
    assert len(list(net.modules())) == 17
    assert net.layers[1][0].fc is net.get_submodule("layers.1.0.fc")
    assert net.get_submodule("") is net
    assert net.get_parameter("layers.1.0.fc.weight") is net.layers[1][0].fc.weight
    assert net.get_buffer("layers.0.bn.running_var") is net.layers[0].bn.running_var
    assert net.nothing is None
    assert {"stem", "scale", "offset", "forward", "training"} <= set(dir(net))


def test_missing_attributes_name_the_nearest():
    net = Net()
    with pytest.raises(AttributeError, match=r"'Net' object has no attribute 'steem': did you mean 'stem'\?"):
        net.steem  # noqa: B018
    with pytest.raises(AttributeError, match=r"did you mean 'layers'\?"):
        del net.layer
    with pytest.raises(AttributeError, match=r"Net has no submodule 'layers.0.con': did you mean 'layers.0.conv'\?"):
        net.get_submodule("layers.0.con")
    with pytest.raises(AttributeError, match=r"Net has no parameter 'stem.weigth': did you mean 'stem.weight'\?"):
        net.get_parameter("stem.weigth")
    with pytest.raises(AttributeError, match=r"Net has no buffer 'offsets': did you mean 'offset'\?"):
        net.get_buffer("offsets")
    assert not hasattr(net, "banana")
    assert getattr(net, "banana", 7) == 7


def test_init_of_the_base_class_must_come_first():
    class Late(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(2, 2)

    class Never(nn.Module):
        def __init__(self):
            self.size = 3

    with pytest.raises(AttributeError, match=r"cannot assign module 'fc' before super\(\).__init__\(\).*first line of Late"):
        Late()
    with pytest.raises(AttributeError, match=r"Never.__init__ did not call super\(\).__init__\(\)"):
        Never()(mg.ones(1))
    with pytest.raises(NotImplementedError, match="Net2 must define forward"):
        type("Net2", (nn.Module,), {})()(mg.ones(1))


def test_assigning_something_else_is_refused_and_changes_nothing():
    net = Net()
    with pytest.raises(TypeError, match=r"'scale' is a parameter.*got Tensor: wrap it in nn.Parameter"):
        net.scale = mg.ones(1)
    with pytest.raises(TypeError, match="'stem' is a module: expected a Module or None, got int"):
        net.stem = 3
    with pytest.raises(TypeError, match="'offset' is a buffer: expected a Tensor or None, got float"):
        net.offset = 0.5
    with pytest.raises(ValueError, match="Net has an attribute 'scale' already"):
        net.register_buffer("scale", mg.ones(1))
    with pytest.raises(ValueError, match=r"must not hold a dot, got 'a\.b'"):
        net.register_parameter("a.b", nn.Parameter(mg.ones(1)))
    with pytest.raises(ValueError, match="'forward' is an attribute of the class Net"):
        net.forward = nn.ReLU()
    with pytest.raises(TypeError, match="parameter 'weight' must be a Parameter or None, got Tensor"):
        net.register_parameter("weight", mg.ones(1))
    with pytest.raises(TypeError, match="the name of a module must be a string, got 3"):
        net.add_module(3, nn.ReLU())
    assert list(net.state_dict()) == list(Net().state_dict())


def test_reassigning_and_deleting():
    net = Net()
    net.offset = mg.ones(1)  # a buffer gets another tensor
    assert "offset" in net.state_dict()
    net.scratch = nn.Buffer(mg.ones(2))
    net.stem = nn.Identity()  # keeps its place
    assert [n for n, _ in net.named_children()][:2] == ["stem", "layers"]
    net.nothing = nn.Parameter(mg.ones(1))  # was a plain None
    assert "nothing" in dict(net.named_parameters())
    net.nothing = nn.ReLU()  # a parameter becomes a module
    assert "nothing" not in dict(net.named_parameters())
    net.scale = None  # empties the place
    assert net.scale is None
    assert "scale" not in net.state_dict()
    del net.offset
    assert not hasattr(net, "offset")
    net.cache = nn.Buffer(mg.ones(1), persistent=False)
    assert "cache" in dict(net.named_buffers())
    assert "cache" not in net.state_dict()


@pytest.mark.processor("shares memory with arrays")
def test_parameter_shares_memory_and_requires_grad():
    t = mg.ones(2)
    p = nn.Parameter(t)
    assert p.requires_grad
    assert p.is_leaf
    assert p.data.base is t.data
    assert repr(nn.Parameter(mg.zeros(1))).startswith("Parameter containing:\ntensor([0.]")
    assert not nn.Parameter(t, requires_grad=False).requires_grad
    with pytest.raises(TypeError, match="floating"):
        nn.Parameter(mg.tensor([1, 2]))


# ---- modes, conversions ------------------------------------------------------------------------------------------------


def test_train_eval_apply_and_requires_grad():
    net = Net()
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.layers[1].train()
    assert net.layers[1][0].bn.training
    assert not net.layers[0].training
    with pytest.raises(ValueError, match="mode must be True"):
        net.train("yes")
    order = []
    net.apply(lambda m: order.append(type(m).__name__))
    assert order[0] == "Conv2d"
    assert order[-1] == "Net"
    net.layers.requires_grad_(False)
    assert {n.split(".")[0] for n, p in net.named_parameters() if p.requires_grad} == {"scale", "stem", "heads"}


def test_zero_grad():
    net = Net()
    net(mg.randn(*IMAGE)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert all(to_numpy(p.grad.data).any() == 0 for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_conversions_keep_the_parameters():
    net = Net()
    net(mg.randn(*IMAGE)).sum().backward()
    before = list(net.parameters())
    assert net.double() is net
    assert all(a is b for a, b in zip(before, net.parameters(), strict=True))
    assert {p.dtype for p in net.parameters()} == {p.grad.dtype for p in net.parameters()} == {np.dtype(np.float64)}
    assert net.layers[0].bn.running_mean.dtype == np.float64
    assert net.layers[0].bn.num_batches_tracked.dtype == np.int64
    assert net.again is net.stem
    assert net(mg.randn(*IMAGE).to(np.float64)).dtype == np.float64
    assert net.to(mg.ones(1)).scale.dtype == np.float32
    assert net.to("cpu", np.float64).scale.dtype == np.float64
    assert net.to(dtype=mg.float32, device="cpu").float().cpu().scale.dtype == np.float32
    assert net.half().scale.dtype == np.float16
    with pytest.raises(TypeError, match="floating dtype"):
        net.to(mg.int64)
    with pytest.raises(TypeError, match=r"takes a device, a dtype or a Tensor, got 3\.5"):
        net.to(3.5)
    with pytest.raises(ValueError, match="device must be"):
        net.to("gpu")


@pytest.mark.processor("there is a card")
@pytest.mark.skipif(mg.cuda.is_available(), reason="for machines without a graphics card")
def test_moving_to_a_missing_device_changes_nothing():
    net = Net()
    with pytest.raises(RuntimeError, match="cannot use device 'cuda'"):
        net.cuda()
    assert all(not p.is_cuda for p in net.parameters())


def test_deepcopy_and_pickle():
    net = Net()
    net.heads[0].weight.requires_grad_(False)
    x = mg.randn(*IMAGE)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert list(other.state_dict()) == list(net.state_dict())
        assert other.again is other.stem  # what is shared stays shared
        assert not other.heads[0].weight.requires_grad
        assert isinstance(other.scale, nn.Parameter)
        other.eval(), net.eval()
        np.testing.assert_array_equal(other(x).detach().numpy(), net(x).detach().numpy())
        before = net.scale.item()
        other.scale.data[...] = 9
        assert net.scale.item() == before


# ---- calling -----------------------------------------------------------------------------------------------------------


def test_errors_begin_with_the_path_of_the_module_once():
    net = Net()
    net.layers[1][0].fc = nn.Linear(7, 4)
    with pytest.raises(ValueError, match=r"^layers\.1\.0\.fc: linear: ") as caught:
        net(mg.randn(*IMAGE))
    assert str(caught.value).count("fc:") == 1
    with pytest.raises(ValueError, match=r"^stem: conv2d: "):
        net(mg.randn(2, 5, 6, 6))
    with pytest.raises(TypeError, match=r"^stem: conv2d: x must be a Tensor, got list"):
        net([1, 2])
    with pytest.raises(ValueError, match=r"^conv2d: "):  # called itself, a layer has no path
        net.stem(mg.randn(2, 5, 6, 6))
    assert state.modules == []


def test_errors_of_modules_that_are_not_attributes():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = [nn.Linear(3, 3)]

        def forward(self, x):
            return self.parts[0](x)

    with pytest.raises(ValueError, match=r"^Linear: linear: "):
        Hidden()(mg.ones(1, 4))


def test_errors_with_arguments_of_their_own_are_left_alone():
    class Broken(nn.Module):
        def forward(self, x):
            raise UnicodeDecodeError("ascii", b"\xff", 0, 1, "bad")

    with pytest.raises(UnicodeDecodeError) as caught:
        nn.Sequential(Broken())(mg.ones(1))
    assert caught.value.args == ("ascii", b"\xff", 0, 1, "bad")


def test_path_to_and_anomaly_mode_name_the_module():
    net = Net()
    assert net.path_to(net.layers[1][0].fc) == "layers.1.0.fc (Linear)"
    assert net.path_to(net) == "Net"
    assert net.path_to(nn.ReLU()) == "ReLU"
    with mg.no_grad():
        net.layers[0].fc.weight.fill_(float("inf"))
    with mg.autograd.detect_anomaly(), pytest.raises(AnomalyError, match=r"linear: .* in module layers\.0\.fc \(Linear\)"):
        net(mg.randn(*IMAGE))


# ---- description -------------------------------------------------------------------------------------------------------


def test_description_is_pytorchs():
    torch = pytest.importorskip("torch")
    from tests.nn.parity import torch_text

    def build(nn):
        inner = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(inplace=True))
        lists = nn.ModuleList(
            [*[nn.Linear(2, 2) for _ in range(3)], nn.ReLU(), nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())]
        )
        return nn.Sequential(
            inner, nn.ModuleDict({"a": nn.MaxPool2d(2), "b": lists}), nn.Identity(), nn.ModuleList(), nn.Sequential()
        )

    assert repr(build(nn)) == torch_text(build(torch.nn))

    class Both:
        """A module with a description and submodules, in either library."""

        def __init__(self):
            super().__init__()
            self.fc = self.nn.Linear(2, 2)
            self.none = None

        def extra_repr(self):
            return "first\nsecond"

    ours = type("Noted", (Both, nn.Module), {"nn": nn})()
    theirs = type("Noted", (Both, torch.nn.Module), {"nn": torch.nn})()
    assert repr(ours) == repr(theirs)
    del ours.fc, theirs.fc
    assert repr(ours) == repr(theirs)
