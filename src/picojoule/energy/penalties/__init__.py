"""Penalties on activity: differentiable, per sample, and made of the records that are reported."""

from picojoule.energy.penalties.bits import bits_penalty
from picojoule.energy.penalties.bounds import activity_floor, rate_bounds
from picojoule.energy.penalties.excess import GATES, WEIGHTS, first_spike_penalty
from picojoule.energy.penalties.priced import dense_energy, energy_penalty, energy_share, without_gradient
from picojoule.energy.penalties.spikes import hidden_neurons, layer_mean, total_spikes
from picojoule.energy.penalties.synaptic import FAN_OUTS, POWERS_ON, dense_accumulates, synaptic_penalty
from picojoule.energy.penalties.target import synops_target

__all__ = [
    "FAN_OUTS",
    "GATES",
    "POWERS_ON",
    "WEIGHTS",
    "activity_floor",
    "bits_penalty",
    "dense_accumulates",
    "dense_energy",
    "energy_penalty",
    "energy_share",
    "first_spike_penalty",
    "hidden_neurons",
    "layer_mean",
    "rate_bounds",
    "synaptic_penalty",
    "synops_target",
    "total_spikes",
    "without_gradient",
]
