"""From a normalised graph for rates to a spiking one over time."""

from typing import Any

import torch
from torch import fx, nn

from picojoule.conversion.options import ECCOptions
from picojoule.conversion.parts import MAXIMA, CountInput, CountOutput, neurons_of, scale_at
from picojoule.conversion.signals import Signal, signals
from picojoule.errors import BadInput
from picojoule.graph.passes import insert_after, insert_before, recompiled, unused_name
from picojoule.graph.trace import module_of
from picojoule.layers import (
    AddTime,
    EvenRate,
    MeanReadout,
    Repeat,
    Scale,
    Shift,
    SpikeCount,
    SpikingMaxPool1d,
    SpikingMaxPool2d,
    Timewise,
)
from picojoule.neurons import IAF, Neuron, SignedIAF, Stateful

_EVERY_SHAPE = (nn.Linear, Scale, Shift)


def with_time(scaled: fx.GraphModule, timesteps: int, options: ECCOptions) -> fx.GraphModule:
    """The spiking graph of a normalised one, with which it shares weights: images `[B, ...]` to scores `[B, classes]`.

    Rectifiers become integrate-and-fire neurons with soft reset and the threshold 1, or the inverse of a scalar `Scale`
    in front of them; max pools of events count. What depends on the image alone runs once, and its result is the
    constant current of all `timesteps`.
    """
    copy = fx.Graph()
    copy.output(copy.graph_copy(scaled.graph, {}))
    graph = fx.GraphModule(scaled, copy, "Spiking")
    for twin, node in zip(graph.graph.nodes, scaled.graph.nodes, strict=True):
        twin.meta = dict(node.meta)
    carried = signals(graph, Signal.CONSTANT)
    pools = [n for n in graph.graph.nodes if isinstance(module_of(graph, n), MAXIMA)]
    counted = [n for n in pools if carried[n.all_input_nodes[0]] is not Signal.CONSTANT]
    if any(carried[n.all_input_nodes[0]] is Signal.CURRENT for n in counted):
        raise BadInput("expected events in front of every max pool, got a graph that was not made ready for spikes")
    for node in counted:
        _put(graph, node, _spiking_pool(module_of(graph, node)))
    counts = any(isinstance(m, CountOutput) for m in graph.modules())
    for node in neurons_of(graph):
        _put(graph, node, _neuron(graph, node, timesteps, options))
    return over_time(graph, timesteps, counts)


def over_time(graph: fx.GraphModule, timesteps: int, counts: bool = False) -> fx.GraphModule:
    """The graph, in place, for `timesteps` steps: layers work on every step, and constants are presented at each.

    Scores are means over time, or with `counts` the events of the last population. Neurons must be in place.
    """
    for node in list(graph.graph.nodes):
        _fold_time(graph, node)
    _ends(graph, counts)
    _repeat_constants(graph, timesteps)
    return recompiled(graph)


def _put(graph: fx.GraphModule, node: fx.Node, layer: nn.Module) -> None:
    graph.set_submodule(str(node.target), layer)


def _spiking_pool(pool: Any) -> nn.Module:
    kind = SpikingMaxPool1d if isinstance(pool, nn.MaxPool1d) else SpikingMaxPool2d
    return kind(pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)


def _neuron(graph: fx.GraphModule, node: fx.Node, timesteps: int, options: ECCOptions) -> nn.Module:
    if isinstance(module_of(graph, node), CountInput):
        return EvenRate(timesteps)
    (source,) = node.all_input_nodes
    factor, threshold = scale_at(graph, source), 1.0
    if factor is not None and factor.dim() == 0 and float(factor) > 0:
        threshold = 1 / float(factor)
        node.replace_input_with(source, source.all_input_nodes[0])
        if not source.users:
            graph.graph.erase_node(source)
    kind = SignedIAF if options.signed else IAF
    return kind(threshold, v_initial=options.residual * threshold)


def _fold_time(graph: fx.GraphModule, node: fx.Node) -> None:
    """Let a layer for `[B, ...]` work on every step."""
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if node.target is torch.cat:
        parts, *rest = node.args
        axis: Any = rest[0] if rest else node.kwargs.get("dim", 0)
        node.args, node.kwargs = (parts, axis + 1 if axis > 0 else axis), {}
    elif isinstance(module, nn.Flatten) and module.start_dim > 0:
        end = module.end_dim + 1 if module.end_dim > 0 else module.end_dim
        _put(graph, node, nn.Flatten(module.start_dim + 1, end))
    elif module is not None and not isinstance(module, (*_EVERY_SHAPE, Stateful)):
        _put(graph, node, Timewise(module))


def _ends(graph: fx.GraphModule, counted: bool) -> None:
    """The time axis behind the image, unless an encoder makes it, and the readout."""
    encoded = any(isinstance(m, EvenRate) for m in graph.modules())
    for node in list(graph.graph.nodes):
        if node.op == "placeholder" and not encoded:
            insert_after(graph, node, unused_name(graph, "add_time"), AddTime())
        elif node.op == "output":
            readout = SpikeCount() if counted else MeanReadout()
            insert_before(graph, node, node.all_input_nodes[0], unused_name(graph, "readout"), readout)


def _repeat_constants(graph: fx.GraphModule, timesteps: int) -> None:
    """Present what depends on the image alone at every step, right where steps begin to differ."""
    constant: dict[fx.Node, bool] = {}
    changing = (Neuron, EvenRate, MeanReadout, SpikeCount)
    for node in graph.graph.nodes:
        module = module_of(graph, node)
        sources = [constant[n] for n in node.all_input_nodes]
        constant[node] = node.op != "output" and not isinstance(module, changing) and all(sources)
    for node in list(graph.graph.nodes):
        if not constant[node] or node.op == "placeholder":
            continue
        for user in [u for u in node.users if not constant[u] and not isinstance(module_of(graph, u), EvenRate)]:
            repeat = Repeat(timesteps)
            insert_before(graph, user, node, unused_name(graph, f"{node.target}_repeat"), repeat)
