"""The published one-step networks: their numbers, what enters their synapses, and that both front ends agree."""

import pytest
import torch
from agreement import agreed
from torch import nn

import picojoule as pj
from picojoule.cells import Cell, WindowMixer
from picojoule.energy import count
from picojoule.energy.penalties import total_spikes
from picojoule.errors import BadInput
from picojoule.execution import recomputed
from picojoule.graph import Activity, observe
from picojoule.kinds import Events, Values
from picojoule.networks import Definition, Mixer, Network, Windows, build
from picojoule.networks.window_mixer import IMAGENET_DEVIATION, IMAGENET_MEAN, PatchMerging
from picojoule.neurons import LIF, WindowNeuron

SMALL = ("mixer-cnn-4x2", "mixer-rnn-4x2")


def made(name: str, shape=(1, 8, 8), classes=10, activation=WindowNeuron, **mixer) -> Network:
    torch.manual_seed(0)
    return build(Definition(name, shape, classes, mixer=Mixer(**mixer)), activation).eval()


def images(batch: int = 3, shape=(1, 8, 8)) -> torch.Tensor:
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(1))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module", params=["cnn", "rnn"])
def published(request) -> tuple[str, Activity]:
    """A pass of the full network, untrained, over standard normal images."""
    network = made(f"mixer-{request.param}", (3, 32, 32))
    mean, deviation = (torch.tensor(c).reshape(3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return request.param, observe(network, noise, strict=True)(noise * deviation + mean)[1]


@pytest.mark.parametrize(
    "name, by_classes",
    [
        ("mixer-cnn", {10: 13_885_402, 100: 13_920_052, 200: 13_958_552}),
        ("mixer-rnn", {10: 14_925_466, 100: 14_960_116, 200: 14_998_616}),
    ],
)
def test_parameters_of_the_published_networks(name, by_classes):
    """Those in use in the published code; 10 classes of the recurrent one are in its log, too."""
    ten = parameters(made(name, (3, 32, 32)))
    assert {classes: ten + (classes - 10) * 385 for classes in by_classes} == by_classes


@pytest.mark.parametrize("width", [24, 48])
def test_parameters_of_a_block(width):
    for cell, expected in (("cnn", 25 * width**2 + 7 * width), ("rnn", 24 * width**2 + 21 * width)):
        stages = made(f"mixer-{cell}-{width}x1", (3, 32, 32)).graph_module.get_submodule("mixer1.stages")
        first = stages.get_submodule("0")
        assert parameters(first.get_submodule("blocks.0")) == expected
        merging = parameters(first) - expected
        assert merging == 8 * width**2 + (32 * width**2 if cell == "rnn" else 0)


def test_multiply_adds_of_the_published_networks(published):
    """With padding taps, as in the published log; of the LSTM's 16 elementwise products and sums for each of two
    directions and each channel of a token the log's tool counts all, we none.
    """
    cell, activity = published
    dense = {}
    for r in activity.synapses:
        part = r.site.name.rpartition(".")[2] if ".cell." in r.site.name else r.site.name
        key = "conv" if part in ("conv1", "conv2") and ".cell." in r.site.name else part
        dense[key] = dense.get(key, 0) + (r.dense if r.site.interior is None else r.inputs * r.site.interior)
    total = sum(dense.values())
    if cell == "cnn":
        assert total == 246_992_640 and dense["conv"] == 193_757_184 and dense["conv1"] == 147_456
        return
    tokens = sum(r.inputs for r in activity.synapses if r.site.name.endswith("_input"))  # of both directions
    assert total + 16 * tokens == 249_671_424


def test_the_most_that_spikes_can_save(published):
    """What docs/methods/one-step.md says: silence would leave the real-valued layers, whose products cost the same."""
    cell, activity = published
    counts = count(activity)
    real = float(counts.total("dense_macs"))
    padded = sum(r.dense if r.site.interior is None else r.inputs * r.site.interior for r in activity.synapses)
    bounds = padded / real, float(counts.total("synapses")) / real
    assert bounds == pytest.approx({"cnn": (5.351, 3.674), "rnn": (1.685, 1.685)}[cell], abs=1e-3)


def test_overlap_is_seen_in_the_counts(published):
    _, activity = published
    entered = {r.site.name: r.inputs for r in activity.synapses}
    first = next(name for name in entered if ".cell." in name)
    assert entered[first.replace("blocks.0", "blocks.1")] == 2.25 * entered[first]


def test_rates_at_the_start(published):
    """Source: measured on a reconstruction of the published code; the last stage starts almost silent."""
    cell, activity = published
    if cell == "rnn":
        return
    bounds = {"z": (0.31, 0.48), "s1": (0.19, 0.26), "s2": (0.10, 0.19)}
    for r in (r for r in activity.synapses if r.site.name.endswith("cell.conv1")):
        rate, last = float(r.active.mean()) / r.inputs, ".stages.3." in r.site.name
        assert bounds["z"][0] - 0.02 <= rate <= bounds["z"][1] + 0.02 or last
    for n in activity.neurons:
        rate, last = float(n.events.mean()) / 4, ".stages.3." in n.name
        low, high = bounds["s1" if n.name.endswith("neuron1") else "s2"]
        assert rate < 0.1 if last else low - 0.02 <= rate <= high + 0.02, n.name


def test_kinds_and_steps(published):
    cell, activity = published
    kinds = {r.site.name: r.site.kind for r in activity.synapses}
    block = "mixer1.stages.1.blocks"
    assert kinds[f"{block}.0.linear"] == Events(most=1) and kinds[f"{block}.1.linear"] == Events(0.25, most=4)
    assert isinstance(kinds[f"{block}.0.mlp.0"], Values) and isinstance(kinds["mixer1.stages.1.merging.linear"], Values)
    inner = "conv2" if cell == "cnn" else "backwards_input"
    assert kinds[f"{block}.1.cell.{inner}"] == Events(most=1)
    assert activity.timesteps == 1 and all(n.steps == 1 for n in activity.neurons)


def test_updates_are_those_of_all_windows_and_projections():
    with torch.no_grad():
        _, activity = observe(made("mixer-cnn-4x2"), images())(images())
    updates = {n.name.removeprefix("mixer1.stages."): n.updates for n in activity.neurons}
    assert updates["0.blocks.0.cell.neuron1"] == 8 * 8 * 4
    assert updates["0.blocks.1.cell.neuron1"] == 2.25 * 8 * 8 * 4
    assert updates["0.blocks.1.cell.neuron2"] == 2.25 * 8 * 8 * 4 * 1.75


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("activation", [WindowNeuron, LIF, nn.ReLU])
@pytest.mark.parametrize(
    "mixer",
    [
        {},
        {"projection": "mean"},
        {"projection": "carry", "overlap": False},
        {"projection": "zero", "encoder": "straight-through"},
        {"stitch": "any", "encoder": "threshold"},
        {"windows": 1},
        {"on": False},
    ],
)
def test_the_meter_counts_what_observe_counts(name, activation, mixer):
    counts = agreed(made(name, activation=activation, **mixer), images())
    assert (float(counts.total("acs")) > 0) == (activation is not nn.ReLU and mixer.get("on", True))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("batch, timesteps", [(1, 1), (4, 1), (2, 4), (4, 4)])
def test_the_meter_tells_samples_windows_and_steps_apart(name, batch, timesteps):
    """Also where they are equally many."""
    network = made(name).with_timesteps(timesteps)
    assert agreed(network, images(batch)).model_steps == timesteps


@pytest.mark.parametrize(
    "name, settings, updates",
    [
        ("mixer-cnn-8x2", {}, 33_440),
        ("mixer-cnn-8x2", {"projection": "carry"}, 24_320),
        ("mixer-cnn-8x2", {"stitch": "any"}, 33_440),
        ("mixer-rnn-8x1", {}, 15_360),
    ],
)
def test_updates_by_hand(name, settings, updates):
    """Grids of 16, 8, 4, 2 with 8, 16, 32, 64 channels: 3,840 neurons (twice that behind an LSTM) in windows that tile
    the grid, 2.25 times as many in those that overlap. The second population of the convolutions projects in 3 of 4
    windows, that behind the LSTM in all.
    """
    network = made(name, (1, 28, 28), **settings)
    assert agreed(network, images(2, (1, 28, 28))).updates_per_sample() == {"WindowNeuron": updates}


@pytest.mark.parametrize("name", SMALL)
def test_penalties_in_training_are_the_same_by_both_front_ends(name):
    """Of what populations sent: it is live in the meter, too."""
    network, x = made(name), images()
    found = []
    for live in (lambda: observe(network, x)(x)[1], lambda: _metered(network, x)):
        network.zero_grad()
        penalty = total_spikes(live())
        penalty.backward()
        found.append((penalty.detach(), [p.grad.clone() for p in network.parameters() if p.grad is not None]))
    torch.testing.assert_close(*found)
    assert any(g.abs().sum() > 0 for g in found[0][1])


def _metered(network: Network, x: torch.Tensor) -> Activity:
    with pj.meter(network) as meter:
        network(x)
        return meter.activity()


@pytest.mark.parametrize("name", SMALL)
def test_counts_do_not_depend_on_the_batch(name):
    """Noise belongs to a place in the batch, so the encoder is the one without noise."""
    network, x = made(name, encoder="threshold"), images(6)
    observed = observe(network, x)
    with torch.no_grad():
        whole = count(observed(x)[1])
        parts = count(observed(x[:2])[1]) + count(observed(x[2:])[1])
    torch.testing.assert_close(whole.sums, parts.sums)
    assert whole.updates == parts.updates


@pytest.mark.parametrize("name", SMALL)
def test_recomputing_gives_the_same_gradients(name):
    network, x = made(name).train(), images(4)
    network.graph_module.get_parameter("fc2.weight").data.normal_()
    found = []
    for model in (network, recomputed(network)):
        network.zero_grad()
        torch.manual_seed(1)
        model(x).square().sum().backward()
        found.append([p.grad for p in network.parameters() if p.grad is not None])
    assert len(found[0]) == len(list(network.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_merging_puts_neighbours_in_the_published_order():
    merging = PatchMerging(4, 1)
    x = torch.arange(16.0).reshape(1, 1, 4, 4, 1)
    assert merging.neighbours(x)[0, 0, 0, 1].tolist() == [2, 6, 3, 7]  # (0, 0), (1, 0), (0, 1), (1, 1)


def test_a_network_without_mixers_is_real_valued():
    network, x = made("mixer-cnn-4x2", on=False), images()
    assert not any(isinstance(m, Cell) for m in network.modules())
    assert all(isinstance(site.kind, Values) for site in observe(network, x).sites)


def test_blocks_draw_noise_of_their_own():
    seeds = [m.rules.seed for m in made("mixer-cnn-4", (1, 32, 32)).modules() if isinstance(m, WindowMixer)]
    assert seeds == list(range(12))


@pytest.mark.parametrize(
    "side, grids", [(8, [8, 4, 2]), (16, [8, 4, 2]), (28, [16, 8, 4, 2]), (32, [16, 8, 4, 2]), (64, [16, 8, 4, 2])]
)
def test_images_are_fitted(side, grids):
    network = made("mixer-cnn-4x1", (1, side, side))
    assert [m.size for m in network.modules() if isinstance(m, Cell)] == grids
    assert network(images(2, (1, side, side))).shape == (2, 10)


@pytest.mark.parametrize(
    "shape, settings, message",
    [
        ((1, 8, 10), {}, "expected square images .* for mixer-cnn-4, got 8 x 10"),
        ((1, 40, 40), {}, "expected square images of at most 32 pixels a side, or a multiple of 16,"),
        ((1, 8, 8), {"readout": "spike-count"}, "mixer-cnn-4 has none with these neurons; choose another"),
    ],
)
def test_bad_definitions(shape, settings, message):
    with pytest.raises(BadInput, match=message):
        build(Definition("mixer-cnn-4", shape, 10, **settings), WindowNeuron)


@pytest.mark.parametrize(
    "mixer, message",
    [
        ({"windows": 2}, "expected windows=4 or windows=1, got 2"),
        ({"projection": "sin"}, "unknown projection 'sin'"),
        ({"stitch": "or"}, "unknown stitch 'or'"),
        ({"encoder": "rate"}, "unknown encoder 'rate'"),
    ],
)
def test_bad_mixers(mixer, message):
    with pytest.raises(BadInput, match=message):
        Mixer(**mixer)


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("mixer-cnn-4", {"windows": Windows(4)}, r"windows of mixer-cnn-4 .*; give mixer=Mixer\(...\) in the place"),
        ("small-cnn", {"mixer": Mixer(on=False)}, "a Mixer is for networks such as mixer-cnn, and small-cnn has none"),
    ],
)
def test_windows_and_mixers_of_other_networks(name, settings, message):
    with pytest.raises(BadInput, match=message):
        build(Definition(name, (1, 8, 8), 10, **settings), WindowNeuron)
