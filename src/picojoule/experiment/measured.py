"""Measure a model, of ours or of a user's own, on the test split of a dataset."""

import time
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from picojoule.cells import draw_noise
from picojoule.data import Dataset
from picojoule.energy import EnergyReport, measure, neurobench_keys
from picojoule.exchange import Declaration
from picojoule.experiment.evaluate import EVALUATION_BATCH
from picojoule.experiment.feed import Feed, blamed
from picojoule.experiment.power import Measured, measured_power
from picojoule.experiment.record import Record, energy_fields, provenance
from picojoule.experiment.table import pick_device
from picojoule.graph.shapes import evaluating
from picojoule.metering import KeptState
from picojoule.networks import Network


class Asked(NamedTuple):
    """What else is asked of a measurement.

    `conventions` are other tools whose numbers are wanted, `neurobench` asks for NeuroBench's own result dictionary,
    `power` for seconds and, from a sensor, joules; `progress` for a bar on a terminal. The rest is as in `pj.measure`.
    """

    conventions: tuple[str, ...] = ()
    ann_density: float | None = None
    presentations: int | None = None
    skip_zero_weights: bool = False
    strict: bool = False
    neurobench: bool = False
    power: bool = False
    progress: bool = False


def measured(
    model: nn.Module,
    notes: Record,
    data: Dataset,
    hardware: list[str],
    device: str | None,
    seed: int,
    name: str,
    asked: Asked = Asked(),  # noqa: B008  (a NamedTuple)
    declared: Declaration = Declaration(),  # noqa: B008  (a NamedTuple)
) -> Record:
    """The record of a measurement: accuracy, operations, energy and neuron health of `model` on the whole test split.

    `notes` is what is known of the model, `declared` how it is fed and read, `name` what the user called it; `seed`
    is that of random encoders, neurons and window mixers (`noise_seed`). Raises BadInput for a model that fails on the
    data.
    """
    started = time.monotonic()
    place = pick_device(device)
    model = model.to(place).eval()
    feed = Feed(model, data, place, declared, name)
    scores, remarks = feed.tried()
    torch.manual_seed(seed)
    draw_noise(model, seed)
    conventions = (*asked.conventions, *(("neurobench",) if asked.neurobench else ()))
    with blamed(f"{name} failed on {data.name}"):
        report = measure(
            model,
            feed.batches(labelled=scores is not None, progress=asked.progress),
            hardware,
            declared.inputs,
            declared.batch_dim,
            spiking=declared.spiking,
            strict=asked.strict,
            scores=scores,
            conventions=conventions,
            ann_density=asked.ann_density,
            presentations=asked.presentations,
            skip_zero_weights=asked.skip_zero_weights,
        )
    found = {
        "made_by": "measure",
        "method": "unknown",
        "network": "unknown",
        "seed": seed,
        **notes,
        **provenance(place),
        "dataset": data.name,
        "noise_seed": seed,
        "model": name,
        "hardware": report.prices[0].name,
        "split": "test",
        "split_note": data.split_note,
        **energy_fields(report),
        "ann_density": asked.ann_density,
        "skip_zero_weights": asked.skip_zero_weights,
        "cite": [data.citation],
    }
    if isinstance(model, Network):
        found |= {"timesteps": model.timesteps, "sequential_depth": model.sequential_depth}
    found["hardware_notes"] = _price_notes(report)
    found["counting"] = [*found["counting"], *_counting_notes(asked, declared), *remarks]
    if asked.neurobench:
        found["neurobench"] = neurobench_keys(report.conventions["neurobench"])
    if asked.power:
        found["power"] = _power(model, feed, place, report)
    return found | {"wall_s": round(time.monotonic() - started, 3)}


def _power(model: nn.Module, feed: Feed, place: torch.device, report: EnergyReport) -> Record:
    """Seconds of one batch, and where a sensor is read its joules beside every estimate."""
    x, _ = feed.batch(torch.arange(min(EVALUATION_BATCH, feed.samples)))
    samples = x.shape[feed.declared.batch_dim]
    with torch.no_grad(), evaluating(model), KeptState(model) as state:

        def run() -> None:
            model(x)
            state.restore()

        found = measured_power(run, samples, place)
    return found.to_dict() | {"calibration": _calibration(found, report)}


def _calibration(found: Measured, report: EnergyReport) -> Record:
    """Each estimate beside the measured energy; `error` is (estimated - measured) / measured. Empty if none was."""
    if not found.joules_per_sample:
        return {}
    own = 1e12 * found.joules_per_sample
    return {
        name: {"estimated_pj": e.value, "measured_pj": own, "error": e.value / own - 1}
        for name, e in report.energy_pj.items()
    }


def _price_notes(report: EnergyReport) -> Record:
    kept = ("scope", "source", "prices", "covers", "node", "voltage", "basis", "mark")
    return {h.name: {key: getattr(h, key) for key in kept} for h in report.prices}


def _counting_notes(asked: Asked, declared: Declaration) -> Iterable[str]:
    if asked.skip_zero_weights:
        yield "Synapses whose weight is zero are not counted."
    else:
        yield "Synapses whose weight is zero are counted like others."
    if declared.encode is not Declaration().encode:
        yield "What the model file's encode does with the images is not counted."
