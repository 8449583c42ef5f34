"""The dense ANN: the baseline that everything is compared with."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from picojoule.experiment.method import Method
from picojoule.networks import Definition, Network, build


@dataclass(frozen=True)
class ANN(Method):
    """The network with ReLU, trained on cross-entropy. Every multiply-accumulate is paid, zeros included."""

    name: ClassVar[str] = "ann"

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        return wanted.analog(timesteps)

    def build(self, definition: Definition) -> Network:
        return build(definition, nn.ReLU)
