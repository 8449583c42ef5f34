"""Convert a trained network for a dataset: choose, measure on the test split, diagnose, and say it all in a record."""

import math
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from picojoule.conversion import Choice, Converted, ECCOptions, Try, anytime, choose, convert, diagnose
from picojoule.conversion.choice import STEPS
from picojoule.conversion.paired import paired
from picojoule.conversion.refusals import refuse_spiking
from picojoule.data import Dataset, intensities
from picojoule.data.dataset import Split
from picojoule.energy import Hardware, count, hardware
from picojoule.errors import BadInput
from picojoule.exchange import save
from picojoule.exchange.archive import describe_network
from picojoule.experiment.measured import Asked, measured
from picojoule.experiment.record import Record
from picojoule.graph import observe
from picojoule.kinds import Events
from picojoule.networks import Network

LOSSES = (0.005, 0.001)
"""Losses of accuracy for which the fewest steps and the least energy are named."""
CALIBRATION, DIAGNOSED, CHOOSING = 1000, 256, 1000
"""Training images that set the scales, and validation images on which layers are compared and modes chosen."""
BATCH, INPUTS = 50, 5_000_000
"""Images of a batch at most, and values of their pixels over all steps: 50 images of CIFAR-10 for 32 steps."""


class Wish(NamedTuple):
    """What a conversion is asked for: a `tolerance` (fraction) to choose within, or exactly `timesteps` steps.

    `choosing` is how many validation images decide, CHOOSING unless given; `steps` which numbers of steps are tried
    first; `held` names the options that stay as they are (see `choose`).
    """

    tolerance: float = 0.005
    timesteps: int | None = None
    options: ECCOptions = ECCOptions()
    steps: tuple[int, ...] = STEPS
    choosing: int | None = None
    held: Collection[str] | None = None

    @property
    def most_steps(self) -> int:
        """The most steps that the conversion may run."""
        return self.timesteps or max(self.steps)


def converted(
    model: nn.Module, data: Dataset, wish: Wish, prices: Sequence[str], name: str, *, progress: bool = False
) -> tuple[Converted, Record]:
    """The conversion of `model` for `data`, and its record: that of a measurement, with the part `conversion`.

    Scales are set on training images, the choice falls on validation images, and the test split is seen once. Raises
    BadInput for models that cannot spike and data that do not fit.
    """
    calibration = list(_batches(data, data.train, CALIBRATION, wish.most_steps))
    images = [x for x, _ in calibration]
    choice: Choice | None = None
    if wish.timesteps is None:
        say = _say if progress else lambda one: None
        deciding = _batches(data, data.validation, wish.choosing or CHOOSING, wish.most_steps)
        asked = {"steps": wish.steps, "options": wish.options, "held": wish.held, "losses": LOSSES, "on_try": say}
        choice = choose(model, images, deciding, wish.tolerance, **asked)
        made = choice.converted
    else:
        made = convert(model, images, timesteps=wish.timesteps, options=wish.options)
    steps = made.network.timesteps
    found = diagnose(made, (x for x, _ in _batches(data, data.validation, DIAGNOSED, steps)))
    listed = hardware(prices[0])
    ann, curve, against = _tested(model, made, data, listed)
    notes = {"method": "ecc", "network": "converted", "conversion_of": name}
    density = ann_density(made, (x for x, _ in _batches(data, data.test, len(data.test.labels), 1)))
    record = measured(made.network, notes, data, [*prices], "cpu", 0, name, Asked(ann_density=density))
    record["conversion"] = {
        "ann_accuracy": ann,
        "snn": curve,
        "paired": against,
        "chosen": _chosen(made, choice, wish),
        "tries": [one._asdict() | {"energy_pj": _energy(one.dense_macs, one.acs, listed)} for one in _of(choice)],
        "least": _least(_of(choice), listed),
        **found.to_dict(),
    }
    return made, record


@torch.no_grad()
def ann_density(made: Converted, batches: Iterable[Tensor]) -> float | None:
    """The share of the ANN's multiplications by something else than 0, in the layers that events enter once it spikes.

    `batches` are images `[B, ...]`. None where no layer has such an input.
    """
    example = torch.zeros(1, *made.network.input_shape).to(next(made.ann.parameters()))
    behind = {s.name for s in observe(made.network, example).sites if isinstance(s.kind, Events)}
    observed, macs, dense = observe(made.ann, example), 0.0, 0.0
    for x in batches:
        counts = count(observed(x)[1])
        rows = torch.tensor([name in behind for name in counts.layers])
        macs += float(counts.per_layer("macs")[rows].sum()) * len(x)
        dense += float(counts.per_layer("dense_macs")[rows].sum()) * len(x)
    return macs / dense if macs else None


def check_saved(model: nn.Module, data: Dataset, options: ECCOptions) -> None:
    """Raise BadInput unless `model` can be converted, and what becomes of it written as a model file."""
    images = [x for x, _ in _batches(data, data.train, BATCH, 1)]
    describe_network(convert(model, images, timesteps=1, options=options).network)


def save_converted(made: Converted, record: Record, path: Any) -> None:
    """Write the spiking network as a model file that says where it comes from."""
    kept = ("method", "network", "dataset", "conversion_of", "timesteps")
    save(made.network, path, {key: record[key] for key in kept} | {"options": asdict(made.options)})


def _batches(data: Dataset, split: Split, most: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The first images of a split, with their labels, in batches that fit into memory over `steps` time steps."""
    size = max(1, min(BATCH, INPUTS // (steps * math.prod(data.input_shape))))
    for start in range(0, min(most, len(split.labels)), size):
        rows = slice(start, min(start + size, most))
        yield intensities(split.images[rows], data.scale), split.labels[rows]


@torch.no_grad()
def _tested(model: nn.Module, made: Converted, data: Dataset, prices: Hardware) -> tuple[float, list[Record], Record]:
    """Accuracy of the ANN, what the spiking network answers after its steps, and both held against each other."""
    answers, steps = anytime(made.network), made.network.timesteps
    kept = sorted({s for s in STEPS if s < steps} | {steps})
    at = torch.tensor(kept) - 1
    acs, macs, dense = torch.zeros(len(kept), dtype=torch.float64), 0.0, 0.0
    first, later = [], []
    for x, y in _batches(data, data.test, len(data.test.labels), steps):
        found = answers(x)
        first.append(model(x).argmax(1))
        later.append(found.scores[at].argmax(2))
        share = len(y) / len(data.test.labels)
        acs, macs, dense = acs + found.acs[at] * share, macs + found.macs * share, dense + found.dense_macs * share
    ann, snn, labels = torch.cat(first), torch.cat(later, 1), data.test.labels
    points = zip(kept, (snn == labels).double().mean(1).tolist(), acs.tolist(), strict=True)
    multiplied = {"macs": macs, "dense_macs": dense}
    curve = [
        {"timesteps": s, "accuracy": a, "acs": c, **multiplied, "energy_pj": _energy(dense, c, prices)}
        for s, a, c in points
    ]
    return float((ann == labels).double().mean()), curve, paired(ann, snn[-1], labels)._asdict()


def _chosen(made: Converted, choice: Choice | None, wish: Wish) -> Record:
    asked = {"timesteps": made.network.timesteps, "options": asdict(made.options)}
    if choice is None:
        return asked | {"mode": "as asked"}
    within = {"mode": choice.best.mode, "tolerance": wish.tolerance, "within": choice.within}
    return asked | within | {"validation_loss": choice.best.loss, "validation_error": choice.best.error}


def _energy(dense_macs: float, acs: float, prices: Hardware) -> float:
    """Picojoules of the arithmetic of synapses."""
    return prices.arithmetic_pj({"dense_macs": dense_macs, "acs": acs})


def _least(tries: Iterable[Try], prices: Hardware) -> list[Record]:
    """For each loss, the try with the fewest steps and the one with the least energy; none where no try is within."""
    found = []
    for loss in LOSSES:
        within = [t for t in tries if t.within(loss)]
        if within:
            fewest = min(within, key=lambda t: (t.timesteps, t.acs))
            cheapest = min(within, key=lambda t: _energy(t.dense_macs, t.acs, prices))
            found.append(
                {
                    "loss": loss,
                    "timesteps": fewest.timesteps,
                    "mode": fewest.mode,
                    "energy_pj": _energy(cheapest.dense_macs, cheapest.acs, prices),
                    "cheapest_mode": cheapest.mode,
                    "cheapest_timesteps": cheapest.timesteps,
                }
            )
    return found


def _of(choice: Choice | None) -> tuple[Try, ...]:
    return () if choice is None else choice.tries


def _say(one: Try) -> None:
    print(f"{one.mode}, T = {one.timesteps}: loses {100 * one.loss:.2f} points, {one.acs:,.0f} ACs", file=sys.stderr)


def check_model(model: nn.Module, data: Dataset, name: str) -> None:
    """Raise BadInput unless a model has no spikes yet, takes the images of `data` and yields one score per class."""
    refuse_spiking(model)
    if data.timesteps:
        raise BadInput(
            f"{data.name} holds {data.timesteps} steps over time, and conversion takes images; choose a dataset of "
            "images, such as mnist or nmnist-frames"
        )
    if isinstance(model, Network) and model.input_shape != data.input_shape:
        raise BadInput(
            f"{name} takes images {list(model.input_shape)}, {data.name} has {list(data.input_shape)}; give the --data "
            "it was trained on"
        )
    x = intensities(data.test.images[:2], data.scale)
    with torch.no_grad():
        try:
            scores = model.eval()(x)
        except BadInput:
            raise
        except Exception as error:
            said = str(error).strip().splitlines()[:1]
            raise BadInput(
                f"{name} cannot take the images {list(data.input_shape)} of {data.name} ({''.join(said)}); give the "
                "--data it was trained on"
            ) from error
    if not isinstance(scores, Tensor) or scores.shape != (2, data.classes):
        got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise BadInput(f"expected {name} to make scores [2, {data.classes}] of 2 images of {data.name}, got {got}")
