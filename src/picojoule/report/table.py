"""The result table as text for a terminal and as Markdown for the README, generated and never typed."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from picojoule.errors import BadInput
from picojoule.files import write_text
from picojoule.report.benchmark import benchmark_table
from picojoule.report.bits import bit_columns
from picojoule.report.columns import HYBRID_NOTE, PARETO_MARK, PARETO_NOTE, Column, depths, table_columns
from picojoule.report.conversions import conversion_columns
from picojoule.report.learned import learned_columns
from picojoule.report.lmu import lmu_table
from picojoule.report.load import Record, read_records
from picojoule.report.matched import matched_columns
from picojoule.report.peers import peers_table
from picojoule.report.readings import reading_columns
from picojoule.report.speed import speed_table
from picojoule.report.summary import Row, scope, summarise
from picojoule.report.sweeps import layer_columns, sweep_columns
from picojoule.report.training_cost import training_cost_table
from picojoule.report.variants import shared_options

TABLE = re.compile(r"(<!-- table: *(?P<path>[^>]+?) *-->\n)(?P<body>.*?)(<!-- end table -->)", re.DOTALL)
NO_KIND_NOTE = (
    "A row of no kind spikes in all layers behind the first, or in none (an ANN, or a network without mixers)."
)
OF_METHODS = {"learned": learned_columns, "bits": bit_columns, "readings": reading_columns}
"""Tables of what single methods are about."""
DEPTH_NOTE = (
    "Depth: passes of which each needs the one before, time steps times those through windows; the ANN of a mixer "
    "network has its windows too."
)


def text_table(records: Sequence[Record]) -> str:
    """Aligned columns with two lines of headings, and the facts that the numbers stand on below."""
    rows = summarise(records)
    columns = table_columns(rows)
    lines = zip(*(aligned(column) for column in columns), strict=True)
    table = ["  ".join(line).rstrip() for line in lines]
    return "\n".join([*table, "", PARETO_NOTE, *_footer(rows)])


def markdown_table(records: Sequence[Record]) -> str:
    """A Markdown table; the last lines state dataset, split, seeds and commits."""
    rows = summarise(records)
    return _markdown(table_columns(rows), [PARETO_NOTE, *_footer(rows)])


def penalty_table(records: Sequence[Record], part: str) -> str:
    """Markdown of penalties: `sweep` (totals by strength), `layers`, or `matched` (at equal accuracy).

    `matched` is at one point under the accuracy of plain, `matched-0.5` at half a point. Raises BadInput for another
    part, or for records that lack what it needs.
    """
    name, _, number = part.partition("-")
    if part in ("sweep", "layers"):
        columns, notes = (sweep_columns if part == "sweep" else layer_columns)(records)
    elif name == "matched" and re.fullmatch(r"(-\d+(\.\d+)?)?", part.removeprefix(name)):
        columns, notes = matched_columns(records, float(number or 1))
    else:
        raise BadInput(f"expected a table named matched, matched-0.5, layers or sweep, got {part!r}")
    shared = [f"{_short(key)}={value}" for key, value in shared_options(records).items()]
    notes += [f"In all rows that have it: {', '.join(dict.fromkeys(shared))}."] if shared else []
    return _markdown(columns, [*notes, _facts(records)])


def update_tables(markdown_path: str | Path, root: str | Path) -> bool:
    """Write the tables of a Markdown file anew, from the records that its markers name; True if one changed.

    A table stands between `<!-- table: results/x.jsonl -->` and `<!-- end table -->`, each on its own
    line; paths are relative to `root`. `results/x.jsonl#lif` is the case `lif` of recorded speeds, or of runs one of
    the tables of `penalty_table`, or of OF_METHODS: `learned` thresholds and decays at the start and end of training,
    `bits` of events, two `readings` of energy. Raises BadInput for a marker without its end, or bad records.
    """
    path = Path(markdown_path)
    old = path.read_text(encoding="utf-8")
    found = list(TABLE.finditer(old))
    if len(found) != old.count("<!-- table:") or any("<!-- table:" in match["body"] for match in found):
        raise BadInput(f"{path}: expected each '<!-- table: FILE -->' line to be closed by '<!-- end table -->'")
    new = TABLE.sub(lambda match: f"{match[1]}\n{_table_of(match['path'], root)}\n\n{match[4]}", old)
    if new != old:
        write_text(path, new)
    return new != old


def _table_of(path: str, root: str | Path) -> str:
    """The table for what the records in a file are: numbers of counters, speeds, a benchmark, or runs."""
    path, _, part = path.partition("#")
    file = Path(root) / path
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    try:
        records = [json.loads(line) for line in lines if line.strip()]
    except json.JSONDecodeError:
        records = []
    if records and all("per_sample" in r for r in records):
        return peers_table(records)
    if part and (not lines or (records and all(r.get("benchmark") == "speed" for r in records))):
        return speed_table(records, part)
    if records and all(r.get("benchmark") == "lmu" for r in records):
        return lmu_table(records)
    if records and all(r.get("benchmark") == "one-step-cost" for r in records):
        return training_cost_table(records)
    if records and all("benchmark" in r for r in records):
        return benchmark_table(records)
    if records and all("conversion" in r for r in records):
        return _markdown(*conversion_columns(records))
    runs = read_records(file)
    if part in OF_METHODS:
        columns, notes = OF_METHODS[part](runs)
        return _markdown(columns, [*notes, _facts(runs)])
    return penalty_table(runs, part) if part else markdown_table(runs)


def _markdown(columns: Sequence[Column], notes: Sequence[str]) -> str:
    headings = [_escaped(", ".join(filter(None, (c.heading, c.note)))) for c in columns]
    rules = [":--" if column.is_text else "--:" for column in columns]
    body = zip(*([_escaped(cell) for cell in column.cells] for column in columns), strict=True)
    table = [f"| {' | '.join(line)} |" for line in [headings, rules, *body]]
    return "\n".join([*table, "", " ".join(_escaped(note) for note in notes)])


def aligned(column: Column) -> list[str]:
    lines = [column.heading, column.note, *column.cells]
    width = max(map(len, lines))
    if column.is_text:
        return [line.ljust(width) for line in lines]
    return [line.rjust(width) for line in lines]


def _footer(rows: Sequence[Row]) -> list[str]:
    runs = [run for row in rows for run in row.runs]
    hybrid = [f"{HYBRID_NOTE} {NO_KIND_NOTE}"] if any(run.get("hybrid") for run in runs) else []
    depth = [DEPTH_NOTE] if any(depths(rows)) else []
    prices = ", ".join(dict.fromkeys(row.hardware for row in rows))
    return [
        _facts(runs),
        f"Energy per sample, {scope(rows)}, by the prices of {prices}.",
        *depth,
        *hybrid,
        *dict.fromkeys(str(run["split_note"]) for run in runs if run.get("split_note")),
    ]


def _facts(runs: Sequence[Record]) -> str:
    """What the numbers stand on."""
    facts = {
        "Dataset": [run["dataset"] for run in runs],
        "network": [run["network"] for run in runs],
        "split": [_split(run) for run in runs],
        "seeds": sorted({run["seed"] for run in runs if run.get("seed") is not None}),
        "commit": [run.get("commit") for run in runs],
    }
    known = {name: dict.fromkeys(str(value) for value in values if value is not None) for name, values in facts.items()}
    return "; ".join(f"{name} {', '.join(values)}" for name, values in known.items() if values) + "."


def _split(run: Record) -> str | None:
    if run.get("split") is None:
        return None
    return f"{run['split']} ({run['samples']:,} samples)" if run.get("samples") else str(run["split"])


def _escaped(text: str) -> str:
    if text.endswith(PARETO_MARK) or text.startswith("* "):
        text = text.replace("*", "\\*")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def _short(key: str) -> str:
    """An option without the method that it is for, which a strength of one part keeps."""
    return key if key.endswith(":strength") else key.rpartition(":")[2]
