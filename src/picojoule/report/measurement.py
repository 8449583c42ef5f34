"""One measurement as text: a row per layer, and the energy at every price list."""

from typing import Any

from picojoule.report.columns import Column
from picojoule.report.table import aligned
from picojoule.report.units import format_energy, format_percent


def measurement_table(record: dict[str, Any]) -> str:
    """The layers, totals, energies and neuron health of one measured model, for a terminal."""
    priced, layers = record["hardware"], record["layers"]
    columns = [
        Column("layer", "", [*(layer["name"] for layer in layers), "all"], True),
        Column("operation", "", [*(layer["operation"] for layer in layers), ""], True),
        Column("input", "", [*(layer["kind"] for layer in layers), ""], True),
        *(_counts(heading, key, record) for heading, key in (("ACs", "acs"), ("MACs", "dense_macs"))),
        Column("energy", priced, [*(format_energy(layer["energy_pj"][priced]) for layer in layers), ""]),
    ]
    table = "\n".join("  ".join(line).rstrip() for line in zip(*map(aligned, columns), strict=True))
    lines = [
        f"{record['model']} on {record['dataset']}, {record['split']} split, {record['samples']:,} samples, "
        f"T = {record['timesteps']}; all numbers per sample",
        "",
        table,
        "",
        f"accuracy         {format_percent(record['accuracy'], 2)} %",
        f"silent neurons   {format_percent(record['silent_fraction'])} %",
    ]
    for name, energy in record["energy_pj"].items():
        span = ""
        if energy["low"] != energy["high"]:
            span = f" ({format_energy(energy['low'])} to {format_energy(energy['high'])})"
        lines.append(f"{name}: {format_energy(energy['value'])}{span}, {record['hardware_notes'][name]['scope']}")
    lines += [f"not counted: {what}" for what in record["uncounted"]]
    return "\n".join(lines)


def _counts(heading: str, key: str, record: dict[str, Any]) -> Column:
    return Column(heading, "", [f"{part[key]:,.0f}" for part in (*record["layers"], record)])
