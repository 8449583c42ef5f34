"""Penalties on activity: differentiable, and made of the counts that are reported."""

from torch import Tensor

from picojoule.energy.count import QUANTITIES, count
from picojoule.errors import BadInput
from picojoule.graph import Activity
from picojoule.graph.fan_out import weighted_sum


def synaptic_penalty(activity: Activity, p: int = 1) -> Tensor:
    """Batch mean of `sum(fan_out * n**p) / p` over time and hidden events: a scalar, float64.

    With p=1 it is the number of accumulates itself, `p * E_AC * penalty` is the energy of the penalised
    layers; on unit spikes the same holds for p=2. p=1 also presses on neurons that stayed silent (within the
    surrogate's support), p=2 on those that fired only. Events of the input are data and not penalised.

    Source: Suetake et al. 2023, arXiv 2302.01500 (equation from a summary of the paper; the factor 1/p and
    the power on single events are inferred, see docs/methods/synaptic-penalty.md).
    """
    if p not in (1, 2):
        raise BadInput(f"expected p=1 or p=2, got {p}")
    records = activity.penalisable()
    if not records:
        raise BadInput("nothing to penalise: no trained neuron's events enter a synapse of this model")
    if p == 1:
        hidden = count(activity._replace(synapses=tuple(records)))
        return hidden.sums[QUANTITIES.index("acs")].sum() / activity.samples
    terms: list[Tensor] = []
    for record in records:
        if record.operand is None:
            raise BadInput("the penalty with p=2 needs live events: run the observed model with gradients on")
        calls, synapses, batch = record.operand
        terms += [weighted_sum(n**p, synapses, batch).sum() for n in calls]
    return sum(terms[1:], terms[0]) / (p * activity.samples)


def dense_accumulates(activity: Activity) -> float:
    """Accumulates per sample and time step if every penalised input sent all events it can: `D`.

    Strengths are given in units of it (`lambda = lambda_hat / D`), so that they do not depend on the size of
    the network, the batch, or the number of steps.
    """
    hidden = count(activity._replace(synapses=tuple(activity.penalisable())))
    return float(hidden.detach().total("dense_acs")) / activity.timesteps
