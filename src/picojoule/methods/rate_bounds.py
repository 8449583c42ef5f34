"""Bounds on spike counts as the penalty."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from picojoule.energy.penalties import rate_bounds
from picojoule.errors import BadInput, check_choice
from picojoule.experiment.penalised import Penalised
from picojoule.graph import Activity


@dataclass(frozen=True)
class RateBounds(Penalised):
    """As `plain`, with what counts lie outside `[lower, upper]` events per sample, to the `power`, added to the loss.

    `over` is "neuron", to bound each neuron in each sample, or "population", the mean of each layer.
    """

    lower: float = 0.0
    upper: float = 0.1
    power: int = 2
    over: str = "population"

    name: ClassVar[str] = "rate-bounds"
    cite: ClassVar[tuple[str, ...]] = ("stork, regularisers of spike counts, github.com/fmi-basel/stork",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.lower <= self.upper < float("inf"):
            raise BadInput(f"expected 0 <= lower <= upper, got lower={self.lower} and upper={self.upper}")
        check_choice("power", self.power, (1, 2))
        check_choice("over", self.over, ("neuron", "population"))

    def penalty(self, activity: Activity) -> Tensor:
        how = {"power": self.power, "over": self.over, "strengths": self.by_layer()}
        return rate_bounds(activity, self.lower, self.upper, **how)
