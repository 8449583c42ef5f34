"""Bias correction: the mean activation of every channel, matched layer by layer on calibration images."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from picojoule.conversion.normalise import Bias, bias_in_front
from picojoule.graph.trace import module_of
from picojoule.neurons import Neuron

ITERATIONS = 2
"""How often the mean of a population is measured and corrected (our choice)."""
ELEMENTS = 2**24
"""Numbers in the largest tensor over time that a piece of the calibration data may need."""

Trains = dict[str, Tensor]


@torch.no_grad()
def correct_biases(
    spiking: fx.GraphModule,
    scaled: fx.GraphModule,
    ann: fx.GraphModule,
    scales: dict[str, Tensor],
    batches: Sequence[Tensor],
    timesteps: int,
) -> None:
    """Add to the bias in front of every population what its channels' mean rates lack; in place.

    Populations are taken in wiring order, and each is driven by the events of those before it as corrected. `spiking`
    and `scaled` share their weights; `scales` gives what an event stands for. The scores are corrected last. Memory is
    one byte for every neuron, step and image of the populations whose events are still needed.

    Source: the "light" calibration of Li et al. 2021 (ICML), as in its released code.
    """
    largest = max(shape.numel() // shape[0] for n in ann.graph.nodes if (shape := n.meta.get("shape")) is not None)
    size = max(1, ELEMENTS // (timesteps * largest))
    images = [piece for batch in batches for piece in batch.split(size)]
    wanted = _mean_activations(ann, scales, images)
    trains: list[Trains] = [{} for _ in images]
    for node in [n for n in spiking.graph.nodes if isinstance(module_of(spiking, n), Neuron)]:
        neuron: Any = module_of(spiking, node)
        driven = partial(_driven, spiking, node, neuron, trains)
        (twin,) = scaled.graph.find_nodes(op="call_module", target=node.target)
        bias = bias_in_front(scaled, twin)
        if bias is not None and node.name in wanted:
            for _ in range(ITERATIONS):
                rates = _mean_by_channel(images, lambda i, x: driven(i, x).mean(0))  # noqa: B023  (used at once)
                _add(bias, wanted[node.name] / scales[node.name].flatten() - rates)
        for i, x in enumerate(images):
            trains[i][node.name] = driven(i, x).to(torch.int8)
        _forget(spiking, trains)
    output, readout = (next(iter(g.graph.find_nodes(op="output"))) for g in (scaled, spiking))
    bias = bias_in_front(scaled, output)
    if bias is not None:
        _add(bias, wanted["output"] - _mean_by_channel(images, lambda i, x: _at(spiking, readout, x, trains[i])))


def _add(bias: Bias, lacking: Tensor) -> None:
    change = lacking / bias.factor.flatten()
    bias.values.add_(change.reshape(bias.values.shape))


def _driven(graph: fx.GraphModule, node: fx.Node, neuron: Neuron, trains: list[Trains], i: int, x: Tensor) -> Tensor:
    """The events of a population for piece `i`, from those of the populations before it."""
    return neuron(_at(graph, node.all_input_nodes[0], x, trains[i]))


def _mean_activations(graph: fx.GraphModule, names: Iterable[str], images: Sequence[Tensor]) -> dict[str, Tensor]:
    nodes = [n for n in graph.graph.nodes if n.op == "output" or n.name in names]
    return {n.name: _mean_by_channel(images, lambda i, x, n=n: _at(graph, n, x, {})) for n in nodes}


def _mean_by_channel(images: Sequence[Tensor], values: Callable[[int, Tensor], Tensor]) -> Tensor:
    """The mean `[C]` of values `[B, C, ...]` over images and places."""
    total: Any = 0
    for i, x in enumerate(images):
        found = values(i, x)
        total = total + found.transpose(0, 1).flatten(1).mean(1, dtype=torch.float64) * len(x)
    return (total / sum(map(len, images))).to(images[0].dtype)


def _at(graph: fx.GraphModule, node: fx.Node, x: Tensor, trains: Trains) -> Tensor:
    """The value of a node for images `x`, from the trains of populations where they are known."""
    known: dict[fx.Node, Any] = {}

    def value(n: fx.Node) -> Any:
        if n.name in trains:
            return trains[n.name].to(x.dtype)
        if n not in known:
            arguments: Any = fx.map_arg((n.args, n.kwargs), value)
            args, kwargs = arguments
            if n.op == "placeholder":
                known[n] = x
            elif n.op == "output":
                (known[n],) = args
            else:
                call: Any = graph.get_submodule(str(n.target)) if n.op == "call_module" else n.target
                known[n] = call(*args, **kwargs)
        return known[n]

    return value(node)


def _forget(graph: fx.GraphModule, trains: list[Trains]) -> None:
    """Drop the trains that nothing reads any more."""
    needed: set[str] = set()
    for node in graph.graph.nodes:
        if node.name not in trains[0] and (node.op == "output" or isinstance(module_of(graph, node), Neuron)):
            behind = list(node.all_input_nodes)
            while behind:
                source = behind.pop()
                if source.name in trains[0]:
                    needed.add(source.name)
                else:
                    behind += source.all_input_nodes
    for kept in trains:
        for name in set(kept) - needed:
            del kept[name]
