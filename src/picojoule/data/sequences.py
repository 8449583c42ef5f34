"""Images read pixel by pixel, one per step: sequential and permuted sequential MNIST, and the digits that way.

The split and the permutation of `psmnist` are those of the benchmark of the Legendre Memory Unit, which took them from
the NRU: the generator of seed 50 shuffles the 60,000 training images first, then the 784 positions.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from picojoule.data import digits, mnist
from picojoule.data.dataset import Dataset, Split, hold_out_last

_VALIDATION = 10_000


class Order(NamedTuple):
    """The order of training images, and of the positions in each; None leaves it."""

    images: np.ndarray | None
    positions: np.ndarray | None


def order_of(name: str) -> Order:
    """What is permuted in a data set, by which generator: numpy's `RandomState` of seed 50, or 0."""
    if name == "psmnist":
        generator = np.random.RandomState(50)
        return Order(generator.permutation(60_000), generator.permutation(784))
    if name == "psmnist-keras":
        return Order(None, np.random.RandomState(0).permutation(784))
    if name == "digits-sequence":
        return Order(None, np.random.RandomState(0).permutation(64))
    return Order(None, None)


_NOTES = {
    "psmnist": "of the official 60,000 training images, shuffled by a fixed seed, the first 50,000 train and the last"
    " 10,000 validate; the 784 pixels come one per step in one fixed permutation (seed 50)",
    "psmnist-keras": "of the official 60,000 training images the first 50,000 train and the last 10,000 validate;"
    " the 784 pixels come one per step in one fixed permutation (seed 0)",
    "smnist": "of the official 60,000 training images the first 50,000 train and the last 10,000 validate; the 784"
    " pixels come one per step, row by row",
}


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """`psmnist`, `psmnist-keras`, `smnist` `[N, 784, 1]`, or `digits-sequence` `[N, 64, 1]`: one pixel per step.

    `psmnist` is the benchmark's; `psmnist-keras` has the permutation and split of KerasLMU's example.
    """
    images, positions = order_of(name)
    if name == "digits-sequence":
        source = digits.load("digits", data_dir)
        train, validation = source.train, source.validation
        note = f"{source.split_note.removesuffix('.')}; the 64 pixels come one per step in one fixed permutation."
    else:
        source = mnist.load("mnist", data_dir)
        whole = Split(*(torch.cat(both) for both in zip(source.train, source.validation, strict=True)))
        if images is not None:
            order = torch.from_numpy(images)
            whole = Split(whole.images[order], whole.labels[order])
        train, validation = hold_out_last(whole, _VALIDATION)
        note = f"The official 10,000 test images; {_NOTES[name]}."
    return Dataset(
        name=name,
        train=_sequences(train, positions),
        validation=_sequences(validation, positions),
        test=_sequences(source.test, positions),
        classes=source.classes,
        scale=source.scale,
        split_note=note,
        source=source.source,
        licence=source.licence,
        citation=source.citation,
    )


def _sequences(split: Split, positions: np.ndarray | None) -> Split:
    steps: Tensor = split.images.flatten(1)
    if positions is not None:
        steps = steps[:, torch.from_numpy(positions)]
    return Split(steps.unsqueeze(-1).contiguous(), split.labels)
