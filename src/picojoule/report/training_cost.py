"""Recorded cost of training in one time step: a row per network and form."""

from typing import Any

from picojoule.report.units import format_number

Record = dict[str, Any]


def training_cost_table(records: list[Record]) -> str:
    """Markdown: seconds, CPU time, how many times as fast as T = 4, and peak memory beside that of T = 4."""
    lines = ["| network | form | time [s] | CPU time [s] | times as fast | peak memory [MiB] | of T = 4 [%] |"]
    lines.append("| :-- | :-- | --: | --: | --: | --: | --: |")
    for r in records:
        numbers = [format_number(r["seconds"]), format_number(r["cpu_s"]), f"{r['faster']:.2f}"]
        numbers += [format_number(r["peak_mib"]), f"{100 * r['of_memory']:.0f}"]
        lines.append(f"| {r['network']} | {r['implementation']} | {' | '.join(numbers)} |")
    facts = ("batches", "batch_size", "precision", "rounds", "threads", "load", "commit", "machine", "torch")
    made = "; ".join(
        f"{what.replace('_', ' ')} {', '.join(dict.fromkeys(str(r[what]) for r in records))}" for what in facts
    )
    return "\n".join([*lines, "", f"Medians of interleaved rounds, in fresh processes; {made}."])
