"""Spikes after the first: the value, the three gates, budgets, and weights by fan-out."""

import copy
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spiking_nets import convolutional, images, sent, trains
from torch import Tensor, nn

from picojoule.energy.penalties import GATES, dense_accumulates, first_spike_penalty
from picojoule.energy.penalties.excess import excess
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.networks import Definition, build
from picojoule.neurons import LIF

GIVEN = ("0101", "0000", "1111", "0100")
PRESSED = {
    "relu-count": ("1111", "0000", "1111", "0000"),
    "after-first": ("0011", "0000", "0111", "0011"),
    "strict": ("0011", "0000", "0111", "0000"),
}


def _gradient(events: Tensor, budget: int, gate: str) -> Tensor:
    (gradient,) = torch.autograd.grad(excess(events, budget, gate).sum(), events)
    return gradient


@pytest.mark.parametrize("gate", PRESSED)
def test_vectors(gate: str):
    events = trains(*GIVEN).requires_grad_()
    assert excess(events, 1, gate).tolist() == [[1, 0, 3, 0]]
    assert torch.equal(_gradient(events, 1, gate), trains(*PRESSED[gate]))
    penalty = first_spike_penalty(sent(events), gate=gate)
    assert penalty.item() == 1 and penalty.dtype == torch.float64  # 4 excess events, 4 neurons, 1 layer
    (gradient,) = torch.autograd.grad(penalty, events)
    assert torch.equal(gradient, trains(*PRESSED[gate]) / 4)


def _by_hand(train: tuple[int, ...], budget: int, gate: str) -> tuple[int, list[int]]:
    """Value and gradient of one neuron, step by step."""
    pressed, before, total = [], 0, sum(train)
    for event in train:
        over, late = total > budget, before >= budget
        pressed.append(int({"relu-count": over, "after-first": late, "strict": over and late}[gate]))
        before += event
    return max(0, total - budget), pressed


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("budget", [1, 2, 3])
def test_every_train_of_five_steps(budget: int, gate: str):
    every = list(product((0, 1), repeat=5))
    events = torch.tensor(every, dtype=torch.float64).t().unsqueeze(1).requires_grad_()
    expected = [_by_hand(train, budget, gate) for train in every]
    assert excess(events, budget, gate)[0].tolist() == [value for value, _ in expected]
    assert _gradient(events, budget, gate)[:, 0].t().tolist() == [pressed for _, pressed in expected]


@st.composite
def _numbers(draw: st.DrawFn) -> Tensor:
    """Events `[T, B, N]`, of neurons that may send several in a step."""
    steps, batch, neurons, most = (draw(st.integers(1, n)) for n in (6, 3, 4, 3))
    size = steps * batch * neurons
    numbers = draw(st.lists(st.integers(0, most), min_size=size, max_size=size))
    return torch.tensor(numbers, dtype=torch.float64).view(steps, batch, neurons).requires_grad_()


@given(_numbers(), st.integers(1, 4))
def test_all_gates_have_one_value(events: Tensor, budget: int):
    expected = (events.sum(0) - budget).relu()
    for gate in GATES:
        assert torch.equal(excess(events, budget, gate), expected)
    for weight in ("layer", "fan-out"):
        assert len({first_spike_penalty(sent(events), budget, gate=gate, weight=weight).item() for gate in GATES}) == 1


@given(_numbers(), st.integers(1, 4))
def test_relu_count_is_the_gradient_of_the_value(events: Tensor, budget: int):
    (expected,) = torch.autograd.grad((events.sum(0) - budget).relu().sum(), events)
    assert torch.equal(_gradient(events, budget, "relu-count"), expected)


@given(_numbers(), st.integers(1, 4))
def test_strict_presses_on_the_excess_alone(events: Tensor, budget: int):
    """Neither on neurons within their budget nor on first events; of several in one step on the share beyond."""
    so_far, total = events.detach().cumsum(0), events.detach().sum(0)
    strict, after = (_gradient(events, budget, gate) for gate in ("strict", "after-first"))
    assert not strict[:, total <= budget].any() and not strict[(so_far <= budget) & (events > 0)].any()
    assert torch.equal(strict, after * (total > budget))
    torch.testing.assert_close((strict * events).sum(0), (total - budget).relu())


def test_three_of_four_events_at_once_are_excess():
    events = torch.tensor([4.0, 0.0, 2.0]).view(3, 1, 1).double().requires_grad_()
    assert _gradient(events, 1, "strict").flatten().tolist() == [0.75, 1.0, 1.0]
    assert _gradient(events, 5, "after-first").flatten().tolist() == [0.0, 0.0, 0.5]


@given(_numbers())
def test_a_large_budget_costs_nothing(events: Tensor):
    within = int(events.detach().sum(0).max()) + 1
    penalty = first_spike_penalty(sent(events), within)
    (gradient,) = torch.autograd.grad(penalty, events)
    assert penalty.item() == 0 and not gradient.any()


def test_layers_weigh_alike_and_neurons_within_them():
    model, x = convolutional(), images()
    activity = observe(model, x, batch_dim=1)(x)[1]
    means = [(n.sent - 1).relu().mean().item() for n in activity.neurons if n.sent is not None]
    assert min(means) > 0 and len(means) == 2
    assert first_spike_penalty(activity).item() == pytest.approx(sum(means) / 2)
    weighted = first_spike_penalty(activity, strengths={"2": 3, "5": 0.5}).item()
    assert weighted == pytest.approx((3 * means[0] + 0.5 * means[1]) / 2)
    with pytest.raises(BadInput, match=r"unknown penalised layer 'lif' .*\(known: 2, 5\)"):
        first_spike_penalty(activity, strengths={"lif": 2})


@pytest.mark.parametrize("gate", GATES)
def test_weighted_by_fan_out(gate: str):
    """What the pool lets through, beyond the budget, times the synapses it reaches, as a share of D."""
    model, x = convolutional(), images()
    activity = observe(model, x, batch_dim=1)(x)[1]
    with torch.no_grad():
        pooled = model[:4](x)
        flat = model[:7](x)
        excesses = (pooled.sum(0) - 1).relu(), (flat.sum(0) - 1).relu()
    ones = nn.Conv2d(16, 16, 3, padding=1).double()
    nn.init.ones_(ones.weight)
    assert ones.bias is not None
    nn.init.zeros_(ones.bias)
    reached = float(ones(excesses[0]).detach().sum()), float(excesses[1].sum()) * 4
    expected = sum(reached) / 4 / dense_accumulates(activity)
    penalty = first_spike_penalty(activity, gate=gate, weight="fan-out")
    assert penalty.item() == pytest.approx(expected) and min(reached) > 0
    weighted = first_spike_penalty(activity, gate=gate, weight="fan-out", strengths={"4": 0, "7": 2})
    assert weighted.item() == pytest.approx(2 * reached[1] / 4 / dense_accumulates(activity))


@pytest.mark.parametrize(
    "pool, neuron", [("avg", LIF(0.5, 0.2)), ("max", LIF(0.5, 0.2, v_reset=None, max_events=3))], ids=["pool", "neuron"]
)
def test_fan_out_needs_events_of_single_neurons(pool: str, neuron: LIF):
    """A window of four neurons that fired once each is no excess; layers of neurons are told apart anywhere."""
    definition = Definition("small-cnn", (1, 8, 8), 10, 6, pool)
    network, x = build(definition, lambda: copy.deepcopy(neuron)), torch.rand(4, 1, 8, 8)
    activity = observe(network, x)(x)[1]
    assert first_spike_penalty(activity).item() > 0
    with pytest.raises(BadInput, match="conv2: expected at most one event at a time from one neuron"):
        first_spike_penalty(activity, weight="fan-out")


def test_more_steps_than_half_precision_counts():
    """bfloat16 counts to 256; 303 events are 302 too many."""
    model = nn.Sequential(nn.Linear(5, 6), LIF(0.5, 0.2), nn.Linear(6, 3)).bfloat16()
    dense = model[0]
    assert isinstance(dense, nn.Linear)
    with torch.no_grad():
        dense.bias.fill_(9)
    x = torch.rand(303, 2, 5).bfloat16()
    activity = observe(model, x, batch_dim=1)(x)[1]
    for gate in GATES:
        assert first_spike_penalty(activity, gate=gate).item() == 302
        assert first_spike_penalty(activity, gate=gate, weight="fan-out").item() == 302


@pytest.mark.parametrize("budget", [0, -1, 1.5, float("nan"), float("inf")])
def test_bad_budgets(budget: float):
    with pytest.raises(BadInput, match="budget of at least 1 spike"):
        first_spike_penalty(sent(trains("11").requires_grad_()), budget)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("how", [{"gate": "strikt"}, {"weight": "fanout"}])
def test_unknown_names(how: dict[str, Any]):
    with pytest.raises(BadInput, match="did you mean '(strict|fan-out)'"):
        first_spike_penalty(sent(trains("11").requires_grad_()), **how)
