"""Fuse batch norm, neurons and pooling: one pass over memory instead of one for each, forward and backward."""

from typing import Any, TypeVar

from torch import fx, nn

from picojoule.errors import BadInput
from picojoule.execution.fused_part import Fused
from picojoule.graph import Observed
from picojoule.graph.observers import NeuronObserver
from picojoule.graph.passes import recompiled
from picojoule.graph.trace import module_of, shared_root
from picojoule.layers import Repeat, Timewise
from picojoule.networks import Network
from picojoule.neurons import IAF, LIF

Model = TypeVar("Model", Network, Observed, fx.GraphModule)

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def fused(model: Model, *, pools: bool = True) -> Model:
    """The same model, sharing its parameters, that runs `norm -> neurons -> pool` in one compiled kernel.

    Takes a network, its graph, or what `observe` returned; observe first, then fuse. Spikes and records stay the same.
    In training the batch's deviation is rounded once more than in torch's norm, which can move a spike whose
    membrane lies within that rounding of the threshold. What has no kernel runs as before: neurons with
    learned decay or threshold, pools whose windows overlap, maps of less than 16 channels, GPUs. Forward hooks on a
    norm, neuron or pool make its part run one by one, so that they are heard. Save the model that was given, not the
    fused one; replace parts there and fuse again. With `pools` False pools stay on their own, for records that
    hold every event of the neurons (`NeuronRecord.train`).
    """
    graph = model if isinstance(model, fx.GraphModule) else getattr(model, "graph_module", None)
    if not isinstance(graph, fx.GraphModule):
        raise BadInput(f"expected a network, a graph or an observed model to fuse, got {type(model).__name__}")
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph.graph, {}))
    new = fx.GraphModule(shared_root(graph), copied, graph.__class__.__name__)
    for node in list(new.graph.nodes):
        if type(module_of(new, node)) in (LIF, IAF):
            _fuse(new, node, _POOLS if pools else ())
    recompiled(new).training = graph.training
    if isinstance(model, Observed):
        result: Any = model.with_graph(new)
    elif isinstance(model, Network):
        result = Network(new, model.input_shape, model.classes)
    else:
        return new
    result.training = model.training
    return result


def _fuse(graph: fx.GraphModule, node: fx.Node, pools: tuple[type[nn.Module], ...]) -> None:
    neuron: Any = module_of(graph, node)
    observed = [user for user in node.users if isinstance(module_of(graph, user), NeuronObserver)]
    observers: Any = [module_of(graph, user) for user in observed]
    time_first = all((o.batch.dim, o.batch.folds) == (1, 1) for o in observers)
    if neuron.max_events != 1 or any(True for _ in neuron.parameters()) or not time_first:
        return
    first, norm, repeat = _before(graph, node)
    others = [user for user in node.users if user not in observed]
    pool = _folded(graph, others[0], pools) if len(others) == 1 else None
    size = None if pool is None else _size(pool)
    pool, last = (None, node) if size is None else (pool, others[0])
    if norm is None and pool is None and not observed:
        return
    target, name = f"{node.name}_fused", node.name
    graph.add_submodule(target, Fused(norm, repeat, neuron, pool, size or 1, observers))
    with graph.graph.inserting_before(node):
        call = graph.graph.call_module(target, (first.all_input_nodes[0],))
        output = graph.graph.call_function(_item, (call, 0)) if observed else call
        for i, user in enumerate(observed):
            record = graph.graph.call_function(_item, (graph.graph.call_function(_item, (call, 1)), i))
            user.replace_all_uses_with(record)
    last.replace_all_uses_with(output)
    for old in dict.fromkeys((*reversed(observed), last, node, node.all_input_nodes[0], first)):
        if not old.users:
            graph.graph.erase_node(old)
    call.name = name  # states of the neurons keep their name


def _before(graph: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, nn.Module | None, Repeat | None]:
    """The first node of a norm, perhaps repeated, that feeds only the neurons at `node`; and the parts."""
    feeds = node.all_input_nodes[0]
    repeat = module_of(graph, feeds)
    repeat = repeat if isinstance(repeat, Repeat) and len(feeds.users) == 1 else None
    if repeat is not None:
        feeds = feeds.all_input_nodes[0]
    norm: Any = _folded(graph, feeds, _NORMS)
    if norm is None or not norm.track_running_stats or len(feeds.users) != 1:
        return node, None, None
    return feeds, norm, repeat


def _folded(graph: fx.GraphModule, node: fx.Node, kinds: tuple[type[nn.Module], ...]) -> nn.Module | None:
    """The layer of one of these kinds that a node applies to every time step."""
    if node.op != "call_module":
        return None
    whole: Any = graph.get_submodule(str(node.target))
    return whole.layer if isinstance(whole, Timewise) and type(whole.layer) in kinds else None


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
