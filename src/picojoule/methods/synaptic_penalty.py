"""Synaptic penalty (Suetake et al. 2023): train on the energy metric itself."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from picojoule.energy.penalty import dense_accumulates, synaptic_penalty
from picojoule.errors import BadInput
from picojoule.experiment.method import Method, Progress, task_loss
from picojoule.graph import Activity
from picojoule.networks import Definition, Network, build
from picojoule.neurons import LIF, surrogate


@dataclass(frozen=True)
class SynapticPenalty(Method):
    """As `plain`, with every hidden event weighted by its exact fan-out and added to the loss.

    `strength` is lambda-hat: it multiplies accumulates per sample as a share of D, the accumulates if every
    hidden input sent all its events in one step, so it does not depend on the size of the network. The
    penalty is ramped linearly over the epochs. `p` is the power on events.
    """

    strength: float = 1.0
    p: int = 1
    decay: float = 0.5
    surrogate: str = "triangle"

    name: ClassVar[str] = "synaptic-penalty"
    cite: ClassVar[tuple[str, ...]] = (
        "Suetake, Ushimaru, Saiin, Sawada 2023, Spiking Synaptic Penalty: Appropriate Penalty Term for "
        "Energy-Efficient Spiking Neural Networks, arXiv 2302.01500",
    )
    observes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise BadInput(f"expected a strength of at least 0, got {self.strength}")
        if self.p not in (1, 2):
            raise BadInput(f"expected p=1 or p=2, got {self.p}")

    def build(self, definition: Definition) -> Network:
        return build(definition, partial(LIF, self.decay, surrogate=surrogate(self.surrogate)))

    def loss(self, output: Tensor, target: Tensor, activity: Activity | None, progress: Progress) -> dict[str, Tensor]:
        assert activity is not None, "synaptic-penalty observes"
        ramp = (progress.epoch + 1) / progress.epochs
        weight = self.strength * ramp / dense_accumulates(activity)
        return task_loss(output, target) | {"synaptic": weight * synaptic_penalty(activity, self.p)}
