"""Recompute in backward what training would keep: memory for time."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.split_module import split_module
from torch.utils.checkpoint import checkpoint

from picojoule.errors import BadInput
from picojoule.execution.pieces import Pieces
from picojoule.graph import Observed, trace
from picojoule.graph.linear import LINEAR_FUNCTIONS
from picojoule.graph.trace import module_of
from picojoule.kernels.saved import membranes_as_now
from picojoule.networks import Network


class Recomputed(nn.Module):
    """What `recomputed` makes: calls are those of `model`; in training they keep less for the backward pass.

    Save, stream and observe `model` itself, with which this shares everything.
    """

    def __init__(self, model: nn.Module, in_blocks: nn.Module):
        super().__init__()
        self.model = model
        self.training = model.training
        self._in_blocks = (in_blocks,)  # a tuple, so that parameters and state are the model's alone

    def forward(self, x: Tensor) -> Any:
        return self._in_blocks[0](x) if self.training and torch.is_grad_enabled() else self.model(x)

    @property
    def graph_module(self) -> fx.GraphModule:
        """Asked for by whoever traces a model. Raises BadInput: a trace would forget to recompute."""
        raise BadInput("a recomputed model cannot be traced; observe first: recomputed(observe(model, example))")


def recomputed(model: nn.Module) -> Recomputed:
    """The same model, that keeps only what enters its weight layers and runs the rest again in backward.

    `model` is a Network, a graph, what `observe` returns, or any model that `trace` can read; parameters are shared.
    Outputs, records, gradients and batch-norm statistics are equal bit by bit, and random encoders draw the same
    noise. The graph is cut before every weight layer; each piece but the last, whose insides backward needs first,
    runs under `torch.utils.checkpoint`. Evaluation is untouched. Costs about one more forward pass.
    """
    graph = trace(model)
    pieces = split_module(graph, graph, _piece_of(graph), keep_original_order=True)
    names = [str(node.target) for node in pieces.graph.nodes if node.op == "call_module"]
    for name in names[:-1]:
        pieces.set_submodule(name, _Again(pieces.get_submodule(name)))
    return Recomputed(model, _with_graph(model, pieces))


def _with_graph(model: nn.Module, graph: fx.GraphModule) -> nn.Module:
    if isinstance(model, Observed):
        return model.with_graph(graph)
    if isinstance(model, Network):
        return Network(graph, model.input_shape, model.classes)
    return graph


def _piece_of(graph: fx.GraphModule) -> Callable[[fx.Node], int]:
    """The number of a node's piece: a new one starts at every weight layer but the first."""
    numbers: dict[fx.Node, int] = {}
    weights = 0
    for node in graph.graph.nodes:
        weights += _has_weights(graph, node)
        numbers[node] = max(weights - 1, 0)
    return numbers.__getitem__


def _has_weights(graph: fx.GraphModule, node: fx.Node) -> bool:
    module = module_of(graph, node)
    return node.target in LINEAR_FUNCTIONS or (module is not None and any(p.dim() > 1 for p in module.parameters()))


class _Again(nn.Module):
    """A piece of a graph that backward runs again."""

    def __init__(self, piece: nn.Module):
        super().__init__()
        self.piece = piece

    @torch.compiler.disable
    def forward(self, *inputs: Any) -> Any:
        return _again(self.piece, self.piece, *inputs)


def recomputed_over_time(model: nn.Module, segments: int) -> Recomputed:
    """The same model, that runs its time steps in `segments` and keeps only the neurons' state between them.

    `model` is a Network, or one for inputs `[T, B, ...]` that `trace` can read. Backward runs one segment after the
    other again, so memory grows with T / segments plus the state times `segments`, smallest near the square root of
    T. What does not depend on time is computed once and kept. Outputs equal those of the whole as in
    `in_time_blocks`; gradients are summed segment by segment. Raises BadInput for batch norm in the layers over time
    in training, whose statistics are those of all steps, and for an observed model.
    """
    if segments < 1:
        raise BadInput(f"expected at least one segment, got {segments}")
    if isinstance(model, Observed):
        raise BadInput("an observed model cannot run in segments; use recomputed(observe(model, example))")
    return Recomputed(model, _InSegments(Pieces(model), segments))


class _InSegments(nn.Module):
    def __init__(self, pieces: Pieces, segments: int):
        super().__init__()
        self._pieces, self._segments = pieces, segments

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Any:
        self._check()
        pieces, state, yielded = self._pieces, {}, []
        graph = pieces.graph_module
        values, _ = pieces.before(x, {})
        steps = math.ceil(pieces.timesteps(values) / self._segments)
        *parts, last = pieces.cut(values, steps)
        for part, size in parts:
            found, state = _again(graph, pieces.piece, part, size, state)
            yielded.append(found)
        yielded.append(pieces.piece(*last, state)[0])
        return pieces.rest(values, yielded, {})[0]

    def _check(self) -> None:
        for node in self._pieces.layers:
            module = module_of(self._pieces.graph_module, node)
            parts = () if module is None else module.modules()
            norms = [m for m in parts if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
            if norms:
                raise BadInput(
                    f"{node.target} ({type(norms[0]).__name__}) needs the statistics of all time steps, so training "
                    "cannot run in segments; use recomputed(model), or a norm without batch statistics"
                )


def _again(module: nn.Module, function: Callable[..., Any], *inputs: Any) -> Any:
    """What `function`, which runs parts of `module`, yields; backward runs it again."""
    again = _AsBefore(module)
    return checkpoint(function, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), again))


class _AsBefore:
    """A context in which `module` runs as it would have when this was made, and what it does to its buffers is lost.

    Otherwise batch norm would count every batch twice.
    """

    def __init__(self, module: nn.Module):
        self._before = [
            (part._buffers, name, buffer.clone())
            for part in module.modules()
            for name, buffer in part._buffers.items()
            if buffer is not None
        ]
        self._membranes = membranes_as_now()

    def __enter__(self) -> None:
        self._after = [buffers[name] for buffers, name, _ in self._before]
        for buffers, name, buffer in self._before:
            buffers[name] = buffer
        self._membranes.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._membranes.__exit__(*error)
        for (buffers, name, _), buffer in zip(self._before, self._after, strict=True):
            buffers[name] = buffer
