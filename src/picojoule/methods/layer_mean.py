"""The mean of the layers' firing rates as the penalty: a baseline that weighs all layers alike."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from picojoule.energy.penalties import layer_mean
from picojoule.errors import check_choice
from picojoule.experiment.penalised import Penalised
from picojoule.graph import Activity


@dataclass(frozen=True)
class LayerMean(Penalised):
    """As `plain`, with spikes per neuron, averaged over each hidden layer and then over layers, added to the loss.

    `p` is the power on each spike. With p=2 it is the regulariser of Pellegrini et al. (read in their code) over the
    number of layers, without their factors that grow with depth; give those as `layers`.
    """

    p: int = 1

    name: ClassVar[str] = "layer-mean"
    cite: ClassVar[tuple[str, ...]] = ("Pellegrini et al. 2021, arXiv 2011.06846, and its code s2net",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("p", self.p, (1, 2))

    def keeps_trains(self) -> bool:
        return self.p == 2

    def penalty(self, activity: Activity) -> Tensor:
        return layer_mean(activity, self.p, strengths=self.by_layer())
