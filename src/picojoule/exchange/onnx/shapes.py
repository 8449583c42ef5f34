"""The shape that a layer makes of a shape, by arithmetic: no numbers are computed while a file is read."""

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from picojoule.layers import Crop2d, Permute, Reshape

Shape = tuple[int, ...]


def shape_after(layer: nn.Module, shape: Shape) -> Shape:
    """The shape of what `layer` gives for a tensor `[B, ...]`; layers that are not listed keep it.

    Raises ValueError where the layer cannot take the tensor, with what it expects.
    """
    for kinds, rule in _RULES.items():
        if isinstance(layer, kinds):
            return rule(layer, shape)
    return shape


def joined(shapes: list[Shape], axis: int | None) -> Shape:
    """The shape of tensors of equal rank side by side along `axis`, or broadcast against each other (None)."""
    if axis is None:
        sizes = [{size for size in column if size != 1} for column in zip(*shapes, strict=True)]
        if any(len(size) > 1 for size in sizes):
            raise ValueError("sizes differ")
        return tuple(size.pop() if size else 1 for size in sizes)
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rest) > 1:
        raise ValueError(f"sizes differ beside axis {axis}")
    return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])


def windows(length: int, window: int, stride: int, dilation: int, pads: int, up: bool, inside: int) -> int:
    """How many windows fit; rounding up, the last one begins before `inside`, the start of the padding behind."""
    room = length + pads - dilation * (window - 1) - 1
    count = (-(-room // stride) if up else room // stride) + 1
    return count - 1 if up and (count - 1) * stride >= inside else count


def _linear(layer: Any, shape: Shape) -> Shape:
    if shape[-1] != layer.in_features:
        raise ValueError(f"expected {layer.in_features} features")
    return (*shape[:-1], layer.out_features)


def _conv(layer: Any, shape: Shape) -> Shape:
    _expect(len(shape) == len(layer.kernel_size) + 2, f"expected {len(layer.kernel_size) + 2} axes")
    _expect(shape[1] == layer.in_channels, f"expected {layer.in_channels} channels")
    settings = zip(shape[2:], layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True)
    sizes = [windows(n, k, s, d, 2 * p, False, n) for n, k, s, d, p in settings]
    return (shape[0], layer.out_channels, *_positive(sizes))


def _conv_transpose(layer: Any, shape: Shape) -> Shape:
    _expect(len(shape) == len(layer.kernel_size) + 2, f"expected {len(layer.kernel_size) + 2} axes")
    _expect(shape[1] == layer.in_channels, f"expected {layer.in_channels} channels")
    more = layer.output_padding
    _expect(
        all(o < max(s, d) for o, s, d in zip(more, layer.stride, layer.dilation, strict=True)),
        "expected an output padding smaller than the stride",
    )
    settings = zip(shape[2:], layer.kernel_size, layer.stride, layer.dilation, layer.padding, more, strict=True)
    sizes = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, d, p, o in settings]
    return (shape[0], layer.out_channels, *_positive(sizes))


def _norm(layer: Any, shape: Shape) -> Shape:
    _expect(shape[1] == layer.num_features, f"expected {layer.num_features} channels")
    return shape


def _pool(layer: Any, shape: Shape) -> Shape:
    rank = len(shape) - 2
    sizes, strides, pads = (_each(v, rank) for v in (layer.kernel_size, layer.stride, layer.padding))
    dilations = _each(getattr(layer, "dilation", 1), rank)
    _expect(all(2 * p <= k for p, k in zip(pads, sizes, strict=True)), "expected padding of half a window at most")
    settings = zip(shape[2:], sizes, strides, dilations, pads, strict=True)
    made = [windows(n, k, s, d, 2 * p, layer.ceil_mode, n + p) for n, k, s, d, p in settings]
    return (*shape[:2], *_positive(made))


def _adaptive(layer: Any, shape: Shape) -> Shape:
    sizes = _each(layer.output_size, len(shape) - 2)
    return (*shape[:2], *(n if size is None else size for size, n in zip(sizes, shape[2:], strict=True)))


def _pad(layer: Any, shape: Shape) -> Shape:
    pads = layer.padding
    sizes = [n + pads[2 * i] + pads[2 * i + 1] for i, n in enumerate(reversed(shape[-len(pads) // 2 :]))]
    return (*shape[: -len(pads) // 2], *_positive(sizes[::-1]))


def _crop(layer: Crop2d, shape: Shape) -> Shape:
    height, width = shape[-2] - layer.top - layer.bottom, shape[-1] - layer.left - layer.right
    return (*shape[:-2], *_positive([height, width]))


def _upsample(layer: Any, shape: Shape) -> Shape:
    rank = len(shape) - 2
    if layer.size is not None:
        return (*shape[:2], *_each(layer.size, rank))
    factors = _each(layer.scale_factor, rank)
    return (*shape[:2], *_positive([math.floor(n * f) for n, f in zip(shape[2:], factors, strict=True)]))


def _pixel_shuffle(layer: Any, shape: Shape) -> Shape:
    factor = layer.upscale_factor
    return (shape[0], shape[1] // factor**2, shape[2] * factor, shape[3] * factor)


def _each(value: Any, rank: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,) * rank


def _positive(sizes: list[int]) -> list[int]:
    _expect(min(sizes) > 0, f"nothing is left of it ({sizes})")
    return sizes


def _expect(right: bool, what: str) -> None:
    if not right:
        raise ValueError(what)


_RULES: dict[tuple[type[nn.Module], ...], Callable[[Any, Shape], Shape]] = {
    (nn.Linear,): _linear,
    (nn.Conv1d, nn.Conv2d, nn.Conv3d): _conv,
    (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d): _conv_transpose,
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d): _norm,
    (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d): _pool,
    (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d): _adaptive,
    (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d): _adaptive,
    (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d): _pad,
    (nn.PixelShuffle,): _pixel_shuffle,
    (nn.Upsample,): _upsample,
    (nn.Flatten,): lambda layer, shape: (shape[0], math.prod(shape[1:])),
    (Permute,): lambda layer, shape: (shape[0], *(shape[1 + d] for d in layer.dims)),
    (Reshape,): lambda layer, shape: (shape[0], *layer.shape),
    (Crop2d,): _crop,
}
