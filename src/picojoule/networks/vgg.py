"""VGG for small images: plain convolutions, the deepest of the feed-forward networks."""

from torch import nn

from picojoule.layers import Timewise, pooling
from picojoule.networks.definition import Definition
from picojoule.networks.parts import Activation, convolution, dense, encoded, pooled, readout

_STAGES = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}
_HEADS = {"vgg11": (), "vgg16": (512,), "vgg16-4096": (4096, 4096)}


def vgg(d: Definition, activation: Activation) -> list[nn.Module]:
    """vgg11: C64-P2-C128-P2-C256-C256-P2-C512-C512-P2-C512-C512-P2-FC(classes); batch norm behind every convolution.

    vgg16: configuration D with a hidden layer of 512 and its norm, as in the scripts of SpKeras; vgg16-4096 has two of
    4096 without norm instead. `d.dropout` is a share of SpKeras's rates: 0.3 behind the first convolution, 0.4 behind
    the others but for the second of the first two stages, 0.5 before and behind each hidden layer; vgg11 has none.

    Source: configurations A and D of Simonyan and Zisserman 2015, arXiv 1409.1556, for images of 32 x 32;
    on larger ones the first dense layer has as many more inputs as the last maps have pixels.
    """
    before, height, width = d.input_shape
    stages, hidden = _STAGES[d.name.split("-")[0]], _HEADS[d.name]
    features = stages[-1][-1] * pooled(height, len(stages)) * pooled(width, len(stages))
    parts: list[nn.Module] = []
    for stage, widths in enumerate(stages):
        for place, channels in enumerate(widths):
            weights = convolution(before, channels)
            rate = 0.3 if not parts else 0.0 if place == 1 and stage < 2 else 0.4
            parts += [*(weights if parts else encoded(d, weights)), activation(), *_dropout(d, rate)]
            before = channels
        parts.append(pooling(d.pool, 2))
    parts += [*_dropout(d, 0.5), nn.Flatten(2)]
    for width in hidden:
        weights = dense(features, width) if width == 512 else [nn.Linear(features, width)]
        parts += [*weights, activation(), *_dropout(d, 0.5)]
        features = width
    return [*parts, *readout(d, features, activation)]


def _dropout(d: Definition, rate: float) -> list[nn.Module]:
    return [Timewise(nn.Dropout(rate * d.dropout))] if rate * d.dropout > 0 else []
