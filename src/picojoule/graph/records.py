"""What one observed forward pass says about itself: the record that every consumer reads."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from picojoule.graph.levels import Levels
from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events, Kind


@dataclass(frozen=True)
class Site:
    """A place where synapses act. `kind` is what enters it; `trained` that parameters act on what enters.

    `weights` and `biases` are the numbers of stored parameters (0 where two activations are multiplied). `even` says
    that samples could not be told apart, so that each has the mean of all. `interior` is the fan-out of an input far
    from any border, the mean over one stride (None where it is not known). Sites of one shared module have the same
    name and are added up.
    """

    name: str
    operation: str
    kind: Kind
    trained: bool
    weights: int = 0
    biases: int = 0
    even: bool = False
    interior: float | None = None


class SynapseRecord(NamedTuple):
    """One call of one site in one forward pass; everything per sample, summed over time unless said otherwise.

    `acs`, `graded_events` and `macs` are `[B]` float64; `acs` is differentiable. `active` `[B]` is what entered:
    unit events |n|, or the number of non-zero values. `by_step` `[S]` is `acs + macs` at each of its steps, summed
    over the batch. `dense` is the number of synapses times steps, `inputs` and `outputs` the elements that entered
    and left. `operand` holds the live events; None outside training. `bits` `[B]` is the significant bits of the events
    times fan-out, differentiable; None where an event is one bit.
    """

    site: Site
    acs: Tensor
    graded_events: Tensor
    macs: Tensor
    active: Tensor
    by_step: Tensor
    dense: float
    inputs: float
    outputs: float
    operand: "Operand | None"
    bits: Tensor | None = None

    @property
    def shift_adds(self) -> Tensor:
        """What stands in place of `acs` where weights are multiplied by shifts and adds, one for each bit; `[B]`."""
        return self.acs if self.bits is None else self.bits


class Operand(NamedTuple):
    """The event numbers n that entered a site (live), call by call, and the fan-out map of the site."""

    n: tuple[Tensor, ...]
    synapses: Tensor
    batch: BatchAxis


class NeuronRecord(NamedTuple):
    """One call of one population, summed over time and batch; all tensors are `[*N]`.

    `layer` names the site whose output drives it ("" if there is none).
    `events` is |n| (activations: non-zeros); `active` counts the steps with an event, `fired` the samples with one,
    `multiple` those with more than one (all None in training). `updates` is neuron updates per sample (activations
    have none); `steps` the number of time steps.

    `module` is the part that fires: calls of one part behind one layer are steps of one population. `hidden` tells that
    what it sends enters synapses. `sent` `[B, *N]` is what each neuron sent in each sample, `train` `[T, B, *N]` when:
    live, in training alone, and `train` only where the events leave the kernel that makes them. `levels` says, outside
    training, how many levels events without a bound have.
    """

    name: str
    neuron: str
    events: Tensor
    active: Tensor | None
    fired: Tensor | None
    multiple: Tensor | None
    updates: float
    steps: int
    layer: str = ""
    module: str = ""
    hidden: bool = True
    sent: Tensor | None = None
    train: Tensor | None = None
    levels: Levels | None = None


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
