"""A training step of a small convolutional network: C32-BN-LIF-P2-C64-BN-LIF-P2-FC10 on 28x28."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import picojoule as pj
from picojoule.execution import fused
from picojoule.layers import AddTime, MeanReadout, Repeat, Timewise

from ..case import Case, Implementation, Step, Target, Work
from ..neurons import (
    SnnTorchSequence,
    norse_cell,
    picojoule_lif,
    reset_sinabs,
    reset_spikingjelly,
    sinabs_lif,
    snntorch_lif,
    spikingjelly_lif,
)
from ..training import Images, seeded, spikes_before, training_step, weighted

SIDE, WIDTHS, CLASSES = 28, (32, 64), 10
PASSES = 12.5
"""Times that a step moves each convolution's output in float32, if norm, neuron and pool are one pass: forward
writes it, reads it for the statistics and again to fire, writes u; pooled maps count a quarter. Backward reads
output and u twice (sums of the norm, then the gradient), writes the gradient, which two products read."""


def cases(quick: bool) -> list[Case]:
    """Four and sixteen steps."""
    return [_case(timesteps, 2 if quick else 64) for timesteps in ((2,) if quick else (4, 16))]


def _case(timesteps: int, batch: int) -> Case:
    def data() -> Images:
        return Images(torch.rand(batch, 1, SIDE, SIDE), torch.randint(CLASSES, (batch,)))

    def at(name: str, make: Callable[..., Step], package: str, *, bf16: bool = False) -> Implementation:
        made = partial(make, timesteps=timesteps, bf16=bf16)
        return Implementation(f"{name} bf16" if bf16 else name, made, package, precision="bf16" if bf16 else "fp32")

    return Case(
        name="conv-train",
        setting=f"T={timesteps}",
        about=f"C32-BN-LIF-P2-C64-BN-LIF-P2-FC10, batch {batch}, 1x28x28 repeated {timesteps} times, "
        "forward, loss, backward and Adam",
        data=data,
        implementations=(
            at("picojoule", _picojoule, "picojoule"),
            at("picojoule", _picojoule, "picojoule", bf16=True),
            at("picojoule fused", _fused, "picojoule"),
            at("picojoule fused", _fused, "picojoule", bf16=True),
            at("picojoule fused, first current once", _constant, "picojoule"),
            at("picojoule fused, first current once", _constant, "picojoule", bf16=True),
            at("SpikingJelly", _spikingjelly, "spikingjelly"),
            at("SpikingJelly", _spikingjelly, "spikingjelly", bf16=True),
            at("snnTorch", _snntorch, "snntorch"),
            at("snnTorch step by step", _snntorch_steps, "snntorch"),
            at("Norse", _norse, "norse"),
            at("sinabs", _sinabs, "sinabs"),
        ),
        reference="SpikingJelly",
        targets=(
            Target("picojoule fused", "faster", 4.0, "SpikingJelly"),
            Target("picojoule fused bf16", "faster", 3.0, "SpikingJelly bf16"),
            Target("picojoule fused", "memory", 1 / 3, "SpikingJelly"),
        ),
        work=Work(_flops() * batch * timesteps, *(_bytes(size) * batch * timesteps for size in (4, 2))),
        agree=("picojoule", "picojoule fused", "picojoule fused, first current once"),
    )


def _flops() -> float:
    """Of one sample and step: two products for the first layer, whose input needs no gradient, else three."""
    first, second = 9 * WIDTHS[0] * SIDE**2, 9 * WIDTHS[0] * WIDTHS[1] * (SIDE // 2) ** 2
    readout = WIDTHS[1] * (SIDE // 4) ** 2 * CLASSES
    return 2 * (2 * first + 3 * second + 3 * readout)


def _bytes(size: int) -> float:
    """Of one sample and step, `size` bytes per element."""
    return PASSES * size * (WIDTHS[0] * SIDE**2 + WIDTHS[1] * (SIDE // 2) ** 2)


def _convolutions() -> list[nn.Conv2d]:
    return [nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in zip((1, WIDTHS[0]), WIDTHS, strict=True)]


def _readout() -> nn.Linear:
    return nn.Linear(WIDTHS[1] * (SIDE // 4) ** 2, CLASSES)


def _step(model: nn.Module, scores: Callable[[], Tensor], labels: Tensor, bf16: bool) -> Step:
    """Shows the spikes of the first neurons: behind further layers, differences of rounding grow from step to step."""
    step = training_step(scores, model, labels, bf16=bf16)
    second_convolution = weighted(model)[2]
    return step._replace(spikes=lambda: spikes_before(second_convolution, step.forward))


def _picojoule(data: Images, timesteps: int, bf16: bool, fuse: bool = False, once: bool = False) -> Step:
    """`once` repeats the first norm's output instead of the image: the same spikes, its convolution computed once."""

    def make() -> nn.Module:
        blocks = [
            part
            for conv in _convolutions()
            for part in (
                Timewise(conv),
                Timewise(nn.BatchNorm2d(conv.out_channels)),
                picojoule_lif(),
                Timewise(nn.MaxPool2d(2)),
            )
        ]
        blocks.insert(2 if once else 0, Repeat(timesteps))
        layers = nn.Sequential(AddTime(), *blocks, nn.Flatten(2), _readout(), MeanReadout())
        return pj.Network(layers, (1, SIDE, SIDE), CLASSES)

    net = seeded(make).to(memory_format=torch.channels_last)
    x = data.x.contiguous(memory_format=torch.channels_last)
    run = fused(net) if fuse else net
    return _step(net, lambda: run(x), data.labels, bf16)


def _fused(data: Images, timesteps: int, bf16: bool) -> Step:
    return _picojoule(data, timesteps, bf16, fuse=True)


def _constant(data: Images, timesteps: int, bf16: bool) -> Step:
    return _picojoule(data, timesteps, bf16, fuse=True, once=True)


def _spikingjelly(data: Images, timesteps: int, bf16: bool) -> Step:
    from spikingjelly.activation_based import layer
    from spikingjelly.activation_based.functional import set_step_mode

    def make() -> nn.Module:
        widths = (1, *WIDTHS)
        blocks = [
            part
            for i, o in zip(widths, widths[1:], strict=False)
            for part in (
                layer.Conv2d(i, o, 3, padding=1, bias=False),
                layer.BatchNorm2d(o),
                spikingjelly_lif(),
                layer.MaxPool2d(2, 2),
            )
        ]
        readout = layer.Linear(_readout().in_features, CLASSES)
        net = nn.Sequential(*blocks, layer.Flatten(), readout)
        set_step_mode(net, "m")
        return net

    net = seeded(make)

    def scores() -> Tensor:
        found = net(_repeated(data, timesteps)).mean(0)
        reset_spikingjelly(net)
        return found

    return _step(net, scores, data.labels, bf16)


class Folded(nn.Module):
    """Applies a layer to the folded sequence."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _snntorch(data: Images, timesteps: int, bf16: bool) -> Step:
    """Layers on the whole sequence, a loop in each neuron."""

    def make() -> nn.Module:
        blocks = [
            part
            for conv in _convolutions()
            for part in (
                Folded(nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))),
                SnnTorchSequence(),
                Folded(nn.MaxPool2d(2)),
            )
        ]
        return nn.Sequential(*blocks, nn.Flatten(2), _readout())

    net = seeded(make)
    return _step(net, lambda: net(_repeated(data, timesteps)).mean(0), data.labels, bf16)


def _snntorch_steps(data: Images, timesteps: int, bf16: bool) -> Step:
    """The whole network step by step, as its tutorials do; batch norm sees one step at a time."""
    blocks = [nn.Sequential(c, nn.BatchNorm2d(c.out_channels)) for c in _convolutions()]
    net = seeded(lambda: nn.ModuleList([*blocks, _readout(), *(snntorch_lif() for _ in WIDTHS)]))
    first, second, readout, lif1, lif2 = net.children()

    def scores() -> Tensor:
        v1 = v2 = None
        total = torch.zeros(())
        for x in _repeated(data, timesteps).unbind(0):
            current = first(x)
            spikes, v1 = lif1(current, torch.zeros_like(current) if v1 is None else v1)
            current = second(nn.functional.max_pool2d(spikes, 2))
            spikes, v2 = lif2(current, torch.zeros_like(current) if v2 is None else v2)
            total = total + readout(nn.functional.max_pool2d(spikes, 2).flatten(1))
        return total / timesteps

    return _step(net, scores, data.labels, bf16)


def _norse(data: Images, timesteps: int, bf16: bool) -> Step:
    """SequentialState step by step; batch norm sees one step at a time."""
    from norse.torch import SequentialState

    def make() -> nn.Module:
        blocks = [
            part
            for conv in _convolutions()
            for part in (conv, nn.BatchNorm2d(conv.out_channels), norse_cell(), nn.MaxPool2d(2))
        ]
        return SequentialState(*blocks, nn.Flatten(), _readout())

    net = seeded(make)

    def scores() -> Tensor:
        state, found = None, []
        for x in _repeated(data, timesteps).unbind(0):
            out, state = net(x, state)
            found.append(out)
        return torch.stack(found).mean(0)

    return _step(net, scores, data.labels, bf16)


def _sinabs(data: Images, timesteps: int, bf16: bool) -> Step:
    """Batch and time squeezed into one axis, samples first."""

    def make() -> nn.Module:
        blocks = [
            part
            for conv in _convolutions()
            for part in (conv, nn.BatchNorm2d(conv.out_channels), sinabs_lif(timesteps), nn.MaxPool2d(2))
        ]
        return nn.Sequential(*blocks, nn.Flatten(), _readout())

    net = seeded(make)

    def scores() -> Tensor:
        reset_sinabs(net)
        found = net(data.x.repeat_interleave(timesteps, 0))
        return found.unflatten(0, (-1, timesteps)).mean(1)

    step = _step(net, scores, data.labels, bf16)

    def spikes() -> Tensor:
        assert step.spikes is not None
        return step.spikes().unflatten(0, (len(data.x), timesteps, -1)).transpose(0, 1).flatten()

    return step._replace(spikes=spikes)


def _repeated(data: Images, timesteps: int) -> Tensor:
    """The images at every step, `[T, B, C, H, W]`."""
    return data.x.expand(timesteps, *data.x.shape)
