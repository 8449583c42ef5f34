"""Recorded speed: a table per setting of a case, or all targets beside what was found."""

from typing import Any

from picojoule.report.units import format_number

Record = dict[str, Any]
TARGETS = "targets"
"""Names the table of all targets, where `speed_table` otherwise takes the name of a case."""
_COPIES = {"cached_copy": "in the last cache level", "uncached_copy": "beyond it"}


def speed_table(records: list[Record], part: str) -> str:
    """Markdown for the case named `part`, or for all `targets`; one sentence where nothing is recorded yet."""
    if part == TARGETS and records:
        return _targets_table(records)
    own = [r for r in records if r["case"] == part]
    if not own:
        return "Not recorded yet."
    settings = dict.fromkeys(r["setting"] for r in own)
    blocks = [_setting_block([r for r in own if r["setting"] == setting]) for setting in settings]
    return "\n\n".join([*blocks, _made(own)])


def _setting_block(records: list[Record]) -> str:
    """What runs, a row per implementation, and the targets."""
    first = records[0]
    unit, size = _unit(records)
    columns = {
        "implementation": [f"{r['implementation']} ({r['package']} {r['package_version']})" for r in records],
        f"forward [{unit}]": [_median(r["forward_s"], size) for r in records],
        f"backward [{unit}]": [_median(r["backward_s"], size) for r in records],
        f"sum [{unit}]": [_median(r["sum_s"], size) for r in records],
        f"times as fast as {first['reference']}": [f"{r['faster']:.2f}" for r in records],
        "times the floor": [_shown(r["of_floor"]) for r in records],
        "peak memory [MiB]": [format_number(r["peak_mib"]) for r in records],
        "with page reuse [MiB]": [format_number(r["peak_reused_mib"]) for r in records],
        "same spikes [%]": [_percent(r["agreement"]) for r in records],
        "rounds": [str(r["rounds"]) for r in records],
    }
    if not any(r["backward_s"] for r in records):
        del columns[f"forward [{unit}]"]
    kept = {heading: cells for heading, cells in columns.items() if any(cells)}
    rules = [":--", *["--:"] * (len(kept) - 1)]
    rows = [list(kept), rules, *map(list, zip(*kept.values(), strict=True))]
    lines = [f"**{first['setting']}**: {first['about']}. Times are per {first['per']}.", "", *map(_row, rows)]
    notes = [_judgement(r, t) for r in records for t in r["targets"]]
    if first["ceilings"]:
        notes.append(_ceilings(first["ceilings"], records, unit, size))
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)] if notes else lines)


def _targets_table(records: list[Record]) -> str:
    rows = [["case", "implementation", "target", "found", "met"], [":--", ":--", ":--", "--:", ":--"]]
    for r in records:
        for t in r["targets"]:
            met = "yes" if t["met"] else "**no**"
            rows.append([f"{r['case']}, {r['setting']}", r["implementation"], t["target"], f"{t['value']:.2f}x", met])
    return "\n".join([*map(_row, rows), "", _made(records)])


def _made(records: list[Record]) -> str:
    """By what, where and how."""
    facts = ("threads", "kernels", "commit", "machine", "torch")
    said = [f"{what} {', '.join(dict.fromkeys(str(r[what]) for r in records))}" for what in facts]
    pages = ", ".join(dict.fromkeys("on" if r["page_reuse"] else "off" for r in records))
    loads = [r["load"] for r in records]
    parts = ["Medians of interleaved rounds", *said, f"page reuse {pages}", f"load {min(loads):g} to {max(loads):g}"]
    return "; ".join(parts) + "."


def _ceilings(ceilings: Record, records: list[Record], unit: str, size: float) -> str:
    """The floors, and the measured ceilings that they stand on."""
    floors = dict.fromkeys(format_number(r["floor_s"] / size) for r in records if r["floor_s"])
    copies = [f"{ceilings[key] / 1e9:.1f} GB/s {where}" for key, where in _COPIES.items()]
    peaks = [f"{ceilings[key] / 1e9:,.0f} GFLOP/s in {key}" for key in ("fp32", "bf16")]
    ceiling = f"copies at {', '.join(copies)}, and products at {', '.join(peaks)}"
    return f"floor: {' and '.join(floors)} {unit}, from {ceiling}"


def _judgement(record: Record, target: Record) -> str:
    verdict = "met" if target["met"] else "**missed**"
    return f"{record['implementation']}: {target['target']}: {target['value']:.2f}x, {verdict}"


def _unit(records: list[Record]) -> tuple[str, float]:
    """Seconds if all of them take one, else milliseconds."""
    return ("s", 1.0) if min(r["sum_s"]["median"] for r in records) >= 1 else ("ms", 1e-3)


def _median(seconds: Record | None, size: float) -> str:
    return format_number(seconds["median"] / size) if seconds else ""


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
