"""Two readings of what spikes save, each with the network it is against: the same synapses, and other networks."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from picojoule.errors import BadInput
from picojoule.report.columns import Column, depths
from picojoule.report.load import Record
from picojoule.report.summary import Row, dense_ann, summarise
from picojoule.report.units import energy_unit, format_energy, format_percent

NOTES = [
    "Times the energy: what the network compared with uses, over what this one uses; above 1 this one is cheaper.",
    "Same synapses: every synapse of the network's own topology is a multiply-accumulate, in every pass; at most: the "
    "same if no event were ever sent, so that only multiply-accumulates are left.",
    "Another network: the ratio is as much one of two topologies as of spikes.",
]


class _Reading(NamedTuple):
    """A spiking row held against `name`, whose accuracy (fraction) is None where it was not trained."""

    row: Row
    reading: str
    name: str
    accuracy: float | None
    energy_pj: float
    at_most: float | None


def reading_columns(records: Sequence[Record]) -> tuple[list[Column], list[str]]:
    """The columns and notes of the energy of spiking networks against their own topology and against other networks.

    Other networks are those of the same dataset and prices in the same records. Raises BadInput without a spiking run
    that says what an ANN of its synapses would use.
    """
    rows = summarise(records)
    readings = [one for row in rows if row.is_spiking for one in _readings(row, rows)]
    if not readings:
        raise BadInput("expected records of spiking networks with their baselines, got none")
    unit, size = energy_unit(one.row.energy_pj for one in readings)
    runs = [one.row for one in readings]
    columns = [
        Column("network", "", [_named(row) for row in runs], True),
        Column("T", "steps", [str(row.timesteps) for row in runs]),
        Column("depth", "steps x passes", depths(runs)),
        Column("accuracy [%]", "", [format_percent(row.accuracy, 2) for row in runs]),
        Column(f"energy [{unit}]", "", [f"{row.energy_pj / size:,.3g}" for row in runs]),
        Column("reading", "", [one.reading for one in readings], True),
        Column("against", "", [one.name for one in readings], True),
        Column(
            "accuracy [%]", "of that", ["" if r.accuracy is None else format_percent(r.accuracy, 2) for r in readings]
        ),
        Column("energy", "of that", [format_energy(one.energy_pj) for one in readings]),
        Column("times the energy", "", [f"{one.energy_pj / one.row.energy_pj:.2f}" for one in readings]),
        Column("at most", "", ["" if r.at_most is None else f"{r.at_most:.2f}" for r in readings]),
    ]
    return [column for column in columns if any(column.cells)], NOTES


def _readings(row: Row, rows: Sequence[Row]) -> list[_Reading]:
    dense = [run["baselines"]["dense-ann"] for run in row.runs if "dense-ann" in (run.get("baselines") or {})]
    if not dense:
        return []
    energy = statistics.fmean(one["energy_pj"]["value"] for one in dense)
    macs = statistics.fmean(one["macs"] for one in dense)
    ann = dense_ann(row, rows)
    accuracy, at_most = None if ann is None else ann.accuracy, macs / row.macs if row.macs else None
    own = _Reading(row, "same synapses", f"{row.network} as an ANN", accuracy, energy, at_most)
    others = [o for o in rows if o.network != row.network and (o.dataset, o.hardware) == (row.dataset, row.hardware)]
    return [own, *(_Reading(row, "another network", _named(o), o.accuracy, o.energy_pj, None) for o in others)]


def _named(row: Row) -> str:
    """Network, method and steps of a row, whatever the table's other rows are."""
    steps = f", T = {row.timesteps}" if row.is_spiking else ""
    return f"{row.network}, {row.name}{steps if 'T=' not in row.name else ''}"
