from dataclasses import replace

import pytest
import torch

from picojoule.energy import OpCounts, hardware
from picojoule.energy.count import QUANTITIES, NeuronCounts
from picojoule.energy.memory import MOVEMENTS, Bits, Level, Memory, model_bits, traffic
from picojoule.errors import BadInput

KIB = 8 * 1024
FP32 = Bits()
HEADER = 'name = "own"\ntitle = "own"\nscope = "own"\ncovers = "own"\n'


def _counts(weights: int = 0, neurons: int = 0, steps: int = 1, **sums: float) -> OpCounts:
    rows = torch.tensor([[float(sums.get(q, 0))] for q in QUANTITIES], dtype=torch.float64)
    populations = {"LIF": NeuronCounts(neurons, float(neurons * steps), 6.0)} if neurons else {}
    by_step = (torch.zeros(steps, dtype=torch.float64),)
    return OpCounts(("layer",), (weights,), (0,), rows, rows**2, rows[:, 0] ** 2, by_step, populations, 1, steps)


def _level(counts: OpCounts) -> str:
    return hardware("horowitz-45nm-fp32-memory").memory_levels(counts)["weight"]


@pytest.mark.parametrize(
    "weights, level",
    [
        *((1, "8 KiB"), (8 * KIB // 32, "8 KiB"), (8 * KIB // 32 + 1, "32 KiB"), (32 * KIB // 32, "32 KiB")),
        *((32 * KIB // 32 + 1, "1 MiB"), (1024 * KIB // 32, "1 MiB"), (1024 * KIB // 32 + 1, "DRAM")),
    ],
)
def test_the_smallest_level_that_holds_the_model(weights, level):
    counts, pj = _counts(weights, acs=1), {"8 KiB": 5, "32 KiB": 10, "1 MiB": 50, "DRAM": 975}[level]
    assert _level(counts) == level
    energy = hardware("horowitz-45nm-fp32-memory").energy_pj(counts)
    assert energy.value == pytest.approx(0.9 + 3 * pj)
    assert (energy.low < energy.value < energy.high) == (level == "DRAM")
    if level == "DRAM":
        assert tuple(energy) == pytest.approx((0.9 + 3 * 975, 0.9 + 3 * 650, 0.9 + 3 * 1300))


def test_traffic_does_not_choose_the_level():
    few, many = _counts(100, acs=1, events=1), _counts(100, acs=1e12, events=1e12)
    assert _level(few) == _level(many) == "8 KiB"
    part = {
        n: hardware("horowitz-45nm-fp32-memory").breakdown_pj(c)["state memory"] for n, c in (("f", few), ("m", many))
    }
    assert part["m"].value == pytest.approx(1e12 * part["f"].value)


def test_the_size_of_the_model():
    """Weights, biases, states, and what enters and leaves the largest layer of values in one of its steps."""
    counts = replace(_counts(10, neurons=7, steps=4, value_inputs=4 * 20, outputs=4 * 5), biases=(3,))
    assert model_bits(counts, FP32) == 32 * (10 + 3 + 7 + 20 + 5)
    assert model_bits(counts, Bits(weight=8, bias=16, state=24, activation=4)) == 80 + 48 + 7 * 24 + 25 * 4
    events = _counts(10, neurons=7, steps=4, event_inputs=4 * 20, outputs=4 * 5)
    assert model_bits(events, FP32) == 32 * (10 + 7) + 20 * 1
    activations = replace(events, neurons={"ReLU": NeuronCounts(7, 0.0, 3.0)})
    assert model_bits(activations, FP32) == 32 * 10 + 20


def test_the_size_does_not_depend_on_the_samples():
    one = _counts(10, neurons=7, value_inputs=20, outputs=5)
    assert model_bits(one + one + one, FP32) == model_bits(one, FP32)


def test_traffic_by_the_default_rule():
    events = _counts(neurons=7, steps=2, acs=100, events=9, event_inputs=30, outputs=40, bias_adds=40)
    moved = traffic(events)
    assert {m: moved.total(m) for m in MOVEMENTS} == {
        **{"weight_reads": 100, "bias_reads": 40, "state_reads": 114, "state_writes": 114},
        **{"activation_reads": 0, "activation_writes": 0},
        **{"event_reads": 9, "event_writes": 6, "address_reads": 9, "address_writes": 6},
    }
    assert float(moved.per_layer["state_reads"]) == 100 and moved.neurons["state_reads"] == 14
    values = traffic(_counts(dense_macs=50, macs=20, value_inputs=10, outputs=5), Bits(weight=8, activation=4))
    assert (values.total("weight_reads"), values.total("activation_reads"), values.total("activation_writes")) == (
        *(50, 50),
        5,
    )
    assert (values.total_bits("weight_reads"), values.total_bits("activation_reads")) == (400, 200)
    sparse = traffic(_counts(dense_macs=50, macs=20, value_inputs=10, outputs=5), skips_zero_values=True)
    assert (sparse.total("weight_reads"), sparse.total("activation_reads")) == (20, 20)


def test_a_layer_shared_by_values_and_events_writes_its_share():
    moved = traffic(_counts(value_inputs=10, event_inputs=30, outputs=40))
    assert moved.total("activation_writes") == 10


def test_a_curve_is_linear_between_its_levels(tmp_path):
    """Three points, 0 -> 0, 8 KiB -> 10 and 32 KiB -> 20 pJ per 32 bits, and 50 beyond."""
    file = tmp_path / "own.toml"
    file.write_text(
        f'extends = "horowitz-45nm-fp32"\n{HEADER}[memory]\nmodel = "curve"\n'
        'beyond = { value = 50, unit = "pJ per 32 bits" }\nlevels = [\n'
        '{ name = "empty", bytes = 0, value = 0, unit = "pJ per 32 bits" },\n'
        '{ name = "8 KiB", bytes = 8192, value = 10, unit = "pJ per 32 bits" },\n'
        '{ name = "32 KiB", bytes = 32768, value = 20, unit = "pJ per 32 bits" },\n]\n'
    )
    for size, pj in ((0, 0), (4, 5), (8, 10), (20, 15), (32, 20), (32.01, 50), (1e6, 50)):
        counts = _counts(int(size * KIB / 32), acs=1)
        parts = hardware(file).breakdown_pj(counts)
        assert parts["weight memory"].value == pytest.approx(pj, rel=1e-3), size


def test_a_narrow_access_is_packed_and_a_price_per_access_is_not():
    flat = Memory("levels", levels=(Level("m", float("inf"), "m", 64),))
    whole = Memory("levels", levels=(Level("m", float("inf"), "m", None),))
    size = torch.tensor(1.0, dtype=torch.float64)
    assert [float(m.access_pj({"m": 10.0}, size, 8)) for m in (flat, whole)] == [1.25, 10]


def test_each_layer_can_have_memories_of_its_own(tmp_path):
    file = tmp_path / "own.toml"
    levels = '{ name = "small", bytes = 4, value = 1, unit = "pJ per access" }'
    file.write_text(
        f'extends = "horowitz-45nm-fp32"\n{HEADER}[memory.weight]\nmodel = "levels"\nsized_by = "array"\n'
        f'levels = [{levels}, {{ name = "large", value = 7, unit = "pJ per access" }}]\n'
    )
    rows = torch.zeros(len(QUANTITIES), 2, dtype=torch.float64)
    rows[QUANTITIES.index("acs")] = 1
    steps = (torch.zeros(1, dtype=torch.float64),) * 2
    counts = OpCounts(("a", "b"), (1, 2), (0, 0), rows, rows**2, rows.sum(1) ** 2, steps, {}, 1, 1)
    own = hardware(file)
    assert own.layer_energy_pj(counts).tolist() == pytest.approx([1.9, 7.9])
    assert own.memory_levels(counts) == {}


def test_static_power_is_paid_for_the_time_it_takes(tmp_path):
    file, text = tmp_path / "own.toml", f'extends = "truenorth"\n{HEADER}[static]\n'
    file.write_text(
        text
        + 'power = { value = 2, low = 1, high = 4, unit = "mW" }\nlatency = { value = 3, unit = "us per time step" }\n'
    )
    counts = _counts(steps=5, acs=1)
    assert tuple(hardware(file).breakdown_pj(counts)["static"]) == pytest.approx((30e3, 15e3, 60e3))
    assert tuple(hardware(file).energy_pj(counts + counts)) == pytest.approx((30e3 + 2.5, 15e3 + 2.5, 60e3 + 2.5))
    file.write_text(text + 'power = { value = 2, unit = "W" }\nlatency = { value = 3, unit = "ns per inference" }\n')
    assert hardware(file).breakdown_pj(counts)["static"].value == pytest.approx(6e3)
    file.write_text(text + 'power = { value = 2, unit = "W" }\n')
    with pytest.raises(BadInput, match="lacks latency"):
        hardware(file)
