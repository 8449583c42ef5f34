"""A static figure of sweeps: accuracy against SynOps, spikes or energy, as an SVG for documents."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from picojoule.errors import BadInput, check_choice
from picojoule.report.activity import spikes, synops
from picojoule.report.load import Record
from picojoule.report.marks import METHODS
from picojoule.report.summary import hardware_of, scope, summarise
from picojoule.report.svg import write_svg
from picojoule.report.units import energy_unit
from picojoule.report.variants import PLAIN, Variant, variants

AGAINST = ("synops", "spikes", "energy")
# Okabe and Ito 2008, without the yellow, which is too light on white, and four that are darker or lighter than those.
COLORS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#7a4fb5", "#7f7f7f", "#5c3a00", "#882255"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h", "<", ">")
DASHES = ("-", "--", ":", "-.")


class Axis(NamedTuple):
    """What the horizontal axis shows, and its value for a run."""

    title: str
    value: Callable[[Record], float | None]


def write_figure(records: Sequence[Record], path: str | Path, against: str = "synops") -> None:
    """Draw accuracy against `synops`, `spikes` or `energy` (log axis) to an `.svg` file, a panel per network.

    A line joins the seed means of a method's strengths, bars are ± sd of seeds, a star is plain. The same records give
    the same file; the background is white in any scheme. Means without a positive value are left out, as the axis says.

    Raises BadInput without matplotlib, for another suffix, or if no spiking run has the quantity.
    """
    check_choice("quantity", against, AGAINST)
    drawn = variants(records)
    axis = _axis(drawn, against)
    panels = list(dict.fromkeys((variant.dataset, variant.network) for variant in drawn))

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(panels), squeeze=False)[:, 0]
        for panel, place in zip(axes, panels, strict=True):
            _draw(panel, [v for v in drawn if (v.dataset, v.network) == place], axis)

    write_svg(path, (6.4, 4.4 * len(panels)), draw)


def _axis(drawn: Sequence[Variant], against: str) -> Axis:
    if against == "synops":
        return Axis("SynOps (accumulates) per sample", synops)
    if against == "spikes":
        return Axis("spikes per sample", spikes)
    runs = [run for variant in drawn for run in variant.runs]
    name, size = energy_unit(_energy(run) for run in runs)
    return Axis(f"energy per sample [{name}], {scope(summarise(runs))}", lambda run: _energy(run) / size)


def _energy(run: Record) -> float:
    return run["energy_pj"][hardware_of(run)]["value"]


def _draw(panel: Any, drawn: Sequence[Variant], axis: Axis) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    left_out = sum(_line(panel, variant, n, drawn, axis) for n, variant in enumerate(drawn))
    if not panel.has_data():
        raise BadInput(f"expected runs with {axis.title} above 0, got none; choose another quantity to draw against")
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    panel.set_xlabel(axis.title + (f" ({left_out} without any left out)" if left_out else ""))
    panel.set_ylabel("test accuracy [%], mean ± sd of seeds")
    panel.set_title(f"{drawn[0].network} on {drawn[0].dataset}", fontsize=10)
    panel.grid(alpha=0.25)
    panel.legend(frameon=False, fontsize=9)


def _line(panel: Any, variant: Variant, place: int, drawn: Sequence[Variant], axis: Axis) -> int:
    """Draw one variant; returns how many of its means cannot be on a log axis."""
    found = variant.by_strength().values()
    groups = [(_spread(axis.value(r) for r in runs), _spread(100 * r["accuracy"] for r in runs)) for runs in found]
    points = [(x, y) for x, y in groups if x and y and x[0] > 0]
    if not points:
        return len(groups)
    (x, x_sd), (y, y_sd) = (zip(*values, strict=True) for values in zip(*points, strict=True))
    bars = {"xerr": _on_log_axis(x, x_sd), "yerr": y_sd, "elinewidth": 0.8, "capsize": 2, "label": variant.label}
    panel.errorbar(x, y, **bars, **_look(variant, place, drawn))
    return len(groups) - len(points)


def _look(variant: Variant, place: int, drawn: Sequence[Variant]) -> dict[str, Any]:
    """A colour and marker per method, the same in every figure; dashes tell its variants apart."""
    twins = sum(v.method == variant.method for v in drawn[:place])
    if variant.method == PLAIN:
        star = {"color": "black", "marker": "*", "markersize": 12, "linestyle": "none", "zorder": 3}
        return {**star, "markerfacecolor": "white" if twins else "black"}
    first = METHODS.index(PLAIN) + 1
    others = sorted({v.method for v in drawn} - set(METHODS))
    number = [*METHODS, *others].index(variant.method) - first
    color = COLORS[number % len(COLORS)]
    return {
        "color": color,
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 5,
        "markerfacecolor": "white" if twins else color,
        "linewidth": 1.5,
        "linestyle": DASHES[twins % len(DASHES)],
    }


def _spread(values: Iterable[float | None]) -> tuple[float, float] | None:
    present = [value for value in values if value is not None]
    if not present:
        return None
    return statistics.fmean(present), statistics.stdev(present) if len(present) > 1 else 0.0


def _on_log_axis(means: Sequence[float], sds: Sequence[float]) -> list[list[float]]:
    """Bars that end above 0 on the left."""
    return [[min(sd, 0.99 * mean) for mean, sd in zip(means, sds, strict=True)], list(sds)]
