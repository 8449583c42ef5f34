"""The kind of every tensor of a graph, from its structure alone.

One table, from operation to rule; what is not in the table gives `Values` with the reason.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from picojoule.graph.linear import LINEAR_FUNCTIONS, LINEAR_MODULES, PRODUCTS
from picojoule.graph.trace import module_of
from picojoule.kinds import Events, Kind, Values
from picojoule.layers import (
    AddTime,
    Crop2d,
    Frames,
    LastStep,
    MeanReadout,
    MembraneReadout,
    Permute,
    Repeat,
    Reshape,
    Scale,
    Shift,
    SpikeCount,
    SpikingMaxPool1d,
    SpikingMaxPool2d,
)

Rule = Callable[[fx.Node, nn.Module | None, list[Kind]], Kind]


def infer_kinds(graph: fx.GraphModule, inputs: Kind, declared: dict[type[nn.Module], Kind]) -> None:
    """Write `node.meta["kind"]`: a Kind, or None for constants and for what is no activation.

    `inputs` is the kind of the model's inputs; `declared` gives the kind of what modules of a type emit.
    Shapes must have been inferred before. `node.meta["trained"]` tells whether parameters act on the tensor.
    """
    for node in graph.graph.nodes:
        sources = [n for n in operands(node) if n.meta["kind"] is not None]
        module = module_of(graph, node)
        node.meta["trained"] = node.op == "get_attr" or any(n.meta["trained"] for n in node.all_input_nodes)
        node.meta["trained"] |= module is not None and any(True for _ in module.parameters())
        if node.op == "placeholder":
            node.meta["kind"] = inputs
        elif node.op in ("get_attr", "output") or not sources or not node.meta["carries"]:
            node.meta["kind"] = None
        else:
            node.meta["kind"] = _kind(node, module, [n.meta["kind"] for n in sources], declared)
            if _is_in_place(node):
                _change_aliases(sources[0], node.meta["kind"])


def _is_in_place(node: fx.Node) -> bool:
    name = str(getattr(node.target, "__name__", node.target))
    return node.target in _IN_PLACE or (node.op == "call_method" and name.endswith("_") and not name.endswith("__"))


def _change_aliases(node: fx.Node, kind: Kind) -> None:
    """An in-place operation changed `node`, and what `node` is a view of: they hold `kind` now."""
    while isinstance(node.meta["kind"], Events):
        node.meta["kind"] = kind
        if _RULES.get(node.target) not in (_keep, _item) or not node.all_input_nodes:
            return
        node = node.all_input_nodes[0]


def operands(node: fx.Node) -> list[fx.Node]:
    """The nodes among a node's arguments, in order and with repetition (`x + x` has two)."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), lambda n: found.append(n) or n)
    return found


def operation_of(node: fx.Node, module: nn.Module | None) -> Any:
    """What a node does: a module's class, a function, or a method's name."""
    return type(module) if module is not None else node.target


def _kind(node: fx.Node, module: nn.Module | None, kinds: list[Kind], declared: dict[type[nn.Module], Kind]) -> Any:
    for emitter, kind in declared.items():
        if isinstance(module, emitter):
            return kind
    emits = getattr(module, "emits", None)
    if isinstance(emits, Values | Events | tuple):
        return emits  # of a cell that returns a tuple, the kinds of its tensors
    rule = _RULES.get(operation_of(node, module), _forget)
    return rule(node, module, kinds)


def _forget(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    if all(isinstance(k, Values) for k in kinds):
        return kinds[0]
    operation = operation_of(node, module)
    return Values(f"{getattr(operation, '__name__', operation)} turns events into values")


def _values(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    return Values()


def _keep(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    return kinds[0]


def _rectify(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    kind = kinds[0]
    return Events(kind.quantum, False, kind.most) if isinstance(kind, Events) else kind


def _item(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    whole: Any = kinds[0]
    index: Any = node.args[1]
    return whole[index] if isinstance(whole, tuple) else whole


def _born(signed: bool, most: int | None) -> Rule:
    return lambda node, module, kinds: Events(1.0, signed, most)


def _rounded(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    if len(node.args) > 1 or "decimals" in node.kwargs:
        return _forget(node, module, kinds)
    return Events(1.0, True, None)


def _add(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    if any(isinstance(c, fx.Node) or c for c in _constants(node)):  # adding 0, as `sum` does, changes nothing
        return _forget(node, module, kinds)
    return _join(kinds, operator.add)


def _subtract(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    kind = _add(node, module, kinds)
    return Events(kind.quantum, True, kind.most) if isinstance(kind, Events) else kind


def _side_by_side(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    if any(n.meta["kind"] is None and n.meta["carries"] for n in operands(node)):
        return _forget(node, module, kinds)
    return _join(kinds, max)


def _join(kinds: Sequence[Kind], most: Callable[[int, int], int]) -> Kind:
    joined = kinds[0]
    for kind in kinds[1:]:
        if isinstance(joined, Values) or isinstance(kind, Values):
            return Values("" if type(joined) is type(kind) else "events were mixed with values")
        if not math.isclose(joined.quantum, kind.quantum, rel_tol=1e-12):
            return Values(f"events of unequal quanta were joined ({joined.quantum:g} and {kind.quantum:g})")
        known = None if joined.most is None or kind.most is None else most(joined.most, kind.most)
        joined = Events(joined.quantum, joined.signed or kind.signed, known)
    return joined


def _multiply(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    if len(kinds) == 1:
        factors = _constants(node)
        factor = factors[0] if len(factors) == 1 else None
        if not isinstance(kinds[0], Events) or not isinstance(factor, int | float) or not factor:
            return _forget(node, module, kinds)
        if node.target in _DIVISIONS:
            return _forget(node, module, kinds) if factor in node.args[:1] else kinds[0].scaled(1 / factor)
        return kinds[0].scaled(factor)
    a, b = kinds
    if node.target in _DIVISIONS or not (isinstance(a, Events) and isinstance(b, Events)):
        return _forget(node, module, kinds)
    most = None if a.most is None or b.most is None else a.most * b.most
    return Events(a.quantum * b.quantum, a.signed or b.signed, most)


def _scaled(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    if isinstance(kinds[0], Values):
        return kinds[0]
    assert isinstance(module, Scale)
    factor = float(module.factor) if module.factor.dim() == 0 else 0.0
    return kinds[0].scaled(factor) if factor else Values("events of every channel were scaled by a factor of its own")


def _negate(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    return kinds[0].scaled(-1) if isinstance(kinds[0], Events) else kinds[0]


def _average(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    if isinstance(kinds[0], Values):
        return kinds[0]
    if node.meta["batch"] is None and node.all_input_nodes[0].meta["batch"] is not None:
        return Values("an average over the batch has no quantum of its own")
    window = _window(node, module)
    if window is None:
        return Values("an average over windows of unequal size has no common quantum")
    return kinds[0].summed(window).scaled(1 / window)


def _total(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    if isinstance(kinds[0], Values):
        return kinds[0]
    return kinds[0].summed(_shrunk_by(node))


def _window(node: fx.Node, module: nn.Module | None) -> int | None:
    """How many elements each average spans, or None where that differs from place to place."""
    if isinstance(module, nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d):
        settings: dict[str, Any] = {k: getattr(module, k, None) for k in ("kernel_size", "padding")}
        settings["ceil_mode"], settings["count_include_pad"] = module.ceil_mode, module.count_include_pad
        settings["divisor_override"] = getattr(module, "divisor_override", None)
    elif node.target in _AVERAGE_POOLS:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        settings = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    else:
        return _shrunk_by(node) if _divides(node) else None
    padding = settings.get("padding") or 0
    padded = any(padding) if isinstance(padding, tuple | list) else bool(padding)
    if settings.get("ceil_mode") or (padded and not settings.get("count_include_pad", True)):
        return None
    if settings.get("divisor_override"):
        return None
    kernel = settings["kernel_size"]
    if isinstance(kernel, int):
        return kernel ** _AVERAGE_POOLS.get(operation_of(node, module), 2)
    return math.prod(kernel)


def _shrunk_by(node: fx.Node) -> int:
    before, after = node.all_input_nodes[0].meta["shape"], node.meta["shape"]
    return max(1, before.numel() // max(1, after.numel()))


def _divides(node: fx.Node) -> bool:
    before, after = node.all_input_nodes[0].meta["shape"], node.meta["shape"]
    if len(before) != len(after):
        return before.numel() % max(1, after.numel()) == 0
    return all(b % a == 0 for b, a in zip(before, after, strict=True) if a)


def _constants(node: fx.Node) -> list[Any]:
    """The operands that are not activations: numbers, parameters, buffers."""
    given = [a for a in (*node.args, *node.kwargs.values()) if not isinstance(a, bool)]
    return [a for a in given if not (isinstance(a, fx.Node) and a.meta["kind"] is not None)]


def _pad(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    settings = dict(zip(("pad", "mode", "value"), node.args[1:], strict=False)) | dict(node.kwargs)
    if settings.get("mode", "constant") == "constant" and settings.get("value"):
        return _forget(node, module, kinds)
    return kinds[0]


def _upsample(node: fx.Node, module: nn.Module | None, kinds: list[Kind]) -> Kind:
    mode = getattr(module, "mode", None) or node.kwargs.get("mode", "nearest")
    return kinds[0] if mode == "nearest" else _forget(node, module, kinds)


_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
_DIVISIONS = (operator.truediv, torch.div, "div")
_AVERAGE_POOLS: dict[Any, int] = {
    nn.AvgPool1d: 1,
    nn.AvgPool2d: 2,
    nn.AvgPool3d: 3,
    F.avg_pool1d: 1,
    F.avg_pool2d: 2,
    F.avg_pool3d: 3,
}


def _table() -> dict[Any, Rule]:
    keep: list[Any] = [nn.Identity, nn.Flatten, nn.Unflatten, AddTime, Repeat, Frames, LastStep, nn.PixelShuffle]
    keep += [Permute, Reshape, Crop2d, SpikingMaxPool1d, SpikingMaxPool2d]
    keep += [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, F.dropout, F.dropout2d]
    keep += [nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d]
    keep += [nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, F.adaptive_max_pool1d, F.adaptive_max_pool2d]
    keep += [nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, getattr]
    for name in (
        "flatten",
        "reshape",
        "permute",
        "transpose",
        "squeeze",
        "unsqueeze",
        "clone",
        "flip",
        "roll",
    ):
        keep += [getattr(torch, name), name]
    for name in (
        "chunk",
        "split",
        "unbind",
        "narrow",
        "select",
        "index_select",
        "gather",
        "movedim",
        "detach",
    ):
        keep += [getattr(torch, name), name]
    keep += [torch.unflatten, torch.t, "unflatten", "t", "view", "contiguous", "expand", "repeat", "to"]
    keep += ["float", "double", "half", "bfloat16", "type", "type_as", "view_as", "reshape_as", "expand_as"]
    keep += [torch.amax, "amax", torch.broadcast_to, "broadcast_to"]

    born_unit: list[Any] = [operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne]
    for name in ("gt", "ge", "lt", "le", "eq", "ne", "heaviside", "bernoulli"):
        born_unit += [getattr(torch, name), name]

    values: list[Any] = [MeanReadout, MembraneReadout, SpikeCount]
    values += [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.Softmax]
    values += [F.batch_norm, F.layer_norm, F.group_norm, F.softmax, torch.softmax, torch.sigmoid, torch.tanh]
    values += list(LINEAR_MODULES) + list(LINEAR_FUNCTIONS) + list(PRODUCTS)

    average: list[Any] = [*_AVERAGE_POOLS, torch.mean, "mean"]
    average += [nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d]
    average += [F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d]

    add: list[Any] = [operator.add, operator.iadd, torch.add, "add", "add_"]
    subtract: list[Any] = [operator.sub, operator.isub, torch.sub, "sub", "sub_"]
    multiply: list[Any] = [operator.mul, operator.imul, torch.mul, "mul", *_DIVISIONS]

    rules: dict[Any, Rule] = dict.fromkeys(keep, _keep)
    rules |= dict.fromkeys(born_unit, _born(False, 1))
    rules |= dict.fromkeys([torch.sign, "sign"], _born(True, 1))
    rules |= dict.fromkeys([torch.poisson], _born(False, None))
    rules |= dict.fromkeys([torch.round, torch.floor, torch.ceil, torch.trunc], _rounded)
    rules |= dict.fromkeys(["round", "floor", "ceil", "trunc"], _rounded)
    rules |= dict.fromkeys([nn.ReLU, F.relu, torch.relu, "relu", torch.abs, "abs"], _rectify)
    rules |= dict.fromkeys(values, _values)
    rules |= dict.fromkeys(average, _average)
    rules |= dict.fromkeys([torch.sum, "sum"], _total)
    rules |= dict.fromkeys(add, _add)
    rules |= dict.fromkeys(subtract, _subtract)
    rules |= dict.fromkeys(multiply, _multiply)
    rules |= {Scale: _scaled, Shift: _forget, operator.getitem: _item}
    rules |= dict.fromkeys([operator.neg, torch.neg, "neg"], _negate)
    rules |= dict.fromkeys([torch.cat, torch.concat, torch.stack], _side_by_side)
    rules |= {F.pad: _pad, nn.Upsample: _upsample, F.interpolate: _upsample}
    return rules


_RULES: dict[Any, Rule] = _table()
