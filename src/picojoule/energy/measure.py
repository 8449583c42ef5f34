"""Measure a model: operations, joules and neuron health over a data set, from one pass."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from picojoule.energy.count import OpCounts, count
from picojoule.energy.health import Health, health_of
from picojoule.energy.price import Energy, hardware
from picojoule.errors import BadInput
from picojoule.graph import Activity, Observed, Site, observe
from picojoule.graph.shapes import evaluating
from picojoule.kinds import Kind, Values


@dataclass(frozen=True)
class EnergyReport:
    """What one measurement found, all per sample. `accuracy` is a fraction, or None without labels.

    `uncounted` lists what could not be counted; `energy_pj` does not contain it.
    """

    counts: OpCounts
    energy_pj: dict[str, Energy]
    health: tuple[Health, ...]
    sites: tuple[Site, ...]
    uncounted: tuple[str, ...]
    accuracy: float | None

    @property
    def silent_fraction(self) -> float:
        """Share of neurons that sent nothing over the whole data set."""
        neurons = sum(h.neurons for h in self.health)
        return sum(h.silent_fraction * h.neurons for h in self.health) / neurons if neurons else 0.0

    def __str__(self) -> str:
        lines = [
            f"{name}: {e.value / 1e3:.4g} nJ per sample ({hardware(name).scope})" for name, e in self.energy_pj.items()
        ]
        lines += [f"{q}: {float(self.counts.total(q)):.6g} per sample" for q in ("acs", "macs", "dense_macs")]
        lines += [f"not counted: {what}" for what in self.uncounted]
        return "\n".join(lines)


def measure(
    model: nn.Module,
    batches: Iterable[Tensor | tuple[Tensor, Tensor]],
    hardware: str | Iterable[str] = "horowitz-45nm-fp32",
    inputs: Kind = Values(),  # noqa: B008  (frozen)
    batch_dim: int = 0,
    *,
    spiking: tuple[type[nn.Module], ...] = (),
    strict: bool = False,
) -> EnergyReport:
    """Run `model` once over `batches` of x or (x, y) in evaluation mode and report operations and energy.

    `inputs` is the kind of x, `hardware` one or several price lists. The model is left as it was. Models of
    this package and models that `torch.fx` can trace are measured; others raise UntraceableModel. `spiking`
    and `strict` are those of `observe`.
    """
    names = _known([hardware] if isinstance(hardware, str) else hardware)
    tally = Tally()
    observed: Observed | None = None
    with torch.no_grad(), evaluating(model):
        for batch in batches:
            x, y = batch if isinstance(batch, tuple | list) else (batch, None)
            if x.shape[batch_dim] == 0:
                continue
            if observed is None:
                observed = observe(model, x, inputs, batch_dim=batch_dim, spiking=spiking, strict=strict)
            output, activity = observed(x)
            tally.add(activity, output, y)
    if observed is None:
        raise BadInput("cannot measure over no batches: batches was empty")
    return tally.report(observed, names)


def _known(names: Iterable[str]) -> list[str]:
    """The names of price lists, all of which exist."""
    return [hardware(name).name for name in names]


class Tally:
    """Adds up activities of a data set; every sum is float64."""

    def __init__(self) -> None:
        self._counts: OpCounts | None = None
        self._events: dict[str, tuple[str, Tensor, int]] = {}
        self._right = self._labelled = 0

    def add(self, activity: Activity, output: Tensor, labels: Tensor | None) -> None:
        """One batch: its activity, the model's scores `[B, C]`, and labels `[B]` if there are any."""
        counts = count(activity).detach()
        self._counts = counts if self._counts is None else self._counts + counts
        for record in activity.neurons:
            known = self._events.get(record.name)
            events = record.events if known is None else known[1] + record.events
            self._events[record.name] = (record.neuron, events, record.steps)
        if labels is not None:
            self._right += int((output.argmax(1) == labels).sum())
            self._labelled += len(labels)

    def reduce(self, add_up: Callable[[Tensor], object]) -> None:
        """Sum over processes; `add_up` replaces a tensor by its sum over all of them, in place."""
        if self._counts is None:
            raise BadInput("a process counted no sample: use at least as many samples as processes")
        c = self._counts
        kinds = sorted(c.updates)
        own = [c.samples, self._right, self._labelled, *(c.updates[k] for k in kinds)]
        numbers = torch.tensor(own, dtype=torch.float64)
        populations = [events for _, events, _ in self._events.values()]
        for tensor in (c.sums, c.squares, c.total_squares, numbers, *populations):
            add_up(tensor)
        samples, self._right, self._labelled, *updates = numbers.tolist()
        updates = dict(zip(kinds, updates, strict=True))
        self._counts = OpCounts(c.layers, c.sums, c.squares, c.total_squares, updates, int(samples))

    def report(self, observed: Observed, names: list[str]) -> EnergyReport:
        """The measurement of everything added so far."""
        if self._counts is None:
            raise BadInput("cannot measure over no batches: batches was empty")
        counts = self._counts
        health = tuple(
            health_of(name, neuron, events, steps, counts.samples)
            for name, (neuron, events, steps) in self._events.items()
        )
        return EnergyReport(
            counts,
            {name: hardware(name).energy_pj(counts) for name in names},
            health,
            observed.sites,
            observed.uncounted,
            self._right / self._labelled if self._labelled else None,
        )
