"""Architectures, each defined once."""

from picojoule.networks.build import Activation, build
from picojoule.networks.definition import Definition
from picojoule.networks.network import Network

__all__ = ["Activation", "Definition", "Network", "build"]
