"""Max pooling behind the activation, where events can be compared."""

from torch import fx, nn

from picojoule.conversion.parts import LEAKY, MAXIMA, RECTIFIERS, per_channel, scale_at, shift_at
from picojoule.graph.trace import module_of


def pool_behind_activation(graph: fx.GraphModule) -> None:
    """Swap every max pool with the activation, positive factor or offset right behind it; in place.

    They do not fall where their input rises, so the largest stays the largest.
    """
    for node in reversed(list(graph.graph.nodes)):
        if isinstance(module_of(graph, node), MAXIMA):
            while len(node.users) == 1 and _is_monotone(graph, user := next(iter(node.users))):
                source = node.all_input_nodes[0]
                user.replace_all_uses_with(node)
                user.replace_input_with(node, source)
                node.replace_input_with(source, user)
                user.meta["shape"] = source.meta["shape"]
                user.append(node)


def _is_monotone(graph: fx.GraphModule, node: fx.Node) -> bool:
    module: nn.Module | None = module_of(graph, node)
    factor, offset = scale_at(graph, node), shift_at(graph, node)
    if factor is not None:
        return per_channel(factor) is not None and bool((factor > 0).all())
    return isinstance(module, (*RECTIFIERS, *LEAKY)) or (offset is not None and per_channel(offset) is not None)
