"""Silent, saturated, rarely active and busy neurons of a population."""

from typing import NamedTuple

import torch
from torch import Tensor

from picojoule.errors import BadInput

RARELY = 0.01
"""A neuron that fired in fewer than this share of the samples, but in one at least, is rarely active (our choice)."""

RATE_BINS = 10
"""Equal bins of `Health.rate_histogram` on [0, 1]; one more holds rates above 1."""


class Health(NamedTuple):
    """One population over a data set; `layer` is the site that drives it.

    `silent_fraction` is the share of neurons that never sent anything, `rate` the mean number of events per neuron,
    step and sample. `rate_histogram` counts neurons by their own rate: ten bins [0, 0.1), ... [0.9, 1], then > 1.

    None in training, where only events are known: `saturated_fraction`, neurons with an event at every step of every
    sample; `rarely_active_fraction`, neurons that fired in fewer than 1 % of the samples and are not silent (None too
    for 100 samples or fewer, which cannot tell); `fired_fraction` and `multiple_fraction`, the shares of
    neurons x samples with at least one event and with more than one; `events_per_active_step`, above 1 where neurons
    send several events in one step (None too if nothing was sent).

    Of activations (ReLU) an event is a non-zero value: `rate` and `fired_fraction` are shares of non-zeros; the
    saturated and multiple shares and `events_per_active_step` have no meaning and are None.
    """

    name: str
    neuron: str
    layer: str
    neurons: int
    silent_fraction: float
    rate: float
    rate_histogram: tuple[int, ...]
    saturated_fraction: float | None
    rarely_active_fraction: float | None
    fired_fraction: float | None
    multiple_fraction: float | None
    events_per_active_step: float | None


def health_of(
    name: str,
    neuron: str,
    events: Tensor,
    steps: float,
    samples: int,
    *,
    active: Tensor | None = None,
    fired: Tensor | None = None,
    multiple: Tensor | None = None,
    spiking: bool = True,
    layer: str = "",
) -> Health:
    """The health of one population from what its NeuronRecords add up to; all tensors are `[*N]`.

    `events`, `active`, `fired` and `multiple` are sums over `samples` inputs of `steps` steps each (their mean, if they
    vary); `spiking` is False for activations, `layer` names the site that drives the population. Raises BadInput for
    no samples, no steps or no neurons.
    """
    if min(steps, samples, events.numel()) < 1:
        raise BadInput(
            f"{name}: expected at least one neuron, step and sample, got {events.numel()} neurons, {steps} steps and "
            f"{samples} samples (was any batch counted?)"
        )
    of_all, rare = events.numel() * samples, None
    if fired is not None and samples * RARELY > 1:
        rare = _share((fired > 0) & (fired < RARELY * samples))
    return Health(
        name,
        neuron,
        layer,
        events.numel(),
        _share(events == 0),
        float(events.mean()) / (steps * samples),
        _rate_histogram(events, round(steps * samples)),
        _share(active == round(steps * samples)) if spiking and active is not None else None,
        rare,
        None if fired is None else float(fired.sum()) / of_all,
        float(multiple.sum()) / of_all if spiking and multiple is not None else None,
        float(events.sum() / active.sum()) if spiking and active is not None and active.any() else None,
    )


def fired_share(health: tuple[Health, ...]) -> float | None:
    """Share of neurons x samples that fired at all, over spiking populations; None where that is not known."""
    known = [h for h in health if h.fired_fraction is not None and h.multiple_fraction is not None]
    neurons = sum(h.neurons for h in known)
    return sum(h.neurons * (h.fired_fraction or 0.0) for h in known) / neurons if neurons else None


def _share(chosen: Tensor) -> float:
    return float(chosen.double().mean())


def _rate_histogram(events: Tensor, of: int) -> tuple[int, ...]:
    """Neurons by rate; `of` is steps x samples. Multiplied before it is divided, so that no rate on an edge slips."""
    bins = (events.double() * RATE_BINS / of).floor().clamp(max=RATE_BINS - 1)
    bins[events > of] = RATE_BINS
    return tuple(torch.bincount(bins.long().flatten(), minlength=RATE_BINS + 1).tolist())
