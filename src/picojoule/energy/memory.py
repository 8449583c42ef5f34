"""Memory: how much of what is read and written, how wide it is, and what one access costs.

The size that decides what an access costs is the size of the model, never the amount of traffic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.energy.count import OpCounts

MOVEMENTS = (
    *("weight_reads", "bias_reads", "state_reads", "state_writes", "activation_reads", "activation_writes"),
    *("event_reads", "event_writes", "address_reads", "address_writes"),
)
LAYER_DRIVERS = ("mac", "ac", "bias_add", "value_input", "output", "event_output", "event")
NEURON_DRIVERS = ("update", "event_sent")

Rule = Mapping[str, Mapping[str, float]]
RULE: Rule = {
    "mac": {"weight_reads": 1, "activation_reads": 1},
    "ac": {"weight_reads": 1, "state_reads": 1, "state_writes": 1},
    "bias_add": {"bias_reads": 1},
    "output": {"activation_writes": 1},
    "event": {"event_reads": 1, "address_reads": 1},
    "event_sent": {"event_writes": 1, "address_writes": 1},
    "update": {"state_reads": 1, "state_writes": 1},
}
"""What each operation moves: the default traffic of a price list (our choice: no reuse in registers).

mac, ac, bias_add: per operation; value_input: per value that enters a layer; output, event_output: per output of a
layer of values, or of events; event: per unit event that enters a layer; event_sent: per unit event that a neuron
sends; update: per neuron update.
"""


class Bits(NamedTuple):
    """Bit widths. An event is the payload of one unit event, its address is separate."""

    weight: int = 32
    bias: int = 32
    state: int = 32
    activation: int = 32
    event: int = 1
    address: int = 32


class Traffic(NamedTuple):
    """Memory accesses per sample. `per_layer` `[layer]` by movement; `neurons` what the populations move besides.

    `bits` is the width of one access, by movement.
    """

    layers: tuple[str, ...]
    per_layer: dict[str, Tensor]
    neurons: dict[str, Tensor | float]
    bits: dict[str, int]

    def total(self, movement: str) -> float:
        """Accesses per sample of layers and neurons together."""
        return float(self.per_layer[movement].detach().sum()) + float(self.neurons[movement])

    def total_bits(self, movement: str) -> float:
        """Bits per sample of layers and neurons together."""
        return self.total(movement) * self.bits[movement]


def traffic(
    counts: OpCounts,
    bits: Bits = Bits(),  # noqa: B008  (a NamedTuple)
    rule: Rule = RULE,
    skips_zero_values: bool = False,
) -> Traffic:
    """The reads and writes of weights, states, activations, events and addresses that `counts` cause by `rule`.

    Padding taps move nothing; with `skips_zero_values` the MACs of zero activations move nothing either.
    """
    layers, neurons = _layer_drivers(counts, skips_zero_values), _neuron_drivers(counts)
    none = torch.zeros_like(layers["ac"])
    moves = {
        m: sum((layers[d] * moved[m] for d, moved in rule.items() if d in layers and m in moved), none)
        for m in MOVEMENTS
    }
    stored = none.new_tensor(counts.weights) > 0  # a product of two activations reads no weight, but an activation
    stored |= not any(counts.weights)
    moves["activation_reads"] = moves["activation_reads"] + moves["weight_reads"] * ~stored
    moves["weight_reads"] = moves["weight_reads"] * stored
    return Traffic(
        counts.layers,
        moves,
        {m: sum(neurons[d] * moved.get(m, 0) for d, moved in rule.items() if d in neurons) for m in MOVEMENTS},
        {m: getattr(bits, kind_of(m)) for m in MOVEMENTS},
    )


def kind_of(movement: str) -> str:
    """Which memory a movement uses: "weight" for "weight_reads"."""
    return movement.rpartition("_")[0]


def model_bits(counts: OpCounts, bits: Bits) -> float:
    """The size of the model: weights, biases, one state per neuron, and the largest activations, in bits.

    The activations of a layer are what enters it in one step and, where values enter, what leaves it; the sums that
    events make are states.
    """
    parameters = sum(counts.weights) * bits.weight + sum(counts.biases) * bits.bias
    states = sum(n.number for n in counts.neurons.values() if n.updates) * bits.state
    enter, leave, events = _per_step(counts.detach())
    largest = float(((enter + leave) * bits.activation + events * bits.event).max())
    return parameters + states + largest


@dataclass(frozen=True)
class Level:
    """A memory of up to `capacity` bits; its price is the constant called `constant`, per `width` bits.

    `width` is None where the price is per access, however wide.
    """

    name: str
    capacity: float
    constant: str
    width: int | None


@dataclass(frozen=True)
class Memory:
    """What one access costs, by the size of the memory.

    `model` is "none"; "levels": the smallest level that holds it; "curve": linear between the levels' capacities,
    beyond them the last; "affine": the first constant plus size in bits times the second. `sized_by` is "model" (one
    memory holds all) or "array" (each layer has memories of its own; queues of events have `queue_bits`).
    """

    model: str = "none"
    sized_by: str = "model"
    levels: tuple[Level, ...] = ()
    queue_bits: int = 0

    def level(self, size: float) -> Level:
        """The level that holds `size` bits."""
        return next(level for level in self.levels if size <= level.capacity)

    def access_pj(self, at: Mapping[str, float], size: Tensor, width: int) -> Tensor:
        """Picojoules of one access of `width` bits to memories of `size` `[*]` bits, `[*]`; `at` has the constants."""
        if self.model == "none":
            return torch.zeros_like(size)
        prices = [at[x.constant] if x.width is None else at[x.constant] * width / x.width for x in self.levels]
        if self.model == "affine":
            return prices[0] + prices[1] * size
        capacities = size.new_tensor([x.capacity for x in self.levels[:-1]])
        index = torch.bucketize(size, capacities)
        steps = size.new_tensor(prices)
        if self.model == "levels":
            return steps[index]
        right = index.clamp(1, len(capacities) - 1)
        left = right - 1
        share = (size - capacities[left]) / (capacities[right] - capacities[left])
        between = steps[left] + share.clamp(0, 1) * (steps[right] - steps[left])
        return torch.where(index == len(capacities), steps[-1], between)


def array_bits(counts: OpCounts, bits: Bits, movement: str, queue_bits: int) -> tuple[Tensor, Tensor]:
    """The sizes of the memories that a movement of each layer `[layer]` and of the neurons `[]` uses, in bits.

    The states of all neurons are one memory, because counts do not say which layer feeds which population.
    """
    counts = counts.detach()
    enter, leave, _ = _per_step(counts)
    kind = kind_of(movement)
    states = float(sum(n.number for n in counts.neurons.values() if n.updates))
    outputs = counts.per_layer("outputs") / counts.steps
    elements = {
        "weight_reads": enter.new_tensor(counts.weights),
        "bias_reads": enter.new_tensor(counts.biases),
        "state_reads": outputs,
        "state_writes": outputs,
        "activation_reads": enter,
        "activation_writes": leave,
    }
    if kind in ("event", "address"):
        return torch.full_like(enter, queue_bits), enter.new_tensor(float(queue_bits))
    return elements[movement] * getattr(bits, kind), enter.new_tensor(states * getattr(bits, kind))


def _layer_drivers(counts: OpCounts, skips_zero_values: bool) -> dict[str, Tensor]:
    outputs, share = counts.per_layer("outputs"), _value_share(counts)
    return {
        "mac": counts.per_layer("macs" if skips_zero_values else "dense_macs"),
        "ac": counts.per_layer("acs"),
        "bias_add": counts.per_layer("bias_adds"),
        "value_input": counts.per_layer("value_inputs"),
        "output": outputs * share,
        "event_output": outputs * (1 - share),
        "event": counts.per_layer("events"),
    }


def _neuron_drivers(counts: OpCounts) -> dict[str, Tensor | float]:
    return {"update": sum(counts.updates_per_sample().values()), "event_sent": counts.events_sent}


def _value_share(counts: OpCounts) -> Tensor:
    """The share of each layer's inputs that are values: 0 or 1 but for a module shared by values and events."""
    values, events = counts.per_layer("value_inputs"), counts.per_layer("event_inputs")
    return values / (values + events).clamp(min=1)


def _per_step(counts: OpCounts) -> tuple[Tensor, Tensor, Tensor]:
    """Elements of each layer in one step, `[layer]`: values that enter, outputs of values, event inputs."""
    steps = counts.steps
    leave = counts.per_layer("outputs") * _value_share(counts)
    return counts.per_layer("value_inputs") / steps, leave / steps, counts.per_layer("event_inputs") / steps
