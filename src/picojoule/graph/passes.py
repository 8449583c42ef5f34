"""Small edits of a graph. A pass never changes the graph it is given."""

import copy
from collections.abc import Callable
from itertools import count

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from picojoule.errors import BadInput
from picojoule.graph.trace import module_of
from picojoule.layers import Timewise

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def copied(graph: fx.GraphModule) -> fx.GraphModule:
    """A deep copy in evaluation mode, with its own parameters."""
    return copy.deepcopy(graph).eval()


def fold_batch_norm(graph: fx.GraphModule) -> fx.GraphModule:
    """Every batch norm behind a convolution or linear layer becomes part of its weights and bias.

    Uses each norm's own epsilon and running statistics, so the outputs in evaluation mode stay the same up to
    rounding. Raises BadInput for a norm that does not directly follow its layer.
    """
    folded = copied(graph)
    for node in list(folded.graph.nodes):
        norm = module_of(folded, node)
        if not isinstance(norm, _NORMS):
            continue
        (before,) = node.all_input_nodes
        layer = module_of(folded, before)
        if not isinstance(layer, (*_CONVOLUTIONS, nn.Linear)) or len(before.users) != 1:
            raise BadInput(f"cannot fold {node.target}: expected a convolution or linear layer right before it")
        fuse = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        replace_layer(folded, before, fuse(layer, norm))  # pyright: ignore[reportArgumentType]
        node.replace_all_uses_with(before)
        folded.graph.erase_node(node)
    return recompiled(folded)


def replace_layer(graph: fx.GraphModule, node: fx.Node, layer: nn.Module) -> None:
    """Put `layer` where `node` calls one, under the same name and with the same time folding."""
    whole = graph.get_submodule(str(node.target))
    graph.set_submodule(str(node.target), Timewise(layer) if isinstance(whole, Timewise) else layer)


def insert_after(graph: fx.GraphModule, node: fx.Node, name: str, layer: nn.Module) -> fx.Node:
    """Call `layer`, under `name`, on what `node` yields; everything that used `node` uses the result."""
    graph.add_submodule(name, layer)
    with graph.graph.inserting_after(node):
        new = graph.graph.call_module(name, (node,))
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    return new


def replace_layers(graph: fx.GraphModule, kind: type[nn.Module], make: Callable[[fx.Node], nn.Module]) -> None:
    """Replace every called layer of a kind, in place; `make` gets the node that calls it."""
    for node in graph.graph.nodes:
        if isinstance(module_of(graph, node), kind):
            replace_layer(graph, node, make(node))


def recompiled(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph with its code and modules brought in line with its edited nodes."""
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return graph


def insert_before(graph: fx.GraphModule, user: fx.Node, source: fx.Node, name: str, layer: nn.Module) -> fx.Node:
    """Call `layer`, under `name`, on what `source` yields; of its users only `user` reads the result instead."""
    graph.add_submodule(name, layer)
    with graph.graph.inserting_before(user):
        new = graph.graph.call_module(name, (source,))
    user.replace_input_with(source, new)
    return new


def bypass(graph: fx.GraphModule, node: fx.Node) -> None:
    """Take out a call with one input: its users read the input instead."""
    node.replace_all_uses_with(node.all_input_nodes[0])
    graph.graph.erase_node(node)


def unused_name(graph: fx.GraphModule, wanted: str) -> str:
    """`wanted`, or with the first number behind it that makes it a name no module has."""
    taken = {name for name, _ in graph.named_modules()}
    numbered = (f"{wanted}_{k}" for k in count(2))
    return wanted if wanted not in taken else next(name for name in numbered if name not in taken)
