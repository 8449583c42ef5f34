"""Adds up the activities of a data set; every sum is float64."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from picojoule.energy.bits import event_bits
from picojoule.energy.count import NeuronCounts, OpCounts, per_sample, summed
from picojoule.energy.energy_report import EnergyReport
from picojoule.energy.health import Health, health_of
from picojoule.energy.price import Hardware, hardware
from picojoule.energy.spread import Spread
from picojoule.errors import BadInput
from picojoule.graph import Activity, Site
from picojoule.graph.levels import Levels
from picojoule.graph.records import NeuronRecord


@dataclass
class _Population:
    """One population over all batches: its sums of `[*N]`, `[events, active, fired, multiple]`, or events alone.

    `samples` are those of the batches in which it ran, `exposure` its time steps summed over them.
    """

    record: NeuronRecord
    sums: list[Tensor]
    samples: int
    exposure: int
    levels: Levels | None

    def health(self) -> Health:
        r, (events, *more) = self.record, self.sums
        spiking = r.updates > 0
        extra = dict(zip(("active", "fired", "multiple"), more, strict=False))
        steps = self.exposure / self.samples
        return health_of(r.name, r.neuron, events, steps, self.samples, **extra, spiking=spiking, layer=r.layer)


class Tally:
    """Counts, neuron health and accuracy of everything added so far."""

    def __init__(self) -> None:
        self._counts: OpCounts | None = None
        self._populations: dict[str, _Population] = {}
        self._spread: Spread | None = Spread()
        self._right = self._labelled = 0

    def add(self, activity: Activity, scores: Tensor | None = None, labels: Tensor | None = None) -> None:
        """One batch: its activity, and to know the accuracy the model's scores `[B, C]` and the labels `[B]`."""
        table = per_sample(activity)
        counts = summed(activity, table).detach()
        self._counts = counts if self._counts is None else _together(self._counts, counts)
        if self._spread is not None:
            self._spread.add(table)
        for record in activity.neurons:
            own = [t for t in (record.events, record.active, record.fired, record.multiple) if t is not None]
            known = self._populations.get(record.name)
            sums = own if known is None else [a + b for a, b in zip(known.sums, own, strict=False)]
            samples, exposure = (0, 0) if known is None else (known.samples, known.exposure)
            samples, exposure = samples + activity.samples, exposure + record.steps * activity.samples
            levels = record.levels
            if known is not None and levels is not None:
                levels = None if known.levels is None else known.levels.joined(levels)
            self._populations[record.name] = _Population(record, sums, samples, exposure, levels)
        if labels is not None and scores is not None:
            self._right += int((scores.argmax(1) == labels).sum())
            self._labelled += len(labels)

    def reduce(self, add_up: Callable[[Tensor], object]) -> None:
        """Sum over processes; `add_up` replaces a tensor by its sum over all of them, in place.

        Percentiles over samples and the bits of events are not known afterwards.
        """
        if self._counts is None:
            raise BadInput("a process counted no sample: use at least as many samples as processes")
        c = self._counts
        kinds = sorted(c.neurons)
        own = [c.samples, self._right, self._labelled]
        own += [number for k in kinds for number in (c.neurons[k].updates, c.neurons[k].events)]
        exposures = [(p.samples, p.exposure) for p in self._populations.values()]
        exposures = torch.tensor(exposures, dtype=torch.float64).reshape(-1, 2)
        numbers = torch.tensor(own, dtype=torch.float64)
        populations = [tensor for p in self._populations.values() for tensor in p.sums]
        for tensor in (c.sums, c.squares, c.total_squares, numbers, exposures, *c.by_step, *populations):
            add_up(tensor)
        for population, exposure in zip(self._populations.values(), exposures.tolist(), strict=True):
            population.samples, population.exposure = map(round, exposure)
            population.levels = None
        samples, self._right, self._labelled, *rest = numbers.tolist()
        sums = dict(zip(kinds, zip(rest[::2], rest[1::2], strict=True), strict=True))
        neurons = {k: NeuronCounts(n.number, *sums[k]) for k, n in c.neurons.items()}
        self._counts = replace(c, neurons=neurons, samples=int(samples))
        self._spread = None

    @property
    def counts(self) -> OpCounts:
        """The operations of everything added so far."""
        if self._counts is None:
            raise BadInput("cannot measure over no batches: batches was empty")
        return self._counts

    def report(
        self,
        sites: Iterable[Site],
        uncounted: Iterable[str],
        prices: Iterable[str | Hardware],
    ) -> EnergyReport:
        """The measurement of everything added so far."""
        counts = self.counts
        health = tuple(p.health() for p in self._populations.values())
        lists = tuple(p if isinstance(p, Hardware) else hardware(p) for p in prices)
        accuracy = self._right / self._labelled if self._labelled else None
        bits = tuple(event_bits(p.record.name, p.levels) for p in self._populations.values() if p.levels is not None)
        return EnergyReport(counts, lists, health, tuple(sites), tuple(uncounted), accuracy, self._spread, bits)


def _together(a: OpCounts, b: OpCounts) -> OpCounts:
    """The sum of counts whose layers may differ: a model may not use all of them for every batch."""
    if a.layers != b.layers:
        layers = {n: (w, k) for c in (a, b) for n, w, k in zip(c.layers, c.weights, c.biases, strict=True)}
        a, b = a.with_layers(layers), b.with_layers(layers)
    return a + b
