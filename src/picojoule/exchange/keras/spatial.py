"""What layers with windows share: where the channels lie, and the padding that Keras calls "same"."""

from picojoule.exchange.keras.assembly import Assembly, Map, in_order
from picojoule.exchange.keras.layer import Layer

Borders = tuple[tuple[int, int], ...]
"""How much is added before and behind each axis over which windows slide."""


def channels_first(layer: Layer) -> bool:
    """Whether the layer takes `[C, H, W]`."""
    return layer.choice("data_format", ("channels_last", "channels_first"), "channels_last") == "channels_first"


def facing(layer: Layer, x: Map, net: Assembly, rank: int) -> Map:
    """`x` with its channels in front of `rank` axes, as torch's layers take it."""
    if len(x.shape) != rank + 1:
        raise layer.refuse(f"needs inputs of {rank + 1} axes behind the batch, got shape {x.shape}")
    axes = in_order(rank + 1) if channels_first(layer) else (rank, *range(rank))
    return net.turned(x, axes, layer.path)


def same(sizes: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...]) -> Borders:
    """The borders that give `ceil(size / stride)` outputs, the odd one behind.

    Source: Keras and TensorFlow pad so; `window` is the extent of a dilated kernel.
    """
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, window, stride, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def borders_of(layer: Layer, x: Map, window: tuple[int, ...], stride: tuple[int, ...]) -> Borders:
    """The borders of a convolution or pooling on `x`, whose channels lie in front.

    Theano pads otherwise than TensorFlow except where stride is 1 and the window odd.
    """
    padding = layer.choice("padding", ("valid", "same"), "valid")
    if padding == "valid":
        return ((0, 0),) * len(window)
    if layer.backend == "theano" and (set(stride) != {1} or any(k % 2 == 0 for k in window)):
        raise layer.refuse(
            "has padding 'same' with a stride or an even window, which Theano places in its own way; "
            "save the model with Keras on TensorFlow"
        )
    return same(x.ours[1:], window, stride)
