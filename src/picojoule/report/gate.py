"""Two measurements against limits: what changed from a base to a new one, and whether that is allowed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from picojoule.errors import BadInput, unknown_name
from picojoule.report.columns import Column
from picojoule.report.load import Record, _is_number, _parse
from picojoule.report.table import aligned
from picojoule.report.units import format_energy, format_percent


class Quantity(NamedTuple):
    """`key` in a record; limits are relative changes (`%`) or differences of fractions (`pt`, points of 1 %).

    `worse` is the sign of a change for the worse.
    """

    key: str
    unit: str
    worse: int


QUANTITIES = {
    "energy": Quantity("energy_pj", "%", +1),
    "accuracy": Quantity("accuracy", "pt", -1),
    "acs": Quantity("acs", "%", +1),
    "silent": Quantity("silent_fraction", "pt", +1),
}
ROUNDING = 1e-9  # a change exactly at its limit is kept although 0.898 is not 0.9 - 0.002 in binary


class Limit(NamedTuple):
    """The most that `quantity` (a key of `QUANTITIES`) may change, as a fraction, towards the worse."""

    quantity: str
    change: float


class Span(NamedTuple):
    """A value and its interval; an exact number is its own interval."""

    value: float
    low: float
    high: float


class Check(NamedTuple):
    """One quantity of both measurements. `change` is a fraction, None from zero to something."""

    quantity: str
    hardware: str | None
    base: Span
    new: Span
    change: float | None
    limit: float
    kept: bool


def parse_limit(quantity: str, text: str) -> Limit:
    """`"+2%"` or `"-0.2pt"` as a limit; without a sign it is how much worse the quantity may become.

    Raises BadInput for anything else, and for a unit that is not the quantity's.
    """
    unit, worse = QUANTITIES[quantity].unit, QUANTITIES[quantity].worse
    found = re.fullmatch(r"([+-]?)(\d+\.?\d*|\.\d+) *(%|pt)", text.strip())
    if not found or found[3] != unit:
        example = f"{'+' if worse > 0 else '-'}{'2%' if unit == '%' else '0.2pt'}"
        meaning = "a change in percent" if unit == "%" else "a difference in percentage points"
        raise BadInput(f"expected --{quantity} as {meaning} such as {example}, got {text!r}")
    sign = {"+": 1, "-": -1, "": worse}[found[1]]
    return Limit(quantity, sign * float(found[2]) / 100)


def read_measurement(path: Path) -> Record:
    """The measurement in a `.json` file, or in the last line of a `.jsonl` file.

    It needs energies only: a model of the user's own has no method, and no accuracy without labels. Raises BadInput.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput(f"cannot read a measurement from {path}: {reason}") from None
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise BadInput(f"{path} is empty; expected a measurement, as `picojoule measure --json` prints it")
    number, last = lines[-1]
    found = _parse(last, f"{path}, line {number}") if path.suffix == ".jsonl" else _parse(text, str(path))
    if isinstance(found, list) and len(found) == 1:
        (found,) = found
    if not isinstance(found, dict) or not _is_priced(found.get("energy_pj")):
        raise BadInput(f"{path} holds no measurement; expected the one object that `picojoule measure --json` prints")
    return found


def _is_priced(energies: object) -> bool:
    return isinstance(energies, dict) and all(
        isinstance(energy, dict) and _is_number(energy.get("value")) for energy in energies.values()
    )


def check(
    base: Record, new: Record, limits: Sequence[Limit], hardware: Sequence[str] = (), names: tuple[str, str] = ("", "")
) -> list[Check]:
    """What every limit says of the two measurements, energy at each price list in both or at those of `hardware`.

    Raises BadInput if they are not comparable: another dataset, split, number of samples or schema, first layers
    fed by different kinds, other things uncounted, or other prices under one name. `names` are those of the files.
    """
    names = (names[0] or "the base", names[1] or "the new measurement")
    _comparable(base, new, names)
    checks = []
    for limit in limits:
        if limit.quantity == "energy":
            for name in _price_lists(base, new, hardware, names):
                checks.append(_checked(limit, name, _energy(base, name), _energy(new, name)))
        else:
            checks.append(_checked(limit, None, _exact(base, limit, names[0]), _exact(new, limit, names[1])))
    return checks


def only_in_one(base: Record, new: Record) -> list[str]:
    """Price lists that only one of the measurements has."""
    return sorted(set(base["energy_pj"]) ^ set(new["energy_pj"]))


def gate_table(checks: Sequence[Check]) -> str:
    """A row per check, for a terminal."""
    columns = [
        Column("quantity", "", [c.quantity for c in checks], True),
        Column("price list", "", [c.hardware or "" for c in checks], True),
        Column("base", "", [_shown(c, c.base) for c in checks]),
        Column("new", "", [_shown(c, c.new) for c in checks]),
        Column("change", "", [_change(c.quantity, c.change) for c in checks]),
        Column("limit", "", [_change(c.quantity, c.limit) for c in checks]),
        Column("", "", ["kept" if c.kept else "MISSED" for c in checks], True),
    ]
    lines = ("  ".join(line).rstrip() for line in zip(*map(aligned, columns), strict=True))
    return "\n".join(line for line in lines if line)


def missed_sentence(checks: Sequence[Check]) -> str:
    """One sentence on the limits that were missed."""
    return "the gate is missed: " + ", ".join(_missed(c) for c in checks if not c.kept)


def _missed(check: Check) -> str:
    where = f" at {check.hardware}" if check.hardware else ""
    verb = "rose" if check.change is None else "changed by"
    limit = _change(check.quantity, check.limit)
    return f"{check.quantity}{where} {verb} {_change(check.quantity, check.change)} (limit {limit})"


def _comparable(base: Record, new: Record, names: tuple[str, str]) -> None:
    facts = {fact: (base.get(fact), new.get(fact)) for fact in ("dataset", "split", "samples", "schema")}
    facts["input of the first layer"] = (_first_kind(base), _first_kind(new))
    for fact, (before, after) in facts.items():
        if before != after:
            raise BadInput(
                f"the measurements are not comparable: {fact} is {before} in {names[0]} and {after} in {names[1]}; "
                "measure both in the same way"
            )
    before, after = ({str(what) for what in record.get("uncounted") or ()} for record in (base, new))
    for more, less, name in ((after, before, names[1]), (before, after, names[0])):
        if more - less:
            raise BadInput(
                f"the measurements are not comparable: only in {name} this is not counted: {min(more - less)}"
            )


def _first_kind(record: Record) -> str | None:
    layers = record.get("layers") or [{}]
    return layers[0].get("kind")


def _price_lists(base: Record, new: Record, asked: Sequence[str], names: tuple[str, str]) -> list[str]:
    common = [name for name in base["energy_pj"] if name in new["energy_pj"]]
    if not common:
        raise BadInput(f"{names[0]} and {names[1]} have no price list in common; measure both with the same --hardware")
    for name in asked:
        if name not in common:
            raise unknown_name("price list of both measurements", name, common)
    chosen = list(dict.fromkeys(asked)) or common
    for name in chosen:
        before, after = ((record.get("hardware_notes") or {}).get(name) or {} for record in (base, new))
        for fact in ("scope", "prices"):
            if before.get(fact) != after.get(fact):
                raise BadInput(
                    f"the measurements are not comparable: {name} has other {fact} in {names[0]} than in {names[1]}"
                )
    return chosen


def _energy(record: Record, name: str) -> Span:
    energy = record["energy_pj"][name]
    low, high = (energy[end] if _is_number(energy.get(end)) else energy["value"] for end in ("low", "high"))
    return Span(energy["value"], low, high)


def _exact(record: Record, limit: Limit, name: str) -> Span:
    key = QUANTITIES[limit.quantity].key
    value = record.get(key)
    if not _is_number(value):
        hint = " (was the model measured without labels?)" if key == "accuracy" else ""
        raise BadInput(f"{name} has no {key}{hint}; leave --{limit.quantity} out")
    assert value is not None
    if QUANTITIES[limit.quantity].unit == "pt" and not 0 <= value <= 1:
        raise BadInput(f"expected {key} in {name} as a fraction from 0 to 1, got {value}")
    return Span(value, value, value)


def _checked(limit: Limit, hardware: str | None, base: Span, new: Span) -> Check:
    _, unit, worse = QUANTITIES[limit.quantity]
    before, after = base.value, new.value
    allowed = before * (1 + limit.change) if unit == "%" else before + limit.change
    change = after - before
    if unit == "%" and change:
        change = change / before if before else None
    kept = worse * (after - allowed) <= ROUNDING * (abs(before) if unit == "%" else 1)
    return Check(limit.quantity, hardware, base, new, change, limit.change, kept)


def _shown(check: Check, span: Span) -> str:
    if check.quantity == "acs":
        return f"{span.value:,.0f}"
    if check.quantity != "energy":
        return f"{format_percent(span.value, 2)} %"
    interval = f" ({format_energy(span.low)} to {format_energy(span.high)})" if span.low != span.high else ""
    return format_energy(span.value) + interval


def _change(quantity: str, change: float | None) -> str:
    if change is None:
        return "from 0"
    return f"{round(100 * change, 3) + 0.0:+.6g} {QUANTITIES[quantity].unit}"
