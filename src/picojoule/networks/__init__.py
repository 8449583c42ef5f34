"""Architectures, each defined once."""

from typing import TYPE_CHECKING

from picojoule.lazy import lazy
from picojoule.networks.definition import ENCODERS, NETWORKS, POOLINGS, READOUTS, Definition

if TYPE_CHECKING:
    from picojoule.networks.architectures import Activation, build
    from picojoule.networks.network import Network

__all__ = ["ENCODERS", "NETWORKS", "POOLINGS", "READOUTS", "Activation", "Definition", "Network", "build"]

__getattr__ = lazy(
    __name__,
    {"picojoule.networks.architectures": ("Activation", "build"), "picojoule.networks.network": ("Network",)},
)
