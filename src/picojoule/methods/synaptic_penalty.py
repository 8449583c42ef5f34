"""Synaptic penalty (Suetake et al. 2023): train on the energy metric itself."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from picojoule.energy.penalties import FAN_OUTS, POWERS_ON, dense_accumulates, synaptic_penalty
from picojoule.errors import check_choice
from picojoule.experiment.penalised import Penalised
from picojoule.graph import Activity


@dataclass(frozen=True)
class SynapticPenalty(Penalised):
    """As `plain`, with every hidden event weighted by its exact fan-out and added to the loss.

    Measured are accumulates per sample as a share of D, the accumulates if every hidden input sent all its events in
    one step. `p` is the power, on `power_on` spikes or counts; `psi` the fan-out, exact or that of the interior.
    """

    p: int = 1
    power_on: str = "spike"
    psi: str = "exact"

    name: ClassVar[str] = "synaptic-penalty"
    cite: ClassVar[tuple[str, ...]] = (
        "Suetake, Ushimaru, Saiin, Sawada 2023, Spiking Synaptic Penalty: Appropriate Penalty Term for "
        "Energy-Efficient Spiking Neural Networks, arXiv 2302.01500",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("p", self.p, (1, 2))
        check_choice("power_on", self.power_on, POWERS_ON)
        check_choice("psi", self.psi, FAN_OUTS)

    def penalty(self, activity: Activity) -> Tensor:
        how = {"power_on": self.power_on, "psi": self.psi, "strengths": self.by_layer()}
        return synaptic_penalty(activity, self.p, **how) / dense_accumulates(activity)
