"""The energy of a price list as the penalty."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from picojoule.energy.penalties import energy_share
from picojoule.energy.price import Hardware, hardware
from picojoule.errors import BadInput
from picojoule.experiment.penalised import Penalised
from picojoule.graph import Activity


@dataclass(frozen=True)
class EnergyPenalty(Penalised):
    """As `plain`, with the energy that a price list gives every event added to the loss.

    Measured is the part of the energy that has a gradient, as a share of what it is if every event came that can in one
    step. `prices` is the price list: a shipped name, or a TOML file.
    """

    prices: str = "horowitz-45nm-fp32-memory"

    name: ClassVar[str] = "energy-penalty"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers:
            raise BadInput("energy-penalty weighs layers by what they cost: leave out layers")
        assert self.price_list.name

    @cached_property
    def price_list(self) -> Hardware:
        """The price list, read once."""
        return hardware(self.prices)

    @property
    def cite(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return (self.price_list.source,)

    def reads(self) -> dict[str, Any]:
        return {"prices": {name: str(price) for name, price in self.price_list.constants.items()}}

    def label(self) -> str:
        return super().label().replace(self.prices, self.price_list.name)

    def penalty(self, activity: Activity) -> Tensor:
        return energy_share(activity, self.price_list)
