from pathlib import Path

import pytest
import torch

from picojoule.data import load
from picojoule.errors import BadInput
from picojoule.experiment.config import Training
from picojoule.experiment.job import Setting
from picojoule.methods import make
from picojoule.networks import Memory


def _definition(method="ann", data="digits-sequence", **settings):
    training = Training(data=data, **settings).decided()
    setting = Setting(load(data), training, "avg", Path(), torch.device("cpu"), True)
    return setting.definition(make(method))


@pytest.mark.parametrize("method", ["ann", "ann-sparse"])
def test_time_comes_from_the_data(method):
    d = _definition(method, network="lstm-5")
    assert (d.input_shape, d.timesteps, d.encoder, d.readout) == ((1,), 64, "none", "last-step")
    assert _definition(method, network="lmu-5x4", readout="mean").readout == "mean"


def test_the_memory_is_that_of_the_settings():
    assert _definition(network="lmu-5x4", theta=30.0, learn_theta=True).memory == Memory(30.0, True)
    assert _definition("hybrid", network="lmu-5x4", low_rank=True).memory == Memory(low_rank=True)


def test_hybrid_reads_sequences_and_quantises_the_signals_asked_for():
    d = _definition("hybrid", network="lmu-5x4")
    assert (d.timesteps, d.encoder, d.readout, d.signals) == (64, "none", "last-step", "hum")


BAD = {
    "memory of a gru": (dict(network="gru", theta=9.0), "--low-rank are for lmu networks, got --network gru"),
    "another encoder": (dict(network="lmu", encoder="direct"), "holds sequences, which --encoder direct does not take"),
    "images": (dict(data="digits", network="mlp", encoder="none"), "holds images, which --encoder none does not take"),
    "time steps": (dict(network="lmu", timesteps=5), "has 64 time steps, got --timesteps 5"),
    "no recurrence": (
        dict(network="mlp"),
        "ann takes images and digits-sequence holds sequences; choose",
    ),
    "conversion": (
        dict(method="ecc", network="lmu-5x4"),
        "ecc takes images and digits-sequence holds sequences; choose the method ann or hybrid",
    ),
    "int8": (dict(method="ann-int8", network="gru"), "ann-int8 takes networks without recurrence, got gru"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    settings, says = BAD[name]
    with pytest.raises(BadInput, match=says):
        _definition(**settings)


def test_a_spiking_network_reads_sequences():
    assert make("plain").build(_definition("plain", network="spiking-rnn"))(torch.rand(2, 64, 1)).shape == (2, 10)
