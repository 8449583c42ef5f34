"""Damaged files are refused with one sentence, or read; they never crash, hang or fill the memory."""

import time
import tracemalloc
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("h5py")

from keras_files import conv, dense, functional, inputs, layer, randoms, sequential, write_h5, write_zip  # noqa: E402
from mutations import mutated  # noqa: E402

from picojoule.errors import BadInput  # noqa: E402
from picojoule.exchange.keras import load_keras  # noqa: E402

HERE = Path(__file__).parent / "files"
FILES, WEIGHED, SECONDS, BYTES = 1000, 60, 2.0, 50 << 20
"""How many files; of how many the memory is measured, which is slow; CPU seconds and bytes at most for each."""


def wired():
    layers = [inputs(6, 6, 2), conv("conv", padding="same", strides=[2, 2]), layer("BatchNormalization", "norm")]
    layers += [layer("Add", "add"), layer("Flatten", "flat"), dense("dense", activation="softmax")]
    fed = {"conv": ["input"], "norm": ["conv"], "add": ["conv", "norm"], "flat": ["add"], "dense": ["flat"]}
    return functional(layers, fed, "dense")


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intact")
    kernel, rows = randoms(3, 3, 2, 2), randoms(18, 2)
    statistics = {name: abs(randoms(2)) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    named = {
        "conv": {"kernel": kernel, "bias": randoms(2)},
        "norm": statistics,
        "dense": {"kernel": rows, "bias": randoms(2)},
    }
    write_h5(folder / "wired.h5", wired(), named)
    model = sequential(inputs(6, 6, 2), conv(), layer("ReLU", "relu"), layer("Flatten", "flat"), dense())
    write_zip(folder / "row.keras", model, {"conv2d": [kernel, randoms(2)], "dense": [randoms(32, 2), randoms(2)]})
    paths = [*folder.iterdir(), HERE / "keras-2.15.h5", HERE / "keras-2.15.keras"]
    for path in paths:
        load_keras(path)
    return [(path.suffix, path.read_bytes()) for path in paths]


def outcome(r, intact, folder):
    """Whether one damaged file was read; its CPU seconds are checked."""
    suffix, content = r.choice(intact)
    path = folder / f"damaged{suffix}"
    path.write_bytes(mutated(r, content))
    start = time.process_time()
    try:
        load_keras(path)
        return True
    except BadInput as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        return False
    finally:
        assert time.process_time() - start < SECONDS


def test_damaged_files_are_refused_or_read(intact, tmp_path):
    read = sum(outcome(Random(seed), intact, tmp_path) for seed in range(FILES))
    assert FILES / 20 < read < FILES * 19 / 20


def test_damaged_files_take_little_memory(intact, tmp_path):
    tracemalloc.start()
    for seed in range(FILES, FILES + WEIGHED):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        outcome(Random(seed), intact, tmp_path)
        assert tracemalloc.get_traced_memory()[1] - before < BYTES, f"seed {seed}"
    tracemalloc.stop()
