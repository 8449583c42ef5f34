"""The choice made for the user: the scales and the fewest steps that stay within a tolerance."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from picojoule.conversion.by_step import anytime
from picojoule.conversion.options import ECCOptions
from picojoule.conversion.paired import paired
from picojoule.conversion.pipeline import Converted, convert
from picojoule.errors import BadInput

FINEST = 0.001
"""A mode that loses no more than this is not tried with more steps."""
STEPS = (1, 2, 4, 8, 16, 32, 64)
"""The numbers of steps that are tried, unless told otherwise."""
MODES: dict[str, dict[str, object]] = {
    "max": {"normalisation": "max"},
    "percentile": {"normalisation": "percentile"},
    "mmse": {"normalisation": "mmse", "per_channel": True},
    "mmse signed": {"normalisation": "mmse", "per_channel": True, "signed": True},
    "mmse corrected": {"normalisation": "mmse", "per_channel": True, "bias_correction": True},
}
"""The ways to set scales that are tried; the first is the published one. Other options stay as asked."""


class Try(NamedTuple):
    """One mode at one number of steps: `loss` is the accuracy of the ANN less its own on the same images (fractions).

    `error` is the standard error of the loss; `acs` and `macs` are means per image.
    """

    mode: str
    timesteps: int
    accuracy: float
    loss: float
    error: float
    acs: float
    macs: float

    def within(self, tolerance: float) -> bool:
        """Whether the loss and one standard error of it are at most `tolerance`."""
        return self.loss + self.error <= tolerance


class Choice(NamedTuple):
    """What was tried, and what was chosen: `within` is False where no try stayed within the tolerance."""

    tries: tuple[Try, ...]
    best: Try
    converted: Converted
    within: bool


def choose(
    model: nn.Module,
    calibration: Sequence[Tensor],
    images: Iterable[tuple[Tensor, Tensor]],
    tolerance: float,
    *,
    steps: Sequence[int] = STEPS,
    options: ECCOptions = ECCOptions(),  # noqa: B008  (frozen)
    on_try: Callable[[Try], None] = lambda one: None,
) -> Choice:
    """Convert in all MODES, and choose the fewest steps within `tolerance` (a fraction of the images).

    Within it is a try whose loss and one standard error of it are, so that luck on few images does not decide. Of
    several modes with those steps the one with the fewest accumulates is taken; where none is within the tolerance,
    the one that loses least. `images` are batches of images and labels that decide, and are not the test set. `on_try`
    hears of every try.

    Raises BadInput without steps, and what `convert` raises.
    """
    steps, held = sorted(set(steps)), list(images)
    if not steps or not held:
        raise BadInput("expected at least one number of steps, and images to decide on, got none")
    with torch.no_grad():
        ann = torch.cat([model(x).argmax(1) for x, _ in held])
    tries: list[Try] = []
    for mode in MODES:
        for one in _tries(mode, model, calibration, held, steps, options, ann):
            tries.append(one)
            on_try(one)
    within = [t for t in tries if t.within(tolerance)]
    best = min(within, key=lambda t: (t.timesteps, t.acs)) if within else min(tries, key=lambda t: (t.loss, t.acs))
    made = convert(model, calibration, timesteps=best.timesteps, options=_with(options, best.mode))
    return Choice(tuple(tries), best, made, bool(within))


def _with(options: ECCOptions, mode: str) -> ECCOptions:
    return replace(options, **MODES[mode])  # pyright: ignore[reportArgumentType]


def _tries(
    mode: str,
    model: nn.Module,
    calibration: Sequence[Tensor],
    images: list[tuple[Tensor, Tensor]],
    steps: list[int],
    options: ECCOptions,
    ann: Tensor,
) -> Iterable[Try]:
    """One run tells all numbers of steps, unless scales, biases or events of the image depend on theirs."""
    chosen = _with(options, mode)
    depends = chosen.normalisation == "mmse" or chosen.bias_correction or chosen.input == "count"
    loss, labels = math.inf, torch.cat([y for _, y in images])
    for runs in [[s] for s in steps] if depends else [steps]:
        if loss <= FINEST:
            return
        made = convert(model, calibration, timesteps=runs[-1], options=chosen)
        answers = anytime(made.network)
        found = [(answers(x), len(y)) for x, y in images]
        scores = torch.cat([one.scores[torch.tensor(runs) - 1].argmax(2) for one, _ in found], 1)
        for s, snn in zip(runs, scores, strict=True):
            against = paired(ann, snn, labels)
            loss = against.loss
            acs = sum(float(one.acs[s - 1]) * n for one, n in found) / len(labels)
            accuracy = float((snn == labels).double().mean())
            yield Try(mode, s, accuracy, loss, against.error, acs, sum(one.macs * n for one, n in found) / len(labels))
