"""What was learned beside weights: a row per population and value, from the records that hold them."""

from collections.abc import Sequence
from typing import NamedTuple

from picojoule.errors import BadInput
from picojoule.report.activity import spread
from picojoule.report.columns import Column
from picojoule.report.load import Record
from picojoule.report.summary import Row, summarise


class _Learned(NamedTuple):
    """A value of a population, in the runs of one row of the result table."""

    row: Row
    population: str
    value: str

    def spread(self, when: str) -> str:
        """The mean over seeds at the "start" or the "end"."""
        found = (run.get("learned", {}).get(self.population, {}).get(when) or {} for run in self.row.runs)
        return spread((values.get(self.value) for values in found), "{:.3f}")


def learned_columns(records: Sequence[Record]) -> tuple[list[Column], list[str]]:
    """The columns and notes of learned thresholds, decays, finenesses and windows, start and end.

    Raises BadInput if no record has any.
    """
    rows = [
        _Learned(row, population, value)
        for row in summarise(records)
        for population, learned in row.runs[0].get("learned", {}).items()
        for value in learned["end"]
    ]
    if not rows:
        raise BadInput("expected records of runs that learned thresholds, decays, a fineness or a theta, got none")
    columns = [
        Column("run", "", [r.row.name for r in rows], True),
        Column("seeds", "", [str(r.row.seeds) for r in rows]),
        Column("accuracy [%]", "", [spread((100 * run["accuracy"] for run in r.row.runs), "{:.2f}") for r in rows]),
        Column("population", "", [r.population for r in rows], True),
        Column("learned", "", [r.value for r in rows], True),
        *(Column(when, "", [r.spread(when) for r in rows]) for when in ("start", "end")),
    ]
    return columns, ["Means ± sd over seeds."]
