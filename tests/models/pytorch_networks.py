"""The paper's residual networks in PyTorch, written from the formulas and the names of the
checkpoints."""

import torch
from torch import nn

CHANNELS = (64, 128, 256, 512)
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Flatten(nn.Module):
    def forward(self, x):
        return x.flatten(1)


class ChannelGate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        hidden = channels // 16
        linear = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.mlp = nn.Sequential(Flatten(), linear[0], nn.ReLU(), linear[1])

    def forward(self, x):
        logits = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return x * torch.sigmoid(logits)[:, :, None, None]


class ConvolutionNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1, eps=1e-5, momentum=0.01)

    def forward(self, maps):
        return self.bn(self.conv(maps))


class SpatialGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.spatial = ConvolutionNorm()

    def forward(self, x):
        maps = torch.stack([x.amax(1), x.mean(1)], 1)
        return x * torch.sigmoid(self.spatial(maps))


class CBAM(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x):
        return self.SpatialGate(self.ChannelGate(x))


class TimmChannel(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x):
        pools = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return x * torch.sigmoid(sum(self.fc2(torch.relu(self.fc1(pool))) for pool in pools))


class TimmSpatial(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = ConvolutionNorm()

    def forward(self, x):
        return x * torch.sigmoid(self.conv(torch.stack([x.mean(1), x.amax(1)], 1)))


class TimmCBAM(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.channel = TimmChannel(channels)
        self.spatial = TimmSpatial()

    def forward(self, x):
        return self.spatial(self.channel(x))


class BAMChannel(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gate_c = nn.Sequential()
        self.gate_c.add_module("flatten", Flatten())
        self.gate_c.add_module("gate_c_fc_0", nn.Linear(channels, channels // 16))
        self.gate_c.add_module("gate_c_bn_1", nn.BatchNorm1d(channels // 16))
        self.gate_c.add_module("gate_c_relu_1", nn.ReLU())
        self.gate_c.add_module("gate_c_fc_final", nn.Linear(channels // 16, channels))

    def forward(self, x):
        return self.gate_c(x.mean((2, 3)))[:, :, None, None]


class BAMSpatial(nn.Module):
    def __init__(self, channels):
        super().__init__()
        hidden = channels // 16
        self.gate_s = nn.Sequential()
        self.gate_s.add_module("gate_s_conv_reduce0", nn.Conv2d(channels, hidden, 1))
        self.gate_s.add_module("gate_s_bn_reduce0", nn.BatchNorm2d(hidden))
        self.gate_s.add_module("gate_s_relu_reduce0", nn.ReLU())
        for i in range(2):
            dilated = nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4)
            self.gate_s.add_module(f"gate_s_conv_di_{i}", dilated)
            self.gate_s.add_module(f"gate_s_bn_di_{i}", nn.BatchNorm2d(hidden))
            self.gate_s.add_module(f"gate_s_relu_di_{i}", nn.ReLU())
        self.gate_s.add_module("gate_s_conv_final", nn.Conv2d(hidden, 1, 1))

    def forward(self, x):
        return self.gate_s(x)


class BAM(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.channel_att = BAMChannel(channels)
        self.spatial_att = BAMSpatial(channels)

    def forward(self, x):
        return x * (1 + torch.sigmoid(self.channel_att(x) * self.spatial_att(x)))


class Block(nn.Module):
    def __init__(self, inputs, planes, stride, is_bottleneck, attention, groups, base_width):
        super().__init__()
        outputs = 4 * planes if is_bottleneck else planes
        if is_bottleneck:
            inner = planes * base_width // 64 * groups
            shapes = [(inputs, inner, 1, 1, 1), (inner, inner, 3, stride, groups)]
            shapes.append((inner, outputs, 1, 1, 1))
        else:
            shapes = [(inputs, planes, 3, stride, 1), (planes, planes, 3, 1, 1)]
        self.length = len(shapes)
        for i, (before, after, size, step, parts) in enumerate(shapes, 1):
            convolution = nn.Conv2d(
                before, after, size, step, padding=size // 2, groups=parts, bias=False
            )
            self.add_module(f"conv{i}", convolution)
            self.add_module(f"bn{i}", nn.BatchNorm2d(after))
        self.downsample = None
        if stride > 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))
        if attention == "cbam":
            self.cbam = CBAM(outputs)
        elif attention == "timm":
            self.se = TimmCBAM(outputs)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        for i in range(1, self.length + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            x = torch.relu(x) if i < self.length else x
        for name in ("cbam", "se"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return torch.relu(x + shortcut)


class ResNet(nn.Module):
    def __init__(
        self, depth, attention, num_classes=10, width=1.0, groups=1, base_width=64, stem="imagenet"
    ):
        super().__init__()
        is_bottleneck = depth >= 50
        self.stem = stem
        stem = (7, 2, 3) if stem == "imagenet" else (3, 1, 1)
        self.conv1 = nn.Conv2d(3, 64, stem[0], stem[1], stem[2], bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, (planes, count) in enumerate(zip(CHANNELS, BLOCKS[depth]), 1):
            planes = int(planes * width)
            blocks = []
            for i in range(count):
                stride = 2 if stage > 1 and i == 0 else 1
                blocks.append(
                    Block(channels, planes, stride, is_bottleneck, attention, groups, base_width)
                )
                channels = 4 * planes if is_bottleneck else planes
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            if attention == "bam" and stage < 4:
                self.add_module(f"bam{stage}", BAM(channels))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        if self.stem == "imagenet":
            x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
            if hasattr(self, f"bam{stage}"):
                x = getattr(self, f"bam{stage}")(x)
        return self.fc(x.mean((2, 3)))


def randomized(network, seed=0):
    """Random weights with which every part of the network shows in its outputs."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            fan = module.weight[0].numel()
            module.weight.data.normal_(0, (2 / fan) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.2, generator=generator)
    return network.eval()
