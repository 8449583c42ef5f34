"""Operators that only move numbers: reshape, transpose, slice, split, gather, concatenate, resize."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from picojoule.exchange.onnx.assembly import BATCH, Assembly
from picojoule.exchange.onnx.constants import slices
from picojoule.exchange.onnx.padding import sliced
from picojoule.exchange.onnx.step import Activation, Step, Value
from picojoule.layers import Permute, Reshape


def reshaped(step: Step, net: Assembly, x: Activation, sample: Sequence[int]) -> Activation:
    """`x` with samples of another shape: no layer where nothing changes, `nn.Flatten` for one axis."""
    if list(sample) == list(x.sample):
        return x
    if math.prod(sample) != math.prod(x.sample):
        raise step.bad(f"makes {list(sample)} of {list(x.sample)} behind the batch, which holds other numbers")
    if len(sample) == 1 and len(x.sample) > 1:
        return net.layer(step, nn.Flatten(), x)
    if isinstance(net.maker(x), nn.Flatten | Reshape) and list(net.before(x).sample) == list(sample):
        return net.before(x)
    return net.layer(step, Reshape(*sample), x)


def moved(step: Step, net: Assembly, x: Activation, axes: Sequence[int]) -> Activation:
    """`x` with its axes behind the batch in another order; two permutations that undo each other vanish."""
    if list(axes) == sorted(axes):
        return x
    maker = net.maker(x)
    if isinstance(maker, Permute) and [maker.dims[a - 1] for a in axes] == sorted(maker.dims):
        return net.before(x)
    return net.layer(step, Permute(*(a - 1 for a in axes)), x)


def reshape(step: Step, net: Assembly) -> Activation:
    """Reshape whose shape is known; the first axis has to stay the batch, whatever number the file has for it."""
    x = step.activation()
    wanted = step.listed("shape", 1) or []
    if any(v < -1 for v in wanted) or wanted.count(-1) > 1 or not wanted or len(wanted) > 8:
        raise step.bad(f"has the shape {wanted[:9]}; expected up to 8 sizes, one of them -1 at most")
    if not step.whole("allowzero", 0):
        wanted = [x.shape[i] if v == 0 and i < len(x.shape) else v for i, v in enumerate(wanted)]
    total, first, rest = math.prod(x.sample), wanted[0], wanted[1:]
    if -1 in rest:
        known = -math.prod(rest)
        rest = [total // known if v == -1 and known else v for v in rest]
    if math.prod(rest) != total or first not in (-1, BATCH, net.batch):
        raise step.bad(
            f"makes {wanted} of samples of shape {list(x.sample)}, which mixes the batch with other axes; "
            "expected the first axis to stay the batch"
        )
    return reshaped(step, net, x, rest)


def flatten(step: Step, net: Assembly) -> Activation:
    """Flatten behind the batch."""
    x = step.activation()
    axis = step.whole("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    if not 1 <= axis <= len(x.shape) or math.prod(x.shape[1:axis]) != 1:
        raise step.bad(f"flattens from axis {axis} of {list(x.sample)} behind the batch, which mixes samples; use 1")
    return reshaped(step, net, x, [math.prod(x.sample)])


def squeeze(step: Step, net: Assembly) -> Activation:
    """Squeeze of axes behind the batch."""
    x = step.activation()
    given = step.listed("axes", 1)
    every = [i for i, size in enumerate(x.shape) if size == 1]
    axes = every if given is None else step.axes(given, len(x.shape))
    if any(x.shape[a] != 1 for a in axes):
        raise step.bad(f"squeezes axes {axes} of {list(x.sample)} behind the batch, which are not all of size 1")
    return reshaped(step, net, x, [size for i, size in enumerate(x.shape) if i not in axes][1:])


def unsqueeze(step: Step, net: Assembly) -> Activation:
    """Unsqueeze behind the batch."""
    x = step.activation()
    given = step.listed("axes", 1) or []
    rank = len(x.shape) + len(given)
    axes = step.axes(given, rank)
    if 0 in axes or rank > 8:
        raise step.bad(f"puts new axes at {given[:8]}; expected them behind the batch")
    sizes = iter(x.sample)
    return reshaped(step, net, x, [1 if axis in axes else next(sizes) for axis in range(1, rank)])


def transpose(step: Step, net: Assembly) -> Activation:
    """Transpose that keeps the batch in front."""
    x = step.activation()
    perm = step.wholes("perm") or list(reversed(range(len(x.shape))))
    if sorted(perm) != list(range(len(x.shape))) or perm[0] != 0:
        raise step.bad(f"reorders axes as {perm[:8]}; expected every axis once and the batch to stay in front")
    return moved(step, net, x, perm[1:])


def concatenate(step: Step, net: Assembly) -> Activation:
    """Concat of tensors along an axis behind the batch."""
    inputs = [step.activation(i) for i in range(len(step.inputs))]
    axis = step.axes([step.whole("axis", 1)], len(inputs[0].shape))[0]
    return inputs[0] if len(inputs) == 1 else net.joined(step, torch.cat, inputs, axis)


def crop(step: Step, net: Assembly) -> Activation:
    """Slice of channels, rows and columns; slices of everything vanish."""
    x = step.activation()
    begin, end = [0] * len(x.shape), [0] * len(x.shape)
    for axis, start, stop, pace in slices(step, len(x.shape)):
        if pace != 1:
            raise step.bad(f"takes every {pace}th index of axis {axis}; use a pooling or a convolution with a stride")
        first, last, _ = slice(start, stop).indices(x.shape[axis])
        begin[axis], end[axis] = first, x.shape[axis] - max(first, last)
    return sliced(step, net, x, begin, end)


def _piece(step: Step, net: Assembly, x: Activation, axis: int, first: int, size: int) -> Activation:
    begin, end = [0] * len(x.shape), [0] * len(x.shape)
    begin[axis], end[axis] = first, x.shape[axis] - first - size
    return sliced(step, net, x, begin, end)


def split(step: Step, net: Assembly) -> list[Value]:
    """Split into pieces of given or equal sizes, each of which is a slice."""
    x = step.activation()
    (axis,) = step.axes([step.whole("axis", 0)], len(x.shape))
    size = -(-x.shape[axis] // step.outputs)
    sizes = step.listed("split", 1) or [min(size, x.shape[axis] - i * size) for i in range(step.outputs)]
    if not axis or len(sizes) != step.outputs or min(sizes) < 1 or sum(sizes) != x.shape[axis]:
        raise step.bad(f"cuts axis {axis} of {list(x.sample)} behind the batch into {sizes[:8]}; expected what fits")
    return [_piece(step, net, x, axis, sum(sizes[:i]), size) for i, size in enumerate(sizes)]


def gather(step: Step, net: Assembly) -> Activation:
    """Gather of one index, or of indices in a row, along an axis behind the batch."""
    x, index = step.activation(), step.constant(1)
    (axis,) = step.axes([step.whole("axis", 0)], len(x.shape))
    size, flat = x.shape[axis], [int(i) for i in index.reshape(-1)[: x.shape[axis] + 1]]
    first = flat[0] + size * (flat[0] < 0) if flat else -1
    if not axis or index.ndim > 1 or first < 0 or [i % size for i in flat] != [*range(first, first + len(flat))]:
        raise step.bad(f"picks {flat[:8]} of axis {axis}; expected neighbours in their order, behind the batch")
    piece = _piece(step, net, x, axis, first, len(flat))
    kept = [*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]]
    return reshaped(step, net, piece, kept[1:])


def depth_to_space(step: Step, net: Assembly) -> Activation:
    """DepthToSpace, with channels in either order."""
    x, block = step.activation(), step.whole("blocksize", 0)
    if len(x.shape) != 4 or block < 1 or x.shape[1] % block**2:
        raise step.bad(f"makes blocks of {block} x {block} of {list(x.sample)}, which does not divide its channels")
    channels, *maps = x.sample
    if step.text("mode", "DCR") == "DCR":
        x = reshaped(step, net, x, [block**2, channels // block**2, *maps])
        x = reshaped(step, net, moved(step, net, x, [2, 1, 3, 4]), [channels, *maps])
    return net.layer(step, nn.PixelShuffle(block), x)


def expand(step: Step, net: Assembly) -> Activation:
    """Expand that changes nothing, as some exporters leave it behind."""
    x = step.activation()
    wanted = step.listed("shape", 1) or []
    if len(wanted) > len(x.shape) or any(
        a not in (1, b) for a, b in zip(reversed(wanted), reversed(x.shape), strict=False)
    ):
        raise step.bad(f"repeats {list(x.sample)} behind the batch; use a layer that makes the wanted shape")
    return x


def shape_of(step: Step, net: Assembly) -> np.ndarray:
    """Shape, with a stand-in for the number of samples."""
    shape = np.array(step.activation().shape, np.int64)
    end = step.whole("end", len(shape))
    return shape[step.whole("start", 0) : end]


def resize(step: Step, net: Assembly) -> Activation:
    """Resize or Upsample by nearest neighbour or linearly, where torch picks the same pixels."""
    x = step.activation()
    spatial = len(x.shape) - 2
    sizes, scales = _sizes_and_scales(step, len(x.shape))
    mode = step.text("mode", "nearest")
    where = step.text("coordinate_transformation_mode", "half_pixel" if step.opset >= 11 else "asymmetric")
    factors = scales if sizes is None else [a / b for a, b in zip(sizes, x.shape, strict=True)]
    if factors is None or sizes is None and factors[:2] != [1, 1] or sizes is not None and sizes[1] != x.shape[1]:
        raise step.bad("changes the number of samples or channels, or does not say by how much it resizes")
    if spatial not in (1, 2) or not all(1 / 64 <= f <= 64 for f in factors[2:]):
        raise step.bad(f"resizes a tensor with {len(x.shape)} axes by {factors[2:]}; expected maps, 64-fold at most")
    if mode == "nearest":
        rounding = step.text("nearest_mode", "round_prefer_floor" if step.opset >= 11 else "floor")
        whole = all(f == round(f) for f in factors)
        half = where in ("half_pixel", "pytorch_half_pixel") and rounding == "round_prefer_floor"
        same = (where, rounding) == ("asymmetric", "floor") or whole and half
        layer = dict(mode="nearest")
    else:
        same = mode == "linear" and where in ("half_pixel", "pytorch_half_pixel", "align_corners")
        layer = dict(mode="linear" if spatial == 1 else "bilinear", align_corners=where == "align_corners")
    if not same or step.whole("antialias", 0):
        raise step.bad(
            f"resizes in mode {mode} with coordinates {where}, which is not supported; "
            "use nearest (asymmetric, floor) or linear (half_pixel or align_corners)"
        )
    if sizes is None:
        return net.layer(step, nn.Upsample(scale_factor=tuple(factors[2:]), **layer), x)  # pyright: ignore[reportArgumentType]
    return net.layer(step, nn.Upsample(size=tuple(sizes[2:]), **layer), x)  # pyright: ignore[reportArgumentType]


def _sizes_and_scales(step: Step, rank: int) -> tuple[list[int] | None, list[float] | None]:
    place = {"Upsample": 1, "Resize": 1 if step.opset < 11 else 2}[step.op]
    scales = step.numbers("scales")
    if scales is None and step.given(place) is not None:
        scales = [float(v) for v in step.constant(place).reshape(-1)[:9]]
    sizes = None
    if step.op == "Resize" and step.opset >= 11 and step.given(3) is not None:
        sizes = [int(v) for v in step.constant(3).reshape(-1)[:9]]
    axes = step.wholes("axes")
    if axes is not None:
        chosen = [a % rank for a in axes]
        if len(chosen) != len(sizes or scales or []):
            raise step.bad(f"resizes axes {axes[:8]} by another number of sizes")
        raise_to = dict(zip(chosen, sizes or scales or [], strict=True))
        if sizes:
            raise step.bad("gives sizes for some axes only; export it with sizes for all axes")
        scales = [float(raise_to.get(a, 1.0)) for a in range(rank)]
    if sizes:
        if len(sizes) != rank or min(sizes) < 1:
            raise step.bad(f"resizes to {sizes}; expected {rank} sizes of at least 1")
        return [BATCH, *sizes[1:]], None
    if scales is not None and len(scales) != rank:
        raise step.bad(f"resizes by {scales}; expected {rank} factors")
    return None, scales
