"""VGG11 for small images: plain convolutions, the deepest of the feed-forward networks."""

from torch import nn

from picojoule.layers import pooling
from picojoule.networks.definition import Definition
from picojoule.networks.parts import Activation, convolution, encoded, pooled, readout

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg11(d: Definition, activation: Activation) -> list[nn.Module]:
    """C64-P2-C128-P2-C256-C256-P2-C512-C512-P2-C512-C512-P2-FC(classes), batch norm behind every convolution.

    Source: configuration A of Simonyan and Zisserman 2015, arXiv 1409.1556, with one fully connected layer instead
    of three, as is usual for images of 32 x 32 (our choice).
    """
    before, height, width = d.input_shape
    side = pooled(height, len(_STAGES)) * pooled(width, len(_STAGES))
    parts: list[nn.Module] = []
    for stage in _STAGES:
        for channels in stage:
            weights = convolution(before, channels)
            parts += [*(weights if parts else encoded(d, weights)), activation()]
            before = channels
        parts.append(pooling(d.pool, 2))
    return [*parts, nn.Flatten(2), *readout(d, before * side, activation)]
