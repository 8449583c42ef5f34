"""What every tensor of an analog graph becomes once the graph spikes."""

import operator
from enum import Enum

import torch
from torch import fx, nn

from picojoule.conversion.parts import AVERAGES, MAXIMA, MOVES, RECTIFIERS, is_synaptic, scale_at
from picojoule.graph.trace import module_of


class Signal(Enum):
    """`CONSTANT`: the same at every step, computed once from the image. `EVENTS`: what neurons send. `SIGNED`: events
    that may be negative. `FRACTIONS`: averages of events. `CURRENT`: anything else, such as what synapses yield.
    """

    CONSTANT = 0
    EVENTS = 1
    SIGNED = 2
    FRACTIONS = 3
    CURRENT = 4


def signals(graph: fx.GraphModule, image: Signal) -> dict[fx.Node, Signal]:
    """The signal of every node; `image` is that of the input."""
    found: dict[fx.Node, Signal] = {}
    for node in graph.graph.nodes:
        found[node] = image if node.op == "placeholder" else _signal(graph, node, found)
    return found


def never_negative(graph: fx.GraphModule, image: Signal) -> set[fx.Node]:
    """The nodes whose tensor is not negative: activations, images that are events, and what adds or averages those."""
    found: set[fx.Node] = set(graph.graph.find_nodes(op="placeholder")) if image is Signal.EVENTS else set()
    for node in graph.graph.nodes:
        module, factor = module_of(graph, node), scale_at(graph, node)
        keeps = node.target in (torch.cat, operator.add) or isinstance(module, (*MOVES, *MAXIMA, *AVERAGES))
        if isinstance(module, nn.Upsample):
            keeps = module.mode != "bicubic"
        elif factor is not None:
            keeps = bool((factor >= 0).all())
        if isinstance(module, RECTIFIERS) or (keeps and found.issuperset(node.all_input_nodes)):
            found.add(node)
    return found


def _signal(graph: fx.GraphModule, node: fx.Node, found: dict[fx.Node, Signal]) -> Signal:
    module, sources = module_of(graph, node), [found[n] for n in node.all_input_nodes]
    if isinstance(module, RECTIFIERS):
        return Signal.EVENTS
    if all(s is Signal.CONSTANT for s in sources):
        return Signal.CONSTANT
    if is_synaptic(module) or (isinstance(module, nn.Upsample) and module.mode != "nearest"):
        return Signal.CURRENT
    if isinstance(module, AVERAGES) and sources[0] in (Signal.EVENTS, Signal.SIGNED):
        return Signal.FRACTIONS
    if isinstance(module, (*MOVES, *MAXIMA, *AVERAGES)) or node.op == "output":
        return sources[0]
    if node.target in (torch.cat, operator.add, operator.sub) and set(sources) <= {Signal.EVENTS, Signal.SIGNED}:
        signed = node.target is operator.sub or Signal.SIGNED in sources
        return Signal.SIGNED if signed else Signal.EVENTS
    return Signal.CURRENT
