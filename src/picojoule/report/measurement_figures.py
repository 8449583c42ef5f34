"""Figures of a measurement, as plain plotly dictionaries: energies, parts, constants, neuron health."""

from collections.abc import Sequence
from html import escape
from typing import Any

from picojoule.report.load import Record
from picojoule.report.marks import COLORS, Figure, bar_marker, legend
from picojoule.report.summary import hardware_of
from picojoule.report.units import energy_unit, format_energy, format_percent

LINEAR = 50.0  # energies further apart than this are drawn on a logarithmic axis
LEAST_SWING = 0.005  # of the energy; a constant that moves it less is not drawn
MODEL, ANN = 4, 0  # places in the palette


def measurement_figures(record: Record) -> dict[str, list[tuple[str, Figure]]]:
    """Captioned figures by the block they belong to."""
    found = {
        "energy": [*_energies(record), *_parts(record), *_tornados(record)],
        "baselines": _baselines(record),
        "neurons": [*_rates(record), *_shares(record)],
    }
    return {block: figures for block, figures in found.items() if figures}


def _energies(record: Record) -> list[tuple[str, Figure]]:
    energies = {name: e for name, e in record["energy_pj"].items() if e["value"]}
    if not energies:
        return []
    caption = "Energy per sample at each price list; the line is the interval that the sources of the prices allow."
    return [(caption, _bars(energies, [MODEL] * len(energies)))]


def _baselines(record: Record) -> list[tuple[str, Figure]]:
    found = record.get("baselines") or {}
    own = record["energy_pj"][hardware_of(record)]
    if not found or not own["value"]:
        return []
    energies = {"this model": own, **{b["title"]: b["energy_pj"] for b in found.values()}}
    caption = f"This model, priced by {hardware_of(record)}, against ANNs on the same synapses."
    return [(caption, _bars(energies, [MODEL] + [ANN] * len(found)))]


def _bars(energies: dict[str, dict[str, float]], places: Sequence[int]) -> Figure:
    """Energies with intervals: bars, or points where they are too far apart for a linear axis."""
    values = [e["value"] for e in energies.values()]
    name, size = energy_unit(values)
    least = min((v for v in values if v), default=1.0)
    log = max(values) > LINEAR * least
    data = [_bar(label, e, size, place, log) for (label, e), place in zip(energies.items(), places, strict=True)]
    axis = {"title": {"text": f"energy per sample [{name}]"}, "separatethousands": True, "automargin": True}
    axis |= {"type": "log", "dtick": "D2"} if log else {"rangemode": "tozero"}
    return _lying(data, axis, len(energies))


def _bar(label: str, energy: dict[str, float], size: float, place: int, log: bool) -> Figure:
    value, low, high = (energy[bound] / size for bound in ("value", "low", "high"))
    span = "" if low == high else f"<br>{format_energy(energy['low'])} to {format_energy(energy['high'])}"
    kind: Figure = {"type": "scatter", "mode": "markers"} if log else {"type": "bar", "orientation": "h"}
    marker: Figure = {"size": 12, "line": {"width": 1}} if log else bar_marker(0)
    return {
        **kind,
        "x": [value],
        "y": [escape(label)],
        "error_x": {"type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low]},
        "hovertext": [f"<b>{escape(label)}</b><br>{format_energy(energy['value'])}{span}"],
        "hoverinfo": "text",
        "showlegend": False,
        "marker": marker,
        "meta": {"role": "energy", "color": place},
    }


def _parts(record: Record) -> list[tuple[str, Figure]]:
    by_list = {
        name: parts
        for name, parts in (record.get("energy_parts_pj") or {}).items()
        if len([e for e in parts.values() if e]) > 1
    }
    if not by_list:
        return []
    names = dict.fromkeys(part for parts in by_list.values() for part in parts)
    data = [_part(n, part, by_list) for n, part in enumerate(names)]
    axis = {"title": {"text": "share of the energy [%]"}, "range": [0, 100], "automargin": True}
    figure = _lying(data, axis, len(by_list))
    figure["layout"] |= {"barmode": "stack", "legend": legend(), "height": figure["layout"]["height"] + 90}
    return [("What the energy is spent on, at every price list that has more than one part.", figure)]


def _part(place: int, part: str, by_list: dict[str, dict[str, float]]) -> Figure:
    totals = {name: sum(parts.values()) for name, parts in by_list.items()}
    shares = {name: parts.get(part, 0.0) / totals[name] for name, parts in by_list.items()}
    return {
        "type": "bar",
        "orientation": "h",
        "name": escape(part),
        "x": [100 * share for share in shares.values()],
        "y": [escape(name) for name in shares],
        "hovertext": [f"<b>{escape(part)}</b><br>{format_percent(share)} %" for share in shares.values()],
        "hoverinfo": "text",
        "marker": bar_marker(place),
        "meta": {"role": "part", "color": place % COLORS},
    }


def _tornados(record: Record) -> list[tuple[str, Figure]]:
    found = []
    for name, swings in (record.get("sensitivity") or {}).items():
        value = record["energy_pj"][name]["value"]
        moving = [s for s in swings if s["high_pj"] - s["low_pj"] >= LEAST_SWING * value > 0]
        if moving:
            caption = f"How far the range of each constant of {name} moves the energy; the diamond is its value."
            found.append((caption, _tornado(moving, value)))
    return found


def _tornado(swings: Sequence[Record], value: float) -> Figure:
    unit, size = energy_unit([value])
    data: list[Figure] = [
        {
            "type": "bar",
            "orientation": "h",
            "base": [s["low_pj"] / size for s in swings],
            "x": [(s["high_pj"] - s["low_pj"]) / size for s in swings],
            "y": [escape(s["constant"]) for s in swings],
            "hovertext": [
                f"<b>{escape(s['constant'])}</b><br>{format_energy(s['low_pj'])} to {format_energy(s['high_pj'])}"
                for s in swings
            ],
            "hoverinfo": "text",
            "showlegend": False,
            "marker": bar_marker(0),
            "meta": {"role": "constant", "color": 1},
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": [value / size for _ in swings],
            "y": [escape(s["constant"]) for s in swings],
            "hoverinfo": "skip",
            "showlegend": False,
            "marker": {"symbol": "diamond", "size": 12, "line": {"width": 1}},
            "meta": {"role": "front", "color": 0},
        },
    ]
    return _lying(data, {"title": {"text": f"energy per sample [{unit}]"}, "automargin": True}, len(swings))


def _rates(record: Record) -> list[tuple[str, Figure]]:
    neurons = [n for n in record.get("neurons") or [] if n.get("rate_histogram")]
    if not neurons:
        return []
    bins = len(neurons[0]["rate_histogram"]) - 1
    labels = [f"{100 * n // bins}–{100 * (n + 1) // bins}" for n in range(bins)] + ["> 100"]
    if not any(n["rate_histogram"][-1] for n in neurons):
        labels = labels[:-1]
    data = [_histogram(place, n, labels) for place, n in enumerate(neurons)]
    axes = ("events per step [%] (activations: share of non-zeros)", "share of the neurons [%]")
    return [("How often the neurons of each layer fire, over the whole set.", _standing(data, *axes))]


def _histogram(place: int, neurons: Record, labels: Sequence[str]) -> Figure:
    shares = [number / neurons["count"] for number in neurons["rate_histogram"]][: len(labels)]
    return _group(place, neurons["name"], labels, shares)


def _shares(record: Record) -> list[tuple[str, Figure]]:
    neurons = record.get("neurons") or []
    kinds = ("silent", "rarely active", "saturated")
    data = []
    for place, kind in enumerate(kinds):
        known = {n["name"]: n.get(f"{kind.replace(' ', '_')}_fraction") for n in neurons}
        shares = {name: share for name, share in known.items() if share is not None}
        if any(shares.values()):
            data.append(_group(place + 1, kind, list(shares), list(shares.values())))
    if not data:
        return []
    caption = "Neurons that never fired, in fewer than 1 % of the samples, or at every step of every sample."
    return [(caption, _standing(data, "layer of neurons", "share of the neurons [%]"))]


def _group(place: int, name: str, labels: Sequence[str], shares: Sequence[float]) -> Figure:
    return {
        "type": "bar",
        "name": escape(name),
        "x": [escape(label) for label in labels],
        "y": [100 * share for share in shares],
        "hovertext": [
            f"<b>{escape(name)}</b><br>{escape(label)}: {format_percent(share)} %"
            for label, share in zip(labels, shares, strict=True)
        ],
        "hoverinfo": "text",
        "marker": bar_marker(place),
        "meta": {"role": "health", "color": place % COLORS},
    }


def _standing(data: list[Figure], x: str, y: str) -> Figure:
    layout: dict[str, Any] = {
        "barmode": "group",
        "height": 380,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "xaxis": {"title": {"text": x}, "type": "category", "automargin": True},
        "yaxis": {"title": {"text": y}, "rangemode": "tozero"},
        "legend": legend(),
        "showlegend": True,
    }
    return {"data": data, "layout": layout}


def _lying(data: list[Figure], axis: dict[str, Any], bars: int) -> Figure:
    layout: dict[str, Any] = {
        "bargap": 0.35,
        "height": 110 + 44 * bars,
        "margin": {"l": 8, "r": 16, "t": 8, "b": 48},
        "xaxis": axis,
        "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
    }
    return {"data": data, "layout": layout}
