"""Sweeps of strengths as compact tables: totals, or layer by layer with what happened in training."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from picojoule.report.activity import spikes, spikes_per_neuron, spread, synops
from picojoule.report.columns import Column
from picojoule.report.load import Record
from picojoule.report.summary import mean
from picojoule.report.units import format_percent
from picojoule.report.variants import Variant, plain_of, variants


class Setting(NamedTuple):
    """A variant at one strength, with its seeds."""

    variant: Variant
    strength: float | None
    runs: list[Record]


def sweep_columns(records: Sequence[Record]) -> tuple[list[Column], list[str]]:
    """The columns and notes of the totals: one row per variant and strength."""
    rows = _settings(records)
    columns = [
        *_names(rows),
        Column("accuracy [%]", "", [_accuracy(row) for row in rows]),
        Column("SynOps", "per sample", [spread(synops(run) for run in row.runs) for row in rows]),
        Column("of plain [%]", "", [_share(row, records) for row in rows]),
        Column("spikes", "per sample", [spread(spikes(run) for run in row.runs) for row in rows]),
        Column(
            "silent [%]", "of neurons", [_percent(mean(r.get("silent_fraction") for r in row.runs)) for row in rows]
        ),
    ]
    note = "Means ± sd over seeds; SynOps are accumulates, shares are of the same seed's plain run."
    return [column for column in columns if any(column.cells)], [note]


def layer_columns(records: Sequence[Record]) -> tuple[list[Column], list[str]]:
    """The columns and notes of the layers: spikes per neuron, silent shares, and how training went."""
    rows = _settings(records)
    columns = [
        *_names(rows),
        Column("T", "steps", [_all(run.get("timesteps") for run in row.runs) for row in rows]),
        Column("accuracy [%]", "", [_accuracy(row) for row in rows]),
        Column("spikes per neuron", "by layer", [_by_layer(row) for row in rows]),
        Column("silent [%]", "worst layer", [_percent(_worst(row)) for row in rows]),
        Column("collapsed", "", [_collapsed(row) for row in rows]),
        Column("epochs", "", [_epochs(row) for row in rows]),
        Column("validation [%]", "last epoch", [_last(row) for row in rows]),
    ]
    notes = [
        "Means ± sd over seeds; spikes per neuron are events per neuron and sample of each population, from the input "
        "on; the worst layer is that of all seeds.",
        "Collapsed: the epochs in which some layer was silent on all validation data; accuracy is that of the selected "
        "checkpoint on test data, the last column what the last epoch came to.",
    ]
    return [column for column in columns if any(column.cells)], notes


def _settings(records: Sequence[Record]) -> list[Setting]:
    return [Setting(v, strength, runs) for v in variants(records) for strength, runs in v.by_strength().items()]


def _names(rows: Sequence[Setting]) -> list[Column]:
    places = [Column(key, "", [getattr(row.variant, key) for row in rows], True) for key in ("dataset", "network")]
    return [
        *[column for column in places if len(set(column.cells)) > 1],
        Column("method", "", [row.variant.label for row in rows], True),
        Column("strength", "", [_strength(row) for row in rows]),
        Column("seeds", "", [str(len(row.runs)) for row in rows]),
    ]


def _strength(row: Setting) -> str:
    if row.strength is None:
        return ""
    name = "" if row.variant.swept == "strength" else f"{row.variant.swept.rpartition(':')[2]} "
    return f"{name}{row.strength:g}"


def _accuracy(row: Setting) -> str:
    return spread((100 * run["accuracy"] for run in row.runs), "{:.2f}")


def _share(row: Setting, records: Sequence[Record]) -> str:
    pairs = [(run, plain_of(run, records)) for run in row.runs]
    return _percent(mean(synops(run) / synops(plain) for run, plain in pairs if plain and synops(plain)))


def _by_layer(row: Setting) -> str:
    """The mean over seeds of each population, in the order of the network."""
    found: dict[str, list[float | None]] = {}
    for run in row.runs:
        for population in run.get("neurons") or []:
            found.setdefault(population["name"], []).append(spikes_per_neuron(run, population))
    means = [mean(values) for values in found.values()]
    return " / ".join("?" if value is None else f"{value:.{2 if value >= 0.1 else 3}f}" for value in means)


def _worst(row: Setting) -> float | None:
    shares = [p.get("silent_fraction") for run in row.runs for p in run.get("neurons") or []]
    return max((share for share in shares if share is not None), default=None)


def _collapsed(row: Setting) -> str:
    """In which epoch each seed collapsed, counted through all phases."""
    known = [run for run in row.runs if run.get("history")]
    if not known:
        return ""
    said = {run.get("seed"): text for run in known if (text := _silence(run))}
    if len(known) == 1:
        return next(iter(said.values()), "no")
    return ", ".join(f"seed {seed}: {text}" for seed, text in said.items()) or "no"


def _silence(run: Record) -> str:
    """Since when, or until when, some layer was silent; empty if none ever was."""
    silent = [bool(epoch.get("collapsed")) for epoch in run["history"]]
    if True not in silent:
        return ""
    last = len(silent) - silent[::-1].index(True)
    return f"until epoch {last}" if last < len(silent) else f"from epoch {_start_of_end(silent)}"


def _start_of_end(silent: list[bool]) -> int:
    """The first epoch, from 1, of the stretch that lasts to the end."""
    return len(silent) - silent[::-1].index(False) + 1 if False in silent else 1


def _epochs(row: Setting) -> str:
    """Epochs that were trained, of those planned where training stopped early."""
    said = []
    for run in row.runs:
        done, planned = len(run.get("history") or []), (run.get("config") or {}).get("epochs")
        if done:
            said.append(f"{done} of {planned}" if planned and done < planned else str(done))
    return _all(said)


def _last(row: Setting) -> str:
    last = [run["history"][-1].get("validation_accuracy") for run in row.runs if run.get("history")]
    return spread((100 * accuracy for accuracy in last if accuracy is not None), "{:.2f}")


def _all(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else format_percent(fraction)
