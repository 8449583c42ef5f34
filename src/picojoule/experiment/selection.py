"""Which strength of a sweep to use, decided on validation data alone."""

import json
from collections import defaultdict
from statistics import fmean

from picojoule.experiment.record import Record

TOLERANCE = 0.01
"""A strength may cost this much validation accuracy against the best of its sweep."""


def mark_chosen(records: list[Record]) -> None:
    """Set `chosen` on the records of every sweep: True for the strength with the fewest validation accumulates
    among those within `TOLERANCE` of the sweep's best validation accuracy (means over seeds).

    A sweep is one method with the same other options and time steps; runs that collapsed are not chosen.
    """
    sweeps: dict[str, dict[float, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record["strength"] is not None:
            others = {name: value for name, value in record.get("options", {}).items() if name != "strength"}
            others["timesteps"] = record.get("timesteps")
            sweeps[record["method"] + json.dumps(others, sort_keys=True)][record["strength"]].append(record)
    for strengths in sweeps.values():
        if len(strengths) < 2:
            continue
        accuracy = {s: fmean(r["validation_accuracy"] for r in runs) for s, runs in strengths.items()}
        acs = {s: fmean(r["validation_acs"] for r in runs) for s, runs in strengths.items()}
        alive = [s for s, runs in strengths.items() if not any(r.get("collapsed") for r in runs)] or list(strengths)
        good = [s for s in alive if accuracy[s] >= max(accuracy[s] for s in alive) - TOLERANCE]
        chosen = min(good, key=lambda s: acs[s])
        for strength, runs in strengths.items():
            for record in runs:
                record["chosen"] = strength == chosen
