"""A data set in memory: three splits of images with labels, and what has to be said about them."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.kinds import Kind, Values


class Split(NamedTuple):
    """Images and their classes, in a fixed order."""

    images: Tensor  # uint8 [N, C, H, W], or frames of events [N, T, C, H, W]
    labels: Tensor  # int64 [N]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Real images, or recordings of events, with a fixed split.

    `classes`: labels run from 0 to classes - 1. `scale`: the pixel value that means intensity 1.0.
    `split_note`: one sentence that states the split, to be printed beside any accuracy.
    `source`, `licence`, `citation`: where the data comes from and on what terms.
    `inputs`: what the scaled images are: values, or events, whose images are frames over time.
    """

    name: str
    train: Split = field(repr=False)
    validation: Split = field(repr=False)
    test: Split = field(repr=False)
    classes: int
    scale: int
    split_note: str
    source: str
    licence: str
    citation: str
    inputs: Kind = Values()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape `(C, H, W)` of one image, or of one frame of a recording."""
        channels, height, width = self.train.images.shape[-3:]
        return channels, height, width

    @property
    def timesteps(self) -> int | None:
        """How many frames T a recording has; None for images, which have no time."""
        images = self.train.images
        return images.shape[1] if images.dim() == 5 else None


def intensities(images: Tensor, scale: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pixels as intensities in [0, 1], of the same shape: `images / scale`.

    Raises TypeError if `images` are not uint8, because they may have been scaled already.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"expected uint8 images, got {images.dtype}")
    return images.to(dtype) / scale


def limited(
    dataset: Dataset, train: int | None = None, validation: int | None = None, test: int | None = None
) -> Dataset:
    """The data set with only the first images of each split, for quick runs; None keeps a split whole.

    `split_note` tells what was left out. Raises BadInput if a split does not have that many images.
    """
    parts = {}
    notes = []
    for which, count in (("train", train), ("validation", validation), ("test", test)):
        if count is None:
            continue
        split: Split = getattr(dataset, which)
        available = len(split.labels)
        if not 1 <= count <= available:
            raise BadInput(f"expected 1 to {available:,} {which} images of {dataset.name!r}, got a limit of {count:,}")
        if count < available:
            parts[which] = Split(split.images[:count], split.labels[:count])
            notes.append(f"the first {count:,} of {available:,} {which} images")
    if not parts:
        return dataset
    note = f"{dataset.split_note.removesuffix('.')}; limited to {', '.join(notes)}."
    return replace(dataset, **parts, split_note=note)


def split_from_arrays(images: np.ndarray, labels: np.ndarray) -> Split:
    """A split from uint8 images `[N, ..., C, H, W]` and labels `[N]`, as writable tensors."""
    pixels = np.require(images, np.uint8, ["C", "W"])
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))


def hold_out_last(split: Split, count: int) -> tuple[Split, Split]:
    """All but the last `count` images, and the last `count` images; both share memory with `split`."""
    return (
        Split(split.images[:-count], split.labels[:-count]),
        Split(split.images[-count:], split.labels[-count:]),
    )
