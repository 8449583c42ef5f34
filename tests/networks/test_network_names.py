import hashlib
import subprocess
import sys

import pytest
import torch

from picojoule.errors import BadInput
from picojoule.networks import NETWORKS, Definition, build, check_network
from picojoule.neurons import LIF

SIZED = ("mlp-1x1", "mlp-5x128", "mlp-20x65536", "mixer-cnn-24", "mixer-rnn-4x2")
SIZED += ("lmu-64x32", "lmu-keras-6x5", "lstm-7", "gru-65536")


@pytest.mark.parametrize("name", [*NETWORKS, *SIZED])
def test_known_names(name):
    check_network(name)


OUT_OF_BOUNDS = ["mlp-0x128", "mlp-21x128", "mlp-5x0", "mlp-5x65537", "mlp-05x128", f"mlp-{'9' * 5000}x1"]
UNKNOWN = ["", "MLP", "resnet", "mlp-5x", "mlp-5x128x2", "mlp-x128", "mlp--5x128", "mlp-5x128\n", "mlp-५x१"]
UNKNOWN += ["mixer-", "mixer-gru", "mixer-cnn-", "mixer-cnn-24x", "mixer-cnn-24x2x2"]


@pytest.mark.parametrize("name", OUT_OF_BOUNDS)
def test_a_depth_or_width_out_of_bounds(name):
    with pytest.raises(BadInput) as error:
        check_network(name)
    limits = "expected a network mlp-DxW with 1 to 20 hidden layers D of 1 to 65536 neurons W"
    assert str(error.value) == f"{limits}, got {name!r}"


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_names(name):
    with pytest.raises(BadInput) as error:
        check_network(name)
    assert str(error.value).startswith(f"unknown network {name!r}") and "22 in all" in str(error.value)


@pytest.mark.parametrize(
    "name", ["mixer-cnn-0", "mixer-cnn-024", "mixer-cnn-65537", "mixer-cnn-24x0", "mixer-cnn-24x21"]
)
def test_a_mixer_out_of_bounds(name):
    with pytest.raises(BadInput) as error:
        check_network(name)
    limits = "expected a network mixer-cnn-WxN with widths W of 1 to 65536 and 1 to 20 blocks N in every stage"
    assert str(error.value) == f"{limits}, got {name!r}"


def test_checking_a_name_loads_no_torch():
    code = (
        "import sys; from picojoule.networks import check_network as c; c('mlp-5x128'); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    "name, keys, weights",
    [
        ("mlp", "9fcc73485feb", 7784.952824766498),
        ("small-cnn", "68a6421c72c0", 2555.363730338703),
        ("cnn7", "055ef6c930f3", 26595.3285361959),
        ("spiking-rnn", "b61a5dfffa6c", 1956.8218612286198),
    ],
)
def test_names_and_weights_of_a_seed_stay(name, keys, weights):
    """Model files, checkpoints and records of earlier versions hold; the numbers were taken from version 0.1.0."""
    torch.manual_seed(7)
    state = build(Definition(name, (1, 8, 8), 10), LIF).state_dict()
    shapes = "\n".join(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert hashlib.sha256(shapes.encode()).hexdigest()[:12] == keys
    total = 0.0
    for value in state.values():
        weighted = value.double().flatten() * torch.linspace(1, 2, value.numel(), dtype=torch.float64)
        total += float(weighted.abs().sum() + weighted.sum())
    assert total == pytest.approx(weights, rel=1e-9)
