"""picojoule: spiking neural networks that earn their energy.

The names below are loaded when they are first used, so that the command line answers without loading torch.
"""

from typing import TYPE_CHECKING

from picojoule.lazy import lazy

if TYPE_CHECKING:
    from picojoule.cells import Cell as Cell
    from picojoule.cells import SpikingRNN as SpikingRNN
    from picojoule.conversion import ECCOptions as ECCOptions
    from picojoule.conversion import convert as convert
    from picojoule.conversion import diagnose as diagnose
    from picojoule.conversion import quantise as quantise
    from picojoule.energy import Energy as Energy
    from picojoule.energy import EnergyReport as EnergyReport
    from picojoule.energy import OpCounts as OpCounts
    from picojoule.energy import count as count
    from picojoule.energy import energy_penalty as energy_penalty
    from picojoule.energy import first_spike_penalty as first_spike_penalty
    from picojoule.energy import hardware as hardware
    from picojoule.energy import measure as measure
    from picojoule.energy import synaptic_penalty as synaptic_penalty
    from picojoule.errors import BadInput as BadInput
    from picojoule.errors import UncountedLayer as UncountedLayer
    from picojoule.errors import UntraceableModel as UntraceableModel
    from picojoule.exchange import load as load
    from picojoule.exchange import save as save
    from picojoule.graph import Activity as Activity
    from picojoule.graph import observe as observe
    from picojoule.kinds import Events as Events
    from picojoule.kinds import Values as Values
    from picojoule.metering import Meter as Meter
    from picojoule.metering import meter as meter
    from picojoule.networks import Definition as Definition
    from picojoule.networks import Network as Network
    from picojoule.networks import build as build
    from picojoule.neurons import IAF as IAF
    from picojoule.neurons import LIF as LIF
    from picojoule.neurons import CubaLIF as CubaLIF
    from picojoule.neurons import Diffused as Diffused
    from picojoule.pages import reuse_pages as reuse_pages

__version__ = "0.1.0"

_HOMES = {
    "picojoule.cells": ("Cell", "SpikingRNN"),
    "picojoule.conversion": ("ECCOptions", "convert", "diagnose", "quantise"),
    "picojoule.energy": (
        "Energy",
        "EnergyReport",
        "OpCounts",
        "count",
        "energy_penalty",
        "first_spike_penalty",
        "hardware",
        "measure",
        "synaptic_penalty",
    ),
    "picojoule.errors": ("BadInput", "UncountedLayer", "UntraceableModel"),
    "picojoule.exchange": ("load", "save"),
    "picojoule.graph": ("Activity", "observe"),
    "picojoule.kinds": ("Events", "Values"),
    "picojoule.metering": ("Meter", "meter"),
    "picojoule.networks": ("Definition", "Network", "build"),
    "picojoule.neurons": ("IAF", "LIF", "CubaLIF", "Diffused"),
    "picojoule.pages": ("reuse_pages",),
}
__all__ = sorted(name for names in _HOMES.values() for name in names)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = lazy(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
