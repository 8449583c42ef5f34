"""Recorded conversions side by side: what each loses after its steps."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from picojoule.report.columns import Column
from picojoule.report.conversion import choices, interval
from picojoule.report.load import Record
from picojoule.report.units import format_percent


def conversion_columns(records: Sequence[Record]) -> tuple[list[Column], list[str]]:
    """The columns and notes of conversions: points lost after each number of steps.

    Networks of one file name on one dataset, converted by the same choices, are one row, which has their means.
    """
    rows = defaultdict(list)
    for record in records:
        found = record["conversion"]
        name = Path(record["conversion_of"]).name
        form = [found["chosen"]["form"]] if "form" in found["chosen"] else []
        rows[name, record["dataset"], ", ".join([choices(found["chosen"]["options"]), *form])].append(found)
    found = list(rows.values())
    names, datasets, chosen = zip(*rows, strict=True)
    several = any(len(row) > 1 for row in found)
    accuracies = [mean(one["ann_accuracy"] for one in row) for row in found]
    agreements = [mean(one["paired"]["agreement"] for one in row) for row in found]
    last = [[one["snn"][-1].get("acs") for one in row] for row in found]
    columns = [
        Column("model", "", list(names), True),
        *([Column("networks", "", [str(len(row)) for row in found])] if several else []),
        Column("dataset", "", list(datasets), True),
        Column("scales", "", list(chosen), True),
        Column("ANN", "accuracy [%]", [format_percent(accuracy, 2) for accuracy in accuracies]),
        *_losses(found),
        Column("at the last T", "± sd of networks" if several else "95 % interval", [_spread(row) for row in found]),
        Column("alike", "% of images", [format_percent(share, 2) for share in agreements]),
        Column("ACs", "at the last T, per image", ["" if None in acs else f"{mean(acs):,.0f}" for acs in last]),
    ]
    commits = ", ".join(dict.fromkeys(str(record.get("commit")) for record in records))
    sizes = ", ".join(dict.fromkeys(f"{one['paired']['images']:,}" for row in found for one in row))
    note = (
        "A network is made for its last T and read earlier; losses are paired differences on the same "
        f"{sizes} test images, negative where the spiking network is better; commit {commits}."
    )
    return columns, [note]


def _losses(rows: Sequence[Sequence[Record]]) -> list[Column]:
    curves = [[_curve(one) for one in row] for row in rows]
    every = sorted({steps for row in curves for curve in row for steps in curve})

    def cell(row: Sequence[dict[int, float]], steps: int) -> str:
        return f"{100 * mean(curve[steps] for curve in row):.2f}" if all(steps in curve for curve in row) else ""

    return [Column(f"T={steps}", "points lost", [cell(row, steps) for row in curves]) for steps in every]


def _curve(found: Record) -> dict[int, float]:
    """The share of accuracy lost after each number of steps."""
    return {point["timesteps"]: found["ann_accuracy"] - point["accuracy"] for point in found["snn"]}


def _spread(row: Sequence[Record]) -> str:
    if len(row) == 1:
        return interval(row[0]["paired"])
    losses = [100 * one["paired"]["loss"] for one in row]
    return f"{mean(losses):.2f} ± {stdev(losses):.2f}"
