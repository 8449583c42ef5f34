"""The contract of a convention: what it sees, and how it becomes a report."""

from collections import defaultdict
from collections.abc import Iterable
from copy import copy
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from picojoule.energy.conventions.observed import Observed
from picojoule.energy.conventions.report import ConventionReport, Gap
from picojoule.energy.count import OpCounts

SEVERAL = "An input that carries several events counts once, exactly once per event"
UNPAIRED = "Where two activations are multiplied, non-zeros of one count with all partners, exactly only in pairs"


class Balance(NamedTuple):
    """Operations per sample and layer by which non-zero inputs x fan-out exceed the exact count, by reason."""

    several: dict[str, float]
    unpaired: dict[str, float]


class Convention:
    """One tool's way to count, fed call by call; its memory is a row per layer, whatever the number of batches.

    `units` are the terms that are synaptic operations; of them `ac_term` and `mac_term` are the tool's accumulates
    and multiply-accumulates (empty if it has no classes) and `rule` how it tells them apart, by the numbers if
    `judges_values`. `sums_values` is the
    reason to give where the tool adds up values instead of counting events; empty if it counts.
    """

    name: ClassVar[str]
    tool: ClassVar[str]
    units: ClassVar[dict[str, str]]
    ac_term: ClassVar[str] = ""
    mac_term: ClassVar[str] = ""
    rule: ClassVar[str] = ""
    judges_values: ClassVar[bool] = True
    sums_values: ClassVar[str] = ""

    def __init__(self, model: nn.Module):
        self.model = model
        self.names = {module: name or "model" for name, module in model.named_modules()}
        self.rows: dict[str, dict[str, float]] = {}
        self.samples = 0
        self._gaps: dict[str, dict[str, float]] = {}

    def hooks(self) -> Iterable[RemovableHandle]:
        """Hooks for what the tool counts at modules, none by default."""
        return ()

    def site(self, seen: Observed) -> None:
        """A linear operation was called."""
        raise NotImplementedError

    def end_batch(self, samples: int) -> None:
        """A batch of so many samples is over."""
        self.samples += samples

    def add(self, layer: str, **terms: float) -> None:
        """Add terms to the row of a layer."""
        row = self.rows.setdefault(layer, {})
        for term, value in terms.items():
            row[term] = row.get(term, 0.0) + value

    def gap(self, why: str, layer: str, operations: float = 0.0, *, always: bool = False) -> None:
        """Note a reason for a difference and the operations it makes; one without any only if `always`.

        `layer` is empty where the reason concerns no layer.
        """
        if operations or always:
            amounts = self._gaps.setdefault(why, {})
            amounts[layer] = amounts.get(layer, 0.0) + operations

    def finish(self, exact: OpCounts) -> None:
        """Called once before the report, to settle what only the whole run tells."""

    def joules(self, totals: dict[str, float], exact: OpCounts) -> dict[str, float]:
        """Energy per sample by device or preset; empty where the tool gives none."""
        return {}

    def metrics(self) -> dict[str, Any]:
        """What else the tool reports."""
        return {}

    def report(self, exact: OpCounts, facts: "Facts") -> ConventionReport:
        """The report of what was seen, held against the exact counts of the same run; the run may go on."""
        done = copy(self)
        done.rows = {name: dict(row) for name, row in self.rows.items()}
        done._gaps = {why: dict(amounts) for why, amounts in self._gaps.items()}
        done.finish(exact)
        return done._report(exact, facts)

    def _report(self, exact: OpCounts, facts: "Facts") -> ConventionReport:
        layers = {name: {t: v / self.samples for t, v in row.items()} for name, row in self.rows.items()}
        totals = {term: sum(row.get(term, 0.0) for row in layers.values()) for term in self._terms()}
        exact_operations = float((exact.total("acs") + exact.total("macs")).detach())
        gaps = [*self._counted(facts.balance(exact, self.samples)), *self._classes(layers, exact, facts)]
        gaps.sort(key=lambda gap: -max(abs(gap.operations), gap.moved))
        return ConventionReport(
            self.name,
            self.tool,
            self.units,
            layers,
            totals,
            self.joules(totals, exact),
            exact_operations,
            tuple(gaps),
            self.metrics(),
        )

    def _terms(self) -> list[str]:
        return list(dict.fromkeys([*self.units, *(t for row in self.rows.values() for t in row)]))

    def _counted(self, balance: "Balance") -> Iterable[Gap]:
        amounts = {why: {layer: n / self.samples for layer, n in found.items()} for why, found in self._gaps.items()}
        for why, found in ((self.sums_values or SEVERAL, balance.several), (UNPAIRED, balance.unpaired)):
            for layer, operations in found.items():
                row = amounts.setdefault(why, {})
                row[layer] = row.get(layer, 0.0) + operations
        for why, found in amounts.items():
            whole = sum(found.values())
            yield Gap(why, tuple(filter(None, found)), whole if abs(whole) > 1e-9 else 0.0)

    def _classes(self, layers: dict[str, dict[str, float]], exact: OpCounts, facts: "Facts") -> Iterable[Gap]:
        """Layers whose class (AC or MAC) is another than the exact count's."""
        if not self.mac_term:
            return
        wrong: dict[str, dict[str, float]] = defaultdict(dict)
        for name, inputs in zip(exact.layers, exact.per_layer("event_inputs").tolist(), strict=True):
            row = layers.get(name, {})
            acs, macs = row.get(self.ac_term, 0.0), row.get(self.mac_term, 0.0)
            if inputs and macs:
                holds = " and ".join(sorted(facts.values.get(name, ())))
                why = f"Events are counted as multiply-accumulates: {self.rule}" + (
                    f"; here some are {holds}" if holds else ""
                )
                wrong[why][name] = macs
            if not inputs and acs:
                wrong[f"Analog values are counted as accumulates: {self.rule}"][name] = acs
            if acs and macs:
                wrong["The class follows the numbers of each batch: some calls are AC, others MAC"][name] = 0.0
        for why, amounts in wrong.items():
            yield Gap(why, tuple(amounts), moved=sum(amounts.values()))


class Facts:
    """What all conventions need to know about the layers: kinds of values, and operations on non-zero inputs."""

    def __init__(self) -> None:
        self.values: dict[str, set[str]] = defaultdict(set)
        self._effective: dict[str, float] = defaultdict(float)

    def site(self, seen: Observed) -> None:
        """A linear operation was called."""
        self.values[seen.call.name] |= seen.values
        self._effective[seen.call.name] += seen.effective

    def balance(self, exact: OpCounts, samples: int) -> "Balance":
        """How non-zero inputs x fan-out, which the tools start from, differ from the exact count, per sample."""
        operations = (exact.per_layer("acs") + exact.per_layer("macs")).detach().tolist()
        graded = (exact.per_layer("graded_events") + exact.per_layer("macs")).detach().tolist()
        balance = Balance({}, {})
        for name, ours, nonzero in zip(exact.layers, operations, graded, strict=True):
            seen = self._effective.get(name, 0.0) / samples
            if abs(nonzero - ours) > 1e-9 * ours:
                balance.several[name] = nonzero - ours
            if abs(seen - nonzero) > 1e-9 * nonzero:
                balance.unpaired[name] = seen - nonzero
        return balance


def times_found(model: nn.Module, is_counted: Any, enter_counted: bool = False) -> dict[nn.Module, int]:
    """How often a walk over children meets each counted module: a module shared by two parents is met twice.

    A walk goes no deeper than a counted module unless `enter_counted`. A model that is itself counted is met once.
    """
    found: dict[nn.Module, int] = defaultdict(int)

    def walk(module: nn.Module) -> None:
        counted = is_counted(module)
        if counted:
            found[module] += 1
        if enter_counted or not counted:
            for child in module.children():
                walk(child)

    walk(model)
    return dict(found)


def first_tensor(value: Any) -> torch.Tensor | None:
    """The first tensor of what entered or left a module, detached."""
    while isinstance(value, tuple | list) and value:
        value = value[0]
    return value.detach() if isinstance(value, torch.Tensor) else None


def descends_from(module: nn.Module, library: str, *classes: str) -> bool:
    """Whether a module is of one of these classes (or of a sub-class) of a library, which is not imported."""
    return any(c.__name__ in classes and c.__module__.partition(".")[0] == library for c in type(module).__mro__)
