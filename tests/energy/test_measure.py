import copy

import pytest
import torch
from torch import nn

from picojoule.energy import QUANTITIES, count, hardware_names, measure
from picojoule.energy.tally import Tally
from picojoule.errors import BadInput, UncountedLayer
from picojoule.graph import observe
from picojoule.kinds import Events
from picojoule.layers import AddTime, MeanReadout, Repeat, SpikeCount
from picojoule.networks import Definition, build
from picojoule.neurons import LIF


def _model(name: str = "small-cnn") -> nn.Module:
    torch.manual_seed(0)
    return build(Definition(name, (1, 8, 8), 10, timesteps=2), LIF)


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(3)
    return torch.rand(12, 1, 8, 8, generator=generator), torch.randint(0, 10, (12,), generator=generator)


def test_counts_energy_and_accuracy(data):
    x, y = data
    model = _model()
    report = measure(model, [(x[:7], y[:7]), (x[7:], y[7:])], hardware_names())
    model.eval()
    with torch.no_grad():
        scores, activity = observe(model, x)(x)
    expected = count(activity)
    torch.testing.assert_close(report.counts.sums, expected.sums, rtol=0, atol=0)
    assert report.counts.samples == 12 and report.counts.updates == expected.updates
    assert report.accuracy == pytest.approx((scores.argmax(1) == y).double().mean().item())
    assert list(report.energy_pj) == hardware_names()
    arithmetic = report.energy_pj["horowitz-45nm-fp32"]
    by_hand = (4.6 * expected.total("dense_macs") + 0.9 * expected.total("acs")).item()
    assert arithmetic.value == pytest.approx(by_hand) == arithmetic.low == arithmetic.high
    assert report.uncounted == () and [s.name for s in report.sites] == list(expected.layers)


@pytest.mark.parametrize("name", ["small-cnn", "mlp", "spiking-rnn"])
def test_energy_per_sample_does_not_depend_on_the_batches(name, data):
    x, _ = data
    model = _model(name)
    reports = [measure(model, x.split(size), hardware_names()) for size in (1, 5, 12)]
    for report in reports[1:]:
        for h in hardware_names():
            assert report.energy_pj[h] == pytest.approx(reports[0].energy_pj[h], rel=1e-12)
        assert report.counts.total_sd("acs") == pytest.approx(reports[0].counts.total_sd("acs"))
        assert report.health == reports[0].health
        assert report.accuracy is None


@pytest.mark.parametrize("training", [True, False])
def test_leaves_the_model_as_it_was(training, data):
    x, y = data
    model = _model().train(training)
    next(model.children()).train(not training)
    flags = [m.training for m in model.modules()]
    before, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    measure(model, [(x, y)])
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    with pytest.raises(ZeroDivisionError):
        measure(model, ((x, y) if i == 0 else 1 / 0 for i in range(2)))  # pyright: ignore[reportArgumentType]
    assert [m.training for m in model.modules()] == flags


def test_measures_in_evaluation_mode(data):
    x, _ = data
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.9), nn.Linear(8, 2)).train()
    counts = measure(model, [x]).counts
    with torch.no_grad():
        hidden = model[:3](x)
    assert float(counts.sums[QUANTITIES.index("macs"), 1]) == (hidden != 0).sum() * 2


@pytest.mark.parametrize("batch", [list, tuple])
def test_batches_may_be_lists_or_tuples_or_bare(batch, data):
    x, y = data
    assert measure(_model(), [batch((x, y))]).accuracy is not None
    assert measure(_model(), [x]).counts.samples == 12
    assert measure(_model(), iter([x])).accuracy is None


def test_no_batches():
    with pytest.raises(BadInput, match="batches was empty"):
        measure(_model(), [])
    with pytest.raises(BadInput, match="batches was empty"):
        measure(_model(), [torch.rand(0, 1, 8, 8)])
    with pytest.raises(BadInput, match="at least one sample"):
        observe(_model(), torch.rand(0, 1, 8, 8))


def test_an_empty_batch_in_the_middle_adds_nothing(data):
    x, y = data
    with_empty = measure(_model(), [(x[:0], y[:0]), (x, y), (x[:0], y[:0])])
    assert with_empty.counts.samples == 12
    assert with_empty.energy_pj == measure(_model(), [(x, y)]).energy_pj


def test_unknown_hardware_is_refused_before_the_run(data):
    def batches():
        raise AssertionError("the data was read")
        yield

    with pytest.raises(BadInput, match="unknown hardware 'loihi9'"):
        measure(_model(), batches(), "loihi9")


def test_strict_and_uncounted(data):
    x, _ = data

    class WithBilinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.fc = nn.Bilinear(8, 8, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.twice(x[:, 0, 0], x[:, 0, 1]))

    report = measure(WithBilinear(), [x])
    assert any("twice" in what for what in report.uncounted)
    assert f"not counted: {report.uncounted[0]}" in str(report)
    with pytest.raises(UncountedLayer, match="twice"):
        measure(WithBilinear(), [x], strict=True)


def test_declared_events_and_batch_axis():
    x = (torch.rand(5, 3, 8, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    model = nn.Sequential(nn.Linear(8, 4), LIF(0.9, 0.2), nn.Linear(4, 2), SpikeCount())
    report = measure(model, [x], inputs=Events(most=1), batch_dim=1)
    assert report.counts.samples == 3 and float(report.counts.total("macs")) == 0
    assert report.counts.sums[QUANTITIES.index("acs"), 0] == x.sum() * 4


def test_health_of_known_neurons():
    """Four neurons: one never fires, one at every step, two at every second."""
    model = nn.Sequential(AddTime(), nn.Linear(1, 4, bias=False), Repeat(4), LIF(), nn.Linear(4, 2), MeanReadout())
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.1], [1.0], [0.7], [0.7]]))  # pyright: ignore
    report = measure(model, [torch.ones(3, 1), torch.ones(2, 1)])
    (health,) = report.health
    assert health.neurons == 4 and health.silent_fraction == 0.25 == report.silent_fraction
    assert health.rate == (0 + 1 + 0.5 + 0.5) / 4
    assert health.name == "3" and health.neuron == "LIF"


def test_health_of_an_activation_used_in_several_places():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(4, 6), nn.Linear(6, 3), nn.ReLU()

        def forward(self, x):
            return self.relu(self.b(self.relu(self.a(x))))

    x = torch.randn(8, 4)
    report = measure(Net(), [x[:5], x[5:]])
    assert [h.neurons for h in report.health] == [6, 3]
    assert all(0 <= h.rate <= 1 for h in report.health)


def test_health_of_analog_activations_over_time(data):
    x, _ = data
    torch.manual_seed(0)
    analog = build(Definition("small-cnn", (1, 8, 8), 10, timesteps=3, encoder="direct"), nn.ReLU)
    report = measure(analog, [x])
    assert [h.neurons for h in report.health] == [16 * 64, 32 * 16, 128]
    assert all(0 < h.rate < 1 for h in report.health)


def test_a_report_prints_itself(data):
    text = str(measure(_model(), [data[0]], hardware_names()))
    assert "horowitz-45nm-fp32: " in text and "(arithmetic only)" in text and "acs: " in text


def test_tallies_of_several_processes_add_up(data):
    x, y = data
    model = _model().eval()
    observed = observe(model, x)

    def tally(part: slice) -> Tally:
        t = Tally()
        with torch.no_grad():
            output, activity = observed(x[part])
        t.add(activity, output, y[part])
        return t

    sent: list[torch.Tensor] = []
    tally(slice(7, 12)).reduce(lambda t: sent.append(t.clone()))
    first = tally(slice(0, 7))
    first.reduce(lambda t: t.add_(sent.pop(0)))
    reduced, whole = (
        t.report(observed.sites, observed.uncounted, hardware_names()) for t in (first, tally(slice(0, 12)))
    )
    assert reduced.energy_pj == whole.energy_pj
    assert (reduced.accuracy, reduced.health) == (whole.accuracy, whole.health)
    assert torch.equal(reduced.counts.squares, whole.counts.squares) and not sent
    with pytest.raises(BadInput, match="counted no sample"):
        Tally().reduce(lambda t: None)


def test_baselines_that_see_every_step():
    model = nn.Sequential(nn.Linear(8, 4), LIF(0.9, 0.2), nn.Linear(4, 2), SpikeCount())
    x = (torch.rand(5, 3, 8, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    once, always = (measure(model, [x], inputs=Events(most=1), batch_dim=1, presentations=n) for n in (1, 5))
    assert (once.baselines["dense-ann"].macs, always.baselines["dense-ann"].macs) == (40, 200)


@pytest.mark.parametrize(
    "wrong, message",
    [({"ann_density": 3}, "ann_density"), ({"presentations": 0}, "presentations"), ({"hardware": []}, "price list")],
)
def test_wrong_settings_are_refused_before_the_run(wrong, message):
    with pytest.raises(BadInput, match=message):
        measure(_model(), iter(()), **wrong)


def test_hardware_may_be_a_price_list(data):
    from picojoule.energy import hardware

    report = measure(_model(), [data[0]], hardware("horowitz-45nm-int8"), conventions="norse")
    assert list(report.energy_pj) == ["horowitz-45nm-int8"] and list(report.conventions) == ["norse"]


def test_conventions_see_each_batch_once_where_its_size_decides_the_path():
    """Hooks would count the second batch, find another path, and count it again."""

    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x):
            x = self.a(x)
            return self.b(self.a(x) if x.shape[0] == 5 else x)

    x = torch.rand(9, 8)
    report = measure(Counter(), [x[:4], x[4:]], conventions="neurobench")
    assert report.conventions["neurobench"].operations == pytest.approx(float(report.counts.total("macs")))
    assert float(report.counts.total("dense_macs")) == pytest.approx((9 * 64 + 5 * 64 + 9 * 32) / 9)
