"""What the tensors of a graph are on calibration data, batch by batch."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, fx


class Summaries(fx.Interpreter):
    """Summarises the values of some nodes, in rows `[C, n]` by channel, or `[1, n]` of nodes not in `by_channel`."""

    def __init__(
        self,
        graph: fx.GraphModule,
        nodes: Iterable[fx.Node],
        by_channel: set[fx.Node],
        summary: Callable[[fx.Node, Tensor], Tensor],
    ):
        super().__init__(graph)
        self.extra_traceback = False
        self._by_channel, self._summary = by_channel, summary
        self._found: dict[fx.Node, list[Tensor]] = {n: [] for n in nodes}

    @torch.no_grad()
    def over(self, batches: Sequence[Tensor]) -> dict[fx.Node, list[Tensor]]:
        """One summary for each node and batch."""
        for batch in batches:
            self.run(batch)
        return self._found

    def run_node(self, n: fx.Node) -> Tensor:
        value = super().run_node(n)
        if n in self._found:
            rows = by_channel(value) if n in self._by_channel else value.reshape(1, -1)
            self._found[n].append(self._summary(n, rows))
        return value


def by_channel(values: Tensor) -> Tensor:
    """Values `[B, C, ...]` as rows `[C, n]`."""
    return values.transpose(0, 1).flatten(1)
