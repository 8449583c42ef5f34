"""Drawings by matplotlib as SVG files, the same at every run."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from picojoule.errors import BadInput
from picojoule.files import write_text

STYLE: Any = {
    "svg.hashsalt": "picojoule",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def write_svg(path: str | Path, size: tuple[float, float], draw: Callable[[Any], None]) -> None:
    """Write what `draw` puts on a matplotlib figure of `size` (width, height in inches) to an `.svg` file.

    The background is white in any scheme. Raises BadInput without matplotlib or for another suffix; whatever `draw`
    raises leaves the file as it was.
    """
    path = Path(path)
    if path.suffix.lower() != ".svg":
        raise BadInput(f"expected a file name that ends in .svg, got {path}")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise BadInput("figures need matplotlib, which is not installed: pip install 'picojoule[plot]'") from None
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        draw(figure)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    write_text(path, "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n")
