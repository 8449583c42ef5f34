"""Measure a network on the test split of a dataset."""

import time

import torch

from picojoule.data import Dataset, intensities
from picojoule.experiment.evaluate import evaluate
from picojoule.experiment.record import Record, energy_fields, provenance
from picojoule.experiment.table import pick_device
from picojoule.graph import observe
from picojoule.networks import Network


def measured(
    network: Network, notes: Record, data: Dataset, hardware: list[str], device: str | None, seed: int, model: str
) -> Record:
    """Accuracy, operations, energy and neuron health of `network` on the whole test split.

    `notes` is what the model file says of itself; `seed` is that of random encoders.
    """
    started = time.monotonic()
    place = pick_device(device)
    torch.manual_seed(seed)
    network = network.to(place).eval()
    example = intensities(data.test.images[:1], data.scale).to(place)
    observed = observe(network, example)
    report = evaluate(observed, data.test, data, place, hardware)
    return {
        "method": "unknown",
        "network": "unknown",
        "seed": seed,
        **notes,
        **provenance(place),
        "dataset": data.name,
        "model": model,
        "timesteps": network.timesteps,
        "hardware": hardware[0],
        "split": "test",
        "split_note": data.split_note,
        **energy_fields(report),
        "cite": [data.citation],
        "wall_s": round(time.monotonic() - started, 3),
    }
