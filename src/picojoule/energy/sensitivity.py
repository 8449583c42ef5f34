"""Which constant of a price list moves the result most."""

from typing import NamedTuple

from picojoule.energy.count import OpCounts
from picojoule.energy.price import Hardware


class Swing(NamedTuple):
    """Picojoules per sample with one constant at the low and at the high end of its range, the others at their value.

    `constant` is its name in `Hardware.constants`.
    """

    constant: str
    low_pj: float
    high_pj: float

    @property
    def swing_pj(self) -> float:
        """How far the range of this constant moves the result."""
        return self.high_pj - self.low_pj


def sensitivity(hardware: Hardware, counts: OpCounts) -> list[Swing]:
    """Every constant that has a range, the one that moves the energy of `counts` most first (a tornado table)."""
    swings = [
        Swing(name, *(hardware.with_constant(name, end).energy_pj(counts).value for end in (price.low, price.high)))
        for name, price in hardware.constants.items()
        if price.low < price.high
    ]
    return sorted(swings, key=lambda swing: -swing.swing_pj)
