"""Constant factors and offsets made part of a linear layer's weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from picojoule.conversion.parts import per_channel


@torch.no_grad()
def scale_inputs(layer: Any, factor: Tensor) -> bool:
    """Make `layer(x)` what `layer(factor * x)` was, if the factor differs by channel only; says whether."""
    if isinstance(layer, nn.Linear):
        if factor.dim() and any(size != 1 for size in factor.shape[:-1]):
            return False
        layer.weight.mul_(factor.reshape(1, -1))
        return True
    values = per_channel(factor)
    if values is None:
        return False
    if layer.transposed or values.dim() == 0:
        layer.weight.mul_(values.reshape(-1, *(1,) * (layer.weight.dim() - 1)))
        return True
    by_group = layer.weight.view(layer.groups, -1, *layer.weight.shape[1:])
    by_group.mul_(values.reshape(layer.groups, 1, -1, *(1,) * (layer.weight.dim() - 2)))
    return True


@torch.no_grad()
def scale_outputs(layer: Any, factor: Tensor) -> bool:
    """Make `layer(x)` what `factor * layer(x)` was, if the factor differs by channel only; says whether."""
    linear = isinstance(layer, nn.Linear)
    if linear and factor.dim() and any(size != 1 for size in factor.shape[:-1]):
        return False
    values = factor.flatten() if linear and factor.dim() else per_channel(factor)
    if values is None:
        return False
    if not linear and layer.transposed and values.dim():
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
    linear = isinstance(layer, nn.Linear)
    if linear and offset.dim() and any(size != 1 for size in offset.shape[:-1]):
        return False
    values = offset.flatten() if linear and offset.dim() else per_channel(offset)
    if values is None:
        return False
    if layer.bias is None:
        channels = layer.out_features if linear else layer.out_channels
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
