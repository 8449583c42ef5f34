"""Bits of events that have several levels. The definitions are ours: the paper's are not known (see hybrid.md)."""

from typing import Any, NamedTuple

from picojoule.graph.levels import Levels, bit_length


class EventBits(NamedTuple):
    """One population whose event numbers n have no bound, over a data set.

    `activity_bits` is the mean over neurons of `log2(max n - min n + 1)` (what stores an activity), `significant_bits`
    the mean over neurons, steps and samples of the bit length of |n| (shift-adds for each weight it meets; 0 for 0),
    `nonzero_fraction` the share that is not 0, `mean_magnitude` the mean of |n|, `entropy_bits` the empirical entropy
    of n over the population.
    """

    name: str
    neurons: int
    activity_bits: float
    significant_bits: float
    nonzero_fraction: float
    mean_magnitude: float
    entropy_bits: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.activity_bits:.3g} bits per activity, {self.significant_bits:.3g} significant bits, "
            f"{self.entropy_bits:.3g} of entropy (our definitions)"
        )


def event_bits(name: str, levels: Levels) -> EventBits:
    """The bits of a population from the levels of everything it sent."""
    n, share = levels.values.double(), levels.counts.double() / levels.counts.sum()
    return EventBits(
        name,
        levels.low.numel(),
        float((levels.high - levels.low + 1).double().log2().mean()),
        float((share * bit_length(n)).sum()),
        float(share[n != 0].sum()),
        float((share * n.abs()).sum()),
        float(-(share * share.log2()).sum()),
    )


def bits_dict(found: tuple[EventBits, ...]) -> dict[str, Any]:
    """Plain data: means over all neurons, and each population; empty where no population has several levels."""
    if not found:
        return {}
    neurons = sum(b.neurons for b in found)
    means = {key: sum(getattr(b, key) * b.neurons for b in found) / neurons for key in EventBits._fields[2:]}
    return {**means, "populations": [b._asdict() for b in found]}
