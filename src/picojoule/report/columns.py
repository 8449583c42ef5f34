"""The cells of the result table, the same for the terminal, Markdown and the page."""

from collections.abc import Callable, Iterable, Sequence
from os.path import commonprefix
from typing import NamedTuple, TypeVar

from picojoule.report.summary import Row, pareto_rows, scope
from picojoule.report.units import energy_unit, format_number, format_percent

T = TypeVar("T")
PARETO_MARK = " *"
HYBRID_NOTE = "Hybrid: real values enter trained layers beside the spiking ones, and are multiply-accumulates."
PARETO_NOTE = "* Pareto-optimal: no other row is both at least as accurate and at most as expensive."


class Column(NamedTuple):
    """A heading with its unit, a second line that qualifies it, and one cell per row."""

    heading: str
    note: str
    cells: list[str]
    is_text: bool = False


def table_columns(rows: Sequence[Row]) -> list[Column]:
    """The columns that have something to say: a setting that no row has is left out."""
    return [column for column in [*_settings(rows), *_results(rows)] if any(column.cells)]


def price_range(rows: Sequence[Row]) -> Column:
    """From the lowest to the highest energy that the sources of the prices allow."""
    name, size = energy_unit(row.energy_pj for row in rows)
    lows = [format_number(row.energy_low_pj / size) for row in rows]
    highs = [format_number(row.energy_high_pj / size) for row in rows]
    cells = [f"{low} – {high}" if low != high else "" for low, high in zip(lows, highs, strict=True)]
    return Column(f"range [{name}]", "of the prices", cells)


def _settings(rows: Sequence[Row]) -> list[Column]:
    best = {id(row) for row in pareto_rows(rows)}
    marked = [row.method + (PARETO_MARK if id(row) in best else "") for row in rows]
    names = [Column(name, "", [getattr(row, name) for row in rows], True) for name in ("dataset", "network")]
    return [
        Column("method", "", marked, True),
        Column("variant", "", [row.variant for row in rows], True),
        *[column for column in names if len(set(column.cells)) > 1],
        Column("T", "steps", _cells((row.timesteps for row in rows), str)),
        Column("depth", "steps x passes", depths(rows)),
        Column("kind", "", ["hybrid" if any(run.get("hybrid") for run in row.runs) else "" for row in rows], True),
        Column("strength", "", [_strength(row) for row in rows]),
        Column("seeds", "", [str(row.seeds) for row in rows]),
    ]


def _results(rows: Sequence[Row]) -> list[Column]:
    name, size = energy_unit(row.energy_pj for row in rows)
    memory_name, memory_size = energy_unit(row.memory_pj for row in rows)
    memories = _cells((row.memory_pj for row in rows), lambda energy: format_number(energy / memory_size))
    return [
        Column("accuracy [%]", "± sd of seeds", [_accuracy(row) for row in rows]),
        Column(f"energy [{name}]", scope(rows), [format_number(row.energy_pj / size) for row in rows]),
        Column("of ANN [%]", "", _cells((row.ratio for row in rows), format_percent)),
        Column(f"energy [{memory_name}]", "with memory", memories),
        Column("of ANN [%]", "with memory", _cells((row.memory_ratio for row in rows), format_percent)),
        Column("ACs", "per sample", _cells((row.acs for row in rows), "{:,.0f}".format)),
        Column("MACs", "per sample", _cells((row.macs for row in rows), "{:,.0f}".format)),
        Column("silent [%]", "of neurons", _cells((row.silent_fraction for row in rows), format_percent)),
        _prices(rows),
    ]


def depths(rows: Sequence[Row]) -> list[str]:
    """Passes that need each other, in the rows with more of them than time steps."""
    depths = [row.runs[0].get("sequential_depth") for row in rows]
    return ["" if d in (None, row.timesteps) else str(d) for d, row in zip(depths, rows, strict=True)]


def _prices(rows: Sequence[Row]) -> Column:
    """The price list of each row, where they differ; what their names share is said once."""
    names = [row.hardware for row in rows]
    shared = commonprefix(names)
    shared = shared[: shared.rfind("-") + 1]
    cells = [name.removeprefix(shared) for name in names] if len(set(names)) > 1 else []
    return Column("prices", f"{shared}…" if shared else "", cells, True)


def _cells(values: Iterable[T | None], show: Callable[[T], str]) -> list[str]:
    return ["" if value is None else show(value) for value in values]


def _accuracy(row: Row) -> str:
    sd = "" if row.accuracy_sd is None else f" ± {format_percent(row.accuracy_sd, 2)}"
    return format_percent(row.accuracy, 2) + sd


def _strength(row: Row) -> str:
    if row.strength is None:
        return ""
    mark = " (collapsed)" if any(run.get("collapsed") for run in row.runs) else " (chosen)" if row.chosen else ""
    return f"{row.strength:g}{mark}"
