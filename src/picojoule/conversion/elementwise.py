"""Passes that move constant factors and offsets along a graph until weights and biases take them in.

All edit the graph in place and leave its outputs as they are, up to rounding. Shapes must have been inferred.
"""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from picojoule.conversion.parts import (
    AVERAGES,
    MAXIMA,
    MOVES,
    SPATIAL,
    is_synaptic,
    per_channel,
    scale_at,
    shape_of,
    shift_at,
    simplest,
)
from picojoule.conversion.weights import add_bias, response, scale_inputs, scale_outputs
from picojoule.graph.passes import bypass, insert_after, insert_before, unused_name
from picojoule.graph.trace import module_of
from picojoule.layers import Scale, Shift

SUMS = (operator.add, operator.sub)


def push_scales_forward(graph: fx.GraphModule) -> None:
    """Move every `Scale` through moves, pools, equal sums and concatenations into the weights behind them."""
    waiting = [n for n in graph.graph.nodes if scale_at(graph, n) is not None]
    while waiting:
        node = waiting.pop()
        for user in list(node.users):
            if user in node.users:
                waiting += _scale_forward(graph, node, user)
    graph.graph.eliminate_dead_code()


def _scale_forward(graph: fx.GraphModule, node: fx.Node, user: fx.Node) -> list[fx.Node]:
    factor, module, source = scale_at(graph, node), module_of(graph, user), node.all_input_nodes[0]
    assert factor is not None
    if is_synaptic(module):
        if scale_inputs(module, factor):
            user.replace_input_with(node, source)
        return []
    if isinstance(module, Scale):
        module.factor = simplest(module.factor * factor)
        user.replace_input_with(node, source)
        return []
    if user.target is torch.cat:
        return _scale_concatenation(graph, user)
    if user.target in SUMS:
        factors = [scale_at(graph, a) for a in user.args]
        if any(f is None or not torch.equal(f, factor) for f in factors):
            return []
        user.args = tuple(a.all_input_nodes[0] if isinstance(a, fx.Node) else a for a in user.args)
        return [_behind(graph, user, Scale(factor))]
    behind = moved(module, factor, shape_of(node))
    if behind is None:
        return []
    user.replace_input_with(node, source)
    return [_behind(graph, user, Scale(behind))]


def moved(module: nn.Module | None, factor: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """The factor behind a layer that moves or pools what was scaled; None where none does the same."""
    spatial = isinstance(module, (*AVERAGES, *MAXIMA, *SPATIAL))
    if isinstance(module, nn.ZeroPad1d | nn.ZeroPad2d | nn.ZeroPad3d):
        spatial = len(module.padding) < 2 * len(shape)  # else it adds or leaves out channels
    if isinstance(module, nn.Upsample) and module.mode != "nearest":
        spatial = spatial and factor.dim() == 0
    if spatial:
        fits = per_channel(factor) is not None and not (isinstance(module, MAXIMA) and bool((factor <= 0).any()))
        return factor if fits else None
    if not isinstance(module, MOVES):
        return None
    return factor if factor.dim() == 0 else simplest(module(factor.expand(shape).unsqueeze(0))[0])


def _scale_concatenation(graph: fx.GraphModule, user: fx.Node) -> list[fx.Node]:
    parts, _ = _parts(user)
    factors = {part: factor for part in parts if (factor := scale_at(graph, part)) is not None}
    behind = beside(user, factors, 1.0)
    user.args = ([part.all_input_nodes[0] if part in factors else part for part in parts], *user.args[1:])
    return [_behind(graph, user, Scale(behind))]


def beside(node: fx.Node, constants: Mapping[fx.Node, Tensor], rest: float) -> Tensor:
    """The constants of some parts of a concatenation as one constant behind it, with `rest` for the other parts."""
    parts, axis = _parts(node)
    filler = torch.full_like(next(iter(constants.values())).flatten()[0], rest)
    return simplest(torch.cat([constants.get(part, filler).expand(shape_of(part)) for part in parts], axis))


def _parts(node: fx.Node) -> tuple[list[fx.Node], int]:
    """What a concatenation puts side by side, and along which axis of a sample."""
    parts: Any = node.args[0]
    given: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    rank = len(node.meta["shape"])
    return list(parts), given % rank - 1


def push_scales_backward(graph: fx.GraphModule) -> None:
    """Move every `Scale` against the flow into the weights, offsets and sums in front of it."""
    waiting = [n for n in graph.graph.nodes if scale_at(graph, n) is not None]
    while waiting:
        node = waiting.pop()
        if node in graph.graph.nodes:  # it may have been taken out since
            waiting += _scale_backward(graph, node)


def _scale_backward(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    source, factor = node.all_input_nodes[0], scale_at(graph, node)
    factors = [scale_at(graph, user) for user in source.users]
    if factor is None or any(f is None for f in factors) or bool((factor == 0).any()):
        return []
    module, placed = module_of(graph, source), []
    if is_synaptic(module):
        if not scale_outputs(module, factor):
            return []
    elif isinstance(module, Scale):
        module.factor = simplest(module.factor * factor)
        placed = [source]
    elif isinstance(module, Shift):
        module.offset = simplest(module.offset * factor)
        placed = [_in_front(graph, source, source.all_input_nodes[0], factor)]
    elif _takes_back(graph, source):
        parts = list(dict.fromkeys(source.all_input_nodes))
        if source.target is torch.cat:
            parts, axis = _parts(source)
            sizes = [shape_of(p)[axis] for p in parts]
            pieces = factor.expand(shape_of(source)).split(sizes, axis) if factor.dim() else [factor] * len(parts)
        else:
            pieces = [factor] * len(parts)
        placed = [_in_front(graph, source, p, simplest(f)) for p, f in zip(parts, pieces, strict=True)]
    else:
        return []
    _divide_users(graph, source, factor)
    return placed


def _takes_back(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a factor behind a sum, concatenation or pool would reach weights in front of it."""
    module = module_of(graph, node)
    if is_synaptic(module) or isinstance(module, Shift):
        return True
    if node.target in SUMS or node.target is torch.cat:
        return any(_takes_back(graph, n) for n in node.all_input_nodes)
    return False


def _divide_users(graph: fx.GraphModule, source: fx.Node, factor: Tensor) -> None:
    """The scales behind `source`, which has taken `factor` in, keep what is left of theirs."""
    for user in list(source.users):
        module: Any = module_of(graph, user)
        module.factor = simplest(module.factor / factor)
        if module.factor.dim() == 0 and float(module.factor) == 1:
            bypass(graph, user)


def push_shifts_forward(graph: fx.GraphModule) -> None:
    """Move every `Shift` through linear layers, moves, pools and sums, as what they make of a constant.

    A bias takes an offset in that is the same all over its channel; one that zero padding cuts at the borders stays a
    `Shift` by position.
    """
    waiting = [n for n in graph.graph.nodes if shift_at(graph, n) is not None]
    while waiting:
        node = waiting.pop()
        if not _taken_by_bias(graph, node):
            for user in list(node.users):
                waiting += _shift_forward(graph, node, user)
    graph.graph.eliminate_dead_code()


def _taken_by_bias(graph: fx.GraphModule, node: fx.Node) -> bool:
    source, offset = node.all_input_nodes[0], shift_at(graph, node)
    layer = module_of(graph, source)
    assert offset is not None
    taken = is_synaptic(layer) and len(source.users) == 1 and add_bias(layer, offset)
    if taken:
        bypass(graph, node)
    return taken


def _shift_forward(graph: fx.GraphModule, node: fx.Node, user: fx.Node) -> list[fx.Node]:
    offset, module, source, shape = (
        shift_at(graph, node),
        module_of(graph, user),
        node.all_input_nodes[0],
        shape_of(node),
    )
    assert offset is not None
    if isinstance(module, Shift):
        module.offset = simplest(module.offset + offset)
        user.replace_input_with(node, source)
        return []
    if isinstance(module, Scale):
        behind = module.factor * offset
    elif isinstance(module, MAXIMA):
        if per_channel(offset) is None:
            return []
        behind = offset
    elif is_synaptic(module) or isinstance(module, (*AVERAGES, *MOVES)):
        assert module is not None
        behind = response(module, offset, shape)
    elif user.target in SUMS:
        sign = -1 if user.target is operator.sub else 1
        behind = sum((offset * s for a, s in zip(user.args, (1, sign), strict=True) if a is node), 0 * offset)
    elif user.target is torch.cat:
        behind = beside(user, {node: offset}, 0.0)
    else:
        return []
    user.replace_input_with(node, source)
    return [_behind(graph, user, Shift(simplest(behind)))]


def _behind(graph: fx.GraphModule, node: fx.Node, layer: nn.Module) -> fx.Node:
    new = insert_after(graph, node, unused_name(graph, f"{_base(node)}_{type(layer).__name__.lower()}"), layer)
    new.meta["shape"] = node.meta["shape"]
    return new


def _in_front(graph: fx.GraphModule, user: fx.Node, source: fx.Node, factor: Tensor) -> fx.Node:
    new = insert_before(graph, user, source, unused_name(graph, f"{_base(user)}_scale"), Scale(factor))
    new.meta["shape"] = source.meta["shape"]
    return new


def _base(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name
