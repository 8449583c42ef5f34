"""Accuracy against energy, as a plain plotly dictionary.

Colours are not set here: a trace names its place in the page's palette (`meta.color`), and the page
paints it for the light or the dark scheme. Text goes through `html.escape`, since plotly reads some HTML.
"""

import math
from collections.abc import Sequence
from html import escape

from picojoule.report.load import Record
from picojoule.report.marks import COLORS, SYMBOLS, Figure, in_order, legend, places_of
from picojoule.report.summary import Row, hardware_of, pareto_rows, scope, synaptic_operations
from picojoule.report.units import energy_unit, format_energy, format_percent


def pareto_figure(records: Sequence[Record], rows: Sequence[Row]) -> Figure:
    """Accuracy against energy: a point per run, a cross of ± sd at each seed mean, the front as a line."""
    places = places_of(rows)
    name, size = energy_unit(row.energy_pj for row in rows)
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    data: list[Figure] = []
    layout: Figure = {"margin": {"l": 56, "r": 16, "t": 28, "b": 48}, "hovermode": "closest"}
    for panel, dataset in enumerate(datasets):
        here = [row for row in rows if row.dataset == dataset]
        runs = [run for run in records if run["dataset"] == dataset]
        axes = {"xaxis": _axis("x", panel), "yaxis": _axis("y", panel)}
        crosses = [_means(row, places, size) for row in here]
        traces = [_front(here, size), *_sweeps(here, places, size), *crosses, *_runs(runs, places, size)]
        data += [{**trace, **axes} for trace in traces]
        title = f"energy per sample [{name}]<br>{escape(scope(here))}"
        ticks = _log_ticks([_energy(run)["value"] / size for run in runs])
        layout |= _panel(panel, len(datasets), f"accuracy on {escape(dataset)} [%]", {"text": title}, ticks)
    _show_once(data)
    layout |= {"height": 120 + 380 * len(datasets), "legend": legend()}
    return {"data": data, "layout": layout}


def _runs(runs: list[Record], places: dict[str, int], size: float) -> list[Figure]:
    traces = []
    for method in in_order(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == method]
        place = places[method]
        trace = {
            "type": "scatter",
            "mode": "markers",
            "name": escape(method),
            "legendgroup": escape(method),
            "x": [_energy(run)["value"] / size for run in mine],
            "y": [100 * run["accuracy"] for run in mine],
            "hovertext": [_hover(run) for run in mine],
            "hoverinfo": "text",
            "marker": {"size": 11, "symbol": SYMBOLS[place % len(SYMBOLS)], "line": {"width": 1}},
            "meta": {"role": "runs", "color": place % COLORS},
        }
        traces.append(trace)
    return traces


def _sweeps(rows: list[Row], places: dict[str, int], size: float) -> list[Figure]:
    """A thin line through the means of a method's settings, such as its strengths."""
    settings: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.energy_pj):
        settings.setdefault((row.method, row.network), []).append(row)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [row.energy_pj / size for row in group],
            "y": [100 * row.accuracy for row in group],
            "line": {"width": 1},
            "legendgroup": escape(method),
            "showlegend": False,
            "hoverinfo": "skip",
            "meta": {"role": "sweep", "color": places[method] % COLORS},
        }
        for (method, _), group in settings.items()
        if len(group) > 1
    ]


def _means(row: Row, places: dict[str, int], size: float) -> Figure:
    """The seed mean as a cross of error bars; it has no marker, so that each point is one run."""
    spread = {"type": "data", "thickness": 1.5, "width": 5}
    energy_sd, accuracy_sd = row.energy_sd_pj or 0.0, row.accuracy_sd or 0.0
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [row.energy_pj / size],
        "y": [100 * row.accuracy],
        "error_x": {**spread, "array": [energy_sd / size]},
        "error_y": {**spread, "array": [100 * accuracy_sd]},
        "legendgroup": escape(row.method),
        "showlegend": False,
        "hoverinfo": "skip",
        "meta": {"role": "mean", "color": places[row.method] % COLORS},
    }


def _front(rows: Sequence[Row], size: float) -> Figure:
    """A staircase: the best accuracy that each energy buys."""
    front = sorted(pareto_rows(rows), key=lambda row: (row.energy_pj, row.accuracy))
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front of the means",
        "legendgroup": "front",
        "x": [row.energy_pj / size for row in front],
        "y": [100 * row.accuracy for row in front],
        "line": {"shape": "hv", "dash": "dot", "width": 2},
        "hoverinfo": "skip",
        "meta": {"role": "front"},
    }


def _show_once(traces: list[Figure]) -> None:
    """One legend entry for a method that is drawn in several panels."""
    seen: set[str] = set()
    for trace in traces:
        if trace.get("showlegend") is not False:
            trace["showlegend"] = trace["legendgroup"] not in seen
            seen.add(trace["legendgroup"])


def _panel(panel: int, panels: int, accuracy_title: str, energy_title: Figure, ticks: list[float]) -> Figure:
    x, y = _axis("x", panel), _axis("y", panel)
    top = 1 - panel / panels
    bottom = top - (1 if panel == panels - 1 else 0.76) / panels  # leaves room for the title between panels
    labels = {"tickvals": ticks, "ticktext": [f"{tick:,g}" for tick in ticks]}
    return {
        f"xaxis{x[1:]}": {"type": "log", "anchor": y, "title": energy_title, "automargin": True, **labels},
        f"yaxis{y[1:]}": {"anchor": x, "domain": [max(bottom, 0), top], "title": {"text": accuracy_title}},
    }


def _log_ticks(energies: list[float]) -> list[float]:
    """1, 2, 5 of each decade; the decades alone where there are many."""
    decades = [math.floor(math.log10(energy)) for energy in energies if energy > 0] or [0]
    low, high = min(decades), max(decades) + 1
    steps = (1, 2, 5) if high - low <= 3 else (1,)
    return [step * 10.0**decade for decade in range(low, high + 1) for step in steps]


def _axis(letter: str, panel: int) -> str:
    return letter if panel == 0 else f"{letter}{panel + 1}"


def _energy(run: Record) -> dict[str, float]:
    return run["energy_pj"][hardware_of(run)]


def _hover(run: Record) -> str:
    energy = _energy(run)
    low, high = energy.get("low"), energy.get("high")
    silent = run.get("silent_fraction")
    lines = {
        "seed": run.get("seed"),
        "T": run.get("timesteps"),
        "strength": run.get("strength"),
        "network": run["network"],
        "accuracy": f"{format_percent(run['accuracy'], 2)}%",
        "energy": format_energy(energy["value"]),
        "price range": None if low is None or high is None else f"{format_energy(low)} – {format_energy(high)}",
        "SynOps": f"{synaptic_operations(run):,.0f}",
        "silent": None if silent is None else f"{format_percent(silent)}%",
        "commit": run.get("commit"),
    }
    known = [f"{name}: {escape(str(value))}" for name, value in lines.items() if value is not None]
    return "<br>".join([f"<b>{escape(run['method'])}</b>", *known])
