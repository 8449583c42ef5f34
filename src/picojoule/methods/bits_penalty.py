"""A penalty on the significant bits that multiply each weight: our own, for events that carry several bits."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from picojoule.energy.penalties import bits_penalty, dense_accumulates
from picojoule.experiment.penalised import Penalised
from picojoule.graph import Activity


@dataclass(frozen=True)
class BitsPenalty(Penalised):
    """As `plain`, with the significant bits of every hidden event, weighted by its fan-out, added to the loss.

    Measured are shift-adds per sample, `fan-out * bit length of |n|`, as a share of one for every hidden synapse. Made
    for `bits-penalty+hybrid`; with unit spikes it is `synaptic-penalty`.
    """

    name: ClassVar[str] = "bits-penalty"

    def penalty(self, activity: Activity) -> Tensor:
        return bits_penalty(activity, strengths=self.by_layer()) / dense_accumulates(activity)
