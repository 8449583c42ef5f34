"""Sorbaro et al. 2020: train a quantised ANN towards a number of accumulates, and convert it to spiking neurons."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from picojoule.cells import Cell
from picojoule.energy.penalties import dense_accumulates, synops_target
from picojoule.errors import BadInput
from picojoule.experiment.method import Method, Progress, task_loss
from picojoule.graph import Activity
from picojoule.graph.passes import fold_batch_norm, recompiled, replace_layer
from picojoule.graph.trace import module_of
from picojoule.kernels.lif.reference import LIFState
from picojoule.kinds import Events
from picojoule.layers import MeanReadout
from picojoule.networks import Definition, Network, build
from picojoule.neurons import IAF, Neuron
from picojoule.neurons.neuron import check_currents

HALF = 0.5
"""The potential at the start, which turns the floor of a count into rounding."""
FIRST_SHARE = 0.38
"""Events per neuron of standard normal currents, `sum over k of P(z > k - 1/2)`: where batch norm starts."""


class QuantisedNeuron(Neuron):
    """Integrate-and-fire with up to `levels` events per step: `clamp(floor(current + 1/2), 0, levels)` in the first.

    It does what `IAF(max_events=levels, v_initial=0.5)` does, in one pass. Straight through: the gradient is that of a
    ReLU clipped at `levels`. Raises BadInput for less than one level.
    """

    def __init__(self, levels: int):
        super().__init__()
        if levels < 1:
            raise BadInput(f"expected levels of at least 1, got {levels}")
        self.levels = levels
        self.emits = Events(most=levels)

    def initial_state(self, x: Tensor) -> LIFState:
        check_currents(x)
        return LIFState(torch.full_like(x[0], HALF, dtype=torch.promote_types(x.dtype, torch.float32)))

    def step_function(self) -> Callable[[Any, Tensor], tuple[LIFState, Tensor]]:
        return self._step

    def _step(self, state: LIFState, current: Tensor) -> tuple[LIFState, Tensor]:
        v = state.v + current
        fired = v.detach().floor().clamp(0, self.levels)
        rectified = (v - HALF).clamp(0, self.levels)
        events = fired + (rectified - rectified.detach())  # the bracket is exactly 0, and carries the gradient
        return LIFState(v - fired), events.to(current.dtype)

    def extra_repr(self) -> str:
        return f"levels={self.levels}"


@dataclass(frozen=True)
class SynOpsConversion(Method):
    """A quantised ANN whose loss holds the squared relative distance of its accumulates from a target, then spikes.

    The ANN is made of integrate-and-fire neurons that run for one step and send up to `levels` events each, so its
    accumulates are counted like those of any spiking network. Deployed are its weights with neurons that send one event
    per step at most, for `timesteps` steps: this option first, then what the table asks for, then 16.

    `strength` is the weight of the distance. `target` is a share of the accumulates if every hidden neuron sent one
    event per image. The target falls to it geometrically, epoch by epoch, over the share `ramp` of the epochs, from
    what a network with batch norm has at the start. `delay` is how long the last layer holds its events back, as a
    share of the steps; layers before it less in proportion (0: all fire at once, from half a threshold).

    Max pooling is refused: the largest of several counts is not what spiking neurons would send through it.
    """

    strength: float = 1.0
    target: float = 0.05
    ramp: float = 0.5
    levels: int = 15
    timesteps: int | None = None
    delay: float = 0.5

    name: ClassVar[str] = "synops-conversion"
    cite: ClassVar[tuple[str, ...]] = ("Sorbaro et al. 2020, Frontiers in Neuroscience 14:662",)
    observes: ClassVar[bool] = True
    pool: ClassVar[str | None] = "avg"

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise BadInput(f"expected a strength of at least 0, got {self.strength}")
        if not 0 < self.target < float("inf"):
            raise BadInput(f"expected a target above 0 (a share of one event per neuron), got {self.target}")
        if not 0 <= self.ramp <= 1:
            raise BadInput(f"expected a ramp from 0 (no ramp) to 1 (all epochs), got {self.ramp}")
        if self.levels < 1:
            raise BadInput(f"expected levels of at least 1, got {self.levels}")
        if self.timesteps is not None and self.timesteps < 1:
            raise BadInput(f"expected timesteps of at least 1, got {self.timesteps}")
        if not 0 <= self.delay <= 1:
            raise BadInput(f"expected a delay from 0 to 1 (a share of the steps), got {self.delay}")

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        return replace(wanted, timesteps=self.timesteps or timesteps or 16, encoder="constant-current", readout="mean")

    def build(self, definition: Definition) -> Network:
        network = build(replace(definition, timesteps=1), lambda: QuantisedNeuron(self.levels))
        graph = network.graph_module
        for node in graph.graph.nodes:
            layer = module_of(graph, node)
            if isinstance(layer, nn.MaxPool2d):
                raise BadInput(f"{self.name} needs average pooling, {node.name} is max pooling; train with --pool avg")
            if isinstance(layer, Cell):
                raise BadInput(f"{self.name} cannot convert recurrent networks such as {definition.name}")
        return network

    def loss(self, output: Tensor, target: Tensor, activity: Activity | None, progress: Progress) -> dict[str, Tensor]:
        assert activity is not None, f"{self.name} observes"
        one_event_each = dense_accumulates(activity) / self.levels
        distance = synops_target(activity, self.target_share(progress) * one_event_each)
        return task_loss(output, target) | {self.name: self.strength * distance}

    def target_share(self, progress: Progress) -> float:
        """The target of an epoch, as a share of the accumulates of one event per neuron."""
        done = progress.share_of_ramp(self.ramp)
        return FIRST_SHARE ** (1 - done) * self.target**done

    def finish(self, network: Network, calibration: Sequence[Tensor], definition: Definition) -> Network:
        graph, steps = fold_batch_norm(network.graph_module), definition.timesteps
        _spread_charge(graph, steps)
        neurons = [node for node in graph.graph.nodes if isinstance(module_of(graph, node), QuantisedNeuron)]
        for depth, node in enumerate(neurons):
            held = self.delay * steps * depth / max(1, len(neurons) - 1)
            _add_bias(_driver(graph, node), held / steps)
            replace_layer(graph, node, IAF(v_initial=HALF - held))
        return Network(recompiled(graph), network.input_shape, network.classes).with_timesteps(steps)


@torch.no_grad()
def _spread_charge(graph: fx.GraphModule, steps: int) -> None:
    """Scale the layers so that `steps` steps bring the neurons the charge of the ANN's one, and the scores its own."""
    driven: set[fx.Node] = set()  # what neurons have acted on
    for node in graph.graph.nodes:
        layer, after_neurons = module_of(graph, node), not driven.isdisjoint(node.all_input_nodes)
        if after_neurons or isinstance(layer, Neuron):
            driven.add(node)
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        if any(isinstance(module_of(graph, user), MeanReadout) for user in node.users):
            layer.weight.mul_(steps)  # the readout divides by the steps
            continue
        if not after_neurons:
            layer.weight.div_(steps)
        if layer.bias is not None:
            layer.bias.div_(steps)


def _driver(graph: fx.GraphModule, neuron: fx.Node) -> nn.Linear | nn.Conv2d:
    """The nearest weight layer behind a population."""
    behind = list(neuron.all_input_nodes)
    while behind:
        node = behind.pop(0)
        layer = module_of(graph, node)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            return layer
        behind += [] if isinstance(layer, Neuron) else node.all_input_nodes
    raise BadInput(f"expected a convolution or linear layer before every population of neurons, got none at {neuron}")


@torch.no_grad()
def _add_bias(layer: nn.Linear | nn.Conv2d, current: float) -> None:
    if layer.bias is None and current:
        layer.bias = nn.Parameter(layer.weight.new_zeros(len(layer.weight)))
    if layer.bias is not None:
        layer.bias.add_(current)
