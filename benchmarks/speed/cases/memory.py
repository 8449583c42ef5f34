"""Training with less memory: membranes in bfloat16, layers recomputed, time in segments."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

import picojoule as pj
from picojoule.execution import fused, recomputed, recomputed_over_time
from picojoule.kernels.saved import membranes_saved_in
from picojoule.layers import AddTime, MeanReadout, Repeat, Timewise

from ..case import Case, Implementation, Step
from ..neurons import picojoule_lif
from ..training import Images, seeded, training_step

SIDE, CLASSES, MAPS, LAYERS = 16, 10, 32, 13
FEATURES, HIDDEN = 64, 256
Wrap = Callable[[Any], nn.Module]


def cases(quick: bool) -> list[Case]:
    """Many layers of maps over a few steps, and a few dense layers over many steps."""
    batch, layers, lengths = (2, 3, (8,)) if quick else (64, LAYERS, (64, 1024))
    images = Images(torch.rand(batch, 1, SIDE, SIDE), torch.randint(CLASSES, (batch,)))
    deep = Case(
        name="memory",
        setting=f"{layers} layers, T=4",
        about=f"{layers} times C{MAPS}-BN-LIF on {SIDE}x{SIDE}, batch {batch}, T=4, training step",
        data=lambda: images,
        implementations=(
            _deep("plain", layers, lambda net: net),
            _deep("fused", layers, fused),
            _deep("recomputed", layers, recomputed),
            _deep("fused, recomputed", layers, lambda net: recomputed(fused(net))),
        ),
        reference="plain",
    )
    return [deep, *(_long(T, 2 if quick else 64) for T in lengths)]


def _deep(name: str, layers: int, wrap: Wrap) -> Implementation:
    def make(data: Images) -> Step:
        def parts() -> nn.Module:
            widths = [1, *[MAPS] * layers]
            blocks = [
                part
                for i, o in zip(widths, widths[1:], strict=False)
                for part in (
                    Timewise(nn.Conv2d(i, o, 3, padding=1, bias=False)),
                    Timewise(nn.BatchNorm2d(o)),
                    picojoule_lif(),
                )
            ]
            readout = nn.Linear(MAPS * SIDE**2, CLASSES)
            model = nn.Sequential(AddTime(), Repeat(4), *blocks, nn.Flatten(2), readout, MeanReadout())
            return pj.Network(model, (1, SIDE, SIDE), CLASSES)

        net = seeded(parts).to(memory_format=torch.channels_last)
        x, model = data.x.contiguous(memory_format=torch.channels_last), wrap(net)
        return training_step(lambda: model(x), net, data.labels)

    return Implementation(name, make)


def _long(timesteps: int, batch: int) -> Case:
    data = Images((torch.rand(timesteps, batch, FEATURES) < 0.1).float(), torch.randint(CLASSES, (batch,)))

    def over_time(segments: int) -> Wrap:
        return lambda net: recomputed_over_time(net, segments)

    return Case(
        name="memory",
        setting=f"three layers, T={timesteps}",
        about=f"three times FC{HIDDEN}-LIF, batch {batch}, T={timesteps}, training step",
        data=lambda: data,
        implementations=(
            _dense("plain", lambda net: net),
            _dense("membranes in bf16", lambda net: net, lambda: membranes_saved_in(torch.bfloat16)),
            _dense("recomputed", recomputed),
            _dense("in 8 segments", over_time(8)),
            *([_dense("in 32 segments", over_time(32))] if timesteps >= 32 else []),
        ),
        reference="plain",
    )


def _dense(name: str, wrap: Wrap, context: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Implementation:
    def make(data: Images) -> Step:
        def parts() -> nn.Module:
            sizes = [FEATURES, HIDDEN, HIDDEN, HIDDEN]
            layers = [
                part for i, o in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(i, o), picojoule_lif())
            ]
            return nn.Sequential(*layers, nn.Linear(HIDDEN, CLASSES), MeanReadout())

        net = seeded(parts)
        model = wrap(net)

        def scores() -> Tensor:
            with context():
                return model(data.x)

        return training_step(scores, net, data.labels)

    return Implementation(name, make)
