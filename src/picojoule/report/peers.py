"""One tensor, many numbers: what each counter says of the same layer and the same inputs."""

from typing import Any

from picojoule.report.units import format_number

Record = dict[str, Any]
PRICES = {"acs": 0.9, "macs": 4.6, "synops": 0.9}
"""Picojoules of an operation by its class, to compare the numbers at one price."""


def peers_table(records: list[Record]) -> str:
    """Markdown: a row per counter, a column per input, operations per sample and their price."""
    inputs = list(dict.fromkeys(r["row"] for r in records))
    tools = list(dict.fromkeys(r["tool"] for r in records))
    cells = {(r["tool"], r["row"]): r for r in records}
    lines = [f"| counter | {' | '.join(f'input {name}' for name in inputs)} |", "| :-- |" + " --: |" * len(inputs)]
    for tool in tools:
        first = next(r for r in records if r["tool"] == tool)
        shown = [_cell(cells[tool, name]["per_sample"]) if (tool, name) in cells else "" for name in inputs]
        lines.append(f"| {tool} {first['package_version']} | {' | '.join(shown)} |")
    made = "; ".join(
        f"{what} {', '.join(dict.fromkeys(str(r[what]) for r in records))}" for what in ("commit", "machine", "torch")
    )
    prices = f"{PRICES['acs']:g} pJ per AC and {PRICES['macs']:g} pJ per MAC"
    return "\n".join([*lines, "", f"Operations per sample, in brackets at {prices}; {made}."])


def _cell(numbers: dict[str, float]) -> str:
    parts = [f"{numbers[key]:,.0f} {unit}" for key, unit in (("acs", "AC"), ("macs", "MAC")) if numbers.get(key)]
    if numbers.get("synops"):
        parts.append(f"{numbers['synops']:,.0f} SynOps")
    picojoules = sum(price * numbers.get(key, 0.0) for key, price in PRICES.items())
    return f"{' + '.join(parts) or '0'} ({format_number(picojoules / 1e3)} nJ)"
