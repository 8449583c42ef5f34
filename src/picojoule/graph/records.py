"""What one observed forward pass says about itself: the record that every consumer reads."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events, Kind


@dataclass(frozen=True)
class Site:
    """A place where synapses act. `kind` is what enters it; `trained` that parameters act on what enters.

    Sites of one shared module have the same name and are added up.
    """

    name: str
    operation: str
    kind: Kind
    trained: bool


class SynapseRecord(NamedTuple):
    """One call of one site in one forward pass; everything per sample, `[B]` float64, summed over time.

    `acs` is differentiable. `dense` is the number of synapses times steps. `operand` holds the live events;
    None outside training.
    """

    site: Site
    acs: Tensor
    graded_events: Tensor
    macs: Tensor
    dense: float
    operand: "Operand | None"


class Operand(NamedTuple):
    """The event numbers n that entered a site (live), and the fan-out map of the site."""

    n: Tensor
    synapses: Tensor
    batch: BatchAxis


class NeuronRecord(NamedTuple):
    """One call of one population. `events` is `[*N]`: |n| (activations: non-zeros), summed over time and batch.

    `updates` is neuron updates per sample (activations have none); `steps` the number of time steps.
    """

    name: str
    neuron: str
    events: Tensor
    updates: float
    steps: int


class Activity(NamedTuple):
    """All records of one forward pass over `samples` inputs."""

    synapses: tuple[SynapseRecord, ...]
    neurons: tuple[NeuronRecord, ...]
    samples: int

    @property
    def timesteps(self) -> int:
        """Time steps of the longest-running population; 1 without neurons."""
        return max((n.steps for n in self.neurons), default=1)

    def penalisable(self) -> list[SynapseRecord]:
        """The records that training can change: events sent by trained neurons into synapses."""
        return [r for r in self.synapses if isinstance(r.site.kind, Events) and r.site.trained]
