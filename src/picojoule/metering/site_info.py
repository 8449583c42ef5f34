"""What is known of a site: a place where synapses act."""

from dataclasses import dataclass, field
from typing import NamedTuple

from picojoule.graph import Site
from picojoule.graph.fan_out import FanOut
from picojoule.kinds import Events, Kind, Values
from picojoule.metering.numbers import most_of
from picojoule.metering.tag import Level, Tag


@dataclass
class SiteInfo:
    """A site and its class, the join over all its calls so far.

    `even` tells that samples could not be told apart, so that its counts are given out evenly. `reasons` say why
    something is values; `lost` those that no rule explains. `varies` if the class of its calls did.
    """

    name: str
    operation: str
    weights: int
    biases: int
    level: Level = Level.ZERO
    quantum: float | None = None
    signed: bool = False
    most: int | None = 0
    trained: bool = False
    varies: bool = False
    even: bool = False
    interior: float | None = None
    reasons: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    def meet(self, tag: Tag) -> None:
        """Take notice of one more operand."""
        levels = {self.level, tag.level}
        self.varies |= Level.GRADED in levels and Level.EVENT in levels
        self.level = max(self.level, tag.level)
        self.trained |= tag.trained
        if tag.reason:
            (self.lost if tag.lost else self.reasons).add(tag.reason)
        if tag.level is Level.EVENT:
            self.quantum = tag.unit.number if self.quantum is None else self.quantum
            self.signed |= tag.signed
            most = most_of(tag)
            self.most = None if most is None or self.most is None else max(self.most, most)

    @property
    def kind(self) -> Kind:
        if self.level is Level.EVENT:
            return Events(self.quantum or 1.0, self.signed, self.most)
        return Values("; ".join(sorted(self.reasons | self.lost)))

    def site(self) -> Site:
        return Site(
            self.name, self.operation, self.kind, self.trained, self.weights, self.biases, self.even, self.interior
        )


class Reach(NamedTuple):
    """The fan-out of a site's input, and its sum."""

    fan_out: FanOut
    of_one: float

    @staticmethod
    def of(fan_out: FanOut) -> "Reach":
        return Reach(fan_out, float(fan_out.synapses.sum()))
