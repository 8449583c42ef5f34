"""The total number of spikes as the penalty: the baseline that weighs all spikes alike."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from picojoule.energy.penalties import hidden_neurons, total_spikes
from picojoule.errors import check_choice
from picojoule.experiment.penalised import Penalised
from picojoule.graph import Activity


@dataclass(frozen=True)
class TotalSpikes(Penalised):
    """As `plain`, with the spikes of all hidden neurons added to the loss.

    Measured are spikes per sample as a share of the neurons; `p` is the power on each spike.
    """

    p: int = 1

    name: ClassVar[str] = "total-spikes"
    cite: ClassVar[tuple[str, ...]] = ("Yan et al. 2022, BPSR, Frontiers in Neuroscience, article 760298 (p=2)",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("p", self.p, (1, 2))

    def keeps_trains(self) -> bool:
        return self.p == 2

    def penalty(self, activity: Activity) -> Tensor:
        return total_spikes(activity, self.p, strengths=self.by_layer()) / hidden_neurons(activity)
