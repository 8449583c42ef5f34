"""The firing rate at which a spiking network costs as much as each of its baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from picojoule.energy.baselines import Baseline, baselines, has_events, matched_bits, prices_of
from picojoule.energy.count import QUANTITIES, OpCounts
from picojoule.energy.price import Energy, Hardware
from picojoule.errors import BadInput

_OF_EVENTS = ("acs", "graded_events", "shift_adds", "events")


@dataclass(frozen=True)
class Crossover:
    """Where a model stands against one baseline; rates are events per neuron and step.

    `model_rate` is the model's own rate. At `rate`, all event layers scaled together, both cost the same: below it
    the model wins. `low` and `high` are the least and the greatest such rate over the price list's low, value and high
    prices. `margin` is `rate / model_rate`: below 1 the model has to fire that much less. All four are None where no
    such rate exists; `sentence` says in words what holds.
    """

    model_rate: float | None
    rate: float | None
    low: float | None
    high: float | None
    margin: float | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def crossover(
    counts: OpCounts, hardware_name: str | Path | Hardware, against: Mapping[str, Baseline] | None = None
) -> dict[str, Crossover]:
    """The crossover of a model against each of its baselines: those given, or those of `baselines`.

    The structure being fixed, energy is affine in the event rate: two priced counts give it exactly.
    """
    counts, own = counts.detach(), prices_of(hardware_name)
    against = baselines(counts, own) if against is None else against
    now, without = own.energy_pj(counts), own.energy_pj(with_events_scaled(counts, 0.0))
    found = {name: _against(baseline, firing_rate(counts), now, without) for name, baseline in against.items()}
    if not own.unpriced(counts):
        return found
    return {k: replace(c, sentence=f"{c.sentence} (its MACs or ACs are not all priced)") for k, c in found.items()}


def firing_rate(counts: OpCounts) -> float | None:
    """Mean events per spiking neuron and step; without such neurons those per event input; without both None."""
    spiking = [n for n in counts.neurons.values() if n.updates]
    if not has_events(counts):
        return None
    if not spiking:
        return float(counts.total("events") / counts.total("event_inputs"))
    return sum(n.events for n in spiking) / sum(n.updates for n in spiking)


def with_events_scaled(counts: OpCounts, factor: float) -> OpCounts:
    """The counts if every neuron and every event input sent `factor` times the events; values are as they were."""
    row = torch.ones(len(QUANTITIES), 1, dtype=counts.sums.dtype, device=counts.sums.device)
    row[[QUANTITIES.index(q) for q in _OF_EVENTS]] = factor
    values = counts.per_layer("macs") * counts.samples
    # the steps of a layer that gets both values and events are not told apart: they stay
    by_step = (s if float(v) else s * factor for s, v in zip(counts.by_step, values, strict=True))
    neurons = {k: n._replace(events=n.events * factor) if n.updates else n for k, n in counts.neurons.items()}
    return replace(
        counts,
        sums=counts.sums * row,
        squares=counts.squares * row**2,
        total_squares=counts.total_squares * row[:, 0] ** 2,
        by_step=tuple(by_step),
        neurons=neurons,
    )


def _against(baseline: Baseline, model_rate: float | None, now: Energy, without: Energy) -> Crossover:
    margins = [_margin(*e) for e in zip(now, without, baseline.energy, strict=True)]
    margin = margins[0]
    rate = low = high = None
    if model_rate is not None and margin is not None:
        rate = margin * model_rate
        rates = [m * model_rate for m in margins if m is not None]
        low, high = (min(rates), max(rates)) if len(rates) == len(margins) else (None, None)
    sentence = _sentence(baseline, model_rate, rate, now.value, without.value)
    return Crossover(model_rate, rate, low, high, None if rate is None else margin, sentence)


def _margin(now: float, without: float, baseline: float) -> float | None:
    """By how much events would have to be scaled for equal energy; None if no scale above 0 does it."""
    if now <= without or baseline <= without:
        return None
    return (baseline - without) / (now - without)


def _sentence(baseline: Baseline, model_rate: float | None, rate: float | None, now: float, without: float) -> str:
    if baseline.ratio is None:
        return f"the {baseline.title} costs nothing under this price list: there is nothing to compare"
    uses = f"uses {baseline.ratio:.3g} times the energy of the {baseline.title}"
    if model_rate is None:
        return f"the model {uses}; no layer receives events, so no firing rate changes that"
    other = baseline.energy.value
    verdict = "and loses" if now > other else "and wins" if now < other else "and is even"
    return f"at {_percent(model_rate)} the SNN {uses} {verdict}; {_where(model_rate, rate, now, without, other)}"


def _where(model_rate: float, rate: float | None, now: float, without: float, other: float) -> str:
    if rate is None and without >= other:
        return f"no rate wins: without a single event it uses {without / other:.3g} times"
    if rate is None:
        return "it sent no event" if model_rate == 0 else "events cost nothing under this price list"
    if rate >= 1 >= model_rate:
        return "it wins at any rate up to one event per neuron and step"
    return f"it {'wins' if now < other else 'would win'} below {_percent(rate)}"


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


# Picojoules, 22 nm: an accumulate, comparison or subtraction; a bit from DRAM; a bit moved on chip.
# Source: Yan et al., arXiv 2409.08290, as used in Spyx's study (see docs/baselines-and-crossover.md).
_ADD, _DRAM_BIT, _CHIP_BIT = 0.05448, 20.0, 0.25
# Picojoules, 45 nm float32: multiply, add. Source: Horowitz 2014, ISSCC.
_MULTIPLY32, _ADD32 = 3.7, 0.9


def yan_rule(steps: int, weight_bits: int = 8) -> float:
    """Crossover rate if weight traffic is all that costs: ceil(log2(T + 1)) / (weight_bits * T).

    An event of the SNN fetches a weight of `weight_bits`, T times the rate per synapse; the bit-matched network
    fetches one weight of ceil(log2(T + 1)) bits per synapse.
    """
    if weight_bits < 1:
        raise BadInput(f"expected weights of at least 1 bit, got {weight_bits}")
    return matched_bits(steps) / (weight_bits * steps)


def yan_crossover(steps: int, widths: Sequence[int] = (256, 128, 10), weight_bits: int = 8) -> float:
    """Crossover rate of a chain of linear layers of these `widths` against its bit-matched network, all terms.

    Both fetch weights from DRAM, the network with b = ceil(log2(T + 1)) bits also as weights; states and activations
    are moved on chip. All inputs and hidden neurons fire at one rate; the last layer integrates without firing.
    Source: the study `honest_energy_accounting` of Spyx (commit 87a7730), constants of Yan et al. and Horowitz.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise BadInput(f"expected the widths of at least two layers, each at least 1, got {tuple(widths)}")
    synapses = sum(a * b for a, b in zip(widths, widths[1:], strict=False))
    hidden, stateful, bits = sum(widths[1:-1]), sum(widths[1:]), matched_bits(steps)
    per_rate = steps * (synapses * (_ADD + weight_bits * _DRAM_BIT) + hidden * _ADD)
    at_rest = steps * (hidden * _ADD + stateful * 8 * 2 * _CHIP_BIT)  # 8-bit states, read and written
    mac = _MULTIPLY32 * (bits / 32) ** 2 + _ADD32 * bits / 32
    network = synapses * (mac + bits * _DRAM_BIT) + 2 * stateful * _ADD + sum(widths) * bits * _CHIP_BIT
    return (network - at_rest) / per_rate
