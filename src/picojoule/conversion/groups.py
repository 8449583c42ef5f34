"""Populations whose events are added up, so that one event has to stand for the same in all of them."""

from torch import fx, nn

from picojoule.conversion.elementwise import SUMS
from picojoule.conversion.options import ECCOptions
from picojoule.conversion.parts import ceiling_of, neurons_of
from picojoule.conversion.signals import Signal, signals
from picojoule.graph.passes import insert_after, unused_name
from picojoule.graph.trace import module_of


def groups(graph: fx.GraphModule, image: Signal) -> list[set[fx.Node]]:
    """Rectifiers, and an image of events, that meet in sums which no neurons follow: they have one scale."""
    signal = signals(graph, image)
    found: list[set[fx.Node]] = []
    for node in graph.graph.nodes:
        if node.target in SUMS and signal[node] in (Signal.EVENTS, Signal.SIGNED):
            group = set().union(*(_sources(graph, n) for n in node.all_input_nodes))
            for other in [g for g in found if g & group]:
                found.remove(other)
                group |= other
            found.append(group)
    return found


def _sources(graph: fx.GraphModule, node: fx.Node) -> set[fx.Node]:
    """The rectifiers, or the image, whose events a node passes on."""
    if node.op == "placeholder" or node in neurons_of(graph):
        return {node}
    return set().union(*(_sources(graph, n) for n in node.all_input_nodes))


def relay_ceilings(graph: fx.GraphModule, options: ECCOptions) -> None:
    """Insert a population behind every clipped one whose group has another ceiling, in place; outputs stay the same.

    The scale of a clipped population is at most its ceiling, above which it cannot fire; the one behind it, which is
    not clipped, joins the group with a scale of its own.
    """
    image = Signal.EVENTS if options.input == "count" else Signal.CONSTANT
    for group in groups(graph, image):
        ceilings = {node: ceiling_of(module_of(graph, node)) for node in group}
        for node in group if len(set(ceilings.values())) > 1 else ():
            if ceilings[node] < float("inf"):
                relay = insert_after(graph, node, unused_name(graph, f"{node.target}_neurons"), nn.ReLU())
                relay.meta["shape"] = node.meta["shape"]
