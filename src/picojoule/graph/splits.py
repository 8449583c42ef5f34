"""Pieces of a tensor, which `chunk` and `split` make, as slices of it."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from picojoule.graph.seen import Seen, name_of

_SPLITS: dict[str, Any] = {"chunk": torch.chunk, "split": torch.split, "split_with_sizes": torch.split}


def pieces_as_slices(graph: fx.GraphModule, seen: Mapping[fx.Node, Seen]) -> None:
    """Let every piece of `chunk` or `split` along an axis behind the batch index the whole tensor instead, in place."""
    for node in graph.graph.nodes:
        made: Any = node.args[0] if node.target is operator.getitem else None
        if not isinstance(made, fx.Node) or name_of(made) not in _SPLITS:
            continue
        named = dict(made.kwargs)
        axis = named.pop("dim", 0)
        given: Any = (*made.args, *named.values(), axis)
        whole, size, axis = given[:3]
        sample, size = seen[whole].sample, fx.map_arg(size, lambda n: seen[n].value)
        axis %= len(sample or ()) + 1
        numbers = size if isinstance(size, list | tuple) else [size]
        if sample is not None and axis and all(isinstance(n, int) for n in numbers):
            piece = _SPLITS[name_of(made)](torch.arange(sample[axis - 1]), size)[node.args[1]]
            node.args = (whole, (*[slice(None)] * axis, slice(int(piece[0]), int(piece[-1]) + 1)))
