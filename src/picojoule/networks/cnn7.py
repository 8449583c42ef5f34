"""A convolutional network of seven weight layers."""

from torch import nn

from picojoule.layers import pooling
from picojoule.networks.definition import Definition
from picojoule.networks.parts import Activation, convolution, dense, encoded, pooled, readout


def cnn7(d: Definition, activation: Activation) -> list[nn.Module]:
    """C64-C64-P2-C128-C128-P2-C256-P2-FC512-FC(classes): seven weight layers."""
    channels, height, width = d.input_shape
    return [
        *encoded(d, convolution(channels, 64)),
        activation(),
        *convolution(64, 64),
        activation(),
        pooling(d.pool, 2),
        *convolution(64, 128),
        activation(),
        *convolution(128, 128),
        activation(),
        pooling(d.pool, 2),
        *convolution(128, 256),
        activation(),
        pooling(d.pool, 2),
        nn.Flatten(2),
        *dense(256 * pooled(height, 3) * pooled(width, 3), 512),
        activation(),
        *readout(d, 512, activation),
    ]
