import pytest
import torch
from torch import nn

from picojoule.graph import observe
from picojoule.layers import Timewise
from picojoule.networks import Definition, Network, build
from picojoule.neurons import CubaLIF


def _build(name: str, encoder: str = "latency-early", readout: str = "max-membrane") -> Network:
    torch.manual_seed(0)
    return build(Definition(name, (1, 28, 28), 10, timesteps=20, encoder=encoder, readout=readout), CubaLIF)


@pytest.mark.parametrize("depth, width", [(1, 128), (2, 3), (5, 128), (20, 17)])
def test_layers_and_weights(depth, width):
    network = _build(f"mlp-{depth}x{width}")
    sizes = [(784, width), *[(width, width)] * (depth - 1), (width, 10)]
    layers = dict(network.graph_module.named_children())
    assert [(f.in_features, f.out_features) for f in layers.values() if isinstance(f, nn.Linear)] == sizes
    assert [name for name in layers if name.startswith(("fc", "cubalif"))] == [
        name for i in range(1, depth + 1) for name in (f"fc{i}", f"cubalif{i}")
    ] + [f"fc{depth + 1}"]
    assert not any(isinstance(m, Timewise | nn.BatchNorm1d) for m in layers.values())
    parameters = [name for name, _ in network.named_parameters()]
    assert parameters == [f"graph_module.fc{i}.weight" for i in range(1, depth + 2)]


def test_weights_have_the_stated_spread():
    for name, parameter in _build("mlp-3x500").named_parameters():
        weights, n = parameter.detach(), parameter.numel()
        expected = 0.7 / parameter.shape[1] ** 0.5
        error = expected / (2 * n) ** 0.5  # of the standard deviation of n normal numbers
        assert abs(float(weights.std()) - expected) < 4 * error, name
        assert abs(float(weights.mean())) < 4 * expected / n**0.5, name


def test_deep_layers_are_active_at_the_start():
    """Spikes per neuron of every hidden layer, for images whose pixels are bright where a digit might be."""
    x = torch.zeros(16, 1, 28, 28)
    x[:, :, 6:22, 6:22] = torch.rand(16, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    network = _build("mlp-5x128")
    with torch.no_grad():
        _, activity = observe(network, x)(x)
    rates = [float(n.events.sum()) / n.events.numel() / 16 for n in activity.neurons]
    assert len(rates) == 5 and all(rate > 0.1 for rate in rates), rates


def test_without_events_nothing_flows():
    network = _build("mlp-2x50")
    assert torch.equal(network(torch.zeros(2, 1, 28, 28)), torch.zeros(2, 10))
