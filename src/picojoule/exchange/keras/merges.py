"""Layers and operations with several inputs: sums and concatenations."""

import operator
from typing import Any

import torch

from picojoule.exchange.keras.assembly import Assembly, Map
from picojoule.exchange.keras.layer import Layer


def add(layer: Layer, inputs: list[Map], net: Assembly) -> Map:
    """`Add`, `x + y` on tensors in Keras 2 (`TFOpLambda`) and 3: a sum of tensors of one shape."""
    if len(inputs) < 2 or any(x.shape != inputs[0].shape for x in inputs):
        shapes = ", ".join(str(x.shape) for x in inputs)
        raise layer.refuse(f"needs two or more tensors of one shape to add, got {shapes}")
    total, *others = _alike(layer, inputs, net)
    for x in others:
        total = net.join(layer.path, operator.add, (total.node, x.node), total, total.shape)
    return total


def concatenate(layer: Layer, inputs: list[Map], net: Assembly) -> Map:
    """`Concatenate`: the file's axis, which counts from the batch or from the end, turned into ours."""
    axis: Any = layer.config.get("axis", layer.keywords.get("axis", -1))
    rank = len(inputs[0].shape)
    if type(axis) is not int or axis == 0 or not -rank <= axis <= rank:
        raise layer.refuse(f"needs an axis behind the batch of shape {inputs[0].shape}, got {axis!r:.80}")
    along = axis - 1 if axis > 0 else axis + rank
    rests = {(len(x.shape), *(n for i, n in enumerate(x.shape) if i != along)) for x in inputs}
    if len(inputs) < 2 or len(rests) > 1:
        shapes = ", ".join(str(x.shape) for x in inputs)
        raise layer.refuse(f"needs two or more tensors that differ along axis {axis} alone, got {shapes}")
    inputs = _alike(layer, inputs, net)
    shape = list(inputs[0].shape)
    shape[along] = sum(x.shape[along] for x in inputs)
    nodes = [x.node for x in inputs]
    return net.join(layer.path, torch.cat, (nodes, inputs[0].dim(along)), inputs[0], shape)


def _alike(layer: Layer, inputs: list[Map], net: Assembly) -> list[Map]:
    """All inputs with their axes as those of the first."""
    return [net.turned(x, inputs[0].axes, layer.path) for x in inputs]
