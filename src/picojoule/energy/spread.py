"""How counts differ from sample to sample: exact percentiles, in memory that does not grow without bound."""

import torch
from torch import Tensor

from picojoule.energy.count import QUANTITIES

KEPT = 65_536
"""Samples of which single counts are kept; of a larger set the percentiles are those of its first samples."""

POINTS = {"min": 0.0, "p5": 0.05, "p50": 0.5, "p95": 0.95, "max": 1.0}


class Spread:
    """The operations (ACs + MACs) of each sample, by layer and in all."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self.samples = 0

    def add(self, table: dict[str, Tensor]) -> None:
        """One batch, as `per_sample` counts it."""
        room = KEPT - self.samples
        if room > 0:
            rows = torch.stack([t[QUANTITIES.index("acs")] + t[QUANTITIES.index("macs")] for t in table.values()])
            part = rows.detach()[:, :room].cpu()
            self._parts.append(part)
            self.samples += part.shape[1]

    def total(self) -> dict[str, float]:
        """Percentiles of the operations of all layers together."""
        return _points(torch.cat(self._parts, 1).sum(0))

    def layers(self) -> list[dict[str, float]]:
        """Percentiles of the operations of each layer."""
        return [_points(row) for row in torch.cat(self._parts, 1)]


def _points(values: Tensor) -> dict[str, float]:
    ordered = values.sort().values
    found = torch.quantile(ordered, torch.tensor(list(POINTS.values()), dtype=ordered.dtype))
    return dict(zip(POINTS, found.tolist(), strict=True))
