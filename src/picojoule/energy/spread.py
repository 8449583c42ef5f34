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
        self._parts: list[dict[str, Tensor]] = []
        self.samples = 0

    def add(self, table: dict[str, Tensor]) -> None:
        """One batch, as `per_sample` counts it."""
        room = KEPT - self.samples
        if room > 0:
            acs, macs = (QUANTITIES.index(q) for q in ("acs", "macs"))
            part = {name: (t[acs] + t[macs]).detach()[:room].cpu() for name, t in table.items()}
            self._parts.append(part)
            self.samples += len(next(iter(part.values())))

    def total(self) -> dict[str, float]:
        """Percentiles of the operations of all layers together."""
        return _points(torch.cat([torch.stack(list(part.values())).sum(0) for part in self._parts]))

    def layer(self, name: str) -> dict[str, float]:
        """Percentiles of the operations of one layer."""
        none = [torch.zeros_like(next(iter(part.values()))) for part in self._parts]
        return _points(torch.cat([part.get(name, zero) for part, zero in zip(self._parts, none, strict=True)]))


def _points(values: Tensor) -> dict[str, float]:
    ordered = values.sort().values
    found = torch.quantile(ordered, torch.tensor(list(POINTS.values()), dtype=ordered.dtype))
    return dict(zip(POINTS, found.tolist(), strict=True))
