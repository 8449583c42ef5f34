"""Total spikes, the layers' means, bounds, the floor and the SynOps target, against values by hand."""

import pytest
import torch
from spiking_nets import convolutional, gradients, images, sent, trains
from torch import Tensor, nn

from picojoule.energy.penalties import (
    activity_floor,
    dense_accumulates,
    hidden_neurons,
    layer_mean,
    rate_bounds,
    synaptic_penalty,
    synops_target,
    total_spikes,
)
from picojoule.energy.penalties.parts import penalised_populations
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.layers import MeanReadout
from picojoule.neurons import IAF, LIF


@pytest.fixture
def net() -> tuple[nn.Module, Tensor]:
    return convolutional(), images()


def _spikes(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    """What both layers send, `[T, B, ...]`, before any pool."""
    with torch.no_grad():
        return [model[:3](x), model[:6](x)]


@pytest.mark.parametrize("p", [1, 2])
def test_totals_and_means(p: int):
    model, x = convolutional().eval(), images()
    first, second = _spikes(model, x)
    activity = observe(model, x, batch_dim=1)(x)[1]
    totals = [float(z.sum()) / 4 for z in (first, second)]
    neurons = [16 * 64, 16 * 16]
    assert total_spikes(activity, p).item() * p == pytest.approx(sum(totals)) and min(totals) > 0
    means = [total / n for total, n in zip(totals, neurons, strict=True)]
    assert layer_mean(activity, p).item() * p == pytest.approx(sum(means) / 2)
    assert hidden_neurons(activity) == sum(neurons)
    strengths = {"2": 0.0, "5": 3.0}
    assert total_spikes(activity, p, strengths=strengths).item() * p == pytest.approx(3 * totals[1])
    assert layer_mean(activity, p, strengths=strengths).item() * p == pytest.approx(3 * means[1] / 2)


def test_spikes_of_one_pool_cost_each():
    """The total counts spikes before the pool, the synaptic penalty what the pool lets through."""
    activity = observe(convolutional().eval(), images(), batch_dim=1)(images())[1]
    ones = {"4": 1 / 144, "7": 0.0}
    assert synaptic_penalty(activity, psi="interior", strengths=ones) < total_spikes(activity, strengths={"5": 0.0})


def test_the_power_acts_on_every_event():
    events = 2 * trains("1101", "0001")
    events[0, 0, 1] = 3
    activity = sent(events.requires_grad_())
    assert total_spikes(activity, 1).item() == 11
    assert total_spikes(activity, 2).item() == (4 * 4 + 9) / 2
    assert layer_mean(activity, 2).item() == (4 * 4 + 9) / 2 / 2
    (gradient,) = torch.autograd.grad(total_spikes(activity, 2), events)
    assert torch.equal(gradient, events)


def test_only_p_1_presses_on_silent_neurons():
    events = trains("01", "00").requires_grad_()
    one, two = (torch.autograd.grad(total_spikes(sent(events), p), events)[0] for p in (1, 2))
    assert torch.equal(one, torch.ones_like(one)) and torch.equal(two, events.detach())


@pytest.mark.parametrize(
    "lower, upper, power, expected",
    [
        (None, 1, 1, (2 + 0 + 0) / 3),
        (None, 1, 2, (4 + 0 + 0) / 3),
        (0.5, None, 2, (0 + 0.25 + 0) / 3),
        (2, 2, 1, (1 + 2 + 1) / 3),
        (1.5, 2.5, 2, (0.25 + 2.25 + 0.25) / 3),
        (0, 3, 2, 0),
    ],
)
def test_bounds_of_neurons(lower: float | None, upper: float | None, power: int, expected: float):
    events = trains("1101", "0000", "1000").requires_grad_()
    penalty = rate_bounds(sent(events), lower, upper, power=power)
    assert penalty.item() == pytest.approx(expected)
    population = rate_bounds(sent(events), lower, upper, power=power, over="population")
    mean, low, high = 4 / 3, -1.0 if lower is None else lower, 9.0 if upper is None else upper
    assert population.item() == pytest.approx(max(0, low - mean, mean - high) ** power)


def test_bounds_hold_for_every_sample():
    """Two samples that cancel in the mean do not here."""
    events = torch.tensor([[[0.0], [2.0]]]).requires_grad_()
    for over in ("neuron", "population"):
        assert rate_bounds(sent(events), 1, 1, power=1, over=over).item() == 1
    assert activity_floor(sent(events), 1.0).item() == 0


def test_the_floor_by_hand():
    events = torch.zeros(4, 10, 3)
    events[0, :5, 0], events[2, 0, 1] = 1, 1  # 0.5 and 0.1 events per sample, and none
    events.requires_grad_()
    assert activity_floor(sent(events), 0.2).item() == pytest.approx((0 + 0.25 + 1) / 3)
    (gradient,) = torch.autograd.grad(activity_floor(sent(events), 0.2), events)
    slopes = [0, -2 * 0.5 / 0.2 / 10 / 3, -2 / 0.2 / 10 / 3]
    torch.testing.assert_close(gradient, torch.tensor(slopes).expand(4, 10, 3))


def test_the_floor_of_a_silent_network_wakes_it():
    torch.manual_seed(0)
    first = nn.Linear(4, 8, bias=False)
    model = nn.Sequential(first, LIF(0.5), nn.Linear(8, 2)).double()
    with torch.no_grad():
        first.weight.abs_()  # so that all lie where the surrogate has a slope
    x = 0.3 * torch.rand(3, 5, 4, dtype=torch.float64)
    observed = observe(model, x, batch_dim=1)
    optimiser = torch.optim.SGD(model.parameters(), 0.05)
    found = []
    for _ in range(100):
        optimiser.zero_grad()
        found.append(activity_floor(observed(x)[1]))
        found[-1].backward()
        optimiser.step()
    assert found[0].item() > 0.8 and found[-1].item() < 0.5


@pytest.mark.parametrize("target", [50.0, 400.0])
def test_the_target_pulls_from_both_sides(target: float, net: tuple[nn.Module, Tensor]):
    model, x = net
    activity = observe(model, x, batch_dim=1)(x)[1]
    mean = float(synaptic_penalty(activity).detach())
    penalty = synops_target(activity, mean * 100 / target)
    assert penalty.item() == pytest.approx((target / 100 - 1) ** 2)
    pulled, pressed = gradients(model, penalty), gradients(model, synaptic_penalty(activity))
    slope = 2 * (target / 100 - 1) / (mean * 100 / target)
    torch.testing.assert_close(pulled, [slope * g for g in pressed])
    assert synops_target(activity, mean).item() == pytest.approx(0, abs=1e-20)


BAD = {
    "p=1 or p=2": [lambda a: total_spikes(a, 3), lambda a: layer_mean(a, 0), lambda a: total_spikes(a, -1)],
    "floor above 0": [lambda a, n=n: activity_floor(a, n) for n in (0, -1, float("nan"), float("inf"))],
    "target above 0": [lambda a, n=n: synops_target(a, n) for n in (0, -1, float("nan"), float("inf"))],
    "lower or an upper bound": [rate_bounds],
    "0 <= lower <= upper": [
        lambda a: rate_bounds(a, 2, 1),
        lambda a: rate_bounds(a, -1),
        lambda a: rate_bounds(a, upper=float("nan")),
        lambda a: rate_bounds(a, float("nan"), 1),
        lambda a: rate_bounds(a, upper=float("inf")),
    ],
    "power=1 or power=2": [lambda a: rate_bounds(a, 1, power=3)],
    "unknown over 'neurons'; did you mean 'neuron'": [lambda a: rate_bounds(a, 1, over="neurons")],
    "unknown penalised layer": [
        lambda a: rate_bounds(a, 1, strengths={"no": 1}),
        lambda a: total_spikes(a, strengths={"no": 1}),
        lambda a: layer_mean(a, strengths={"no": 1}),
    ],
    "strength of at least 0 for layer 1": [
        lambda a: total_spikes(a, strengths={"1": -1}),
        lambda a: rate_bounds(a, 1, strengths={"1": float("nan")}),
    ],
}


@pytest.mark.parametrize("message, number", [(message, i) for message, found in BAD.items() for i in range(len(found))])
def test_bad_arguments(message: str, number: int):
    with pytest.raises(BadInput, match=message) as error:
        BAD[message][number](sent(trains("11").requires_grad_()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["relu", "readout"])
@pytest.mark.parametrize("penalty", [total_spikes, layer_mean, activity_floor, synaptic_penalty, hidden_neurons])
def test_nothing_to_penalise(name: str, penalty):
    """Neither rectifiers nor neurons whose spikes are the output are penalised."""
    last = nn.ReLU() if name == "relu" else IAF(0.1)
    model = nn.Sequential(nn.Linear(4, 6), last, nn.Linear(6, 2) if name == "relu" else MeanReadout())
    x = torch.rand(3, 5, 4)
    activity = observe(model, x, batch_dim=1)(x)[1]
    with pytest.raises(BadInput, match="nothing to penalise"):
        penalty(activity)


def test_neurons_of_the_readout_are_not_hidden():
    model = nn.Sequential(nn.Linear(4, 6), LIF(0.5, 0.1), nn.Linear(6, 2), LIF(0.5, 0.1), MeanReadout())
    x = torch.rand(3, 5, 4)
    activity = observe(model, x, batch_dim=1)(x)[1]
    assert [n.hidden for n in activity.neurons] == [True, False]
    assert list(penalised_populations(activity)) == ["1"] and hidden_neurons(activity) == 6
    assert total_spikes(activity).item() == pytest.approx(float(activity.neurons[0].events.sum()) / 5)
    assert dense_accumulates(activity) == 12
