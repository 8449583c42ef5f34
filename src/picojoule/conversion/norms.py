"""Batch norms as what they are in evaluation: a factor and an offset for every channel."""

import torch
from torch import Tensor, fx

from picojoule.conversion.parts import NORMS, channelwise, is_synaptic, shape_of
from picojoule.conversion.weights import add_bias, scale_outputs
from picojoule.errors import BadInput
from picojoule.graph.passes import bypass, insert_after, replace_layer, unused_name
from picojoule.graph.trace import module_of
from picojoule.layers import Scale, Shift


def affine_norms(graph: fx.GraphModule, epsilon: float | None = None) -> None:
    """Fold every batch norm into the linear layer before it, or make it a `Scale` and a `Shift`; in place.

    Uses each norm's own epsilon, or `epsilon`, and its running statistics. Raises BadInput for a norm without any.
    """
    for node in list(graph.graph.nodes):
        norm = module_of(graph, node)
        if not isinstance(norm, NORMS):
            continue
        factor, offset = _affine(norm, str(node.target), epsilon)
        factor, offset = channelwise(factor, shape_of(node)), channelwise(offset, shape_of(node))
        (before,) = node.all_input_nodes
        layer = module_of(graph, before)
        if is_synaptic(layer) and len(before.users) == 1 and scale_outputs(layer, factor):
            if not add_bias(layer, offset):
                raise BadInput(f"cannot fold {node.target}: it does not norm the channels of {before.target}")
            bypass(graph, node)
        else:
            replace_layer(graph, node, Scale(factor))
            shift = insert_after(graph, node, unused_name(graph, f"{node.target}_shift"), Shift(offset))
            shift.meta["shape"] = node.meta["shape"]


@torch.no_grad()
def _affine(norm: torch.nn.modules.batchnorm._BatchNorm, name: str, epsilon: float | None) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise BadInput(f"cannot convert {name}: it keeps no running statistics; train it with track_running_stats")
    factor = (norm.running_var.double() + (norm.eps if epsilon is None else epsilon)).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight
    offset = -norm.running_mean * factor
    if norm.bias is not None:
        offset = offset + norm.bias
    return factor.to(norm.running_mean), offset.to(norm.running_mean)
