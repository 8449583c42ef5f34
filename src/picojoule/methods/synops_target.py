"""A wanted number of synaptic operations as the penalty (Sorbaro et al. 2020), on a spiking network."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from picojoule.energy.penalties import dense_accumulates, synops_target
from picojoule.errors import BadInput
from picojoule.experiment.penalised import Penalised
from picojoule.graph import Activity


@dataclass(frozen=True)
class SynOpsTarget(Penalised):
    """As `plain`, with the squared relative distance of the accumulates from a target added to the loss.

    `target` is a share of D, the accumulates if every hidden input sent all its events in one step. With the ramp of
    the other penalties the network first finds the task (choice; the source lowers the target round by round).
    """

    target: float = 0.05

    name: ClassVar[str] = "synops-target"
    cite: ClassVar[tuple[str, ...]] = ("Sorbaro et al. 2020, Frontiers in Neuroscience 14:662",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.target < float("inf"):
            raise BadInput(f"expected a target above 0 (a share of the dense accumulates), got {self.target}")
        if self.layers:
            raise BadInput("synops-target has one target for the whole network: leave out layers")

    def penalty(self, activity: Activity) -> Tensor:
        return synops_target(activity, self.target * dense_accumulates(activity))
