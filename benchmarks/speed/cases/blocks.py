"""Inference with all steps at once, a few steps at a time, or fewer images at a time."""

from functools import partial

import torch
from torch import Tensor

import picojoule as pj
from picojoule.execution import fused, in_time_blocks

from ..case import Case, Implementation, Step
from ..training import Images, seeded

SIDE, CLASSES = 28, 10


def cases(quick: bool) -> list[Case]:
    """Two networks over few and many steps; the last block size is what "auto" takes."""
    if quick:
        return [_case("small-cnn", 4, 4)]
    return [_case("small-cnn", 4, 256), _case("small-cnn", 16, 256), _case("cnn7", 16, 64)]


def _case(network: str, timesteps: int, batch: int) -> Case:
    sizes = [k for k in (1, 4, 8) if k < timesteps]
    images = max(1, batch // timesteps)
    return Case(
        name="blocks",
        setting=f"{network}, T={timesteps}",
        about=f"{network}, 1x{SIDE}x{SIDE}, T={timesteps}, batch {batch}, inference",
        data=lambda: Images(torch.rand(batch, 1, SIDE, SIDE), torch.randint(CLASSES, (batch,))),
        implementations=(
            Implementation("all steps at once", partial(_step, network=network, timesteps=timesteps)),
            *(
                Implementation(f"{k} steps at a time", partial(_step, network=network, timesteps=timesteps, steps=k))
                for k in sizes
            ),
            Implementation("automatic blocks", partial(_step, network=network, timesteps=timesteps, steps="auto")),
            Implementation(
                f"{images} images at a time", partial(_step, network=network, timesteps=timesteps, images=images)
            ),
        ),
        reference="all steps at once",
        per="batch",
    )


def _step(
    data: Images, network: str, timesteps: int, steps: int | str | None = None, images: int | None = None
) -> Step:
    definition = pj.Definition(network, (1, SIDE, SIDE), CLASSES, timesteps=timesteps)
    net = seeded(lambda: pj.build(definition, pj.LIF)).to(memory_format=torch.channels_last).eval()
    run = fused(net)
    model = run if steps is None else in_time_blocks(run, steps).eval()  # pyright: ignore[reportArgumentType]
    x = data.x.contiguous(memory_format=torch.channels_last)

    def scores() -> Tensor:
        return torch.cat([model(part) for part in x.split(images or len(x))])

    return Step(torch.no_grad()(scores))
