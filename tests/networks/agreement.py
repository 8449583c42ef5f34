"""What tests of networks share: both front ends count the same."""

import pytest
import torch
from torch import Tensor

import picojoule as pj
from picojoule.energy import OpCounts, baselines, count
from picojoule.energy.count import QUANTITIES
from picojoule.graph import Activity, NeuronRecord, observe
from picojoule.networks import Network

HEARD = ("neuron", "events", "active", "fired", "multiple", "updates", "steps")


@torch.no_grad()
def agreed(network: Network, x: Tensor) -> OpCounts:
    """What `observe` counts, after a check that the meter has the same, in a call it classifies and in the next."""
    y, activity = observe(network, x, strict=True)(x)
    with pj.meter(network, strict=True) as meter:
        for _ in range(2):
            assert torch.equal(network(x), y)
            _assert_alike(activity, meter.activity())
    return count(activity)


def _assert_alike(one: Activity, other: Activity) -> None:
    own, seen = count(one), count(other)
    for quantity in QUANTITIES:  # of all layers: an LSTM is divided differently
        assert float(own.total(quantity)) == pytest.approx(float(seen.total(quantity))), quantity
    assert own.neurons == seen.neurons
    assert (own.timesteps, own.model_steps) == (seen.timesteps, seen.model_steps)
    assert _anns(own) == _anns(seen)
    assert [n.name for n in one.neurons] == [n.name for n in other.neurons]
    for a, b in zip(one.neurons, other.neurons, strict=True):
        for x, y in zip(_heard(a), _heard(b), strict=True):
            assert torch.equal(x, y) if isinstance(x, Tensor) else x == y, a.name


def _anns(counts: OpCounts) -> dict[str, tuple[str, float]]:
    """The names and multiply-accumulates of the ANNs."""
    found = baselines(counts, "horowitz-45nm-fp32", ann_density=0.5)
    return {name: (ann.title, round(ann.macs, 6)) for name, ann in found.items()}


def _heard(record: NeuronRecord) -> list:
    return [getattr(record, field) for field in HEARD]
