"""The small modules that `observe` puts into a graph; each returns the record of one call."""

from typing import Any

import torch
from torch import Tensor, nn

from picojoule.cells import Cell
from picojoule.errors import BadInput
from picojoule.graph.fan_out import dense_synapses, weighted_sum
from picojoule.graph.records import NeuronRecord, Operand, Site, SynapseRecord
from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events, Kind


class SynapseObserver(nn.Module):
    """Counts what enters one linear operation.

    `synapses` is its fan-out map, exact for inputs whose last axes have the sizes `windowed`; `batch` is the
    operand's batch axis.
    """

    synapses: Tensor

    def __init__(self, site: Site, synapses: Tensor, windowed: tuple[int, ...], batch: BatchAxis):
        super().__init__()
        self.site, self.windowed, self.batch = site, tuple(windowed), batch
        self.register_buffer("synapses", synapses, persistent=False)
        self._synapses_of_one = float(synapses.sum())

    def forward(self, x: Tensor) -> SynapseRecord:
        self._check(x)
        kind = self.site.kind
        dense = dense_synapses(x.shape, self.synapses, self._synapses_of_one, self.batch)
        if not isinstance(kind, Events):
            macs = self._weigh(x.detach() != 0, 1)
            none = torch.zeros_like(macs)
            return SynapseRecord(self.site, none, none, macs, dense, None)
        self._check_events(x, kind)
        n = magnitudes(x, kind)
        acs = self._weigh(n, kind.most)
        graded = acs.detach() if kind.most == 1 else self._weigh(n.detach() != 0, 1)
        live = Operand(n, self.synapses, self.batch) if n.requires_grad else None
        return SynapseRecord(self.site, acs, graded, torch.zeros_like(graded), dense, live)

    def _weigh(self, n: Tensor, most: int | None) -> Tensor:
        return weighted_sum(n, self.synapses, self.batch, most)

    def _check_events(self, x: Tensor, kind: Events) -> None:
        """A guard, not a classification: what structure promised must hold, or a count would be wrong in silence."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        n = x if kind.quantum == 1 else x / kind.quantum
        whole = torch.isclose(n, n.round(), rtol=0, atol=1e-3) if kind.quantum != 1 else n == n.round()
        if not bool(whole.all()) or (not kind.signed and bool((n < -0.5).any())):
            raise BadInput(
                f"{self.site.name}: expected {'' if kind.signed else 'non-negative '}whole multiples of "
                f"{kind.quantum:g} (events), got other values; declare the kind of the inputs as it is, or observe "
                "again with an example of this size"
            )

    def _check(self, x: Tensor) -> None:
        windows = len(self.windowed)
        expected = [*self.synapses.shape[: x.dim() - windows], *self.windowed]
        fits = x.dim() == len(expected) and x.shape[x.dim() - windows :] == self.windowed
        if not fits or any(m not in (1, n) for n, m in zip(x.shape, expected, strict=True)):
            raise BadInput(
                f"{self.site.name} was observed for inputs like {tuple(expected)} (1: any size), got "
                f"{tuple(x.shape)}; call observe again with an example of the new size"
            )


class ProductObserver(nn.Module):
    """Counts a matrix product of two activations `[..., M, K] @ [..., K, N]`.

    Events by events: pairs of non-zeros, as ACs. Events by values: one AC per event and output it reaches.
    Values by values: MACs of pairs that are both non-zero. `batch` is the batch axis of the product.
    """

    def __init__(self, site: Site, kinds: tuple[Kind, Kind], batch: BatchAxis):
        super().__init__()
        self.site, self.kinds, self.batch = site, kinds, batch

    def forward(self, left: Tensor, right: Tensor) -> SynapseRecord:
        events = [isinstance(kind, Events) for kind in self.kinds]
        patterns = [
            _pattern(x, kind) if event or not any(events) else torch.ones_like(x)
            for x, kind, event in zip((left, right), self.kinds, events, strict=True)
        ]
        pairs = self._pairs(*patterns)
        dense = self._pairs(torch.ones_like(left), torch.ones_like(right))
        none = torch.zeros_like(dense)
        if any(events):
            return SynapseRecord(self.site, pairs, pairs.detach(), none, float(dense[0]), None)
        return SynapseRecord(self.site, none, none, pairs.detach(), float(dense[0]), None)

    def _pairs(self, left: Tensor, right: Tensor) -> Tensor:
        over_k = left.double().sum(-2) * right.double().sum(-1)
        rows = over_k.movedim(self.batch.dim, 0).flatten(1).sum(1)
        return self.batch.per_sample(rows)


class NeuronObserver(nn.Module):
    """Counts what a population sent; of `analog` activations, which have no state to update, the non-zeros.

    Time is the axis before the batch axis, or folded into it.
    """

    def __init__(self, name: str, neuron: str, batch: BatchAxis, analog: bool):
        super().__init__()
        self.name, self.neuron, self.batch, self.analog = name, neuron, batch, analog

    def forward(self, y: Tensor) -> NeuronRecord:
        timed = self.batch.dim == 1
        sent = y.detach() != 0 if self.analog else y.detach().abs()
        dtype = torch.promote_types(sent.dtype, torch.float32)
        events = sent.sum([0, 1] if timed else self.batch.dim, dtype=dtype).double()
        updates = 0.0 if self.analog else y.numel() / y.shape[self.batch.dim] * self.batch.folds
        return NeuronRecord(self.name, self.neuron, events, updates, y.shape[0] if timed else self.batch.folds)


class CellObserver(nn.Module):
    """Runs a cell observed, from rest: `(output, one record per synapse)`."""

    def __init__(self, cell: Cell, observers: dict[str, SynapseObserver]):
        super().__init__()
        self.cell = cell
        self.observers = nn.ModuleDict(observers)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[SynapseRecord, ...]]:
        y, _, operands = self.cell.forward_observed(x, self.cell.initial_state(x))
        return y, tuple(self.observers[name](operands[name]) for name in self.observers)


def magnitudes(x: Tensor, kind: Events) -> Tensor:
    """|n| of events x = n * quantum. Gradient: of unsigned events that of n itself (1 at 0), of signed ones sign(n)."""
    n: Any = x
    if kind.quantum != 1:
        n = x / kind.quantum
        n = n + (n.round() - n).detach()
    return n.abs() if kind.signed else n


def _pattern(x: Tensor, kind: Kind) -> Tensor:
    if isinstance(kind, Events):
        return magnitudes(x, kind).abs().clamp(max=1)
    return (x != 0).to(x.dtype)
