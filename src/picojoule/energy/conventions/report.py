"""What a convention reports, and why that is not the exact count."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Gap(NamedTuple):
    """One reason why a tool's number is not the exact one.

    `operations` is what the tool counts more (or less) because of it, per sample; `moved` the operations per sample
    that it counts in the other class (AC or MAC). A reason without a number has neither.
    """

    why: str
    layers: tuple[str, ...]
    operations: float = 0.0
    moved: float = 0.0

    @property
    def sentence(self) -> str:
        """The reason in one sentence, with layers and amount."""
        where = f" ({_listed(self.layers)})" if self.layers else ""
        if self.moved:
            return f"{self.why}{where}: {_number(self.moved)} operations per sample change their class."
        if self.operations:
            way = "more" if self.operations > 0 else "fewer"
            return f"{self.why}{where}: {_number(abs(self.operations))} operations per sample {way}."
        return f"{self.why}{where}."


@dataclass(frozen=True)
class ConventionReport:
    """The numbers one tool would report for the model that ran, per sample and in the tool's own terms.

    `units` names the terms that are the tool's synaptic operations, and how to print them. `layers` has the terms of
    every layer (and of modules that the tool counts besides), `totals` their sums, `joules` the energy by device or
    preset (empty if the tool gives none), `metrics` what else the tool reports. The operations of all `gaps`
    add up to `operations - exact_operations`.
    """

    name: str
    tool: str
    units: Mapping[str, str]
    layers: Mapping[str, Mapping[str, float]]
    totals: Mapping[str, float]
    joules: Mapping[str, float]
    exact_operations: float
    gaps: tuple[Gap, ...]
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operations(self) -> float:
        """All synaptic operations of the tool, whatever their class."""
        return sum(self.totals.get(term, 0.0) for term in self.units)

    @property
    def headline(self) -> str:
        """The tool's number as one would quote it: `729 AC`."""
        parts = [f"{_number(self.totals[t])} {unit}" for t, unit in self.units.items() if self.totals.get(t)]
        return " + ".join(parts) or f"0 {next(iter(self.units.values()))}"

    @property
    def differences(self) -> tuple[str, ...]:
        """Why the number is not the exact one: a sentence for each reason, the largest first."""
        return tuple(gap.sentence for gap in self.gaps)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {
            "name": self.name,
            "tool": self.tool,
            "headline": self.headline,
            "operations": self.operations,
            "exact_operations": self.exact_operations,
            "totals": dict(self.totals),
            "layers": {name: dict(row) for name, row in self.layers.items()},
            "joules": dict(self.joules),
            "metrics": dict(self.metrics),
            "differences": list(self.differences),
        }


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:,.4g}"
