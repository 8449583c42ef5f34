"""What one presentation of inputs counts: the calls of every site and population, as one Activity."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.graph import Activity, Site
from picojoule.graph.counting import event_record, product_record, value_record
from picojoule.graph.fan_out import FanOut, dense_synapses
from picojoule.graph.records import NeuronRecord, SynapseRecord
from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events, Kind, Values
from picojoule.metering.tag import Level, Tag

_NOWHERE = Site("", "", Values(), False)


@dataclass
class SiteInfo:
    """A site and its class, the join over all its calls so far.

    `reasons` say why something is values; `lost` those that no rule explains. `varies` if the class of its calls did.
    """

    name: str
    operation: str
    weights: int
    biases: int
    level: Level = Level.ZERO
    quantum: float | None = None
    signed: bool = False
    most: int | None = 0
    trained: bool = False
    varies: bool = False
    reasons: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    def meet(self, tag: Tag) -> None:
        """Take notice of one more operand."""
        levels = {self.level, tag.level}
        self.varies |= Level.GRADED in levels and Level.EVENT in levels
        self.level = max(self.level, tag.level)
        self.trained |= tag.trained
        if tag.reason:
            (self.lost if tag.lost else self.reasons).add(tag.reason)
        if tag.level is Level.EVENT:
            self.quantum = tag.unit.number if self.quantum is None else self.quantum
            self.signed |= tag.signed
            most = _most(tag)
            self.most = None if most is None or self.most is None else max(self.most, most)

    @property
    def kind(self) -> Kind:
        if self.level is Level.EVENT:
            return Events(self.quantum or 1.0, self.signed, self.most)
        return Values("; ".join(sorted(self.reasons | self.lost)))

    def site(self) -> Site:
        return Site(self.name, self.operation, self.kind, self.trained, self.weights, self.biases)


class Reach(NamedTuple):
    """The fan-out of a site's input, and its sum."""

    fan_out: FanOut
    of_one: float

    @staticmethod
    def of(fan_out: FanOut) -> "Reach":
        return Reach(fan_out, float(fan_out.synapses.sum()))


class _Call(NamedTuple):
    """One call of a site: how to make its record once the class of the site is known."""

    info: SiteInfo
    record: Callable[[Site], SynapseRecord]


@dataclass
class _Sent:
    """What a population sent in the calls so far: `[B, *N]` and, over samples and steps, `[*N]`."""

    neuron: str
    layer: str
    sent: Tensor
    active: Tensor | None
    updates: float
    steps: int


class Ledger:
    """Collects the calls of one presentation of `samples` inputs."""

    def __init__(self, samples: int):
        self.samples = samples
        self._calls: list[_Call] = []
        self._neurons: dict[str, _Sent] = {}

    def synapses(self, info: SiteInfo, tag: Tag, x: Tensor, batch: BatchAxis | None, reach: Reach) -> None:
        """Weights with this fan-out acted on x."""
        synapses, ratio = reach.fan_out
        share = 1
        if batch is None or batch.dim >= x.dim():  # one sample stands for the mean of all
            x, synapses, batch, share = x.unsqueeze(0), synapses.unsqueeze(0), BatchAxis(0, 1), self.samples
        elif batch.folds * self.samples != x.shape[batch.dim]:
            raise BadInput(
                f"{info.name}: expected {batch.folds} steps of {self.samples} samples on axis {batch.dim}, got "
                f"{x.shape[batch.dim]}; meter one presentation of the same samples at a time"
            )
        dense = dense_synapses(x.shape, synapses, reach.of_one, batch)
        rest = (synapses, batch, dense, ratio)

        def as_values(site: Site) -> SynapseRecord:
            return _spread(value_record(site, x, *rest), share)

        if tag.level is Level.GRADED:
            values = as_values(_NOWHERE)
            self._calls.append(_Call(info, lambda site: values._replace(site=site)))
            return
        most = _most(tag) if tag.level is Level.EVENT else 1

        def as_events(site: Site) -> SynapseRecord:
            return _spread(event_record(site, numbers(x, tag), most, *rest), share)

        if x.requires_grad and torch.is_grad_enabled():
            version = x._version

            def live(site: Site) -> SynapseRecord:
                if x._version != version:
                    raise BadInput(
                        f"{info.name}: the events that entered were changed in place before they were counted; call "
                        "activity() right after the model, or count under torch.no_grad()"
                    )
                with torch.enable_grad():
                    return as_events(site) if isinstance(site.kind, Events) else as_values(site)

            self._calls.append(_Call(info, live))
            return
        events, values = as_events(_NOWHERE), None if most == 1 else as_values(_NOWHERE)

        def counted(site: Site) -> SynapseRecord:
            if isinstance(site.kind, Events):
                return events._replace(site=site)
            none = torch.zeros_like(events.acs)
            found = values or events._replace(acs=none, graded_events=none, macs=events.acs)
            return found._replace(site=site)

        self._calls.append(_Call(info, counted))

    def product(self, info: SiteInfo, tags: tuple[Tag, Tag], left: Tensor, right: Tensor, batch: BatchAxis | None):
        """Two activations were multiplied."""
        kinds = [Events() if t.level is Level.EVENT else Values() for t in tags]
        patterns = [(x.detach() != 0).to(torch.float32) for x in (left, right)]
        share = 1
        if batch is None or batch.dim >= left.dim() - 2:
            share = self.samples
            patterns, batch = [p.unsqueeze(0) for p in patterns], BatchAxis(0, 1)
        record = product_record(_NOWHERE, patterns[0], patterns[1], (kinds[0], kinds[1]), batch)
        record = _spread(record, share)
        self._calls.append(_Call(info, lambda site: record._replace(site=site)))

    def neurons(self, name: str, neuron: str, layer: str, y: Tensor, tag: Tag | None, batch: BatchAxis) -> None:
        """A population behind `layer` sent y; `tag` is None for activations, of which the non-zeros count."""
        y = y.detach()
        sent = (y != 0).to(torch.float32) if tag is None else numbers(y, tag)
        steps = batch.folds if batch.folds > 1 or batch.dim != 1 else y.shape[0]
        if batch.folds > 1 or batch.dim != 1:
            of_sample = batch.unfolded(sent).movedim(batch.dim, 0)
            every: list[int] = [batch.dim]
        else:
            of_sample, every = sent.sum(0), [0, 1]
        active = None if torch.is_grad_enabled() else (sent != 0).sum(every).double()
        updates = 0.0 if tag is None else y.numel() / self.samples
        known = self._neurons.get(name)
        if known is None:
            self._neurons[name] = _Sent(neuron, layer, of_sample, active, updates, steps)
        elif known.sent.shape == of_sample.shape:
            known.sent = known.sent + of_sample
            known.active = None if known.active is None or active is None else known.active + active
            known.updates, known.steps = known.updates + updates, known.steps + steps
        else:
            self.neurons(_next_name(name), neuron, layer, y, tag, batch)

    def activity(self, populations: dict[str, str]) -> Activity:
        """Everything that was counted; of the populations those named, under the names given."""
        sites = {id(call.info): call.info.site() for call in self._calls}
        synapses = tuple(call.record(sites[id(call.info)]) for call in self._calls)
        neurons = []
        for name, n in self._neurons.items():
            if _first_name(name) not in populations:
                continue
            fired = multiple = None
            if n.active is not None:
                fired, multiple = ((n.sent > k).sum(0).double() for k in (0, 1))
            shown = populations[_first_name(name)] + name[len(_first_name(name)) :]
            events = n.sent.sum(0, dtype=torch.float64)
            rest = (events, n.active, fired, multiple, n.updates, n.steps, n.layer)
            neurons.append(NeuronRecord(shown, n.neuron, *rest))
        return Activity(synapses, tuple(neurons), self.samples)


def numbers(x: Tensor, tag: Tag) -> Tensor:
    """|n| of events x = n * unit, differentiable; where the unit is no single number, whether there is an event."""
    if tag.level is not Level.EVENT:
        return (x.detach() != 0).to(torch.float32)
    height = tag.unit.number
    if height is None:
        pattern = (x.detach() != 0).to(x.dtype)
        return pattern + (x - x.detach()) if x.requires_grad else pattern
    if x.dtype is torch.bool:
        return x
    n = x if height == 1 else x / height
    if height != 1 or tag.inexact:
        n = n + (n.round() - n).detach() if x.requires_grad else n.round()
    return n.abs() if tag.signed else n


def are_events(x: Tensor, tag: Tag) -> bool:
    """Whether x holds what its provenance promises: a guard against a wrong rule, not a classification."""
    height = tag.unit.number
    if height is None or x.dtype is torch.bool:
        return True
    n = x.detach() / height
    return bool(((n - n.round()).abs() <= 1e-3).all())


def _most(tag: Tag) -> int | None:
    if tag.unit.number is None:
        return 1
    return None if tag.most is None else round(tag.most)


def _spread(record: SynapseRecord, share: int) -> SynapseRecord:
    """The record of one stand-in, given out evenly to `share` samples."""
    if share == 1:
        return record
    even = {k: (getattr(record, k) / share).expand(share) for k in ("acs", "graded_events", "macs", "active")}
    sizes = {k: getattr(record, k) / share for k in ("dense", "inputs", "outputs")}
    return record._replace(**even, **sizes, operand=None)


def _next_name(name: str) -> str:
    first, _, number = name.partition("#")
    return f"{first}#{int(number or 1) + 1}"


def _first_name(name: str) -> str:
    return name.partition("#")[0]
