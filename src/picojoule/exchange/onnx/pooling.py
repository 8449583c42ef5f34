"""Pooling operators, with windows that reach over the border as the file has them."""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

from torch import nn

from picojoule.exchange.onnx.assembly import Assembly
from picojoule.exchange.onnx.moving import moved, reshaped
from picojoule.exchange.onnx.padding import cropped, padded, pads_of
from picojoule.exchange.onnx.shapes import windows
from picojoule.exchange.onnx.step import Activation, Step

MAX: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
ADAPTIVE: dict[str, dict[int, Any]] = {
    "avg": {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d},
    "max": {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d},
}


class Windows(NamedTuple):
    """Where the windows of a pooling lie, one number for each spatial axis, and whether the last may reach over."""

    size: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]
    up: bool

    def counts(self, shape: Sequence[int], padding: Sequence[int], behind: Sequence[int], up: bool) -> list[int]:
        """How many windows there are along each axis of a map with this padding."""
        settings = zip(shape[2:], self.size, self.strides, self.dilations, padding, behind, strict=True)
        return [windows(n, w, s, d, b + e, up, n + b) for n, w, s, d, b, e in settings]


def max_pool(step: Step, net: Assembly) -> Activation:
    """MaxPool; what lies outside never wins."""
    x, around = _windows_of(step)
    if isinstance(net.maker(x), nn.ReLU | nn.ReLU6):  # zeros win over nothing there
        return _pooled(step, net, x, around, MAX, dict(dilation=tuple(around.dilations)), zeros=True)
    return _pooled(step, net, x, around, MAX, dict(dilation=tuple(around.dilations)), zeros=False)


def average_pool(step: Step, net: Assembly) -> Activation:
    """AveragePool; what lies outside is left out of the average unless `count_include_pad` says otherwise."""
    x, around = _windows_of(step)
    if any(d != 1 for d in around.dilations):
        raise step.bad("is dilated, which no average pooling of torch is")
    counted = bool(step.whole("count_include_pad", 0))
    if counted and around.begin != around.end:
        return _padded_pool(step, net, x, around, AVERAGE, {})
    return _pooled(step, net, x, around, AVERAGE, dict(count_include_pad=counted), zeros=counted)


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


def _windows_of(step: Step) -> tuple[Activation, Windows]:
    x = step.activation()
    spatial = len(x.shape) - 2
    if spatial not in MAX:
        raise step.bad(f"pools a tensor with {len(x.shape)} axes; expected maps [B, C, H, W]")
    if "kernel_shape" not in step.attributes:
        raise step.bad("has no kernel_shape")
    size, strides, dilations = (step.sizes(name, spatial) for name in ("kernel_shape", "strides", "dilations"))
    begin, end = pads_of(step, x, size, strides, dilations)
    around = Windows(size, strides, dilations, begin, end, bool(step.whole("ceil_mode", 0)))
    if min(around.counts(x.shape, begin, end, around.up)) < 1:
        raise step.bad(f"has windows of {size}, which do not fit into maps of {list(x.shape[2:])}")
    return x, around


def _pooled(
    step: Step, net: Assembly, x: Activation, around: Windows, kinds: dict[int, Any], settings: Any, zeros: bool
) -> Activation:
    """The pooling whose windows begin where the file's do; with `zeros`, explicit padding is the last resort.

    Torch pads both ends alike: so the end is reached by more padding or by rounding up, and windows that are too many
    are cropped.
    """
    wanted = around.counts(x.shape, around.begin, around.end, around.up)
    paddings = product(*({b, max(b, e)} for b, e in zip(around.begin, around.end, strict=True)))
    for padding, up in product(sorted(paddings), (around.up, not around.up)):
        if any(2 * p > size for p, size in zip(padding, around.size, strict=True)):  # more than torch allows
            continue
        early = [(p - b) / s for p, b, s in zip(padding, around.begin, around.strides, strict=True)]
        late = [n - a - m for n, a, m in zip(around.counts(x.shape, padding, padding, up), early, wanted, strict=True)]
        if min(late) >= 0 and not any(a % 1 for a in early):
            layer = kinds[len(padding)](
                tuple(around.size), tuple(around.strides), tuple(padding), ceil_mode=up, **settings
            )
            return cropped(step, net, net.layer(step, layer, x), [int(a) for a in early], [int(n) for n in late])
    if zeros:
        return _padded_pool(step, net, x, around, kinds, settings)
    raise step.bad(
        f"pads by {around.begin} before and {around.end} behind, which cannot be done; "
        "use equal padding at both ends, of half a window at most"
    )


def _padded_pool(
    step: Step, net: Assembly, x: Activation, around: Windows, kinds: dict[int, Any], settings: Any
) -> Activation:
    """The pooling behind a layer that pads with zeros."""
    wanted = around.counts(x.shape, around.begin, around.end, around.up)
    x = padded(step, net, x, around.begin, around.end)
    layer = kinds[len(wanted)](tuple(around.size), tuple(around.strides), 0, ceil_mode=around.up, **settings)
    made = net.layer(step, layer, x)
    return cropped(step, net, made, [0] * len(wanted), [n - m for n, m in zip(made.shape[2:], wanted, strict=True)])


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
