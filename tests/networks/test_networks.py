import itertools
import re

import pytest
import torch
from torch import nn

from picojoule.energy import count
from picojoule.energy.penalties import dense_accumulates
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.networks import ENCODERS, NETWORKS, POOLINGS, READOUTS, Activation, Definition, Network, build
from picojoule.neurons import IAF, LIF

SHAPE = (1, 8, 8)
MIXERS = ("mixer-cnn-4x2", "mixer-rnn-4x2")
SHALLOW = ("mlp", "small-cnn", "cnn7", "spiking-rnn", "mlp-3x40", *MIXERS)
RECURRENT = ("lmu", "lmu-keras", "lstm", "gru")  # see test_sequence_networks.py
DEEP = ("vgg11", "vgg16", "vgg16-4096", "resnet18", "resnet20")


def _shape(name: str) -> tuple[int, int, int]:
    """The smallest images that the tests show a network."""
    return (1, 32, 32) if name.startswith("vgg") else SHAPE


def _build(name="small-cnn", activation: Activation = LIF, shape=None, **settings):
    torch.manual_seed(0)
    return build(Definition(name, shape or _shape(name), 10, **settings), activation)


def _images(batch: int = 3, shape=SHAPE) -> torch.Tensor:
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(1))


def test_no_network_is_left_out():
    known = {name.removesuffix("-4x2") for name in (*SHALLOW, *DEEP, *RECURRENT)}
    assert set(NETWORKS) == known - {"mlp-3x40"}


@pytest.mark.parametrize("name", [*SHALLOW, *DEEP])
@pytest.mark.parametrize("pool", POOLINGS)
def test_every_definition_runs(name, pool):
    pairs = itertools.product(ENCODERS, READOUTS)
    for encoder, readout in zip(ENCODERS, itertools.cycle(READOUTS), strict=False) if name in DEEP else pairs:
        network = _build(name, pool=pool, encoder=encoder, readout=readout, timesteps=2).eval()
        x = _images(shape=network.input_shape)
        y = network(x)
        assert y.shape == (3, 10) and torch.isfinite(y).all(), (encoder, readout)
        assert network.timesteps == 2
        assert torch.equal(network(x), y), (encoder, readout)


@pytest.mark.parametrize("name", ["mlp", "mlp-3x40", "small-cnn", "cnn7", *MIXERS, *DEEP])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_analog_twin_has_the_same_parameters(name, encoder):
    analog, spiking = (_build(name, a, encoder=encoder, timesteps=3) for a in (nn.ReLU, IAF))
    assert {k: v.shape for k, v in analog.state_dict().items()} == {k: v.shape for k, v in spiking.state_dict().items()}
    assert [k for k, _ in analog.named_parameters()] == [k for k, _ in spiking.named_parameters()]
    spiking.load_state_dict(analog.state_dict())


def test_layers_have_the_names_that_reports_show():
    names = {key.rsplit(".", 1)[0] for key, _ in _build().named_parameters()}
    layers = {"conv1", "norm1", "conv2", "norm2", "fc3", "norm3", "fc4"}
    assert {name.removeprefix("graph_module.").removesuffix(".layer") for name in names} == layers


@pytest.mark.parametrize("name", ["mlp", "small-cnn", "cnn7", "spiking-rnn", "mlp-3x40", *MIXERS, "vgg11", "resnet20"])
def test_another_number_of_steps_shares_parameters_and_buffers(name):
    network = _build(name, timesteps=2).train()
    twin = network.with_timesteps(5)
    assert (network.timesteps, twin.timesteps) == (2, 5)
    for mine, other in ((network.state_dict(), twin.state_dict()), (dict(network.named_buffers()),) * 2):
        assert mine.keys() == other.keys()
        assert all(mine[k].data_ptr() == other[k].data_ptr() for k in mine)
    assert [id(p) for p in network.parameters()] == [id(p) for p in twin.parameters()]
    x = _images(shape=network.input_shape)
    network(x)
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    for n in (network, twin):
        n.eval()
    back = twin.with_timesteps(2)
    assert torch.equal(back(x), network(x))


@pytest.mark.parametrize("timesteps", [0, -3])
def test_bad_timesteps(timesteps):
    with pytest.raises(BadInput, match="timesteps >= 1"):
        _build().with_timesteps(timesteps)
    with pytest.raises(BadInput, match="timesteps >= 1"):
        _build(timesteps=timesteps)


@pytest.mark.parametrize("name", ["mlp", "small-cnn", "spiking-rnn", "mlp-3x40", *MIXERS])
@pytest.mark.parametrize("encoder", ["constant-current", "direct", "bernoulli"])
@pytest.mark.parametrize("readout", READOUTS)
def test_advance_in_pieces_equals_the_whole(name, encoder, readout):
    network = _build(name, encoder=encoder, readout=readout, timesteps=4).double().eval()
    x = _images(shape=network.input_shape).double()
    whole, after = network.advance(x, network.initial_state(3))
    torch.testing.assert_close(whole, network(x))
    for pieces in ((1, 1, 1, 1), (3, 1), (2, 2)):
        state, scores = network.initial_state(3), None
        for steps in pieces:
            scores, state = network.with_timesteps(steps).advance(x, state)
        torch.testing.assert_close(scores, whole)
        assert state.keys() == after.keys()


def test_latency_code_goes_on_silently():
    network = _build(encoder="latency", readout="spike-count", timesteps=3).eval()
    x = _images()
    first, state = network.advance(x, network.initial_state(3))
    assert torch.equal(first, network(x))
    second, _ = network.advance(x, state)
    assert second.shape == (3, 10) and (second >= first).all()


@pytest.mark.parametrize("name", ["small-cnn", "resnet20"])
def test_frames_are_presented_as_they_are(name):
    """Frames in pieces equal the whole recording, and a repeated frame equals its image repeated."""
    network = _build(name, encoder="frames", timesteps=4).double().eval()
    assert network.input_shape == (4, *SHAPE) and network.timesteps == 4
    frames = (_images(shape=network.input_shape) < 0.3).double()
    state, scores = network.initial_state(3), None
    for piece in frames.split((1, 3), 1):
        scores, state = network.with_timesteps(piece.shape[1]).advance(piece, state)
    torch.testing.assert_close(scores, network(frames))
    repeating = _build(name, encoder="direct", timesteps=4).double().eval()
    repeating.load_state_dict(network.state_dict())
    assert torch.equal(repeating(frames[:, 0]), network(frames[:, :1].expand(frames.shape)))
    with pytest.raises(BadInput, match=re.escape("expected images [B, 4, 1, 8, 8], got shape (3, 3, 1, 8, 8)")):
        network(frames[:, :3])


def test_the_early_latency_code_leaves_the_second_half_of_the_steps_silent():
    network = _build(encoder="latency-early", timesteps=10)
    early = network.graph_module.get_submodule("latency1")(_images())
    assert early.shape[0] == 10 and early[4].sum() > 0 and early[:5].sum() > 100 and not early[5:].any()


@pytest.mark.parametrize(
    "name, layers, first, hidden, every",
    [
        ("small-cnn", 4, 107_584, 1_021_184, 1_128_768),
        ("cnn7", 7, 430_336, 79_877_120, 80_307_456),
    ],
)
def test_dense_operations_on_28_by_28(name, layers, first, hidden, every):
    """The cost table of docs/methods/synaptic-penalty.md, exact at the borders."""
    x = torch.rand(1, 1, 28, 28)
    with torch.no_grad():
        analog = count(observe(_build(name, nn.ReLU, (1, 28, 28)).eval(), x)(x)[1])
        _, activity = observe(_build(name, LIF, (1, 28, 28)).eval(), x)(x)
    assert len(analog.layers) == layers and float(analog.total("dense_macs")) == every
    spiking = count(activity)
    assert float(spiking.total("dense_macs")) == first == float(analog.per_layer("dense_macs")[0])
    assert float(spiking.total("dense_acs")) == hidden == dense_accumulates(activity)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 1, 7, 8), (2, 3, 8, 8), (2, 64), (2, 2, 1, 8, 8)])
def test_wrong_input_shape(shape):
    network = _build()
    for call in (network, lambda x: network.advance(x, network.initial_state(2))):
        with pytest.raises(BadInput) as error:
            call(torch.rand(shape))
        assert str(error.value) == f"expected images [B, 1, 8, 8], got shape {shape}"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"name": "smal-cnn"}, "unknown network 'smal-cnn'; did you mean 'small-cnn'"),
        ({"pool": "average"}, "unknown pooling"),
        ({"encoder": "rate"}, "unknown encoder"),
        ({"readout": "vote"}, "unknown readout"),
        ({"shape": (1, 3, 3)}, "3 pixels is too small for 2 poolings"),
        ({"name": "spiking-rnn", "activation": nn.ReLU}, "no analog form"),
    ],
)
def test_bad_definitions(settings, message):
    with pytest.raises(BadInput, match=message):
        _build(**settings)


def test_a_model_without_a_clock_runs_for_one_step():
    network = Network(nn.Sequential(nn.Flatten(1), nn.Linear(64, 3)), SHAPE, 3)
    assert network.timesteps == 1 and network.with_timesteps(1)(_images()).shape == (3, 3)
    with pytest.raises(BadInput, match="one step only"):
        network.with_timesteps(2)
