"""From times and peaks to JSON records: one per implementation, with ratios, floor and targets."""

import os
import statistics
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import torch

from picojoule.experiment.record import Record, provenance
from picojoule.kernels.native.library import status

from .case import Case, Implementation, Target
from .ceilings import Ceilings
from .peak_memory import Peak
from .rounds import Times

MIB = 2**20


class Measured(NamedTuple):
    """What one run of a case found, by the names of the implementations; `agreement` is a fraction of spikes."""

    times: Mapping[str, Times]
    peaks: Mapping[str, Peak]
    agreement: Mapping[str, float]
    ceilings: Ceilings | None
    page_reuse: bool


def records_of(case: Case, measured: Measured) -> list[Record]:
    """One record per implementation, in the order of the case."""
    scaled = {i.name: _scaled(measured.times[i.name], i.scale) for i in case.implementations}
    peaks = {i.name: measured.peaks[i.name].scaled(i.memory_scale) for i in case.implementations}
    shared = {
        **provenance(torch.device("cpu")),
        "benchmark": "speed",
        "case": case.name,
        "setting": case.setting,
        "about": case.about,
        "per": case.per,
        "reference": case.reference,
        "threads": torch.get_num_threads(),
        "page_reuse": measured.page_reuse,
        "kernels": status().active,
        "load": round(os.getloadavg()[0], 2),
        "ceilings": measured.ceilings._asdict() if measured.ceilings else None,
    }
    found = []
    for i in case.implementations:
        floor = measured.ceilings.floor(case.work, i.precision) if measured.ceilings and case.work else None
        judged = [_judged(t, scaled, peaks, floor) for t in case.targets if t.implementation == i.name]
        found.append(
            {
                **shared,
                "implementation": i.name,
                "package": i.package,
                "package_version": version(i.package),
                "rounds": len(scaled[i.name].forward),
                "forward_s": _summary(scaled[i.name].forward),
                "backward_s": _summary(scaled[i.name].backward) if any(scaled[i.name].backward) else None,
                "sum_s": _summary(scaled[i.name].sum),
                "faster": _ratio(scaled[case.reference], scaled[i.name]),
                "floor_s": floor,
                "of_floor": statistics.median(scaled[i.name].sum) / floor if floor else None,
                "peak_mib": peaks[i.name].plain / MIB,
                "peak_reused_mib": peaks[i.name].reused / MIB,
                "peak_ratio": peaks[i.name].plain / peaks[case.reference].plain,
                "agreement": measured.agreement.get(i.name),
                "targets": judged,
            }
        )
    return found


def _scaled(times: Times, scale: float) -> Times:
    return Times(*([seconds * scale for seconds in column] for column in times))


def _summary(seconds: list[float]) -> Record:
    return {"median": statistics.median(seconds), "min": min(seconds), "all": seconds}


def _ratio(slow: Times, fast: Times) -> float:
    """Median over the rounds that both ran of the ratio of their times within the round."""
    return statistics.median(a / b for a, b in zip(slow.sum, fast.sum, strict=False))


def _judged(target: Target, times: Mapping[str, Times], peaks: Mapping[str, Peak], floor: float | None) -> Record:
    """The target in words, the number that was found, and whether it is met."""
    own, other = target.implementation, target.against
    match target.kind:
        case "faster":
            value = _ratio(times[other], times[own])
        case "time":
            value = _ratio(times[own], times[other])
        case "memory":
            value = peaks[own].plain / peaks[other].plain
        case "floor":
            assert floor is not None, f"the case of {target} states no work"
            value = statistics.median(times[own].sum) / floor
    met = value >= target.limit if target.kind == "faster" else value <= target.limit
    return {"target": str(target), "limit": target.limit, "value": value, "met": met}


def implementation_named(case: Case, name: str) -> Implementation:
    return next(i for i in case.implementations if i.name == name)


def merged(old: list[dict[str, Any]], new: list[Record], order: list[str]) -> list[Record]:
    """The new records in place of older ones of the same cases, in the order of the cases."""
    done = {record["case"] for record in new}
    kept = [record for record in old if record["case"] not in done]
    return sorted([*kept, *new], key=lambda record: order.index(record["case"]))
