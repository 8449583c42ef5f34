"""Networks in SpikingJelly."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .brute_force import Product
from .entries import entry, lib


def reset_spikingjelly(model: nn.Module) -> None:
    lib("spikingjelly.activation_based.functional").reset_net(model)


def spikingjelly_net(step_mode: str, neuron: Callable[..., nn.Module], pool: str = "AvgPool2d") -> nn.Module:
    layer = lib("spikingjelly.activation_based.layer")
    net = nn.Sequential(
        *(layer.Conv2d(2, 4, 3, padding=1, bias=False), neuron(), getattr(layer, pool)(2, 2)),
        *(layer.Conv2d(4, 6, 3, stride=2), neuron(), layer.Flatten(), layer.Linear(6, 5)),
    )
    lib("spikingjelly.activation_based.functional").set_step_mode(net, step_mode)
    return net


class StepByStep(nn.Module):
    """The user's loop over a single-step network."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x[0])
        for step in x[1:]:
            out = out + self.net(step)
        return out / len(x)


class MultiStep(nn.Module):
    """A multi-step network and the mean over time, reset by itself at the end of the pass."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x).mean(0)
        reset_spikingjelly(self.net)
        return out


SJ = ("0", "3", "6")


def sj_units(pooled: float, unit: float = 1.0) -> dict[str, float]:
    return {"net.0": 1.0, "net.3": pooled, "net.6": unit}


def sj_neuron(name: str, **options: Any) -> Callable[..., nn.Module]:
    return lambda: getattr(lib("spikingjelly.activation_based.neuron"), name)(**options)


@entry("spikingjelly-single-lif", "spikingjelly", events=sj_units(0.25), reset=reset_spikingjelly, gain=9.0, shift=0.25)
def _() -> nn.Module:
    return StepByStep(spikingjelly_net("s", sj_neuron("LIFNode", tau=2.0)))


@entry("spikingjelly-single-if-max", "spikingjelly", events=sj_units(1.0), reset=reset_spikingjelly, binary=True)
def _() -> nn.Module:
    return StepByStep(spikingjelly_net("s", sj_neuron("IFNode", v_reset=None), "MaxPool2d"))


@entry(
    "spikingjelly-multi-lif",
    "spikingjelly",
    events=sj_units(0.25),
    time_major=tuple(sj_units(1.0)),
    gain=9.0,
    shift=0.25,
)
def _() -> nn.Module:
    atan = lib("spikingjelly.activation_based.surrogate").ATan()
    return MultiStep(spikingjelly_net("m", sj_neuron("LIFNode", surrogate_function=atan, detach_reset=True)))


@entry("spikingjelly-multi-if-soft", "spikingjelly", events=sj_units(1.0), time_major=tuple(sj_units(1.0)))
def _() -> nn.Module:
    return MultiStep(spikingjelly_net("m", sj_neuron("IFNode", v_reset=None), "MaxPool2d"))


@entry(
    "spikingjelly-multi-plif",
    "spikingjelly",
    events=sj_units(0.25),
    time_major=tuple(sj_units(1.0)),
    gain=1.5,
    shift=0.6,
)
def _() -> nn.Module:
    return MultiStep(spikingjelly_net("m", sj_neuron("ParametricLIFNode", init_tau=2.0, decay_input=False)))


@entry(
    "spikingjelly-ternary", "spikingjelly", events=sj_units(0.25), time_major=tuple(sj_units(1.0)), gain=6.0, shift=0.0
)
def _() -> nn.Module:
    return MultiStep(spikingjelly_net("m", sj_neuron("TernaryLIFNode", decay_input=False)))


@entry("spikingjelly-ilif", "spikingjelly", events=sj_units(0.25), time_major=tuple(sj_units(1.0)), gain=5.0)
def _() -> nn.Module:
    return MultiStep(spikingjelly_net("m", sj_neuron("ILIFNode")))


class SewBlock(nn.Module):
    """Spike-element-wise residual: spikes of two branches add up to counts. Multi-step, batch norm before neurons."""

    def __init__(self) -> None:
        super().__init__()
        layer = lib("spikingjelly.activation_based.layer")
        neuron = sj_neuron("IFNode", step_mode="m", v_threshold=0.5)
        conv = lambda i, o: nn.Sequential(  # noqa: E731
            layer.Conv2d(i, o, 3, padding=1, bias=False, step_mode="m"), layer.BatchNorm2d(o, step_mode="m"), neuron()
        )
        self.stem, self.branch = conv(2, 4), conv(4, 4)
        self.fc = layer.Linear(4 * 64, 5, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.stem(x)
        out = self.fc((spikes + self.branch(spikes)).flatten(2))
        reset_spikingjelly(self)
        return out.mean(0)


SEW = {"stem.0": 1.0, "branch.0": 1.0, "fc": 1.0}


@entry("spikingjelly-sew-residual", "spikingjelly", events=SEW, time_major=tuple(SEW))
def _() -> nn.Module:
    return SewBlock()


class Spikformer(nn.Module):
    """Spiking self-attention: q, k, v are spikes, no softmax; `Q K^T` gives counts, which meet the spikes of v."""

    def __init__(self, by_einsum: bool = False):
        super().__init__()
        neuron = sj_neuron("LIFNode", step_mode="m", v_threshold=0.4)
        self.by_einsum, self.heads = by_einsum, 2
        self.patch = nn.Conv2d(2, 8, 2, stride=2)
        self.q, self.k, self.v, self.out, self.head = *(nn.Linear(8, 8) for _ in range(4)), nn.Linear(8, 5)
        self.spikes, self.q_spikes, self.k_spikes, self.v_spikes, self.a_spikes = (neuron() for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        steps, samples = x.shape[:2]
        patches = self.patch(x.flatten(0, 1)).flatten(2).transpose(1, 2)  # [T * B, N, D]
        x = self.spikes(patches.unflatten(0, (steps, samples)))  # [T, B, N, D]
        q, k, v = (
            spikes(linear(x)).reshape(*x.shape[:3], self.heads, -1).transpose(2, 3)
            for linear, spikes in ((self.q, self.q_spikes), (self.k, self.k_spikes), (self.v, self.v_spikes))
        )
        if self.by_einsum:
            attention = torch.einsum("tbhnd,tbhmd->tbhnm", q, k)
            mixed = torch.einsum("tbhnm,tbhmd->tbhnd", attention, v) * 0.125
        else:
            attention = q @ k.transpose(-2, -1)
            mixed = (attention @ v) * 0.125
        mixed = self.a_spikes(mixed.transpose(2, 3).reshape(x.shape))
        out = self.head(self.out(mixed).mean(2))
        reset_spikingjelly(self)
        return out.mean(0)


ATTENTION: dict[str, Any] = {
    "events": dict.fromkeys(("patch", "q", "k", "v", "out"), 1.0),
    "products": (Product("qk", True, True), Product("av", True, True)),
    "time_major": ("patch", "q", "k", "v", "qk", "av", "out", "head"),
}


@entry("attention-matmul", "spikingjelly", **ATTENTION, gain=4.0, shift=0.4)
def _() -> nn.Module:
    return Spikformer()


@entry("attention-einsum", "spikingjelly", **ATTENTION, gain=4.0, shift=0.4)
def _() -> nn.Module:
    return Spikformer(by_einsum=True)
