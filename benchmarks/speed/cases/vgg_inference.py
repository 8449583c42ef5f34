"""Inference of a VGG-like converted network at a low firing rate, one sample: what latency a user sees."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

import picojoule as pj
from picojoule.execution import fast
from picojoule.layers import AddTime, MeanReadout, Repeat, Timewise

from ..case import Case, Implementation, Step, Target, Work
from ..neurons import reset_spikingjelly
from ..training import seeded, spikes_before, weighted

RATE, SIDE, CLASSES = 0.07, 32, 10
WIDTHS = (64, 64, 128, 128, 256, 256)
POOLED = (1, 3, 5)
"""Convolutions that a pool follows."""


class Data(NamedTuple):
    """One image `[1, 3, 32, 32]` and the threshold of each layer."""

    x: Tensor
    thresholds: list[float]


def cases(quick: bool) -> list[Case]:
    """Thirty-two steps."""
    timesteps = 4 if quick else 32
    return [
        Case(
            name="vgg-inference",
            setting=f"T={timesteps}",
            about=f"C64-C64-P-C128-C128-P-C256-C256-P-FC10 on 3x32x32, IAF with soft reset, batch 1, T={timesteps}, "
            f"thresholds set so that every layer fires at {RATE:.0%}",
            data=lambda: _data(timesteps),
            implementations=(
                Implementation("picojoule", lambda data: _picojoule(data, timesteps)),
                Implementation("picojoule fast", lambda data: _fast(data, timesteps, "fp32")),
                Implementation("picojoule fast bf16", lambda data: _fast(data, timesteps, "bf16"), precision="bf16"),
                Implementation("step by step, eager torch", lambda data: _step_by_step(data, timesteps), "torch"),
                Implementation("SpikingJelly", lambda data: _spikingjelly(data, timesteps), "spikingjelly"),
            ),
            reference="step by step, eager torch",
            targets=tuple(
                Target(name, "faster", 6.0, "step by step, eager torch")
                for name in ("picojoule fast", "picojoule fast bf16")
            ),
            work=Work(_flops(timesteps), *(size * _elements(timesteps) for size in (12, 6))),
            agree=("picojoule",),
            per="sample",
        )
    ]


def _maps() -> list[tuple[int, int, int]]:
    """Channels in, channels out and side of every convolution."""
    side, found = SIDE, []
    for number, (i, o) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
        found.append((i, o, side))
        side //= 2 if number in POOLED else 1
    return found


def _flops(timesteps: int) -> float:
    """The first layer sees a constant image, so its current is computed once."""
    first, *others = (2 * 9 * i * o * side**2 for i, o, side in _maps())
    return first + timesteps * (sum(others) + 2 * _features() * CLASSES)


def _elements(timesteps: int) -> float:
    """Neurons times steps; each current is written once and read once, each spike written once."""
    return timesteps * sum(o * side**2 for _, o, side in _maps())


def _features() -> int:
    return WIDTHS[-1] * (SIDE // 2 ** len(POOLED)) ** 2


def _layers() -> nn.ModuleList:
    """The convolutions and the readout, with the same weights at every call."""
    convolutions = [nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o, _ in _maps()]
    made = seeded(lambda: nn.ModuleList([*convolutions, nn.Linear(_features(), CLASSES)]))
    assert isinstance(made, nn.ModuleList)
    return made.eval()


def _data(timesteps: int) -> Data:
    """Thresholds found layer by layer, each on the spikes of the layers before it."""
    x = torch.rand(1, 3, SIDE, SIDE)
    z, thresholds = x.expand(timesteps, -1, -1, -1), []
    with torch.no_grad():
        for number, convolution in enumerate(_layers()[:-1]):
            currents = convolution(z)
            thresholds.append(_threshold(currents))
            z = _spikes(currents, thresholds[-1])
            if number in POOLED:
                z = nn.functional.avg_pool2d(z, 2)
    return Data(x, thresholds)


def _threshold(currents: Tensor) -> float:
    """By bisection, and no closer than it must be: the limit would be the potential of some neuron, a tie."""
    low, high = 0.0, float(currents.max()) * len(currents)
    while True:
        threshold = (low + high) / 2
        rate = float(_spikes(currents, threshold).mean())
        if abs(rate - RATE) < RATE / 50:
            return threshold
        low, high = (threshold, high) if rate > RATE else (low, threshold)


def _spikes(currents: Tensor, threshold: float) -> Tensor:
    v, spikes = torch.zeros_like(currents[0]), []
    for current in currents:
        v = v + current
        spikes.append((v >= threshold).float())
        v = v - spikes[-1] * threshold
    return torch.stack(spikes)


def _step(model: nn.Module, run: Callable[[], Tensor]) -> Step:
    model.eval()

    def forward() -> Tensor:
        with torch.no_grad():
            return run()

    return Step(forward, None, lambda: spikes_before(weighted(model)[-1], forward))


def _network(data: Data, timesteps: int) -> pj.Network:
    *convolutions, readout = _layers()
    parts: list[nn.Module] = [AddTime()]
    for number, (convolution, threshold) in enumerate(zip(convolutions, data.thresholds, strict=True)):
        parts.append(Timewise(convolution))
        if number == 0:
            parts.append(Repeat(timesteps))
        parts.append(pj.IAF(threshold))
        if number in POOLED:
            parts.append(Timewise(nn.AvgPool2d(2)))
    return pj.Network(nn.Sequential(*parts, nn.Flatten(2), readout, MeanReadout()), (3, SIDE, SIDE), CLASSES)


def _picojoule(data: Data, timesteps: int) -> Step:
    net = _network(data, timesteps).to(memory_format=torch.channels_last)
    x = data.x.contiguous(memory_format=torch.channels_last)
    return _step(net, lambda: net(x))


def _fast(data: Data, timesteps: int, precision: str) -> Step:
    model = fast(_network(data, timesteps), precision)
    return _step(model, lambda: model(data.x))


def _step_by_step(data: Data, timesteps: int) -> Step:
    """What converted networks do today: all layers for one step, then the next."""
    layers = _layers()
    *convolutions, readout = layers

    def run() -> Tensor:
        states: list[Tensor | None] = [None for _ in convolutions]
        total = torch.zeros(())
        for _ in range(timesteps):
            z = data.x
            for number, (convolution, threshold) in enumerate(zip(convolutions, data.thresholds, strict=True)):
                current, v = convolution(z), states[number]
                v = current if v is None else v + current
                z = (v >= threshold).to(v.dtype)
                states[number] = v - z * threshold
                if number in POOLED:
                    z = nn.functional.avg_pool2d(z, 2)
            total = total + readout(z.flatten(1))
        return total / timesteps

    return _step(layers, run)


def _spikingjelly(data: Data, timesteps: int) -> Step:
    from spikingjelly.activation_based.functional import seq_to_ann_forward
    from spikingjelly.activation_based.neuron import IFNode

    layers = _layers()
    *convolutions, readout = layers
    neurons = nn.ModuleList(IFNode(v_threshold=t, v_reset=None, step_mode="m") for t in data.thresholds)
    pool = nn.AvgPool2d(2)

    def run() -> Tensor:
        z = convolutions[0](data.x).expand(timesteps, -1, -1, -1, -1)
        for number, neuron in enumerate(neurons):
            z = neuron(z if number == 0 else seq_to_ann_forward(z, [convolutions[number]]))
            if number in POOLED:
                z = seq_to_ann_forward(z, [pool])
        reset_spikingjelly(neurons)
        return readout(z.flatten(2)).mean(0)

    return _step(layers, run)
