"""A linear layer and LIF neurons: forward, and backward to the weights; the input needs no gradient."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..case import Case, Implementation, Step, Target, Work
from ..neurons import (
    SnnTorchSequence,
    norse_lif,
    picojoule_lif,
    reset_sinabs,
    reset_spikingjelly,
    sinabs_lif,
    spikingjelly_lif,
)
from .lif import BYTES, SLOW_ROUNDS

RATE = 0.1


class Data(NamedTuple):
    """Input spikes and the gradient of the output spikes, `[T, B, n]`; weight `[n, n]`."""

    x: Tensor
    gradient: Tensor
    weight: Tensor


def cases(quick: bool) -> list[Case]:
    """The products in fp32, and in bf16 by autocast."""
    steps, batch, n = (20, 4, 64) if quick else (500, 16, 512)
    elements = steps * batch * n

    def data() -> Data:
        x = (torch.rand(steps, batch, n) < RATE).float()
        return Data(x, torch.randn(steps, batch, n), torch.randn(n, n) / (RATE * n) ** 0.5)

    def at(name: str, make: Callable[[Data], Step], package: str, rounds: int | None = None) -> Implementation:
        return Implementation(name, make, package, rounds)

    def bf16(name: str, make: Callable[[Data], Step], package: str) -> Implementation:
        return Implementation(f"{name} bf16", lambda data: _autocast(make(data)), package, precision="bf16")

    return [
        Case(
            name="linear-lif",
            setting=f"n={n}",
            about=f"Linear({n}, {n}) and LIF, T={steps}, batch {batch}, input rate {RATE:.0%}, gradient of the weight",
            data=data,
            implementations=(
                at("picojoule", _picojoule, "picojoule"),
                bf16("picojoule", _picojoule, "picojoule"),
                at("SpikingJelly", _spikingjelly, "spikingjelly"),
                bf16("SpikingJelly", _spikingjelly, "spikingjelly"),
                at("snnTorch", _snntorch, "snntorch"),
                at("Norse", _norse, "norse", SLOW_ROUNDS),
                at("sinabs", _sinabs, "sinabs", SLOW_ROUNDS),
            ),
            reference="SpikingJelly",
            targets=(
                Target("picojoule", "faster", 4.0, "SpikingJelly"),
                Target("picojoule bf16", "faster", 8.0, "SpikingJelly"),
            ),
            work=Work(2 * 2 * elements * n, BYTES * elements, BYTES / 2 * elements),
            agree=("picojoule",),
        )
    ]


def _step(layer: nn.Linear, run: Callable[[Tensor], Tensor], data: Data) -> Step:
    """`run` is the whole layer, on the input of the case."""
    with torch.no_grad():
        layer.weight.copy_(data.weight)
    gradients = {dtype: data.gradient.to(dtype) for dtype in (torch.float32, torch.bfloat16)}

    def backward(out: Tensor) -> None:
        torch.autograd.grad(out, layer.weight, gradients[out.dtype])

    def spikes() -> Tensor:
        with torch.no_grad():
            return run(data.x)

    return Step(lambda: run(data.x), backward, spikes)


def _autocast(step: Step) -> Step:
    """Products of the forward pass in bf16; those of backward follow."""

    def forward() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return step.forward()

    def spikes() -> Tensor:
        assert step.spikes is not None
        with torch.autocast("cpu", torch.bfloat16):
            return step.spikes()

    return Step(forward, step.backward, spikes)


def _linear(data: Data) -> nn.Linear:
    return nn.Linear(*data.weight.shape, bias=False)


def _picojoule(data: Data) -> Step:
    linear = _linear(data)
    return _step(linear, nn.Sequential(linear, picojoule_lif()), data)


def _spikingjelly(data: Data) -> Step:
    from spikingjelly.activation_based.layer import Linear

    linear = Linear(*data.weight.shape, bias=False, step_mode="m")
    layer = nn.Sequential(linear, spikingjelly_lif())

    def run(x: Tensor) -> Tensor:
        spikes = layer(x)
        reset_spikingjelly(layer)
        return spikes

    return _step(linear, run, data)


def _snntorch(data: Data) -> Step:
    linear = _linear(data)
    return _step(linear, nn.Sequential(linear, SnnTorchSequence()), data)


def _norse(data: Data) -> Step:
    linear, neuron = _linear(data), norse_lif()
    return _step(linear, lambda x: neuron(linear(x))[0], data)


def _sinabs(data: Data) -> Step:
    linear, neuron = _linear(data), sinabs_lif()

    def run(x: Tensor) -> Tensor:
        reset_sinabs(neuron)
        return neuron(linear(x))

    x, gradient = (t.transpose(0, 1).contiguous() for t in (data.x, data.gradient))
    step = _step(linear, run, Data(x, gradient, data.weight))

    def spikes() -> Tensor:
        assert step.spikes is not None
        return step.spikes().transpose(0, 1)

    return step._replace(spikes=spikes)
