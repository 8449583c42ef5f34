"""Operators that act on every number alone, and softmax; conversion refuses those that cannot spike, by name."""

import math
from collections.abc import Callable

import numpy as np
from torch import nn

from picojoule.exchange.onnx.assembly import Assembly
from picojoule.exchange.onnx.step import Activation, Step


def elementwise(make: Callable[[Step], nn.Module]) -> Callable[[Step, Assembly], Activation]:
    """The operator that is the layer which `make` makes of a step."""
    return lambda step, net: net.layer(step, make(step), step.activation())


def clip(step: Step, net: Assembly) -> Activation:
    """Clip: from 0 on `nn.ReLU`, from 0 to 6 `nn.ReLU6`, else `nn.Hardtanh`."""
    if step.opset < 11:
        low, high = step.number("min", -math.inf), step.number("max", math.inf)
    else:
        low, high = step.scalar(1, -math.inf), step.scalar(2, math.inf)
    return _between(step, net, step.activation(), low, high)


def maximum(step: Step, net: Assembly) -> Activation:
    """Max of a tensor and a number."""
    x, bound = _with_number(step)
    return _between(step, net, x, bound, math.inf)


def minimum(step: Step, net: Assembly) -> Activation:
    """Min of a tensor and a number; behind a ReLU it becomes one that is capped."""
    x, bound = _with_number(step)
    if isinstance(net.maker(x), nn.ReLU) and net.is_read_once(x):
        return _between(step, net, net.before(x), 0.0, bound)
    return _between(step, net, x, -math.inf, bound)


def prelu(step: Step, net: Assembly) -> Activation:
    """PRelu: one slope for all is `nn.LeakyReLU`, a slope for each channel `nn.PReLU`."""
    x, slope = step.activation(), step.constant(1)
    if slope.size and np.all(slope == slope.reshape(-1)[0]):
        return net.layer(step, nn.LeakyReLU(float(slope.reshape(-1)[0])), x)
    if slope.size != x.shape[1] or slope.shape[:1] != (x.shape[1],):
        raise step.bad(f"has slopes of shape {slope.shape} for {list(x.sample)} per sample; expected one per channel")
    return net.layer(step, nn.PReLU(x.shape[1], device="meta"), x, {"weight": slope.reshape(-1)})


def softmax(step: Step, net: Assembly) -> Activation:
    """Softmax along one axis; before opset 13 it runs over all that follow, which have to be of size 1."""
    x = step.activation()
    axis = step.axes([step.whole("axis", 1 if step.opset < 13 else -1)], len(x.shape))[0]
    if axis == 0 or step.opset < 13 and math.prod(x.shape[axis + 1 :]) != 1:
        raise step.bad(f"runs over several axes of {list(x.sample)} behind the batch; apply it to scores alone")
    return net.layer(step, nn.LogSoftmax(axis) if step.op == "LogSoftmax" else nn.Softmax(axis), x)


def hard_sigmoid(step: Step) -> nn.Module:
    """HardSigmoid with the slope that torch has."""
    alpha, beta = step.number("alpha", 0.2), step.number("beta", 0.5)
    if not math.isclose(alpha, 1 / 6, rel_tol=1e-5) or beta != 0.5:
        raise step.bad(f"has the slope {alpha:g} and offset {beta:g}; only 1/6 and 0.5 are supported")
    return nn.Hardsigmoid()


def same(step: Step, net: Assembly) -> Activation:
    """An operator that changes nothing at inference."""
    return step.activation()


def cast(step: Step, net: Assembly) -> Activation:
    """Cast to floating point; all activations are float32 here."""
    if step.whole("to", 1) not in (1, 10, 11, 16):
        raise step.bad("turns activations into whole numbers; only casts to floating point are supported")
    return step.activation()


def _between(step: Step, net: Assembly, x: Activation, low: float, high: float) -> Activation:
    if math.isinf(low) and math.isinf(high) and low < high:
        return x
    if not low < high or math.isinf(low):
        raise step.bad(f"clips from {low:g} to {high:g}; expected a lower bound below the upper one")
    if low == 0 and high in (6, math.inf):
        return net.layer(step, nn.ReLU() if math.isinf(high) else nn.ReLU6(), x)
    if math.isinf(high):
        return net.layer(step, nn.Threshold(low, low), x)
    return net.layer(step, nn.Hardtanh(low, high), x)


def _with_number(step: Step) -> tuple[Activation, float]:
    if len(step.inputs) != 2 or not any(isinstance(v, np.ndarray) for v in step.inputs):
        raise step.bad("compares several tensors; only a bound that is one number is supported")
    index = 0 if isinstance(step.given(0), Activation) else 1
    return step.activation(index), step.scalar(1 - index, 0.0)


def gelu(step: Step) -> nn.Module:
    """Gelu, exact or by tanh."""
    return nn.GELU("tanh" if step.text("approximate", "none") == "tanh" else "none")


def swish(step: Step) -> nn.Module:
    """Swish with slope 1."""
    if step.number("alpha", 1.0) != 1:
        raise step.bad(f"has the slope {step.number('alpha', 1.0):g}; only 1 is supported")
    return nn.SiLU()
