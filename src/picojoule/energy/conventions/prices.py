"""Picojoules per accumulate and multiply-accumulate that the tools take from one table."""

from typing import NamedTuple


class OpPrices(NamedTuple):
    """Picojoules per operation."""

    ac: float
    mac: float

    def joules(self, acs: float, macs: float) -> float:
        """The energy of so many operations, in joules."""
        return (self.ac * acs + self.mac * macs) * 1e-12


HOROWITZ_45NM = {"fp32": OpPrices(0.9, 4.6), "fp16": OpPrices(0.4, 1.5), "int8": OpPrices(0.03, 0.23)}
"""Source: Horowitz 2014, ISSCC, 45 nm, 0.9 V; a MAC is a multiply plus an add."""
