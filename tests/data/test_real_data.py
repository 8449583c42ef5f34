"""The real files, where $PICOJOULE_DATA names a folder that holds them."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from picojoule import data
from picojoule.data import cifar10
from picojoule.data.idx import read_idx
from picojoule.data.nmnist import read_recordings

MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture(scope="session")
def root():
    chosen = os.environ.get("PICOJOULE_DATA")
    if not chosen:
        pytest.skip("PICOJOULE_DATA is not set")
    return Path(chosen)


@pytest.fixture(scope="session")
def sheets_decoded_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "read_sheet", cache(cifar10.read_sheet))
        yield


def load(name, root, folder, classes=10):
    if not (root / folder).exists():
        pytest.skip(f"PICOJOULE_DATA has no {folder}")
    dataset = data.load(name, root)
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64
        assert split.images.shape == (len(split.labels), *dataset.input_shape)
    assert (dataset.name, dataset.classes, dataset.scale) == (name, classes, 255)
    return dataset


def sizes(dataset):
    return [len(split.labels) for split in (dataset.train, dataset.validation, dataset.test)]


def per_class(*splits):
    return torch.bincount(torch.cat([split.labels for split in splits]), minlength=10).tolist()


def test_mnist(root):
    mnist = load("mnist", root, "MNIST")
    assert mnist.input_shape == (1, 28, 28) and sizes(mnist) == [55_000, 5_000, 10_000]
    assert per_class(mnist.train, mnist.validation) == MNIST_TRAIN and per_class(mnist.test) == MNIST_TEST
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_fashion_mnist(root):
    fashion = load("fashion-mnist", root, "FashionMNIST")
    assert fashion.input_shape == (1, 28, 28) and sizes(fashion) == [55_000, 5_000, 10_000]
    assert per_class(fashion.train, fashion.validation) == [6000] * 10
    assert per_class(fashion.test) == [1000] * 10
    assert fashion.train.labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert fashion.test.labels[:5].tolist() == [9, 2, 1, 1, 6]


@pytest.mark.usefixtures("sheets_decoded_once")
def test_cifar10(root):
    official = load("cifar10", root, "cifar10")
    assert official.input_shape == (3, 32, 32) and sizes(official) == [45_000, 5_000, 10_000]
    assert per_class(official.train, official.validation) == [5000] * 10
    assert per_class(official.test) == [1000] * 10
    assert official.train.labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert official.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    sheets = not (root / "cifar-10-batches-bin").is_dir()
    assert ("4,865 went through JPEG" in official.split_note) == sheets
    total = np.zeros(3)
    for split in (official.train, official.validation):
        total += split.images.sum((0, 2, 3), dtype=torch.int64).numpy()
    published = [0.49139968, 0.48215841, 0.44653091]  # channel means of the training set
    assert np.allclose(total / (50_000 * 1024 * 255), published, atol=5e-9)


@pytest.mark.usefixtures("sheets_decoded_once")
def test_cifar10_fair(root):
    fair = load("cifar10-fair", root, "cifar10")
    assert sizes(fair) == [45_000, 5_000, 1_900]
    assert fair.test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    everything = load("cifar10", root, "cifar10").test
    place = torch.arange(10_000)
    assert fair.test.labels.equal(everything.labels[(place < 1000) | (place % 10 == 0)])
    assert "1,900 lossless" in fair.split_note


@pytest.mark.usefixtures("sheets_decoded_once")
def test_cifar10_holdout(root):
    holdout = load("cifar10-holdout", root, "cifar10")
    assert sizes(holdout) == [35_000, 5_000, 10_000]
    assert holdout.train.labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert per_class(holdout.train, holdout.validation, holdout.test) == [5000] * 10
    assert "not the official test" in holdout.split_note


def test_tiny_imagenet(root):
    tiny = load("tiny-imagenet", root, "tiny-imagenet-20.npz", 20)
    assert tiny.input_shape == (3, 64, 64) and sizes(tiny) == [9_000, 1_000, 1_000]
    assert (
        tiny.train.labels.tolist() == list(range(20)) * 450 and tiny.validation.labels.tolist() == list(range(20)) * 50
    )
    assert torch.bincount(tiny.test.labels).tolist() == [50] * 20
    parts = (tiny.train.images, tiny.validation.images, tiny.test.images)
    grey = sum(int((part == part[:, :1]).flatten(1).all(1).sum()) for part in parts)
    assert 158 <= grey < 200, "158 files have one channel; some colour files look grey"


@pytest.fixture(scope="session")
def nmnist(root):
    if not (root / "nmnist-1100.npz").is_file():
        pytest.skip("PICOJOULE_DATA has no nmnist-1100.npz")
    return data.load("nmnist", root)


def test_nmnist(nmnist):
    assert sizes(nmnist) == [900, 100, 100] and nmnist.timesteps == 20
    assert nmnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert nmnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert "came 11,445 of the 4,518,827 events" in nmnist.split_note
    assert [int(s.images.sum(dtype=torch.int64)) for s in (nmnist.train, nmnist.validation, nmnist.test)] == [
        2_099_661,
        236_711,
        218_957,
    ]


def test_nmnist_frames_are_what_its_events_say(root, nmnist):
    recordings = read_recordings(root / "nmnist-1100.npz")
    for split, row, number in ((nmnist.train, 1, 1), (nmnist.test, 99, 1099)):
        expected, now = set(), 0
        for event in range(recordings.offset[number], recordings.offset[number + 1]):
            now += int(recordings.dt[event])
            if now < 300_000:
                x, y, p = (int(values[event]) for values in recordings[:3])
                expected.add((now // 15_000, p, y, x))
        assert {tuple(place) for place in split.images[row].nonzero().tolist()} == expected


def test_nmnist_counts_are_its_events(root, nmnist):
    camera = data.load("nmnist-frames", root)
    recordings = read_recordings(root / "nmnist-1100.npz")
    events = camera.train.images.flatten(1).sum(1, dtype=torch.int64)
    lost = torch.from_numpy(np.diff(recordings.offset)[:900]) - events
    assert lost.min() == 0 and 0 < lost.sum() < 1e-4 * events.sum() and camera.train.images.max() == 16
    assert camera.test.labels.equal(nmnist.test.labels) and "292 of the 4,518,827 events" in camera.split_note
    seen = nmnist.test.images.amax(1)
    assert (camera.test.images > 0).ge(seen > 0).all(), "what a frame holds is in the image"


def test_nmnist_labels_are_those_of_mnist(root, nmnist):
    if not (root / "MNIST").is_dir():
        pytest.skip("PICOJOULE_DATA has no MNIST")
    folder = root / "MNIST" / "raw"
    train = read_idx(folder / "train-labels-idx1-ubyte", (60_000,), "")[:1000].tolist()
    assert nmnist.train.labels.tolist() + nmnist.validation.labels.tolist() == train
    assert nmnist.test.labels.tolist() == read_idx(folder / "t10k-labels-idx1-ubyte", (10_000,), "")[:100].tolist()
