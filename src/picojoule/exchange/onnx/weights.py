"""Operators with weights: convolutions, matrix products, batch normalisation, and scales and shifts."""

import math
import operator
from typing import Any

import numpy as np
from torch import nn

from picojoule.exchange.onnx.assembly import Assembly
from picojoule.exchange.onnx.moving import moved, reshaped
from picojoule.exchange.onnx.padding import padded, pads_of
from picojoule.exchange.onnx.step import Activation, Step
from picojoule.layers import Permute

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMS: dict[int, Any] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv(step: Step, net: Assembly) -> Activation:
    """Conv: padding that differs between two ends becomes a layer of its own."""
    x, weight, state = step.activation(), step.constant(1), _state(step)
    spatial = weight.ndim - 2
    if spatial not in CONVOLUTIONS or len(x.shape) != weight.ndim:
        raise step.bad(f"has weights of shape {weight.shape} for inputs {list(x.sample)} behind the batch")
    size, groups = weight.shape[2:], step.whole("group", 1)
    strides, dilations = step.sizes("strides", spatial), step.sizes("dilations", spatial)
    begin, end = pads_of(step, x, size, strides, dilations)
    if begin != end:
        x, begin = padded(step, net, x, begin, end), [0] * spatial
    layer = CONVOLUTIONS[spatial](
        weight.shape[1] * groups,
        weight.shape[0],
        size,
        tuple(strides),
        tuple(begin),
        tuple(dilations),
        groups,
        "bias" in state,
        device="meta",
    )
    return net.layer(step, layer, x, state)


def conv_transpose(step: Step, net: Assembly) -> Activation:
    """ConvTranspose with equal padding at both ends."""
    x, weight, state = step.activation(), step.constant(1), _state(step)
    spatial = weight.ndim - 2
    if spatial not in TRANSPOSED or len(x.shape) != weight.ndim:
        raise step.bad(f"has weights of shape {weight.shape} for inputs {list(x.sample)} behind the batch")
    pads = step.wholes("pads") or [0] * 2 * spatial
    if step.text("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in step.attributes or len(pads) != 2 * spatial:
        raise step.bad("sets its padding by auto_pad or output_shape; export it with explicit pads")
    if pads[:spatial] != pads[spatial:]:
        raise step.bad(f"has unequal padding {pads}; use a transposed convolution with equal padding at both ends")
    layer = TRANSPOSED[spatial](
        weight.shape[0],
        weight.shape[1] * step.whole("group", 1),
        weight.shape[2:],
        tuple(step.sizes("strides", spatial)),
        tuple(pads[:spatial]),
        tuple(step.sizes("output_padding", spatial, 0)),
        step.whole("group", 1),
        "bias" in state,
        tuple(step.sizes("dilations", spatial)),
        device="meta",
    )
    return net.layer(step, layer, x, state)


def gemm(step: Step, net: Assembly) -> Activation:
    """Gemm with constant weights: a linear layer, `alpha` and `beta` multiplied into it."""
    x, weight = step.activation(), step.constant(1)
    if step.whole("transA", 0) or len(x.shape) != 2 or weight.ndim != 2:
        raise step.bad(f"multiplies {list(x.sample)} behind the batch by {weight.shape}; expected features by weights")
    weight = (weight if step.whole("transB", 0) else weight.T) * np.float32(step.number("alpha", 1.0))
    bias = None if step.given(2) is None else np.asarray(step.constant(2) * np.float32(step.number("beta", 1.0)))
    if bias is not None and (bias.size not in (1, len(weight)) or bias.shape not in _rows(bias.size)):
        raise step.bad(f"adds a bias of shape {bias.shape} to {len(weight)} outputs; expected one number for each")
    return _linear(step, net, x, weight, bias)


def matmul(step: Step, net: Assembly) -> Activation:
    """MatMul with a constant right side: a linear layer without bias."""
    x, weight = step.activation(), step.constant(1)
    if weight.ndim != 2:
        raise step.bad(f"multiplies by weights of shape {weight.shape}; expected a matrix")
    return _linear(step, net, x, weight.T, None)


def batch_norm(step: Step, net: Assembly) -> Activation:
    """BatchNormalization with its running statistics and its own epsilon."""
    x = step.activation()
    if step.whole("training_mode", 0) or not step.whole("spatial", 1):
        raise step.bad("uses the statistics of the batch; export the model in evaluation mode")
    state = {name: step.constant(i) for i, name in enumerate(("weight", "bias", "running_mean", "running_var"), 1)}
    epsilon = step.number("epsilon", 1e-5)
    if not np.all(state["running_var"] + epsilon > 0):
        raise step.bad(f"has a variance of {state['running_var'].min():g}; expected positive variances")
    return _norm(step, net, x, epsilon, state)


def add(step: Step, net: Assembly) -> Activation:
    """Add of tensors; a constant goes into the bias of the layer before, or becomes a shift."""
    if not any(isinstance(v, np.ndarray) for v in step.inputs):
        return net.added(step, [step.activation(i) for i in range(len(step.inputs))])
    x, value = _operands(step)
    layer = net.maker(x)
    shift = _per_channel(value, x, -1 if isinstance(layer, nn.Linear) else 1)
    weighted = isinstance(layer, (*CONVOLUTIONS.values(), *TRANSPOSED.values(), *NORMS.values(), nn.Linear))
    if shift is None or not weighted or not net.is_read_once(x):
        return affine(step, net, x, np.ones(1, np.float32), value)
    layer: Any = layer
    before = np.zeros(_outputs(layer), np.float32) if layer.bias is None else layer.bias.detach().numpy()
    layer.bias = nn.Parameter(layer.weight.new_empty(_outputs(layer), device="meta"))
    net.fill(step, layer, "bias", before + shift)
    return x


def mul(step: Step, net: Assembly) -> Activation:
    """Mul by a constant is a scale; of two tensors it stays a product."""
    if not any(isinstance(v, np.ndarray) for v in step.inputs):
        return net.joined(step, operator.mul, [step.activation(0), step.activation(1)])
    x, value = _operands(step)
    return affine(step, net, x, value, np.zeros(1, np.float32))


def sub(step: Step, net: Assembly) -> Activation:
    """Sub of tensors; a constant is a shift, subtracted from a constant also a change of sign."""
    if not any(isinstance(v, np.ndarray) for v in step.inputs):
        return net.joined(step, operator.sub, [step.activation(0), step.activation(1)])
    x, value = _operands(step)
    if isinstance(step.given(1), np.ndarray):
        return add(step._replace(inputs=(x, np.asarray(-value))), net)
    return affine(step, net, x, -np.ones(1, np.float32), value)


def div(step: Step, net: Assembly) -> Activation:
    """Div by a constant is a scale."""
    x, value = step.activation(0), step.constant(1).astype(np.float32)
    with np.errstate(all="ignore"):
        return affine(step, net, x, np.asarray(1 / value), np.zeros(1, np.float32))


def neg(step: Step, net: Assembly) -> Activation:
    """Neg changes the sign."""
    return affine(step, net, step.activation(), -np.ones(1, np.float32), np.zeros(1, np.float32))


def affine(step: Step, net: Assembly, x: Activation, scale: np.ndarray, shift: np.ndarray) -> Activation:
    """`scale * x + shift` as batch normalisation with mean 0, variance 1 and epsilon 0.

    Numbers that differ along another axis than the channels, or along several, are brought there and back.
    """
    if np.all(scale == 1) and not np.any(shift):
        return x
    rank = len(x.shape)
    if max(scale.ndim, shift.ndim) > rank or any(v.ndim == rank and v.shape[0] != 1 for v in (scale, shift)):
        raise step.bad(f"joins constants of shape {max(scale.shape, shift.shape)} with {list(x.sample)} per sample")
    wide = [v.reshape((1,) * (rank - v.ndim) + v.shape) for v in (scale, shift)]
    if any(a not in (1, b) for v in wide for a, b in zip(v.shape[1:], x.sample, strict=True)):
        raise step.bad(f"joins constants of shape {max(scale.shape, shift.shape)} with {list(x.sample)} per sample")
    varied = [axis for axis in range(1, rank) if any(v.shape[axis] > 1 for v in wide)]
    if len(varied) > 1 or rank > 5:
        full = [np.broadcast_to(v, (1, *x.sample)).reshape(1, -1) for v in wide]
        flat = reshaped(step, net, x, [math.prod(x.sample)])
        return reshaped(step, net, affine(step, net, flat, *full), list(x.sample))
    if varied and varied[0] != 1:
        first = [varied[0], *(axis for axis in range(1, rank) if axis != varied[0])]
        back = [first.index(axis) + 1 for axis in range(1, rank)]
        turned = [v.transpose(0, *first) for v in wide]
        return moved(step, net, affine(step, net, moved(step, net, x, first), *turned), back)
    turn = net.maker(x)
    if not varied and isinstance(turn, Permute):
        return moved(step, net, affine(step, net, net.before(x), scale, shift), [d + 1 for d in turn.dims])
    channels = x.shape[1]
    weight, bias = (np.broadcast_to(v.reshape(-1), channels) for v in wide)
    state = {"weight": weight, "bias": bias, "running_mean": np.zeros(channels), "running_var": np.ones(channels)}
    return _norm(step, net, x, 0.0, state)


def _norm(step: Step, net: Assembly, x: Activation, epsilon: float, state: dict[str, np.ndarray]) -> Activation:
    kind = NORMS.get(len(x.shape) - 2)
    if kind is None:
        raise step.bad(f"acts on a tensor with {len(x.shape)} axes; expected 2 to 5")
    if any(values.shape != (x.shape[1],) for values in state.values()):
        raise step.bad(f"has statistics for {state['weight'].size} channels, and inputs with {x.shape[1]}")
    layer = kind(x.shape[1], epsilon, device="meta")
    return net.layer(step, layer, x, state | {"num_batches_tracked": np.zeros(())})


def _linear(step: Step, net: Assembly, x: Activation, weight: np.ndarray, bias: np.ndarray | None) -> Activation:
    if not weight.size:
        raise step.bad(f"has weights of shape {weight.shape}, which are none")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    state = {"weight": weight}
    if bias is not None:
        state["bias"] = np.broadcast_to(bias.reshape(-1), len(weight))
    return net.layer(step, layer, x, state)


def _rows(size: int) -> tuple[tuple[int, ...], ...]:
    """The shapes of `size` numbers in a row."""
    return ((size,), (1, size), () if size == 1 else (size,))


def _state(step: Step) -> dict[str, np.ndarray]:
    weight, bias = step.constant(1), step.given(2)
    if not weight.size:
        raise step.bad(f"has weights of shape {weight.shape}, which are none")
    return {"weight": weight} | ({} if bias is None else {"bias": step.constant(2)})


def _operands(step: Step) -> tuple[Activation, np.ndarray]:
    """The tensor and the constant of an operator with one of each."""
    if len(step.inputs) != 2:
        raise step.bad("joins more than two inputs, of which some are constant; export it as separate additions")
    index = 0 if isinstance(step.given(0), Activation) else 1
    return step.activation(index), step.constant(1 - index).astype(np.float32)


def _per_channel(value: np.ndarray, x: Activation, axis: int) -> np.ndarray | None:
    """`value` with one number for each index of `axis` of `x`, or None if it has others."""
    rank = len(x.shape)
    if value.ndim > rank:
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    axis %= rank
    if any(size != 1 for i, size in enumerate(shape) if i != axis) or shape[axis] not in (1, x.shape[axis]):
        return None
    return np.broadcast_to(value.reshape(-1), x.shape[axis])


def _outputs(layer: Any) -> int:
    for name in ("out_features", "out_channels", "num_features"):
        if hasattr(layer, name):
            return getattr(layer, name)
    raise AssertionError(type(layer))
