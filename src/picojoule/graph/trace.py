"""One trace of a model, which every reader shares: a `torch.fx.GraphModule`."""

import traceback
from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from picojoule.errors import UntraceableModel
from picojoule.layers import AddTime, Crop2d, LastStep, Permute, QuantisedReLU, Repeat, Reshape, Scale, Shift, Timewise
from picojoule.neurons import Stateful


class _Tracer(fx.Tracer):
    """Keeps torch's layers, our stateful parts and time folding whole; looks into everything else."""

    def __init__(self, leaves: Sequence[type[nn.Module]] = ()):
        super().__init__()
        own = (Timewise, AddTime, Repeat, LastStep, QuantisedReLU, Permute, Reshape, Crop2d, Scale, Shift)
        self._leaves = (Stateful, *own, *leaves)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Sequential):
            return False
        return self.keeps_whole(m) or super().is_leaf_module(m, module_qualified_name)

    def keeps_whole(self, m: nn.Module) -> bool:
        """Whether a module has insides that we do not trace although torch's tracer would."""
        return isinstance(m, self._leaves)


def trace(model: nn.Module, leaves: Sequence[type[nn.Module]] = ()) -> fx.GraphModule:
    """The graph of `model`, which shares its modules and parameters.

    `leaves` are module types that are kept whole. A model that branches on the numbers in a tensor, or loops
    over a tensor's size, raises UntraceableModel with the line where tracing ended.
    """
    if isinstance(model, fx.GraphModule):
        return model
    inner = getattr(model, "graph_module", None)
    if isinstance(inner, fx.GraphModule):
        return inner
    tracer = _Tracer(leaves)
    root = nn.Sequential(model) if tracer.keeps_whole(model) else model
    try:
        graph = tracer.trace(root)
    except Exception as error:
        line = users_line(error)
        raise UntraceableModel(
            f"{type(model).__name__} cannot be traced: {error} (at {line}); write it without branching on "
            "tensors, or keep the part that does it whole with spiking=(ItsModuleClass,) if it emits unit events"
        ) from error
    return fx.GraphModule(tracer.root, graph, type(model).__name__)


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls, with time folding unwrapped; None for other nodes."""
    if node.op != "call_module":
        return None
    module: Any = graph.get_submodule(str(node.target))
    return module.layer if isinstance(module, Timewise) else module


def shared_root(graph: fx.GraphModule) -> nn.Module:
    """A module with the same parts, parameters and buffers as `graph`, for another graph over them."""
    root = nn.Module()
    for name, child in graph.named_children():
        root.add_module(name, child)
    for name, parameter in graph.named_parameters(recurse=False):
        root.register_parameter(name, parameter)
    for name, buffer in graph.named_buffers(recurse=False):
        root.register_buffer(name, buffer)
    return root


def users_line(error: BaseException) -> str:
    """Where in the user's code an error came from, as `file:line: code`."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if "/torch/" not in f.filename and not f.filename.endswith("graph/trace.py")]
    frame = (outside or frames)[-1]
    return f"{frame.filename}:{frame.lineno}: {frame.line}"
