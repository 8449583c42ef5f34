"""Bias correction: the mean activation of every channel, matched layer by layer on calibration images."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from picojoule.conversion.normalise import Bias, bias_in_front
from picojoule.conversion.parts import channelwise, shape_of
from picojoule.conversion.summaries import Summaries, by_channel
from picojoule.graph.trace import module_of
from picojoule.neurons import Neuron

ITERATIONS = 2
"""How often the mean of a population is measured and corrected (our choice)."""
ELEMENTS = 2**24
"""Numbers in the largest tensor over time that a piece of the calibration data may need."""
HELD = 2**28
"""Numbers of the currents of a population that are held (1 GiB in float32), so that synapses are run once."""

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
    and `scaled` share their weights; `scales` gives what an event stands for. The scores are corrected last.

    The means of a population are over the first images, as many as HELD allows: fewer of them where maps, and so the
    numbers of a channel, are large. Memory is that, and one byte for every neuron, step and image of the populations
    whose events are still needed.

    Source: the "light" calibration of Li et al. 2021 (ICML), as in its released code.
    """
    largest = max(shape.numel() // shape[0] for n in ann.graph.nodes if (shape := n.meta.get("shape")) is not None)
    size = max(1, ELEMENTS // (timesteps * largest))
    images = [piece for batch in batches for piece in batch.split(size)]
    activations = _mean_activations(ann, scales, images)
    trains: list[Trains] = [{} for _ in images]
    for node in [n for n in spiking.graph.nodes if isinstance(module_of(spiking, n), Neuron)]:
        neuron: Any = module_of(spiking, node)
        held = _currents(spiking, node, images, trains)
        (twin,) = scaled.graph.find_nodes(op="call_module", target=node.target)
        bias, offset = bias_in_front(scaled, twin), torch.zeros(())
        if bias is not None and node.name in activations:
            wanted = _mean(activations[node.name][: len(held)], images) / scales[node.name].flatten()
            for _ in range(ITERATIONS):
                rates = [_by_channel(neuron(current + offset).mean(0)) for current in held]
                lacking = wanted - _mean(rates, images)
                _add(bias, lacking)
                offset = offset + channelwise(lacking * neuron.threshold, shape_of(node))
        for i, x in enumerate(images):
            current = held[i] + offset if i < len(held) else _at(spiking, node.all_input_nodes[0], x, trains[i])
            trains[i][node.name] = neuron(current).to(torch.int8)
        _forget(spiking, trains)
    output, readout = (next(iter(g.graph.find_nodes(op="output"))) for g in (scaled, spiking))
    bias = bias_in_front(scaled, output)
    if bias is not None:
        scores = [_by_channel(_at(spiking, readout, x, kept)) for x, kept in zip(images, trains, strict=True)]
        _add(bias, _mean(activations["output"], images) - _mean(scores, images))


def _add(bias: Bias, lacking: Tensor) -> None:
    change = lacking / bias.factor.flatten()
    bias.values.add_(change.reshape(bias.values.shape))


def _currents(graph: fx.GraphModule, node: fx.Node, images: Sequence[Tensor], trains: list[Trains]) -> list[Tensor]:
    """What drives a population in the first pieces, as many of them as may be held."""
    held, numbers = [], 0
    for x, kept in zip(images, trains, strict=True):
        if numbers >= HELD:
            break
        held.append(_at(graph, node.all_input_nodes[0], x, kept))
        numbers += held[-1].numel()
    return held


def _mean_activations(graph: fx.GraphModule, names: Iterable[str], images: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """The mean by channel of the activations called so, and of the scores (`output`), for every piece."""
    nodes = {n for n in graph.graph.nodes if n.op == "output" or n.name in names}
    found = Summaries(graph, nodes, nodes, lambda n, rows: rows.mean(1, dtype=torch.float64)).over(images)
    return {n.name: means for n, means in found.items()}


def _by_channel(values: Tensor) -> Tensor:
    return by_channel(values).mean(1, dtype=torch.float64)


def _mean(means: Sequence[Tensor], images: Sequence[Tensor]) -> Tensor:
    """The mean `[C]` over the images of the first pieces from that of each piece."""
    sizes = [len(x) for x, _ in zip(images, means, strict=False)]
    total = torch.stack([mean * size for mean, size in zip(means, sizes, strict=True)]).sum(0)
    return (total / sum(sizes)).to(images[0].dtype)


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
