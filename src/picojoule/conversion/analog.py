"""The canonical analog graph of a trained network: without time, every layer on its own, ready to spike."""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from picojoule.conversion.elementwise import push_scales_backward, push_scales_forward, push_shifts_forward
from picojoule.conversion.groups import relay_ceilings
from picojoule.conversion.norms import affine_norms
from picojoule.conversion.options import ECCOptions
from picojoule.conversion.order import pool_behind_activation
from picojoule.conversion.parts import ADAPTIVE_MAXIMA, is_synaptic
from picojoule.conversion.populations import with_populations
from picojoule.conversion.refusals import refuse_unknown
from picojoule.errors import BadInput
from picojoule.graph.linear import plain_layer
from picojoule.graph.modules import module_graph
from picojoule.graph.passes import bypass, copied, recompiled, replace_layer
from picojoule.graph.shapes import evaluating, infer_shapes
from picojoule.graph.trace import module_of, trace
from picojoule.layers import AddTime, MeanReadout, Repeat, Timewise

_DROPPED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
CLOSE = 1e-3
"""How far scores may be off the model's, as a share of the largest: passes compute in float32 (our choice)."""


def analog_graph(model: nn.Module, images: Tensor, options: ECCOptions) -> fx.GraphModule:
    """A copy of `model` for `[B, ...]` whose scores are the same up to rounding, made of what can spike.

    `model` takes images, or is one of picojoule's analog networks over time. Batch norms are part of weights and
    biases; max pooling follows its activation; dropout and a final softmax are gone; leaky activations, and currents
    that enter synapses without an activation, are two rectified populations; average pools have populations of
    their own unless they pass fractions on; clipped activations that are added to others have a second one. Weights
    that are computed at every call, such as weight norm, are plain weights. Every rectifier that is left becomes
    neurons.

    Raises BadInput for what cannot spike, with its name, its type and what to do, and where the scores of `images`
    are not the model's.
    """
    example = images[:1]
    with evaluating(model):
        expected = model(images)  # and hooks put weights where they are read
    graph, endings = without_time(model, example)
    refuse_unknown(graph)
    infer_shapes(recompiled(graph), example, 0)
    _fix_adaptive_pools(graph)
    affine_norms(graph, options.bn_epsilon)
    pool_behind_activation(graph)
    push_shifts_forward(graph)
    push_scales_forward(graph)
    push_scales_backward(graph)
    infer_shapes(recompiled(graph), example, 0)
    with_populations(graph, options)
    relay_ceilings(graph, options)
    recompiled(graph)
    if options.bn_epsilon is None:  # another epsilon is asked for to see other scores
        _compare(nn.Sequential(graph, *endings)(images), expected, type(model).__name__)
    return graph


def without_time(model: nn.Module, example: Tensor) -> tuple[fx.GraphModule, list[nn.Module]]:
    """A copy of an analog `model` for `[B, ...]` in evaluation mode: no time axis, every call with a layer of its own.

    Dropout and a final softmax are gone; the latter is handed back. `model` takes images, or is one of picojoule's
    analog networks over time.
    """
    graph = copied(_traced(model, example))
    _strip_time(graph)
    _one_module_per_call(graph)
    return graph, _drop(graph)


def _traced(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """The graph that a network of ours is made of; of other models one in which functions are layers."""
    return trace(model) if hasattr(model, "graph_module") else module_graph(model, example)


def _strip_time(graph: fx.GraphModule) -> None:
    """Take the time axis out of a network whose single step is its analog output."""
    timed = any(isinstance(m, AddTime) for m in graph.modules())
    for node in list(graph.graph.nodes):
        module = module_of(graph, node)
        if node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), Timewise):
            graph.set_submodule(str(node.target), module)  # pyright: ignore[reportArgumentType]
        elif isinstance(module, AddTime | Repeat | MeanReadout):
            bypass(graph, node)
        elif timed and isinstance(module, nn.Flatten) and module.start_dim > 0:
            end = module.end_dim - 1 if module.end_dim > 0 else module.end_dim
            graph.set_submodule(str(node.target), nn.Flatten(module.start_dim - 1, end))
        elif timed and node.target is torch.cat:
            axis: Any = node.args[1] if len(node.args) > 1 else node.kwargs["dim"]
            node.args, node.kwargs = (node.args[0], axis - 1 if axis > 0 else axis), {}


def _one_module_per_call(graph: fx.GraphModule) -> None:
    """Give every call a module and plain weights of its own, so that each place has its own scale; and no hooks."""
    taken: set[str] = set()
    for node in graph.graph.find_nodes(op="call_module"):
        name = str(node.target)
        if name in taken:
            name = node.name if not hasattr(graph, node.name) else f"{node.name}_call"
        taken.add(name)
        module = module_of(graph, node)
        graph.add_submodule(name, _plain(module) if is_synaptic(module) else copy.deepcopy(module))  # pyright: ignore
        node.target = name
    for module in graph.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()


def _plain(module: Any) -> nn.Module:
    layer = plain_layer(module)
    layer.weight = nn.Parameter(module.weight.detach().clone())
    layer.bias = None if module.bias is None else nn.Parameter(module.bias.detach().clone())
    return layer


def _drop(graph: fx.GraphModule) -> list[nn.Module]:
    """Take out dropout, identities and the softmax of the scores; gives the latter."""
    endings: list[nn.Module] = []
    for node in reversed(list(graph.graph.nodes)):
        module = module_of(graph, node)
        if isinstance(module, nn.Softmax | nn.LogSoftmax) and all(user.op == "output" for user in node.users):
            endings.insert(0, module)
            bypass(graph, node)
        elif isinstance(module, _DROPPED):
            bypass(graph, node)
    return endings


def _compare(scores: Tensor, expected: Tensor, name: str) -> None:
    error, largest = (float(x.abs().max()) for x in (scores - expected, expected))
    if error > max(CLOSE, 10 * torch.finfo(scores.dtype).eps) * largest:
        raise BadInput(
            f"the layers of {name} make other scores than it does, by up to {error:.3g} where the largest is "
            f"{largest:.3g}: something beside the layers acts on what they compute; remove hooks and wrappers"
        )


def _fix_adaptive_pools(graph: fx.GraphModule) -> None:
    """Make every adaptive max pool one with windows of a size; shapes must have been inferred."""
    for node in graph.graph.nodes:
        pool = module_of(graph, node)
        if isinstance(pool, ADAPTIVE_MAXIMA):
            axes = 1 if isinstance(pool, nn.AdaptiveMaxPool1d) else 2
            before, after = (n.meta["shape"][-axes:] for n in (node.all_input_nodes[0], node))
            if any(a % b for a, b in zip(before, after, strict=True)):
                raise BadInput(
                    f"cannot convert {node.target} ({type(pool).__name__}): its windows overlap unevenly from "
                    f"{tuple(before)} to {tuple(after)}; use a pool with one size of window"
                )
            window = tuple(a // b for a, b in zip(before, after, strict=True))
            replace_layer(graph, node, nn.MaxPool1d(window[0]) if axes == 1 else nn.MaxPool2d(window))
