"""What the same synapses would cost without spikes: baselines built from the counts of the model itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from picojoule.energy.count import QUANTITIES, NeuronCounts, OpCounts
from picojoule.energy.health import Health, fired_share
from picojoule.energy.price import Energy, Hardware, hardware, hardware_names
from picojoule.energy.units import Price
from picojoule.errors import BadInput

INT8_BESIDE = "horowitz-45nm-int8-memory"
"""Prices 8-bit ANNs where the given list has no 8-bit numbers (our choice: memory is in the figures of most chips)."""


@dataclass(frozen=True)
class Baseline:
    """A network without spikes on the model's own synapses, priced per sample.

    `macs` are its multiply-accumulates per sample and `hardware` the list that priced them; `ratio` is the model's
    energy over this one's (above 1 the model loses; None if this one is free). `note` says what was assumed.
    """

    title: str
    energy: Energy
    macs: float
    hardware: str
    ratio: float | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        numbers = {"energy_pj": self.energy._asdict(), "ratio": self.ratio, "macs": self.macs}
        return {"title": self.title, **numbers, "hardware": self.hardware, "note": self.note}


def check_settings(ann_density: float | None, presentations: int) -> None:
    """Raises BadInput for a density outside (0, 1] and fewer than one presentation."""
    if ann_density is not None and not 0 < ann_density <= 1:
        raise BadInput(f"expected ann_density in (0, 1], the share of non-zero activations, got {ann_density}")
    if presentations < 1:
        raise BadInput(f"expected presentations of at least 1, got {presentations}")


def baselines(
    counts: OpCounts,
    hardware_name: str | Path | Hardware,
    *,
    ann_density: float | None = None,
    health: Sequence[Health] = (),
    presentations: int = 1,
    step_bits: int = 1,
) -> dict[str, Baseline]:
    """Price the ANNs that have the synapses of `counts`: dense, sparse, int8, and bit-matched to the time steps.

    An ANN sees each sample `presentations` times: once unless said otherwise, and never more often than the model
    itself. `step_bits` is what stores the events that a neuron sends in one step. `ann_density` is the share of
    non-zero activations of the sparse ANN; without it the proxy is the share of neurons that fired at least once per
    sample, from `health`; without that, at most the events per input and sample; with more presentations, the share of
    each layer's products with an event, per presentation.
    Left out are `dense-ann` and `sparse-ann` where the list has no price for a MAC, and `bit-matched-ann` for a model
    without events. Raises BadInput for a density outside (0, 1] and fewer than one presentation.
    """
    check_settings(ann_density, presentations)
    counts, own = counts.detach(), prices_of(hardware_name)
    int8 = int8_prices(own)
    model, missing = own.energy_pj(counts).value, own.unpriced(counts)

    def priced(title: str, ann: OpCounts, by: Hardware, energy: Energy, *notes: str) -> Baseline:
        ratio = model / energy.value if energy.value else None
        note = "; ".join([*notes, *(f"not in the model's energy: {what}" for what in missing)])
        return Baseline(title, energy, float(ann.total("macs")), by.name, ratio, note)

    found: dict[str, Baseline] = {}
    dense, once = dense_ann(counts, presentations), "once" if presentations == 1 else f"{presentations} times"
    if not own.unpriced(dense):
        note = f"every synapse one multiply-accumulate, presented {once}"
        found["dense-ann"] = priced("dense ANN", dense, own, own.energy_pj(dense), note)
        density, origin = _density(counts, ann_density, health, presentations)
        sparse = sparse_ann(counts, density, presentations)
        found["sparse-ann"] = priced("sparse ANN", sparse, own, own.energy_pj(sparse), "zeros skipped", origin)
    beside = "" if int8.name in (own.name, _int8_twin(own.name)) else f", not {own.name}: compare with care"
    by = f"priced with {int8.name}{beside}"
    found["int8-ann"] = priced("int8 ANN", dense, int8, int8.energy_pj(dense), "8-bit weights and activations", by)
    if has_events(counts):
        steps = -(-counts.model_steps // presentations)
        bits = matched_bits(steps) if steps > 1 else step_bits
        title, note = f"bit-matched {bits}-bit ANN", f"{bits}-bit activations where the model has events, 8-bit weights"
        energy = _bit_matched_energy(counts, dense, int8, bits)
        found["bit-matched-ann"] = priced(title, dense, int8, energy, note, by)
    return found


def dense_ann(counts: OpCounts, presentations: int = 1) -> OpCounts:
    """Counts of the ANN in which every synapse makes one multiply-accumulate per presentation."""
    inputs = counts.per_layer("event_inputs") + counts.per_layer("value_inputs")
    return _ann(counts, counts.per_layer("synapses"), inputs, presentations)


def sparse_ann(counts: OpCounts, density: float | Tensor, presentations: int = 1) -> OpCounts:
    """Counts of the ANN that neither multiplies nor moves zero activations.

    `density` (a share, or `[layer]`) of the inputs that are events in the model would be non-zero; of inputs that are
    values the model's own non-zeros are taken.
    """
    macs = counts.per_layer("macs") + density * _event_synapses(counts)
    inputs = counts.per_layer("active_values") + density * counts.per_layer("event_inputs")
    return _ann(counts, macs, inputs, presentations)


def matched_bits(steps: int) -> int:
    """Bits of an activation with as many levels as `steps` time steps have spike counts: ceil(log2(steps + 1)).

    Source: Yan, Bai, Tang, Wong, arXiv 2409.08290.
    """
    if steps < 1:
        raise BadInput(f"expected at least one time step, got {steps}")
    return steps.bit_length()


def prices_of(hardware_name: str | Path | Hardware) -> Hardware:
    """A price list, from its name or file or as it is."""
    return hardware_name if isinstance(hardware_name, Hardware) else hardware(hardware_name)


def int8_prices(own: Hardware) -> Hardware:
    """The price list of 8-bit numbers that belongs to `own`: of the same family, or itself, or INT8_BESIDE."""
    if _int8_twin(own.name) in hardware_names():
        return hardware(_int8_twin(own.name))
    return own if own.bits and own.bits.activation == 8 and "mac" in own.constants else hardware(INT8_BESIDE)


def has_events(counts: OpCounts) -> bool:
    """Whether any layer receives events."""
    return float(counts.total("event_inputs")) > 0


def _event_synapses(counts: OpCounts) -> Tensor:
    """Synapses times steps whose input is events, `[layer]`; every synapse of a value is a dense MAC."""
    return counts.per_layer("synapses") - counts.per_layer("dense_macs")


def _presented(counts: OpCounts, presentations: int) -> Tensor:
    """Which part of each layer's steps the ANN runs, `[layer]`.

    A layer with more steps than the model has is called several times in each; the ANN calls it as often.
    """
    return counts.steps.clamp(max=presentations) / counts.steps


def _ann(counts: OpCounts, macs: Tensor, inputs: Tensor, presentations: int) -> OpCounts:
    """Counts with `macs` and `inputs` `[layer]` per sample at all of the model's steps, cut to the presentations.

    Nothing is known of their spread over samples: it is 0.
    """
    rows = {"macs": macs, "dense_macs": macs, "synapses": counts.per_layer("synapses")}
    rows |= {"active_values": inputs, "value_inputs": inputs}
    rows |= {q: counts.per_layer(q) for q in ("outputs", "bias_adds")}
    part, none = _presented(counts, presentations), torch.zeros_like(macs)
    elements = counts.per_layer("event_inputs") + counts.per_layer("value_inputs")
    means = torch.stack([rows[q] * part if q in rows else none for q in QUANTITIES])
    neurons = sum(n.number for n in counts.neurons.values())
    steps = min(presentations, counts.model_steps)
    active = float((inputs * part).sum() / (elements * part).sum().clamp(min=1)) * neurons * counts.samples * steps
    return replace(
        counts,
        sums=means * counts.samples,
        squares=means**2 * counts.samples,
        total_squares=means.sum(1) ** 2 * counts.samples,
        by_step=tuple(map(_even, macs * part * counts.samples, part * counts.steps)),
        neurons={"ReLU": NeuronCounts(neurons, 0.0, active)} if neurons else {},
        timesteps=steps,
    )


def _even(total: Tensor, steps: Tensor) -> Tensor:
    """`total` in equal parts."""
    number = max(1, round(float(steps)))
    return (total / number).repeat(number)


def _density(
    counts: OpCounts, given: float | None, health: Sequence[Health], presentations: int
) -> tuple[float | Tensor, str]:
    """The sparse ANN's share of non-zero activations behind spikes, and where it comes from."""
    if not has_events(counts):
        return 1.0, "the model's own zeros"
    if given is not None:
        return given, f"density {given:.3g} as given"
    if presentations > 1:
        products = _event_synapses(counts) * _presented(counts, presentations)
        met = (counts.per_layer("graded_events") / products.clamp(min=1)).clamp(max=1)
        return met, "density by proxy the share of products with an event, at most 1"
    fired = fired_share(tuple(health))
    if fired is not None:
        return fired, f"density {fired:.3g}, by proxy the share of neurons that fired at least once per sample"
    inputs = counts.per_layer("event_inputs") * _presented(counts, 1)
    bound = (counts.per_layer("events") / inputs.clamp(min=1)).clamp(max=1)
    return bound, "density by proxy the events per input and sample, at most 1 (more than the share that fired)"


def _int8_twin(name: str) -> str:
    """What the same prices are called with 8-bit numbers; "" for a name that says no width."""
    twin, widths = re.subn(r"-(fp|int)\d+", "-int8", name.replace("-skip-zeros", ""))
    return twin if widths else ""


def _bit_matched_energy(counts: OpCounts, dense: OpCounts, int8: Hardware, bits: int) -> Energy:
    """The int8 ANN with `bits`-bit activations in the layers that receive events; its weights stay.

    Our rule: a MAC of `bits` by 8 bits costs `bits` / 8 of one of 8 by 8 bits, as many partial products are added.
    """
    assert int8.bits is not None
    mac = int8.constants["mac"]
    scaled = Price(mac.value * bits / 8, mac.low * bits / 8, mac.high * bits / 8, mac.unit)
    narrow = replace(int8, bits=int8.bits._replace(activation=bits), constants={**int8.constants, "mac": scaled})
    behind = counts.per_layer("event_inputs") > 0
    whole = int8.energy_pj(dense)._asdict()
    saved = {b: int8.layer_energy_pj(dense, b) - narrow.layer_energy_pj(dense, b) for b in whole}
    return Energy(**{b: e - float(saved[b][behind].sum()) for b, e in whole.items()})
