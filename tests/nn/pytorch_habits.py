# ruff: noqa: RUF021, UP008 - habits are kept as they are
"""Habits of older programs for PyTorch, in networks of our own: each takes the library, its ``nn`` and its ``F``.

They do what such programs do and newer ones do not: weights filled through ``data``, ``super`` with arguments, shortcuts chosen
by ``and`` and ``or``, numbers of layers from divisions, functions with a backward of their own, blocks that are computed twice.
"""

from __future__ import annotations

import importlib
import math

__all__ = ["DEFINITIONS"]


def filled(torch, nn, F):
    """Weights filled through ``data`` by hand, layers counted by a division, a shortcut that is False or a layer."""

    class Unit(nn.Module):
        def __init__(self, inputs, outputs, stride, p):
            super(Unit, self).__init__()
            self.same = inputs == outputs
            self.norm = nn.BatchNorm2d(inputs)
            self.first = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
            self.second = nn.Conv2d(outputs, outputs, kernel_size=3, stride=1, padding=1, bias=True)
            self.across = (not self.same) and nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) or None
            self.p = p

        def forward(self, x):
            y = F.relu(self.norm(x), inplace=True)
            z = self.first(y)
            if self.p > 0:
                z = F.dropout(z, p=self.p, training=self.training)
            return torch.add(self.second(F.relu(z)), x if self.same else self.across(y))

    class Net(nn.Module):
        def __init__(self, depth):
            super(Net, self).__init__()
            count = (depth - 2) / 4  # a float
            self.stem = nn.Conv2d(3, 6, 3, padding=1)
            self.stages = nn.Sequential()
            for i, width in enumerate((6, 10)):
                self.stages.add_module(f"stage{i}", self.stage(i == 0 and 6 or 6, width, int(count), i and 2 or 1))
            self.classes = nn.Linear(10, 5)
            self.width = 10
            for m in self.modules():
                if isinstance(m, nn.Conv2d):
                    n = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
                    m.weight.data.normal_(0, math.sqrt(2.0 / n))
                    if m.bias is not None:
                        m.bias.data.zero_()
                elif isinstance(m, nn.BatchNorm2d):
                    m.weight.data.fill_(1)
                    m.bias.data.zero_()
                elif isinstance(m, nn.Linear):
                    m.weight.data.uniform_(-0.1, 0.1)
                    m.bias.data.copy_(torch.Tensor([0.1, 0.2, 0.3, 0.4, 0.5]))

        def stage(self, inputs, outputs, count, stride):
            units = [Unit(i == 0 and inputs or outputs, outputs, i == 0 and stride or 1, 0.0) for i in range(count)]
            return nn.Sequential(*units)

        def forward(self, x):
            x = self.stages(self.stem(x))
            x = F.avg_pool2d(x, x.size()[2:])
            return self.classes(x.view(-1, self.width))

    return Net(10)


def shaken(torch, nn, F):
    """Two branches mixed by a function whose backward mixes them otherwise."""
    from_autograd = importlib.import_module(torch.__name__ + ".autograd").Function

    class Mix(from_autograd):
        @staticmethod
        def forward(ctx, a, b, share, other):
            ctx.save_for_backward(a, b, share, other)
            return share * a + (1 - share) * b

        @staticmethod
        def backward(ctx, grad):
            _, _, _, other = ctx.saved_tensors
            to_a = to_b = None
            if ctx.needs_input_grad[0]:
                to_a = other * grad
            if ctx.needs_input_grad[1]:
                to_b = (1 - other) * grad
            return to_a, to_b, None, None

    mix = Mix.apply

    class Net(nn.Module):
        def __init__(self):
            super(Net, self).__init__()
            self.left = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1))
            self.right = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1))
            self.classes = nn.Linear(8, 5)

        def forward(self, x):
            count = x.size(0)
            share = x.new(count).fill_(0.25).view(count, 1, 1, 1)
            other = torch.ones_like(share) * 0.75
            y = mix(self.left(x), self.right(x), share, other)
            return self.classes(torch.flatten(F.adaptive_avg_pool2d(y, 1), 1))

    return Net()


def computed_twice(torch, nn, F):
    """Dense layers whose features are computed again in the backward pass, under the decorators that torchvision uses."""
    checkpoint = importlib.import_module(torch.__name__ + ".utils.checkpoint")
    jit = importlib.import_module(torch.__name__ + ".jit")

    class Layer(nn.Module):
        def __init__(self, inputs, growth):
            super(Layer, self).__init__()
            self.add_module("norm", nn.BatchNorm2d(inputs))
            self.add_module("relu", nn.ReLU(inplace=True))
            self.add_module("conv", nn.Conv2d(inputs, growth, kernel_size=3, padding=1, bias=False))

        @jit.unused
        def again(self, features):
            def closure(*inputs):
                return self.conv(self.relu(self.norm(torch.cat(inputs, 1))))

            return checkpoint.checkpoint(closure, *features, use_reentrant=False)

        def forward(self, features):
            if not jit.is_scripting() and any(f.requires_grad for f in features):
                return self.again(features)
            return self.conv(self.relu(self.norm(torch.cat(features, 1))))

    class Net(nn.Module):
        def __init__(self):
            super(Net, self).__init__()
            self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.layers = nn.ModuleList([Layer(4 + 3 * i, 3) for i in range(3)])
            self.classes = nn.Linear(13, 5)

        def forward(self, x):
            features = [self.stem(x)]
            for layer in self.layers:
                features.append(layer(features))
            y = torch.cat(features, 1)
            largest = F.lp_pool2d(y, 2, y.shape[-1]) + F.max_pool2d(y, y.shape[-1])
            return F.log_softmax(self.classes(largest.view(largest.size(0), -1)), dim=1)

    return Net()


DEFINITIONS = [filled, shaken, computed_twice]
