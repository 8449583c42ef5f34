"""Quantities of a price list: a value, its range and its unit."""

import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from picojoule.errors import BadInput

ENERGY = {"aJ": 1e-6, "fJ": 1e-3, "pJ": 1.0, "nJ": 1e3, "uJ": 1e6, "µJ": 1e6, "mJ": 1e9, "J": 1e12}
POWER = {"W": 1.0, "mW": 1e-3, "uW": 1e-6, "µW": 1e-6, "nW": 1e-9}
TIME = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class Price(NamedTuple):
    """One constant and its source's range, in `unit`: picojoules per something, watts, or seconds per something."""

    value: float
    low: float
    high: float
    unit: str

    def __str__(self) -> str:
        span = f" ({self.low:g} to {self.high:g})" if self.low < self.high else ""
        return f"{self.value:g}{span} {self.unit}"


def read_price(
    where: str, key: str, table: object, per: str, example: str, scales: Mapping[str, float] = ENERGY
) -> Price:
    """The constant `key` of the file `where`, converted to the unit of `scales` that is 1.

    `per` is a pattern of what may follow the unit, `example` the unit to suggest. Raises BadInput where the unit is
    missing or unknown, or the numbers are not 0 <= low <= value <= high.
    """
    if not isinstance(table, dict):
        raise BadInput(f'{where}: expected {key} = {{ value = ..., unit = "{example}" }}, got {table!r}')
    known_keys(where, key, table, ("value", "low", "high", "unit"))
    unit = table.get("unit")
    if unit is None:
        raise BadInput(f'{where}: the price {key!r} has no unit; write unit = "{example}"')
    found = re.fullmatch(rf"({'|'.join(scales)})({per})", unit) if isinstance(unit, str) else None
    if found is None:
        spare = ", ".join(name for name in scales if name.isascii())
        raise BadInput(f'{where}: the price {key!r} has the unknown unit {unit!r}; write "{example}" (or {spare})')
    value, low, high = (_number(where, key, table, bound) for bound in ("value", "low", "high"))
    if not 0 <= low <= value <= high < math.inf:
        raise BadInput(f"{where}: expected 0 <= low <= value <= high for {key!r}, got {low:g}, {value:g}, {high:g}")
    scale = scales[found[1]]
    base = next(name for name, factor in scales.items() if factor == 1)
    return Price(value * scale, low * scale, high * scale, base + found[2])


def known_keys(where: str, what: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raises BadInput, with the nearest name, for a key that a price list does not have."""
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadInput(f"{where}: unknown key {key!r} in {what}{hint} (known: {', '.join(known)})")


def _number(where: str, key: str, table: Mapping[str, Any], bound: str) -> float:
    number = table.get(bound, table.get("value"))
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise BadInput(f"{where}: expected a number as {bound} of {key!r}, got {number!r}")
    return float(number)
