"""Closed form: counts from charge alone, layer after layer, without a clock."""

import torch
from torch import Tensor, fx, nn

from picojoule.conversion.normalise import scale_biases
from picojoule.conversion.parts import CountInput, CountOutput, neurons_of
from picojoule.conversion.pipeline import Converted
from picojoule.errors import BadInput
from picojoule.graph.passes import copied, replace_layer
from picojoule.graph.trace import module_of
from picojoule.neurons import Neuron


class ChargeCount(nn.Module):
    """Rates of neurons from the whole charge of T steps: `clamp(floor(relu(z) * T + residual), 0, most) / T`.

    `z` is the mean current in units of the threshold; `most` is None where counts have no limit.
    """

    def __init__(self, timesteps: int, residual: float, most: int | None):
        super().__init__()
        self.timesteps, self.residual, self.most = timesteps, residual, most

    def forward(self, z: Tensor) -> Tensor:
        counts = torch.floor(z.relu() * self.timesteps + self.residual)
        limited = counts if self.most is None else counts.clamp(max=self.most)
        return limited / self.timesteps


def closed_form(
    converted: Converted, timesteps: int | None = None, *, extension: int = 0, unlimited: bool = False
) -> nn.Module:
    """The network in which every population has the count that its whole charge asks for: `[B, ...]` to scores.

    A layer waits for all its input before it sends anything, so the order of events never matters, and one step on
    rates does what T steps of the clock do. `extension` e lets biases act, and neurons fire, for T + e steps;
    `unlimited` takes the limit of one event per step away. With `residual` 1/2 each layer computes the QCFS activation
    with L = T.

    Raises BadInput for less than one step.
    Source: the arithmetic of SpKeras (its released code); see docs/methods/ecc.md.
    """
    steps = converted.network.timesteps if timesteps is None else timesteps
    if steps < 1 or extension < 0:
        raise BadInput(f"expected timesteps >= 1 and extension >= 0, got {steps} and {extension}")
    rates = scale_biases(copied(converted.scaled), 1 + extension / steps)
    most = None if unlimited else steps + extension
    for node in neurons_of(rates):
        kind = module_of(rates, node)
        if isinstance(kind, CountInput):
            replace_layer(rates, node, ChargeCount(steps, 1e-6, steps))
        else:
            replace_layer(rates, node, ChargeCount(steps, converted.options.residual, most))
            if isinstance(kind, CountOutput):
                replace_layer(rates, node, nn.Sequential(module_of(rates, node), _Times(steps)))  # pyright: ignore
    return rates


class _Times(nn.Module):
    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return x * self.steps


@torch.no_grad()
def count_mismatch(converted: Converted, images: Tensor) -> dict[str, float]:
    """For every population, the share of neurons whose count over T steps differs from the closed form's.

    `images` is `[B, ...]`.
    """
    steps = converted.network.timesteps
    spiking, ideal = converted.network.graph_module, closed_form(converted)
    assert isinstance(ideal, fx.GraphModule)
    clocked = _Sums(spiking, lambda m: isinstance(m, Neuron), lambda y: y.sum(0)).of(images)
    expected = _Sums(ideal, lambda m: isinstance(m, ChargeCount | nn.Sequential), lambda y: (y * steps).round()).of(
        images
    )
    return {name: float((n != expected[name]).double().mean()) for name, n in clocked.items()}


class _Sums(fx.Interpreter):
    def __init__(self, graph, which, summary):  # pyright: ignore
        super().__init__(graph)
        self._which, self._summary = which, summary
        self._found: dict[str, Tensor] = {}

    def of(self, x: Tensor) -> dict[str, Tensor]:
        self.run(x)
        return self._found

    def run_node(self, n: fx.Node):  # pyright: ignore
        value = super().run_node(n)
        if self._which(module_of(self.module, n)):  # pyright: ignore
            self._found[n.name] = self._summary(value)
        return value
