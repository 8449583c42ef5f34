"""What a conversion promises whatever the network: the ANN's scores in the limit, in both exact forms and over time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_networks import NETWORKS, SHAPE, made_up
from torch import nn

from picojoule.conversion import ECCOptions, closed_form, convert
from picojoule.conversion.parts import ADAPTIVE_MAXIMA, AVERAGES, LEAKY, MAXIMA, MOVES, NORMS, RECTIFIERS
from picojoule.energy import count, measure
from picojoule.exchange import load, save
from picojoule.exchange.archive import _LAYERS
from picojoule.graph import observe
from picojoule.graph.linear import LINEAR_MODULES
from picojoule.kinds import Events
from picojoule.layers import Shift, SpikingMaxPool2d
from picojoule.networks import Network
from picojoule.neurons import IAF, Neuron, SignedIAF

every_network = pytest.mark.parametrize("name", NETWORKS)
MAX = ECCOptions(normalisation="max")


def scores_of(name: str, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The ANN's scores in front of its softmax."""
    with torch.no_grad():
        y = network[:-1](x) if name == "dropout-softmax" else network(x)  # pyright: ignore[reportIndexIssue]
    return y


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean distance in units of the spread of `b`."""
    return float((a - b).abs().mean() / b.std())


@every_network
def test_the_analog_and_the_normalised_graph_have_the_scores_of_the_ann(name):
    network, x = made_up(name)
    exact = scores_of(name, network, x)
    for options in (MAX, ECCOptions(normalisation="max", per_channel=True, pooling="pass")):
        made = convert(network, x, options=options)
        with torch.no_grad():
            for graph in (made.ann, made.scaled) if name != "clipped" else (made.ann,):
                assert (graph(x) - exact).abs().max() < 2e-5 * exact.abs().max()


@every_network
@pytest.mark.parametrize("per_channel", [False, True], ids=["per-layer", "per-channel"])
def test_the_scores_converge_to_those_of_the_ann(name, per_channel):
    network, x = made_up(name)
    exact = scores_of(name, network, x)
    options = ECCOptions(normalisation="max", per_channel=per_channel)
    with torch.no_grad():
        few, many = (distance(convert(network, x, timesteps=t, options=options).network(x), exact) for t in (32, 512))
    assert many < 0.03, (few, many)
    assert many < few / 5, (few, many)  # 1 / T would be 16 times less


@every_network
def test_every_rectifier_is_replaced_and_no_synapse_but_the_first_multiplies(name):
    network, x = made_up(name)
    made = convert(network, x, timesteps=4)
    graph = made.network.graph_module
    assert not any(isinstance(m, (*RECTIFIERS, nn.MaxPool2d, nn.LeakyReLU)) for m in graph.modules())
    neurons = [n.name for n in graph.graph.nodes if n.op == "call_module" and isinstance(_at(graph, n), Neuron)]
    assert neurons == [layer.name for layer in made.layers] and len(neurons) >= 1
    with torch.no_grad():
        _, activity = observe(made.network, x[:1], strict=True)(x)
    constant = [r for r in activity.synapses if not isinstance(r.site.kind, Events)]
    assert {len(r.by_step) for r in constant} == {1}, "what depends on the image alone runs once"
    assert all(r.acs.sum() > 0 for r in activity.synapses if r not in constant)
    first = 2 if name in ("concat", "clipped") else 1
    assert len(constant) == first and float(count(activity).total("acs")) > 0


@every_network
@pytest.mark.parametrize("options", [ECCOptions(), ECCOptions(per_channel=True, signed=True, input="count")], ids=str)
def test_graph_and_meter_count_alike(name, options):
    network, x = made_up(name)
    made = convert(network, x, timesteps=4, options=options).network
    with torch.no_grad():
        counted = count(observe(made, x[:1])(x)[1])
        metered = measure(made, [(x, torch.zeros(len(x), dtype=torch.int64))]).counts
    for quantity in ("acs", "macs"):
        assert float(counted.total(quantity)) == float(metered.total(quantity))
    assert (float(counted.total("macs")) == 0) == (options.input == "count")


def _at(graph, node):
    return graph.get_submodule(str(node.target))


@every_network
def test_a_converted_network_comes_back_from_a_file_bit_by_bit(name, tmp_path):
    network, x = made_up(name)
    made = convert(network, x, timesteps=5, options=ECCOptions(per_channel=True, signed=name == "conv")).network
    save(made, tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(back(x), made(x))
    save(back, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("layers", [RECTIFIERS, LEAKY, NORMS, AVERAGES, MAXIMA, ADAPTIVE_MAXIMA, MOVES, LINEAR_MODULES])
def test_a_model_file_describes_every_layer_that_is_converted(layers):
    assert set(layers) <= set(_LAYERS)


@pytest.mark.parametrize("name", ["residual", "leaky", "max-pool", "norm-after-relu"])
@pytest.mark.parametrize(
    "options", [ECCOptions(), ECCOptions(signed=True), ECCOptions(input="count", readout="count")], ids=str
)
def test_a_stream_in_pieces_equals_the_whole(name, options):
    network, x = made_up(name)
    made = convert(network, x, timesteps=4, options=options).network
    with torch.no_grad():
        whole = made.with_timesteps(12)(x)
        state = made.initial_state(len(x))
        for _ in range(3):
            scores, state = made.advance(x, state)
    torch.testing.assert_close(scores, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["residual", "dense"])
def test_the_model_is_left_as_it_was(name):
    network, x = made_up(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    convert(network, x, options=ECCOptions(bias_correction=True, weight_bits=4))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_one_module_used_twice_has_a_scale_at_each_place():
    network, x = made_up("shared")
    made = convert(network, x, options=MAX)
    scales = [float(layer.scale) for layer in made.layers]
    assert len(scales) == 3 and len(set(scales)) == 3


def test_scales_are_the_largest_activations():
    network, x = made_up("conv")
    activations = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, __, y: activations.append(y.detach()))
    with torch.no_grad():
        network(x)
    layer = convert(network, x, options=MAX).layers
    channel = convert(network, x, options=ECCOptions(normalisation="max", per_channel=True)).layers
    for found, by_channel, y in zip(layer, channel, activations, strict=False):
        assert float(found.scale) == pytest.approx(float(y.max()), rel=1e-6)
        peaks = y.amax((0, 2, 3))
        expected = torch.where(peaks > 0, peaks, peaks.max())
        torch.testing.assert_close(by_channel.scale.flatten(), expected)


def test_a_ceiling_is_the_threshold():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.ReLU6(), nn.Linear(20, 5)).eval()
    with torch.no_grad():
        network[1].weight.mul_(60)  # pyright: ignore[reportArgumentType, reportCallIssue]
    x = torch.rand(20, *SHAPE)
    made = convert(network, x, timesteps=256, options=MAX)
    assert float(made.layers[0].scale) == 6
    with torch.no_grad():
        assert distance(made.network(x), network(x)) < 0.02


@pytest.mark.parametrize("options", [{"constant": 12.0}, {"normalisation": "none"}], ids=str)
@pytest.mark.parametrize("ceiling", [6.0, 0.5])
def test_no_scale_is_above_a_ceiling(options, ceiling):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.Hardtanh(0, ceiling), nn.Linear(20, 5)).eval()
    made = convert(network, torch.rand(20, *SHAPE), options=ECCOptions(**options))
    assert float(made.layers[0].scale) == min(ceiling, options.get("constant", 1.0))


def test_a_clipped_activation_that_is_added_to_another_has_a_scale_and_a_population_of_its_own():
    network, x = made_up("clipped")
    layers = {layer.name: float(layer.scale) for layer in convert(network, x, options=MAX).layers}
    assert list(layers) == ["clip", "clip_neurons", "relu", "relu_1"]
    assert layers["clip"] == pytest.approx(0.2) and layers["clip_neurons"] == layers["relu"] > 0.2


def test_events_that_are_added_up_share_a_scale_and_currents_do_not():
    network, x = made_up("residual")
    stem, current, added = convert(network, x, options=MAX).layers
    assert current.scale == added.scale != stem.scale


def test_a_pool_of_neurons_has_the_ratio_of_scales_as_threshold():
    network, x = made_up("avg-pool")
    made = convert(network, x, options=ECCOptions(normalisation="max", residual=0.25))
    first, pool, _ = made.layers
    neuron = made.network.graph_module.get_submodule("2_neurons")
    assert isinstance(neuron, IAF)
    ratio = float(pool.scale / first.scale)
    assert float(neuron.threshold) == pytest.approx(ratio) and neuron.v_initial == pytest.approx(0.25 * ratio)
    passing = convert(network, x, options=ECCOptions(pooling="pass")).network
    assert sum(isinstance(m, IAF) for m in passing.modules()) == 2


def test_currents_that_are_never_negative_need_one_population():
    network, x = made_up("weighted-sum")
    for options in (MAX, ECCOptions(normalisation="max", pooling="pass", input="count")):
        made = convert(network, x, options=options)
        assert len(made.layers) == 4 and not any("negative" in layer.name for layer in made.layers)


def test_bias_maps_are_kept_only_where_padding_cuts():
    network, x = made_up("norm-before-conv")
    shifts = [m for m in convert(network, x).scaled.modules() if isinstance(m, Shift)]
    assert len(shifts) == 1 and shifts[0].offset.shape == (6, 8, 8)
    inside = shifts[0].offset[:, 1:-1, 1:-1]
    assert torch.allclose(inside, inside[:, :1, :1].expand_as(inside))
    parts = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.BatchNorm2d(6), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 5)
    unpadded = convert(nn.Sequential(*parts).eval(), x).scaled
    assert not any(isinstance(m, Shift) for m in unpadded.modules())


@pytest.mark.parametrize("signed", [False, True])
def test_options_choose_the_neurons(signed):
    network, x = made_up("conv")
    made = convert(network, x, options=ECCOptions(signed=signed)).network
    kinds = {type(m) for m in made.modules() if isinstance(m, Neuron)}
    assert kinds == ({SignedIAF} if signed else {IAF})


@given(st.integers(0, 10_000), st.sampled_from(sorted(NETWORKS)), st.booleans(), st.booleans())
@settings(max_examples=25, deadline=None)
def test_random_networks_converge_with_any_options(seed, name, signed, per_channel):
    network, x = made_up(name, seed)
    exact = scores_of(name, network, x)
    options = ECCOptions(normalisation="max", signed=signed, per_channel=per_channel)
    with torch.no_grad():
        made = convert(network, x, timesteps=512, options=options)
        assert distance(made.network(x), exact) < 0.04
        assert distance(closed_form(made)(x), exact) < 0.04


def test_networks_of_our_own_lose_their_time_and_get_it_back():
    from picojoule.methods.ann import ANN
    from picojoule.networks import Definition

    torch.manual_seed(0)
    network = ANN().build(Definition("resnet20", (3, 8, 8), 5)).eval()
    x = torch.rand(8, 3, 8, 8)
    made = convert(network, x, timesteps=7)
    with torch.no_grad():
        torch.testing.assert_close(made.ann(x), network(x), rtol=1e-4, atol=1e-5)
    assert isinstance(made.network, Network) and made.network.timesteps == 7
    assert not any(isinstance(m, SpikingMaxPool2d) for m in made.network.modules())
