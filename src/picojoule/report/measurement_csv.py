"""The layers of a measurement as CSV: a row per layer, plain numbers, for a spreadsheet or a pipe."""

import csv
import io

from picojoule.report.load import Record

LABELS = ("name", "operation", "kind")
OF_MODEL = ("timesteps", "sequential_depth", "hybrid")
NUMBERS = (
    *("weights", "biases", "acs", "graded_events", "macs", "dense_macs", "dense_acs", "synapses"),
    *("events", "event_inputs", "active_values", "value_inputs", "outputs", "bias_adds", "operations_sd"),
    *("firing_rate", "silent_fraction", "saturated_fraction"),
)


def measurement_csv(record: Record) -> str:
    """A heading and a row per layer; counts per sample, fractions as fractions, energies in pJ by price list.

    The last columns are of the whole model, the same in every row.
    """
    lists = list(record["energy_pj"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    priced = [f"energy_pj {name}" for name in lists]
    writer.writerow([*LABELS, *NUMBERS, "operations_p5", "operations_p95", *priced, *OF_MODEL])
    of_model = [record.get(key) for key in OF_MODEL]
    for layer in record["layers"]:
        points = layer.get("operations_percentiles") or {}
        energies = [layer["energy_pj"].get(name) for name in lists]
        numbers = [*(layer.get(key) for key in NUMBERS), points.get("p5"), points.get("p95")]
        writer.writerow([*(layer[key] for key in LABELS), *numbers, *energies, *of_model])
    return text.getvalue()
