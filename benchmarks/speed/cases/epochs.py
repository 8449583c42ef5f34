"""Seconds per training epoch of whole experiments, with the kernels off (before) and on (after)."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

import picojoule as pj
from picojoule.execution import fused
from picojoule.kernels.native.library import using
from picojoule.layers import MeanReadout

from ..case import Case, Implementation, Step
from ..neurons import picojoule_lif
from ..training import Images, seeded, training_step

SAMPLES, CLASSES, SIDE = 60_000, 10, 28
HIDDEN = 128


def cases(quick: bool) -> list[Case]:
    """CNN7 on images as in Fashion-MNIST, one and four steps; a LIF network on images read pixel by pixel."""
    batch = 2 if quick else 128
    pixels = 16 if quick else SIDE**2
    sequences = partial(_data, batch, (pixels, 1))
    return [
        *(
            _case(f"CNN7, T={T}", "1x28x28", batch, partial(_data, batch, (1, SIDE, SIDE)), partial(_cnn7, T))
            for T in (1, 4)
        ),
        _case(
            f"LIF net, {pixels} steps", f"{pixels} pixels in turn, 1-{HIDDEN}-{HIDDEN}-10", batch, sequences, _pixels
        ),
    ]


def _data(batch: int, shape: tuple[int, ...]) -> Images:
    return Images(torch.rand(batch, *shape), torch.randint(CLASSES, (batch,)))


def _case(setting: str, shape: str, batch: int, data: Callable[[], Images], make: Callable[[Images], Step]) -> Case:
    batches = SAMPLES / batch
    return Case(
        name="epochs",
        setting=setting,
        about=f"{shape}, batch {batch}, {SAMPLES:,} samples: seconds of a training step times {batches:,.0f}",
        data=data,
        implementations=(
            Implementation("before: reference path", partial(_under, make, lambda: using("reference")), scale=batches),
            Implementation("after: kernels, fused", partial(_under, make, nullcontext), scale=batches),
        ),
        reference="before: reference path",
        per="epoch",
    )


def _under(make: Callable[[Images], Step], path: Callable[[], AbstractContextManager[Any]], data: Images) -> Step:
    """The step with its passes inside the context `path`."""
    with path():
        step = make(data)
    assert step.backward is not None
    after = step.backward

    def forward() -> Any:
        with path():
            return step.forward()

    def backward(out: Any) -> None:
        with path():
            after(out)

    return Step(forward, backward)


def _cnn7(timesteps: int, data: Images) -> Step:
    definition = pj.Definition("cnn7", (1, SIDE, SIDE), CLASSES, timesteps=timesteps)
    net = seeded(lambda: pj.build(definition, pj.LIF)).to(memory_format=torch.channels_last)
    x = data.x.contiguous(memory_format=torch.channels_last)
    model = fused(net)  # part by part where the reference path runs
    return training_step(lambda: model(x), net, data.labels)


def _pixels(data: Images) -> Step:
    def make() -> nn.Module:
        hidden = (nn.Linear(1, HIDDEN), picojoule_lif(), nn.Linear(HIDDEN, HIDDEN), picojoule_lif())
        return nn.Sequential(*hidden, nn.Linear(HIDDEN, CLASSES), MeanReadout())

    net = seeded(make)
    x = data.x.transpose(0, 1).contiguous()  # [T, B, 1]
    return training_step(lambda: net(x), net, data.labels)
