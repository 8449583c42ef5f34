"""How a method or a layer looks in every figure: a colour of the page's palette, a symbol, a pattern."""

from collections.abc import Iterable, Sequence
from typing import Any

from picojoule.report.summary import Row

Figure = dict[str, Any]
METHODS = (
    *("ann", "ann-sparse", "ann-int8", "plain", "synaptic-penalty", "first-spike", "total-spikes", "layer-mean"),
    *("synops-target", "rate-bounds", "energy-penalty", "ecc", "synops-conversion"),
)
SYMBOLS = (
    *("square", "diamond", "triangle-down", "circle", "triangle-up", "star", "pentagon", "hourglass"),
    *("cross", "x", "hexagon", "bowtie", "star-square"),
)
PATTERNS = ("", "/", ".", "x", "-", "\\", "|", "+")
COLORS = 9  # in the palette of the page


def places_of(rows: Sequence[Row]) -> dict[str, int]:
    """The place of each method in palette and symbols; the known methods always have the same one."""
    others = sorted({row.method for row in rows} - set(METHODS))
    return {method: n for n, method in enumerate((*METHODS, *others))}


def in_order(methods: Iterable[str]) -> list[str]:
    """Each method once, as legends and tables list them: baselines, penalties, their sums by name, conversions."""
    found = set(methods)
    first, last = METHODS[:-2], METHODS[-2:]
    others = sorted(found - set(METHODS))
    return [method for method in (*first, *others, *last) if method in found]


def bar_marker(place: int) -> Figure:
    """Bars differ in a pattern too, for those who do not tell the colours apart."""
    return {"pattern": {"shape": PATTERNS[place % len(PATTERNS)], "solidity": 0.2}, "line": {"width": 1}}


def legend() -> Figure:
    """Below the plot, so that a narrow window keeps its width."""
    below = {"yref": "container", "y": 0, "yanchor": "bottom", "x": 0}
    return {"orientation": "h", "itemsizing": "constant", "traceorder": "normal", **below}
