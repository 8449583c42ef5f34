"""What the tests of penalties share: networks whose events are given, and every penalty by name."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from picojoule.energy.penalties import (
    GATES,
    activity_floor,
    first_spike_penalty,
    layer_mean,
    rate_bounds,
    synaptic_penalty,
    synops_target,
    total_spikes,
)
from picojoule.graph import Activity, observe
from picojoule.layers import Timewise, pooling
from picojoule.neurons import LIF

Penalty = Callable[[Activity], Tensor]

AT_SYNAPSES: dict[str, Penalty] = {
    "synaptic p=1": lambda a: synaptic_penalty(a),
    "synaptic p=2": lambda a: synaptic_penalty(a, 2),
    "synaptic p=2 on counts": lambda a: synaptic_penalty(a, 2, power_on="count"),
    "synaptic interior": lambda a: synaptic_penalty(a, psi="interior"),
    "synaptic interior on counts": lambda a: synaptic_penalty(a, 2, power_on="count", psi="interior"),
    "synops target": lambda a: synops_target(a, 100.0),
    **{
        f"first-spike fan-out {gate}": lambda a, gate=gate: first_spike_penalty(a, gate=gate, weight="fan-out")
        for gate in GATES
    },
}
OF_COUNTS: dict[str, Penalty] = {
    "total p=1": lambda a: total_spikes(a),
    "layer mean p=1": lambda a: layer_mean(a),
    "floor": lambda a: activity_floor(a, 5.0),
    "bounds": lambda a: rate_bounds(a, 0.5, 1.0),
    "bounds of populations": lambda a: rate_bounds(a, upper=0.1, power=1, over="population"),
}
OF_TRAINS: dict[str, Penalty] = {
    "total p=2": lambda a: total_spikes(a, 2),
    "layer mean p=2": lambda a: layer_mean(a, 2),
    **{f"first-spike {gate}": lambda a, gate=gate: first_spike_penalty(a, gate=gate) for gate in GATES},
}
PENALTIES = {**AT_SYNAPSES, **OF_COUNTS, **OF_TRAINS}


class Sender(nn.Module):
    """Sends what it is given: the events `[T, B, N]` themselves, with gradient 1."""

    def forward(self, events: Tensor) -> Tensor:
        return events


def unchanged(neurons: int) -> nn.Linear:
    """A trained layer that passes its input on."""
    layer = nn.Linear(neurons, neurons, bias=False)
    nn.init.eye_(layer.weight)
    return layer


def sent(events: Tensor, fan_out: int = 3) -> Activity:
    """The activity of neurons that send these events `[T, B, N]` into a dense layer."""
    neurons = events.shape[-1]
    model = nn.Sequential(unchanged(neurons), Sender(), nn.Linear(neurons, fan_out)).to(events.dtype)
    return observe(model, events.detach(), batch_dim=1, spiking=(Sender,))(events)[1]


def trains(*written: str) -> Tensor:
    """Trains written as `0101`, one for each neuron of one sample: `[T, 1, N]`, float64."""
    return torch.tensor([[int(c) for c in train] for train in written], dtype=torch.float64).t().unsqueeze(1)


def convolutional(pool: str = "max", decay: float = 0.5) -> nn.Sequential:
    """Two spiking layers behind convolutions and a dense readout, for inputs `[T, B, 1, 8, 8]`; deep layers fire."""
    torch.manual_seed(0)
    model = nn.Sequential(
        Timewise(nn.Conv2d(1, 16, 3, padding=1)),
        Timewise(nn.BatchNorm2d(16)),
        LIF(decay, 0.5),
        pooling(pool, 2),
        Timewise(nn.Conv2d(16, 16, 3, padding=1)),
        LIF(decay, 0.2),
        nn.Flatten(2),
        nn.Linear(256, 4),
    )
    return model.double()


def images(steps: int = 3, batch: int = 4) -> Tensor:
    """`[T, B, 1, 8, 8]`, float64."""
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(steps, batch, 1, 8, 8, generator=generator, dtype=torch.float64)


def gradients(model: nn.Module, penalty: Tensor) -> list[Tensor]:
    """The gradients of a penalty, zeros where it does not depend on a parameter."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(penalty, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
