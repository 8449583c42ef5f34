"""From operation counts to joules: price lists read from data files, each with its source and scope."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from picojoule.energy.count import OpCounts
from picojoule.energy.memory import (
    MOVEMENTS,
    RULE,
    Bits,
    Memory,
    Rule,
    Traffic,
    array_bits,
    kind_of,
    model_bits,
    traffic,
)
from picojoule.energy.price_list import read_list, shipped_names, shipped_path
from picojoule.energy.units import Price
from picojoule.errors import BadInput, unknown_name


class Energy(NamedTuple):
    """Picojoules per sample: the value, and the interval that the source's own range of prices gives."""

    value: float
    low: float
    high: float


_PLAIN = (  # the unit says it all
    *("mac", "ac", "shift_add", "synapse", "bias_add", "output"),
    *("event", "event_sent", "neuron update"),
)


class _Part(NamedTuple):
    """Picojoules per sample of one part: what belongs to a layer `[layer]`, and the rest `[]`."""

    layers: Tensor
    rest: Tensor


@dataclass(frozen=True)
class Hardware:
    """One price list. `scope` says in a phrase what is included, `covers` in full; a name's scope never changes.

    `constants` holds every number by name, with its range and unit; how they are used is in docs/hardware.md.
    `basis` tells "measured" from "simulated" and "published figures", `mark` which numbers were read, inferred or
    chosen. `bits` is None where the source gives no widths. `skips_zero_values` prices only MACs of non-zero values,
    `activations_update` an activation (ReLU) as one neuron update per time step.
    """

    name: str
    title: str
    scope: str
    covers: str
    node: str
    voltage: str
    basis: str
    mark: str
    source: str
    constants: Mapping[str, Price]
    bits: Bits | None = None
    memory: Mapping[str, Memory] | None = None
    rule: Rule | None = None
    hops: float = 1.0
    skips_zero_values: bool = False
    activations_update: bool = False

    @property
    def prices(self) -> str:
        """The prices in words."""
        return ", ".join(
            str(price) if name in _PLAIN else f"{price} ({name.removesuffix(' update').replace('_', ' ')})"
            for name, price in self.constants.items()
        )

    def traffic(self, counts: OpCounts) -> Traffic:
        """The memory accesses that this list prices, per sample."""
        return traffic(counts, self.bits or Bits(), self.rule or RULE, self.skips_zero_values)

    def energy_pj(self, counts: OpCounts) -> Energy:
        """Picojoules per sample of everything that the list covers."""
        counts = counts.detach()
        return Energy(*(float(self._total(counts, self._at(bound))) for bound in Energy._fields))

    def total_pj(self, counts: OpCounts) -> Tensor:
        """The value of `energy_pj` as a scalar, float64, differentiable in `counts.sums` and `counts.sent`.

        What an access to a memory costs follows from the size of the model, and is a constant.
        """
        return self._total(counts, self._at("value"))

    def layer_energy_pj(self, counts: OpCounts, bound: str = "value") -> Tensor:
        """Picojoules per sample of each layer's synapses, `[layer]`; `bound` is "value", "low" or "high".

        Neuron updates, events sent and static power belong to no layer.
        """
        parts = self._parts(counts, self._at(bound)).values()
        return torch.stack([part.layers for part in parts]).sum(0)

    def breakdown_pj(self, counts: OpCounts) -> dict[str, Energy]:
        """Picojoules per sample by what they are spent on; the parts add up to `energy_pj`."""
        bounds = [self._parts(counts.detach(), self._at(bound)) for bound in Energy._fields]
        return {part: Energy(*(float(b[part].layers.sum() + b[part].rest) for b in bounds)) for part in bounds[0]}

    def arithmetic_pj(self, operations: Mapping[str, float]) -> float:
        """Picojoules of the arithmetic of synapses alone, of running totals by quantity (`dense_macs`, `acs`, ...).

        Raises BadInput if the list prices a quantity that is not among them.
        """
        missing = [q for name, q in self._priced().items() if name in self.constants and q not in operations]
        if missing:
            raise BadInput(f"{self.name} prices {', '.join(missing)}, got totals of {', '.join(operations)} only")
        return float(self._arithmetic(operations.__getitem__, self._at("value")))

    def memory_levels(self, counts: OpCounts) -> dict[str, str]:
        """The name of the memory level that holds this model, by what is stored, where one memory holds it all."""
        if self.bits is None or self.memory is None:
            return {}
        size = model_bits(counts, self.bits)
        one = {k: m for k, m in self.memory.items() if m.model == "levels" and m.sized_by == "model"}
        return {kind: memory.level(size).name for kind, memory in one.items()}

    def unpriced(self, counts: OpCounts) -> tuple[str, ...]:
        """Synaptic operations of `counts` that this list has no price for, one sentence each."""
        operations = {"mac": ("macs" if self.skips_zero_values else "dense_macs", "MACs")}
        if "shift_add" not in self.constants:
            operations["ac"] = ("acs", "ACs")
        return tuple(
            f"{float(counts.total(quantity)):g} {words} per sample: {self.name} gives no price for them"
            for price, (quantity, words) in operations.items()
            if price not in self.constants and "synapse" not in self.constants and counts.total(quantity)
        )

    def with_constant(self, name: str, value: float) -> "Hardware":
        """The same list with one constant fixed at `value`, in the constant's own unit."""
        if name not in self.constants:
            raise unknown_name("constant", name, list(self.constants))
        fixed = Price(value, value, value, self.constants[name].unit)
        return replace(self, constants={**self.constants, name: fixed})

    def _at(self, bound: str) -> dict[str, float]:
        return {name: getattr(price, bound) for name, price in self.constants.items()}

    def _total(self, counts: OpCounts, at: Mapping[str, float]) -> Tensor:
        parts = self._parts(counts, at).values()
        return sum((part.layers.sum() + part.rest for part in parts), counts.sums.new_zeros(()))

    def _parts(self, counts: OpCounts, at: Mapping[str, float]) -> dict[str, _Part]:
        none, zero = torch.zeros_like(counts.per_layer("acs")), counts.sums.new_zeros(())
        moved = self.traffic(counts)
        return {
            "arithmetic": _Part(none + self._arithmetic(counts.per_layer, at), zero),
            "neurons": _Part(none, zero + self._neurons(counts, at)),
            "routing": _Part(self._routing(counts, at), zero),
            **{f"{kind} memory": self._memory(kind, counts, moved, at) for kind in Bits._fields},
            "static": _Part(none, zero + self._static(counts, at)),
        }

    def _priced(self) -> dict[str, str]:
        """The quantity that each price of arithmetic is for."""
        return {
            "mac": "macs" if self.skips_zero_values else "dense_macs",
            **({"shift_add": "shift_adds"} if "shift_add" in self.constants else {"ac": "acs"}),
            "synaptic_event": "acs",
            "synapse": "synapses",
            "bias_add": "bias_adds",
            "output": "outputs",
            "event": "events",
        }

    def _arithmetic(self, quantity: Callable[[str], Any], at: Mapping[str, float]) -> Any:
        return sum(quantity(q) * at[name] for name, q in self._priced().items() if name in at)

    def _neurons(self, counts: OpCounts, at: Mapping[str, float]) -> Tensor | float:
        total = counts.events_sent * at.get("event_sent", 0.0)
        for kind, neurons in counts.neurons.items():
            updates = neurons.updates / counts.samples
            if self.activations_update and not updates:
                updates = neurons.number * counts.timesteps
            total = total + updates * at.get(f"{kind} update", at.get("neuron update", 0.0))
        return total

    def _routing(self, counts: OpCounts, at: Mapping[str, float]) -> Tensor:
        events = counts.per_layer("events")
        if "routing" not in at:
            return torch.zeros_like(events)
        wide = "bit" in self.constants["routing"].unit and self.bits
        return events * (at["routing"] * self.hops * (wide.event + wide.address if wide else 1))

    def _memory(self, kind: str, counts: OpCounts, moved: Traffic, at: Mapping[str, float]) -> _Part:
        layers, rest = torch.zeros_like(counts.per_layer("acs")), counts.sums.new_zeros(())
        if self.memory is None or self.bits is None:
            return _Part(layers, rest)
        memory = self.memory[kind]
        for movement in (m for m in MOVEMENTS if kind_of(m) == kind):
            if memory.sized_by == "array":
                own, neurons = array_bits(counts, self.bits, movement, memory.queue_bits)
            else:
                neurons = rest.new_tensor(model_bits(counts, self.bits))
                own = torch.full_like(layers, float(neurons))
            width = moved.bits[movement]
            layers = layers + moved.per_layer[movement] * memory.access_pj(at, own, width)
            rest = rest + moved.neurons[movement] * memory.access_pj(at, neurons, width)
        return _Part(layers, rest)

    def _static(self, counts: OpCounts, at: Mapping[str, float]) -> float:
        if "static power" not in at:
            return 0.0
        steps = counts.timesteps if "step" in self.constants["latency"].unit else 1
        return at["static power"] * at["latency"] * steps * 1e12


def hardware_names() -> list[str]:
    """The names of the price lists that come with picojoule."""
    return shipped_names()


def hardware(name: str | Path) -> Hardware:
    """The price list called `name`, or the one in the TOML file at that path (it ends in .toml or has a separator).

    Raises BadInput, with the nearest name, if there is none, and where a file is no price list.
    """
    if isinstance(name, str) and not name.endswith(".toml") and "/" not in name and "\\" not in name:
        return _shipped(name)
    found = Hardware(**read_list(Path(name)))
    if found.name in shipped_names():
        raise BadInput(f"{name}: the name {found.name!r} belongs to a price list of picojoule; give it one of your own")
    return found


@cache
def _shipped(name: str) -> Hardware:
    if name not in shipped_names():
        raise unknown_name("hardware", name, shipped_names())
    return Hardware(**read_list(shipped_path(name)))
