"""What can be chosen in a conversion."""

import math
from dataclasses import dataclass

from picojoule.errors import BadInput, check_choice

NORMALISATIONS = ("max", "percentile", "mmse", "none")
INPUTS = ("current", "count")
READOUTS = ("current", "count")
POOLINGS = ("neurons", "pass")
ROUNDINGS = ("nearest", "trunc")
PERCENTILE = 99.9


@dataclass(frozen=True)
class ECCOptions:
    """Choices of `convert`; the method `ecc` corrects biases and else has the same defaults.

    Arguments:
        normalisation: The activation that is one event per step: the largest on the calibration data (max, as
            published), its percentile, the one with the least squared rounding error at T steps (mmse), or 1 (none).
        percentile: That of percentile.
        per_channel: One such activation for every channel instead of one for the layer; unless given, for mmse alone.
        constant: A number that takes the place of all of them.
        residual: tau, the share of its threshold at which a membrane starts; 0.5 turns the floor of a count into
            rounding.
        signed: Neurons may take back events that they sent too early.
        input: current (the image as a constant current), or count (events, floor(x T) of them, for x in [0, 1]).
        readout: current (the mean output current, on the network's own scale), or count (events of an output layer).
        pooling: neurons (average pools get neurons of their own), or pass (fractions of events go on: exact, more
            events).
        weight_bits: Weights of that many bits, one of them the sign, up to the layer's largest.
        weight_rounding: nearest, or trunc (towards zero and with one level more of each sign, as published).
        bias_correction: Match the mean activation of every channel on the calibration data, layer by layer.
        bn_epsilon: Use this epsilon in every batch norm instead of its own; wrong, to measure what that costs.
        bias_per_step: False lets biases act once instead of at every step; wrong, to measure what that costs.

    Raises BadInput for values out of range.
    """

    normalisation: str = "mmse"
    percentile: float = PERCENTILE
    per_channel: bool | None = None
    constant: float | None = None
    residual: float = 0.5
    signed: bool = False
    input: str = "current"
    readout: str = "current"
    pooling: str = "neurons"
    weight_bits: int | None = None
    weight_rounding: str = "nearest"
    bias_correction: bool = False
    bn_epsilon: float | None = None
    bias_per_step: bool = True

    @property
    def by_channel(self) -> bool:
        """`per_channel`, or what follows from `normalisation`."""
        if self.per_channel is not None:
            return self.per_channel
        return self.normalisation == "mmse" and self.constant is None

    def __post_init__(self) -> None:
        check_choice("normalisation", self.normalisation, NORMALISATIONS)
        check_choice("input", self.input, INPUTS)
        check_choice("readout", self.readout, READOUTS)
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("weight rounding", self.weight_rounding, ROUNDINGS)
        if not 0 < self.percentile <= 100:
            raise BadInput(f"expected a percentile in (0, 100], got {self.percentile}")
        if self.percentile != PERCENTILE and self.normalisation != "percentile":
            raise BadInput(
                f"expected normalisation='percentile' beside a percentile of {self.percentile:g}, got "
                f"{self.normalisation!r}; give both"
            )
        if self.constant is not None and not 0 < self.constant < math.inf:
            raise BadInput(f"expected a constant above 0, got {self.constant}")
        if not 0 <= self.residual < 1:
            raise BadInput(f"expected a residual in [0, 1), got {self.residual}")
        if self.weight_bits is not None and not 2 <= self.weight_bits <= 32:
            raise BadInput(f"expected weight_bits of 2 to 32, got {self.weight_bits}")
        if self.bn_epsilon is not None and not 0 <= self.bn_epsilon < math.inf:
            raise BadInput(f"expected a bn_epsilon of at least 0, got {self.bn_epsilon}")
