"""From activity to counts to joules."""

from picojoule.energy.count import QUANTITIES, OpCounts, count
from picojoule.energy.energy_report import EnergyReport
from picojoule.energy.measure import measure
from picojoule.energy.penalty import synaptic_penalty
from picojoule.energy.price import Energy, Hardware, hardware, hardware_names

__all__ = [
    "QUANTITIES",
    "Energy",
    "EnergyReport",
    "Hardware",
    "OpCounts",
    "count",
    "hardware",
    "hardware_names",
    "measure",
    "synaptic_penalty",
]
