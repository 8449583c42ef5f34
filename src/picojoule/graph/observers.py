"""The small modules that `observe` puts into a graph; each returns the record of one call."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.cells import Cell
from picojoule.errors import BadInput
from picojoule.graph.counting import Sums, fired_and_multiple, magnitudes, product_record, sums_of, synapse_record
from picojoule.graph.fan_out import FanOut, dense_synapses
from picojoule.graph.levels import levels_of
from picojoule.graph.records import NeuronRecord, Operand, Site, SynapseRecord
from picojoule.graph.shapes import BatchAxis
from picojoule.kernels.native import count
from picojoule.kinds import Events, Kind
from picojoule.neurons import Diffused

Heights = tuple[Diffused, ...]
"""The neurons with a learned fineness whose events an observer sees: none or one (a tuple hides it from torch)."""


def with_height(x: Tensor, heights: Heights) -> Tensor:
    """The same events, from whose number training learns the fineness that makes it."""
    for fineness in (neurons.fineness for neurons in heights):
        assert isinstance(fineness, Tensor)
        x = x * (fineness / fineness.detach())
    return x


class SynapseObserver(nn.Module):
    """Counts what enters one linear operation.

    `reach` is its fan-out, exact for inputs whose last axes have the sizes `windowed`; `batch` is the operand's
    batch axis.
    """

    synapses: Tensor

    def __init__(self, site: Site, reach: FanOut, windowed: tuple[int, ...], batch: BatchAxis):
        super().__init__()
        self.site, self.windowed, self.batch = site, tuple(windowed), batch
        self.heights: Heights = ()
        self.register_buffer("synapses", reach.synapses, persistent=False)
        self._synapses_of_one, self._outputs_per_input = float(reach.synapses.sum()), reach.outputs
        self._largest = float(reach.synapses.max())

    def forward(self, x: Tensor) -> SynapseRecord:
        self._check(x)
        x = with_height(x, self.heights)
        sums = sums_of(x, self.site.kind, self.synapses, self._largest, self.batch)
        if isinstance(self.site.kind, Events):
            self._check_events(x, self.site.kind, sums)
        dense = dense_synapses(x.shape, self.synapses, self._synapses_of_one, self.batch)
        record = synapse_record(self.site, x, sums, self.synapses, self.batch, dense, self._outputs_per_input)
        return record._replace(operand=self._frozen(x)) if record.operand is None else record

    def _frozen(self, x: Tensor) -> Operand | None:
        """What neurons sent in training whose layers are not trained now: penalties count it, too."""
        if not isinstance(self.site.kind, Events) or not self.site.trained or not torch.is_grad_enabled():
            return None
        return Operand((magnitudes(x, self.site.kind),), self.synapses, self.batch)

    def _check_events(self, x: Tensor, kind: Events, sums: Sums) -> None:
        """A guard, not a classification: what structure promised must hold, or a count would be wrong in silence."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        if not (_are_events(x, kind) if sums.broken is None else not bool(sums.broken.any())):
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
    """Counts a matrix product of two activations; `batch` is the batch axis of the product."""

    def __init__(self, site: Site, kinds: tuple[Kind, Kind], batch: BatchAxis):
        super().__init__()
        self.site, self.kinds, self.batch = site, kinds, batch

    def forward(self, left: Tensor, right: Tensor) -> SynapseRecord:
        patterns = [_pattern(x, kind) for x, kind in zip((left, right), self.kinds, strict=True)]
        return product_record(self.site, patterns[0], patterns[1], self.kinds, self.batch)


class Population(NamedTuple):
    """What a NeuronRecord says of a population whatever it sends."""

    name: str
    neuron: str
    layer: str
    module: str
    hidden: bool

    def record(
        self,
        events: Tensor,
        health: tuple[Tensor | None, Tensor | None, Tensor | None],
        updates: float,
        steps: int,
        sent: Tensor | None,
        train: Tensor | None,
    ) -> NeuronRecord:
        of, behind = (self.name, self.neuron), (self.layer, self.module, self.hidden)
        return NeuronRecord(*of, events, *health, updates, steps, *behind, sent, train)


class NeuronObserver(nn.Module):
    """Counts the events that a population sent; of activations (`kind` None), which have no state, the non-zeros.

    Time is the axis before the batch axis, or folded into it. `updates` is those of one neuron in one step.
    """

    def __init__(self, population: Population, batch: BatchAxis, kind: Events | None, updates: float = 1.0):
        super().__init__()
        self.population, self.batch, self.kind, self.updates = population, batch, kind, updates
        self.heights: Heights = ()

    def forward(self, y: Tensor) -> NeuronRecord:
        if self.kind is None:
            n, updates = y.detach() != 0, 0.0
        else:
            y = with_height(y, self.heights)
            n = magnitudes(y, self.kind)
            updates = y.numel() / y.shape[self.batch.dim] * self.batch.folds * self.updates
        sent, steps = self.batch.by_sample(n)
        if sent.requires_grad and self.batch.folds == 1 and self.batch.dim != 1:
            sent = sent.clone()  # one step, not summed: what comes later may change it in place
        active = None if torch.is_grad_enabled() else self.batch.by_sample(n != 0)[0]
        record = self._record(sent, active, updates, steps, None if self.kind is None else self.batch.by_step(n))
        if self.kind is None or self.kind.most is not None or torch.is_grad_enabled():
            return record
        return record._replace(levels=levels_of(y, self.kind, self.batch))

    def of_counts(self, sent: Tensor, steps: int, train: Tensor | None = None) -> NeuronRecord:
        """The record of neurons that sent `sent` unit events `[B, *N]` over `steps` steps, one in a step at most."""
        updates, training = float(steps * sent[0].numel() * self.updates), torch.is_grad_enabled()
        if not count.adds_up(sent.detach(), steps):
            return self._record(sent, None if training else sent, updates, steps, train)
        events, fired, multiple = count.population(sent.detach())
        health = (None, None, None) if training else (events, fired, multiple)
        return self.population.record(events, health, updates, steps, *_in_training(sent, train))

    def _record(
        self, sent: Tensor, active: Tensor | None, updates: float, steps: int, train: Tensor | None
    ) -> NeuronRecord:
        fired = multiple = None
        if active is not None:
            active = active.sum(0).double()
            fired, multiple = fired_and_multiple(sent)
        events = sent.detach().sum(0, dtype=torch.float64)
        live = (None, None) if self.kind is None else _in_training(sent, train)
        return self.population.record(events, (active, fired, multiple), updates, steps, *live)


class CellObserver(nn.Module):
    """Runs a cell observed, from rest: `(output, one record per synapse, one per population inside)`."""

    def __init__(self, cell: Cell, observers: dict[str, SynapseObserver], populations: dict[str, NeuronObserver]):
        super().__init__()
        self.cell = cell
        self.names, self.observers = tuple(observers), nn.ModuleList(observers.values())
        self.populations = nn.ModuleDict(populations)

    def forward(self, x: Any) -> tuple[Any, tuple[SynapseRecord, ...], tuple[NeuronRecord, ...]]:
        y, _, seen = self.cell.forward_observed(x, self.cell.initial_state(x))
        synapses = tuple(of(seen[name]) for name, of in zip(self.names, self.observers, strict=True))
        return y, synapses, tuple(of(seen[name]) for name, of in self.populations.items())


def _in_training(sent: Tensor, train: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """What training is made of, that of frozen layers too; and nothing outside it."""
    return (sent, train) if torch.is_grad_enabled() else (None, None)


def _are_events(x: Tensor, kind: Events) -> bool:
    n = x if kind.quantum == 1 else x / kind.quantum
    if kind.quantum == 1:
        whole = n == n.round()
    else:
        whole = torch.isclose(n, n.round(), rtol=torch.finfo(n.dtype).eps, atol=1e-3)
    return bool(whole.all()) and (kind.signed or not bool((n < -0.5).any()))


def _pattern(x: Tensor, kind: Kind) -> Tensor:
    if isinstance(kind, Events):
        return magnitudes(x, kind).abs().clamp(max=1)
    return (x != 0).to(x.dtype)
