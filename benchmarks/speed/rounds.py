"""Interleaved rounds: in each of them everything runs once, in shuffled order, in this process."""

import gc
import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from .case import Step

Task = Callable[[], tuple[float, float]]
"""Runs once; returns the seconds of forward and backward (0 where there is none)."""


class Times(NamedTuple):
    """Seconds of every round, in the order of the rounds."""

    forward: list[float]
    backward: list[float]

    @property
    def sum(self) -> list[float]:
        return [f + b for f, b in zip(self.forward, self.backward, strict=True)]


def task_of(step: Step) -> Task:
    """Times one forward and one backward pass."""

    def task() -> tuple[float, float]:
        started = time.perf_counter()
        out = step.forward()
        middle = time.perf_counter()
        if step.backward is None:
            return middle - started, 0.0
        step.backward(out)
        return middle - started, time.perf_counter() - middle

    return task


def interleave(tasks: Mapping[str, Task], rounds: Mapping[str, int], seed: int = 0) -> dict[str, Times]:
    """Run task `name` once in each of the first `rounds[name]` rounds, after a warm-up round that is thrown away."""
    found = {name: Times([], []) for name in tasks}
    order = random.Random(seed)
    for number in range(-1, max(rounds.values())):
        names = [name for name in tasks if number < rounds[name]]
        order.shuffle(names)
        for name in names:
            gc.collect()
            forward, backward = tasks[name]()
            if number >= 0:
                found[name].forward.append(forward)
                found[name].backward.append(backward)
    return found
