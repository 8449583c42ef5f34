"""How the cost of training grows with the number of steps: seconds and memory per step should not."""

from functools import partial

import torch
from torch import Tensor, nn

from picojoule.layers import MeanReadout

from ..case import Case, Implementation, Step, Target
from ..neurons import picojoule_lif
from ..training import Images, seeded, training_step

FEATURES, HIDDEN, CLASSES = 256, 512, 10
LIMIT = 1.2
"""What still counts as flat."""


def cases(quick: bool) -> list[Case]:
    """One network over ever more steps; each number is divided by the steps."""
    lengths, batch = ((2, 4), 2) if quick else ((4, 16, 64, 256), 64)
    first, last = f"T={lengths[0]}", f"T={lengths[-1]}"
    return [
        Case(
            name="time",
            setting=f"T={lengths[0]} to {lengths[-1]}",
            about=f"FC{HIDDEN}-LIF-FC{HIDDEN}-LIF-FC{CLASSES}, {FEATURES} inputs, batch {batch}, training step, "
            "divided by the number of time steps",
            data=lambda: Images(
                (torch.rand(max(lengths), batch, FEATURES) < 0.1).float(), torch.randint(CLASSES, (batch,))
            ),
            implementations=tuple(
                Implementation(f"T={T}", partial(_step, timesteps=T), scale=1 / T, memory_scale=1 / T) for T in lengths
            ),
            reference=first,
            targets=(Target(last, "time", LIMIT, first), Target(last, "memory", LIMIT, first)),
            per="time step",
        )
    ]


def _step(data: Images, timesteps: int) -> Step:
    def make() -> nn.Module:
        return nn.Sequential(
            *(nn.Linear(FEATURES, HIDDEN), picojoule_lif(), nn.Linear(HIDDEN, HIDDEN), picojoule_lif()),
            *(nn.Linear(HIDDEN, CLASSES), MeanReadout()),
        )

    net = seeded(make)

    def scores() -> Tensor:
        return net(data.x[:timesteps])

    return training_step(scores, net, data.labels)
