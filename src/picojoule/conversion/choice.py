"""The choice made for the user: the scales and the fewest steps that stay within a tolerance."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.conversion.analog import without_time
from picojoule.conversion.by_step import anytime
from picojoule.conversion.options import ECCOptions
from picojoule.conversion.paired import paired
from picojoule.conversion.parts import AVERAGES
from picojoule.conversion.pipeline import Converted, calibration_of, convert
from picojoule.errors import BadInput

STEPS = (1, 2, 4, 8, 16, 32, 64)
"""The numbers of steps that are tried first, unless told otherwise."""
MODES: tuple[dict[str, Any], ...] = (
    {"normalisation": "max"},
    {"normalisation": "percentile"},
    {"normalisation": "mmse"},
    {"normalisation": "mmse", "signed": True},
    {"normalisation": "mmse", "signed": True, "pooling": "pass"},
    {"normalisation": "mmse", "bias_correction": True},
)
"""The ways to convert that are tried, cheap ones first: one run of the first two tells fewer steps, too, and the last
runs calibration images over time. The first is the published one. Other options stay as asked."""


class Try(NamedTuple):
    """One mode at one number of steps: `loss` is the accuracy of the ANN less its own on the same images (fractions).

    `mode` says in words how it converts (`named`). `error` is the standard error of the loss; `acs`, `macs` and
    `dense_macs` are means per image.
    """

    mode: str
    timesteps: int
    accuracy: float
    loss: float
    error: float
    acs: float
    macs: float
    dense_macs: float

    def within(self, tolerance: float) -> bool:
        """Whether the loss and one standard error of it are at most `tolerance`."""
        return self.loss + self.error <= tolerance

    def is_far_behind(self, best: "Try") -> bool:
        """Whether it loses more than twice what `best` does, with a standard error of each to its favour."""
        return self.loss - self.error > 2 * max(best.loss + best.error, 0.0)


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
    held: Collection[str] | None = None,
    losses: Sequence[float] = (),
    on_try: Callable[[Try], None] = lambda one: None,
) -> Choice:
    """Convert in all MODES that fit, and choose the fewest steps within `tolerance` (a fraction of the images).

    Within it is a try whose loss and one standard error of it are, so that luck on few images does not decide. Of
    several modes with those steps the one with the fewest accumulates is taken; where none is within the tolerance,
    the one that loses least. `steps` are tried in order up to the first where some mode is within the tolerance and
    within each of `losses`; a mode far behind the best goes no further. Between the first of `steps` within a loss and
    the one before it, bisection looks for fewer. `images` are batches of images and labels that decide, and are not the
    test set. `held` names options that no mode changes: unless given, those that differ from their defaults. `on_try`
    hears of every try.

    Raises BadInput without steps, and what `convert` raises.
    """
    steps, batches = sorted(set(steps)), list(images)
    if not steps or not batches:
        raise BadInput("expected at least one number of steps, and images to decide on, got none")
    with torch.no_grad():
        ann = torch.cat([model(x).argmax(1) for x, _ in batches])
    pools = has_average_pools(model, calibration_of(calibration, options)[0])
    tried = modes_of(options, held, pools=pools)
    modes = [_Mode(model, calibration, batches, ann, one, on_try) for one in tried]
    _ascend(modes, steps, min((tolerance, *losses)))
    for loss in (tolerance, *losses):
        _bisect(modes, loss)
    tries = [(one, mode) for mode in modes for one in mode.tries.values()]
    within = [pair for pair in tries if pair[0].within(tolerance)]
    fewest, least = (lambda p: (p[0].timesteps, p[0].acs)), (lambda p: (p[0].loss, p[0].acs))
    best, mode = min(within, key=fewest) if within else min(tries, key=least)
    made = convert(model, calibration, timesteps=best.timesteps, options=mode.options)
    return Choice(tuple(one for one, _ in tries), best, made, bool(within))


def modes_of(options: ECCOptions, held: Collection[str] | None = None, *, pools: bool = True) -> tuple[ECCOptions, ...]:
    """What MODES make of `options`, each once: `held` stays as it is, or whatever differs from its default.

    Without average `pools` no mode is for them.
    """
    if held is None:
        held = [f.name for f in fields(options) if getattr(options, f.name) != f.default]
    if options.constant is not None or ("normalisation" in held and options.normalisation == "none"):
        held = {*held, "normalisation"}
    if not pools:
        held = {*held, "pooling"}
    made = [replace(options, **{key: value for key, value in mode.items() if key not in held}) for mode in MODES]
    return tuple(dict.fromkeys(made))


def has_average_pools(model: nn.Module, images: Tensor) -> bool:
    """Whether an analog `model` of images `[B, ...]` has average pools."""
    return any(isinstance(m, AVERAGES) for m in without_time(model, images[:1])[0].modules())


def named(options: ECCOptions) -> str:
    """How it converts in words, as far as MODES differ."""
    scale = options.normalisation if options.constant is None else f"constant {options.constant:g}"
    words = {
        "signed": options.signed,
        "bias correction": options.bias_correction,
        "pools pass": options.pooling == "pass",
    }
    channels = " by channel" if options.by_channel else ""
    return ", ".join([scale + channels, *(word for word, chosen in words.items() if chosen)])


class _Mode:
    """One way to convert, tried at numbers of steps.

    One run tells all of fewer steps, too, unless scales, biases or events of the image depend on their number.
    """

    def __init__(
        self,
        model: nn.Module,
        calibration: Sequence[Tensor],
        images: list[tuple[Tensor, Tensor]],
        ann: Tensor,
        options: ECCOptions,
        on_try: Callable[[Try], None],
    ):
        self.options, self.tries = options, dict[int, Try]()
        self._model, self._calibration, self._images, self._ann = model, calibration, images, ann
        self._labels, self._on_try = torch.cat([y for _, y in images]), on_try
        self._latest: _Run | None = None
        self._depends = options.normalisation == "mmse" or options.bias_correction or options.input == "count"

    def at(self, steps: int) -> Try:
        if steps not in self.tries:
            if self._latest is None or self._depends or steps > len(self._latest.answers):
                self._latest = self._run(steps)
            run = self._latest
            answers, acs = run.answers[steps - 1], float(run.acs[steps - 1])
            against = paired(self._ann, answers, self._labels)
            accuracy = float((answers == self._labels).double().mean())
            found = (against.loss, against.error, acs, run.macs, run.dense_macs)
            self.tries[steps] = one = Try(named(self.options), steps, accuracy, *found)
            self._on_try(one)
        return self.tries[steps]

    def _run(self, steps: int) -> "_Run":
        made = convert(self._model, self._calibration, timesteps=steps, options=self.options)
        network = anytime(made.network)
        found = [(network(x), len(y) / len(self._labels)) for x, y in self._images]
        answers = torch.cat([one.scores.argmax(2) for one, _ in found], 1)
        acs = torch.stack([one.acs * share for one, share in found]).sum(0)
        macs, dense = (sum(getattr(one, key) * share for one, share in found) for key in ("macs", "dense_macs"))
        return _Run(answers, acs, macs, dense)


class _Run(NamedTuple):
    """Answers `[T, N]` on all images, mean accumulates up to each step `[T]`, and multiply-accumulates."""

    answers: Tensor
    acs: Tensor
    macs: float
    dense_macs: float


def _ascend(modes: list[_Mode], steps: Sequence[int], finest: float) -> None:
    """Try all of `modes` at each of `steps`, as long as none is within the `finest` loss, without those far behind."""
    for number in steps:
        found = [mode.at(number) for mode in modes]
        if any(one.within(finest) for one in found):
            return
        best = min(found, key=lambda one: one.loss)
        modes = [mode for mode, one in zip(modes, found, strict=True) if not one.is_far_behind(best)]


def _bisect(modes: list[_Mode], loss: float) -> None:
    """Try the modes with the fewest steps within `loss` at fewer, down to those that are not."""
    fewest = min((s for mode in modes for s, one in mode.tries.items() if one.within(loss)), default=0)
    for mode in [mode for mode in modes if fewest in mode.tries and mode.tries[fewest].within(loss)]:
        high = fewest
        low = max((s for s in mode.tries if s < high), default=0)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if mode.at(middle).within(loss) else (middle, high)
