"""The general form of one-step networks: what changes, what stays, counts by both front ends, and bad input."""

import pytest
import torch
from agreement import agreed
from torch import nn

from picojoule.cells import WindowRNN
from picojoule.energy import count
from picojoule.errors import BadInput
from picojoule.exchange import load, save
from picojoule.execution import fast, fused, in_time_blocks
from picojoule.graph import observe
from picojoule.kernels.projection import PROJECTIONS
from picojoule.kinds import Events
from picojoule.networks import Definition, Network, Windows, build, windowed
from picojoule.neurons import IAF, LIF, CubaLIF, WindowLIF

IMAGE = (2, 16, 16)
CASES = {
    "small-cnn": Windows(4),
    "cnn7": Windows(16, "mean"),
    "resnet20": Windows(4, "carry"),
    "spiking-rnn": Windows(8),
}
every_case = pytest.mark.parametrize("name", CASES)


def sensitive() -> LIF:
    return LIF(0.6, 0.3)


def made(name: str, timesteps: int = 1, activation=sensitive, windows: Windows | None = None) -> Network:
    """A network whose batch norms have seen images."""
    torch.manual_seed(0)
    windows = CASES[name] if windows is None else windows
    network = build(Definition(name, IMAGE, 10, timesteps, "avg", windows=windows), activation)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
        norm.momentum = 1.0
    network(images(8))
    return network.eval()


def images(batch: int = 3) -> torch.Tensor:
    return torch.rand(batch, *IMAGE, generator=torch.Generator().manual_seed(1))


def test_every_population_of_maps_has_windows_and_the_weights_stay():
    plain = build(Definition("small-cnn", IMAGE, 10), lambda: LIF(0.3, 0.7, learn_decay=True))
    found = windowed(plain, 16, "mean")
    neurons = {n: m for n, m in found.graph_module.named_children() if n.startswith("lif")}
    assert [type(m) for m in neurons.values()] == [WindowLIF, WindowLIF, LIF]
    assert all((m.across, m.projection) == (4, "mean") for m in neurons.values() if isinstance(m, WindowLIF))
    assert found.training == plain.training and found.timesteps == 1 and found.sequential_depth == 14
    kept = {key.replace(".neuron", ""): value for key, value in found.state_dict().items()}
    assert kept.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, kept[key]) for key, value in plain.state_dict().items())
    with torch.no_grad():
        next(found.parameters()).add_(1)
    assert not torch.equal(next(found.parameters()), next(plain.parameters()))


def test_without_hand_over_it_is_the_network_it_was_made_from():
    plain = made("resnet20", 3, windows=Windows(1))
    with torch.no_grad():
        assert torch.equal(windowed(plain, 4, "zero")(images()), plain(images()))
        assert not torch.equal(windowed(plain, 4, "carry")(images()), plain(images()))


@pytest.mark.parametrize("name, depth", [("vgg11", 24), ("resnet18", 51), ("cnn7", 15), ("spiking-rnn", 4)])
def test_the_depth_is_the_longest_way_through_windows(name, depth):
    network = build(Definition(name, (3, 32, 32), 10, windows=Windows(4)), LIF)
    assert network.sequential_depth == depth
    network.set_timesteps(3)
    assert network.sequential_depth == 3 * depth


@every_case
@pytest.mark.parametrize("timesteps", [1, 2])
def test_the_meter_counts_what_observe_counts(name, timesteps):
    counts = agreed(made(name, timesteps=timesteps), images())
    assert float(counts.total("acs")) > 0 and counts.model_steps == timesteps


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("batch, timesteps", [(1, 1), (4, 1), (4, 4)])
def test_the_meter_hears_the_windows_of_a_recurrent_population(projection, batch, timesteps):
    """Also where samples, windows and steps are equally many."""
    network = made("spiking-rnn", timesteps=timesteps, windows=Windows(4, projection))
    assert agreed(network, images(batch)).model_steps == timesteps


def test_computed_projections_count_as_updates():
    network, x = made("small-cnn"), images()
    updates = {n.name: n.updates for n in observe(network, x)(x)[1].neurons}
    assert updates == {"lif1": 1.75 * 16 * 16 * 16, "lif2": 1.75 * 32 * 8 * 8, "lif3": 128}
    rnn = made("spiking-rnn")
    (population,) = observe(rnn, x)(x)[1].neurons
    assert population.updates == (8 + 7) * 128 and population.steps == 1


def test_a_readout_of_windows_counts_every_event():
    """The mean over windows has multiples of 1 / W, each of which costs as many accumulates as events made it."""
    network, x = made("spiking-rnn"), images()
    _, activity = observe(network, x)(x)
    last = activity.synapses[-1]
    assert last.site.kind == Events(1 / 8, most=8)
    torch.testing.assert_close(last.acs, activity.neurons[0].events.new_tensor(0) + _events_of(network, x) * 10)


def _events_of(network: Network, x: torch.Tensor) -> torch.Tensor:
    """Events `[B]` that the recurrent population sends."""
    (cell,) = (m for m in network.modules() if isinstance(m, WindowRNN))
    entered = x.permute(0, 2, 1, 3).flatten(1).unsqueeze(0)
    return (8 * cell(entered)).round().double().sum((0, 2))


@every_case
def test_counts_do_not_depend_on_the_batch(name):
    network, x = made(name), images(6)
    observed = observe(network, x)
    with torch.no_grad():
        whole, parts = count(observed(x)[1]), count(observed(x[:2])[1]) + count(observed(x[2:])[1])
    torch.testing.assert_close(whole.sums, parts.sums)
    assert whole.updates == parts.updates


@every_case
def test_streams_blocks_and_other_forms_give_the_same_scores(name):
    network, x = made(name, timesteps=4), images()
    with torch.no_grad():
        whole = network(x)
        half, state = network.with_timesteps(2).advance(x, network.initial_state(3))
        again, _ = network.with_timesteps(2).advance(x, state)
        torch.testing.assert_close(again, whole)
        assert not torch.equal(half, whole)
        for other in (fused(network), in_time_blocks(network, 1)):
            torch.testing.assert_close(other(x), whole)
        torch.testing.assert_close(fast(network)(x), whole, rtol=1e-2, atol=1e-2)


@every_case
def test_it_comes_back_from_a_file(name, tmp_path):
    network = made(name, activation=lambda: LIF(0.3, 0.6, learn_threshold=True))
    save(network, tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(back(images()), network(images())) and back.sequential_depth == network.sequential_depth


def test_a_schedule_of_time_steps_reaches_what_shares_the_modules():
    network, x = made("small-cnn"), images()
    observed = fused(observe(network, x))
    for timesteps in (4, 2, 1):
        network.set_timesteps(timesteps)
        with torch.no_grad():
            y, activity = observed(x)
        assert activity.timesteps == timesteps == network.timesteps
        torch.testing.assert_close(y, network(x))
    with pytest.raises(BadInput, match="timesteps >= 1, got 0"):
        network.set_timesteps(0)


@pytest.mark.parametrize("name, shape, windows, message", [
    ("cnn7", (1, 28, 28), 4, "^cnn7: lif5: expected maps whose sides can be divided by 2 for 2 x 2 .* got 7 x 7"),
    ("small-cnn", (1, 8, 8), 64, "^small-cnn: lif2: expected windows of at least one pixel, got 8 x 8 .* map of 4 x 4"),
    ("small-cnn", (1, 8, 8), 3, "^small-cnn: expected a square number of windows on maps, such as 4 or 9, got 3"),
    ("mlp", (1, 8, 8), 9, "^mlp: expected LIF or IAF neurons on maps for 9 windows, got a network without"),
    ("spiking-rnn", (1, 28, 28), 5, "expected a number of windows that divides the 28 rows of the image, got 5"),
    ("spiking-rnn", (784,), 28, "windows of spiking-rnn are rows of an image in one step, got a sequence"),
])  # fmt: skip
def test_windows_that_do_not_fit(name, shape, windows, message):
    with pytest.raises(BadInput, match=message):
        build(Definition(name, shape, 10, windows=Windows(windows)), LIF)


def test_other_bad_input():
    with pytest.raises(BadInput, match="expected at least 1 window, got 0"):
        Windows(0)
    with pytest.raises(BadInput, match="unknown projection 'sine'; did you mean 'sincos'"):
        Windows(4, "sine")
    plain = build(Definition("small-cnn", (1, 8, 8), 10), CubaLIF)
    with pytest.raises(BadInput, match="^cubalif1: windows take the neurons lif and iaf, got CubaLIF"):
        windowed(plain)
    for wrong in (-4, 4.0, "4"):
        with pytest.raises(BadInput, match=f"square number of windows on maps, such as 4 or 9, got {wrong!r}"):
            windowed(plain, wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match=r"expected a picojoule Network, got Sequential; wrap a module as in Network\("):
        windowed(nn.Sequential(nn.Linear(2, 2)), 4)  # pyright: ignore[reportArgumentType]
    assert any(isinstance(m, WindowLIF) for m in windowed(build(Definition("cnn7", IMAGE, 10), IAF)).modules())


@pytest.mark.parametrize("name, activation", [("mlp", LIF), ("small-cnn", nn.ReLU), ("spiking-rnn", LIF)])
def test_windows_that_would_hand_nothing_on(name, activation):
    plain = build(Definition(name, IMAGE, 10), activation)
    with pytest.raises(BadInput, match="expected LIF or IAF neurons on maps for 4 windows, got a network without"):
        windowed(plain, 4)
    assert windowed(plain, 1).sequential_depth == 1


def test_windows_are_made_once():
    with pytest.raises(BadInput, match="for 16 windows, got a network without"):
        windowed(made("small-cnn"), 16)


def test_analog_recurrent_networks_have_no_windows():
    sequences = Definition("lstm-8", (3,), 10, timesteps=5, encoder="none", windows=Windows(4))
    with pytest.raises(BadInput, match="^lstm-8: expected LIF or IAF neurons on maps for 4 windows"):
        build(sequences, nn.ReLU)
