"""A small convolutional network, quick to train on a CPU."""

from torch import nn

from picojoule.layers import pooling
from picojoule.networks.definition import Definition
from picojoule.networks.parts import Activation, convolution, dense, encoded, pooled, readout


def small_cnn(d: Definition, activation: Activation) -> list[nn.Module]:
    """C16-P2-C32-P2-FC128-FC(classes)."""
    channels, height, width = d.input_shape
    return [
        *encoded(d, convolution(channels, 16)),
        activation(),
        pooling(d.pool, 2),
        *convolution(16, 32),
        activation(),
        pooling(d.pool, 2),
        nn.Flatten(2),
        *dense(32 * pooled(height, 2) * pooled(width, 2), 128),
        activation(),
        *readout(d, 128, activation),
    ]
