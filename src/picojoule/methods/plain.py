"""Direct training of a spiking network by surrogate gradients, with no penalty."""

from dataclasses import dataclass
from typing import ClassVar

from picojoule.experiment.direct import Direct


@dataclass(frozen=True)
class Plain(Direct):
    """The network with spiking neurons, trained on cross-entropy through time."""

    name: ClassVar[str] = "plain"
    cite: ClassVar[tuple[str, ...]] = (
        "Neftci, Mostafa, Zenke 2019, Surrogate Gradient Learning in Spiking Neural Networks, "
        "IEEE Signal Processing Magazine 36(6)",
    )
