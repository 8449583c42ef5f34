"""Architectures, each defined once."""

from typing import TYPE_CHECKING

from picojoule.lazy import lazy
from picojoule.networks.definition import (
    ENCODERS,
    NETWORKS,
    POOLINGS,
    READOUTS,
    RECORDED,
    SIGNALS,
    Definition,
    Memory,
    Mixer,
    Windows,
    check_network,
)

if TYPE_CHECKING:
    from picojoule.networks.architectures import build
    from picojoule.networks.network import Network
    from picojoule.networks.parts import Activation
    from picojoule.networks.windowing import windowed

__all__ = [
    "ENCODERS",
    "NETWORKS",
    "POOLINGS",
    "READOUTS",
    "RECORDED",
    "SIGNALS",
    "Activation",
    "Definition",
    "Memory",
    "Mixer",
    "Network",
    "Windows",
    "build",
    "check_network",
    "windowed",
]

__getattr__ = lazy(
    __name__,
    {
        "picojoule.networks.architectures": ("build",),
        "picojoule.networks.network": ("Network",),
        "picojoule.networks.parts": ("Activation",),
        "picojoule.networks.windowing": ("windowed",),
    },
)
