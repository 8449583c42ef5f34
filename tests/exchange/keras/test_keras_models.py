"""Real models, and a genuine file of Keras 2.15: the numbers of their authors, and those of Keras itself."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import picojoule as pj
from picojoule import data
from picojoule.exchange import load, save
from picojoule.exchange.door import open_model

HERE = Path(__file__).parent / "files"
ACCURACIES = {
    "mnist-lenet5-98.96.keras": ("mnist", 0.9896),
    "mnist-lenet5-99.14.h5": ("mnist", 0.9914),
    "cifar10-cnn-83.62.keras": ("cifar10-fair", 0.8353),
    "cifar10-bn-81.45.keras": ("cifar10-fair", 0.8237),
    "cifar10-bn-81.45.h5": ("cifar10-fair", 0.8237),
}


@pytest.fixture(scope="module")
def root():
    chosen = os.environ.get("PICOJOULE_DATA")
    if not chosen:
        pytest.skip("PICOJOULE_DATA is not set")
    if not (Path(chosen) / "keras").is_dir():
        pytest.skip("PICOJOULE_DATA has no keras")
    return Path(chosen)


@pytest.fixture(scope="module")
def tests_of(root):
    splits = {name: data.load(name, root).test for name in ("mnist", "cifar10-fair")}
    return {name: (split.images.float() / 255, split.labels) for name, split in splits.items()}


@torch.no_grad()
def scores(network, images):
    return torch.cat([network(batch) for batch in images.split(500)])


@pytest.mark.parametrize("name", ACCURACIES)
def test_real_models_are_as_accurate_as_their_authors_say(name, root, tests_of):
    dataset, expected = ACCURACIES[name]
    images, labels = tests_of[dataset]
    network = open_model(root / "keras" / name)
    assert network.input_shape == tuple(images.shape[1:]) and network.classes == 10 and not network.training
    accuracy = (scores(network, images).argmax(1) == labels).double().mean()
    assert accuracy == pytest.approx(expected, abs=5e-5)


def test_a_theano_file_equals_its_twin_with_channels_last(root, tests_of):
    images = tests_of["cifar10-fair"][0][:200]
    theano, twin = (scores(open_model(root / f"keras/cifar10-bn-81.45{s}"), images) for s in (".h5", ".keras"))
    assert (theano - twin).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in ACCURACIES if name.endswith(".keras")])
def test_real_models_give_what_keras_gives(name, root, tests_of, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("keras.layers")
    import keras

    images = tests_of[ACCURACIES[name][0]][0][:200]
    model: Any = keras.models.load_model(root / "keras" / name)
    with torch.no_grad():
        expected = model(images.movedim(1, -1).contiguous(), training=False).cpu()
    assert (scores(open_model(root / "keras" / name), images) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_genuine_file_of_keras_2(suffix, tmp_path):
    """Adapted Normalization, TFOpLambda, depthwise, nested and separable, uneven pooling, bilinear maps."""
    stored = np.load(HERE / "keras-2.15.npz")
    images = torch.from_numpy(stored["x"]).movedim(-1, 1)
    network = open_model(HERE / f"keras-2.15{suffix}")
    assert network.input_shape == (3, 9, 8) and network.classes == 3
    given = scores(network, images)
    assert np.abs(given.numpy() - stored["y"]).max() < 1e-5
    save(network, tmp_path / "again.safetensors")
    again = load(tmp_path / "again.safetensors")
    assert torch.equal(scores(again, images), given)
    numbers, others = network.state_dict(), again.state_dict()
    assert numbers.keys() == others.keys() and all(torch.equal(numbers[key], others[key]) for key in numbers)


def test_an_imported_network_is_counted_and_measured():
    """Outputs times taps times channels by hand; taps on even padding are no operations, those on uneven padding are.

    Uneven padding is a layer of its own in front of a convolution.
    """
    network = open_model(HERE / "keras-2.15.keras")
    images = torch.rand(2, *network.input_shape, generator=torch.Generator().manual_seed(0))
    _, activity = pj.observe(network, images)(images)
    counts = pj.count(activity)
    by_hand = {
        "conv2d": (5 * 4) * 9 * 3 * 4,
        "depthwise_conv2d": (2 + 3 + 3 + 3 + 2) * (2 + 3 + 3 + 2) * 4,
        "sequential.separable_conv2d_depthwise": (5 * 4) * 4 * 4,
        "sequential.separable_conv2d": (5 * 4) * 4 * 3,
        "dense": (6 * 4 * 7) * 3,
    }
    assert dict(zip(counts.layers, counts.per_layer("dense_macs").tolist(), strict=True)) == by_hand
    assert pj.measure(network, [images]).counts.total("dense_macs") == sum(by_hand.values())
