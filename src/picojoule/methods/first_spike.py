"""First-spike penalty (Fontanini et al. 2022): penalise spikes after the first, in two phases."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from picojoule.energy.penalties import GATES, WEIGHTS, first_spike_penalty
from picojoule.errors import BadInput, check_choice
from picojoule.experiment.method import Method, Phase
from picojoule.experiment.penalised import Penalised
from picojoule.graph import Activity
from picojoule.networks import Definition

SCHEDULES = ("activate-then-trim", "activity-first", "order-only", "one-phase")
TIMESTEPS = 20


@dataclass(frozen=True)
class FirstSpike(Penalised):
    """Current-based neurons on a latency code, with the spikes beyond the first `budget` of each neuron in the loss.

    Measured are excess spikes per neuron, averaged over each hidden layer and then over layers; `weight` "fan-out"
    weighs each by the synapses it reaches instead, as a share of D, which needs max pooling. `gate` says where the
    gradient acts: strict, after-first, or relu-count.

    `schedule` is how the epochs are spent:
        activate-then-trim: half on the task and the floor on activity; the other half, from the best weights of the
            first and with half the learning rate, with the penalty too, which is ramped over this half.
        activity-first: the first tenth on the floor alone, the rest on everything.
        order-only: as activate-then-trim, without the floor, whatever its weight.
        one-phase: task and penalty from the start, without the floor, whatever its weight; so is a run of one epoch.
    """

    neuron: str = "cuba-lif"
    decay: float = round(math.exp(-1 / 10), 6)
    synaptic_decay: float = round(math.exp(-1 / 5), 6)
    floor: float = 0.1
    budget: int = 1
    gate: str = "strict"
    weight: str = "layer"
    schedule: str = "activate-then-trim"

    name: ClassVar[str] = "first-spike"
    cite: ClassVar[tuple[str, ...]] = (
        "Fontanini, Esseni, Loghi 2022, Reducing the Spike Rate in Deep SNNs, ICONS, doi 10.1145/3546790.3546798",
    )
    encoder: ClassVar[str] = "latency-early"
    readout: ClassVar[str] = "max-membrane"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget < 1:
            raise BadInput(f"expected a budget of at least 1 spike, got {self.budget}")
        check_choice("gate", self.gate, GATES)
        check_choice("weight", self.weight, WEIGHTS)
        check_choice("schedule", self.schedule, SCHEDULES)
        if self.schedule == "activity-first" and not self.floor:
            raise BadInput("the schedule activity-first begins with the floor alone, got floor=0; give it a weight")

    @property
    def pool(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Max where excess is weighed behind pools: an average mixes the events of several neurons."""
        return "max" if self.weight == "fan-out" else None

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        steps = timesteps or TIMESTEPS
        if steps <= self.budget:
            raise BadInput(
                f"first-spike with a budget of {self.budget} needs more time steps than that, got {steps}; give more "
                "--timesteps, and name first-spike last where penalties are added up"
            )
        return replace(wanted, timesteps=steps)

    def keeps_trains(self) -> bool:
        return self.weight == "layer"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        if self.schedule == "one-phase" or epochs < 2:
            return (Phase(epochs, terms=("task", self.name)),)
        if self.schedule == "activity-first":
            first = max(1, epochs // 10)
            return Phase(first, terms=("floor",)), Phase(epochs - first, start="last")
        floor = ("floor",) if self.schedule == "activate-then-trim" else ()
        trim = ("task", self.name, *floor)
        return Phase(epochs // 2, terms=("task", *floor)), Phase(epochs - epochs // 2, 0.5, "best", trim)

    def penalty(self, activity: Activity) -> Tensor:
        how = {"gate": self.gate, "weight": self.weight, "strengths": self.by_layer()}
        return first_spike_penalty(activity, self.budget, **how)

    def beside(self, others: tuple[Method, ...]) -> Method:
        """Beside the synaptic penalty an excess spike costs what it reaches."""
        priced = any(other.name == "synaptic-penalty" for other in others)
        return replace(self, weight="fan-out") if priced else self
