"""The same neuron in every library: decay 0.9, threshold 1, hard reset to 0, no gradient through the reset.

Each is driven in the fastest way its library offers on a CPU. Currents and spikes are `[T, B, ...]`, but sinabs
takes `[B, T, ...]`.
"""

import math

import torch
from torch import Tensor, nn

import picojoule as pj
from picojoule.neurons import surrogate

DECAY, THRESHOLD, ALPHA = 0.9, 1.0, 2.0


def picojoule_lif() -> nn.Module:
    return pj.LIF(DECAY, THRESHOLD, v_reset=0.0, surrogate=surrogate("arctan", alpha=ALPHA))


def spikingjelly_lif() -> nn.Module:
    """Multi-step mode, whose backward is analytic."""
    from spikingjelly.activation_based.neuron import LIFNode
    from spikingjelly.activation_based.surrogate import ATan

    return LIFNode(
        tau=1 / (1 - DECAY),
        decay_input=False,
        v_threshold=THRESHOLD,
        v_reset=0.0,
        surrogate_function=ATan(alpha=ALPHA),
        detach_reset=True,
        step_mode="m",
    )


def snntorch_lif() -> nn.Module:
    """One step; see `SnnTorchSequence` for a sequence."""
    from snntorch import Leaky
    from snntorch.surrogate import atan

    return Leaky(beta=DECAY, threshold=THRESHOLD, reset_mechanism="zero", spike_grad=atan(alpha=ALPHA))


class SnnTorchSequence(nn.Module):
    """A loop over the unbound time axis, which keeps backward linear in T."""

    def __init__(self) -> None:
        super().__init__()
        self.leaky = snntorch_lif()

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for current in x.unbind(0):
            s, v = self.leaky(current, v)
            spikes.append(s)
        return torch.stack(spikes)


def norse_cell() -> nn.Module:
    """One step. Norse scales the current by `1 - decay`, so the threshold is scaled too; its own surrogate."""
    from norse.torch import LIFBoxCell, LIFBoxParameters

    dt = 1e-3
    rate = torch.tensor((1 - DECAY) / dt)
    return LIFBoxCell(p=LIFBoxParameters(tau_mem_inv=rate, v_th=torch.tensor((1 - DECAY) * THRESHOLD)), dt=dt)


def norse_lif() -> nn.Module:
    """Returns spikes and state. Lift indexes time, so its backward is quadratic in T."""
    from norse.torch import Lift

    return Lift(norse_cell())


def sinabs_lif(timesteps: int | None = None) -> nn.Module:
    """For `[B, T, ...]`, or for `[B * T, ...]` if the number of steps is given. Its backward is quadratic in T."""
    from sinabs.activation import MembraneReset, SingleSpike
    from sinabs.layers import LIF, LIFSqueeze

    options = {
        "tau_mem": -1 / math.log(DECAY),
        "spike_threshold": THRESHOLD,
        "norm_input": False,
        "spike_fn": SingleSpike,
        "reset_fn": MembraneReset(),
    }
    neuron = LIF(**options) if timesteps is None else LIFSqueeze(num_timesteps=timesteps, **options)
    return neuron.requires_grad_(False)


def reset_spikingjelly(model: nn.Module) -> None:
    from spikingjelly.activation_based.functional import reset_net

    reset_net(model)


def reset_sinabs(model: nn.Module) -> None:
    from sinabs.layers import StatefulLayer

    for layer in model.modules():
        if isinstance(layer, StatefulLayer):
            layer.reset_states()
