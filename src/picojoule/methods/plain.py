"""Direct training of a spiking network by surrogate gradients, with no penalty."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from picojoule.experiment.method import Method
from picojoule.networks import Definition, Network, build
from picojoule.neurons import LIF, surrogate


@dataclass(frozen=True)
class Plain(Method):
    """The network with LIF neurons, trained on cross-entropy through time.

    `decay` is the neurons' factor on the potential per step (it acts from the second step on); `surrogate` is
    one of triangle, rectangle, arctan, sigmoid, s3nn.
    """

    decay: float = 0.5
    surrogate: str = "triangle"

    name: ClassVar[str] = "plain"
    cite: ClassVar[tuple[str, ...]] = (
        "Neftci, Mostafa, Zenke 2019, Surrogate Gradient Learning in Spiking Neural Networks, "
        "IEEE Signal Processing Magazine 36(6)",
    )

    def build(self, definition: Definition) -> Network:
        return build(definition, partial(LIF, self.decay, surrogate=surrogate(self.surrogate)))
