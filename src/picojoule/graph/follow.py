"""Keeping what observers count by in step with neurons whose events change their height, as `Diffused` in training."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from picojoule.cells import Cell, Inside, Synapse
from picojoule.graph.observers import NeuronObserver, ProductObserver, SynapseObserver
from picojoule.graph.propagate import infer_kinds
from picojoule.graph.records import Site
from picojoule.graph.trace import module_of
from picojoule.kinds import Events, Kind
from picojoule.neurons import Diffused

Observer = SynapseObserver | ProductObserver | NeuronObserver


class Watched(NamedTuple):
    """An observer and the nodes whose kinds it counts by; in a `cell` those of its synapse or population `inside`."""

    observer: Observer
    nodes: tuple[fx.Node, ...]
    inside: str = ""
    cell: Cell | None = None

    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of what enters, as they are now."""
        part = self._part()
        return tuple(n.meta["kind"] for n in self.nodes) if part is None or part.kind is None else (part.kind,)

    def heights(self, graph: fx.GraphModule) -> tuple[Diffused, ...]:
        """The neurons with a learned fineness whose events are counted: none or one."""
        part = self._part()
        return _learned_behind(graph, self.nodes[0]) if part is None or part.kind is None else _learned(part.source)

    def _part(self) -> Synapse | Inside | None:
        """The part of the cell that is counted."""
        if self.cell is None:
            return None
        return next(part for part in (*self.cell.synapses(), *self.cell.populations()) if part.name == self.inside)


class Kinds:
    """The kinds of a graph that observers count by."""

    def __init__(
        self, graph: fx.GraphModule, inputs: Kind, declared: dict[type[nn.Module], Kind], watched: list[Watched]
    ):
        self._graph, self._inputs, self._declared = graph, inputs, declared
        self._watched = tuple(watched)
        for w in self._watched:
            if not isinstance(w.observer, ProductObserver):
                w.observer.heights = w.heights(graph)
        self._changing = [m for m in graph.modules() if isinstance(m, Diffused)]
        self._known = self._emitted()
        # asking for it imports torch's compiler, which takes a second
        self._outside_of_graphs: Any = torch.compiler.disable(Kinds.update) if self._changing else None

    @property
    def sites(self) -> tuple[Site, ...]:
        """The places where synapses act, in wiring order."""
        return tuple(w.observer.site for w in self._watched if not isinstance(w.observer, NeuronObserver))

    def follow(self) -> None:
        """Infer the kinds again if events have another height than at the last call."""
        if self._outside_of_graphs is not None:
            self._outside_of_graphs(self)

    def update(self) -> None:
        """What `follow` does where heights can change."""
        emitted = self._emitted()
        if emitted != self._known:
            self._known = emitted
            infer_kinds(self._graph, self._inputs, self._declared)
            for watched in self._watched:
                _tell(watched.observer, watched.kinds())

    def _emitted(self) -> list[Kind]:
        return [m.emits for m in self._changing]


def product_kind(kinds: tuple[Kind, ...]) -> Kind:
    """The kind of a product of two activations: events, if one of them is."""
    return next((kind for kind in kinds if isinstance(kind, Events)), kinds[0])


def _learned_behind(graph: fx.GraphModule, node: fx.Node) -> tuple[Diffused, ...]:
    """The neurons with a learned fineness whose events arrive at a node, if there are some."""
    while isinstance(node.meta.get("kind"), Events):
        module = module_of(graph, node)
        if isinstance(module, Diffused | Cell):
            return _learned(module if isinstance(module, Diffused) else getattr(module, "neuron", None))
        if not node.all_input_nodes:
            break
        node = node.all_input_nodes[0]
    return ()


def _learned(source: nn.Module | None) -> tuple[Diffused, ...]:
    return (source,) if isinstance(source, Diffused) and source.fineness_log is not None else ()


def _tell(observer: Observer, kinds: tuple[Any, ...]) -> None:
    if isinstance(observer, NeuronObserver):
        (observer.kind,) = kinds
        return
    observer.site = replace(observer.site, kind=product_kind(kinds))
    if isinstance(observer, ProductObserver):
        observer.kinds = kinds
