"""The layers of a measurement as CSV: a row per layer, plain numbers, for a spreadsheet or a pipe."""

import csv
import io

from picojoule.report.load import Record

LABELS = ("name", "operation", "kind")
NUMBERS = (
    *("weights", "biases", "acs", "graded_events", "macs", "dense_macs", "dense_acs", "synapses"),
    *("events", "event_inputs", "active_values", "value_inputs", "outputs", "bias_adds", "operations_sd"),
    *("firing_rate", "silent_fraction", "saturated_fraction"),
)


def measurement_csv(record: Record) -> str:
    """A heading and a row per layer; counts per sample, fractions as fractions, energies in pJ by price list."""
    lists = list(record["energy_pj"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*LABELS, *NUMBERS, "operations_p5", "operations_p95", *(f"energy_pj {name}" for name in lists)])
    for layer in record["layers"]:
        points = layer.get("operations_percentiles") or {}
        energies = [layer["energy_pj"].get(name) for name in lists]
        numbers = [layer.get(key) for key in NUMBERS]
        writer.writerow([*(layer[key] for key in LABELS), *numbers, points.get("p5"), points.get("p95"), *energies])
    return text.getvalue()
