import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.data import Dataset, Split
from picojoule.energy import QUANTITIES, OpCounts, count, hardware, hardware_names
from picojoule.energy.baselines import baselines, dense_ann, int8_prices, matched_bits, sparse_ann
from picojoule.energy.count import NeuronCounts
from picojoule.energy.crossover import crossover, firing_rate, with_events_scaled, yan_crossover, yan_rule
from picojoule.energy.health import Health, health_of
from picojoule.errors import BadInput
from picojoule.experiment.evaluate import evaluate
from picojoule.graph import observe
from picojoule.layers import AddTime, MeanReadout, Repeat
from picojoule.networks import Definition, build
from picojoule.neurons import LIF, Diffused

FP32 = "horowitz-45nm-fp32"
MAC, AC, MAC8 = 4.6, 0.9, 0.23  # Horowitz 2014


def _counts(acs: float = 60.0, steps: int = 4, samples: int = 3, neurons: int = 20) -> OpCounts:
    """Per sample: 10 values (6 non-zero) into 20 neurons, once; their events at `steps` steps into 5 outputs.

    200 MACs (120 with a non-zero value); 100 synapses, and `acs / 5` events of 20 neurons.
    """
    first = {"macs": 120, "dense_macs": 200, "synapses": 200, "active_values": 6, "value_inputs": 10, "outputs": 20}
    events = {"acs": acs, "graded_events": acs, "dense_acs": 100 * steps, "synapses": 100 * steps}
    second = events | {"events": acs / 5, "event_inputs": 20 * steps, "outputs": 5 * steps, "bias_adds": 5 * steps}
    means = torch.tensor([[float(layer.get(q, 0)) for layer in (first, second)] for q in QUANTITIES]).double()
    return OpCounts(
        ("first", "second"),
        (200, 100),
        (0, 5),
        means * samples,
        means**2 * samples,
        means.sum(1) ** 2 * samples,
        (torch.tensor([120.0 * samples]), torch.full((steps,), acs * samples / steps)),
        {"LIF": NeuronCounts(neurons, float(neurons * steps * samples), acs / 5 * samples)},
        samples,
        steps,
    )


def _snn(steps: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        AddTime(),
        nn.Linear(6, 8),
        Repeat(steps),
        LIF(0.9, 0.3),
        nn.Linear(8, 7),
        LIF(0.9, 0.2),
        nn.Linear(7, 4),
        MeanReadout(),
    )


def _observed(model: nn.Module, x: torch.Tensor) -> tuple[OpCounts, tuple[Health, ...]]:
    with torch.no_grad():
        activity = observe(model.eval(), x)(x)[1]
    health = tuple(
        health_of(
            n.name, n.neuron, n.events, n.steps, len(x),
            active=n.active, fired=n.fired, multiple=n.multiple, spiking=n.updates > 0,
        )
        for n in activity.neurons
    )  # fmt: skip
    return count(activity), health


def test_baselines_by_hand():
    """4 steps: 3 bits. Dense 300 MACs; sparse 120 + 100 d; the model 200 MACs and 60 ACs."""
    found = baselines(_counts(), FP32, ann_density=0.3)
    by_hand = {
        "dense-ann": 300 * MAC,
        "sparse-ann": (120 + 30) * MAC,
        "int8-ann": 300 * MAC8,
        "bit-matched-ann": (200 + 100 * 3 / 8) * MAC8,
    }
    assert {name: b.energy.value for name, b in found.items()} == pytest.approx(by_hand)
    model = 200 * MAC + 60 * AC
    assert {name: b.ratio for name, b in found.items()} == pytest.approx({k: model / e for k, e in by_hand.items()})
    assert {name: b.macs for name, b in found.items()} == pytest.approx(
        {"dense-ann": 300, "sparse-ann": 150, "int8-ann": 300, "bit-matched-ann": 300}
    )
    assert [b.hardware for b in found.values()] == [FP32, FP32, "horowitz-45nm-int8", "horowitz-45nm-int8"]
    assert "density 0.3 as given" in found["sparse-ann"].note
    assert "3-bit" in found["bit-matched-ann"].note and found["bit-matched-ann"].title == "bit-matched 3-bit ANN"


def test_where_the_density_comes_from():
    twelve_events_of_twenty = baselines(_counts(), FP32)["sparse-ann"]
    assert twelve_events_of_twenty.macs == pytest.approx(120 + 100 * 12 / 20)
    assert "events per input and sample" in twelve_events_of_twenty.note
    assert baselines(_counts(acs=300), FP32)["sparse-ann"].macs == 220  # 60 events of 20 neurons: no more than all
    fired = torch.tensor([3.0, 0.0, 0.0, 3.0])
    spiking = health_of("a", "LIF", fired, 4, 3, active=fired, fired=fired, multiple=0 * fired)
    analog = health_of("b", "ReLU", fired + 1, 4, 3, active=fired, fired=fired + 1, multiple=0 * fired, spiking=False)
    by_proxy = baselines(_counts(), FP32, health=(spiking, analog))["sparse-ann"]
    assert by_proxy.macs == 120 + 100 * 0.5 and "fired at least once" in by_proxy.note
    assert baselines(_counts(), FP32, health=(spiking,), ann_density=0.2)["sparse-ann"].macs == 140


def test_a_list_that_skips_zeros_changes_no_baseline():
    """The dense ANN has no zeros to skip; the sparse one skips them on any list."""
    a, b = (baselines(_counts(), name, ann_density=0.3) for name in (FP32, FP32 + "-skip-zeros"))
    assert {k: v.energy for k, v in a.items()} == {k: v.energy for k, v in b.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (FP32, "horowitz-45nm-int8"),
        (FP32 + "-skip-zeros", "horowitz-45nm-int8"),
        (FP32 + "-sram", "horowitz-45nm-int8-sram"),
        (FP32 + "-skip-zeros-sram", "horowitz-45nm-int8-sram"),
        ("horowitz-45nm-int8-sram", "horowitz-45nm-int8-sram"),
        (FP32 + "-skip-zeros-memory", "horowitz-45nm-int8-memory"),
        ("horowitz-45nm-int32", "horowitz-45nm-int8"),
        ("yan-2024-22nm", "yan-2024-22nm"),
        ("lemaire-2022-words", "horowitz-45nm-int8-memory"),
        ("loihi", "horowitz-45nm-int8-memory"),
        ("keras-spiking-cpu", "horowitz-45nm-int8-memory"),
    ],
)
def test_the_int8_counterpart(name, expected):
    assert int8_prices(hardware(name)).name == expected
    found = baselines(_counts(), name)
    beside = expected.partition("-")[0] != name.partition("-")[0]
    assert found["int8-ann"].hardware == found["bit-matched-ann"].hardware == expected
    assert ("compare with care" in found["int8-ann"].note) == beside


def test_bit_matching_keeps_the_weights():
    """With memory: 8-bit weights are read as in the int8 ANN, 3-bit activations at 3/8 of it."""
    found = baselines(_counts(), FP32 + "-sram")
    saved = found["int8-ann"].energy.value - found["bit-matched-ann"].energy.value
    assert saved == pytest.approx(100 * (MAC8 + 12.5) * 5 / 8)
    assert found["int8-ann"].energy.value == pytest.approx(300 * (MAC8 + 2 * 12.5))
    low = found["int8-ann"].energy.low - found["bit-matched-ann"].energy.low
    assert low == pytest.approx(100 * (MAC8 + 1.25) * 5 / 8)


def test_bit_matching_with_weights_from_dram():
    """Yan's prices: a MAC reads 8 + 3 bits instead of 8 + 8; the outputs of the second layer are narrower too."""
    found = baselines(_counts(), "yan-2024-22nm")
    saved = found["int8-ann"].energy.value - found["bit-matched-ann"].energy.value
    mac, bit = hardware("yan-2024-22nm").constants["mac"].value, 0.25
    reads = hardware("yan-2024-22nm").traffic(dense_ann(_counts())).per_layer
    moved = float(reads["activation_reads"][1] + reads["activation_writes"][1])
    assert saved == pytest.approx(100 * mac * 5 / 8 + moved * 5 * bit)


@pytest.mark.parametrize("name", ["loihi", "truenorth", "spinnaker2"])
def test_a_list_without_a_price_for_macs_prices_no_ann(name):
    found = baselines(_counts(), name)
    assert list(found) == ["int8-ann", "bit-matched-ann"]
    assert "not in the model's energy: 200 MACs per sample" in found["int8-ann"].note
    crossings = crossover(_counts(), name)
    assert list(crossings) == list(found)
    assert all(c.sentence.endswith("(its MACs or ACs are not all priced)") for c in crossings.values())


def test_a_device_that_pays_every_synapse_at_every_step():
    """KerasSpiking's cpu: 600 synapses and 80 updates of the model, 300 and 20 of the ANN; events are free."""
    found = baselines(_counts(), "keras-spiking-cpu")["dense-ann"]
    assert found.energy.value == pytest.approx((300 + 20) * 8600)
    assert found.ratio == pytest.approx((600 + 80) / (300 + 20))
    crossing = crossover(_counts(), "keras-spiking-cpu")["dense-ann"]
    assert crossing.rate is None and "and loses; no rate wins" in crossing.sentence


@pytest.mark.parametrize("steps", [*range(1, 40), 255, 256, 1023, 1024])
def test_matched_bits(steps):
    bits = matched_bits(steps)
    assert 2**bits >= steps + 1 > 2 ** (bits - 1)
    assert bits == math.ceil(math.log2(steps + 1))


def test_one_time_step():
    found = baselines(_counts(steps=1), FP32)
    assert found["bit-matched-ann"].energy.value == pytest.approx((200 + 100 / 8) * MAC8)
    assert found["dense-ann"].macs == 300


def test_counts_of_a_network_against_layers_by_hand():
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(1))
    x[:, 0] = 0
    counts, health = _observed(_snn(), x)
    dense = dense_ann(counts)
    assert dense.per_layer("dense_macs").tolist() == dense.per_layer("macs").tolist() == [48, 56, 28]
    assert dense.per_layer("value_inputs").tolist() == [6, 8, 7] and float(dense.total("acs")) == 0
    assert dense.per_layer("outputs").tolist() == dense.per_layer("bias_adds").tolist() == [8, 7, 4]
    assert dense.neurons == {"ReLU": NeuronCounts(15, 0.0, 75.0)} and dense.updates == {}
    sparse = sparse_ann(counts, 0.5)
    assert sparse.per_layer("macs").tolist() == [40, 28, 14]
    assert sparse.per_layer("active_values").tolist() == [5, 4, 3.5]
    assert sparse.neurons["ReLU"].events == pytest.approx(75 * 12.5 / 21)
    fired = sum(h.neurons * (h.fired_fraction or 0) for h in health) / 15
    assert 0 < fired < 1
    assert baselines(counts, FP32, health=health)["sparse-ann"].macs == pytest.approx(40 + fired * 84)


def test_the_dense_baseline_is_what_the_ann_itself_measures():
    """The same layers with ReLU: its dense MACs, and its own zeros."""
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(1))
    snn, (a, b, c) = _snn(), [m for m in _snn() if isinstance(m, nn.Linear)]
    ann, _ = _observed(nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c), x)
    counts, _ = _observed(snn, x)
    assert dense_ann(counts).per_layer("macs").tolist() == ann.per_layer("dense_macs").tolist()
    own = baselines(ann, FP32)
    assert own["dense-ann"].ratio == 1
    assert own["sparse-ann"].macs == float(ann.total("macs")) and own["sparse-ann"].note.endswith("own zeros")
    assert baselines(ann, FP32 + "-skip-zeros")["sparse-ann"].ratio == pytest.approx(1)


def test_a_layer_called_twice_in_one_step_is_called_twice_by_the_ann():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x).relu())

    counts, _ = _observed(Tied(), torch.rand(3, 4))
    assert len(counts.by_step[0]) == 2 and float(dense_ann(counts).total("macs")) == 32


def test_events_without_any_population():
    x = (torch.rand(5, 3, 8, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    from picojoule.kinds import Events

    with torch.no_grad():
        counts = count(observe(nn.Linear(8, 4), x, Events(most=1), batch_dim=1)(x)[1])
    found = baselines(counts, FP32)
    assert found["dense-ann"].macs == 32 and found["bit-matched-ann"].title == "bit-matched 3-bit ANN"
    assert firing_rate(counts) == pytest.approx(float(x.mean()))


def test_presentations():
    found = [baselines(_counts(), FP32, ann_density=0.5, presentations=n) for n in (1, 2, 4, 9)]
    assert [f["dense-ann"].macs for f in found] == [300, 400, 600, 600]  # the first layer runs once, the second 4 times
    assert [f["sparse-ann"].macs for f in found] == [170, 220, 320, 320]
    assert "2 times" in found[1]["dense-ann"].note
    dense = dense_ann(_counts(), 2)
    assert dense.timesteps == 2 and dense.neurons["ReLU"].events == 20 * 3 * 2


def test_bits_and_density_of_an_ann_that_sees_several_steps():
    """60 of the second layer's 400 products meet an event; 1, 2 and 4 presentations have 4, 2 steps and 1 each."""
    found = [baselines(_counts(), FP32, presentations=n, step_bits=6) for n in (1, 2, 4)]
    assert [f["bit-matched-ann"].title for f in found] == [f"bit-matched {n}-bit ANN" for n in (3, 2, 6)]
    assert [f["sparse-ann"].macs for f in found[1:]] == [pytest.approx(120 + 60)] * 2
    assert "share of products with an event" in found[1]["sparse-ann"].note


@pytest.mark.parametrize("name", ["lmu-6x4", "lstm-5", "gru-5"])
def test_an_ann_of_a_recurrent_network_sees_every_step(name):
    """The same graph without quantisers makes exactly the multiplications of the dense baseline."""
    definition = Definition(name, (2,), 3, timesteps=9, encoder="none", readout="last-step")
    torch.manual_seed(0)
    hybrid, x = build(definition, lambda: Diffused("identity", 3.0)), torch.rand(4, 9, 2)
    ann = pj.measure(build(definition, nn.ReLU), [x])
    found = pj.measure(hybrid, [x])
    macs = float(ann.counts.total("dense_macs"))
    assert found.presentations == 9 and found.baselines["dense-ann"].macs == macs
    assert ann.baselines["dense-ann"].macs == macs
    bits = math.ceil(found.to_dict()["bits"]["activity_bits"])
    assert found.baselines["bit-matched-ann"].title == f"bit-matched {bits}-bit ANN" and bits > 1
    split = Split((x * 255).byte(), torch.zeros(4, dtype=torch.int64))
    data = Dataset("made-up", split, split, split, 3, 255, "All.", "", "", "")
    recorded = evaluate(observe(hybrid, x), split, data, torch.device("cpu"), [FP32])
    assert recorded.baselines["dense-ann"].macs == macs
    assert pj.measure(hybrid, [x], presentations=1).baselines["dense-ann"].macs < macs


@pytest.mark.parametrize("name", hardware_names())
def test_batches_change_nothing(name):
    x = torch.rand(12, 6, generator=torch.Generator().manual_seed(1))
    whole, health = _observed(_snn(), x)
    parts = [_observed(_snn(), part)[0] for part in x.split(5)]
    split = parts[0] + parts[1] + parts[2]
    a, b = (baselines(c, name, health=health) for c in (whole, split))
    twice = baselines(whole + whole, name, health=health)
    for other in (b, twice):
        assert {k: tuple(v.energy) for k, v in other.items()} == {
            k: pytest.approx(tuple(v.energy)) for k, v in a.items()
        }
        assert {k: v.ratio for k, v in other.items()} == pytest.approx({k: v.ratio for k, v in a.items()})
    first, second = (crossover(c, name, a) for c in (whole, split))
    assert {k: v.sentence for k, v in first.items()} == {k: v.sentence for k, v in second.items()}


def test_counts_of_a_baseline_add_up_and_have_a_spread():
    dense = dense_ann(_counts())
    assert float((dense + dense).total("macs")) == 300 and dense.total_sd("macs") == 0
    assert [s.tolist() for s in dense.by_step] == [[600.0], [300.0]]
    assert [s.tolist() for s in dense_ann(_counts(), 2).by_step] == [[600.0], [300.0, 300.0]]


@pytest.mark.parametrize(("options", "message"), [
    ({"ann_density": 0.0}, "ann_density in"),
    ({"ann_density": 1.1}, "ann_density in"),
    ({"ann_density": float("nan")}, "ann_density in"),
    ({"presentations": 0}, "presentations of at least 1"),
])  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(BadInput, match=message):
        baselines(_counts(), FP32, **options)


def test_bad_input():
    with pytest.raises(BadInput, match="did you mean 'horowitz-45nm-fp32'"):
        baselines(_counts(), "horowitz-45-fp32")
    with pytest.raises(BadInput, match="0 samples"):
        baselines(replace(_counts(), samples=0), FP32)
    with pytest.raises(BadInput, match="at least one time step"):
        matched_bits(0)
    with pytest.raises(BadInput, match="at least 1 bit"):
        yan_rule(5, 0)
    with pytest.raises(BadInput, match="at least two layers"):
        yan_crossover(5, (256,))


def test_a_price_list_may_be_given_itself():
    assert baselines(_counts(), hardware(FP32)) == baselines(_counts(), FP32)
    assert crossover(_counts(), hardware(FP32)) == crossover(_counts(), FP32)


def test_crossover_by_hand():
    """12 events of 20 neurons in 4 steps: 15 %. Equal to the dense ANN at 100 MACs = x * 60 ACs."""
    found = crossover(_counts(), FP32, baselines(_counts(), FP32, ann_density=0.3))
    dense = found["dense-ann"]
    scale = 100 * MAC / (60 * AC)
    assert dense.model_rate == pytest.approx(0.15) and dense.margin == pytest.approx(scale)
    assert dense.rate == pytest.approx(0.15 * scale) == pytest.approx(dense.low) == pytest.approx(dense.high)
    assert dense.sentence == (
        "at 15 % the SNN uses 0.706 times the energy of the dense ANN and wins; "
        "it wins at any rate up to one event per neuron and step"
    )
    for name in ("sparse-ann", "int8-ann", "bit-matched-ann"):  # the first layer alone costs 920 pJ
        assert (found[name].rate, found[name].margin, found[name].low) == (None, None, None)
    assert found["int8-ann"].sentence == (
        "at 15 % the SNN uses 14.1 times the energy of the int8 ANN and loses; "
        "no rate wins: without a single event it uses 13.3 times"
    )


def test_a_model_that_loses_now_and_would_win_below_its_rate():
    """int8 beside int8: 320 ACs cost 9.6 pJ, the 3-bit MACs 8.625 pJ."""
    found = crossover(_counts(acs=320), "horowitz-45nm-int8")["bit-matched-ann"]
    scale = 100 * MAC8 * 3 / 8 / (320 * 0.03)
    assert found.model_rate == pytest.approx(0.8) and found.rate == pytest.approx(0.8 * scale)
    assert found.margin == pytest.approx(scale) and scale < 1
    assert found.sentence == (
        "at 80 % the SNN uses 1.02 times the energy of the bit-matched 3-bit ANN and loses; it would win below 71.9 %"
    )


def test_the_interval_of_a_crossover_holds_every_price():
    counts, name = _counts(acs=100), "horowitz-45nm-int8-sram"
    found = crossover(counts, name)["dense-ann"]
    now, none = hardware(name).energy_pj(counts), hardware(name).energy_pj(with_events_scaled(counts, 0))
    other = baselines(counts, name)["dense-ann"].energy
    rates = [0.25 * (b - e0) / (e1 - e0) for e1, e0, b in zip(now, none, other, strict=True)]
    assert found.low == pytest.approx(min(rates)) and found.high == pytest.approx(max(rates))
    assert found.low is not None and found.high is not None and found.low < found.high


@pytest.mark.parametrize("name", hardware_names())
def test_energy_is_affine_in_the_rate_and_equal_at_the_crossover(name):
    x = torch.rand(6, 6, generator=torch.Generator().manual_seed(2))
    counts, health = _observed(_snn(), x)
    prices = hardware(name)
    at = [prices.energy_pj(with_events_scaled(counts, f)).value for f in (0, 0.25, 0.5, 1, 2)]
    assert at == sorted(at) and (at[0] < at[-1]) == ("ac" in prices.constants)
    assert at == pytest.approx([at[0] + f * (at[3] - at[0]) for f in (0, 0.25, 0.5, 1, 2)])
    assert prices.energy_pj(with_events_scaled(counts, 1)) == prices.energy_pj(counts)
    against = baselines(counts, name, health=health)
    found = crossover(counts, name, against)
    assert list(found) == list(against)
    for key, c in found.items():
        baseline = against[key].energy.value
        if c.margin is None:
            assert (at[0] >= baseline) == ("no rate wins" in c.sentence)
            assert at[0] >= baseline or at[0] == at[-1]
        else:
            assert prices.energy_pj(with_events_scaled(counts, c.margin)).value == pytest.approx(baseline)
        assert ("and loses" in c.sentence) == (at[3] > baseline)


def test_scaling_events_leaves_values_alone():
    half = with_events_scaled(_counts(), 0.5)
    assert [float(half.total(q)) for q in ("acs", "graded_events", "events")] == [30, 30, 6]
    assert [float(half.total(q)) for q in ("macs", "dense_macs", "dense_acs", "synapses")] == [120, 200, 400, 600]
    assert half.neurons["LIF"] == NeuronCounts(20, 240.0, 18.0) and half.total_sd("acs") == 0
    assert [float(s.sum()) for s in half.by_step] == [360, 90] and firing_rate(half) == pytest.approx(0.075)
    hybrid = replace(_counts(), neurons={"ReLU": NeuronCounts(5, 0.0, 9.0)})
    assert with_events_scaled(hybrid, 0.5).neurons == hybrid.neurons


def test_a_model_without_event_layers():
    counts, _ = _observed(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(3, 6))
    assert "bit-matched-ann" not in baselines(counts, FP32)
    found = crossover(counts, FP32)["dense-ann"]
    assert (found.model_rate, found.rate, found.margin) == (None, None, None)
    assert found.sentence == (
        "the model uses 1 times the energy of the dense ANN; no layer receives events, so no firing rate changes that"
    )
    unheard, _ = _observed(nn.Sequential(AddTime(), nn.Linear(6, 4), Repeat(3), LIF(), MeanReadout()), torch.rand(3, 6))
    assert crossover(unheard, FP32)["dense-ann"].rate is None and firing_rate(unheard) is None


def test_a_silent_model():
    found = crossover(_counts(acs=0), FP32)["dense-ann"]
    assert found.model_rate == 0 and found.rate is None
    assert found.sentence.endswith("and wins; it sent no event")


def test_plain_data():
    found = baselines(_counts(), FP32, ann_density=0.3)
    text = json.dumps({k: b.to_dict() for k, b in found.items()}, allow_nan=False)
    energy = json.loads(text)["dense-ann"]["energy_pj"]
    assert energy == {k: pytest.approx(1380) for k in ("value", "low", "high")}
    crossovers = {k: c.to_dict() for k, c in crossover(_counts(), FP32, found).items()}
    rates = {k: c["rate"] for k, c in json.loads(json.dumps(crossovers, allow_nan=False)).items()}
    assert rates["int8-ann"] is None and rates["dense-ann"] == pytest.approx(0.15 * 460 / 54)


PUBLISHED = {  # Spyx, research/new/honest_energy_accounting/honest_energy_results.json, commit 158b1362
    5: 0.0750292677297796,
    6: 0.06250729434889529,
    7: 0.05356302764826365,
    8: 0.06251846702744747,
    9: 0.055560573740450384,
    10: 0.04999425911085272,
}


@pytest.mark.parametrize("steps", PUBLISHED)
def test_the_published_crossover_of_256_128_10(steps):
    assert yan_crossover(steps) == pytest.approx(PUBLISHED[steps], rel=1e-12)
    rounded = {5: 7.50, 6: 6.25, 7: 5.36, 8: 6.25, 9: 5.56, 10: 5.00}[steps]
    assert round(100 * yan_crossover(steps), 2) == round(100 * yan_rule(steps), 2) == rounded


def test_the_published_energies_of_256_128_10():
    """T = 5, 34,048 synapses: at the crossover both cost what the study reports for its 3-bit network."""
    events = 34048 * 5 * yan_crossover(5)
    fixed = 5 * (128 * 0.05448 + 138 * 8 * 2 * 0.25) + 128 * 5 * yan_crossover(5) * 0.05448
    assert events * (0.05448 + 8 * 20) + fixed == pytest.approx(2047170.56148, rel=1e-9)


def test_the_rule_by_counting_bits():
    """Weight bits alone: an event moves 8 bits, a MAC of the b-bit network b bits."""
    synapses, steps = 256 * 128 + 128 * 10, 7
    rate = yan_rule(steps)
    assert rate * steps * synapses * 8 == pytest.approx(3 * synapses)
    mean = sum(100 * yan_rule(t) for t in range(5, 11)) / 6
    assert mean == pytest.approx(5.99, abs=0.005)
    assert [yan_rule(t, matched_bits(t)) for t in (5, 10)] == pytest.approx([1 / 5, 1 / 10])
    assert yan_rule(1) == 1 / 8


def test_the_rule_is_the_limit_of_large_layers():
    far, near = (abs(yan_crossover(6, (n, n, n)) - yan_rule(6)) for n in (4, 4096))
    assert near < far and near == pytest.approx(0, abs=1e-4)


def _chain(steps: int, rate: float) -> OpCounts:
    """256-128-10, inputs and hidden neurons sending unit events at `rate`."""
    rows = []
    for inputs, outputs in ((256, 128), (128, 10)):
        dense = {"dense_acs": inputs * outputs * steps, "synapses": inputs * outputs * steps}
        sent = {"acs": rate * steps * inputs * outputs, "events": rate * steps * inputs}
        rows.append(dense | sent | {"event_inputs": inputs * steps, "outputs": outputs * steps})
    means = torch.tensor([[float(row.get(q, 0)) for row in rows] for q in QUANTITIES]).double()
    by_step = tuple(torch.full((steps,), float(a) / steps) for a in means[QUANTITIES.index("acs")])
    neurons = {"IF": NeuronCounts(128, 128.0 * steps, rate * steps * 128)}
    squares = (means**2, means.sum(1) ** 2)
    return OpCounts(("0", "1"), (32768, 1280), (0, 0), means, *squares, by_step, neurons, 1, steps)


@pytest.mark.parametrize("steps", PUBLISHED)
def test_counted_and_priced_the_rule_comes_out_again(steps):
    """Weights from DRAM: 1/T with 8-bit weights on both sides, the rule with b-bit weights in the quantised network."""
    counts, prices = _chain(steps, 0.05), hardware("yan-2024-22nm")
    bits = matched_bits(steps)
    assert prices.bits is not None
    narrow = replace(prices, bits=prices.bits._replace(weight=bits, activation=bits))
    ours = baselines(counts, prices)["bit-matched-ann"]
    theirs = replace(ours, energy=narrow.energy_pj(dense_ann(counts)))
    found = crossover(counts, prices, {"ours": ours, "theirs": theirs})
    assert found["ours"].rate == pytest.approx(1 / steps, rel=0.01)
    assert found["theirs"].rate == pytest.approx(yan_rule(steps), rel=0.02)
