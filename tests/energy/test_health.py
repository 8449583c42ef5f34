import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from picojoule.energy.health import RATE_BINS, Health, fired_share, health_of
from picojoule.errors import BadInput
from picojoule.graph import NeuronRecord, observe
from picojoule.layers import AddTime, MeanReadout, Repeat
from picojoule.neurons import LIF


def _health(spikes: Tensor, spiking: bool = True) -> Health:
    """The health of `spikes` `[T, B, N]`, by the definitions of a NeuronRecord."""
    of_sample = spikes.sum(0)
    return health_of(
        "layer",
        "LIF",
        spikes.sum((0, 1)).double(),
        spikes.shape[0],
        spikes.shape[1],
        active=(spikes != 0).sum((0, 1)).double(),
        fired=(of_sample > 0).sum(0).double(),
        multiple=(of_sample > 1).sum(0).double(),
        spiking=spiking,
    )


def _five_neurons() -> Tensor:
    """2 steps, 200 samples: silent, always on, one spike in one sample, three events at once at first steps, half."""
    spikes = torch.zeros(2, 200, 5)
    spikes[:, :, 1] = 1
    spikes[0, 7, 2] = 1
    spikes[0, :, 3] = 3
    spikes[1, :100, 4] = 1
    return spikes


def test_five_neurons_by_hand():
    h = _health(_five_neurons())
    assert (h.name, h.neuron, h.neurons) == ("layer", "LIF", 5)
    assert h.silent_fraction == h.saturated_fraction == h.rarely_active_fraction == 1 / 5
    assert h.rate == pytest.approx((0 + 400 + 1 + 600 + 100) / (5 * 400))
    assert h.rate_histogram == (2, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1)  # 0 and 1/400; 1/4; 1; 3/2
    assert h.fired_fraction == (0 + 200 + 1 + 200 + 100) / 1000
    assert h.multiple_fraction == (200 + 200) / 1000
    assert h.events_per_active_step == (400 + 1 + 600 + 100) / (400 + 1 + 200 + 100)


def test_activations_have_no_saturated_and_no_multiple():
    h = _health((_five_neurons() != 0).float(), spiking=False)
    assert (h.saturated_fraction, h.multiple_fraction, h.events_per_active_step) == (None, None, None)
    assert h.fired_fraction == 501 / 1000 and h.rate == (400 + 1 + 200 + 100) / 2000
    assert fired_share((h,)) is None


def test_a_saturated_neuron_that_misses_one_step_of_one_sample_is_not_saturated():
    spikes = torch.ones(3, 4, 2)
    assert _health(spikes).saturated_fraction == 1
    spikes[2, 3, 0] = 0
    assert _health(spikes).saturated_fraction == 0.5


@pytest.mark.parametrize(("samples", "fired", "expected"), [(200, 1, 1), (200, 2, 0), (101, 1, 1), (100, 1, None)])
def test_rarely_is_below_one_percent_of_the_samples(samples, fired, expected):
    spikes = torch.zeros(1, samples, 1)
    spikes[0, :fired] = 1
    assert _health(spikes).rarely_active_fraction == expected


def test_a_silent_population():
    h = _health(torch.zeros(2, 300, 3))
    assert (h.silent_fraction, h.saturated_fraction, h.rarely_active_fraction, h.rate) == (1, 0, 0, 0)
    assert h.events_per_active_step is None and h.rate_histogram == (3, *[0] * RATE_BINS)


def test_in_training_only_what_events_tell():
    h = health_of("a", "LIF", torch.tensor([0.0, 3.0]), steps=3, samples=2)
    assert (h.silent_fraction, h.rate, sum(h.rate_histogram)) == (0.5, 0.25, 2)
    assert h[7:] == (None,) * 5


@pytest.mark.parametrize("of", [3, 7, 10, 70, 300, 4096])
def test_rates_on_the_edges_fall_into_the_upper_bin(of):
    for tenths in range(11):
        if of * tenths % 10 == 0:
            histogram = health_of("a", "LIF", torch.tensor([of * tenths / 10]), 1, of).rate_histogram
            assert histogram.index(1) == min(tenths, RATE_BINS - 1)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 9))
def test_shares_agree_with_counting_neuron_by_neuron(steps, samples, neurons, seed):
    spikes = torch.randint(0, 3, (steps, samples, neurons), generator=torch.Generator().manual_seed(seed)).float()
    h = _health(spikes)
    each = [spikes[:, :, i] for i in range(neurons)]
    assert h.silent_fraction == pytest.approx(sum(not s.any() for s in each) / neurons)
    assert h.saturated_fraction == pytest.approx(sum(bool(s.all()) for s in each) / neurons)
    assert h.rate_histogram[RATE_BINS] == sum(float(s.mean()) > 1 for s in each)
    assert sum(h.rate_histogram) == neurons
    trains = [s[:, b].sum() for s in each for b in range(samples)]
    assert h.fired_fraction == pytest.approx(sum(bool(n > 0) for n in trains) / len(trains))
    assert h.multiple_fraction == pytest.approx(sum(bool(n > 1) for n in trains) / len(trains))


def test_records_of_a_network_added_up_over_batches():
    """Four neurons over 4 steps: never, always, and two at every second step; any split gives the same health."""
    model = nn.Sequential(AddTime(), nn.Linear(1, 4, bias=False), Repeat(4), LIF(), nn.Linear(4, 2), MeanReadout())
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.1], [1.0], [0.7], [0.7]]))  # pyright: ignore
    observed = observe(model, torch.ones(1, 1))

    def health(sizes: list[int]) -> Health:
        with torch.no_grad():
            records: list[NeuronRecord] = [observed(torch.ones(n, 1))[1].neurons[0] for n in sizes]
        sums = {k: sum(getattr(r, k) for r in records) for k in ("events", "active", "fired", "multiple")}
        first = records[0]
        return health_of(first.name, first.neuron, steps=first.steps, samples=sum(sizes), **sums)  # pyright: ignore

    whole = health([5])
    assert whole == health([3, 2]) == health([1] * 5)
    assert (whole.silent_fraction, whole.saturated_fraction, whole.rate) == (0.25, 0.25, 0.5)
    assert whole.rate_histogram == (1, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0)
    assert (whole.fired_fraction, whole.multiple_fraction, whole.events_per_active_step) == (0.75, 0.75, 1)
    assert fired_share((whole, whole._replace(neurons=8, fired_fraction=0.3))) == pytest.approx(0.45)


@pytest.mark.parametrize(("steps", "samples", "neurons"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_nothing_to_look_at(steps, samples, neurons):
    with pytest.raises(BadInput, match="at least one neuron, step and sample"):
        health_of("a", "LIF", torch.zeros(neurons), steps, samples)
