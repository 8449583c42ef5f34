"""A LIF population alone, over 500 steps: forward and backward to the current."""

from collections.abc import Callable
from functools import partial
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

BYTES = 24
"""Per element in float32: forward reads x and writes spikes and u, backward reads their gradient and u, writes one."""
SLOW_ROUNDS = 3


class Data(NamedTuple):
    """Currents and the gradient of the spikes, `[T, B, n]`."""

    x: Tensor
    gradient: Tensor


def cases(quick: bool) -> list[Case]:
    """Two widths: a tensor in the last cache level, and one far beyond it."""
    steps, batch = (20, 4) if quick else (500, 16)
    return [_case(steps, batch, n, *limits) for n, *limits in ((512, 20.0, None), (4096, 9.0, 1.3))]


def _case(steps: int, batch: int, n: int, faster: float, floor: float | None) -> Case:
    targets = [Target("picojoule", "faster", faster, "SpikingJelly")]
    if floor is not None:
        targets.append(Target("picojoule", "floor", floor))
    traffic = BYTES * steps * batch * n
    return Case(
        name="lif",
        setting=f"n={n}",
        about=f"T={steps}, batch {batch}, n={n}, forward and backward to the current",
        data=lambda: Data(torch.randn(steps, batch, n) * 0.5 + 0.1, torch.randn(steps, batch, n)),
        implementations=(
            Implementation("picojoule", partial(_step, neuron=picojoule_lif)),
            Implementation("SpikingJelly", _spikingjelly, "spikingjelly"),
            Implementation("snnTorch", partial(_step, neuron=SnnTorchSequence), "snntorch"),
            Implementation("Norse", _norse, "norse", rounds=SLOW_ROUNDS),
            Implementation("sinabs", _sinabs, "sinabs", rounds=SLOW_ROUNDS),
        ),
        reference="SpikingJelly",
        targets=tuple(targets),
        work=Work(0.0, traffic, traffic / 2, cached=n == 512),
        agree=("picojoule",),
    )


def step_of(run: Callable[[Tensor], Tensor], data: Data) -> Step:
    """Forward keeps the graph; backward asks for the gradient of the currents."""
    x = data.x.requires_grad_()

    def spikes() -> Tensor:
        with torch.no_grad():
            return run(x)

    def backward(out: Tensor) -> None:
        torch.autograd.grad(out, x, data.gradient)

    return Step(lambda: run(x), backward, spikes)


def _step(data: Data, neuron: Callable[[], nn.Module]) -> Step:
    return step_of(neuron(), data)


def _spikingjelly(data: Data) -> Step:
    neuron = spikingjelly_lif()

    def run(x: Tensor) -> Tensor:
        spikes = neuron(x)
        reset_spikingjelly(neuron)
        return spikes

    return step_of(run, data)


def _norse(data: Data) -> Step:
    neuron = norse_lif()
    return step_of(lambda x: neuron(x)[0], data)


def _sinabs(data: Data) -> Step:
    neuron = sinabs_lif()

    def run(x: Tensor) -> Tensor:
        reset_sinabs(neuron)
        return neuron(x)

    batch_first = Data(*(t.transpose(0, 1).contiguous() for t in data))
    step = step_of(run, batch_first)
    assert step.spikes is not None
    of_batch = step.spikes
    return step._replace(spikes=lambda: of_batch().transpose(0, 1))
