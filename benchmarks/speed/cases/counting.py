"""What observing and counting cost, in training and in evaluation."""

from functools import partial

import torch
from torch import Tensor

import picojoule as pj
from picojoule.execution import fused

from ..case import Case, Implementation, Step, Target
from ..training import Images, seeded, training_step

SIDE, CLASSES, TIMESTEPS, LIMIT = 28, 10, 4, 1.05


def cases(quick: bool) -> list[Case]:
    """Two networks, each in training and in evaluation."""
    batches = {"small-cnn": 4, "cnn7": 1} if quick else {"small-cnn": 128, "cnn7": 32}
    return [_case(name, max(batch, 2), training) for name, batch in batches.items() for training in (True, False)]


def _case(network: str, batch: int, training: bool) -> Case:
    def data() -> Images:
        return Images(torch.rand(batch, 1, SIDE, SIDE), torch.randint(CLASSES, (batch,)))

    what = "training step" if training else "evaluation"
    return Case(
        name="counting",
        setting=f"{network}, {what}",
        about=f"{network}, {what}, batch {batch}, 1x28x28, T={TIMESTEPS}: counting every operation, or not",
        data=data,
        implementations=tuple(
            Implementation(name, partial(_step, network=network, training=training, counted=counted))
            for name, counted in (("plain", False), ("counted", True))
        ),
        reference="plain",
        targets=(Target("counted", "time", LIMIT, "plain"),),
        per=what if training else "batch",
    )


def _step(data: Images, network: str, training: bool, counted: bool) -> Step:
    definition = pj.Definition(network, (1, SIDE, SIDE), CLASSES, timesteps=TIMESTEPS)
    net = seeded(lambda: pj.build(definition, pj.LIF)).to(memory_format=torch.channels_last)
    x = data.x.contiguous(memory_format=torch.channels_last)
    model = fused(pj.observe(net, x) if counted else net)

    def scores() -> Tensor:
        if not counted:
            return model(x)
        found, activity = model(x)
        pj.count(activity)
        return found

    if training:
        return training_step(scores, model, data.labels)
    model.eval()
    return Step(torch.no_grad()(scores))
