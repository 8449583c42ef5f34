"""A penalty on the significant bits that multiply each weight: our own, for events that carry several bits."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from picojoule.energy.penalties import bits_penalty, dense_accumulates
from picojoule.energy.penalties.parts import timesteps_of
from picojoule.errors import BadInput
from picojoule.experiment.penalised import Penalised
from picojoule.graph import Activity


@dataclass(frozen=True)
class BitsPenalty(Penalised):
    """As `plain`, with the significant bits of every hidden event, weighted by its fan-out, added to the loss.

    Measured are shift-adds per sample, `fan-out * bit length of |n|`, as a share of one for every hidden synapse. Made
    for `bits-penalty+hybrid`; with unit spikes it is `synaptic-penalty`. `budget` is how many significant bits in each
    multiplication of a weight, in the mean, cost nothing.
    """

    budget: float = 0.0

    name: ClassVar[str] = "bits-penalty"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.budget < float("inf"):
            raise BadInput(f"expected a budget of at least 0 significant bits, got {self.budget}")

    def penalty(self, activity: Activity) -> Tensor:
        bits = bits_penalty(activity, strengths=self.by_layer()) / dense_accumulates(activity)
        return (bits - self.budget * timesteps_of(activity)).clamp(min=0)
