"""What every node of a graph gives when it runs: the shape of one sample, or a value that is the same for all."""

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from picojoule.errors import UntraceableModel
from picojoule.graph.operations import RESHAPES, Sample

_CHECKS = ("_guards_fn", "_assert", "sym_constrain", "_check")


class Seen(NamedTuple):
    """What a node gave in two runs: the shape of one sample and its type, or a value that both runs agree on."""

    sample: Sample | None
    dtype: torch.dtype | None
    value: Any


OPEN = object()
"""A value that depends on the images."""


def see(graph: fx.GraphModule, batches: list[Tensor]) -> dict[fx.Node, Seen]:
    """Run the graph on the first two of `batches`, which have two and three samples."""
    runs = []
    for batch in batches[:2]:
        run = _Watched(graph)
        try:
            with torch.no_grad():
                run.run(batch.clone())
        except Exception as error:
            raise UntraceableModel(
                f"the forward pass cannot be followed for {len(batch)} samples ({first_line(error)}); write it for a "
                "whole batch, without loops over samples"
            ) from error
        runs.append(run.values)
    first, second = runs
    return {node: _agreed(first[node], second[node]) for node in first}


def _agreed(a: Any, b: Any) -> Seen:
    if isinstance(a, _Shape) and isinstance(b, _Shape):
        two, three = a.shape, b.shape
        behind = len(two) > 0 and (two[0], three[0]) == (2, 3) and two[1:] == three[1:]
        return Seen(tuple(two[1:]) if behind else None, a.dtype, OPEN)
    if isinstance(a, Tensor):
        return Seen(None, a.dtype, a)
    return Seen(None, None, a if type(a) is type(b) and not isinstance(a, _Shape) and _equal(a, b) else OPEN)


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except Exception:  # tensors inside
        return False


def see_one(graph: fx.GraphModule, batch: Tensor) -> tuple[dict[fx.Node, Seen], set[fx.Node]]:
    """Run the graph on one sample; and the nodes that give its tensor without the axis of the batch.

    A loop over the samples runs once then: it takes the only sample out of the batch, and puts its result back.
    """
    run = _Watched(graph)
    with torch.no_grad():
        run.run(batch.clone())
    seen: dict[fx.Node, Seen] = {}
    bare: set[fx.Node] = set()
    for node, value in run.values.items():
        if not isinstance(value, _Shape):
            seen[node] = Seen(None, None, value)
            continue
        if _takes_sample(node) or not bare.isdisjoint(node.all_input_nodes) and not _puts_back(node, value, seen):
            bare.add(node)
        batched = node not in bare and value.shape[:1] == (1,)
        sample = tuple(value.shape) if node in bare else tuple(value.shape[1:]) if batched else None
        seen[node] = Seen(sample, value.dtype, OPEN)
    return seen, bare


def _takes_sample(node: fx.Node) -> bool:
    arguments = (*node.args[1:], 0, 0)
    return bool(name_of(node) == "select" and arguments[0] == 0) or unbound(node) is not None


def unbound(node: fx.Node) -> fx.Node | None:
    """The batch whose first sample `node` takes by iterating over it."""
    sources = node.all_input_nodes
    if node.target is not operator.getitem or node.args[1] != 0 or name_of(sources[0]) != "unbind":
        return None
    return sources[0].all_input_nodes[0] if sources[0].args[1:] in ((), (0,)) else None


def _puts_back(node: fx.Node, value: "_Shape", seen: dict[fx.Node, Seen]) -> bool:
    """Whether a node gives a sample without the batch its first axis again."""
    if value.shape[:1] != (1,):
        return False
    before = seen[node.all_input_nodes[0]].sample
    return name_of(node) == "stack" or name_of(node) in RESHAPES and before is not None and before[:1] != (1,)


class _Shape(NamedTuple):
    shape: torch.Size
    dtype: torch.dtype


class _Watched(fx.Interpreter):
    """Keeps what every node gave: constants whole, tensors that depend on the images by their shape."""

    def __init__(self, graph: fx.GraphModule):
        super().__init__(graph)
        self.extra_traceback = False
        self.values: dict[fx.Node, Any] = {}
        self._fixed: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        value = None if is_check(n) else super().run_node(n)
        fixed = n.op == "get_attr" or n.op != "placeholder" and self._fixed.issuperset(n.all_input_nodes)
        if fixed and not (n.op == "call_function" and not n.all_input_nodes and isinstance(value, Tensor)):
            self._fixed.add(n)
        if isinstance(value, Tensor) and n not in self._fixed:
            self.values[n] = _Shape(value.shape, value.dtype)
        else:
            self.values[n] = value
        return value


def name_of(node: fx.Node, bare: bool = True) -> str:
    """What a node does, in one word that Python and ATen share."""
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        name = target._schema.name.partition("::")[2]
    else:
        name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    return name.rstrip("_") if bare and not name.startswith("__") else name


def is_check(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_module") and name_of(node, bare=False).startswith(_CHECKS)


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(". ") if text else type(error).__name__
