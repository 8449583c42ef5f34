"""A data set in memory: three splits of images with labels, and what has to be said about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from picojoule.errors import BadInput
from picojoule.kinds import Kind, Values


class Split(NamedTuple):
    """Images and their classes, in a fixed order."""

    images: Tensor  # uint8 [N, C, H, W], frames of events [N, T, C, H, W], or sequences [N, T, F]
    labels: Tensor  # int64 [N]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Real images, recordings of events, or sequences, with a fixed split.

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
    def is_sequences(self) -> bool:
        """Whether it holds sequences `[T, F]`."""
        return self.train.images.dim() == 3

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape `(C, H, W)` of one image, or of one frame of a recording; `(F,)` of one step of a sequence."""
        return tuple(self.train.images.shape[-1:] if self.is_sequences else self.train.images.shape[-3:])

    @property
    def timesteps(self) -> int | None:
        """How many frames T a recording has, or steps a sequence; None for images, which have no time."""
        images = self.train.images
        return None if images.dim() == 4 else images.shape[1]


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
    """A split from uint8 images `[N, ..., C, H, W]` or sequences and labels `[N]`, as writable tensors."""
    pixels = np.require(images, np.uint8, ["C", "W"])
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))


def hold_out_last(split: Split, count: int) -> tuple[Split, Split]:
    """All but the last `count` images, and the last `count` images; both share memory with `split`."""
    return (
        Split(split.images[:-count], split.labels[:-count]),
        Split(split.images[-count:], split.labels[-count:]),
    )


def split_from_sequences(sequences: Sequence[np.ndarray], labels: Sequence[int] | np.ndarray) -> Split:
    """A split from sequences `[T, F]` of whole numbers from 0 to 255, and labels `[N]` from 0.

    Raises BadInput if they differ in length, or in the number of features, and for other numbers, which a split of
    uint8 would not keep.
    """
    arrays, classes = [np.asarray(s) for s in sequences], np.asarray(labels)
    if not arrays:
        raise BadInput("expected at least one sequence [T, F], got none")
    odd = next((a.shape for a in arrays if a.ndim != 2 or 0 in a.shape), None)
    if odd is not None:
        raise BadInput(f"expected sequences [T, F], got one of shape {odd}; give a single feature as [T, 1]")
    lengths, widths = ({len(a) for a in arrays}, {a.shape[1] for a in arrays})
    if len(lengths) > 1:
        raise BadInput(
            f"expected sequences of one length, got {min(lengths)} to {max(lengths)} steps; there is no mask, so cut "
            "or pad them to one length"
        )
    if len(widths) > 1:
        raise BadInput(f"expected sequences of as many features each, got {min(widths)} to {max(widths)}")
    whole = np.stack(arrays)
    if not np.issubdtype(whole.dtype, np.integer) or whole.min() < 0 or whole.max() > 255:
        raise BadInput(
            f"expected sequences of whole numbers from 0 to 255, got {whole.dtype} from {whole.min()} to {whole.max()}"
            "; give intensities in [0, 1] as (255 * x).round().astype('uint8'), and the data set the scale 255"
        )
    if classes.shape != (len(arrays),) or not np.issubdtype(classes.dtype, np.integer) or classes.min() < 0:
        got = str(classes.tolist())[:60]
        raise BadInput(f"expected a class from 0 for each of the {len(arrays)} sequences, got {got} as labels")
    return split_from_arrays(whole, classes)
