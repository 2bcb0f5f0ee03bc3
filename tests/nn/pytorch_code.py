"""Networks as they are written for PyTorch, each a function of the library, in one of the styles of public code.

``make(torch, nn, F)`` returns the network; minigrad and its ``nn`` and ``nn.functional`` take the same places.
"""

from __future__ import annotations

import importlib
import math
from collections import OrderedDict
from functools import partial

__all__ = ["DEFINITIONS", "SIZES"]


def residual(torch, nn, F):
    """Basic blocks whose shortcut is a lambda that drops pixels and pads channels; weights initialized by ``apply``."""

    def _weights_init(m):
        classname = m.__class__.__name__
        if isinstance(m, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(m.weight)
        elif classname.find("BatchNorm") != -1:
            nn.init.constant_(m.weight, 1.0)
            nn.init.constant_(m.bias, 0)

    class LambdaLayer(nn.Module):
        def __init__(self, lambd):
            super(LambdaLayer, self).__init__()  # noqa: UP008 - as old code writes it
            self.lambd = lambd

        def forward(self, x):
            return self.lambd(x)

    class BasicBlock(nn.Module):
        def __init__(self, in_planes, planes, stride=1):
            super(BasicBlock, self).__init__()  # noqa: UP008
            self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.shortcut = nn.Sequential()
            if stride != 1 or in_planes != planes:
                more = (planes - in_planes) // 2
                self.shortcut = LambdaLayer(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more), "constant", 0))

        def forward(self, x):
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            out += self.shortcut(x)
            return F.relu(out)

    class Net(nn.Module):
        def __init__(self, num_classes=5):
            super().__init__()
            self.in_planes = 4
            self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(4)
            self.layer1 = self._make_layer(4, 2, stride=1)
            self.layer2 = self._make_layer(8, 2, stride=2)
            self.linear = nn.Linear(8, num_classes)
            self.apply(_weights_init)

        def _make_layer(self, planes, num_blocks, stride):
            layers = []
            for s in [stride] + [1] * (num_blocks - 1):
                layers.append(BasicBlock(self.in_planes, planes, s))
                self.in_planes = planes
            return nn.Sequential(*layers)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.layer2(self.layer1(out))
            out = F.avg_pool2d(out, out.size()[2:])
            out = out.view(out.size(0), -1)
            return self.linear(out)

    return Net()


def preactivation(torch, nn, F):
    """Pre-activation bottlenecks with a slot for the shortcut that may be None, and an initialization loop over modules()."""

    class PreActBlock(nn.Module):
        expansion = 2

        def __init__(self, inplanes, planes, stride=1, drop_rate=0.0, activation=nn.ReLU):
            super().__init__()
            self.bn1 = nn.BatchNorm2d(num_features=inplanes, eps=1e-4, momentum=0.2)
            self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes * self.expansion, 3, stride=(stride, stride), padding=(1, 1), bias=False)
            self.relu = activation(inplace=True)
            self.drop_rate = drop_rate
            same = inplanes == planes * self.expansion and stride == 1
            self.downsample = None if same else nn.Conv2d(inplanes, planes * self.expansion, 1, stride, bias=False)

        def forward(self, x):
            out = self.relu(self.bn1(x))
            residual = x if self.downsample is None else self.downsample(out)
            out = self.conv1(out)
            if self.drop_rate > 0:
                out = F.dropout(out, p=self.drop_rate, training=self.training)
            out = self.conv2(self.relu(self.bn2(out)))
            return torch.add(residual, out)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
            self.blocks = nn.ModuleList([PreActBlock(4, 4), PreActBlock(8, 4, drop_rate=0.3), PreActBlock(8, 6, 2)])
            self.bn = nn.BatchNorm2d(12)
            self.fc = nn.Linear(12, 5)
            for m in self.modules():
                if isinstance(m, nn.Conv2d):
                    n = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
                    with torch.no_grad():
                        m.weight.normal_(0, math.sqrt(2.0 / n))
                elif isinstance(m, nn.BatchNorm2d):
                    nn.init.ones_(m.weight), nn.init.zeros_(m.bias)
                elif isinstance(m, nn.Linear):
                    m.bias.data[:] = 0

        def forward(self, x):
            x = self.stem(x)
            for _, block in enumerate(self.blocks):
                x = block(x)
            x = F.relu(self.bn(x), inplace=True)
            x = x.mean(3).mean(2)
            return self.fc(x)

    return Net()


def dense(torch, nn, F):
    """Dense layers as Sequentials with add_module, concatenation of the input, an OrderedDict of named layers."""

    class _DenseLayer(nn.Sequential):
        def __init__(self, num_input_features, growth_rate, bn_size, drop_rate):
            super().__init__()
            self.add_module("norm1", nn.BatchNorm2d(num_input_features))
            self.add_module("relu1", nn.ReLU(inplace=True))
            self.add_module("conv1", nn.Conv2d(num_input_features, bn_size * growth_rate, kernel_size=1, stride=1, bias=False))
            self.add_module("norm2", nn.BatchNorm2d(bn_size * growth_rate))
            self.add_module("relu2", nn.ReLU(inplace=True))
            self.add_module("conv2", nn.Conv2d(bn_size * growth_rate, growth_rate, kernel_size=3, padding=1, bias=False))
            self.drop_rate = drop_rate

        def forward(self, x):
            new_features = super().forward(x)
            if self.drop_rate > 0:
                new_features = F.dropout(new_features, p=self.drop_rate, training=self.training)
            return torch.cat([x, new_features], 1)

    class Net(nn.Module):
        def __init__(self, growth_rate=4, block_config=(2, 3)):
            super().__init__()
            self.features = nn.Sequential(OrderedDict([
                ("conv0", nn.Conv2d(3, 8, kernel_size=3, padding=1, bias=False)),
                ("norm0", nn.BatchNorm2d(8)),
                ("relu0", nn.ReLU(inplace=True)),
                ("pool0", nn.MaxPool2d(kernel_size=3, stride=2, padding=1)),
            ]))  # fmt: skip
            num_features = 8
            for i, num_layers in enumerate(block_config):
                block = nn.Sequential()
                for j in range(num_layers):
                    block.add_module(f"denselayer{j + 1}", _DenseLayer(num_features + j * growth_rate, growth_rate, 2, 0.1))
                self.features.add_module(f"denseblock{i + 1}", block)
                num_features += num_layers * growth_rate
                if i != len(block_config) - 1:
                    transition = nn.Sequential()
                    transition.add_module("norm", nn.BatchNorm2d(num_features))
                    transition.add_module("conv", nn.Conv2d(num_features, num_features // 2, kernel_size=1, bias=False))
                    transition.add_module("pool", nn.AvgPool2d(kernel_size=2, stride=2))
                    self.features.add_module(f"transition{i + 1}", transition)
                    num_features //= 2
            self.features.add_module("norm5", nn.BatchNorm2d(num_features))
            self.classifier = nn.Linear(num_features, 5)

        def forward(self, x):
            features = self.features(x)
            out = F.relu(features, inplace=True)
            out = F.adaptive_avg_pool2d(out, (1, 1)).view(features.size(0), -1)
            return self.classifier(out)

    return Net()


def inception(torch, nn, F):
    """Branches beside one another, pools that round up, asymmetric kernels, keyword arguments of functions."""

    class BasicConv2d(nn.Module):
        def __init__(self, in_channels, out_channels, **kwargs):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **kwargs)
            self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

        def forward(self, x):
            return F.relu(input=self.bn(self.conv(x)), inplace=True)

    class Inception(nn.Module):
        def __init__(self, in_channels, ch1x1, ch3x3, pool_proj):
            super().__init__()
            self.branch1 = BasicConv2d(in_channels, ch1x1, kernel_size=1)
            self.branch2 = nn.Sequential(
                BasicConv2d(in_channels, ch3x3, kernel_size=(1, 3), padding=(0, 1)),
                BasicConv2d(ch3x3, ch3x3, kernel_size=(3, 1), padding=(1, 0)),
            )
            self.branch3 = nn.Sequential(
                nn.MaxPool2d(kernel_size=3, stride=1, padding=1, ceil_mode=True),
                BasicConv2d(in_channels, pool_proj, kernel_size=1),
            )

        def _forward(self, x):
            pooled = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)
            return [self.branch1(x), self.branch2(pooled), self.branch3(x)]

        def forward(self, x):
            return torch.cat(tensors=self._forward(x), dim=1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = BasicConv2d(3, 6, kernel_size=3, stride=2)
            self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            self.inception3a = Inception(6, 4, 6, 2)
            self.maxpool2 = nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True)
            self.inception3b = Inception(12, 4, 4, 4)
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.dropout = nn.Dropout(0.4)
            self.fc = nn.Linear(12, 5)
            for m in self.modules():
                if isinstance(m, (nn.Conv2d, nn.Linear)):
                    torch.nn.init.trunc_normal_(m.weight, mean=0.0, std=0.1, a=-2, b=2)

        def forward(self, x):
            x = self.maxpool1(self.conv1(x))
            x = self.maxpool2(self.inception3a(x))
            x = self.avgpool(self.inception3b(x))
            x = torch.flatten(input=x, start_dim=1)
            return self.fc(self.dropout(x))

    return Net()


def mobile(torch, nn, F):
    """Depthwise convolutions, inverted residuals in Sequentials of a subclass, clipped and hard activations."""

    def _make_divisible(v, divisor):
        return max(divisor, int(v + divisor / 2) // divisor * divisor)

    class ConvBNReLU(nn.Sequential):
        def __init__(self, in_planes, out_planes, kernel_size=3, stride=1, groups=1, norm_layer=None, act=nn.ReLU6):
            padding = (kernel_size - 1) // 2
            norm_layer = norm_layer or partial(nn.BatchNorm2d, momentum=0.05)
            super().__init__(
                nn.Conv2d(in_planes, out_planes, kernel_size, stride, padding, groups=groups, bias=False),
                norm_layer(out_planes),
                act(inplace=True),
            )

    class InvertedResidual(nn.Module):
        def __init__(self, inp, oup, stride, expand_ratio, act):
            super().__init__()
            hidden_dim = round(inp * expand_ratio)
            self.use_res_connect = stride == 1 and inp == oup
            layers = []
            if expand_ratio != 1:
                layers.append(ConvBNReLU(inp, hidden_dim, kernel_size=1, act=act))
            layers.extend([
                ConvBNReLU(hidden_dim, hidden_dim, stride=stride, groups=hidden_dim, act=act),
                nn.Conv2d(hidden_dim, oup, 1, 1, 0, bias=False),
                nn.BatchNorm2d(oup),
            ])  # fmt: skip
            self.conv = nn.Sequential(*layers)

        def forward(self, x):
            return x + self.conv(x) if self.use_res_connect else self.conv(x)

    class Net(nn.Module):
        def __init__(self, width_mult=0.5):
            super().__init__()
            channel = _make_divisible(16 * width_mult, 4)
            features = [ConvBNReLU(3, channel, stride=2)]
            for t, c, n, s, act in [(1, 8, 1, 1, nn.ReLU6), (3, 16, 2, 2, nn.Hardswish), (2, 16, 1, 1, nn.SiLU)]:
                for i in range(n):
                    out = _make_divisible(c * width_mult, 4)
                    features.append(InvertedResidual(channel, out, s if i == 0 else 1, t, act))
                    channel = out
            self.features = nn.Sequential(*features)
            self.classifier = nn.Sequential(nn.Dropout(p=0.2, inplace=False), nn.Linear(channel, 5))
            for m in self.modules():
                if isinstance(m, nn.Conv2d):
                    nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                    if m.bias is not None:
                        nn.init.zeros_(m.bias)
                elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                    nn.init.ones_(m.weight)
                    nn.init.zeros_(m.bias)

        def forward(self, x):
            x = self.features(x)
            x = x.mean([2, 3])
            return self.classifier(x)

    return Net()


def attention(torch, nn, F):
    """Squeeze and excitation by view and expand_as, a spatial gate of max and mean, a learned slope and scale."""

    class SELayer(nn.Module):
        def __init__(self, channel, reduction=2):
            super().__init__()
            self.avg_pool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Sequential(
                nn.Linear(channel, channel // reduction, bias=False),
                nn.ReLU(inplace=True),
                nn.Linear(channel // reduction, channel, bias=False),
                nn.Sigmoid(),
            )

        def forward(self, x):
            b, c, _, _ = x.size()
            y = self.avg_pool(x).view(b, c)
            y = self.fc(y).view(b, c, 1, 1)
            return x * y.expand_as(x)

    class SpatialGate(nn.Module):
        def __init__(self):
            super().__init__()
            self.spatial = nn.Conv2d(2, 1, 7, padding=3)

        def forward(self, x):
            x_compress = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
            peak, _ = x.max(dim=1, keepdims=True)
            return x * torch.sigmoid(self.spatial(x_compress)) + 0.1 * peak

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
            self.act = nn.PReLU(8)
            self.se = SELayer(8)
            self.gate = SpatialGate()
            self.norm = nn.GroupNorm(num_groups=2, num_channels=8)
            self.gamma = nn.Parameter(0.5 * torch.ones(8, 1, 1), requires_grad=True)
            self.register_parameter("beta", torch.nn.Parameter(torch.zeros(1)))
            self.register_buffer("scale", torch.full((1,), 2.0))
            self.fc = nn.Linear(8, 5)

        def forward(self, x):
            x = self.act(self.conv1(x))
            x = self.gate(self.se(x))
            x = x + torch.mul(self.gamma, self.norm(x)) * self.scale + self.beta
            x = F.adaptive_avg_pool2d(input=x, output_size=1).squeeze(-1).squeeze(-1)
            return self.fc(F.normalize(x, p=2, dim=1))

    return Net()


def shuffle(torch, nn, F):
    """Channels split by chunk, shuffled by view, transpose and contiguous, and by permute and reshape."""

    def channel_shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
        batchsize, num_channels, height, width = x.data.shape
        channels_per_group = num_channels // groups
        x = x.view(batchsize, groups, channels_per_group, height, width)
        x = torch.transpose(x, 1, 2).contiguous()
        return x.view(batchsize, -1, height, width)

    class ShuffleBlock(nn.Module):
        def __init__(self, groups):
            super().__init__()
            self.groups = groups

        def forward(self, x):
            N, C, H, W = x.size()
            g = self.groups
            return x.view(N, g, C // g, H, W).permute(0, 2, 1, 3, 4).reshape(N, C, H, W)

    class Unit(nn.Module):
        def __init__(self, inp, stride):
            super().__init__()
            self.stride = stride
            half = inp // 2 if stride == 1 else inp
            self.branch1 = nn.Sequential()
            if stride > 1:
                self.branch1 = nn.Sequential(self.depthwise_conv(half, stride), nn.Conv2d(half, half, 1), nn.ReLU(inplace=True))
            self.branch2 = nn.Sequential(
                nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
                self.depthwise_conv(half, stride), nn.BatchNorm2d(half), nn.ELU(alpha=0.9),
            )  # fmt: skip

        @staticmethod
        def depthwise_conv(channels, stride):
            return nn.Conv2d(channels, channels, 3, stride, 1, bias=False, groups=channels)

        def forward(self, x):
            if self.stride == 1:
                x1, x2 = x.chunk(2, dim=1)
                out = torch.cat((x1, self.branch2(x2)), dim=1)
            else:
                out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
            return channel_shuffle(out, 2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Sequential(nn.Conv2d(3, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
            for name, repeats in zip(["stage2", "stage3"], [2, 1], strict=True):
                units = [Unit(6 if name == "stage2" else 12, 2)]
                for _ in range(repeats - 1):
                    units.append(Unit(12, 1))
                setattr(self, name, nn.Sequential(*units))
            self.shuffle = ShuffleBlock(3)
            self.native = nn.ChannelShuffle(4)
            self.fc = nn.Linear(24, 5)

        def forward(self, x):
            x = self._modules["conv1"](x)
            x = self.stage3(self.__getattr__("stage2")(x))
            a, b = torch.split(self.native(self.shuffle(x)), [10, 14], dim=1)
            x = torch.cat([b, a], 1)
            return self.fc(x.mean(dim=(2, 3), keepdim=False))

    return Net()


def unet(torch, nn, F):
    """An encoder and decoder: the upsampled image is padded to its skip connection's size with tensors; odd sizes."""

    class DoubleConv(nn.Module):
        def __init__(self, in_channels, out_channels, mid_channels=None):
            super().__init__()
            if not mid_channels:
                mid_channels = out_channels
            self.double_conv = nn.Sequential(
                nn.Conv2d(in_channels, mid_channels, kernel_size=3, padding="same", padding_mode="reflect"),
                nn.InstanceNorm2d(mid_channels, affine=True),
                nn.LeakyReLU(0.1, inplace=True),
                nn.Conv2d(mid_channels, out_channels, kernel_size=3, padding=2, dilation=2, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            )

        def forward(self, x):
            return self.double_conv(x)

    class Up(nn.Module):
        def __init__(self, in_channels, out_channels, bilinear):
            super().__init__()
            if bilinear:
                self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            else:
                self.up = nn.ConvTranspose2d(in_channels // 2, in_channels // 2, kernel_size=2, stride=2)
            self.conv = DoubleConv(in_channels, out_channels, in_channels // 2)

        def forward(self, x1, x2):
            x1 = self.up(x1)
            diff_y = torch.tensor([x2.size()[2] - x1.size()[2]])
            diff_x = torch.tensor([x2.size()[3] - x1.size()[3]])
            x1 = F.pad(x1, [diff_x // 2, diff_x - diff_x // 2, diff_y // 2, diff_y - diff_y // 2])
            return self.conv(torch.cat([x2, x1], dim=1))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inc = DoubleConv(3, 4)
            self.downs = nn.ModuleDict({"one": DoubleConv(4, 8), "two": DoubleConv(8, 8)})
            self.up1 = Up(16, 4, bilinear=False)
            self.up2 = Up(8, 4, bilinear=True)
            self.outc = nn.Conv2d(4, 2, kernel_size=1)

        def forward(self, x):
            x1 = self.inc(x)
            x2 = self.downs["one"](F.max_pool2d(x1, 2))
            x3 = self.downs["two"](F.max_pool2d(x2, kernel_size=2, stride=2))
            y = self.up2(self.up1(x3, x2), x1)
            small = F.interpolate(input=y, size=(x.shape[-2] // 2, x.shape[-1] // 2), mode="bilinear", align_corners=False)
            return self.outc(y + F.interpolate(small, size=x.shape[2:], mode="nearest"))

    return Net()


def plain(torch, nn, F):
    """A configuration list of layers, a classifier of three Linear layers, and old names of functions."""
    from_autograd = importlib.import_module(torch.__name__ + ".autograd")

    class Net(nn.Module):
        cfg = [4, "M", 8, 8, "M", "L"]  # noqa: RUF012

        def __init__(self, init_weights: bool = True):
            super().__init__()
            self.features = self._make_layers(self.cfg)
            self.classifier = nn.Sequential(nn.Linear(8 * 2 * 2, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, 5))
            if init_weights:
                self._initialize_weights()

        def _make_layers(self, cfg):
            layers = []
            in_channels = 3
            for x in cfg:
                if x == "M":
                    layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
                elif x == "L":
                    layers += [nn.LocalResponseNorm(3), nn.AdaptiveMaxPool2d(2)]
                else:
                    layers += [nn.Conv2d(in_channels, x, kernel_size=3, padding=1), nn.BatchNorm2d(x), nn.ReLU(inplace=True)]
                    in_channels = x
            return nn.Sequential(*layers)

        def _initialize_weights(self):
            for name, m in self.named_modules():
                if isinstance(m, nn.Linear):
                    nn.init.xavier_uniform_(m.weight, gain=nn.init.calculate_gain("relu"))
                    nn.init.constant_(m.bias, 0.01)
                elif "features" in name and hasattr(m, "weight"):
                    nn.init.uniform_(m.weight, a=0.1, b=0.3)

        def forward(self, x):
            x = from_autograd.Variable(x) if not x.requires_grad else x
            out = self.features(x.type_as(self.classifier[0].weight))
            out = out.view(out.size(0), out.size(1) * out.size(2) * out.size(3))
            return F.log_softmax(self.classifier(out), dim=1)

    return Net()


def tokens(torch, nn, F):
    """Patches as tokens: unfold, transposes, matrix products, layer norms on channels last, a learned position."""

    class Net(nn.Module):
        def __init__(self, dim=8, heads=2, patch=4):
            super().__init__()
            self.heads, self.scale = heads, (dim // heads) ** -0.5
            self.patches = nn.Unfold(kernel_size=patch, stride=patch)
            self.embed = nn.Linear(3 * patch * patch, dim)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
            self.pos_embed = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
            self.norm = nn.LayerNorm(dim, eps=1e-6)
            self.qkv = nn.Linear(dim, dim * 3)
            self.mlp = nn.Sequential(nn.Linear(dim, 16), nn.GELU(), nn.Linear(16, dim))
            self.layer_scale = nn.Parameter(torch.full((dim,), fill_value=0.3))
            self.head = nn.Linear(dim, 5)
            nn.init.trunc_normal_(self.cls_token, std=0.02)

        def attend(self, x):
            B, N, C = x.shape
            qkv = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            attn = (torch.matmul(q, k.transpose(-2, -1)) * self.scale).softmax(dim=-1)
            return (attn @ v).swapaxes(1, 2).reshape(B, N, C)

        def forward(self, x):
            x = self.embed(self.patches(x).transpose(1, 2))
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
            x = x + self.layer_scale * self.attend(self.norm(x))
            x = x + self.mlp(self.norm(x))
            return self.head(x[:, 0] + x.narrow(1, 1, 16).mean(axis=1))

    return Net()


DEFINITIONS = [residual, preactivation, dense, inception, mobile, attention, shuffle, unet, plain, tokens]
# (height, width) of the images, where they are not 16 x 16
SIZES = {unet: (13, 10), tokens: (16, 16)}
