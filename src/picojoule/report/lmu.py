"""Recorded times of the forms of the LMU: a table per case."""

from typing import Any

from picojoule.report.units import format_number

Record = dict[str, Any]


def lmu_table(records: list[Record]) -> str:
    """Markdown: what runs, its median CPU time, how many times as fast as the first of its case, and peak memory."""
    lines = ["| what | form | CPU time [ms] | times as fast | target | peak memory [MiB] |"]
    lines.append("| :-- | :-- | --: | --: | --: | --: |")
    case = ""
    for r in records:
        shown, case = ("" if r["case"] == case else r["case"]), r["case"]
        target = "" if r["target"] is None or not shown else format_number(r["target"])
        times = f"{format_number(r['cpu_s'] * 1e3)} | {r['faster']:.2f}"
        lines.append(f"| {shown} | {r['implementation']} | {times} | {target} | {format_number(r['peak_mib'])} |")
    made = "; ".join(
        f"{what} {', '.join(dict.fromkeys(str(r[what]) for r in records))}"
        for what in ("rounds", "threads", "commit", "machine", "torch")
    )
    return "\n".join([*lines, "", f"Medians of interleaved rounds; {made}."])
