"""Inference in blocks of time steps: the same scores and states, smaller activations."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import picojoule as pj
from picojoule.errors import BadInput
from picojoule.execution import blocks, in_time_blocks
from picojoule.execution.fuse import fused
from picojoule.execution.pieces import Pieces
from picojoule.graph import trace
from picojoule.layers import AddTime, MeanReadout, Repeat, Residual, Timewise
from picojoule.networks import ENCODERS, READOUTS, Definition, build

SHAPE = (1, 8, 8)
IMAGES = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(3))


def network(name="small-cnn", encoder="constant-current", readout="mean", timesteps=8):
    """A network with weights so large that every layer fires."""
    torch.manual_seed(0)
    net = build(Definition(name, SHAPE, 10, timesteps, "max", encoder, readout), pj.LIF).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    return net


def assert_same(found, expected, close=False):
    same = torch.testing.assert_close if close else partial(torch.testing.assert_close, rtol=0, atol=0)
    assert found[1].keys() == expected[1].keys()
    for name, state in expected[1].items():
        for a, b in zip(tree_leaves(found[1][name]), tree_leaves(state), strict=True):
            same(a, b)
    same(found[0], expected[0])


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("readout", READOUTS)
@torch.no_grad()
def test_scores_and_states_are_those_of_the_whole(encoder, readout):
    """Bit by bit where the matrix products have the same height in both; see the next test for the others."""
    net = network("small-cnn", encoder, readout)
    x = torch.rand(5, *net.input_shape, generator=torch.Generator().manual_seed(3))
    for steps in (4, 8, 9):
        assert_same(in_time_blocks(net, steps).advance(x, {}), net.advance(x, {}), close=True)


@pytest.mark.parametrize("name", ["small-cnn", "mlp", "spiking-rnn"])
@pytest.mark.parametrize("steps", [1, 3, 5])
@torch.no_grad()
def test_weights_on_a_grid_make_blocks_equal_bit_by_bit(name, steps):
    """With weights, norms and images on a coarse grid no sum rounds, so every difference would be a mistake."""
    net = network(name)
    for parameter in net.parameters():
        parameter.copy_((parameter * 16).round() / 16)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps = 0.0
    x = (IMAGES * 8).round() / 8
    model = in_time_blocks(net, steps)
    assert_same(model.advance(x, {}), net.advance(x, {}))
    assert torch.equal(model(x), net(x)) and len(set(net(x).flatten().tolist())) > 10


@pytest.mark.parametrize("encoder", ["constant-current", "latency", "bernoulli"])
@torch.no_grad()
def test_a_stream_goes_on_from_its_state(encoder):
    net = network(encoder=encoder)
    model = in_time_blocks(net, 3)
    first, state = model.advance(IMAGES, {})
    again = model.advance(IMAGES, state)
    assert_same(again, net.advance(IMAGES, net.advance(IMAGES, {})[1]), close=True)
    assert not torch.equal(again[0], first)


@torch.no_grad()
def test_the_first_layer_is_computed_once():
    net = network()
    calls = {"conv1": 0, "conv2": 0}
    for name in calls:
        net.graph_module.get_submodule(name).register_forward_hook(
            lambda *_, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    model = in_time_blocks(net, 2)
    calls.update(conv1=0, conv2=0)
    model(IMAGES)
    assert calls == {"conv1": 1, "conv2": 4}


@torch.no_grad()
def test_fused_networks_run_in_blocks_too():
    net = fused(network())
    model = in_time_blocks(net, 3)
    assert model.advance(IMAGES, {})[1].keys() == net.advance(IMAGES, {})[1].keys()
    torch.testing.assert_close(model(IMAGES), net(IMAGES))
    assert net.timesteps == 8 and net(IMAGES).any()


@torch.no_grad()
def test_a_network_without_time_steps_runs_whole():
    net = pj.Network(nn.Sequential(nn.Linear(8, 3), nn.Flatten(), nn.Linear(24, 10)), SHAPE, 10).eval()
    assert torch.equal(in_time_blocks(net)(IMAGES), net(IMAGES))


@torch.no_grad()
def test_what_may_mix_steps_runs_once_behind_all_blocks():
    class FirstMinusLast(nn.Module):
        def forward(self, x):
            return x[0] - x[-1]

    def whole(*end):
        return pj.Network(nn.Sequential(AddTime(), Repeat(4), pj.LIF(), *end, nn.Flatten()), SHAPE, 64).eval()

    for net in (whole(FirstMinusLast()), whole(Residual(nn.Flatten(2), nn.Flatten(2)), FirstMinusLast())):
        assert net(3 * IMAGES).any()
        torch.testing.assert_close(in_time_blocks(net, 1)(3 * IMAGES), net(3 * IMAGES), rtol=0, atol=0)


def test_the_layers_are_what_treats_every_step_alike():
    layers = [n.name for n in Pieces(network("small-cnn")).layers]
    assert (layers[0], layers[-1]) == ("repeat1", "fc4")
    stream = trace(nn.Sequential(nn.Linear(3, 4), pj.LIF(), Timewise(nn.Dropout()), MeanReadout()))
    assert [str(n.target) for n in Pieces(stream).layers] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "timesteps, samples, fit, steps",
    [(8, 5, 100.0, 8), (8, 5, 8.0, 8), (8, 5, 7.9, 4), (8, 5, 3.0, 3), (8, 5, 1.0, 1), (8, 5, 0.1, 1), (1, 5, 0.1, 1)],
)
def test_a_block_takes_as_many_steps_as_fit(monkeypatch, timesteps, samples, fit, steps):
    largest = 4 * 16 * 8 * 8 * samples  # the first maps of one step
    monkeypatch.setattr(blocks, "BLOCK_BYTES", fit * largest)
    assert in_time_blocks(network(timesteps=timesteps)).steps(IMAGES[:samples]) == steps


def test_training_and_autograd_run_the_whole():
    net = network()
    model = in_time_blocks(net, 2)
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    model(IMAGES)
    with torch.no_grad():
        model.train()(IMAGES)
        assert calls == [1, 1]
        model.eval()(IMAGES)
    assert calls == [1, 1]


def test_wrong_steps_and_images():
    with pytest.raises(BadInput, match="steps of at least 1 or 'auto', got 0"):
        in_time_blocks(network(), 0)
    with torch.no_grad(), pytest.raises(BadInput, match="expected images"):
        in_time_blocks(network(), 2)(torch.rand(2, 3, 8, 8))
