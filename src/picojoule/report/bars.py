"""Bar charts of the page: energy by layer and silent neurons by layer, as plain plotly dictionaries."""

from collections.abc import Sequence
from html import escape

from picojoule.report.load import Record
from picojoule.report.marks import COLORS, Figure, bar_marker, legend, places_of
from picojoule.report.summary import Row, mean, scope
from picojoule.report.units import energy_unit, format_energy, format_percent


def layer_figure(rows: Sequence[Row]) -> Figure | None:
    """Energy of each layer, stacked to one bar per row of the table; None if no record has layers."""
    energies = {row.label: _layer_energies(row) for row in rows}
    energies = {label: layers for label, layers in energies.items() if layers}
    if not energies:
        return None
    name, size = energy_unit(sum(layers.values()) for layers in energies.values())
    layer_names = dict.fromkeys(layer for layers in energies.values() for layer in layers)
    data = [_layer_bars(n, layer, energies, size) for n, layer in enumerate(layer_names)]
    title = f"energy per sample [{name}]<br>{escape(scope(rows))}"
    lines = max(1 + label.count(", ") for label in energies)
    layout = {
        "barmode": "stack",
        "bargap": 0.35,
        "height": 200 + len(energies) * max(44, 20 * lines),
        "margin": {"l": 8, "r": 16, "t": 8, "b": 48},
        "xaxis": {"title": {"text": title}, "separatethousands": True, "automargin": True},
        "yaxis": {"autorange": "reversed", "automargin": True},
        "legend": legend(),
    }
    return {"data": data, "layout": layout}


def silent_figure(rows: Sequence[Row]) -> Figure | None:
    """The share of neurons without a spike on any sample, by layer; None if no record has neurons."""
    places = places_of(rows)
    drawn = [row for row in rows if _silent_shares(row)]
    data = [_silent_bars(n, row, places[row.method]) for n, row in enumerate(drawn)]
    if not data:
        return None
    layout = {
        "barmode": "group",
        "height": 380,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "xaxis": {"title": {"text": "layer of neurons"}, "type": "category", "automargin": True},
        "yaxis": {"title": {"text": "silent neurons [%]"}, "rangemode": "tozero"},
        "legend": legend(),
        "showlegend": True,
    }
    return {"data": data, "layout": layout}


def _layer_energies(row: Row) -> dict[str, float]:
    """Mean energy of each layer over the seeds, in picojoules."""
    found = [_energies_of(run, row.hardware) for run in row.runs if run.get("layers")]
    names = dict.fromkeys(name for layers in found for name in layers)
    return {name: sum(layers.get(name, 0.0) for layers in found) / len(found) for name in names}


def _energies_of(run: Record, hardware: str) -> dict[str, float]:
    energies: dict[str, float] = {}
    for layer in run["layers"]:
        energy = (layer.get("energy_pj") or {}).get(hardware)
        if energy is not None:
            energies[str(layer.get("name"))] = energies.get(str(layer.get("name")), 0.0) + energy
    return energies


def _layer_bars(place: int, layer: str, energies: dict[str, dict[str, float]], size: float) -> Figure:
    there = {label: layers[layer] for label, layers in energies.items() if layer in layers}
    return {
        "type": "bar",
        "orientation": "h",
        "name": escape(layer),
        "x": [energy / size for energy in there.values()],
        "y": [_folded(label) for label in there],
        "hovertext": [
            f"<b>{escape(layer)}</b><br>{escape(label)}<br>{format_energy(energy)}" for label, energy in there.items()
        ],
        "hoverinfo": "text",
        "marker": bar_marker(place),
        "meta": {"role": "layer", "color": place % COLORS},
    }


def _folded(label: str) -> str:
    """One line per setting, so that the labels leave room for the bars."""
    return escape(label).replace(", ", "<br>")


def _silent_bars(pattern: int, row: Row, place: int) -> Figure:
    shares = _silent_shares(row)
    return {
        "type": "bar",
        "name": escape(row.label),
        "x": [escape(name) for name in shares],
        "y": [100 * share for share in shares.values()],
        "hovertext": [
            f"<b>{escape(row.label)}</b><br>{escape(name)}: {format_percent(share)}% silent"
            for name, share in shares.items()
        ],
        "hoverinfo": "text",
        "marker": bar_marker(pattern),
        "meta": {"role": "silent", "color": place % COLORS},
    }


def _silent_shares(row: Row) -> dict[str, float]:
    """Mean share of silent neurons of each layer over the seeds."""
    names = dict.fromkeys(neuron.get("name") for run in row.runs for neuron in run.get("neurons") or [])
    shares = {str(name): mean(_silent(run, name) for run in row.runs) for name in names}
    return {name: share for name, share in shares.items() if share is not None}


def _silent(run: Record, name: object) -> float | None:
    shares = [n.get("silent_fraction") for n in run.get("neurons") or [] if n.get("name") == name]
    return mean(shares)
