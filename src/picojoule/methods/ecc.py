"""Explicit current control (Wu et al. 2021): convert a trained ANN into a clocked spiking network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, fx, nn

from picojoule.errors import BadInput
from picojoule.experiment.method import Method
from picojoule.graph.passes import fold_batch_norm, insert_after, recompiled, replace_layer
from picojoule.graph.ranges import largest_values
from picojoule.graph.trace import module_of
from picojoule.layers import AddTime, MeanReadout, Repeat
from picojoule.networks import Definition, Network
from picojoule.neurons import IAF


@dataclass(frozen=True)
class ECC(Method):
    """Current normalisation, residual elimination and batch-norm consistency, with average pooling.

    Every ReLU, and every average pool, becomes integrate-and-fire neurons with threshold 1 and soft reset;
    weights are scaled so that a layer's largest activation is one event per step; a layer starts at
    `residual` of its threshold, which turns the floor of the count into rounding. The image is a constant
    current and the scores are the mean output current, on the ANN's own scale.

    `timesteps` is T: this option first, then what the table asks for, then 16; `percentile` of the activations
    takes the place of the maximum (100: as published); `residual` is tau.
    """

    timesteps: int | None = None
    percentile: float = 99.9
    residual: float = 0.5

    name: ClassVar[str] = "ecc"
    cite: ClassVar[tuple[str, ...]] = (
        "Wu, Yi, Huang 2022, A Little Energy Goes a Long Way: Build an Energy-Efficient, Accurate Spiking Neural "
        "Network From Convolutional Neural Network, Frontiers in Neuroscience, doi 10.3389/fnins.2022.759900",
    )
    parent: ClassVar[str | None] = "ann"
    pool: ClassVar[str | None] = "avg"

    def __post_init__(self) -> None:
        if self.timesteps is not None and self.timesteps < 1:
            raise BadInput(f"expected timesteps of at least 1, got {self.timesteps}")
        if not 0 < self.percentile <= 100:
            raise BadInput(f"expected a percentile in (0, 100], got {self.percentile}")
        if not 0 <= self.residual < 1:
            raise BadInput(f"expected a residual in [0, 1), got {self.residual}")

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        return replace(wanted, timesteps=self.timesteps or timesteps or 16, encoder="constant-current", readout="mean")

    def finish(self, network: Network, calibration: Sequence[Tensor], definition: Definition) -> Network:
        graph = fold_batch_norm(network.graph_module)
        _refuse_what_is_not_a_chain(graph)
        fires = [n for n in graph.graph.nodes if isinstance(module_of(graph, n), nn.ReLU | nn.AvgPool2d)]
        largest = largest_values(graph, fires, calibration, self.percentile)
        scale = 1.0  # what one event, or a unit of input current, stands for in the ANN
        driving: nn.Linear | nn.Conv2d | None = None  # the layer whose current has met no neuron yet
        for node in list(graph.graph.nodes):
            layer = module_of(graph, node)
            if isinstance(layer, nn.Linear | nn.Conv2d):
                _scale(layer, weight=scale)
                scale, driving = 1.0, layer
            elif isinstance(layer, nn.ReLU | nn.AvgPool2d):
                if (driving is None) == isinstance(layer, nn.ReLU):
                    raise BadInput(
                        f"ecc expects ReLU right behind conv or linear, and pooling behind ReLU; see {node.name}"
                    )
                own = max(largest[node], 1e-12)
                if driving is not None:
                    _scale(driving, weight=1 / own, bias=1 / own)
                    replace_layer(graph, node, IAF(v_initial=self.residual))
                else:
                    threshold = own / scale
                    neuron = IAF(threshold, v_initial=self.residual * threshold)
                    insert_after(graph, node, f"{node.target}_iaf", neuron)
                scale, driving = own, None
        converted = Network(recompiled(graph), network.input_shape, network.classes)
        return converted.with_timesteps(definition.timesteps)


@torch.no_grad()
def _scale(layer: nn.Linear | nn.Conv2d, weight: float, bias: float = 1.0) -> None:
    layer.weight.mul_(weight)
    if layer.bias is not None:
        layer.bias.mul_(bias)


def _refuse_what_is_not_a_chain(graph: fx.GraphModule) -> None:
    known = (nn.Linear, nn.Conv2d, nn.ReLU, nn.AvgPool2d, nn.Flatten, AddTime, Repeat, MeanReadout)
    for node in graph.graph.nodes:
        module = module_of(graph, node)
        if isinstance(module, nn.MaxPool2d):
            raise BadInput(f"ecc converts average pooling only, {node.target} is max pooling; train with --pool avg")
        if node.op not in ("placeholder", "output") and not isinstance(module, known):
            what = type(module).__name__ if module is not None else node.target
            raise BadInput(
                f"ecc cannot convert {node.name} ({what}); it knows chains of conv, linear, ReLU and average pooling"
            )
