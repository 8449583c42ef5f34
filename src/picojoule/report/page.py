"""One HTML page that opens without a network: everything it needs, plotly too, is inside it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from picojoule.files import write_text
from picojoule.report.columns import PARETO_MARK, price_range, table_columns
from picojoule.report.headline import headlines
from picojoule.report.load import Record
from picojoule.report.measurement import is_measurement, measurement_blocks, measurement_heading, measurement_title
from picojoule.report.summary import Row, hardware_of, scope, summarise
from picojoule.report.units import format_number


def write_page(records: Sequence[Record], path: str | Path) -> None:
    """Write the report of the records to `path`, whole or not at all; raises BadInput without records."""
    write_text(Path(path), page_text(records))


def page_text(records: Sequence[Record]) -> str:
    """The report of the records as HTML. One measurement alone has a page of its own kind; it needs no accuracy.

    Raises BadInput without records.
    """
    # Imported here, so that importing picojoule.report stays quick.
    from jinja2 import Environment, FileSystemLoader
    from plotly.offline import get_plotlyjs

    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    template = page.get_template("page.html.j2")
    alone = len(records) == 1 and is_measurement(records[0])
    content = _measured_content(records[0]) if alone else _content(records)
    shown = () if alone else ("counting", "uncounted")  # a page of several has these for all of them
    figures, measured = _measurements([record for record in records if is_measurement(record)], shown)
    content["figures"] |= figures
    sensed = any((record.get("power") or {}).get("joules_per_sample") for record in records)
    return template.render(plotly=get_plotlyjs(), measured=measured, sensed=sensed, **content)


def _measurements(records: Sequence[Record], elsewhere: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The figures of all measurements by id, and for each record its heading and blocks, but those `elsewhere`."""
    from picojoule.report.measurement_figures import measurement_figures

    figures: dict[str, Any] = {}
    measured = []
    for n, record in enumerate(records):
        blocks = []
        drawn = measurement_figures(record)
        for block in (b for b in measurement_blocks(record) if b.key not in elsewhere):
            ids = []
            for i, (caption, figure) in enumerate(drawn.get(block.key, [])):
                ids.append((f"measured-{n}-{block.key}-{i}", caption))
                figures[ids[-1][0]] = figure
            blocks.append({"block": block, "figures": ids})
        measured.append({"heading": measurement_heading(record), "blocks": blocks})
    return figures, measured


def _measured_content(record: Record) -> dict[str, Any]:
    return {
        "title": measurement_title(record),
        "about": _about(record),
        "headlines": _verdict(record),
        "scope": (record.get("hardware_notes") or {}).get(hardware_of(record), {}).get("scope", ""),
        "figures": {},
        "columns": [],
        "prices": record.get("hardware_notes") or {},
        "split_notes": _unique([record.get("split_note")]),
        "provenance": [_where(record["model"], [record])],
        "citations": _unique(record.get("cite") or []),
    }


def _about(record: Record) -> str:
    """What a converted or measured network is, in a sentence."""
    if "conversion" in record:
        return f"A trained network, converted into a spiking one of {record['timesteps']} steps."
    return f"Network {record['network']}."


def _verdict(record: Record) -> list[str]:
    """Against which ANNs the model wins, and against which it loses, in a sentence; none if that is not known."""
    found = (record.get("baselines") or {}).values()
    ratios = {b["title"]: b["ratio"] for b in found if b.get("ratio") is not None}
    if not ratios:
        return []
    against: dict[bool, list[str]] = {True: [], False: []}
    for title, ratio in ratios.items():
        against[ratio < 1].append(f"{format_number(ratio)} times that of the {title}")
    wins, loses = (" and ".join(against[won]) for won in (True, False))
    said = [f"{verb} {what}" for verb, what in (("it wins with", wins), ("it loses with", loses)) if what]
    return [f"Energy by {hardware_of(record)} against ANNs with the same synapses: {'; '.join(said)}."]


def _content(records: Sequence[Record]) -> dict[str, Any]:
    from picojoule.report.bars import layer_figure, silent_figure
    from picojoule.report.plots import pareto_figure

    rows = summarise(records)
    figures = {
        "pareto": pareto_figure(records, rows),
        "layers": layer_figure(rows),
        "silent": silent_figure(rows),
    }
    columns = table_columns(rows)
    price = next(n for n, column in enumerate(columns) if column.heading.startswith("energy ["))
    ranges = price_range(rows)
    return {
        "title": f"{_listed(row.dataset for row in rows)}: accuracy and energy",
        "about": f"Network {_listed(row.network for row in rows)}. {len(records)} run{'s' * (len(records) > 1)}.",
        "headlines": headlines(rows),
        "scope": scope(rows),
        "figures": {name: figure for name, figure in figures.items() if figure},
        "columns": [*columns[: price + 1], *([ranges] if any(ranges.cells) else []), *columns[price + 1 :]],
        "mark": PARETO_MARK,
        "without_energy": sum(not record["energy_pj"][hardware_of(record)]["value"] for record in records),
        "prices": _prices(rows),
        "counting": _by_labels(rows, "counting"),
        "uncounted": _by_labels(rows, "uncounted"),
        "split_notes": _unique(run.get("split_note") for run in records),
        "provenance": [_where(row.label, row.runs) for row in rows],
        "citations": _unique(cite for run in records for cite in run.get("cite") or []),
    }


def _prices(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """Notes of each price list in use; the table's memory column has its own."""
    notes: dict[str, dict[str, str]] = {}
    for run in (run for row in rows for run in row.runs):
        own = hardware_of(run)
        for name in (own, f"{own}-sram"):
            if name in run["energy_pj"] and not notes.get(name):
                notes[name] = (run.get("hardware_notes") or {}).get(name) or {}
    return notes


def _by_labels(rows: Sequence[Row], key: str) -> dict[str, list[str]]:
    """Each note with the rows that it holds for, in the order of the table."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in _unique(note for run in row.runs for note in run.get(key) or []):
            notes.setdefault(note, []).append(row.label)
    return notes


def _where(label: str, runs: Sequence[Record]) -> dict[str, str]:
    walls = [run["wall_s"] for run in runs if run.get("wall_s") is not None]
    return {
        "run": label,
        "seeds": _listed(run.get("seed") for run in runs),
        "commit": _listed(run.get("commit") for run in runs),
        "version": _listed(run.get("version") for run in runs),
        "split": _listed(run.get("split") for run in runs),
        "samples": _listed(f"{run['samples']:,}" for run in runs if run.get("samples")),
        "seconds per run": format_number(sum(walls) / len(walls)) if walls else "",
        "machine": _listed(run.get("machine") for run in runs),
    }


def _unique(values: Iterable[object]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def _listed(values: Iterable[object]) -> str:
    return ", ".join(_unique(values))
