"""Padding: what a node asks for, explicit or automatic, and as a layer."""

from collections.abc import Sequence

from torch import nn

from picojoule.exchange.onnx.assembly import Assembly
from picojoule.exchange.onnx.step import LARGEST, Activation, Step
from picojoule.layers import Crop2d


def pads_of(
    step: Step, x: Activation, size: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding at the beginning and the end of each spatial axis, for windows of `size`."""
    spatial = len(size)
    automatic = step.text("auto_pad", "NOTSET")
    if automatic in ("", "NOTSET"):
        pads = step.sizes("pads", 2 * spatial, 0)
        return pads[:spatial], pads[spatial:]
    if automatic == "VALID":
        return [0] * spatial, [0] * spatial
    if automatic not in ("SAME_UPPER", "SAME_LOWER"):
        raise step.bad(f"has auto_pad {automatic!r}; expected SAME_UPPER, SAME_LOWER or VALID")
    begin, end = [], []
    for length, window, stride, dilation in zip(x.shape[2:], size, strides, dilations, strict=True):
        total = max(0, (-(-length // stride) - 1) * stride + dilation * (window - 1) + 1 - length)
        small, large = total // 2, total - total // 2
        begin.append(small if automatic == "SAME_UPPER" else large)
        end.append(large if automatic == "SAME_UPPER" else small)
    return begin, end


def padded(step: Step, net: Assembly, x: Activation, begin: Sequence[int], end: Sequence[int]) -> Activation:
    """`x` with zeros around its rows and columns; negative numbers crop."""
    if len(begin) > 2 or len(x.shape) - 2 != len(begin):
        raise step.bad(f"pads a tensor with {len(x.shape)} axes unevenly; expected maps [B, C, H, W]")
    if max(map(abs, [*begin, *end])) > LARGEST:
        raise step.bad(f"pads by {[*begin, *end]}; expected at most {LARGEST}")
    around = [max(0, n) for pair in zip(reversed(begin), reversed(end), strict=True) for n in pair]
    if any(around):
        layer = nn.ZeroPad2d(tuple(around)) if len(begin) == 2 else nn.ZeroPad1d(tuple(around))  # pyright: ignore[reportArgumentType]
        x = net.layer(step, layer, x, part="pad")
    return cropped(step, net, x, [max(0, -n) for n in begin], [max(0, -n) for n in end])


def cropped(step: Step, net: Assembly, x: Activation, begin: Sequence[int], end: Sequence[int]) -> Activation:
    """`x` without some of its first and last rows and columns."""
    if not any((*begin, *end)):
        return x
    if len(x.shape) != 4 or len(begin) != 2:
        raise step.bad(f"crops a tensor with {len(x.shape)} axes; expected maps [B, C, H, W]")
    return net.layer(step, Crop2d(begin[1], end[1], begin[0], end[0]), x, part="crop")


def sliced(step: Step, net: Assembly, x: Activation, begin: Sequence[int], end: Sequence[int]) -> Activation:
    """`x` without some of the first and last places of every axis, the batch included among `begin` and `end`."""
    if begin[0] or end[0]:
        raise step.bad("takes some of the samples; expected the whole batch")
    if not any((*begin, *end)):
        return x
    if len(begin) == 4 and not begin[1] and not end[1]:
        return cropped(step, net, x, begin[2:], end[2:])
    kind = {2: nn.ZeroPad1d, 3: nn.ZeroPad2d, 4: nn.ZeroPad3d}.get(len(begin))
    if kind is None:
        raise step.bad(f"takes a part of a tensor with {len(begin)} axes; expected 2 to 4")
    off = [-n for pair in zip(reversed(begin[1:]), reversed(end[1:]), strict=True) for n in pair]
    return net.layer(step, kind(tuple(off)), x)  # padding by less than nothing


def pad(step: Step, net: Assembly) -> Activation:
    """Pad with zeros, around rows and columns."""
    x = step.activation()
    mode, pads = step.text("mode", "constant"), step.listed("pads", 1)
    value = step.number("value", 0.0) if step.opset < 11 else step.scalar(2, 0.0)
    if mode != "constant" or value:
        raise step.bad(f"pads in mode {mode} with {value:g}; only zeros can be padded, as no spikes")
    rank = len(x.shape)
    given = step.listed("axes", 3) if step.opset >= 18 and step.given(3) is not None else None
    axes = list(range(rank)) if given is None else [a % rank for a in given]
    if pads is None or len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise step.bad(f"has {len(pads or [])} numbers of padding for {len(axes)} axes")
    begin, end = [0] * rank, [0] * rank
    for axis, first, last in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        begin[axis], end[axis] = first, last
    if any((*begin[:2], *end[:2])):
        raise step.bad("pads samples or channels; expected padding around rows and columns")
    return padded(step, net, x, begin[2:], end[2:]) if any((*begin, *end)) else x
