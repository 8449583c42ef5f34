"""Parts with state and synapses inside."""

from picojoule.cells.cell import Cell, Inside, Sent, Synapse
from picojoule.cells.gated import GRU, LSTM
from picojoule.cells.legendre import LegendreMemory, feed_forward_lmu
from picojoule.cells.lmu import LMU
from picojoule.cells.spiking_rnn import SpikingRNN
from picojoule.cells.window_convolution import WindowConvolution
from picojoule.cells.window_lstm import WindowLSTM
from picojoule.cells.window_mixer import WindowMixer, draw_noise
from picojoule.cells.window_rnn import WindowRNN
from picojoule.kernels.window_rules import WindowRules

__all__ = [
    "GRU",
    "LMU",
    "LSTM",
    "Cell",
    "Inside",
    "LegendreMemory",
    "Sent",
    "SpikingRNN",
    "Synapse",
    "WindowConvolution",
    "WindowLSTM",
    "WindowMixer",
    "WindowRNN",
    "WindowRules",
    "draw_noise",
    "feed_forward_lmu",
]
