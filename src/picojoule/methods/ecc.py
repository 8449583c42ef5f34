"""Explicit current control (Wu et al. 2022): convert a trained ANN into a clocked spiking network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from picojoule.conversion import ECCOptions, convert
from picojoule.conversion.options import PERCENTILE
from picojoule.errors import BadInput
from picojoule.experiment.method import Method
from picojoule.networks import Definition, Network


@dataclass(frozen=True)
class ECC(Method):
    """Current normalisation, residual elimination and batch-norm consistency (`picojoule.conversion`).

    Every ReLU, and every average pool, becomes integrate-and-fire neurons with soft reset; weights are scaled so that
    a channel's largest activation, less what is better cut off, is one event per step; a layer starts at `residual` of
    its threshold, which turns the floor of the count into rounding. The image is a constant current and the scores are
    the mean output current, on the ANN's own scale.

    `timesteps` is T: this option first, then what the table asks for, then 16. The other options are those of
    `ECCOptions`, with biases corrected unless told otherwise; published are `normalisation` "max" and no correction.
    """

    timesteps: int | None = None
    percentile: float = PERCENTILE
    residual: float = 0.5
    normalisation: str = "mmse"
    per_channel: bool | None = None
    signed: bool = False
    pooling: str = "neurons"
    bias_correction: bool = True

    name: ClassVar[str] = "ecc"
    cite: ClassVar[tuple[str, ...]] = (
        "Wu, Yi, Huang 2022, A Little Energy Goes a Long Way: Build an Energy-Efficient, Accurate Spiking Neural "
        "Network From Convolutional Neural Network, Frontiers in Neuroscience, doi 10.3389/fnins.2022.759900",
    )
    parent: ClassVar[str | None] = "ann"

    def __post_init__(self) -> None:
        if self.timesteps is not None and self.timesteps < 1:
            raise BadInput(f"expected timesteps of at least 1, got {self.timesteps}")
        self.choices()

    def choices(self) -> ECCOptions:
        """The options of the conversion. Raises BadInput for values out of range."""
        return ECCOptions(
            normalisation=self.normalisation,
            percentile=self.percentile,
            per_channel=self.per_channel,
            residual=self.residual,
            signed=self.signed,
            pooling=self.pooling,
            bias_correction=self.bias_correction,
        )

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        return replace(wanted, timesteps=self.timesteps or timesteps or 16, encoder="constant-current", readout="mean")

    def finish(self, network: Network, calibration: Sequence[Tensor], definition: Definition) -> Network:
        return convert(network, calibration, timesteps=definition.timesteps, options=self.choices()).network
