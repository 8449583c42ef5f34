"""Reads records: one JSON object per run, one per line in a `.jsonl` file."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from picojoule.errors import BadInput

Record = dict[str, Any]
REQUIRED = ("method", "network", "dataset", "accuracy", "energy_pj")


def read_records(paths: str | Path | Iterable[str | Path]) -> list[Record]:
    """All records of the given `.jsonl` files (a record per line) and `.json` files (one record or a list).

    Raises BadInput, naming file and line, for a missing file, bad JSON, a record without the
    required keys, or when the files hold no record at all.
    """
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    records = [record for file in files for record in _read_file(file)]
    if not records:
        raise BadInput(f"no record found in {', '.join(map(str, files)) or 'an empty list of files'}")
    return records


def _read_file(file: Path) -> list[Record]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"cannot read records from {file}: it is not UTF-8 text") from error
    except OSError as error:
        raise BadInput(f"cannot read records from {file}: {error.strerror or error}") from error
    if file.suffix == ".json":
        found = _parse(text, str(file))
        items = found if isinstance(found, list) else [found]
        return [_checked(item, f"{file}, record {n}") for n, item in enumerate(items, start=1)]
    lines = [(f"{file}, line {n}", line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [_checked(_parse(line, where), where) for where, line in lines]


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda name: None)  # NaN and Infinity are missing values
    except json.JSONDecodeError as error:
        place = where if ", line " in where else f"{where}, line {error.lineno}"
        raise BadInput(f"{place}: expected JSON, got an error at column {error.colno}: {error.msg}") from error


def _checked(record: Any, where: str) -> Record:
    if not isinstance(record, dict):
        raise BadInput(f"{where}: expected a record (a JSON object), got {type(record).__name__}")
    needed = [key for key in REQUIRED if key != "accuracy" or record.get("made_by") != "measure"]
    missing = [key for key in needed if record.get(key) is None]
    if missing:
        raise BadInput(f"{where}: the record lacks {', '.join(missing)}")
    accuracy = record.get("accuracy")
    if accuracy is not None and not (_is_number(accuracy) and 0 <= accuracy <= 1):
        raise BadInput(f"{where}: expected accuracy as a fraction from 0 to 1, got {record['accuracy']!r}")
    energies = record["energy_pj"]
    priced = isinstance(energies, dict) and all(
        isinstance(energy, dict) and _is_number(energy.get("value")) for energy in energies.values()
    )
    if not energies or not priced:
        raise BadInput(f"{where}: expected energy_pj as {{hardware: {{value, low, high}}}}, got {energies!r}")
    return _without_repeated_strength(record)


def _without_repeated_strength(record: Record) -> Record:
    """Older records of penalties added up name their one strength once more for each of them."""
    options = record.get("options")
    if record.get("strength") is None or not isinstance(options, dict) or "+" not in str(record["method"]):
        return record
    owners = {key.partition(":")[0] for key in options if key.endswith(":ramp")}
    repeated = {f"{owner}:strength" for owner in owners}
    if not repeated <= options.keys():
        return record
    return record | {"options": {key: value for key, value in options.items() if key not in repeated}}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
