"""Training with a penalty on activity: what its methods share."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from picojoule.energy.penalties import activity_floor
from picojoule.errors import BadInput
from picojoule.experiment.direct import Direct, parse_numbers
from picojoule.experiment.method import Progress, task_loss
from picojoule.graph import Activity


@dataclass(frozen=True)
class Penalised(Direct):
    """The options of penalties, beside those of the neurons.

    `strength` is lambda-hat, the weight of a penalty that is measured in a size-free unit, so that it means the same
    for every network, batch size, number of processes and precision. It grows linearly over the share `ramp` of the
    epochs (1: as published, to its full value in the last epoch). `layers` are factors by layer, as
    `conv2=2,fc3=0.5`. `floor` is the weight of a second penalty, on neurons that send less than `floor_rate` events per
    sample in the mean of a batch, so that they do not fall silent.
    """

    strength: float = 1.0
    ramp: float = 1.0
    layers: str = ""
    floor: float = 0.0
    floor_rate: float = 0.1

    observes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for what, value in (("strength", self.strength), ("floor", self.floor)):
            if not 0 <= value < float("inf"):
                raise BadInput(f"expected a {what} of at least 0, got {value}")
        if not 0 <= self.ramp <= 1:
            raise BadInput(f"expected a ramp from 0 (no ramp) to 1 (all epochs), got {self.ramp}")
        if not 0 < self.floor_rate < float("inf"):
            raise BadInput(f"expected a floor_rate above 0 events per sample, got {self.floor_rate}")
        self.by_layer()

    def penalty(self, activity: Activity) -> Tensor:
        """The penalty in its size-free unit, a batch mean."""
        raise NotImplementedError

    def by_layer(self) -> dict[str, float]:
        """The factors of layers."""
        return parse_numbers(self.layers, "layers", "conv2=2,fc3=0.5")

    def loss(self, output: Tensor, target: Tensor, activity: Activity | None, progress: Progress) -> dict[str, Tensor]:
        assert activity is not None, f"{self.name} observes"
        terms = task_loss(output, target)
        if progress.acts(self.name):
            terms[self.name] = self.strength * progress.share_of_ramp(self.ramp) * self.penalty(activity)
        if self.floor and progress.acts("floor"):
            terms["floor"] = self.floor * activity_floor(activity, self.floor_rate)
        return terms
