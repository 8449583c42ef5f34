"""Any PyTorch model as a plain graph of layers, for passes that edit layers."""

import copy
import logging
import operator
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor, fx, nn

from picojoule.errors import BadInput, UntraceableModel
from picojoule.graph.operations import AFFINE, ARGUMENTS, Call, Sample, layers_of
from picojoule.graph.seen import OPEN, Seen, first_line, is_check, name_of, see, see_one, unbound
from picojoule.graph.splits import pieces_as_slices
from picojoule.graph.trace import trace, users_line

_JOINS: dict[str, Any] = {
    "add": operator.add,
    "iadd": operator.add,
    "sub": operator.sub,
    "isub": operator.sub,
    "mul": operator.mul,
    "imul": operator.mul,
}
_CONCATENATIONS = ("cat", "concat", "concatenate", "stack")


def module_graph(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """The layer graph of `model` in evaluation mode, in which every known operation is a module of torch or of ours.

    Functions and methods (`F.relu`, `x.mean((2, 3))`, `x.view(x.size(0), -1)`, ...) become layers, a module that is
    called several times becomes one for each call, with shared parameters, and nothing works in place. Sums and
    concatenations stay functions; so do operations that are not known, under their own names. `model` stays as it is;
    the graph shares its parameters and buffers.

    `example` is `[B, ...]` with at least one sample; the graph takes any number of them. Its outputs are those of
    `model` within 1e-5, which is checked on one, two, three and five samples. A model that torch.fx cannot trace is
    exported by torch.export. Raises UntraceableModel where neither can follow the forward pass, or follows it wrongly.
    """
    if example.dim() < 2 or not len(example):
        raise BadInput(f"expected an example [B, ...] with at least one sample, got shape {tuple(example.shape)}")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UntraceableModel(
                f"{name or 'the model'} is a scripted or jit-traced module, which cannot be read; give the nn.Module "
                "that it was made of"
            )
    batches = _batches(example)
    twin = _twin(model)
    expected = [_scores(twin, batch) for batch in batches]
    try:
        graph = trace(twin)
        _single_input(graph, model)
        followed = _plain(graph, model, batches)
        _compare(followed, batches, expected, model)
    except BadInput:
        if isinstance(model, fx.GraphModule) or isinstance(getattr(model, "graph_module", None), fx.GraphModule):
            raise
        try:
            followed = _plain(_exported(model, batches[1]), model, batches)
            _compare(followed, batches, expected, model)
        except BadInput as error:
            followed = _of_one_sample(model, example[:1], error)
            _compare(followed, batches, expected, model)
    return followed


def _batches(example: Tensor) -> list[Tensor]:
    """Two, three, one and five samples that differ, so that a graph which mixes them up, or counts them, shows."""
    one = example[:1]
    samples = torch.cat([one, one.flip(-1), one * 0.5, one.flip(1), one * 0.8])
    return [samples[:2], samples[1:4], samples[:1], samples]


def _twin(model: nn.Module) -> nn.Module:
    """`model` in evaluation mode with modules of its own that share parameters and buffers."""
    shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
    try:
        twin = copy.deepcopy(model, shared).eval()
    except Exception as error:
        raise BadInput(
            f"{type(model).__name__} cannot be copied ({first_line(error)}); remove hooks such as weight_norm first"
        ) from error
    return twin


def _scores(model: nn.Module, batch: Tensor) -> Tensor:
    name = type(model).__name__
    try:
        with torch.no_grad():
            scores = model(batch.clone())
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{name} cannot take inputs of shape {list(batch.shape)}: {first_line(error)}") from error
    if not isinstance(scores, Tensor):
        raise BadInput(f"{name} returns a {type(scores).__name__}; expected one tensor, return the scores alone")
    return scores


def _single_input(graph: fx.GraphModule, model: nn.Module) -> None:
    if len(graph.graph.find_nodes(op="placeholder")) != 1:
        raise UntraceableModel(f"{type(model).__name__} takes several inputs; expected one, the images")


def _exported(model: nn.Module, batch: Tensor) -> fx.GraphModule:
    try:
        with warnings.catch_warnings(), _quiet(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch.export speaks of its own future
            sizes = ({0: torch.export.Dim.AUTO},) if len(batch) > 1 else None
            return torch.export.export(_twin(model), (batch,), dynamic_shapes=sizes, strict=False).module()  # pyright: ignore
    except Exception as error:
        from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode  # slow to import

        branches = isinstance(error, GuardOnDataDependentSymNode)
        said = "numbers in a tensor decide what is computed" if branches else first_line(error)
        raise UntraceableModel(
            f"{type(model).__name__} cannot be followed: {said} (at {users_line(error)}); write its forward pass "
            "without branches and loops that depend on the images"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch.export prints whole graphs where it refuses; our sentence is enough."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)


def _compare(graph: fx.GraphModule, batches: list[Tensor], expected: list[Tensor], model: nn.Module) -> None:
    for batch, scores in zip(batches, expected, strict=True):
        try:
            with torch.no_grad():
                got = graph(batch.clone())
        except Exception as error:
            raise UntraceableModel(
                f"{type(model).__name__} cannot be followed for {len(batch)} samples ({first_line(error)}); write its "
                "forward pass for a whole batch, without loops over samples"
            ) from error
        if got.shape != scores.shape or not torch.allclose(
            got, scores, rtol=1e-5, atol=1e-5 * max(1.0, float(scores.abs().max())), equal_nan=True
        ):
            raise UntraceableModel(
                f"the layers of {type(model).__name__} do not compute what it computes: its forward pass is random, "
                "changes tensors in place behind a view, or treats samples differently"
            )


def _plain(graph: fx.GraphModule, model: nn.Module, batches: list[Tensor]) -> fx.GraphModule:
    """The graph with layers in the place of functions, one module for each call, and nothing in place."""
    seen = see(graph, batches)
    _undo_in_place(graph, seen)
    pieces_as_slices(graph, seen)
    return _Rebuilt(graph, model, seen, set()).made()


def _of_one_sample(model: nn.Module, one: Tensor, refused: BadInput) -> fx.GraphModule:
    """The graph for one sample, which is that for a batch where a model loops over its samples."""
    try:
        graph = _exported(model, one)
        seen, bare = see_one(graph, one)
        _undo_in_place(graph, seen)
        return _Rebuilt(graph, model, seen, bare).made()
    except Exception:  # what was wrong with the batch says more
        raise refused from refused.__cause__


def _undo_in_place(graph: fx.GraphModule, seen: Mapping[fx.Node, Seen]) -> None:
    """What reads a tensor after it was changed in place reads the changed one."""
    order = {node: i for i, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        if not node.all_input_nodes or seen[node.all_input_nodes[0]].dtype is None:
            continue
        if node.op == "call_module":
            module: Any = graph.get_submodule(str(node.target))
            changes = getattr(module, "inplace", False) is True
            if changes:
                module.inplace = False
        else:
            changes = _is_in_place(node)
        if changes:
            at = order[node]
            node.all_input_nodes[0].replace_all_uses_with(node, delete_user_cb=lambda user, at=at: order[user] > at)


def _is_in_place(node: fx.Node) -> bool:
    name = name_of(node, bare=False)
    if node.op not in ("call_function", "call_method"):
        return False
    flag = dict(zip(ARGUMENTS.get(name, ()), node.args[1:], strict=False)) | dict(node.kwargs)
    by_name = name.endswith("_") and not name.endswith("__") or name in ("iadd", "isub", "imul", "itruediv")
    return by_name or bool(flag.get("inplace"))


def _is_first_of_pool(node: fx.Node) -> bool:
    """Whether a node takes the maxima, and not their places, of ATen's adaptive pooling."""
    pools = [n for n in node.all_input_nodes if isinstance(n.target, torch._ops.OpOverload)]
    return bool(node.target is operator.getitem and node.args[1] == 0) and any(
        "adaptive_max" in name_of(n) for n in pools
    )


class _Rebuilt:
    """The same computation over layers, node by node; `model` owns the parameters.

    `bare` are nodes that give the tensor of one sample, without the axis of the batch, which they get back here.
    """

    def __init__(
        self, graph: fx.GraphModule, model: nn.Module, seen: Mapping[fx.Node, Seen], bare: Collection[fx.Node]
    ):
        self._old, self._model, self._seen, self._bare = graph, model, seen, bare
        self._tensors = dict(model.named_parameters(remove_duplicate=False))
        self._tensors |= dict(model.named_buffers(remove_duplicate=False))
        self._graph = fx.Graph()
        self._parts: dict[str, Any] = {}
        self._now: dict[fx.Node, fx.Node] = {}

    def made(self) -> fx.GraphModule:
        for node in self._old.graph.nodes:
            if node.op != "get_attr" and not is_check(node):
                self._now[node] = self._node(node)
        made = fx.GraphModule(self._parts, self._graph, type(self._old).__name__)
        made.graph.eliminate_dead_code()
        made.delete_all_unused_submodules()
        made.recompile()
        return made.eval()

    def _node(self, node: fx.Node) -> fx.Node:
        if node.op == "call_module":
            return self._module(node)
        if node.op == "output":
            (value,) = node.args
            while isinstance(value, tuple | list) and len(value) == 1:
                (value,) = value
            return self._graph.output(fx.map_arg(value, self._reference))
        if node.op in ("call_function", "call_method"):
            return self._joined(node) or self._layers(node) or self._same(node)
        return self._same(node)

    def _same(self, node: fx.Node) -> fx.Node:
        return self._graph.node_copy(node, self._reference)

    def _reference(self, node: fx.Node) -> fx.Node:
        """The new node for an old one; constants appear where they are first needed."""
        if node not in self._now:
            name = self._free(str(node.target).replace(".", "_"))
            self._parts[name] = self._attribute(node)
            self._now[node] = self._graph.get_attr(name)
        return self._now[node]

    def _attribute(self, node: fx.Node) -> Any:
        path = str(node.target)
        return self._tensors[path] if path in self._tensors else operator.attrgetter(path)(self._old)

    def _module(self, node: fx.Node) -> fx.Node:
        """The module itself for its first call, a copy that shares its parameters for others."""
        name = str(node.target)
        module = self._old.get_submodule(name)
        if name in self._parts:
            shared = {id(t): t for t in (*module.parameters(), *module.buffers())}
            module, name = copy.deepcopy(module, shared), self._free(name)
        self._parts[name] = module
        arguments = fx.map_arg((node.args, node.kwargs), self._reference)
        made = self._graph.call_module(name, *arguments)  # pyright: ignore[reportArgumentType]
        made.meta = dict(node.meta)
        return made

    def _joined(self, node: fx.Node) -> fx.Node | None:
        """Sums, differences, products and concatenations of tensors, in one form."""
        name = name_of(node)
        if name in _CONCATENATIONS:
            tensors: Any = node.args[0] if node.args else node.kwargs.get("tensors")
            dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
            return self._concatenated(name, tensors, dim)
        if name not in _JOINS or len(node.args) != 2 or node.kwargs.get("alpha", 1) != 1:
            return None
        a, b = node.args
        samples = [self._sample(n) for n in (a, b)]
        if None in samples or len(samples[0] or ()) != len(samples[1] or ()):
            return None
        return self._graph.call_function(_JOINS[name], (self._now[a], self._now[b]))  # pyright: ignore[reportArgumentType]

    def _concatenated(self, name: str, tensors: Any, dim: Any) -> fx.Node | None:
        bare = any(n in self._bare for n in tensors)
        if len(tensors) == 1 and dim == 0 and (bare or name != "stack") and self._is_activation(tensors[0]):
            return self._now[tensors[0]]
        ranks = {len(self._sample(n) or ()) for n in tensors}
        if name == "stack" or len(ranks) != 1 or ranks == {0} or not isinstance(dim, int):
            return None
        dim = (dim + 1 if bare and dim >= 0 else dim) % (ranks.pop() + 1)
        return self._graph.call_function(torch.cat, ([self._now[n] for n in tensors], dim))

    def _sample(self, value: Any) -> Sample | None:
        return self._seen[value].sample if isinstance(value, fx.Node) else None

    def _layers(self, node: fx.Node) -> fx.Node | None:
        call, source = self._call(node)
        layers = None if call is None else layers_of(call)
        if layers is None or source is None or call is None:
            return None
        current, owner = self._now[source], self._owner(node)
        for number, layer in enumerate(layers):
            last = owner if owner and self._is_layer(owner) else f"{owner}.{call.name}" if owner else call.name
            name = self._free(last if not number else f"{last}_{type(layer).__name__.lower()}")
            self._parts[name] = layer.eval()
            current = self._graph.call_module(name, (current,))
        return current

    def _call(self, node: fx.Node) -> tuple[Call | None, fx.Node | None]:
        """A node in the form that the table reads, and the tensor that it acts on."""
        seen = self._seen[node]
        if _is_first_of_pool(node):
            (node,) = node.all_input_nodes
        name = name_of(node)
        given = self._arguments(node, name)
        source = given.pop("input", None)
        if self._bare and unbound(node) is not None:
            name, source = "select", unbound(node)
        if name in AFFINE and not self._is_activation(source) and self._is_activation(given.get("other")):
            source, given["other"] = given["other"], source
            if name not in ("add", "mul"):
                name = "rsub" if name in ("sub", "isub") else "of"
        elif name == "rsub" and given.get("alpha") in (None, 1):
            given.pop("alpha", None)
        if not isinstance(source, fx.Node) or self._sample(source) is None or seen.sample is None:
            return None, None
        if seen.dtype is not self._seen[source].dtype:
            return None, None
        known = {key: self._constant(value) for key, value in given.items()}
        if source in self._bare:
            known = {k: _behind_batch(k, v) for k, v in known.items()}
        is_open = any(_holds_open(value) for value in known.values())
        return Call(name, self._sample(source) or (), seen.sample, known, is_open), source

    def _arguments(self, node: fx.Node, name: str) -> dict[str, Any]:
        if isinstance(node.target, torch._ops.OpOverload):
            names = [argument.name for argument in node.target._schema.arguments]
            names = ["input" if n == "self" else n for n in names]
            if name == "addmm":
                names[:3] = ["bias", "input", "other"]
        else:
            names = ["input", *ARGUMENTS.get(name, ())]
        args = list(node.args)
        if name == "permute" and len(args) > 2:
            args = [args[0], args[1:]]
        names = ["input", "dims"] if name == "permute" else names
        return dict(zip(names, args, strict=False)) | dict(node.kwargs)

    def _constant(self, value: Any) -> Any:
        def known(n: fx.Node) -> Any:
            if n.op == "get_attr":
                return self._attribute(n)
            return self._seen[n].value

        if isinstance(value, fx.Node):
            return known(value)
        if isinstance(value, slice):
            return slice(*(self._constant(v) for v in (value.start, value.stop, value.step)))
        if isinstance(value, tuple | list):
            return type(value)(self._constant(v) for v in value)
        return value

    def _is_activation(self, value: Any) -> bool:
        return isinstance(value, fx.Node) and self._sample(value) is not None

    def _owner(self, node: fx.Node) -> str:
        """The path of the module whose forward pass holds the operation."""
        stack = list(node.meta.get("nn_module_stack", {}).values())
        return str(stack[-1][0]) if stack else ""

    def _is_layer(self, path: str) -> bool:
        """Whether a path is that of one of torch's layers, which export has taken apart."""
        try:
            module = self._model.get_submodule(path)
        except AttributeError:
            return False
        return type(module).__module__.startswith("torch.nn.modules") and not any(True for _ in module.children())

    def _free(self, name: str) -> str:
        """`name`, with a number where it is taken or lies inside of another part."""
        free, count = name, 0
        while any(free == p or free.startswith(p + ".") or p.startswith(free + ".") for p in self._parts):
            count += 1
            free = f"{name}_{count}"
        return free


def _behind_batch(name: str, value: Any) -> Any:
    """An argument that counts axes of a sample from the front, with the batch before them."""
    if name not in ("dim", "dims", "dim0", "dim1"):
        return value
    if isinstance(value, tuple | list):
        axes = [_behind_batch("dim", v) for v in value]
        return [0, *axes] if name == "dims" else axes
    return value + 1 if isinstance(value, int) and value >= 0 else value


def _holds_open(value: Any) -> bool:
    if isinstance(value, slice):
        return any(_holds_open(v) for v in (value.start, value.stop, value.step))
    return any(_holds_open(v) for v in value) if isinstance(value, tuple | list) else value is OPEN
