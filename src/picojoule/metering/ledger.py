"""What one presentation of inputs counts: the calls of every site and population, as one Activity."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.graph import Activity, Site
from picojoule.graph.counting import Sums, assembled, fired_and_multiple, product_record
from picojoule.graph.fan_out import dense_synapses, over_constant, per_step
from picojoule.graph.levels import Levels, bit_length, levels_of
from picojoule.graph.records import NeuronRecord, Operand, SynapseRecord
from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events, Values
from picojoule.metering.numbers import most_of, numbers, same_numbers
from picojoule.metering.session import FUNCTIONAL
from picojoule.metering.site_info import Reach, SiteInfo
from picojoule.metering.tag import Level, Tag


class ChangedPath(BadInput):
    """A model computed something else than when it was classified."""


_NOWHERE = Site("", "", Values(), False)


@dataclass
class _Calls:
    """Calls of a site that are alike, in order. `parts` are event numbers summed over axes of constant fan-out, of
    values non-zeros; `nonzeros` and `bits` the same of non-zeros and of significant bits, where numbers above 1 may
    occur. `live` are operands that training needs, with their version: they are summed when the record is made, and
    once there is one, all later ones are kept. `latest` is the last operand of values: an image that is shown at every
    step is looked at once.
    """

    info: SiteInfo
    tag: Tag
    batch: BatchAxis
    synapses: Tensor
    share: int
    reach: Reach
    parts: list[Tensor] = field(default_factory=list)
    nonzeros: list[Tensor] = field(default_factory=list)
    bits: list[Tensor] = field(default_factory=list)
    live: list[tuple[Tensor, int]] = field(default_factory=list)
    latest: tuple[Tensor, int] | None = None
    dense: float = 0.0
    inputs: float = 0.0
    outputs: float = 0.0

    def record(self, site: Site) -> SynapseRecord:
        if self.live:
            with torch.enable_grad():
                return self._live_record(site)
        sums = self._sums(site, self.parts, self.nonzeros, self.bits)
        return _spread(assembled(site, sums, self.dense, self.inputs, self.outputs), self.share)

    def _sums(self, site: Site, parts: list[Tensor], nonzeros: list[Tensor], bits: list[Tensor]) -> Sums:
        """Of all calls; the numbers of events that enter a site of values do not matter, only that they are there."""
        nonzeros = nonzeros or parts
        chosen = parts if isinstance(site.kind, Events) else nonzeros
        weighted, entered = self._by_step(chosen)
        nonzero = weighted.detach() if nonzeros is chosen else self._by_step(nonzeros)[0]
        return Sums(weighted, nonzero, entered, bits=self._by_step(bits)[0] if bits else None)

    def _by_step(self, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
        if self.batch == (0, 1, 1) and all(p.shape == parts[0].shape for p in parts):
            whole = torch.stack(parts)
            self._check_whole_numbers(whole)
            return per_step(whole, self.synapses.unsqueeze(0), BatchAxis(1, 1))
        for part in parts:
            self._check_whole_numbers(part)
        tables = [per_step(part, self.synapses, self.batch) for part in parts]
        weighted, entered = (torch.cat(t) for t in zip(*tables, strict=True))
        return weighted, entered

    def _check_whole_numbers(self, part: Tensor) -> None:
        """Sums of event numbers are whole: a guard against values where classification found events."""
        if self.tag.level is Level.EVENT and part.is_floating_point() and not bool((part == part.round()).all()):
            raise ChangedPath(
                f"{self.info.name}: expected events, as in an earlier batch, got other values; give quick=False, so "
                "that every batch is classified, or declare the kind of the inputs as it is"
            )

    def _live_record(self, site: Site) -> SynapseRecord:
        for x, version in self.live:
            if x._version != version:
                raise BadInput(
                    f"{self.info.name}: the events that entered were changed in place before they were counted; call "
                    "activity() right after the model, or count under torch.no_grad()"
                )
        numbers_of = [numbers(x, self.tag) for x, _ in self.live]
        parts = self.parts + [over_constant(n, self.synapses, self.batch, most_of(self.tag)) for n in numbers_of]
        nonzeros, bits = [], []
        if most_of(self.tag) != 1 or not isinstance(site.kind, Events):
            nonzeros = (self.nonzeros or self.parts) + [self._nonzero(n) for n in numbers_of]
            bits = (self.bits or self.parts) + [self._significant(n) for n in numbers_of]
        live = Operand(tuple(numbers_of), self.synapses, self.batch) if isinstance(site.kind, Events) else None
        sums = self._sums(site, parts, nonzeros, bits)
        return _spread(assembled(site, sums, self.dense, self.inputs, self.outputs, live), self.share)

    def takes(self, tag: Tag, batch: BatchAxis, reach: Reach, share: int) -> bool:
        """Whether one more call can be added up with those before."""
        same = self.reach is reach and self.batch == batch and self.share == share
        return same and same_numbers(self.tag, tag)

    def add(self, x: Tensor, ratio: float, of_one: float, training: bool) -> None:
        """One more call."""
        inputs = x.numel() / x.shape[self.batch.dim] * self.batch.folds
        self.inputs += inputs
        self.outputs += inputs * ratio
        self.dense += dense_synapses(x.shape, self.synapses, of_one, self.batch)
        if training and self.tag.level is not Level.GRADED and (x.requires_grad or self._follows()):
            kept = x if x.requires_grad else x.clone()
            self.live.append((kept, kept._version))
            return
        if self.tag.level is Level.GRADED:
            again = self.latest is not None and self.latest[0] is x and self.latest[1] == x._version
            self.parts.append(self.parts[-1] if again else self._nonzero(x))
            self.latest = None if x.is_inference() else (x, x._version)
            return
        most = most_of(self.tag)
        n = numbers(x.detach(), self.tag)
        self.parts.append(over_constant(n, self.synapses, self.batch, most))
        if most != 1:
            self.nonzeros.append(self._nonzero(x))
            self.bits.append(self._significant(n))

    def _follows(self) -> bool:
        """Whether operands that autograd does not see belong to a train that it may see elsewhere."""
        return bool(self.live) or self.tag.trained or self.tag.is_constant

    def _nonzero(self, x: Tensor) -> Tensor:
        return over_constant(x.detach() != 0, self.synapses, self.batch, 1)

    def _significant(self, n: Tensor) -> Tensor:
        return over_constant(bit_length(n), self.synapses, self.batch, None)


@dataclass
class _Product:
    """Products of two activations: their record, of one or more calls."""

    info: SiteInfo
    record_: SynapseRecord

    def record(self, site: Site) -> SynapseRecord:
        return self.record_._replace(site=site)


class _LiveTrain(NamedTuple):
    """Events that a call sent, as autograd sees them."""

    y: Tensor
    version: int
    tag: Tag
    batch: BatchAxis

    @property
    def unchanged(self) -> bool:
        return self.y._version == self.version

    def train(self) -> Tensor:
        """`[T, B, *N]`."""
        return self.batch.by_step(numbers(self.y, self.tag))


@dataclass
class _Sent:
    """What a population sent in the calls so far: `[B, *N]` and, over samples and steps, `[*N]`.

    `live` holds in training what each call sent, and its version; None where autograd cannot see it.
    """

    neuron: str
    layer: str
    module: str
    sent: Tensor
    active: Tensor | None
    updates: float
    steps: int
    training: bool
    live: list[_LiveTrain] | None
    levels: Levels | None

    def add(self, more: "_Sent") -> None:
        """More calls of the same neurons."""
        self.sent += more.sent
        self.active = None if self.active is None or more.active is None else self.active + more.active
        self.updates, self.steps = self.updates + more.updates, self.steps + more.steps
        self.live = None if self.live is None or more.live is None else self.live + more.live
        self.levels = None if self.levels is None or more.levels is None else self.levels.joined(more.levels)

    def record(self, name: str, hidden: bool) -> NeuronRecord:
        events = self.sent.sum(0, dtype=torch.float64)
        fired = multiple = active = None
        if not self.training:
            fired, multiple = fired_and_multiple(self.sent)
            active = events if self.active is None else self.active
        counts = (events, active, fired, multiple, self.updates, self.steps)
        live = self._live_events()
        return NeuronRecord(name, self.neuron, *counts, self.layer, self.module, hidden, *live, self.levels)

    def _live_events(self) -> tuple[Tensor | None, Tensor | None]:
        """What was sent `[B, *N]` and when `[T, B, *N]`; None if it was changed in place since."""
        if not self.live or not all(events.unchanged for events in self.live):
            return None, None
        with torch.enable_grad():
            trains = [events.train() for events in self.live]
            train = torch.cat(trains) if len(trains) > 1 else trains[0]
            return train.sum(0, dtype=torch.promote_types(train.dtype, torch.float32)), train


class Ledger:
    """Collects the calls of one presentation of `samples` inputs."""

    def __init__(self, samples: int, training: bool = False):
        self.samples, self.training = samples, training
        self._calls: dict[str, list[_Calls | _Product]] = {}
        self._neurons: dict[tuple[str, str, torch.Size], _Sent] = {}

    def synapses(self, info: SiteInfo, tag: Tag, x: Tensor, batch: BatchAxis | None, reach: Reach) -> None:
        """Weights with this fan-out acted on x."""
        synapses, share = reach.fan_out.synapses, 1
        torn = batch is None or batch.dim >= x.dim() or (self.samples == 1 and batch.folds != x.shape[batch.dim])
        if batch is None or torn:  # one sample stands for the mean of all
            x, synapses, batch, share = x.unsqueeze(0), synapses.unsqueeze(0), BatchAxis(0, 1), self.samples
            info.even |= self.samples > 1
        elif batch.folds * self.samples != x.shape[batch.dim]:
            raise BadInput(
                f"{info.name}: expected {batch.folds} steps of {self.samples} samples on axis {batch.dim}, got "
                f"{x.shape[batch.dim]}; meter one presentation of the same samples at a time"
            )
        last = self._calls.get(info.name, [None])[-1]
        if not isinstance(last, _Calls) or not last.takes(tag, batch, reach, share):
            last = _Calls(info, tag, batch, synapses, share, reach)
            self._calls.setdefault(info.name, []).append(last)
        last.add(x, reach.fan_out.outputs, reach.of_one, self.training)

    def product(
        self, info: SiteInfo, tags: tuple[Tag, Tag], left: Tensor, right: Tensor, batch: BatchAxis | None
    ) -> None:
        """Two activations were multiplied."""
        kinds = [Events() if t.level is Level.EVENT else Values() for t in tags]
        patterns = [(x.detach() != 0).to(torch.float32) for x in (left, right)]
        if batch is None or batch.dim >= left.dim() - 2:
            patterns = [p.unsqueeze(0) for p in patterns]
            info.even |= self.samples > 1
            record = product_record(_NOWHERE, patterns[0], patterns[1], (kinds[0], kinds[1]), BatchAxis(0, 1))
            record = _spread(record, self.samples)
        else:
            record = product_record(_NOWHERE, patterns[0], patterns[1], (kinds[0], kinds[1]), batch)
        self._calls.setdefault(info.name, []).append(_Product(info, record))

    def neurons(
        self,
        name: str,
        neuron: str,
        layer: str,
        y: Tensor,
        tag: Tag | None,
        batch: BatchAxis,
        at_rest: int = 0,
        of_one: float = 1.0,
    ) -> None:
        """A population behind `layer` sent y; `tag` is None for activations, of which the non-zeros count.

        `at_rest` calls came before in which it sent nothing, because no input had reached it yet; `of_one` is the
        updates of one neuron in one step.
        """
        if batch.dim == 1 and batch.folds > 1:  # neurons side by side with the samples, time in front
            y = y.unflatten(1, (batch.folds // batch.inner, -1, batch.inner)).movedim(2, 1)
            batch = BatchAxis(1, 1)
        live = None
        if self.training and tag is not None and neuron != FUNCTIONAL:
            rest = [_LiveTrain(torch.zeros_like(y), 0, tag, batch)] * at_rest
            live = [*rest, _LiveTrain(y, y._version, tag, batch)]
        y = y.detach()
        sent = (y != 0).to(torch.float32) if tag is None else numbers(y, tag)
        of_sample, steps = batch.by_sample(sent)
        active = None
        if not self.training and (tag is None or most_of(tag) != 1):
            active = batch.by_sample(sent != 0)[0].sum(0).double()
        updates = 0.0 if tag is None else of_one * (1 + at_rest) * y.numel() / self.samples
        steps *= 1 + at_rest
        levels = None
        if not self.training and tag is not None and most_of(tag) is None and tag.unit.number is not None:
            levels = levels_of(y, Events(abs(tag.unit.number), tag.signed), batch)
        key = (name, layer, of_sample.shape)
        known = self._neurons.get(key)
        own = _Sent(neuron, layer, name, of_sample, active, updates, steps, self.training, live, levels)
        if known is None:
            own.sent = torch.empty_like(of_sample, dtype=torch.float32).copy_(of_sample)
            self._neurons[key] = own
        else:
            known.add(own)

    def activity(self, populations: dict[str, str], hidden: set[str]) -> Activity:
        """Everything that was counted; of the populations those named, under the names given, and which are hidden."""
        synapses = tuple(call.record(call.info.site()) for calls in self._calls.values() for call in calls)
        neurons = []
        for name, shown in populations.items():
            for number, n in enumerate(self._of(name)):
                neurons.append(n.record(shown if not number else f"{shown}#{number + 1}", name in hidden))
        return Activity(synapses, tuple(neurons), self.samples)

    def _of(self, name: str) -> list[_Sent]:
        """The populations of one module: one for each layer it stands behind.

        Calls behind different layers are one population after all if they are not equally many: a recurrent neuron
        may be driven by its input alone in the first step.
        """
        shapes: dict[torch.Size, list[_Sent]] = {}
        for (known, _, shape), n in self._neurons.items():
            if known == name:
                shapes.setdefault(shape, []).append(n)
        found = []
        for members in shapes.values():
            if len({n.steps for n in members}) > 1:
                first, *rest = members
                for n in rest:
                    first.add(n)
                members = [first]
            found += members
        return found


def _spread(record: SynapseRecord, share: int) -> SynapseRecord:
    """Where one sample stood for all, its counts are given out evenly."""
    if share == 1:
        return record
    counted = ("acs", "graded_events", "macs", "active", *(() if record.bits is None else ("bits",)))
    even = {k: (getattr(record, k) / share).expand(share) for k in counted}
    sizes = {k: getattr(record, k) / share for k in ("dense", "inputs", "outputs")}
    return record._replace(**even, **sizes, operand=None)
