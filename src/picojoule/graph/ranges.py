"""How large the tensors of a graph become on calibration data."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx


def largest_values(
    graph: fx.GraphModule, nodes: Iterable[fx.Node], batches: Iterable[Tensor], percentile: float = 100.0
) -> dict[fx.Node, float]:
    """The largest value that each node's tensor takes over all batches.

    With a `percentile` below 100: the mean over batches of that percentile of the batch's values.
    """
    per_batch: dict[fx.Node, list[float]] = {node: [] for node in nodes}
    for batch in batches:
        with torch.no_grad():
            _Largest(graph, per_batch, percentile).run(batch)
    together = max if percentile >= 100 else _mean
    return {node: together(values) for node, values in per_batch.items()}


class _Largest(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, found: dict[fx.Node, list[float]], percentile: float):
        super().__init__(graph)
        self._found, self._percentile = found, percentile

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self._found:
            flat = value.flatten()
            rank = max(1, round(len(flat) * self._percentile / 100))
            self._found[n].append(float(flat.max() if rank == len(flat) else flat.kthvalue(rank).values))
        return value


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
