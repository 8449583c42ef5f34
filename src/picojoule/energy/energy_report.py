"""What one measurement found, and its forms: text, plain data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from picojoule.energy.baselines import Baseline, baselines
from picojoule.energy.bits import EventBits, bits_dict
from picojoule.energy.conventions.report import ConventionReport
from picojoule.energy.count import QUANTITIES, OpCounts
from picojoule.energy.crossover import Crossover, crossover
from picojoule.energy.health import Health
from picojoule.energy.memory import MOVEMENTS, Bits, traffic
from picojoule.energy.price import Energy, Hardware
from picojoule.energy.sensitivity import sensitivity
from picojoule.energy.spread import Spread
from picojoule.graph import Site
from picojoule.kinds import Events, Values


@dataclass(frozen=True)
class EnergyReport:
    """What one measurement found, all per sample. `accuracy` is a fraction, or None without labels.

    `prices` are the price lists asked for: energies, baselines and crossover follow from them and `counts`.
    `uncounted` lists what could not be counted; `energy_pj` does not contain it. `ann_density` is the stated density
    of the sparse ANN baseline, `presentations` how often the ANN baselines see a sample. `conventions` is what other
    tools would report, for those asked for. `bits` is of populations whose events have no bound.
    """

    counts: OpCounts
    prices: tuple[Hardware, ...]
    health: tuple[Health, ...]
    sites: tuple[Site, ...]
    uncounted: tuple[str, ...]
    accuracy: float | None
    spread: Spread | None = None
    bits: tuple[EventBits, ...] = ()
    ann_density: float | None = None
    presentations: int = 1
    conventions: Mapping[str, ConventionReport] = field(default_factory=dict)

    @cached_property
    def energy_pj(self) -> dict[str, Energy]:
        """Picojoules per sample by price list."""
        return {h.name: h.energy_pj(self.counts) for h in self.prices}

    @cached_property
    def baselines(self) -> dict[str, Baseline]:
        """ANNs with the same synapses, at the first price list."""
        if not self.prices:
            return {}
        stated = {"ann_density": self.ann_density, "presentations": self.presentations}
        step_bits = max(1, math.ceil(bits_dict(self.bits)["activity_bits"])) if self.bits else 1
        return baselines(self.counts, self.prices[0], health=self.health, step_bits=step_bits, **stated)

    @cached_property
    def crossover(self) -> dict[str, Crossover]:
        """At which firing rate each baseline costs the same, at the first price list."""
        return crossover(self.counts, self.prices[0], self.baselines) if self.prices else {}

    @property
    def silent_fraction(self) -> float:
        """Share of neurons that sent nothing over the whole data set."""
        neurons = sum(h.neurons for h in self.health)
        return sum(h.silent_fraction * h.neurons for h in self.health) / neurons if neurons else 0.0

    def __str__(self) -> str:
        lines = [f"{h.name}: {self.energy_pj[h.name].value / 1e3:.4g} nJ per sample ({h.scope})" for h in self.prices]
        lines += [f"{q}: {float(self.counts.total(q)):.6g} per sample" for q in ("acs", "macs", "dense_macs")]
        lines += [c.sentence for c in self.crossover.values()]
        lines += [str(b) for b in self.bits]
        lines += [f"{c.name} would report {c.headline}" for c in self.conventions.values()]
        lines += [f"not counted: {what}" for what in self.uncounted]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON; all numbers per sample, fractions as fractions."""
        c = self.counts
        totals = ("acs", "graded_events", "macs", "dense_macs", "dense_acs", "synapses", "bias_adds", "shift_adds")
        return {
            "accuracy": self.accuracy,
            **{q: float(c.total(q)) for q in totals},
            "acs_sd": c.total_sd("acs"),
            "operations_percentiles": None if self.spread is None else self.spread.total(),
            "neuron_updates": c.updates_per_sample(),
            "timesteps": c.timesteps,
            "samples": c.samples,
            "presentations": self.presentations,
            "energy_pj": {name: energy._asdict() for name, energy in self.energy_pj.items()},
            "energy_parts_pj": {h.name: _parts(h, c) for h in self.prices},
            "unpriced": {h.name: list(h.unpriced(c)) for h in self.prices if h.unpriced(c)},
            "sensitivity": {h.name: [s._asdict() for s in sensitivity(h, c)[:5]] for h in self.prices},
            "traffic": self._traffic(),
            "baselines": {name: b.to_dict() for name, b in self.baselines.items()},
            "crossover_rate": {name: x.rate for name, x in self.crossover.items()},
            "crossover": {name: x.to_dict() for name, x in self.crossover.items()},
            "silent_fraction": self.silent_fraction,
            "layers": self._layers(),
            "neurons": [_neurons(h) for h in self.health],
            "bits": bits_dict(self.bits),
            "conventions": {name: found.to_dict() for name, found in self.conventions.items()},
            "uncounted": list(self.uncounted),
        }

    def _layers(self) -> list[dict[str, Any]]:
        c = self.counts
        sites = {site.name: site for site in self.sites}
        columns = {q: c.per_layer(q) for q in QUANTITIES}
        energies = {h.name: h.layer_energy_pj(c) for h in self.prices}
        rows = []
        for i, name in enumerate(c.layers):
            row = {q: float(column[i]) for q, column in columns.items()}
            site, operations = sites[name], row["acs"] + row["macs"]
            square = sum(float(c.squares[QUANTITIES.index(q), i]) for q in ("acs", "macs")) / c.samples
            spread = None if site.even else self.spread
            behind = [h for h in self.health if h.layer == name]
            rows.append(
                {
                    "name": name,
                    "operation": site.operation,
                    "kind": "events" if isinstance(site.kind, Events) else "values",
                    "why_values": site.kind.reason if isinstance(site.kind, Values) else "",
                    **row,
                    "operations_sd": None if site.even else max(0.0, square - operations**2) ** 0.5,
                    "operations_percentiles": None if spread is None else spread.layer(name),
                    "operations_by_step": _by_step(c.by_step[i] / c.samples, c.timesteps),
                    "firing_rate": row["events"] / row["event_inputs"] if row["event_inputs"] else None,
                    "silent_fraction": _mean(behind, "silent_fraction"),
                    "saturated_fraction": _mean(behind, "saturated_fraction"),
                    "weights": c.weights[i],
                    "biases": c.biases[i],
                    "energy_pj": {hw: float(energy[i]) for hw, energy in energies.items()},
                }
            )
        return rows

    def _traffic(self) -> dict[str, dict[str, float]]:
        """Reads and writes, and their bits, at the widths of the first price list that states any."""
        stated = next((h for h in self.prices if h.bits is not None), None)
        moved = traffic(self.counts, Bits()) if stated is None else stated.traffic(self.counts)
        return {m: {"accesses": moved.total(m), "bits": moved.total_bits(m)} for m in MOVEMENTS}


def _parts(prices: Hardware, counts: OpCounts) -> dict[str, float]:
    return {part: energy.value for part, energy in prices.breakdown_pj(counts).items() if energy.high}


def _neurons(h: Health) -> dict[str, Any]:
    fields = h._asdict()
    return {"name": fields.pop("name"), "kind": fields.pop("neuron"), "count": fields.pop("neurons"), **fields}


def _by_step(series: Tensor, timesteps: int) -> list[float] | None:
    """A layer's operations at each time step; None if it did not run equally often in all of them."""
    if len(series) % timesteps:
        return None
    return series.reshape(timesteps, -1).sum(1).tolist()


def _mean(health: list[Health], name: str) -> float | None:
    """Over the neurons behind a layer; None if it has none, or the share is not known."""
    known = [(getattr(h, name), h.neurons) for h in health if getattr(h, name) is not None]
    return sum(share * n for share, n in known) / sum(n for _, n in known) if known else None
