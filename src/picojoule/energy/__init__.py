"""From activity to counts to joules."""

from picojoule.energy.baselines import Baseline, baselines
from picojoule.energy.conventions import CONVENTIONS, ConventionReport, Conventions, Gap, neurobench_keys
from picojoule.energy.count import QUANTITIES, NeuronCounts, OpCounts, count
from picojoule.energy.crossover import Crossover, crossover
from picojoule.energy.energy_report import EnergyReport
from picojoule.energy.health import Health
from picojoule.energy.measure import measure
from picojoule.energy.memory import MOVEMENTS, Bits, Traffic, traffic
from picojoule.energy.penalties import energy_penalty, first_spike_penalty, synaptic_penalty
from picojoule.energy.price import Energy, Hardware, hardware, hardware_names
from picojoule.energy.sensitivity import Swing, sensitivity

__all__ = [
    "CONVENTIONS",
    "MOVEMENTS",
    "QUANTITIES",
    "Baseline",
    "Bits",
    "ConventionReport",
    "Conventions",
    "Crossover",
    "Energy",
    "EnergyReport",
    "Gap",
    "Hardware",
    "Health",
    "NeuronCounts",
    "OpCounts",
    "Swing",
    "Traffic",
    "baselines",
    "count",
    "crossover",
    "energy_penalty",
    "first_spike_penalty",
    "hardware",
    "hardware_names",
    "measure",
    "neurobench_keys",
    "sensitivity",
    "synaptic_penalty",
    "traffic",
]
