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
from picojoule.errors import BadInput, check_choice, check_number
from picojoule.graph import Activity
from picojoule.kinds import Events

WEIGHTS = ("layer", "fan-out")
_Gate = Callable[[Tensor, Tensor], Tensor]
"""The share of the events of one step that the gradient presses on, from the share that is beyond the budget and from
whether the neuron exceeds its budget at all, to `[B, *N]`."""

GATES: dict[str, _Gate] = {
    "strict": lambda beyond, exceeds: beyond * exceeds,
    "after-first": lambda beyond, exceeds: beyond,
    "relu-count": lambda beyond, exceeds: exceeds.to(beyond.dtype),
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
            all events of a neuron that exceeds its budget, the first included. Of several events of one step it acts
            on the share that is beyond.
        weight: "layer" takes the mean over the neurons of a layer, then over layers; "fan-out" weighs each excess event
            by the synapses it reaches, as a share of D, what enters synapses behind a max pool being what the pool
            lets through.
        strengths: factors by population (`lif1`), with weight="fan-out" by layer that the events enter (`conv2`).

    Raises BadInput for weight="fan-out" where the events of several neurons are added up before they enter synapses, as
    by average pooling and residual adds, or a neuron may send several at once: its budget cannot be told apart there.

    Source: Fontanini, Esseni, Loghi 2022, doi 10.1145/3546790.3546798; its full text was not available, so the value
    and the gates are our choice, see docs/methods/first-spike.md.
    """
    check_number("the budget", budget)
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
    so_far, acting = torch.zeros_like(total), []
    for sent in events:  # several times faster than sums along time
        so_far += sent
        at_least_one = sent.clamp(min=1)  # of a step without events: whether the next one would be beyond
        beyond = ((so_far - sent + at_least_one - budget) / at_least_one).clamp(0, 1)
        acting.append(GATES[gate](beyond, total > budget))
    pressed = (torch.stack(acting) * train).sum(0, dtype=wide)
    return (total - budget).clamp(min=0) + pressed - pressed.detach()


def _weighted_by_fan_out(activity: Activity, budget: int, gate: str, strengths: Strengths | None) -> Tensor:
    records = penalised_synapses(activity)
    for record in records:
        if isinstance(record.site.kind, Events) and record.site.kind.most != 1:
            raise BadInput(
                f"{record.site.name}: expected at most one event at a time from one neuron, but average pooling, a "
                "residual add or the neuron itself may make several, so that a neuron's budget cannot be told apart; "
                "use max pooling, or weight='layer'"
            )
    sites = entered_sites(records)
    scale = factors((site.name for site in sites), strengths)
    terms = [f * (excess(site.train, budget, gate) * site.fan_out).sum() for f, site in zip(scale, sites, strict=True)]
    return torch.stack(terms).sum() / (activity.samples * dense_accumulates(activity))
