"""Cut time, not the network: a graph run a few steps at a time, with the state carried from piece to piece."""

import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from picojoule.cells import Cell
from picojoule.execution.fused_part import Fused
from picojoule.graph.stream import State
from picojoule.graph.trace import module_of, trace
from picojoule.layers import Encoder, QuantisedReLU, Repeat, Timewise
from picojoule.networks import Network
from picojoule.neurons import Neuron, Stateful

_STEPWISE = (Timewise, nn.Linear, nn.Identity, nn.ReLU, QuantisedReLU, Neuron, Cell, Fused)
_SUMS = (operator.add, operator.iadd, torch.add)
Values = dict[fx.Node, Any]
"""What nodes of a graph yielded."""


class Pieces(fx.Interpreter):
    """Runs a graph in three parts: what comes before time, once; the layers, a few steps at a time; the rest, once.

    `model` is a Network, whose time begins at its encoders and at `Repeat`, or a model that `trace` can read, whose
    inputs are then `[T, B, ...]` if it has none of these. The layers are all that is known to treat every step alike,
    neurons and cells included; readouts come after. A network without time steps has no layers in this sense.
    """

    def __init__(self, model: nn.Module):
        self.graph_module = graph = trace(model)
        super().__init__(graph)
        self.extra_traceback = False  # our messages are one sentence
        nodes = [n for n in graph.graph.nodes if n.op != "output"]
        self._repeats = [n for n in nodes if _repeat_of(module_of(graph, n))]
        self._sliced = [n for n in nodes if isinstance(module_of(graph, n), Encoder)]
        if not self._repeats and not self._sliced and not isinstance(model, Network):
            self._sliced = [n for n in nodes if n.op == "placeholder"]
        self._steps = 1
        self.layers, self._rest, timed = [], [], {*self._repeats, *self._sliced}
        for node in nodes:
            if node in self._repeats:
                self.layers.append(node)
            elif any(n in timed for n in node.all_input_nodes):
                late = any(n in self._rest for n in node.all_input_nodes) or not _is_stepwise(graph, node)
                (self._rest if late else self.layers).append(node)
                timed.add(node)
        self._before = [n for n in nodes if n not in self.layers and n not in self._rest]
        self._kept = [n for n in self.layers if any(user not in self.layers for user in n.users)]

    def before(self, x: Tensor, state: State) -> tuple[Values, State]:
        """What is computed before time begins, all events of a random encoder included, and its state."""
        self.args_iter = iter((x,))
        return self._values(self._before, {}, state)

    def timesteps(self, values: Values) -> int:
        """How many steps there are, given what came before."""
        for node in self._sliced:
            return values[node].shape[0]
        return max((r.timesteps for node in self._repeats if (r := self._repeat(node))), default=1)

    def cut(self, values: Values, steps: int) -> Iterator[tuple[Values, int]]:
        """What enters each piece of at most `steps` steps, and how many steps it has."""
        timesteps = self.timesteps(values)
        sizes = [min(steps, timesteps - start) for start in range(0, timesteps, steps)]
        parts = {node: values[node].split(sizes) for node in self._sliced}
        for number, size in enumerate(sizes):
            yield values | {node: part[number] for node, part in parts.items()}, size

    def piece(self, values: Values, steps: int, state: State) -> tuple[list[Tensor], State]:
        """What the layers yield in the next `steps` steps, and their state afterwards."""
        self._steps = steps
        found, state = self._values(self.layers, values, state)
        return [found[node] for node in self._kept], state

    def rest(self, values: Values, yielded: Iterable[list[Tensor]], state: State) -> tuple[Any, State]:
        """The output, from what all pieces yielded, and the state of what comes after the layers."""
        whole = {node: torch.cat(parts) for node, *parts in zip(self._kept, *yielded, strict=True)}
        found, state = self._values(self._rest, values | whole, state)
        return fx.map_arg(self.graph_module.graph.output_node().args[0], found.__getitem__), state

    def _values(self, nodes: list[fx.Node], known: Values, state: State) -> tuple[Values, State]:
        self.env, self._state, self._after = dict(known), state, {}
        try:
            for node in nodes:
                self.env[node] = self.run_node(node)
                for used in self.user_to_last_uses.get(node, ()):
                    if used not in self._kept:
                        self.env.pop(used, None)
            return self.env, self._after
        finally:
            self.env = {}

    def run_node(self, n: fx.Node) -> Any:
        module = self.submodules.get(str(n.target)) if n.op == "call_module" else None
        if not isinstance(module, Repeat | Stateful):
            return super().run_node(n)
        (x,), _ = self.fetch_args_kwargs_from_env(n)
        with _for_steps(self._repeat(n), self._steps):
            if isinstance(module, Repeat):
                return module(x)
            before = self._state[n.name] if n.name in self._state else module.initial_state(x)
            output, self._after[n.name] = module.advance(x, before)
            return output

    def _repeat(self, node: fx.Node) -> Repeat | None:
        return _repeat_of(module_of(self.graph_module, node))


def _repeat_of(module: nn.Module | None) -> Repeat | None:
    return module.repeat if isinstance(module, Fused) else module if isinstance(module, Repeat) else None


@contextmanager
def _for_steps(repeat: Repeat | None, steps: int) -> Iterator[None]:
    """Inside the block `repeat` yields `steps` steps."""
    if repeat is None:
        yield
        return
    whole, repeat.timesteps = repeat.timesteps, steps
    try:
        yield
    finally:
        repeat.timesteps = whole


def _is_stepwise(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is known to do with every step `[B, ...]` of `[T, B, ...]` the same, but for a state."""
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        return isinstance(module, _STEPWISE) or (isinstance(module, nn.Flatten) and module.start_dim > 0)
    if node.target is torch.cat:
        dim: Any = (*node.args[1:], node.kwargs.get("dim", 0))[0]
        return dim > 0
    return node.target in _SUMS
