"""Constant factors and offsets made part of a linear layer's weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from picojoule.conversion.parts import is_synaptic, per_channel


def takes_in(layer: nn.Module | None, factor: Tensor) -> bool:
    """Whether a layer has weights that can stand for a factor on its input."""
    if isinstance(layer, nn.Linear):
        return not factor.dim() or all(size == 1 for size in factor.shape[:-1])
    return is_synaptic(layer) and per_channel(factor) is not None


@torch.no_grad()
def scale_inputs(layer: Any, factor: Tensor) -> bool:
    """Make `layer(x)` what `layer(factor * x)` was, if the factor differs by channel only; says whether."""
    if not takes_in(layer, factor):
        return False
    if isinstance(layer, nn.Linear):
        layer.weight.mul_(factor.reshape(1, -1))
        return True
    values: Any = per_channel(factor)
    if layer.transposed or values.dim() == 0:
        layer.weight.mul_(values.reshape(-1, *(1,) * (layer.weight.dim() - 1)))
        return True
    by_group = layer.weight.view(layer.groups, -1, *layer.weight.shape[1:])
    by_group.mul_(values.reshape(layer.groups, 1, -1, *(1,) * (layer.weight.dim() - 2)))
    return True


@torch.no_grad()
def scale_outputs(layer: Any, factor: Tensor) -> bool:
    """Make `layer(x)` what `factor * layer(x)` was, if the factor differs by channel only; says whether."""
    values = _per_output(layer, factor)
    if values is None:
        return False
    if not isinstance(layer, nn.Linear) and layer.transposed and values.dim():
        by_group = layer.weight.view(layer.groups, -1, *layer.weight.shape[1:])
        by_group.mul_(values.reshape(layer.groups, 1, -1, *(1,) * (layer.weight.dim() - 2)))
    else:
        layer.weight.mul_(values.reshape(-1, *(1,) * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias.mul_(values)
    return True


@torch.no_grad()
def add_bias(layer: Any, offset: Tensor) -> bool:
    """Make `layer(x)` what `layer(x) + offset` was, if the offset differs by channel only; says whether."""
    values = _per_output(layer, offset)
    if values is None:
        return False
    if layer.bias is None:
        channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        layer.bias = nn.Parameter(torch.zeros(channels, dtype=layer.weight.dtype, device=layer.weight.device))
    layer.bias.add_(values)
    return True


@torch.no_grad()
def response(layer: nn.Module, constant: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What a linear layer makes of a constant for samples of `shape`, without its bias: `[*output]`, computed in
    float64.
    """
    exact: Any = copy.deepcopy(layer).double()
    if getattr(exact, "bias", None) is not None:
        exact.bias = None
    return exact(constant.double().expand(shape).unsqueeze(0))[0].to(constant.dtype)


def _per_output(layer: Any, constant: Tensor) -> Tensor | None:
    """A scalar, or one value for each output channel (or feature) of a layer; None where it differs otherwise."""
    if not isinstance(layer, nn.Linear) or not constant.dim():
        return per_channel(constant)
    return None if any(size != 1 for size in constant.shape[:-1]) else constant.flatten()
