"""The synaptic penalty: the number of accumulates, which is the energy that is reported."""

import torch
from torch import Tensor

from picojoule.energy.count import count
from picojoule.energy.penalties.parts import (
    Strengths,
    entered_sites,
    factors,
    live_operand,
    penalised_synapses,
    timesteps_of,
    wide,
    without_rest,
)
from picojoule.errors import BadInput, check_choice
from picojoule.graph import Activity
from picojoule.graph.fan_out import weighted_sum
from picojoule.graph.records import SynapseRecord

POWERS_ON, FAN_OUTS = ("spike", "count"), ("exact", "interior")


def synaptic_penalty(
    activity: Activity,
    p: int = 1,
    *,
    power_on: str = "spike",
    psi: str = "exact",
    strengths: Strengths | None = None,
) -> Tensor:
    """Batch mean of `sum(psi * n**p) / p` over time and hidden events: a scalar, float64.

    With p=1 it is the number of accumulates itself, `p * E_AC * penalty` is the energy of the penalised
    layers; on unit spikes the same holds for p=2. p=1 also presses on neurons that stayed silent (within the
    surrogate's support), p=2 on those that fired only. Events of the input are data and not penalised.

    Arguments:
        power_on: "spike" raises each event to p and sums over time; "count" raises the events of a neuron over all
            steps to p, as a re-implementation does, which is no energy for p=2 and several steps.
        psi: "exact" fan-out at every position, or the constant of the "interior", which ignores borders.
        strengths: factors by layer that the events enter (`conv2`), 1 where none is given.

    Source: Suetake et al. 2023, arXiv 2302.01500 (equation from a summary of the paper; the factor 1/p and
    the power on single events are inferred, see docs/methods/synaptic-penalty.md).
    """
    check_choice("p", p, (1, 2))
    check_choice("power_on", power_on, POWERS_ON)
    check_choice("psi", psi, FAN_OUTS)
    records = penalised_synapses(activity)
    if p != 1 or psi != "exact":
        records = without_rest(records)
    scale = factors((r.site.name for r in records), strengths)
    if p == 1 and psi == "exact":
        terms = [f * r.acs.sum() for f, r in zip(scale, records, strict=True)]
    elif power_on == "spike":
        fan_outs = [live_operand(r).synapses if psi == "exact" else _interior(r) for r in records]
        terms = [f * _powers_of_events(r, fan, p) for f, r, fan in zip(scale, records, fan_outs, strict=True)]
    else:
        terms = _powers_of_counts(records, p, psi, strengths)
    return torch.stack(terms).sum() / (p * activity.samples)


def dense_accumulates(activity: Activity) -> float:
    """Accumulates per sample and time step if every penalised input sent all events it can: `D`.

    Strengths are given in units of it (`lambda = lambda_hat / D`), so that they do not depend on the size of
    the network, the batch, or the number of steps.
    """
    hidden = count(activity._replace(synapses=tuple(penalised_synapses(activity))))
    return float(hidden.detach().total("dense_acs")) / timesteps_of(activity)


def _powers_of_events(record: SynapseRecord, synapses: Tensor, p: int) -> Tensor:
    calls, _, batch = live_operand(record)
    return torch.stack([weighted_sum(wide(n) ** p, synapses, batch).sum() for n in calls]).sum()


def _powers_of_counts(records: list[SynapseRecord], p: int, psi: str, strengths: Strengths | None) -> list[Tensor]:
    sites = entered_sites(records)
    interior = {r.site.name: _interior(r).reshape(()) for r in records} if psi == "interior" else {}
    return [
        f * (site.train.sum(0, dtype=torch.float64) ** p * interior.get(site.name, site.fan_out)).sum()
        for f, site in zip(factors((site.name for site in sites), strengths), sites, strict=True)
    ]


def _interior(record: SynapseRecord) -> Tensor:
    """The fan-out far from any border, in the shape that broadcasts against the operand."""
    synapses, interior = live_operand(record).synapses, record.site.interior
    if interior is not None:
        return synapses.new_full((1,) * synapses.dim(), interior)
    if synapses.numel() > 1:
        raise BadInput(f"{record.site.name}: its interior fan-out is not known; give psi='exact'")
    return synapses
