"""Counts stay exact while the fineness of diffused neurons changes: observed, metered, in training, joined."""

import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.cells import SpikingRNN
from picojoule.energy.penalties import synaptic_penalty
from picojoule.graph import observe
from picojoule.kinds import Events, Values
from picojoule.layers import AddTime, MeanReadout, Repeat, Residual
from picojoule.networks import Definition, Network, build
from picojoule.neurons import Diffused


def _network(timesteps: int = 3, activation: str = "relu", **settings) -> Network:
    torch.manual_seed(0)
    d = Definition("small-cnn", (1, 8, 8), 4, timesteps=timesteps, pool="avg")
    network = build(d, lambda: Diffused(activation, 2.0, **settings))
    network(torch.rand(32, 1, 8, 8))
    return network.eval()


def _set(model: nn.Module, fineness: float) -> None:
    for module in model.modules():
        if isinstance(module, Diffused):
            module.fineness = fineness


def _by_hand(network: Network, x: torch.Tensor, fineness: float) -> float:
    """Accumulates of the last layer, from the numbers that enter it."""
    seen = []
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    handle = last.register_forward_hook(lambda m, args, out: seen.append(args[0].detach()))
    network(x)
    handle.remove()
    return float((seen[0] * fineness).round().abs().sum() * last.out_features)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("fineness", [0.7, 2.0, 5.3])
def test_one_observation_serves_every_fineness(activation, fineness):
    network, x = _network(activation=activation), torch.rand(6, 1, 8, 8)
    observed = observe(network, x)
    with torch.no_grad():
        observed(x)
        _set(network, fineness)
        _, activity = observed(x)
        afresh = observe(network, x)(x)[1]
    acs = [float(r.acs.sum()) for r in activity.synapses]
    assert acs == [float(r.acs.sum()) for r in afresh.synapses] and acs[-1] == _by_hand(network, x, fineness)
    assert [r.site.kind for r in activity.synapses] == [r.site.kind for r in afresh.synapses]
    assert activity.synapses[-1].site.kind == Events(1 / fineness, activation == "tanh")
    assert observed.sites == tuple(r.site for r in activity.synapses)
    for one, other in zip(activity.neurons, afresh.neurons, strict=True):
        assert torch.equal(one.events, other.events) and one.events.sum() > 0


def test_accumulates_and_graded_events_by_hand():
    network = Network(
        nn.Sequential(AddTime(), Repeat(1), Diffused("tanh", 4.0), nn.Linear(3, 5), MeanReadout()), (3,), 5
    )
    for module in network.modules():
        if isinstance(module, Diffused):
            module.random_start = False
    x = torch.tensor([[0.0, 2.0, -0.5]])  # 4 tanh: 0, 3.86, -1.85; half up: 0, 4, -2
    report = pj.measure(network, [x])
    assert (float(report.counts.total("acs")), float(report.counts.total("graded_events"))) == (30, 10)


def _counted(network: Network, activity: pj.Activity) -> list[torch.Tensor]:
    """What a forward pass in training counted, and the gradient of its penalty."""
    weights = [p for p in network.parameters() if p.dim() > 1][:2]
    penalty = synaptic_penalty(activity)
    gradients = torch.autograd.grad(penalty, weights, retain_graph=True)
    counts = [t.detach() for r in activity.synapses for t in (r.acs, r.graded_events, r.macs)]
    assert penalty > 0 and all(g.abs().sum() > 0 for g in gradients)
    return [penalty.detach(), *counts, *gradients]


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_meter_and_observe_agree_in_training_while_the_fineness_changes(learn, activation):
    network, x = _network(2, activation, learn_fineness=learn).train(), torch.rand(6, 1, 8, 8)
    observed, schedule = observe(network, x), (4.0, 4.0, 2.5, 1.0)

    def run(model, fineness):
        _set(network, fineness)
        torch.manual_seed(1)
        return model(x)

    observations = [_counted(network, run(observed, fineness)[1]) for fineness in schedule]
    with pj.meter(network) as m:
        for fineness, expected in zip(schedule, observations, strict=True):
            run(network, fineness)
            torch.testing.assert_close(_counted(network, m.activity()), expected)
        assert not m.uncounted


def test_unequal_heights_that_meet_are_values():
    left, right = Diffused("relu", 2.0), Diffused("relu", 2.0)
    joined = nn.Sequential(AddTime(), Repeat(2), Residual(left, right), nn.Linear(3, 2), MeanReadout())
    observed, x = observe(Network(joined, (3,), 2), torch.rand(1, 3)), torch.rand(4, 3)
    assert observed.sites[0].kind == Events(0.5)
    right.fineness = 3.0
    with torch.no_grad():
        (record,) = observed(x)[1].synapses
    assert isinstance(record.site.kind, Values) and "unequal quanta" in record.site.kind.reason
    assert record.acs.sum() == 0 and record.macs.sum() > 0
    right.fineness = 2.0
    with torch.no_grad():
        assert observed(x)[1].synapses[0].acs.sum() > 0


def test_a_cell_with_diffused_neurons_is_followed():
    cell = SpikingRNN(3, 4, Diffused("tanh", 2.0))
    network = Network(nn.Sequential(AddTime(), Repeat(5), cell, nn.Linear(4, 2), MeanReadout()), (3,), 2).eval()
    x = torch.rand(6, 3)
    observed = observe(network, x)
    for fineness in (2.0, 5.0):
        _set(network, fineness)
        with torch.no_grad():
            _, activity = observed(x)
        counts = {r.site.name.split(".")[-1]: r for r in activity.synapses}
        assert counts["recurrent"].site.kind == Events(1 / fineness, True)
        report = pj.measure(network, [x])
        for layer in report.to_dict()["layers"]:
            assert layer["acs"] == pytest.approx(float(counts[layer["name"].split(".")[-1]].acs.mean()))


def test_bfloat16_events_of_an_odd_fineness_pass_the_guard():
    network, x = _network().to(torch.bfloat16), torch.rand(6, 1, 8, 8).bfloat16()
    _set(network, 3.0)
    observed = observe(network, x)
    with torch.no_grad():
        assert sum(float(r.acs.sum()) for r in observed(x)[1].synapses) > 0
