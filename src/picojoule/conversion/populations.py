"""Rectified populations where neurons are needed and the analog network has none."""

import operator

import torch
from torch import Tensor, fx, nn

from picojoule.conversion.options import ECCOptions
from picojoule.conversion.parts import AVERAGES, LEAKY, MAXIMA, channelwise, is_synaptic, shape_of
from picojoule.conversion.signals import Signal, never_negative, signals
from picojoule.graph.passes import insert_after, insert_before, replace_layer, unused_name
from picojoule.graph.trace import module_of
from picojoule.layers import Scale

_POOLED = (Signal.EVENTS, Signal.SIGNED, Signal.FRACTIONS)


def with_populations(graph: fx.GraphModule, options: ECCOptions) -> None:
    """Insert the populations that a spiking graph needs, in place; outputs stay the same.

    Currents that enter synapses or a max pool, with no activation between, become events of two populations, x =
    relu(x) - relu(-x), or of one where they are never negative; so does a leaky activation, relu(x) - relu(-slope * x).
    With the pooling "neurons", average pools of events get a population of their own.
    """
    _split_leaky(graph)
    image = Signal.EVENTS if options.input == "count" else Signal.CONSTANT
    for node in list(graph.graph.nodes):
        module = module_of(graph, node)
        if not (is_synaptic(module) or isinstance(module, (*MAXIMA, *AVERAGES))):
            continue
        (source,) = node.all_input_nodes
        enters = signals(graph, image)[source]
        if enters is Signal.CURRENT and not isinstance(module, AVERAGES):
            new = insert_before(graph, node, source, unused_name(graph, f"{source.name}_neurons"), nn.ReLU())
        elif options.pooling == "neurons" and isinstance(module, AVERAGES) and enters in _POOLED:
            new = insert_after(graph, node, unused_name(graph, f"{node.target}_neurons"), nn.ReLU())
        else:
            continue
        (current,) = new.all_input_nodes
        new.meta["shape"] = current.meta["shape"]
        if current not in never_negative(graph, image):
            _split(graph, new, torch.tensor(1.0))


def _split_leaky(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        layer = module_of(graph, node)
        if isinstance(layer, LEAKY):
            slope = layer.weight.detach() if isinstance(layer, nn.PReLU) else torch.tensor(layer.negative_slope)
            slope = slope.reshape(()) if slope.numel() == 1 else channelwise(slope, shape_of(node))
            _split(graph, node, slope)


def _split(graph: fx.GraphModule, node: fx.Node, slope: Tensor) -> None:
    """Make of a call `relu(x) - relu(-slope * x)`."""
    source, name = node.all_input_nodes[0], str(node.target)
    replace_layer(graph, node, nn.ReLU())
    if not bool(slope.any()):
        return
    graph.add_submodule(flip := unused_name(graph, f"{name}_flip"), Scale(-slope.to(_like(graph))))
    graph.add_submodule(negative := unused_name(graph, f"{name}_negative"), nn.ReLU())
    with graph.graph.inserting_after(node):
        flipped = graph.graph.call_module(flip, (source,))
    with graph.graph.inserting_after(flipped):
        below = graph.graph.call_module(negative, (flipped,))
    with graph.graph.inserting_after(below):
        both = graph.graph.call_function(operator.sub, (node, below))
    node.replace_all_uses_with(both, delete_user_cb=lambda user: user is not both)
    for new in (flipped, below, both):
        new.meta["shape"] = node.meta["shape"]


def _like(graph: fx.GraphModule) -> Tensor:
    return next(graph.parameters(), torch.zeros(()))
