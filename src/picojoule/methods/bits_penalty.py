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

    Measured is `fan-out * log2(1 + |n|)` per sample as a share of the accumulates of one event from every hidden input.
    Made for `bits-penalty+hybrid`; of unit spikes the bits are the spikes, as in `synaptic-penalty`.
    """

    name: ClassVar[str] = "bits-penalty"

    def penalty(self, activity: Activity) -> Tensor:
        return bits_penalty(activity, strengths=self.by_layer()) / dense_accumulates(activity)
