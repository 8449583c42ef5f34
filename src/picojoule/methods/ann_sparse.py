"""The same ANN on hardware that skips zero activations: the fair rival of event-driven execution."""

from dataclasses import dataclass
from typing import ClassVar

from picojoule.experiment.method import Method
from picojoule.networks import Definition


@dataclass(frozen=True)
class SparseANN(Method):
    """The trained ANN as it is; only multiply-accumulates with a non-zero activation are paid."""

    name: ClassVar[str] = "ann-sparse"
    parent: ClassVar[str | None] = "ann"
    hardware: ClassVar[str] = "horowitz-45nm-fp32-skip-zeros"

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        return wanted.analog(timesteps)
