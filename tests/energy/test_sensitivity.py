import pytest
import torch

from picojoule.energy import OpCounts, hardware
from picojoule.energy.count import QUANTITIES, NeuronCounts
from picojoule.energy.sensitivity import sensitivity


def _counts(weights: int = 0, **sums: float) -> OpCounts:
    rows = torch.tensor([[float(sums.get(q, 0))] for q in QUANTITIES], dtype=torch.float64)
    steps = (torch.zeros(2, dtype=torch.float64),)
    neurons = {"LIF": NeuronCounts(5, 10.0, 6.0)}
    return OpCounts(("layer",), (weights,), (0,), rows, rows**2, rows[:, 0] ** 2, steps, neurons, 1, 2)


def test_one_constant_at_a_time_by_hand():
    rest = 100 * 23.6
    updates, hops = sensitivity(hardware("loihi"), _counts(acs=100, events=20))
    assert (updates.constant, hops.constant) == ("neuron update", "routing")
    assert (updates.low_pj, updates.high_pj) == pytest.approx((rest + 70 + 10 * 52, rest + 70 + 10 * 81))
    assert (hops.low_pj, hops.high_pj) == pytest.approx((rest + 60 + 810, rest + 80 + 810))
    assert updates.swing_pj == pytest.approx(290) and hops.swing_pj == pytest.approx(20)


def test_what_moves_the_result_most_depends_on_the_counts():
    swings = sensitivity(hardware("loihi"), _counts(acs=100, events=2000))
    assert [s.constant for s in swings] == ["routing", "neuron update"]


def test_a_level_that_is_not_used_moves_nothing():
    (dram,) = sensitivity(hardware("horowitz-45nm-fp32-memory"), _counts(weights=10, acs=1))
    assert dram.constant == "DRAM memory" and dram.swing_pj == 0
    (dram,) = sensitivity(hardware("horowitz-45nm-fp32-memory"), _counts(weights=10**6, acs=1))
    assert dram.swing_pj == pytest.approx((3 + 20) * (2600 - 1300) / 2 + 6 * 33 * 1300 / 64)


def test_constants_without_a_range_are_not_in_it():
    assert sensitivity(hardware("horowitz-45nm-fp32"), _counts(acs=1)) == []


def test_the_swings_lie_within_the_interval():
    for name in ("loihi", "horowitz-45nm-fp32-sram", "yan-2024-22nm", "lemaire-2022-fit"):
        counts = _counts(acs=10, dense_macs=7, events=4)
        energy = hardware(name).energy_pj(counts)
        swings = sensitivity(hardware(name), counts)
        assert swings and all(energy.low <= s.low_pj <= s.high_pj <= energy.high for s in swings)
        assert sum(s.swing_pj for s in swings) == pytest.approx(energy.high - energy.low)
