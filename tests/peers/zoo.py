"""Small networks as the users of each library write them, with a person's word on what enters every synapse."""

from . import nets_norse, nets_sinabs, nets_snntorch, nets_spikingjelly, nets_torch
from .entries import ENTRIES, Entry, T

SOURCES = (nets_snntorch, nets_spikingjelly, nets_norse, nets_sinabs, nets_torch)
"""The modules whose networks are in the zoo."""
ZOO: tuple[Entry, ...] = tuple(ENTRIES)
__all__ = ["SOURCES", "ZOO", "Entry", "T"]
