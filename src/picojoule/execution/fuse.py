"""Fuse batch norm, neurons and pooling: one pass over memory instead of one for each, forward and backward."""

from typing import Any, TypeVar

from torch import fx, nn

from picojoule.errors import BadInput
from picojoule.execution.fused_part import Fused
from picojoule.graph import Observed
from picojoule.graph.observers import NeuronObserver
from picojoule.graph.passes import recompiled
from picojoule.graph.trace import module_of
from picojoule.layers import Repeat
from picojoule.networks import Network
from picojoule.neurons import IAF, LIF

Model = TypeVar("Model", Network, Observed, fx.GraphModule)

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def fused(model: Model) -> Model:
    """The same model, sharing its parameters, that runs `norm -> neurons -> pool` in one compiled kernel.

    Takes a network, its graph, or what `observe` returned; spikes and records stay the same (in training up to the
    rounding of the batch's deviation). What has no kernel runs as before: neurons with learned decay or threshold,
    pools whose windows overlap, GPUs. Save the model that was given, not the fused one.
    """
    graph = model if isinstance(model, fx.GraphModule) else getattr(model, "graph_module", None)
    if not isinstance(graph, fx.GraphModule):
        raise BadInput(f"expected a network, a graph or an observed model to fuse, got {type(model).__name__}")
    root = nn.Module()
    for name, child in graph.named_children():
        root.add_module(name, child)
    for name, parameter in graph.named_parameters(recurse=False):
        root.register_parameter(name, parameter)
    for name, buffer in graph.named_buffers(recurse=False):
        root.register_buffer(name, buffer)
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph.graph, {}))
    new = fx.GraphModule(root, copied, graph.__class__.__name__)
    for node in list(new.graph.nodes):
        if type(module_of(new, node)) in (LIF, IAF):
            _fuse(new, node)
    recompiled(new)
    if isinstance(model, Network):
        return Network(new, model.input_shape, model.classes)
    if isinstance(model, Observed):
        return model.with_graph(new)
    return new


def _fuse(graph: fx.GraphModule, node: fx.Node) -> None:
    neuron: Any = module_of(graph, node)
    if neuron.max_events != 1 or any(True for _ in neuron.parameters()):
        return
    first = last = node
    repeat: Any = module_of(graph, first.all_input_nodes[0])
    if isinstance(repeat, Repeat) and len(first.all_input_nodes[0].users) == 1:
        first = first.all_input_nodes[0]
    else:
        repeat = None
    norm: Any = module_of(graph, first.all_input_nodes[0])
    if type(norm) in _NORMS and norm.track_running_stats and len(first.all_input_nodes[0].users) == 1:
        first = first.all_input_nodes[0]
    elif repeat is not None:
        first, repeat, norm = node, None, None
    else:
        norm = None
    observed = [user for user in node.users if isinstance(module_of(graph, user), NeuronObserver)]
    others = [user for user in node.users if user not in observed]
    pool: Any = module_of(graph, others[0]) if len(others) == 1 else None
    size = _size(pool) if type(pool) in _POOLS else None
    if size is None:
        pool = None
    else:
        last = others[0]
    if norm is None and pool is None and not observed:
        return
    observers: Any = [module_of(graph, user) for user in observed]
    name = f"{node.name}_fused"
    graph.add_submodule(name, Fused(norm, repeat, neuron, pool, size or 1, observers))
    with graph.graph.inserting_before(node):
        call = graph.graph.call_module(name, (first.all_input_nodes[0],))
        output = graph.graph.call_function(_item, (call, 0)) if observed else call
        for i, user in enumerate(observed):
            record = graph.graph.call_function(_item, (graph.graph.call_function(_item, (call, 1)), i))
            user.replace_all_uses_with(record)
    last.replace_all_uses_with(output)
    for old in dict.fromkeys((*reversed(observed), last, node, node.all_input_nodes[0], first)):
        if not old.users:
            graph.graph.erase_node(old)


def _size(pool: Any) -> int | None:
    """The side of the square windows that tile the map; None if they do not."""
    size = pool.kernel_size if isinstance(pool.kernel_size, int) else _same(pool.kernel_size)
    stride = pool.stride if isinstance(pool.stride, int) else _same(pool.stride)
    plain = pool.padding in (0, (0, 0)) and not pool.ceil_mode
    if isinstance(pool, nn.MaxPool2d):
        plain = plain and pool.dilation in (1, (1, 1)) and not pool.return_indices
    else:
        plain = plain and pool.divisor_override is None
    return size if plain and size == stride else None


def _same(sides: tuple[int, ...]) -> int | None:
    return sides[0] if len(set(sides)) == 1 else None


def _item(pair: Any, index: int) -> Any:
    return pair[index]
