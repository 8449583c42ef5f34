"""Penalties that keep activity within bounds, from below so that no neuron falls silent."""

import torch
from torch import Tensor

from picojoule.energy.penalties.parts import Strengths, batch_mean, factors, penalised_populations, sent_by
from picojoule.errors import BadInput, check_choice, check_number
from picojoule.graph import Activity


def activity_floor(activity: Activity, least: float = 0.1) -> Tensor:
    """Mean over hidden layers and neurons of `max(0, least - n)**2 / least**2`: a scalar, float64.

    n is the neuron's mean number of events over the batch, `least` in events per sample. 0 if every neuron reaches
    it, 1 if all are silent. Its gradient passes where a silent neuron lies within the surrogate's support.

    Source: our choice, of the shape of stork's lower bounds, see docs/methods/penalty-baselines.md.
    """
    check_number("the floor", least)
    if not 0 < least < float("inf"):
        raise BadInput(f"expected a floor above 0 events per sample, got {least}")
    populations = penalised_populations(activity).values()
    short = [(1 - batch_mean(sent_by(records)) / least).clamp(min=0).square().double() for records in populations]
    return torch.stack([layer.mean() for layer in short]).mean()


def rate_bounds(
    activity: Activity,
    lower: float | None = None,
    upper: float | None = None,
    *,
    power: int = 2,
    over: str = "neuron",
    strengths: Strengths | None = None,
) -> Tensor:
    """Mean over hidden layers of how far counts lie outside `[lower, upper]`, to the `power`: a scalar, float64.

    Arguments:
        lower, upper: bounds in events per sample; one may be None.
        power: 1 or 2 (L1 or L2 of the hinge).
        over: "neuron" bounds every neuron in every sample, "population" the mean count of a layer in every sample.
        strengths: factors by population (`lif1`).

    Source: the regularisers of stork (read), in a form of our own.
    """
    if lower is None and upper is None:
        raise BadInput("expected a lower or an upper bound in events per sample, got neither")
    given = [bound for bound in (lower, upper) if bound is not None]
    for bound in given:
        check_number("a bound", bound)
    if given != sorted(given) or not all(0 <= bound < float("inf") for bound in given):
        raise BadInput(f"expected 0 <= lower <= upper, got lower={lower} and upper={upper}")
    check_choice("power", power, (1, 2))
    check_choice("over", over, ("neuron", "population"))
    populations = penalised_populations(activity)
    scale = factors(populations, strengths)
    terms = []
    for factor, records in zip(scale, populations.values(), strict=True):
        counts = sent_by(records).double()
        if over == "population":
            counts = counts.flatten(1).mean(1)
        outside = counts.new_zeros(counts.shape)
        if lower is not None:
            outside = outside + (lower - counts).clamp(min=0) ** power
        if upper is not None:
            outside = outside + (counts - upper).clamp(min=0) ** power
        terms.append(factor * outside.mean())
    return torch.stack(terms).mean()
