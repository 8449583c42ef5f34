import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from picojoule.energy import OpCounts, count, hardware, hardware_names
from picojoule.energy.count import QUANTITIES, NeuronCounts
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.layers import AddTime, MeanReadout, Repeat
from picojoule.neurons import LIF

CONVERSIONS = Path(__file__).parents[2] / "results" / "conversion"


def two_layers(samples: int = 5) -> OpCounts:
    """Input (1, 0, 2) into 4 neurons that all fire at both steps, into 2 outputs with a bias.

    12 dense MACs, 8 of them with a non-zero value; 2 * 4 * 2 = 16 ACs; 2 * 4 neuron updates and events;
    3 values enter at one step, 4 leave; 2 * 2 biases are added; 12 + 2 * 8 synapses times steps.
    """
    model = nn.Sequential(AddTime(), nn.Linear(3, 4, bias=False), Repeat(2), LIF(), nn.Linear(4, 2), MeanReadout())
    nn.init.ones_(model[1].weight)  # pyright: ignore[reportArgumentType]
    x = torch.tensor([[1.0, 0.0, 2.0]]).repeat(samples, 1)
    counts = count(observe(model, x)(x)[1]).detach()
    known = ("dense_macs", "macs", "acs", "events", "outputs", "bias_adds", "synapses")
    assert [float(counts.total(q)) for q in known] == [12, 8, 16, 8, 8, 4, 28]
    return counts


def one_layer(neurons: dict[str, NeuronCounts], timesteps: int = 1, samples: int = 1, **sums: float) -> OpCounts:
    """Counts of one layer, given as sums over the samples."""
    rows = torch.tensor([[float(sums.get(q, 0))] for q in QUANTITIES], dtype=torch.float64)
    steps = (torch.zeros(timesteps, dtype=torch.float64),)
    return OpCounts(("layer",), (0,), (0,), rows, rows**2, rows[:, 0] ** 2, steps, neurons, samples, timesteps)


def _exactly(pj: float) -> tuple[float, float, float]:
    return pj, pj, pj


def _sram(macs: float, mac: float, ac: float, word: float) -> float:
    return macs * (mac + 2 * word) + 16 * (ac + 3 * word) + 8 * 2 * word


def _hierarchy(macs: float, mac: float, ac: float, bits: int) -> float:
    """All of it fits into 8 KiB, 10 pJ per 64 bits. A LIF update is a MAC, a bias an AC."""
    weights, biases, states, activations = macs + 16, 4, 2 * (16 + 8), macs + 4
    words = (weights + biases + states + activations) * bits
    addresses, events = (8 + 8) * 32, (8 + 8) * 1
    return macs * mac + (16 + 4) * ac + 8 * mac + (words + addresses + events) * 10 / 64


def _lemaire_operations(per_event: float) -> float:
    """12 MACs, 16 ACs, 8 outputs, 16 + 8 addresses, 8 spikes, 8 leaky updates."""
    return 12 * 3.2 + 16 * 0.1 + 8 * 0.1 + 16 * 0.1 + 8 * per_event + 8 * 0.1 + 8 * 3.2


def _fit(accesses: int, values: int) -> float:
    """Accesses to a memory of so many 32-bit values."""
    return accesses * (13.2 + 1.09e-5 * 32 * values)


LEMAIRE_FIT = (
    *(_fit(12, 12), _fit(12, 3), _fit(4, 4)),  # first layer: weights, inputs, outputs
    *(_fit(16, 8), _fit(4, 2), _fit(2 * 16, 2), _fit(8, 0)),  # second: weights, biases, potentials, events
    *(_fit(2 * 8, 4), _fit(8, 0)),  # neurons: potentials, events
)
LEMAIRE_WORDS = 5 * (12 + 12 + 4 + 16 + 4 + 2 * 16 + 8 + 2 * 8 + 8)


def _yan(mac: float, route: float) -> float:
    operations = 12 * mac + (16 + 8 + 8) * 0.05448
    return operations + (12 + 16) * 8 * 20 + (2 * 8 + 12 + 4) * 8 * 0.25 + 8 * route


def _both(of, *ends: float) -> tuple[float, float, float]:
    """Value and high at the second end, low at the first."""
    low, high = map(of, ends)
    return high, low, high


BY_HAND = {  # value, low, high in picojoules per sample
    "horowitz-45nm-fp32": _exactly(12 * 4.6 + 16 * 0.9),
    "horowitz-45nm-fp32-skip-zeros": _exactly(8 * 4.6 + 16 * 0.9),
    "horowitz-45nm-fp16": _exactly(12 * 1.5 + 16 * 0.4),
    "horowitz-45nm-int8": _exactly(12 * 0.23 + 16 * 0.03),
    "horowitz-45nm-int8-shift-add": _exactly(12 * 0.23 + 16 * 0.03),  # unit events: one bit each
    "horowitz-45nm-int32": _exactly(12 * 3.2 + 16 * 0.1),
    "horowitz-45nm-fp32-sram": _both(lambda word: _sram(12, 4.6, 0.9, word), 5, 50),
    "horowitz-45nm-fp32-skip-zeros-sram": _both(lambda word: _sram(8, 4.6, 0.9, word), 5, 50),
    "horowitz-45nm-int8-sram": _both(lambda word: _sram(12, 0.23, 0.03, word), 1.25, 12.5),
    "horowitz-45nm-fp32-memory": _exactly(_hierarchy(12, 4.6, 0.9, 32)),
    "horowitz-45nm-fp32-skip-zeros-memory": _exactly(_hierarchy(8, 4.6, 0.9, 32)),
    "horowitz-45nm-fp16-memory": _exactly(_hierarchy(12, 1.5, 0.4, 16)),
    "horowitz-45nm-int8-memory": _exactly(_hierarchy(12, 0.23, 0.03, 8)),
    "horowitz-45nm-int32-memory": _exactly(_hierarchy(12, 3.2, 0.1, 32)),
    "lemaire-2022-fit": _both(lambda event: _lemaire_operations(event) + sum(LEMAIRE_FIT), 0, 6.4),
    "lemaire-2022-words": _both(lambda event: _lemaire_operations(event) + LEMAIRE_WORDS, 0, 6.4),
    "yan-2024-22nm": _both(lambda mac: _yan(mac, 0.25), 0.05448, 0.45625),
    "yan-2024-22nm-sparse-routing": _both(lambda mac: _yan(mac, 3.0), 0.05448, 0.45625),
    "loihi": (16 * 23.6 + 8 * 3.5 + 8 * 81, 16 * 23.6 + 8 * 3 + 8 * 52, 16 * 23.6 + 8 * 4 + 8 * 81),
    "spinnaker": _exactly(16 * 13_300 + 8 * 26_000),
    "spinnaker2": _exactly(16 * 450 + 8 * 2190),
    "spinnaker2-survey": _exactly(16 * 10),
    "truenorth": _exactly(16 * 2.5),
    "keras-spiking-cpu": _exactly((28 + 8) * 8600),
    "keras-spiking-gpu": _exactly((28 + 8) * 300),
    "keras-spiking-arm": _exactly((28 + 8) * 900),
    "keras-spiking-loihi": _exactly(16 * 27.1 + 8 * 81),
}


def test_every_price_list_is_worked_out_by_hand_here():
    assert hardware_names() == sorted(BY_HAND)


@pytest.mark.parametrize("name", BY_HAND)
def test_energy_of_two_layers(name):
    assert tuple(hardware(name).energy_pj(two_layers())) == pytest.approx(BY_HAND[name], rel=1e-12)


@pytest.mark.parametrize("name", hardware_names())
def test_the_parts_add_up_to_the_whole(name):
    counts, prices = two_layers(), hardware(name)
    parts, whole = prices.breakdown_pj(counts), prices.energy_pj(counts)
    for bound in ("value", "low", "high"):
        assert sum(getattr(e, bound) for e in parts.values()) == pytest.approx(getattr(whole, bound), rel=1e-12)
    off_layers = prices.breakdown_pj(replace(counts, sums=torch.zeros_like(counts.sums)))
    layers = float(prices.layer_energy_pj(counts).sum())
    assert layers + sum(e.value for e in off_layers.values()) == pytest.approx(whole.value, rel=1e-9)


def test_the_parts_are_what_they_are_called():
    parts = hardware("loihi").breakdown_pj(two_layers())
    assert {k: e.value for k, e in parts.items() if e.value} == {
        "arithmetic": pytest.approx(16 * 23.6),
        "neurons": pytest.approx(8 * 81),
        "routing": pytest.approx(8 * 3.5),
    }
    assert tuple(parts["routing"]) == pytest.approx((28, 24, 32))
    memory = hardware("horowitz-45nm-fp32-sram").breakdown_pj(two_layers())
    assert [memory[f"{k} memory"].value for k in ("weight", "state", "activation", "event")] == [1400, 2400, 600, 0]


@pytest.mark.parametrize("name", hardware_names())
def test_energy_per_sample_does_not_depend_on_the_batch(name):
    one, two = two_layers(5), two_layers(2)
    for counts in (two, one + two, two_layers(1)):
        assert hardware(name).energy_pj(counts) == pytest.approx(hardware(name).energy_pj(one), rel=1e-12)


def test_the_energy_of_a_layer_has_a_gradient():
    counts = one_layer({}, acs=3)
    live = replace(counts, sums=counts.sums.requires_grad_())
    hardware("horowitz-45nm-fp32-memory").layer_energy_pj(live).sum().backward()
    gradient = live.sums.grad
    assert gradient is not None and gradient[QUANTITIES.index("acs")].item() == pytest.approx(0.9 + 3 * 5)


@pytest.mark.parametrize("name", hardware_names())
def test_a_price_list_says_what_it_is(name):
    h = hardware(name)
    assert h.name == name and h.title and h.scope and h.covers and h.node and h.source and h.mark
    assert h.basis in ("published figures", "analytical model", "simulated")
    for constant, price in h.constants.items():
        assert 0 <= price.low <= price.value <= price.high
        assert f"{price.value:g}" in h.prices and price.unit in h.prices, constant


@pytest.mark.parametrize("name", [n for n in hardware_names() if n.startswith("horowitz")])
def test_arithmetic_only_prices_nothing_else(name):
    parts = {k for k, e in hardware(name).breakdown_pj(two_layers()).items() if e.value}
    assert (parts == {"arithmetic"}) == (hardware(name).scope == "arithmetic only")


def test_prices_in_words():
    assert hardware("horowitz-45nm-fp32").prices == "4.6 pJ per MAC, 0.9 pJ per AC"
    assert hardware("horowitz-45nm-fp32-sram").prices.endswith("50 (5 to 50) pJ per 32 bits (memory)")
    assert "81 (52 to 81) pJ per neuron update" in hardware("loihi").prices
    assert "0.9 pJ per neuron update (IAF)" in hardware("horowitz-45nm-fp32-memory").prices


def test_hops_multiply_the_price_of_routing():
    far = replace(hardware("loihi"), hops=4)
    assert far.breakdown_pj(two_layers())["routing"].value == pytest.approx(8 * 3.5 * 4)


def test_an_operation_without_a_price_is_reported():
    (sentence,) = hardware("loihi").unpriced(two_layers())
    assert sentence == "12 MACs per sample: loihi gives no price for them"
    assert hardware("truenorth").unpriced(one_layer({}, acs=1)) == ()
    for name in ("horowitz-45nm-fp32", "keras-spiking-cpu"):
        assert hardware(name).unpriced(two_layers()) == ()


@pytest.mark.parametrize(
    "neurons",
    [{"LIF": NeuronCounts(128, 128.0, 0.0)}, {"ReLU": NeuronCounts(128, 0.0, 70.0)}],
    ids=["spiking", "activations"],
)
def test_the_example_of_keras_spiking(neurons, tmp_path):
    """Its documentation: a dense layer 784 -> 128 for one step, 100352 connections and 128 neurons."""
    counts = one_layer(neurons, synapses=784 * 128, dense_macs=784 * 128)
    assert hardware("keras-spiking-cpu").energy_pj(counts).value * 1e-12 == pytest.approx(8.64e-4, rel=1e-3)
    own = tmp_path / "own.toml"
    own.write_text(
        'extends = "keras-spiking-cpu"\nname = "own"\ntitle = "own"\nscope = "own"\ncovers = "own"\n'
        'prices.synapse = { value = 1e-10, unit = "J per synapse" }\n'
        'neurons.default = { value = 2e-9, unit = "J per neuron update" }\n'
    )
    assert hardware(own).energy_pj(counts).value * 1e-12 == pytest.approx(1.03e-5, rel=2e-3)
    steps = replace(counts, timesteps=10, sums=10 * counts.sums, neurons=_longer(neurons, 10))
    assert hardware("keras-spiking-cpu").energy_pj(steps).value * 1e-12 == pytest.approx(8.64e-3, rel=1e-3)


def _longer(neurons: dict[str, NeuronCounts], steps: int) -> dict[str, NeuronCounts]:
    return {k: NeuronCounts(n.number, steps * n.updates, steps * n.events) for k, n in neurons.items()}


@pytest.mark.parametrize("name, access", [("lemaire-2022-fit", _fit), ("lemaire-2022-words", lambda n, values: 5 * n)])
@pytest.mark.parametrize("kind, per_update", [("LIF", 3.2), ("IAF", 0.0)])
def test_the_terms_of_lemaire_for_a_spiking_convolution(name, access, kind, per_update):
    """3x3, 2 -> 4 channels, no padding, 6x6 -> 4x4, T = 3, 10 spikes in the middle (fan-out 9 * 4), 7 sent."""
    theta, sent, outputs = 10, 7, 3 * 4 * 4 * 4
    synaptic = theta * 9 * 4
    counts = replace(
        one_layer(
            {kind: NeuronCounts(64, outputs, sent)},
            timesteps=3,
            **{"acs": synaptic, "synapses": 3 * 64 * 18, "events": theta, "event_inputs": 3 * 72},
            **{"outputs": outputs, "bias_adds": outputs},
        ),
        weights=(4 * 2 * 9,),
        biases=(4,),
    )
    operations = (synaptic + outputs + sent) * 0.1 + outputs * per_update
    addresses = 2 * theta * 3.2 + synaptic * 0.1
    memory = access(theta, 0) + access(synaptic, 72) + access(outputs, 4) + access(sent, 0)
    memory += 2 * access(synaptic + outputs, 64)
    assert hardware(name).energy_pj(counts).value == pytest.approx(operations + addresses + memory, rel=1e-12)


@pytest.mark.parametrize("name, access", [("lemaire-2022-fit", _fit), ("lemaire-2022-words", lambda n, values: 5 * n)])
def test_the_terms_of_lemaire_for_a_dense_layer_of_values(name, access):
    """20 -> 5 with biases: weights and inputs per MAC, biases, outputs."""
    sums = {"dense_macs": 100, "macs": 60, "synapses": 100, "active_values": 12, "value_inputs": 20, "outputs": 5}
    counts = replace(one_layer({}, **sums, bias_adds=5), weights=(100,), biases=(5,))
    memory = access(100, 100) + access(100, 20) + access(5, 5) + access(5, 5)
    assert hardware(name).energy_pj(counts).value == pytest.approx(100 * 3.2 + 5 * 0.1 + memory, rel=1e-12)


def test_yan_gives_the_crossover_of_its_reproduction():
    """256-128-10 at T = 5: below 7.50 % spikes the network costs less than a 3-bit one (its numbers, at rate s).

    The reproduction does not route events, and gives the readout a state; at these prices the two move nothing.
    """

    def spiking(s: float) -> float:
        acs, events = 5 * s * (256 * 128 + 128 * 10), 5 * s * (256 + 128)
        neurons = {"LIF": NeuronCounts(138, 5 * 138, 5 * s * 128)}
        return hardware("yan-2024-22nm").energy_pj(one_layer(neurons, 5, acs=acs, events=events, event_inputs=1)).value

    bits = 3
    mac = 3.7 * (bits / 32) ** 2 + 0.9 * bits / 32
    network = 34048 * (mac + bits * 20) + 138 * 2 * 0.05448 + 394 * bits * 0.25
    crossover = (network - spiking(0)) / (spiking(1) - spiking(0))
    assert crossover == pytest.approx(0.0750, abs=0.00005)


def test_unknown_hardware():
    with pytest.raises(BadInput, match="did you mean 'horowitz-45nm-fp32'"):
        hardware("horowitz-45-fp32")
    with pytest.raises(BadInput, match="unknown constant 'a'; did you mean 'ac'"):
        hardware("horowitz-45nm-fp32").with_constant("a", 1)


@pytest.mark.parametrize("name", hardware_names())
def test_running_totals_are_priced_like_counts(name):
    counts, listed = two_layers(), hardware(name)
    totals = {quantity: float(counts.total(quantity)) for quantity in QUANTITIES}
    assert listed.arithmetic_pj(totals) == pytest.approx(listed.breakdown_pj(counts)["arithmetic"].value)


def test_totals_that_a_price_lacks_are_named():
    assert hardware("horowitz-45nm-fp32").arithmetic_pj({"dense_macs": 12.5, "acs": 3.25}) == 12.5 * 4.6 + 3.25 * 0.9
    with pytest.raises(BadInput, match="horowitz-45nm-fp32-skip-zeros prices macs, got totals of dense_macs, acs only"):
        hardware("horowitz-45nm-fp32-skip-zeros").arithmetic_pj({"dense_macs": 12.0, "acs": 3.0})


def test_recorded_conversions_are_priced_like_this_to_the_bit():
    lines = [line for file in sorted(CONVERSIONS.glob("*.jsonl")) for line in file.read_text().splitlines()]
    priced = [r for r in map(json.loads, lines) if "conversion" in r and "form" not in r["conversion"]["chosen"]]
    points = [(r["hardware"], p) for r in priced for p in r["conversion"]["snn"]]
    assert len(points) >= 6
    for name, p in points:
        dense = p.get("dense_macs", p["macs"])  # older records have no other
        assert hardware(name).arithmetic_pj({"dense_macs": dense, "acs": p["acs"]}) == p["energy_pj"]
