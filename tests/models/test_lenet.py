"""LeNet-5 as published in 1998, layer by layer, and beside a definition in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.models.lenet import TABLE, ConnectedConv2d, SubSampling, codes, lenet5_1998, squash
from minigrad.nn import functional as F
from minigrad.nn import init
from tests.models.oracle import count
from tests.nn.parity import close


def test_layers_of_lenet_have_the_published_numbers_of_parameters_and_connections():
    model = lenet5_1998()
    sizes = {name: count(module) for name, module in model.named_children()}
    assert sizes == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164, "output": 0}
    assert model.output.codes.shape == (10, 84)
    rows = {row.name: row for row in mg.summary(model, (1, 32, 32)).rows if row.level == 1 and row.kind}
    shapes = {name: row.output[1:] for name, row in rows.items()}
    assert shapes["c1"] == (6, 28, 28)
    assert shapes["s2"] == (6, 14, 14)
    assert shapes["c3"] == (16, 10, 10)
    assert shapes["s4"] == (16, 5, 5)
    assert shapes["c5"] == (120, 1, 1)
    assert rows["c1"].macs + 6 * 28 * 28 == 122_304  # connections, as the paper counts them: with biases
    kernels = mg.summary(model.c3, (6, 14, 14)).macs
    assert kernels + 16 * 10 * 10 == 151_600


def test_the_table_of_connections_is_that_of_the_paper():
    columns = [set(map(int, row)) for row in TABLE]
    assert [len(c) for c in columns] == [3] * 6 + [4] * 9 + [6]
    assert all(c == {i, (i + 1) % 6, (i + 2) % 6} for i, c in enumerate(columns[:6]))
    assert all(c == {(i + k) % 6 for k in range(4)} for i, c in enumerate(columns[6:12]))
    assert all(c == {i, i + 1, (i + 3) % 6, (i + 4) % 6} for i, c in enumerate(columns[12:15]))
    assert len({frozenset(c) for c in columns}) == 16
    assert [sum(i in c for c in columns) for i in range(6)] == [10] * 6


def test_a_connected_convolution_is_a_full_one_with_zeros():
    table = ("02", "12", "012", "1")
    conv = ConnectedConv2d(table, 3)
    assert [c.weight.shape for c in conv.convs] == [(2, 2, 3, 3), (1, 3, 3, 3), (1, 1, 3, 3)]
    full, kernels = np.zeros((4, 3, 3, 3), np.float32), [k for c in conv.convs for k in c.weight.detach().numpy()]
    for output, (maps, kernel) in enumerate(zip(table, kernels, strict=True)):
        for j, i in enumerate(maps):
            full[output, int(i)] = kernel[j]
    x = mg.randn(2, 3, 6, 5)
    bias = mg.tensor(np.concatenate([c.bias.detach().numpy() for c in conv.convs]))
    close(conv(x).detach().numpy(), F.conv2d(x, mg.tensor(full), bias).numpy(), 1e-5)


def test_subsampling_and_squashing():
    layer = SubSampling(2)
    init.constant_(layer.weight, 0.5), init.constant_(layer.bias, 3)
    layer.weight.data[1] = 2
    y = layer(mg.arange(16).reshape(1, 2, 2, 4).float()).detach().numpy()
    assert y[0, :, 0].tolist() == [[0.5 * (0 + 1 + 4 + 5) + 3, 0.5 * (2 + 3 + 6 + 7) + 3], [2 * 42 + 3, 2 * 50 + 3]]
    a = squash(mg.tensor([-1.0, 0.0, 1.0, 100.0])).numpy()
    np.testing.assert_allclose(a, [-1, 0, 1, 1.7159], atol=1e-4)


def test_codes_are_bitmaps_of_the_digits_and_the_output_minus_the_squared_distance_to_them():
    digits = codes().numpy()
    assert digits.shape == (10, 84)
    assert set(digits.ravel().tolist()) == {-1.0, 1.0}
    different = (digits[:, None] != digits[None]).sum(2)
    assert different[~np.eye(10, dtype=bool)].min() >= 10
    assert different[3, 8] < different[1, 8]  # similar characters have similar codes
    model = lenet5_1998()
    assert "output.codes" in dict(model.named_buffers())
    np.testing.assert_array_equal(model.output(codes()).numpy(), -4.0 * different)
    assert model.output(codes()).argmax(1).numpy().tolist() == list(range(10))
    picture = np.where(digits[7].reshape(12, 7) > 0, "#", ".")
    assert "".join(picture[0]) == "#######"
    assert "".join(picture[9]) == "..##..."


def test_codes_of_other_classes_are_random_but_always_the_same():
    with init.skipped():
        mg.manual_seed(0)
        first, again = codes(95).numpy(), lenet5_1998(95).output.codes.numpy()
    np.testing.assert_array_equal(first, again)
    assert set(first.ravel().tolist()) == {-1.0, 1.0}
    assert len({tuple(code) for code in first.tolist()}) == 95
    assert abs(first.mean()) < 0.1


def test_lenet_starts_within_the_bounds_of_the_paper():
    mg.manual_seed(0)
    model = lenet5_1998()
    for p, inputs in (
        (model.c1.weight, 25),
        (model.c3.convs[0].weight, 75),
        (model.c3.convs[1].weight, 100),
        (model.c3.convs[2].weight, 150),
        (model.s4.weight, 4),
        (model.c5.weight, 400),
        (model.f6.weight, 120),
        (model.f6.bias, 120),
    ):
        assert 0.7 * 2.4 / inputs < abs(p.detach().numpy()).max() <= 2.4 / inputs


def test_lenet_of_28_pixels_repeats_the_border():
    small, large = lenet5_1998(input_size=28), lenet5_1998()
    large.load_state_dict(small.state_dict())
    x = np.random.default_rng(0).normal(size=(2, 1, 28, 28)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    np.testing.assert_array_equal(small(mg.tensor(x)).detach().numpy(), large(mg.tensor(padded)).detach().numpy())


def test_lenet_learns_a_few_images():
    mg.manual_seed(1)
    model = lenet5_1998()
    x, labels = mg.randn(10, 1, 32, 32), mg.arange(10)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.003, momentum=0.9)
    for _ in range(50):
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(x).argmax(1).numpy() == np.arange(10)).mean() >= 0.9


# ---- in PyTorch --------------------------------------------------------------------------------------------------------


def torch_lenet(torch):
    """LeNet-5 of 1998: C3 as a full convolution with zeros where table I has none, average pooling times 4."""
    tnn = torch.nn

    class Sub(tnn.Module):
        def __init__(self, channels):
            super().__init__()
            self.weight, self.bias = (tnn.Parameter(torch.rand(channels) - 0.5) for _ in range(2))

        def forward(self, x):
            return 4 * tnn.functional.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]

    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.s2 = tnn.Conv2d(1, 6, 5), Sub(6)
            self.kernels = tnn.ParameterList([tnn.Parameter(torch.randn(n, k, 5, 5) / 9) for n, k in ((6, 3), (9, 4), (1, 6))])
            self.biases = tnn.ParameterList([tnn.Parameter(torch.randn(n) / 9) for n in (6, 9, 1)])
            self.s4, self.c5, self.f6 = Sub(16), tnn.Conv2d(16, 120, 5), tnn.Linear(120, 84)
            self.codes = torch.from_numpy(codes().numpy())

        def forward(self, x):
            def act(x):
                return 1.7159 * torch.tanh(2 * x / 3)

            x = act(self.s2(act(self.c1(x))))
            rows = [kernel for kernels in self.kernels for kernel in kernels]
            full = torch.zeros(16, 6, 5, 5, dtype=x.dtype)
            for i, (maps, kernel) in enumerate(zip(TABLE, rows, strict=True)):
                full[i, [int(m) for m in maps]] = kernel
            x = act(tnn.functional.conv2d(x, full, torch.cat(list(self.biases))))
            x = act(self.c5(act(self.s4(x)))).flatten(1)
            return -(torch.cdist(act(self.f6(x)), self.codes.to(x.dtype), compute_mode="donot_use_mm_for_euclid_dist") ** 2)

    return Net()


def test_lenet_computes_what_pytorch_does():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch_lenet(torch).double()
    ours = lenet5_1998().double()
    state = {}
    for name, _ in ours.named_parameters():
        part, _, rest = name.partition(".convs.")
        their_name = f"{'kernels' if rest.endswith('weight') else 'biases'}.{rest[0]}" if rest else part
        state[name] = dict(theirs.named_parameters())[their_name]
    ours.load_state_dict({**{k: v.detach().numpy() for k, v in state.items()}, "output.codes": ours.output.codes})
    a = np.random.default_rng(0).normal(size=(3, 1, 32, 32))
    y, t = ours(mg.tensor(a)), theirs(torch.tensor(a))
    close(y.detach().numpy(), t.detach().numpy(), 1e-10)
    F.cross_entropy(y, mg.tensor([3, 1, 4])).backward()
    torch.nn.functional.cross_entropy(t, torch.tensor([3, 1, 4])).backward()
    for name, p in ours.named_parameters():
        close(p.grad.numpy(), state[name].grad.numpy(), 1e-9, name)
