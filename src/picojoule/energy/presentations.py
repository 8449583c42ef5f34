"""How often an ANN with the synapses of a model sees a sample."""

from torch import nn

from picojoule.cells import Cell
from picojoule.energy.count import OpCounts


def presentations_of(model: nn.Module, counts: OpCounts) -> int:
    """As often as there are time steps where cells read a sequence as those of an ANN do; else once."""
    by_step = any(isinstance(m, Cell) and m.analog_by_step for m in model.modules())
    return counts.model_steps if by_step else 1
