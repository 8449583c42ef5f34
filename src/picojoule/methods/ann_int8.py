"""The ANN in 8-bit integers: what a well-engineered non-spiking deployment would run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from picojoule.errors import BadInput
from picojoule.experiment.method import Method
from picojoule.graph.passes import fold_batch_norm, recompiled, replace_layers
from picojoule.graph.ranges import largest_values
from picojoule.graph.trace import module_of
from picojoule.layers import QuantisedReLU
from picojoule.networks import Definition, Network


@dataclass(frozen=True)
class Int8ANN(Method):
    """The trained ANN after quantisation: batch norm folded, weights symmetric 8-bit per output channel,
    activations unsigned 8-bit per layer with the calibration maximum as range; pixels have 8 bits already.

    The arithmetic is simulated in float32 on the integer grid; biases and accumulators stay wide.
    """

    name: ClassVar[str] = "ann-int8"
    parent: ClassVar[str | None] = "ann"
    hardware: ClassVar[str] = "horowitz-45nm-int8"

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        if wanted.recurrent:
            mend = "choose the method ann, ann-sparse or hybrid"
            raise BadInput(f"ann-int8 takes networks without recurrence, got {wanted.name}; {mend}")
        return wanted.analog(timesteps)

    def finish(self, network: Network, calibration: Sequence[Tensor], definition: Definition) -> Network:
        graph = fold_batch_norm(network.graph_module)
        rectifiers = [n for n in graph.graph.nodes if isinstance(module_of(graph, n), nn.ReLU)]
        largest = largest_values(graph, rectifiers, calibration)
        for node in graph.graph.nodes:
            layer = module_of(graph, node)
            if isinstance(layer, nn.Linear | nn.Conv2d):
                _round_weights(layer)
        replace_layers(graph, nn.ReLU, lambda node: QuantisedReLU(max(largest[node], 1e-12) / 255))
        return Network(recompiled(graph), network.input_shape, network.classes)


@torch.no_grad()
def _round_weights(layer: nn.Linear | nn.Conv2d) -> None:
    """Round to 127 steps on either side of zero, with one scale per output channel."""
    scale = layer.weight.abs().flatten(1).amax(1).clamp(min=1e-12) / 127
    scale = scale.reshape(-1, *(1,) * (layer.weight.dim() - 1))
    layer.weight.copy_((layer.weight / scale).round() * scale)
