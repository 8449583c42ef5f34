"""The recipe that writes a network of ours as a Keras file."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.networks import Definition, build
from picojoule.neurons import LIF

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras.layers")
pytestmark = pytest.mark.filterwarnings("ignore")

RECIPE = Path(__file__).parents[3] / "recipes" / "write_keras.py"


@pytest.fixture(scope="module")
def recipe() -> Any:
    spec = importlib.util.spec_from_file_location("write_keras", RECIPE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "shape"), [("small-cnn", (1, 8, 8)), ("vgg16", (3, 32, 32))])
def test_what_is_written_is_read_with_the_same_outputs(recipe, tmp_path, name, shape):
    torch.manual_seed(0)
    network = build(Definition(name, shape, 10, pool="avg", dropout=0.5 if name == "vgg16" else 0.0), nn.ReLU)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.running_mean)  # pyright: ignore[reportArgumentType]
        nn.init.uniform_(norm.running_var, 0.5, 2.0)  # pyright: ignore[reportArgumentType]
    recipe.keras_model(network.eval()).save(tmp_path / "written.keras")
    images = torch.rand(4, *shape)
    with torch.no_grad():
        expected, given = network(images), pj.load(tmp_path / "written.keras").eval()(images)
    assert expected.std() > 1e-3 and (given - expected).abs().max() < 1e-4


def test_what_keras_does_not_know_is_refused(recipe):
    network = build(Definition("small-cnn", (1, 8, 8), 10), LIF)
    with pytest.raises(pj.BadInput, match=r"lif1: a LIF has no counterpart"):
        recipe.keras_model(network)
