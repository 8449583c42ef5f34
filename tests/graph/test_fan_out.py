import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from picojoule.graph.fan_out import dense_synapses, fan_out, weighted_sum
from picojoule.graph.linear import with_ones
from picojoule.graph.shapes import BatchAxis


def _map(layer: nn.Module, *shape: int) -> torch.Tensor:
    synapses = fan_out(with_ones(layer), shape).synapses
    return synapses.expand(shape)


@pytest.mark.parametrize(
    "layer, shape, rows, total",
    [
        (
            nn.Conv2d(1, 4, 3, padding=1),
            (1, 1, 4, 4),
            [[16, 24, 24, 16], [24, 36, 36, 24], [24, 36, 36, 24], [16, 24, 24, 16]],
            400,
        ),
        (
            nn.Conv2d(2, 4, 3, padding=1, stride=2),
            (1, 2, 4, 4),
            [[4, 8, 4, 4], [8, 16, 8, 8], [4, 8, 4, 4], [4, 8, 4, 4]],
            200,
        ),
        (
            nn.Conv2d(3, 6, 1, stride=2),
            (1, 3, 8, 8),
            [[6, 0] * 4, [0] * 8] * 4,
            288,
        ),
    ],
)
def test_maps_of_the_method_dossier(layer, shape, rows, total):
    synapses = _map(layer, *shape)
    assert all(channel.tolist() == rows for channel in synapses[0])
    assert synapses.sum().item() == total


def test_linear_and_constant_axes():
    assert fan_out(with_ones(nn.Linear(5, 7)), (2, 3, 5)).synapses.tolist() == [[[7.0]]]
    assert fan_out(with_ones(nn.Conv2d(3, 4, 1)), (2, 3, 6, 6)).synapses.shape == (1, 1, 1, 1)
    assert fan_out(with_ones(nn.Conv2d(3, 4, 3, padding=1)), (2, 3, 6, 6)).synapses.shape == (1, 1, 6, 6)
    assert fan_out(
        with_ones(nn.Conv2d(4, 4, 3, padding=(0, 1), groups=2)), (2, 4, 6, 6)
    ).synapses.unique().tolist() == [
        4.0,
        6.0,
        8.0,
        12.0,
        18.0,
    ]


@pytest.mark.parametrize("training", [True, False])
def test_weights_and_gradients_of_the_layer_are_left_alone(training):
    layer = nn.Conv2d(2, 3, 3).train(training)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with torch.no_grad():
        assert _map(layer, 1, 2, 5, 5).sum() == 3 * 2 * 9 * 9
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in layer.parameters()) and layer.training == training


def test_zero_weights_are_synapses_too():
    layer = nn.Linear(3, 4)
    nn.init.zeros_(layer.weight)
    assert fan_out(with_ones(layer), (1, 3)).synapses.item() == 4


@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        lambda layer: prune.random_unstructured(layer, "weight", 0.5),
    ],
)
@pytest.mark.parametrize("make", [lambda: nn.Conv2d(2, 3, 3, padding=1), lambda: nn.Linear(5, 3)])
def test_normed_and_pruned_weights_keep_their_synapses(wrap, make):
    plain = make()
    shape = (1, 2, 5, 5)
    torch.testing.assert_close(_map(wrap(make()), *shape), _map(plain, *shape), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.bool])
def test_weighted_sum_is_per_sample_and_float64(dtype):
    n = (torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.5).to(dtype)
    synapses = torch.arange(1.0, 6.0, dtype=torch.float64).reshape(1, 1, 1, 5)
    found = weighted_sum(n, synapses, BatchAxis(1, 1))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, (n.double() * synapses).sum((0, 2, 3)), rtol=0, atol=0)


def test_weighted_sum_of_a_folded_batch_is_time_major():
    n = torch.arange(6.0).reshape(6, 1)  # T=3, B=2
    found = weighted_sum(n, torch.full((1, 1), 2.0, dtype=torch.float64), BatchAxis(0, 3))
    assert found.tolist() == [2 * (0 + 2 + 4), 2 * (1 + 3 + 5)]


def test_dense_synapses_per_sample():
    synapses = fan_out(with_ones(nn.Conv2d(1, 4, 3, padding=1)), (2, 1, 4, 4)).synapses
    of_one = float(synapses.sum())
    assert dense_synapses(torch.Size((7, 1, 4, 4)), synapses, of_one, BatchAxis(0, 1)) == 400
    assert dense_synapses(torch.Size((6, 1, 4, 4)), synapses, of_one, BatchAxis(0, 3)) == 1200
