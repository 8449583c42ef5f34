"""Bits of events with several levels, and what shift-adds cost, against numbers by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import picojoule as pj
from picojoule.energy.penalties import bits_penalty, energy_penalty
from picojoule.graph import observe
from picojoule.graph.levels import bit_length, levels_of
from picojoule.graph.shapes import BatchAxis
from picojoule.kinds import Events
from picojoule.layers import AddTime, MeanReadout
from picojoule.networks import Network
from picojoule.neurons import LIF, Diffused

LIST = "horowitz-45nm-int8-shift-add"


def _network(neurons: nn.Module) -> Network:
    network = Network(
        nn.Sequential(AddTime(), nn.Linear(3, 3, bias=False), neurons, nn.Linear(3, 5), MeanReadout()), (3,), 5
    )
    with torch.no_grad():
        next(network.parameters()).copy_(torch.eye(3))
    return network.eval()


def _diffused() -> Network:
    return _network(Diffused("tanh", 4.0, random_start=False))


X = torch.tensor([[0.0, 2.0, -0.5], [0.3, 2.0, 0.5]])  # 4 tanh, half up: n = 0, 4, -2 and 1, 4, 2


def test_bits_by_hand():
    report = pj.measure(_diffused(), [X[:1], X[1:]], LIST)
    bits = report.to_dict()["bits"]
    (population,) = bits["populations"]
    assert population["neurons"] == 3
    assert bits["activity_bits"] == pytest.approx((1 + 0 + math.log2(5)) / 3)  # ranges 0..1, 4..4, -2..2
    assert bits["significant_bits"] == pytest.approx((0 + 3 + 2 + 1 + 3 + 2) / 6)
    assert bits["nonzero_fraction"] == pytest.approx(5 / 6)
    assert bits["mean_magnitude"] == pytest.approx(13 / 6)
    assert bits["entropy_bits"] == pytest.approx(4 / 6 * math.log2(6) + 2 / 6 * math.log2(3))  # 0, -2, 1, 2; 4 twice
    counts = report.counts
    assert [float(counts.total(q)) for q in ("acs", "graded_events", "shift_adds")] == [65 / 2, 25 / 2, 55 / 2]
    assert report.energy_pj[LIST].value == pytest.approx(0.23 * 9 + 0.03 * 55 / 2)
    assert not report.to_dict()["unpriced"] and "shift-add" in pj.hardware(LIST).prices


def test_observed_and_metered_bits_agree():
    network = _diffused()
    with torch.no_grad():
        _, activity = observe(network, X)(X)
        with pj.meter(network) as m:
            network(X)
            metered = m.activity()
    for one, other in zip(activity.synapses, metered.synapses, strict=True):
        assert torch.equal(pj.count(activity).sums, pj.count(metered).sums)
        assert one.shift_adds is None or torch.equal(one.shift_adds, other.shift_adds)
    mine, theirs = activity.neurons[0].levels, metered.neurons[0].levels
    assert mine is not None and theirs is not None and all(map(torch.equal, mine, theirs))


def test_unit_spikes_cost_one_shift_add_each_and_have_no_bits():
    report = pj.measure(_network(LIF(threshold=0.5)), [X], LIST)
    assert float(report.counts.total("shift_adds")) == float(report.counts.total("acs")) > 0
    assert report.to_dict()["bits"] == {}


@given(st.lists(st.integers(-300, 300), min_size=4, max_size=40), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_levels_of_parts_join_to_those_of_the_whole(numbers, cut):
    n = torch.tensor(numbers[: len(numbers) // 4 * 4]).reshape(2, -1, 2)
    y, kind, axis = n / 3, Events(1 / 3, signed=True), BatchAxis(1, 1)
    whole = levels_of(y, kind, axis)
    joined = whole if cut >= y.shape[1] else levels_of(y[:, :cut], kind, axis).joined(levels_of(y[:, cut:], kind, axis))
    for a, b in zip(joined, whole, strict=True):
        assert torch.equal(a, b)
    assert whole.counts.sum() == n.numel() and torch.equal(whole.low, n.amin((0, 1)))
    assert torch.equal(whole.values.repeat_interleave(whole.counts), n.flatten().sort().values)


def test_a_wide_range_is_counted_too():
    y = torch.tensor([0.0, 1e7, -1e7, 1e7]).reshape(1, 2, 2)
    levels = levels_of(y, Events(signed=True), BatchAxis(1, 1))
    assert levels.values.tolist() == [-(10**7), 0, 10**7] and levels.counts.tolist() == [1, 1, 2]


@given(st.integers(-(2**20), 2**20))
def test_bit_length_is_that_of_python(n):
    assert bit_length(torch.tensor(float(n))).item() == abs(n).bit_length()


def test_the_gradient_of_a_bit_length_is_that_of_lines_between_powers_of_two():
    n = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, -5.0, 8.0], requires_grad=True)
    bits = bit_length(n)
    assert bits.tolist() == [0, 1, 2, 2, 3, 3, 4]
    bits.sum().backward()
    assert n.grad is not None and n.grad.tolist() == [0, 1, 1 / 2, 1 / 2, 1 / 4, -1 / 4, 1 / 8]


def test_the_energy_penalty_of_shift_adds_is_what_is_reported():
    network = _diffused()
    _, activity = observe(network, X)(X)
    penalty = energy_penalty(activity, LIST)
    assert float(penalty.detach()) == pytest.approx(pj.measure(network, [X], LIST).energy_pj[LIST].value)
    (own,) = torch.autograd.grad(penalty, [next(network.parameters())], retain_graph=True)
    (bits,) = torch.autograd.grad(bits_penalty(activity), [next(network.parameters())])
    torch.testing.assert_close(own, 0.03 * bits)
