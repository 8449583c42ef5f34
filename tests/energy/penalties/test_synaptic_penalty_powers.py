"""The powers of the synaptic penalty: on events, on counts, with the published test vectors."""

import pytest
import torch
from spiking_nets import sent, trains, unchanged
from torch import nn

from picojoule.energy.penalties import synaptic_penalty, total_spikes
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.layers import AddTime, MeanReadout
from picojoule.neurons import IAF, LIF

TRIANGLE = [1.0, 5.0, 9.0, 9.0, 5.0, 1.0]


@pytest.mark.parametrize("p, gradient", [(1, TRIANGLE), (2, [0.0, 0.0, 0.0, 9.0, 5.0, 1.0])])
@pytest.mark.parametrize("power_on", ["spike", "count"])
def test_gradient_of_one_step(p: int, gradient: list[float], power_on: str):
    model = nn.Sequential(AddTime(), nn.Linear(6, 6), LIF(threshold=1.0), nn.Linear(6, 10)).double()
    dense = model[1]
    assert isinstance(dense, nn.Linear)
    with torch.no_grad():
        dense.weight.copy_(torch.eye(6))
        dense.bias.fill_(1)
    u = torch.tensor([[-0.9, -0.5, -0.1, 0.1, 0.5, 0.9]], dtype=torch.float64, requires_grad=True)
    penalty = synaptic_penalty(observe(model, u.detach())(u)[1], p, power_on=power_on)
    penalty.backward()
    assert p * penalty.item() == 30 and u.grad is not None
    torch.testing.assert_close(u.grad, torch.tensor([gradient], dtype=torch.float64))


@pytest.mark.parametrize(
    "p, power_on, value, gradient",
    [
        (1, "spike", 3, [1, 1, 1, 1]),
        (2, "spike", 3 / 2, [1, 1, 0, 1]),
        (1, "count", 3, [1, 1, 1, 1]),
        (2, "count", 9 / 2, [3, 3, 3, 3]),
    ],
)
def test_a_train_of_three(p: int, power_on: str, value: float, gradient: list[float]):
    """The train 1101 costs 3 operations a synapse; squared counts make 9 of them."""
    events = trains("1101").requires_grad_()
    penalty = synaptic_penalty(sent(events, fan_out=7), p, power_on=power_on)
    penalty.backward()
    assert penalty.item() == 7 * value and events.grad is not None
    assert events.grad.flatten().tolist() == [7 * g for g in gradient]


def test_counts_of_a_loop_are_those_of_all_steps():
    """A loop over time in the user's code has one record a step; the neuron is the same."""

    class Node(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.node, self.out = unchanged(2), Node(), nn.Linear(2, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.out(self.node(self.first(x[t]))) for t in range(4)]).sum(0)

    x = trains("1101", "0100").float().requires_grad_()
    activity = observe(Loop(), x.detach(), batch_dim=1, spiking=(Node,))(x)[1]
    assert synaptic_penalty(activity, 2, power_on="count").item() == 5 * (9 + 1) / 2
    assert synaptic_penalty(activity, 2).item() == 5 * (3 + 1) / 2


def test_layers_have_factors():
    torch.manual_seed(0)
    model = nn.Sequential(AddTime(), nn.Linear(5, 6), LIF(0.5, 0.1), nn.Linear(6, 7), LIF(0.5, 0.1), nn.Linear(7, 3))
    model = nn.Sequential(*model, MeanReadout())
    activity = observe(model, torch.rand(4, 5))(torch.rand(4, 5))[1]
    first, second = (float(r.acs.detach().sum()) / 4 for r in activity.penalisable())
    assert min(first, second) > 0
    for power_on in ("spike", "count"):
        for p in (1, 2):
            penalty = synaptic_penalty(activity, p, power_on=power_on, strengths={"3": 2, "5": 0.25})
            assert penalty.item() * p == pytest.approx(2 * first + 0.25 * second)
    assert synaptic_penalty(activity, strengths={"3": 0}).item() == pytest.approx(second)
    with pytest.raises(BadInput, match=r"unknown penalised layer '1' .*\(known: 3, 5\)"):
        synaptic_penalty(activity, strengths={"1": 2.0})
    for factor in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="strength of at least 0 for layer 3"):
            synaptic_penalty(activity, strengths={"3": factor})


@pytest.mark.parametrize("how", [{"power_on": "spikes"}, {"psi": "inner"}, {"p": 0}, {"p": 3}, {"p": 1.5}])
def test_unknown_ways(how: dict):
    with pytest.raises(BadInput, match="power_on|psi|p=1 or p=2"):
        synaptic_penalty(sent(trains("11").requires_grad_()), **how)


def test_squares_are_exact_in_half_precision():
    """17 events squared are 289, which bfloat16 rounds to 288."""
    model = nn.Sequential(nn.Linear(3, 4), IAF(0.125, max_events=31), nn.Linear(4, 5)).bfloat16()
    dense = model[0]
    assert isinstance(dense, nn.Linear)
    with torch.no_grad():
        dense.weight.zero_()
        assert dense.bias is not None
        dense.bias.fill_(17 / 8)
    x = torch.rand(1, 2, 3).bfloat16()
    activity = observe(model, x, batch_dim=1)(x)[1]
    assert synaptic_penalty(activity, 2).item() == 4 * 5 * 289 / 2
    assert synaptic_penalty(activity, 2, power_on="count").item() == 4 * 5 * 289 / 2
    assert total_spikes(activity, 2).item() == 4 * 289 / 2
