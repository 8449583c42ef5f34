"""What a measurement says, as a list of titled tables and sentences: the content of its text, Markdown and page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from picojoule.report.block import Block
from picojoule.report.columns import HYBRID_NOTE, Column
from picojoule.report.conversion import conversion_blocks
from picojoule.report.load import Record
from picojoule.report.summary import hardware_of
from picojoule.report.units import energy_unit, format_energy, format_number, format_percent

STORED = ("weight", "bias", "state", "activation", "event", "address")


def is_measurement(record: Record) -> bool:
    """Whether `picojoule measure` made this record."""
    return record.get("made_by") == "measure"


def measurement_title(record: Record) -> str:
    """What a page of this record alone is about."""
    if "conversion" in record:
        return f"Conversion of {_model(record)} on {record['dataset']}"
    return f"{_model(record)}: energy on {record['dataset']}"


def measurement_heading(record: Record) -> str:
    """What was measured, on what."""
    what = [] if record["method"] in ("unknown", "own model") else [record["method"], record["network"]]
    known = f" ({', '.join(what)})" if what else ""
    named = f"Conversion of {_model(record)}" if "conversion" in record else f"{_model(record)}{known}"
    return (
        f"{named} on {record['dataset']}, {record['split']} split, {record['samples']:,} samples, "
        f"{_steps(record)}; all numbers per sample"
    )


def _steps(record: Record) -> str:
    """T; the passes that need each other, where they are more than the steps; and whether it is a hybrid network."""
    steps, depth = record["timesteps"], record.get("sequential_depth")
    words = [f"T = {steps}", f"depth = {depth} (steps x passes)" if depth not in (None, steps) else ""]
    return ", ".join(filter(None, [*words, "hybrid" if record.get("hybrid") else ""]))


def _model(record: Record) -> str:
    """The file name of the model; of a factory, with its function."""
    return Path(record["model"]).name


def measurement_blocks(record: Record) -> list[Block]:
    """The parts of a measurement in the order they are read."""
    blocks = (
        *conversion_blocks(record),
        *(_layers(record), _energy(record), _baselines(record), _neurons(record), _traffic(record)),
        *(_conventions(record), _neurobench(record), _power(record), _counting(record), _uncounted(record)),
    )
    return [block for block in blocks if block is not None]


def _outcome(record: Record) -> str:
    accuracy = record.get("accuracy")
    known = "Accuracy not known" if accuracy is None else f"Accuracy {format_percent(accuracy, 2)} %"
    updates = (f"{_count(n)} {kind}" for kind, n in (record.get("neuron_updates") or {}).items())
    return f"{known}; neuron updates: {', '.join(updates) or 'none'}."


def _spread(record: Record) -> str:
    """How much the operations differ from sample to sample."""
    text = f"ACs {_count(record['acs'])} (sd over samples {_count(record['acs_sd'])})"
    points = record.get("operations_percentiles")
    if points:
        text += (
            f"; ACs and MACs of non-zeros together: p5 {_count(points['p5'])}, median {_count(points['p50'])}, "
            f"p95 {_count(points['p95'])}, most {_count(points['max'])}"
        )
    return f"{text}."


def _layers(record: Record) -> Block:
    priced, layers = hardware_of(record), record["layers"]
    energies = [layer["energy_pj"][priced] for layer in layers]
    total = record["energy_pj"][priced]["value"]
    rest = total - sum(energies)
    shown = [*layers, *([_Rest] if abs(rest) > 1e-9 * total else [])]
    name, size = energy_unit(e for e in [*energies, total] if e >= 0.01 * total)
    energies = [*energies, *([rest] if len(shown) > len(layers) else []), total]
    columns = [
        Column("layer", "", [*(layer["name"] for layer in shown), "all"], True),
        Column("operation", "", [*(layer["operation"] for layer in shown), ""], True),
        Column("input", "", [*(layer["kind"] for layer in shown), ""], True),
        Column("rate [%]", "of input", [*(_percent(layer.get("firing_rate")) for layer in shown), ""]),
        _operations("ACs", "", "acs", record, shown),
        _operations("of them graded", "", "graded_events", record, shown),
        _operations("MACs", "dense", "dense_macs", record, shown),
        _operations("MACs", "of non-zeros", "macs", record, shown),
        Column(f"energy [{name}]", priced, [format_number(energy / size) for energy in energies]),
    ]
    if record["graded_events"] == record["acs"]:  # every event is worth one accumulate: nothing to tell apart
        columns = [c for c in columns if c.heading != "of them graded"]
    columns = [c for c in columns if c.heading == "ACs" or any(cell not in ("", "0") for cell in c.cells)]
    return Block("layers", "Operations by layer", columns, [_outcome(record), _spread(record)])


_Rest: dict[str, Any] = {"name": "(no layer)", "operation": "neurons, events sent, static", "kind": ""}


def _operations(heading: str, note: str, key: str, record: Record, layers: Sequence[Record]) -> Column:
    cells = ["" if key not in layer else _count(layer[key]) for layer in layers]
    return Column(heading, note, [*cells, _count(record[key])])


def _energy(record: Record) -> Block:
    energies = record["energy_pj"]
    moved = {name: (record.get("sensitivity") or {}).get(name) or [] for name in energies}
    columns = [
        Column("price list", "", list(energies), True),
        Column("energy", "", [format_energy(e["value"]) for e in energies.values()]),
        Column("range", "of the prices", [_range(e) for e in energies.values()]),
        Column("most moved by", "", [_swing(swings) for swings in moved.values()], True),
        Column("scope", "", [_scope(record, name) for name in energies], True),
    ]
    lines = [f"{name} is spent on {parts}" for name in energies if (parts := _parts(record, name))]
    lines += [what for found in (record.get("unpriced") or {}).values() for what in found]
    return Block("energy", "Energy", [c for c in columns if any(c.cells)], lines)


def _scope(record: Record, name: str) -> str:
    """What an energy includes, and which operations have no price in it."""
    scope = ((record.get("hardware_notes") or {}).get(name) or {}).get("scope") or ""
    left = [what.split()[1] for what in (record.get("unpriced") or {}).get(name) or []]  # "7744 MACs per sample: ..."
    return f"{scope}; without the {' and '.join(left)}" if left else scope


def _parts(record: Record, name: str) -> str:
    parts = {p: e for p, e in ((record.get("energy_parts_pj") or {}).get(name) or {}).items() if e}
    total = sum(parts.values())
    if len(parts) < 2 or not total:
        return ""
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    large = [f"{part} {format_percent(e / total)} %" for part, e in ordered if e >= 0.005 * total]
    small = sum(e for _, e in ordered if e < 0.005 * total)
    return ", ".join([*large, *([f"other {format_percent(small / total)} %"] if small else [])])


def _swing(swings: Sequence[Record]) -> str:
    if not swings or swings[0]["low_pj"] == swings[0]["high_pj"]:
        return ""
    return f"{swings[0]['constant']} ({_span(swings[0]['low_pj'], swings[0]['high_pj'])})"


def _baselines(record: Record) -> Block | None:
    found, crossings = record.get("baselines") or {}, record.get("crossover") or {}
    if not found:
        return None
    rates = [(crossings.get(name) or {}).get("rate") for name in found]
    columns = [
        Column("ANN", "same synapses", [b["title"] for b in found.values()], True),
        Column("energy", "", [format_energy(b["energy_pj"]["value"]) for b in found.values()]),
        Column("this model", "of that", [_times(b["ratio"]) for b in found.values()]),
        Column("even at", "events per neuron and step", [f"{_percent(r)} %" if r is not None else "" for r in rates]),
        Column("MACs", "", [_count(b["macs"]) for b in found.values()]),
        Column("assumes", "", [b["note"] for b in found.values()], True),
    ]
    sentences = [(crossings.get(name) or {}).get("sentence") or "" for name in found]
    verdict = Column("", "", [_verdict(b["ratio"]) for b in found.values()], True)
    own = format_energy(record["energy_pj"][hardware_of(record)]["value"])
    title = f"Against ANNs with the same synapses: this model uses {own} by {hardware_of(record)}"
    known = next((c["model_rate"] for c in crossings.values() if c.get("model_rate") is not None), None)
    short = [*columns[:3], verdict]
    if known is not None:
        short.append(Column("crossover", "", [s.rpartition("; ")[2] for s in sentences], True))
        title = f"{title} at {100 * known:.3g} % (events per neuron and step)"
    brief = Block("baselines", title, short, [])
    return Block("baselines", title, columns, [f"{_capital(s)}." for s in sentences if s], brief)


def _verdict(ratio: float | None) -> str:
    return "" if ratio is None else "wins" if ratio < 1 else "loses" if ratio > 1 else "even"


def _neurons(record: Record) -> Block | None:
    neurons = record.get("neurons") or []
    if not neurons:
        return None
    columns = [
        Column("neurons", "", [n["name"] for n in neurons], True),
        Column("kind", "", [n["kind"] for n in neurons], True),
        Column("number", "", [f"{n['count']:,}" for n in neurons]),
        Column("rate [%]", "per step", [_percent(n["rate"]) for n in neurons]),
        *(
            Column(heading, note, [_percent(n.get(key)) for n in neurons])
            for heading, note, key in (
                ("silent [%]", "on all samples", "silent_fraction"),
                ("saturated [%]", "always firing", "saturated_fraction"),
                ("rarely [%]", "in < 1 % of samples", "rarely_active_fraction"),
                ("several [%]", "events per sample", "multiple_fraction"),
            )
        ),
    ]
    worst = [line for line in (_worst(neurons, key) for key in ("silent", "saturated")) if line]
    lines = [f"{_capital(' and '.join(worst))}."] if worst else ["No neuron is silent or saturated."]
    if not any(n.get("multiple_fraction") for n in neurons):
        columns.pop()
    return Block("neurons", "Neuron health", [c for c in columns if any(c.cells)], lines)


def _worst(neurons: Sequence[Record], what: str) -> str:
    known = [n for n in neurons if n.get(f"{what}_fraction")]
    if not known:
        return ""
    n = max(known, key=lambda n: n[f"{what}_fraction"])
    number = round(n[f"{what}_fraction"] * n["count"])
    return f"most {what} is {n['name']}: {number:,} of {n['count']:,} neurons"


def _traffic(record: Record) -> Block | None:
    moved = {m: t for m, t in (record.get("traffic") or {}).items() if t["accesses"]}
    if not moved:
        return None
    columns = [
        Column("movement", "", [m.replace("_", " ") for m in moved], True),
        Column("accesses", "", [_count(t["accesses"]) for t in moved.values()]),
        Column("bits", "", [_count(t["bits"]) for t in moved.values()]),
    ]
    brief = Block("traffic", "Memory traffic", [], [_moved(moved, way) for way in ("reads", "writes")])
    return Block("traffic", "Memory traffic", columns, [], brief)


def _moved(moved: dict[str, dict[str, float]], way: str) -> str:
    bits = {kind: moved[f"{kind}_{way}"]["bits"] for kind in STORED if f"{kind}_{way}" in moved}
    parts = ", ".join(f"{kind} {_bits(n)}" for kind, n in bits.items())
    return f"{way} {_bits(sum(bits.values()))}: {parts}"


def _conventions(record: Record) -> Block | None:
    found = record.get("conventions") or {}
    if not found:
        return None
    columns = [
        Column("convention", "", list(found), True),
        Column("it would report", "per sample", [c["headline"] for c in found.values()]),
        Column("of exact [%]", "", [_of_exact(c) for c in found.values()]),
        Column("its energy", "", [_joules(c["joules"]) for c in found.values()], True),
    ]
    lines = [f"{c['tool']}: {why}" for c in found.values() for why in c["differences"]]
    return Block("conventions", "What other tools would report", [c for c in columns if any(c.cells)], lines)


def _of_exact(convention: Record) -> str:
    exact = convention["exact_operations"]
    return format_percent(convention["operations"] / exact) if exact else ""


def _joules(joules: dict[str, float]) -> str:
    """By device or preset; of more than two the least and the greatest."""
    ordered = sorted(joules, key=lambda device: joules[device])
    devices = [ordered[0], ordered[-1]] if len(ordered) > 2 else list(joules)
    return " – ".join(f"{format_energy(1e12 * joules[device])} ({device})" for device in devices)


def _neurobench(record: Record) -> Block | None:
    found = record.get("neurobench")
    if not found:
        return None
    flat = {
        f"{key}{f'.{inner}' if inner else ''}": value
        for key, values in found.items()
        for inner, value in (values.items() if isinstance(values, dict) else [("", values)])
    }
    columns = [
        Column("metric", "", list(flat), True),
        Column("value", "", [f"{v:,.6g}" if isinstance(v, float) else str(v) for v in flat.values()]),
    ]
    return Block("neurobench", "NeuroBench 2.3", columns, [])


def _power(record: Record) -> Block | None:
    found = record.get("power")
    if not found:
        return None
    runs = f"{found['repeats']:,} runs of {found['samples']:,} samples in {format_number(found['wall_s'])} s"
    lines = [f"{1e3 * found['wall_s_per_sample']:.4g} ms per sample by wall-clock on {record['device']} ({runs})."]
    if found["joules_per_sample"] is None:
        reason = found["note"].removeprefix("joules are not available: ")
        return Block("power", "On this machine", [], [*lines, f"Joules: not measured, {reason}."])
    own = 1e12 * found["joules_per_sample"]
    lines.append(f"{format_energy(own)} per sample measured by {found['source']}; {found['note']}.")
    if found.get("idle_w") is not None:
        lines.append(f"{found['idle_w']:.3g} W just before, when idle.")
    for name, c in found["calibration"].items():
        lines.append(
            f"Calibration: {name} estimates {format_energy(c['estimated_pj'])}, {100 * c['error']:+.3g} % "
            "against what was measured on this machine."
        )
    return Block("power", "On this machine", [], lines)


def _counting(record: Record) -> Block | None:
    notes = [*(record.get("counting") or []), *([HYBRID_NOTE] if record.get("hybrid") else [])]
    brief = Block("counting", "How it was counted", [], [" ".join(notes)])
    return Block("counting", "How it was counted", [], notes, brief) if notes else None


def _uncounted(record: Record) -> Block:
    found = [str(what) for what in record.get("uncounted") or []]
    return Block("uncounted", "Not counted", [], found or ["nothing that was seen."])


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g} ×"


def _range(energy: dict[str, float]) -> str:
    return "" if energy["low"] == energy["high"] else _span(energy["low"], energy["high"])


def _span(low: float, high: float) -> str:
    """From low to high; where both read the same, how far they are apart."""
    _, size = energy_unit([high])
    if format_number(low / size) == format_number(high / size):
        return f"within {100 * (high - low) / high:.1g} %"
    return f"{format_energy(low)} – {format_energy(high)}"


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else format_percent(fraction)


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 or number == round(number) else f"{number:,.3g}"


def _bits(number: float) -> str:
    name, size = next((unit for unit in (("Gbit", 1e9), ("Mbit", 1e6), ("kbit", 1e3)) if number >= unit[1]), ("bit", 1))
    return f"{format_number(number / size) if size > 1 else _count(number)} {name}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
