"""Pooling operators, with windows that reach over the border as the file has them."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from torch import nn

from picojoule.exchange.onnx.assembly import Assembly
from picojoule.exchange.onnx.moving import moved, reshaped
from picojoule.exchange.onnx.padding import cropped, padded, pads_of
from picojoule.exchange.onnx.step import Activation, Step

MAX: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE: dict[str, dict[int, Any]] = {
    "avg": {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d},
    "max": {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d},
}


def max_pool(step: Step, net: Assembly) -> Activation:
    """MaxPool; what lies outside never wins."""
    x, size, strides, spatial = _window(step)
    dilations = step.sizes("dilations", spatial)
    begin, end = pads_of(step, x, size, strides, dilations)
    return _pooled(step, net, x, MAX[spatial], dict(dilation=dilations), size, strides, dilations, begin, end)


def average_pool(step: Step, net: Assembly) -> Activation:
    """AveragePool; what lies outside is left out of the average unless `count_include_pad` says otherwise."""
    x, size, strides, spatial = _window(step)
    if step.sizes("dilations", spatial) != [1] * spatial:
        raise step.bad("is dilated, which no average pooling of torch is")
    begin, end = pads_of(step, x, size, strides, [1] * spatial)
    counted = bool(step.whole("count_include_pad", 0))
    if counted and begin != end:
        x, begin, end = padded(step, net, x, begin, end), [0] * spatial, [0] * spatial
    settings = dict(count_include_pad=counted)
    return _pooled(step, net, x, AVERAGE[spatial], settings, size, strides, [1] * spatial, begin, end)


def global_average_pool(step: Step, net: Assembly) -> Activation:
    """GlobalAveragePool."""
    return _global(step, net, "avg")


def global_max_pool(step: Step, net: Assembly) -> Activation:
    """GlobalMaxPool."""
    return _global(step, net, "max")


def reduce_mean(step: Step, net: Assembly) -> Activation:
    """ReduceMean over rows and columns, wherever these axes are."""
    return _reduced(step, net, "avg")


def reduce_max(step: Step, net: Assembly) -> Activation:
    """ReduceMax over rows and columns, wherever these axes are."""
    return _reduced(step, net, "max")


def _window(step: Step) -> tuple[Activation, list[int], list[int], int]:
    x = step.activation()
    spatial = len(x.shape) - 2
    if spatial not in MAX:
        raise step.bad(f"pools a tensor with {len(x.shape)} axes; expected maps [B, C, H, W]")
    if "kernel_shape" not in step.attributes:
        raise step.bad("has no kernel_shape")
    return x, step.sizes("kernel_shape", spatial), step.sizes("strides", spatial), spatial


def _pooled(
    step: Step,
    net: Assembly,
    x: Activation,
    kind: Any,
    settings: dict[str, Any],
    size: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    begin: list[int],
    end: list[int],
) -> Activation:
    """The pooling whose windows begin where the file's do.

    Torch pads both ends alike: so the end is reached by more padding or by rounding up, and windows that are too many
    are cropped.
    """
    up = bool(step.whole("ceil_mode", 0))
    wanted = [
        _windows(length, w, s, d, b + e, up, length + b)
        for length, w, s, d, b, e in zip(x.shape[2:], size, strides, dilations, begin, end, strict=True)
    ]
    paddings = product(*({b, max(b, e)} for b, e in zip(begin, end, strict=True)))
    for padding, ceil in product(sorted(paddings), (up, not up)):
        early = [(p - b) / s for p, b, s in zip(padding, begin, strides, strict=True)]  # windows before the first
        got = [
            _windows(length, w, s, d, 2 * p, ceil, length + p) - a
            for length, w, s, d, p, a in zip(x.shape[2:], size, strides, dilations, padding, early, strict=True)
        ]
        if min(wanted) > 0 and all(a >= b for a, b in zip(got, wanted, strict=True)) and not any(a % 1 for a in early):
            layer = kind(tuple(size), tuple(strides), tuple(padding), ceil_mode=ceil, **_tuples(settings))
            late = [int(a - b) for a, b in zip(got, wanted, strict=True)]
            return cropped(step, net, net.layer(step, layer, x), [int(a) for a in early], late)
    if isinstance(net.maker(x), nn.ReLU | nn.ReLU6) and kind in MAX.values():  # zeros win over nothing there
        around = padded(step, net, x, begin, end)
        layer = kind(tuple(size), tuple(strides), 0, ceil_mode=up, **_tuples(settings))
        return net.layer(step, layer, around)
    raise step.bad(f"pads by {begin} before and {end} behind, which cannot be done; use equal padding at both ends")


def _windows(length: int, window: int, stride: int, dilation: int, pads: int, up: bool, inside: int) -> int:
    """How many windows fit; rounding up, the last one begins before `inside`, the start of the padding behind."""
    room = length + pads - dilation * (window - 1) - 1
    count = (-(-room // stride) if up else room // stride) + 1
    return count - 1 if up and (count - 1) * stride >= inside else count


def _tuples(settings: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


def _global(step: Step, net: Assembly, how: str) -> Activation:
    x = step.activation()
    kind = ADAPTIVE[how].get(len(x.shape) - 2)
    if kind is None:
        raise step.bad(f"pools a tensor with {len(x.shape)} axes; expected maps [B, C, H, W]")
    return net.layer(step, kind(1), x)


def _reduced(step: Step, net: Assembly, how: str) -> Activation:
    x = step.activation()
    rank = len(x.shape)
    given = step.listed("axes", 1)
    if not given and step.whole("noop_with_empty_axes", 0):
        return x
    axes = step.axes(given or range(rank), rank)
    if 0 in axes or rank not in (3, 4, 5):
        raise step.bad(f"reduces axes {axes} of a tensor with {rank} axes; expected rows and columns of maps")
    kept = [size for axis, size in enumerate(x.shape) if axis not in axes][1:]
    full = [1 if axis in axes else size for axis, size in enumerate(x.shape)][1:]
    if axes == list(range(1, rank - 1)):  # channels last
        x, axes = moved(step, net, x, [rank - 1, *axes]), list(range(2, rank))
    if 1 in axes:
        raise step.bad(f"reduces axes {axes} of a tensor with {rank} axes; expected rows and columns of maps")
    size = 1 if len(axes) == rank - 2 else tuple(1 if axis in axes else None for axis in range(2, rank))
    pooled = net.layer(step, ADAPTIVE[how][rank - 2](size), x)
    return reshaped(step, net, pooled, full if step.whole("keepdims", 1) else kept)
