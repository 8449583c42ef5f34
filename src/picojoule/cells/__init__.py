"""Parts with state and synapses inside."""

from picojoule.cells.cell import Cell, Synapse
from picojoule.cells.spiking_rnn import SpikingRNN

__all__ = ["Cell", "SpikingRNN", "Synapse"]
