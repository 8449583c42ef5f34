import os

import numpy as np
import pytest
import torch

from picojoule import data
from picojoule.data.sequences import order_of
from picojoule.errors import BadInput


def test_golden_permutations():
    images, positions = order_of("psmnist")
    assert images is not None and images[:5].tolist() == [6820, 11854, 9635, 45077, 18764]
    assert positions is not None
    assert positions[:10].tolist() == [46, 466, 537, 44, 515, 589, 362, 765, 270, 539]
    images, positions = order_of("psmnist-keras")
    assert images is None and positions is not None and positions[:4].tolist() == [693, 85, 647, 392]
    assert order_of("smnist") == (None, None)


def test_digits_as_sequences():
    images, sequences = data.load("digits"), data.load("digits-sequence")
    assert (sequences.timesteps, sequences.input_shape, sequences.scale) == (64, (1,), 16)
    _, positions = order_of("digits-sequence")
    for mine, source in ((sequences.train, images.train), (sequences.test, images.test)):
        assert torch.equal(mine.images[:, :, 0], source.images.flatten(1)[:, torch.from_numpy(positions)])
        assert torch.equal(mine.labels, source.labels) and mine.images.dtype == torch.uint8
    assert "permutation" in sequences.split_note


@pytest.mark.skipif("PICOJOULE_DATA" not in os.environ, reason="needs MNIST in $PICOJOULE_DATA")
@pytest.mark.parametrize("name", ["psmnist", "psmnist-keras", "smnist"])
def test_mnist_as_sequences(name):
    images, sequences = data.load("mnist"), data.load(name)
    assert [len(s.labels) for s in (sequences.train, sequences.validation, sequences.test)] == [50_000, 10_000, 10_000]
    shuffled, positions = order_of(name)
    first = 0 if shuffled is None else int(shuffled[0])
    pixels = images.train.images[first].flatten()
    expected = pixels if positions is None else pixels[torch.from_numpy(positions)]
    assert torch.equal(sequences.train.images[0, :, 0], expected)
    assert sequences.train.labels[0] == images.train.labels[first]
    last = sequences.test.images[-1].flatten()
    assert torch.equal(last.sort().values, images.test.images[-1].flatten().sort().values)


def test_own_sequences():
    split = data.split_from_sequences([np.zeros((7, 2), np.uint8)] * 3, np.arange(3))
    assert split.images.shape == (3, 7, 2) and split.labels.tolist() == [0, 1, 2]
    wide = data.split_from_sequences([np.full((4, 1), 255), np.zeros((4, 1), np.int64)], [1, 0])
    assert wide.images[:, 0, 0].tolist() == [255, 0] and wide.labels.tolist() == [1, 0]


ONES = np.ones((4, 1), np.uint8)
BAD = {
    "shares": ([ONES * 0.5], [0], "whole numbers from 0 to 255, got float64 from 0.5 to 0.5; give intensities"),
    "not a number": ([ONES * np.nan], [0], "whole numbers from 0 to 255, got float64 from nan to nan"),
    "large": ([ONES.astype(int) * 300], [0], "whole numbers from 0 to 255, got int64 from 300 to 300"),
    "one axis": ([ONES[:, 0]], [0], r"expected sequences \[T, F\], got one of shape \(4,\); give a single feature"),
    "no steps": ([ONES[:0]], [0], r"expected sequences \[T, F\], got one of shape \(0, 1\)"),
    "none": ([], [], "at least one sequence"),
    "too few labels": ([ONES, ONES], [0], r"a class from 0 for each of the 2 sequences, got \[0\] as labels"),
    "shares as labels": ([ONES], [0.5], r"a class from 0 for each of the 1 sequences, got \[0.5\] as labels"),
    "negative labels": ([ONES], [-1], r"a class from 0 for each of the 1 sequences, got \[-1\] as labels"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_split_would_not_keep_is_refused(name):
    sequences, labels, says = BAD[name]
    with pytest.raises(BadInput, match=says):
        data.split_from_sequences(sequences, labels)


def test_sequences_of_unequal_length():
    with pytest.raises(BadInput, match="sequences of one length, got 3 to 7 steps; there is no mask, so cut or pad"):
        data.split_from_sequences([np.zeros((n, 2), np.uint8) for n in (7, 3)], np.arange(2))
    with pytest.raises(BadInput, match="sequences of as many features each, got 1 to 2"):
        data.split_from_sequences([np.zeros((7, n), np.uint8) for n in (1, 2)], np.arange(2))
