"""Activations, as layers and as the setting `activation` of other layers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from picojoule.exchange.keras.assembly import Assembly, Map, extended
from picojoule.exchange.keras.layer import Layer

LOWEST = -3.4028234663852886e38
"""The lowest float32: no limit from below."""
_FUNCTIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "elu": nn.ELU,
}
_AS_SETTING = ("ReLU", "LeakyReLU", "ELU", "Softmax", "Activation", "ThresholdedReLU")


def activation(layer: Layer, x: Map, net: Assembly) -> Map:
    """`Activation`: a function by name."""
    return activate(layer, x, net, layer.path)


def activate(layer: Layer, x: Map, net: Assembly, path: tuple[str, ...] | None = None) -> Map:
    """The setting `activation` of a layer; its module is named after both unless `path` names it."""
    wanted = layer.config.get("activation")
    if isinstance(wanted, dict):
        if wanted.get("class_name") in _AS_SETTING and isinstance(wanted.get("config"), dict):
            kind = str(wanted["class_name"])
            inner = replace(
                layer, path=extended(layer.path, "activation"), kind=kind, config=wanted["config"], arrays={}
            )
            return ACTIVATIONS[kind](inner, x, net)
        wanted = wanted.get("config")
    if wanted is None or wanted == "linear":
        return x
    if wanted == "softmax":
        return net.call(path or extended(layer.path, "softmax"), nn.Softmax(x.dim(-1)), x)
    if not isinstance(wanted, str) or wanted not in _FUNCTIONS:
        known = ", ".join(["linear", "softmax", *_FUNCTIONS])
        raise layer.refuse(f"has the activation {wanted!r:.80}, which is not read (known: {known}); retrain with relu")
    return net.call(path or extended(layer.path, wanted), _FUNCTIONS[wanted](), x)


def relu(layer: Layer, x: Map, net: Assembly) -> Map:
    """`ReLU`: with a slope below zero, a threshold, a largest value; Keras 2 and 3 agree on them."""
    slope, threshold = layer.number("negative_slope", 0.0), layer.number("threshold", 0.0)
    most = layer.number("max_value") if layer.config.get("max_value") is not None else None
    if slope and threshold or most is not None and most < 0:
        raise layer.refuse(
            "joins negative_slope with threshold, or has a negative max_value; retrain with a plain ReLU"
        )
    if most is None or slope or threshold:
        first = nn.LeakyReLU(slope) if slope else nn.Threshold(threshold, 0.0) if threshold else nn.ReLU()
        x = net.call(layer.path, first, x)
    if most is None:
        return x
    if slope or threshold:
        lowest = LOWEST if slope else 0.0
        return net.call(extended(layer.path, "max"), nn.Hardtanh(lowest, most), x)
    return net.call(layer.path, nn.ReLU6() if most == 6 else nn.Hardtanh(0.0, most), x)


def leaky_relu(layer: Layer, x: Map, net: Assembly) -> Map:
    """`LeakyReLU`: its slope is `alpha` in Keras 2 and `negative_slope` in Keras 3."""
    key = "negative_slope" if "negative_slope" in layer.config else "alpha"
    return net.call(layer.path, nn.LeakyReLU(layer.number(key, 0.3)), x)


def thresholded_relu(layer: Layer, x: Map, net: Assembly) -> Map:
    """`ThresholdedReLU` of Keras 2."""
    return net.call(layer.path, nn.Threshold(layer.number("theta", 1.0), 0.0), x)


def elu(layer: Layer, x: Map, net: Assembly) -> Map:
    """`ELU`."""
    return net.call(layer.path, nn.ELU(layer.number("alpha", 1.0)), x)


def softmax(layer: Layer, x: Map, net: Assembly) -> Map:
    """`Softmax` over one axis; axes of the file count from the batch, or from the end."""
    axis: Any = layer.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if type(axis) is not int or axis == 0:
        raise layer.refuse(f"needs one axis behind the batch, got {axis!r:.80}")
    return net.call(layer.path, nn.Softmax(x.dim(axis - 1 if axis > 0 else axis)), x)


ACTIVATIONS: dict[str, Callable[[Layer, Map, Assembly], Map]] = {
    "Activation": activation,
    "ReLU": relu,
    "LeakyReLU": leaky_relu,
    "ThresholdedReLU": thresholded_relu,
    "ELU": elu,
    "Softmax": softmax,
}
