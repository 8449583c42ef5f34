"""The 8-bit network lies on its grid and stays close to the float one."""

import pytest
import torch
from torch import nn

from picojoule.data import intensities, load
from picojoule.graph.passes import fold_batch_norm
from picojoule.layers import QuantisedReLU
from picojoule.methods import make
from picojoule.networks import Definition, Network


def layers(network: Network, kind) -> list:
    return [m for m in network.modules() if isinstance(m, kind)]


def digits(count: int) -> torch.Tensor:
    data = load("digits")
    return intensities(data.train.images[:count], data.scale)


@pytest.fixture(scope="module", params=["small-cnn", "mlp"])
def pair(request):
    """A random ANN with statistics of its own, and what it becomes."""
    method = make("ann-int8")
    definition = method.definition(Definition(request.param, (1, 8, 8), 10, pool="max"), None)
    torch.manual_seed(0)
    network = make("ann").build(definition)
    for _ in range(20):
        network.train()(digits(64))  # gathers running statistics
    network.eval()
    return network, method.finish(network, list(digits(400).split(100)), definition).eval()


def test_weights_take_at_most_255_values_per_channel(pair):
    folded = fold_batch_norm(pair[0].graph_module)
    exact = [m for m in folded.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    rounded = layers(pair[1], nn.Linear | nn.Conv2d)
    assert len(rounded) == len(exact) > 2
    for layer, before in zip(rounded, exact, strict=True):
        for row, old in zip(layer.weight.flatten(1), before.weight.flatten(1), strict=True):
            scale = old.abs().max() / 127
            steps = row / scale
            assert torch.allclose(steps, steps.round(), atol=1e-4)
            assert steps.round().abs().max() == 127 and len(steps.round().unique()) <= 255
            assert (row - old).abs().max() <= scale * (0.5 + 1e-4)
        assert layer.bias is not None and before.bias is not None
        assert torch.equal(layer.bias, before.bias), "biases stay wide"


def test_activations_lie_on_the_grid(pair):
    seen = []
    hooks = [m.register_forward_hook(lambda m, _, y: seen.append((m, y))) for m in layers(pair[1], QuantisedReLU)]
    with torch.no_grad():
        pair[1](digits(400))
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(layers(pair[0], nn.ReLU))
    for layer, y in seen:
        steps = (y / layer.scale).round()
        assert layer.levels == 255 and steps.min() == 0 and 200 < steps.max() <= 255
        assert torch.allclose(y, steps * layer.scale, rtol=1e-5, atol=0)


def test_the_output_stays_close(pair):
    with torch.no_grad():
        exact, rounded = (network(digits(400)) for network in pair)
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() < 0.03 * exact.abs().max()
    assert (exact.argmax(1) == rounded.argmax(1)).double().mean() > 0.95


def test_no_batch_norm_and_no_float_rectifier_is_left(pair):
    assert not layers(pair[1], nn.BatchNorm1d | nn.BatchNorm2d | nn.ReLU)
    assert all(m.bias is not None for m in layers(pair[1], nn.Linear | nn.Conv2d))


def test_a_dead_layer_is_no_error():
    method = make("ann-int8")
    definition = method.definition(Definition("mlp", (1, 8, 8), 10), None)
    network = make("ann").build(definition).eval()
    with torch.no_grad():
        for module in layers(network, nn.BatchNorm1d):
            module.weight.zero_()
    made = method.finish(network, [digits(10)], definition)
    assert torch.isfinite(made(digits(3))).all()
