"""Parts with state and synapses inside."""

from picojoule.cells.cell import Cell, Inside, Synapse
from picojoule.cells.spiking_rnn import SpikingRNN
from picojoule.cells.window_convolution import WindowConvolution
from picojoule.cells.window_lstm import WindowLSTM
from picojoule.cells.window_mixer import WindowMixer

__all__ = ["Cell", "Inside", "SpikingRNN", "Synapse", "WindowConvolution", "WindowLSTM", "WindowMixer"]
