"""The first-spike penalty: the spikes of a neuron after its first ones."""

from collections.abc import Callable

import torch
from torch import Tensor

from picojoule.energy.penalties.parts import (
    Strengths,
    entered_sites,
    factors,
    penalised_populations,
    penalised_synapses,
    train_of,
)
from picojoule.energy.penalties.synaptic import dense_accumulates
from picojoule.errors import BadInput, check_choice
from picojoule.graph import Activity

WEIGHTS = ("layer", "fan-out")
_Gate = Callable[[Tensor, Tensor, int], Tensor]
"""Where the gradient acts in one step: from the events before it, and in all, to a mask `[B, *N]`."""

GATES: dict[str, _Gate] = {
    "strict": lambda before, total, budget: (total > budget) & (before >= budget),
    "after-first": lambda before, total, budget: before >= budget,
    "relu-count": lambda before, total, budget: total > budget,
}


def first_spike_penalty(
    activity: Activity,
    budget: int = 1,
    *,
    gate: str = "strict",
    weight: str = "layer",
    strengths: Strengths | None = None,
) -> Tensor:
    """Batch mean of the events of each neuron beyond its `budget`: a scalar, float64.

    Arguments:
        budget: the first events, which cost nothing.
        gate: where the gradient acts; the value is the same. "strict" spares the first events and every neuron within
            its budget, "after-first" presses on every step after them, also where no event was, and "relu-count" on
            all events of a neuron that exceeds its budget, the first included.
        weight: "layer" takes the mean over the neurons of a layer, then over layers; "fan-out" weighs each excess event
            by the synapses it reaches, as a share of D, what enters synapses behind a pool being what the pool lets
            through.
        strengths: factors by population (`lif1`), with weight="fan-out" by layer that the events enter (`conv2`).

    Source: Fontanini, Esseni, Loghi 2022, doi 10.1145/3546790.3546798; its full text was not available, so the value
    and the gates are our choice, see docs/methods/first-spike.md.
    """
    if not budget >= 1 or budget % 1:
        raise BadInput(f"expected a budget of at least 1 spike, a whole number, got {budget}")
    check_choice("gate", gate, GATES)
    check_choice("weight", weight, WEIGHTS)
    if weight == "fan-out":
        return _weighted_by_fan_out(activity, budget, gate, strengths)
    populations = penalised_populations(activity)
    scale = factors(populations, strengths)
    terms = [
        f * excess(train_of(records), budget, gate).sum(dtype=torch.float64) / records[0].events.numel()
        for f, records in zip(scale, populations.values(), strict=True)
    ]
    return torch.stack(terms).mean() / activity.samples


def excess(train: Tensor, budget: int, gate: str) -> Tensor:
    """Events of each neuron beyond its budget, `[B, *N]`, of a train `[T, B, *N]`; its gradient acts at the gate."""
    wide = torch.promote_types(train.dtype, torch.float32)  # bfloat16 counts to 256 alone
    events = train.detach().to(wide)
    total = events.sum(0)
    before, acting = torch.zeros_like(total), []
    for sent in events:  # several times faster than sums along time
        acting.append(GATES[gate](before, total, budget))
        before += sent
    pressed = torch.where(torch.stack(acting), train, 0.0).sum(0, dtype=wide)
    return (total - budget).clamp(min=0) + pressed - pressed.detach()


def _weighted_by_fan_out(activity: Activity, budget: int, gate: str, strengths: Strengths | None) -> Tensor:
    sites = entered_sites(penalised_synapses(activity))
    scale = factors((site.name for site in sites), strengths)
    terms = [f * (excess(site.train, budget, gate) * site.fan_out).sum() for f, site in zip(scale, sites, strict=True)]
    return torch.stack(terms).sum() / (activity.samples * dense_accumulates(activity))
