from typing import Any

import pytest
import torch
from torch import nn

from picojoule.errors import BadInput
from picojoule.kinds import Events, Values
from picojoule.layers import BlockLowRank
from picojoule.networks import Activation, Definition, Memory, Network, build, check_network
from picojoule.neurons import LIF, Diffused


def _build(
    name: str, activation: Activation = nn.ReLU, steps=40, readout="last-step", shape=(1,), **settings
) -> Network:
    torch.manual_seed(0)
    encoder = "none" if len(shape) == 1 else "frames"
    return build(Definition(name, shape, 10, steps, encoder=encoder, readout=readout, **settings), activation).eval()


def _x(steps=40, shape=(1,)):
    return torch.rand(3, steps, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name, trained, total", [("lmu", 102_027, 167_819), ("lstm", 102_060, 102_060)])
def test_parameters_of_the_benchmark(name, trained, total):
    parameters = list(_build(name, steps=784).parameters())
    assert sum(p.numel() for p in parameters) == total
    assert sum(p.numel() for p in parameters if p.requires_grad) == trained


def test_the_gru_has_as_many_parameters_within_one_percent():
    assert sum(p.numel() for p in _build("gru").parameters()) == pytest.approx(102_027, rel=0.01)


@pytest.mark.parametrize("name", ["lmu-8x32", "lstm-6", "gru-6", "mlp", "mlp-2x9"])
@pytest.mark.parametrize("readout", ["last-step", "mean", "last-membrane", "max-membrane"])
def test_in_pieces_equals_the_whole(name, readout):
    network, x = _build(name, readout=readout), _x()
    whole = network(x)
    assert whole.shape == (3, 10)
    half = network.with_timesteps(20)
    state = half.initial_state(3)
    _, state = half.advance(x[:, :20], state)
    scores, _ = half.advance(x[:, 20:], state)
    torch.testing.assert_close(scores, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["lmu-8x32", "lstm-6", "gru-6"])
def test_frames_of_events_are_sequences_too(name):
    network = _build(name, shape=(2, 3, 3))
    assert network(_x(shape=(2, 3, 3))).shape == (3, 10)


@pytest.mark.parametrize("signals", ["hum", "h", "um"])
def test_a_quantiser_becomes_the_signals_of_an_lmu(signals):
    network = _build("lmu-8x32", lambda: Diffused("relu", 4.0, gradient="rate"), signals=signals)
    cell: Any = network.graph_module.get_submodule("lmu1")
    quantisers = {name: getattr(cell, f"spike_{name}") for name in "hum"}
    assert {name for name, q in quantisers.items() if q is not None} == set(signals)
    made = [q for q in quantisers.values() if q is not None]
    assert all(q.emits == Events(0.25, signed=True) and q.gradient == "rate" for q in made)
    assert len({q.seed for q in made}) == len(made)
    assert network(_x()).isfinite().all()


@pytest.mark.parametrize("name", ["lstm-6", "gru-6"])
def test_a_quantiser_becomes_the_h_of_a_gated_cell(name):
    network = _build(name, lambda: Diffused("relu", 4.0))
    cell: Any = network.graph_module.get_submodule(f"{name[:-2]}1")
    assert cell.emits == Events(0.25, signed=True) and network(_x()).isfinite().all()
    assert (
        _build(name, lambda: Diffused("relu", 4.0), signals="um").graph_module.get_submodule(f"{name[:-2]}1").emits
        == Values()
    )


def test_the_memory_of_an_lmu_is_what_was_asked_for():
    memory: Any = _build("lmu-8x32", memory=Memory(20.0, learn_theta=True)).graph_module.get_submodule("lmu1").memory
    assert float(memory.theta.detach()) == pytest.approx(20) and memory.theta_log.requires_grad
    memory = _build("lmu-8x32", memory=Memory(low_rank=True)).graph_module.get_submodule("lmu1").memory
    assert memory.theta == 40 and isinstance(memory.Ad, BlockLowRank)


@pytest.mark.parametrize("spikes", [None, "hum"])
def test_the_variant_of_keras_by_name(spikes):
    network = _build("lmu-keras-8x32", nn.ReLU if spikes is None else lambda: Diffused("relu", 4.0))
    cell: Any = network.graph_module.get_submodule("lmu1")
    assert cell.e_h is None and cell.W_x.bias is not None and (cell.memory.order, cell.W_h.in_features) == (32, 8)
    assert (cell.spike_u is not None) == (spikes is not None) and network(_x()).isfinite().all()


BAD = {
    "lmu with images": (lambda: build(Definition("lmu", (1, 8, 8), 10), nn.ReLU), "lmu reads sequences, got images"),
    "a CNN with sequences": (lambda: _build("small-cnn"), "small-cnn takes images, got sequences; choose lmu"),
    "lmu with LIF": (lambda: _build("lmu", LIF), "lmu has no form with LIF neurons"),
    "gru with LIF": (lambda: _build("gru", LIF), "gru has no form with LIF neurons"),
    "no hidden units": (lambda: check_network("lstm-0"), "lstm-H with 1 to 65536 hidden units H, got 'lstm-0'"),
    "keras order": (lambda: check_network("lmu-keras-9x0"), "expected a network lmu-keras-HxQ with 1 to 65536"),
    "order": (lambda: check_network("lmu-9x1025"), "hidden units H and an order Q from 1 to 1024, got 'lmu-9x1025'"),
    "no order": (lambda: check_network("lmu-9"), "unknown network 'lmu-9'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    wrong, says = BAD[name]
    with pytest.raises(BadInput, match=says):
        wrong()
