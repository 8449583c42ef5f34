"""What one run did per sample: synaptic operations, spikes, silent layers."""

import statistics
from collections.abc import Iterable
from typing import Any

from picojoule.report.load import Record


def synops(run: Record) -> float:
    """Accumulates of one sample, which penalties act on; multiply-accumulates of an analog input are not in it."""
    return float(run.get("acs") or 0.0)


def spikes(run: Record) -> float | None:
    """Events of all neurons for one sample; None if the record has no neurons."""
    populations = run.get("neurons") or []
    each = [spikes_per_neuron(run, population) for population in populations]
    if not each or None in each:
        return None
    return sum(n * p["count"] for n, p in zip(each, populations, strict=True) if n is not None)


def spikes_per_neuron(run: Record, population: dict[str, Any]) -> float | None:
    """Events of one neuron for one sample, in the mean of a population: the rate times the steps."""
    rate, steps = population.get("rate"), run.get("timesteps")
    return None if rate is None or steps is None else rate * steps


def has_silent_layer(run: Record) -> bool:
    """Whether no neuron of some population sent anything, on any sample, when training ended or in what it left."""
    return bool(run.get("collapsed")) or any(
        population.get("silent_fraction") == 1 for population in run.get("neurons") or []
    )


def spread(values: Iterable[float | None], show: str = "{:,.0f}") -> str:
    """The mean of the values that are there, ± sd if there are several; empty if there is none."""
    present = [value for value in values if value is not None]
    if not present:
        return ""
    sd = f" ± {show.format(statistics.stdev(present))}" if len(present) > 1 else ""
    return show.format(statistics.fmean(present)) + sd
