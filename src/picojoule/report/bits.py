"""How many bits events have, beside the accuracy they leave: a row per run, those that send none for comparison."""

from collections.abc import Sequence

from picojoule.errors import BadInput
from picojoule.report.activity import spread
from picojoule.report.columns import Column
from picojoule.report.load import Record
from picojoule.report.summary import Row, summarise

NOTES = [
    "Means ± sd over seeds.",
    "Bits per activity: log2 of the values that a neuron took over data and steps; significant bits: the length of "
    "the number of events; both are means over neurons, steps and samples, by our definitions.",
    "Per multiplication: significant bits times fan-out over all synapses that events enter, zeros included.",
]


def bit_columns(records: Sequence[Record]) -> tuple[list[Column], list[str]]:
    """The columns and notes of the bits of events. Raises BadInput if no record has any."""
    rows = summarise(records)
    if not any(run.get("bits") for row in rows for run in row.runs):
        raise BadInput("expected records of runs whose events have bits, such as those of hybrid, got none")
    columns = [
        *[c for c in (_places(rows, "dataset"), _places(rows, "network")) if len(set(c.cells)) > 1],
        Column("run", "", [row.name for row in rows], True),
        Column("seeds", "", [str(row.seeds) for row in rows]),
        Column("accuracy [%]", "", [spread((100 * run["accuracy"] for run in row.runs), "{:.2f}") for row in rows]),
        Column("bits", "per activity", [_bits(row, "activity_bits") for row in rows]),
        Column("significant bits", "per activity", [_bits(row, "significant_bits") for row in rows]),
        Column("significant bits", "per multiplication", [_per_multiplication(row) for row in rows]),
        Column("non-zero [%]", "of activities", [_bits(row, "nonzero_fraction", "{:.1f}", 100) for row in rows]),
        Column("shift-adds", "per sample", [_counts(row, "shift_adds") for row in rows]),
        Column("ACs", "per sample", [_counts(row, "acs") for row in rows]),
    ]
    return columns, NOTES


def _places(rows: Sequence[Row], key: str) -> Column:
    return Column(key, "", [getattr(row, key) for row in rows], True)


def _bits(row: Row, key: str, form: str = "{:.2f}", unit: float = 1) -> str:
    return spread((unit * run["bits"][key] for run in row.runs if run.get("bits")), form)


def _per_multiplication(row: Row) -> str:
    return spread((run["shift_adds"] / run["dense_acs"] for run in row.runs if run.get("bits")), "{:.2f}")


def _counts(row: Row, key: str) -> str:
    return spread((run[key] for run in row.runs if run.get("bits")), "{:,.0f}")
