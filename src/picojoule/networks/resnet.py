"""Residual networks for small images."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from picojoule.layers import Timewise
from picojoule.networks.definition import Definition
from picojoule.networks.parts import Activation, convolution, encoded, readout


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 and a way around them, over maps `[T, B, C, H, W]`.

    What is added up are currents, before the neurons: `activation(norm(conv(...)) + shortcut)`. So events stay
    binary; an identity shortcut adds events to currents, which passes no weight and counts as no synaptic operation.
    Where sides or channels change, the shortcut is a 1 x 1 convolution with its norm, `downsample`, whose synapses
    count like any other's.
    """

    def __init__(self, channels: int, out: int, stride: int, activation: Activation):
        super().__init__()
        self.conv1, self.norm1 = convolution(channels, out, stride=stride)
        self.activation1 = activation()
        self.conv2, self.norm2 = convolution(out, out)
        self.downsample = None
        if stride != 1 or channels != out:
            conv, norm = convolution(channels, out, size=1, stride=stride)
            self.downsample = nn.Sequential(OrderedDict(conv=conv, norm=norm))
        self.activation2 = activation()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.activation1(self.norm1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.activation2(self.norm2(self.conv2(inner)) + shortcut)


def resnet18(d: Definition, activation: Activation) -> list[nn.Module]:
    """C64, then 2 residual blocks each of 64, 128, 256 and 512 channels, global average pooling, FC(classes).

    Source: He et al. 2016 (from memory), with the stem that is usual for images of 32 x 32: 3 x 3, no pooling.
    """
    return _resnet(d, activation, (64, 128, 256, 512), 2)


def resnet20(d: Definition, activation: Activation) -> list[nn.Module]:
    """C16, then 3 residual blocks each of 16, 32 and 64 channels, global average pooling, FC(classes).

    Source: the CIFAR-10 network of He et al. 2016 (from memory). The paper's shortcut pads with
    zeros where the sides change; here it is a 1 x 1 convolution, the usual alternative.
    """
    return _resnet(d, activation, (16, 32, 64), 3)


def _resnet(d: Definition, activation: Activation, widths: Sequence[int], blocks: int) -> list[nn.Module]:
    """Residual stages of `blocks` blocks; from the second stage on, the first block halves the sides."""
    before, height, width = d.input_shape
    parts = [*encoded(d, convolution(before, widths[0])), activation()]
    before = widths[0]
    for stage, channels in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            parts.append(ResidualBlock(before, channels, stride, activation))
            before, height, width = channels, -(-height // stride), -(-width // stride)
    pool = Timewise(nn.AvgPool2d((height, width)))
    return [*parts, pool, nn.Flatten(2), *readout(d, before, activation)]
