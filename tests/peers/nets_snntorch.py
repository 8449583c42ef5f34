"""Networks in snnTorch."""

from typing import Any

import torch
from torch import Tensor, nn

from .entries import entry, lib


class SnnTorchNet(nn.Module):
    """conv, Leaky, pool, conv, Leaky, pool, linear: state in the user's hands, one call per step."""

    def __init__(self, pool: nn.Module, **options: Any):
        super().__init__()
        snn = lib("snntorch")
        self.conv1, self.conv2, self.pool = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 3), pool
        self.lif1, self.lif2 = snn.Leaky(beta=0.8, **options), snn.Leaky(beta=0.9, **options)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        out = []
        for step in range(x.shape[0]):
            spikes1, mem1 = self.lif1(self.conv1(x[step]), mem1)
            spikes2, mem2 = self.lif2(self.conv2(self.pool(spikes1)), mem2)
            out.append(self.fc(self.pool(spikes2).flatten(1)))
        return torch.stack(out)


SNN_POOLED = {"conv1": 1.0, "conv2": 0.25, "fc": 0.25}
SNN_UNIT = {"conv1": 1.0, "conv2": 1.0, "fc": 1.0}


@entry("snntorch-soft-reset", "snntorch", events=SNN_UNIT, binary=True)
def _() -> nn.Module:
    return SnnTorchNet(nn.MaxPool2d(2))


@entry("snntorch-average-pool", "snntorch", events=SNN_POOLED)
def _() -> nn.Module:
    return SnnTorchNet(nn.AvgPool2d(2))


@entry("snntorch-analog-input", "snntorch", events={k: v for k, v in SNN_POOLED.items() if k != "conv1"}, unit=None)
def _() -> nn.Module:
    return SnnTorchNet(nn.AvgPool2d(2))


@entry("snntorch-zero-reset", "snntorch", events=SNN_UNIT, binary=True)
def _() -> nn.Module:
    return SnnTorchNet(nn.MaxPool2d(2), reset_mechanism="zero")


@entry("snntorch-learned", "snntorch", events=SNN_POOLED)
def _() -> nn.Module:
    return SnnTorchNet(nn.AvgPool2d(2), learn_beta=True, learn_threshold=True, threshold=0.9)


@entry("snntorch-reset-at-once", "snntorch", events=SNN_UNIT, binary=True)
def _() -> nn.Module:
    return SnnTorchNet(nn.MaxPool2d(2), reset_delay=False)


@entry("snntorch-atan-no-reset", "snntorch", events=SNN_UNIT, binary=True)
def _() -> nn.Module:
    surrogate = lib("snntorch.surrogate")
    return SnnTorchNet(nn.MaxPool2d(2), reset_mechanism="none", spike_grad=surrogate.atan())


class SnnTorchHidden(nn.Module):
    """nn.Sequential of neurons that keep their state, reset at the beginning of each pass."""

    def __init__(self) -> None:
        super().__init__()
        snn = lib("snntorch")
        self.net = nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding=1), snn.Leaky(beta=0.8, init_hidden=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 6, 3, stride=2), snn.Synaptic(alpha=0.5, beta=0.8, init_hidden=True), nn.Flatten()),
            *(nn.Linear(6, 5), snn.Leaky(beta=0.8, init_hidden=True, output=True)),
        )

    def forward(self, x: Tensor) -> Tensor:
        lib("snntorch.utils").reset(self.net)
        return torch.stack([self.net(step)[0] for step in x]).sum(0)


@entry("snntorch-hidden-state", "snntorch", events={"net.0": 1.0, "net.3": 1.0, "net.6": 1.0}, binary=True)
def _() -> nn.Module:
    return SnnTorchHidden()


class SnnTorchRecurrent(nn.Module):
    """RLeaky with all-to-all recurrence: spikes of the last step enter `lif1.recurrent`."""

    def __init__(self) -> None:
        super().__init__()
        snn = lib("snntorch")
        self.conv, self.fc1, self.fc2 = nn.Conv2d(2, 3, 3, stride=2), nn.Linear(27, 12), nn.Linear(12, 5)
        self.lif0, self.lif1 = snn.Leaky(beta=0.8), snn.RLeaky(beta=0.8, linear_features=12)

    def forward(self, x: Tensor) -> Tensor:
        mem0 = self.lif0.init_leaky()
        spikes, mem = self.lif1.init_rleaky()
        out = []
        for step in x:
            spikes0, mem0 = self.lif0(self.conv(step), mem0)
            spikes, mem = self.lif1(self.fc1(spikes0.flatten(1)), spikes, mem)
            out.append(self.fc2(spikes))
        return torch.stack(out, 1)


@entry("snntorch-recurrent", "snntorch", events=dict.fromkeys(("conv", "fc1", "lif1.recurrent", "fc2"), 1.0))
def _() -> nn.Module:
    return SnnTorchRecurrent()
