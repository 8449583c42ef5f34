"""Recorded benchmarks: a row per quantity, its ratio beside the target."""

from typing import Any

from picojoule.report.units import format_number

Record = dict[str, Any]


def benchmark_table(records: list[Record]) -> str:
    """Markdown: median ratio to the plain run, the target, and the median times of both."""
    lines = ["| quantity | ratio | target | plain [ms] | metered [ms] |", "| :-- | --: | --: | --: | --: |"]
    for r in records:
        times = " | ".join(format_number(r[key] * 1e3) for key in ("plain_s", "metered_s"))
        lines.append(f"| {r['quantity']} | {r['ratio']:.2f} | {r['target']:.2f} | {times} |")
    made = "; ".join(
        f"{what} {', '.join(dict.fromkeys(str(r[what]) for r in records))}"
        for what in ("model", "rounds", "threads", "commit", "machine", "torch")
    )
    return "\n".join([*lines, "", f"Medians of neighbouring runs; {made}."])
