"""How windows of one step work, by name; without torch, so that a configuration can hold and check it."""

from dataclasses import dataclass

from picojoule.errors import check_choice

PROJECTIONS = ("sincos", "mean", "carry", "zero")
"""What is handed on of two membranes, see `picojoule.kernels.projection`."""
STITCHES = ("mean", "any")
"""How windows become one map again, see `picojoule.layers.windows.stitch`."""
ENCODERS = ("bernoulli", "straight-through", "threshold")
"""How a window becomes spikes, see `picojoule.kernels.stimulus`."""


@dataclass(frozen=True)
class WindowRules:
    """How a window mixer encodes its windows, hands membranes on, and stitches spikes.

    `projection`, `stitch` and `encoder` are of PROJECTIONS, STITCHES and ENCODERS; `seed` is that of the encoder's
    noise in evaluation. Raises BadInput for other names.
    """

    projection: str = "sincos"
    stitch: str = "mean"
    encoder: str = "bernoulli"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("projection", self.projection, PROJECTIONS)
        check_choice("stitch", self.stitch, STITCHES)
        check_choice("encoder", self.encoder, ENCODERS)
