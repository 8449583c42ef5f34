"""Current normalisation: a graph whose rectifiers work in units of one event per step."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from picojoule.conversion.elementwise import push_scales_backward, push_scales_forward
from picojoule.conversion.options import ECCOptions
from picojoule.conversion.parts import CountInput, CountOutput, is_synaptic, neurons_of, scale_at, shift_at
from picojoule.conversion.weights import add_bias
from picojoule.graph.passes import bypass, copied, insert_after, insert_before, recompiled, replace_layer, unused_name
from picojoule.graph.shapes import infer_shapes
from picojoule.graph.trace import module_of
from picojoule.layers import Scale, Shift


def with_ends(graph: fx.GraphModule, options: ECCOptions) -> fx.GraphModule:
    """A copy with populations for the image and for the scores, where options ask for counts there."""
    ended = copied(graph)
    for node in list(ended.graph.nodes):
        if node.op == "placeholder" and options.input == "count":
            insert_after(ended, node, unused_name(ended, "input_events"), CountInput())
        elif node.op == "output" and options.readout == "count":
            (scores,) = node.all_input_nodes
            insert_before(ended, node, scores, unused_name(ended, "output_events"), CountOutput())
    return recompiled(ended)


def normalised(graph: fx.GraphModule, scales: Mapping[str, Tensor], example: Tensor) -> fx.GraphModule:
    """A copy in which the rectifier of every node in `scales` works on activations divided by its scale.

    The factors in front of and behind it are part of weights and biases. What no weights can take in stays as a
    `Scale`: on the branch of a sum that has no weights, and in front of populations that have none, such as those of
    average pools, where it is their threshold. The scores stay the same up to rounding, but for ceilings, which
    the limit of one event per step stands for; those of an output population are counts.
    """
    scaled = copied(graph)
    for node in neurons_of(scaled):
        module, scale, name = module_of(scaled, node), scales[node.name].to(_zero(scaled)), str(node.target)
        if not isinstance(module, CountInput | CountOutput):
            replace_layer(scaled, node, nn.ReLU())
        insert_before(scaled, node, node.all_input_nodes[0], unused_name(scaled, f"{name}_divided"), Scale(1 / scale))
        if not isinstance(module, CountOutput):
            insert_after(scaled, node, unused_name(scaled, f"{name}_restored"), Scale(scale))
    infer_shapes(recompiled(scaled), example, 0)
    push_scales_forward(scaled)
    push_scales_backward(scaled)
    for node in list(scaled.graph.nodes):
        factor = scale_at(scaled, node)
        if factor is not None and factor.dim() == 0 and float(factor) == 1:
            bypass(scaled, node)
    return recompiled(scaled)


class Bias(NamedTuple):
    """A constant current that drives one population alone, and the `factor` between it and the population.

    `values` is `[C]` or `[C, 1, ...]`, to be changed in place.
    """

    values: Tensor
    factor: Tensor


def with_biases(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph, in place, with an offset of zero in front of every population that no bias of its own drives."""
    for node in neurons_of(graph):
        if isinstance(module_of(graph, node), CountInput) or bias_in_front(graph, node) is not None:
            continue
        user, source = node, node.all_input_nodes[0]
        if scale_at(graph, source) is not None and len(source.users) == 1:
            user, source = source, source.all_input_nodes[0]  # what is left there is a threshold
        shape = source.meta["shape"]
        zeros = _zero(graph).expand(shape[1], *(1,) * (len(shape) - 2))
        new = insert_before(graph, user, source, unused_name(graph, f"{node.target}_bias"), Shift(zeros))
        new.meta["shape"] = shape
    return recompiled(graph)


def bias_in_front(graph: fx.GraphModule, node: fx.Node) -> Bias | None:
    """The bias or offset that acts on a node's input alone; None where nothing does."""
    (source,) = node.all_input_nodes
    factor = _zero(graph) + 1
    while (here := scale_at(graph, source)) is not None and len(source.users) == 1:
        factor, (source,) = factor * here, source.all_input_nodes
    offset, layer = shift_at(graph, source), module_of(graph, source)
    if len(source.users) != 1:
        return None
    if offset is not None:
        return Bias(offset, factor) if offset.dim() and all(size == 1 for size in offset.shape[1:]) else None
    if not is_synaptic(layer):
        return None
    add_bias(layer, torch.zeros_like(factor))
    return Bias(layer.bias, factor)  # pyright: ignore


@torch.no_grad()
def scale_biases(graph: fx.GraphModule, factor: float) -> fx.GraphModule:
    """The graph, in place, with every bias and offset multiplied by `factor`."""
    for module in graph.modules():
        if isinstance(module, Shift):
            module.offset.mul_(factor)
        elif is_synaptic(module) and module.bias is not None:
            module.bias.mul_(factor)  # pyright: ignore
    return graph


def _zero(graph: fx.GraphModule) -> Tensor:
    """Zero, in the type of numbers and on the device of the graph's weights."""
    return next((p.detach().new_zeros(()) for p in graph.parameters()), torch.zeros(()))
