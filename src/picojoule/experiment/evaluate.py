"""Evaluate: one pass over a split, in float32, that yields accuracy, counts, energy and neuron health."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from picojoule.data import Dataset, Split, intensities
from picojoule.energy import EnergyReport
from picojoule.energy.presentations import presentations_of
from picojoule.energy.tally import Tally
from picojoule.experiment.distributed import reduce_tally, share_of
from picojoule.graph import Observed
from picojoule.graph.shapes import evaluating
from picojoule.layers import Encoder, Repeat

EVALUATION_BATCH = 256
"""Images per batch for one time step."""
_SMALLEST_BATCH = 16


def evaluate(
    observed: Observed, split: Split, data: Dataset, device: torch.device, hardware: list[str]
) -> EnergyReport:
    """Accuracy, counts, energy and neuron health over a split, in float32 and evaluation mode.

    Under torchrun every process takes a part and all of them return the report of the whole.
    """
    tally = Tally()
    with torch.no_grad(), evaluating(observed):
        for rows in share_of(torch.arange(len(split.labels))).split(evaluation_batch(observed)):
            x, y = batch_of(split, rows, data.scale, device)
            output, activity = observed(x)
            tally.add(activity, output, y)
    reduce_tally(tally)
    report = tally.report(observed.sites, observed.uncounted, hardware)
    return replace(report, presentations=presentations_of(observed, report.counts))


def evaluation_batch(model: nn.Module) -> int:
    """Images per batch: of maps the fewer the more time steps they are presented for, so that memory stays the same."""
    if not any(isinstance(m, nn.Conv2d) for m in model.modules()):
        return EVALUATION_BATCH
    makers = (m for m in model.modules() if isinstance(m, Repeat | Encoder))
    return max(_SMALLEST_BATCH, EVALUATION_BATCH // max((m.timesteps for m in makers), default=1))


def batch_of(
    split: Split, rows: Tensor, scale: int, device: torch.device, channels_last: bool = True
) -> tuple[Tensor, Tensor]:
    """Intensities `[B, C, H, W]` in [0, 1], or frames `[B, T, C, H, W]`, and labels `[B]` of some rows."""
    x = intensities(split.images[rows].to(device), scale)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    return x, split.labels[rows].to(device)


def calibration_batches(data: Dataset, device: torch.device, samples: int = 1000) -> Iterator[Tensor]:
    """The first `samples` training images in batches of 100, as intensities."""
    for rows in torch.arange(min(samples, len(data.train.labels))).split(100):
        yield batch_of(data.train, rows, data.scale, device)[0]
