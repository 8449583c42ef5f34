"""Weights with few levels."""

from typing import Any

import torch
from torch import fx

from picojoule.conversion.parts import is_synaptic


@torch.no_grad()
def quantise_weights(graph: fx.GraphModule, bits: int, rounding: str = "nearest") -> fx.GraphModule:
    """The graph, in place, with each layer's weights on a grid of steps from 0 to its largest, m, and to -m.

    "nearest" has `2 ** (bits - 1) - 1` steps, so that zero, both signs and m fit into `bits`. "trunc" has
    `2 ** (bits - 1)`, as published, and cuts towards zero: `2 ** bits + 1` levels, of which the outer two hold m alone.
    Weights stay on their scale: on hardware that divides them by m, the threshold is divided by m as well. (The
    published code multiplies it by m instead, which breaks every network.) Biases stay as they are.
    """
    levels = 2 ** (bits - 1) - (rounding == "nearest")
    for module in graph.modules():
        if is_synaptic(module):
            weight: Any = module.weight
            largest = weight.abs().max()
            steps = weight * (levels / largest) if largest > 0 else weight
            steps = steps.trunc() if rounding == "trunc" else steps.round()
            weight.copy_(steps * (largest / levels))
    return graph
