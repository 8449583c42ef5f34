"""One factor and one shift per channel: batch norm, and the preprocessing layers, which become batch norms too."""

from typing import Any

import torch
from torch import Tensor, nn

from picojoule.exchange.keras.assembly import Assembly, Map
from picojoule.exchange.keras.layer import Layer

LEAST_DEVIATION = 1e-7
"""What Keras divides by at least in `Normalization` (keras.config.epsilon)."""


def batch_norm(layer: Layer, x: Map, net: Assembly) -> Map:
    """`BatchNormalization` with its own epsilon and running statistics; without scale the factor is 1."""
    x = _axis_in_front(layer, x, net, layer.config.get("axis", -1))
    size, epsilon = x.ours[0], layer.number("epsilon", 1e-3)
    trained = {"gamma": layer.flag("scale", True), "beta": layer.flag("center", True)}
    asked = [name for name, used in trained.items() if used] + ["moving_mean", "moving_variance"]
    weights = layer.take({name: (size,) for name in asked})
    if epsilon < 0 or float(weights["moving_variance"].min()) + epsilon <= 0:
        raise layer.refuse("has a negative variance; train it again from a sound checkpoint")
    factor, shift = weights.get("gamma", torch.ones(size)), weights.get("beta", torch.zeros(size))
    mean, variance = weights["moving_mean"], weights["moving_variance"]
    return _norm(layer, x, net, factor, shift, mean, variance, epsilon, 1 - layer.number("momentum", 0.99))


def rescaling(layer: Layer, x: Map, net: Assembly) -> Map:
    """`Rescaling`: x * scale + offset, by one number each or by one per channel."""
    size = x.ours[0]
    factor, shift = (_per_channel(layer, x, key, default) for key, default in (("scale", None), ("offset", 0.0)))
    return _norm(layer, x, net, factor, shift, torch.zeros(size), torch.ones(size), 0.0, 0.0)


def normalization(layer: Layer, x: Map, net: Assembly) -> Map:
    """`Normalization`: (x - mean) / deviation per channel, or the inverse."""
    axis = layer.config.get("axis", -1)
    if axis is not None:
        x = _axis_in_front(layer, x, net, axis)
    size = x.ours[0]
    if layer.config.get("mean") is None:
        shape = () if axis is None else (size,)
        weights = layer.take({"mean": shape, "variance": shape}, ignored=("count",))
        mean, variance = (weights[name].expand(size) for name in ("mean", "variance"))
    else:
        layer.take({})
        mean, variance = (_spread(layer, layer.config.get(name), size, name) for name in ("mean", "variance"))
    if float(variance.min()) < 0:
        raise layer.refuse("has a negative variance; adapt it again")
    deviation = variance.double().sqrt().clamp(min=LEAST_DEVIATION)
    if layer.flag("invert", False):
        return _norm(layer, x, net, deviation.float(), mean, torch.zeros(size), torch.ones(size), 0.0, 0.0)
    return _norm(layer, x, net, torch.ones(size), torch.zeros(size), mean, deviation.square().float(), 0.0, 0.0)


def _norm(
    layer: Layer,
    x: Map,
    net: Assembly,
    factor: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    momentum: float,
) -> Map:
    if len(x.shape) > 3:
        raise layer.refuse(f"needs inputs of at most 3 axes behind the batch, got shape {x.shape}")
    kind = nn.BatchNorm2d if len(x.shape) == 3 else nn.BatchNorm1d
    state = {"weight": factor, "bias": shift, "running_mean": mean, "running_var": variance}
    state = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    state["num_batches_tracked"] = torch.tensor(0)
    return net.call(layer.path, kind(len(factor), epsilon, momentum, device="meta"), x, weights=state)


def _axis_in_front(layer: Layer, x: Map, net: Assembly, axis: Any) -> Map:
    """`x` with the file's axis (which counts from the batch, or from the end) as its channels."""
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    rank = len(x.shape)
    if type(axis) is not int or axis == 0 or not -rank <= axis <= rank:
        raise layer.refuse(f"needs one axis behind the batch of shape {x.shape}, got {axis!r:.80}")
    chosen = axis - 1 if axis > 0 else axis + rank
    rest = tuple(a for a in x.axes if a != chosen)
    return net.turned(x, (chosen, *rest), layer.path)


def _per_channel(layer: Layer, x: Map, key: str, default: float | None) -> Tensor:
    value = layer.config.get(key, default)
    if isinstance(value, dict) and isinstance(value.get("config"), dict):  # an array, as Keras 3 writes it
        value = value["config"].get("value")
    if isinstance(value, list) and x.axes[0] != len(x.shape) - 1:
        raise layer.refuse(f"has one {key} per channel in a model with channels first; use BatchNormalization instead")
    return _spread(layer, value, x.ours[0], key)


def _spread(layer: Layer, value: Any, size: int, key: str) -> Tensor:
    """One number for all channels, or one for each."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    values = value if isinstance(value, list) else [value] * size
    if len(values) != size or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise layer.refuse(f"needs one number or one for each of {size} channels as {key}, got {value!r:.80}")
    tensor = torch.tensor(values, dtype=torch.float64).float()
    if not bool(tensor.isfinite().all()):
        raise layer.refuse(f"needs finite numbers as {key}, got {value!r:.80}")
    return tensor


AFFINE = {"BatchNormalization": batch_norm, "Rescaling": rescaling, "Normalization": normalization}
