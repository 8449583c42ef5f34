from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from picojoule.energy import QUANTITIES, OpCounts, count
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.kinds import Events
from picojoule.layers import AddTime, MeanReadout, Repeat, Timewise, pooling
from picojoule.neurons import IAF, LIF

SAMPLES = 9


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        AddTime(),
        Timewise(nn.Conv2d(1, 3, 3, padding=1)),
        Repeat(3),
        LIF(0.9, 0.4),
        pooling("avg", 2),
        nn.Flatten(2),
        nn.Linear(12, 4),
        IAF(0.3),
        nn.Linear(4, 2),
        MeanReadout(),
    ).eval()


def _x() -> torch.Tensor:
    return torch.rand(SAMPLES, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * torch.arange(
        1.0, SAMPLES + 1
    ).reshape(-1, 1, 1, 1)


OBSERVED, X = observe(_model(), _x()), _x()


def _count(x: torch.Tensor) -> OpCounts:
    with torch.no_grad():
        return count(OBSERVED(x)[1])


def _equal(a: OpCounts, b: OpCounts) -> bool:
    tensors = ((a.sums, b.sums), (a.squares, b.squares), (a.total_squares, b.total_squares))
    others = ((a.layers, b.layers), (a.updates, b.updates), (a.samples, b.samples))
    return all(torch.equal(p, q) for p, q in tensors) and all(p == q for p, q in others)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, SAMPLES), max_size=5), st.permutations(range(SAMPLES)))
def test_any_split_into_batches_adds_up(cuts, order):
    bounds = sorted({0, SAMPLES, *(c for c in cuts if c < SAMPLES)})
    x = X[torch.tensor(order)]
    parts = [_count(x[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert _equal(total, _count(X))


def test_sums_squares_and_deviation_against_numpy():
    per_sample = np.stack([_count(x.unsqueeze(0)).sums.numpy() for x in X])  # [B, quantity, layer]
    whole = _count(X)
    np.testing.assert_array_equal(whole.sums.numpy(), per_sample.sum(0))
    np.testing.assert_array_equal(whole.squares.numpy(), (per_sample**2).sum(0))
    np.testing.assert_array_equal(whole.total_squares.numpy(), (per_sample.sum(2) ** 2).sum(0))
    for q, quantity in enumerate(QUANTITIES):
        totals = per_sample[:, q].sum(1)
        assert float(whole.total(quantity)) == pytest.approx(totals.mean())
        assert whole.total_sd(quantity) == pytest.approx(totals.std(), abs=1e-6)
        np.testing.assert_allclose(whole.per_layer(quantity).numpy(), per_sample[:, q].mean(0))
    assert whole.total_sd("acs") > 0 and whole.total_sd("dense_macs") == 0
    assert whole.sums.dtype == torch.float64


def test_quantities_of_events_and_values_do_not_mix():
    counts = _count(X)
    assert counts.layers == ("1", "6", "8")
    by_name = {q: counts.per_layer(q).tolist() for q in QUANTITIES}
    assert by_name["dense_macs"] == [3 * 100, 0, 0]  # 4x4 with a 3x3 window: 100 taps inside
    assert by_name["dense_acs"] == [0, 3 * 4 * 12 * 4, 3 * 4 * 2]
    assert by_name["acs"][0] == by_name["graded_events"][0] == 0 and by_name["macs"][1:] == [0, 0]
    assert by_name["acs"][1] > by_name["graded_events"][1] > 0  # average pooling gives several unit events
    assert by_name["acs"][2] == by_name["graded_events"][2] > 0


def test_updates_by_kind_of_neuron():
    counts = _count(X)
    assert counts.updates == {"LIF": SAMPLES * 3 * 3 * 16.0, "IAF": SAMPLES * 3 * 4.0}
    assert counts.updates_per_sample() == {"LIF": 144, "IAF": 12}
    two = nn.Sequential(LIF(), nn.Linear(3, 4), LIF(), nn.Linear(4, 2), nn.ReLU())
    x = torch.rand(5, 2, 3)
    activity = observe(two, x, batch_dim=1)(x)[1]
    assert count(activity).updates == {"LIF": 2 * 5 * 7.0}


def test_a_shared_layer_is_one_row():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(3, 2))
    x = torch.rand(4, 3)
    activity = observe(model, x)(x)[1]
    counts = count(activity)
    assert counts.layers == ("0", "4") and len(activity.synapses) == 3
    assert counts.per_layer("dense_macs").tolist() == [18, 6]
    twice = activity.synapses[0].macs + activity.synapses[1].macs
    assert counts.sums[QUANTITIES.index("macs"), 0] == twice.sum()
    assert counts.squares[QUANTITIES.index("macs"), 0] == (twice**2).sum()


def test_samples_of_a_batch_folded_with_time():
    model = nn.Sequential(
        LIF(0.9, 0.4), nn.Flatten(0, 1), nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(1), nn.Linear(48, 2)
    )
    x = torch.rand(5, 3, 2, 4, 4) * torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1, 1)
    observed = observe(model, x, batch_dim=1)
    whole = observed(x)[1]
    for b in range(3):
        alone = observed(x[:, b : b + 1])[1]
        for mine, its in zip(whole.synapses, alone.synapses, strict=True):
            assert (mine.acs[b], mine.macs[b], mine.dense) == (its.acs[0], its.macs[0], its.dense)
    assert len(set(whole.synapses[0].acs.tolist())) == 3


class _Folds(nn.Module):
    """Time or windows folded into the batch, in front of it or behind."""

    def __init__(self, fold: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.fold, self.fc = fold, nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.fold(x))


def _windows(x: torch.Tensor) -> torch.Tensor:
    """[T, B, 6, 4] as [T * B * 3 windows, 2, 4]: samples in the middle."""
    return x.unflatten(2, (3, 2)).flatten(0, 2)


@pytest.mark.parametrize(
    "batch_dim, fold",
    [
        (1, lambda x: x),
        (0, lambda x: x),
        (1, lambda x: x.flatten(0, 1)),
        (0, lambda x: x.flatten(0, 1)),
        (0, lambda x: x.flatten(0, 2)),
        (1, lambda x: x.flatten(0, 2)),
        (2, lambda x: x.flatten(0, 2)),
        (1, _windows),
        (0, lambda x: x.flatten(0, 1).relu()[:, 1:]),
        (0, lambda x: x.flatten(0, 1).chunk(2, 1)[1]),
        (0, lambda x: torch.cat([x, x], 1).flatten(0, 1)),
        (0, lambda x: x.flatten(0, 1).unflatten(0, (-1, x.shape[1]))),
        (1, lambda x: x.flatten(0, 1).unflatten(0, (x.shape[0], -1)).flatten(1, 2)),
        (0, lambda x: x.transpose(0, 1).flatten(0, 1)),
        (1, lambda x: x.transpose(0, 1).flatten(0, 2).unflatten(0, (-1, x.shape[2]))),
        (1, lambda x: x.flatten(0, 2).unflatten(0, (x.shape[0], -1))),
    ],
)
def test_whose_operations_they_are(batch_dim, fold):
    x = torch.zeros(5, 4, 6, 4).transpose(1, batch_dim).contiguous()
    samples = x.shape[batch_dim]
    for b in range(samples):  # sample b has b + 1 times as many events as the first
        x.select(batch_dim, b).flatten()[: 4 * (b + 1)] = 1
        x.select(batch_dim, b)[..., 2:, :] = 1 + b
    model = _Folds(fold)
    observed = observe(model, x, Events(), batch_dim=batch_dim)
    whole = observed(x)[1].synapses[0].acs.tolist()
    alone = [observed(x.narrow(batch_dim, b, 1))[1].synapses[0].acs.tolist() for b in range(samples)]
    assert [whole] == [[n for (n,) in alone]] and len(set(whole)) == samples


@pytest.mark.parametrize("kind", [Events(), Events(most=2**22 + 1), Events(0.5, signed=True)])
def test_counts_of_large_numbers_stay_exact(kind):
    n = 2**22 + 1
    x = torch.full((2, 9), kind.quantum * n)
    if kind.signed:
        x[:, ::2] *= -1
    model = nn.Sequential(nn.Linear(9, 3))
    counts = count(observe(model, x, kind)(x)[1])
    assert float(counts.total("acs")) == 9 * n * 3 and counts.sums[0, 0] == 2 * 9 * n * 3


def test_many_unit_events_stay_exact():
    """More than 2**24 spikes of one sample into one layer, an odd number."""
    model = nn.Sequential(nn.Linear(4096, 1))
    observed = observe(model, torch.ones(2, 1, 4096), Events(most=1), batch_dim=1)
    x = torch.ones(1, 1, 4096).expand(4097, 1, 4096).clone()
    x[7, 0, 7] = 0
    with torch.no_grad():
        assert float(count(observed(x)[1]).total("acs")) == 4097 * 4096 - 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_inputs_of_few_bits_count_exactly(dtype):
    x = torch.ones(2, 4099, dtype=dtype)
    x[1, :100] = 0
    model = nn.Sequential(nn.Linear(4099, 33)).to(dtype)
    counts = count(observe(model, x, Events(most=1))(x)[1])
    assert counts.sums[0, 0] == (4099 + 3999) * 33


@pytest.mark.parametrize("n", [1, 3, 9])
def test_bfloat16_multiples_of_a_ninth(n):
    x = torch.full((1, 500), n / 9, dtype=torch.bfloat16)
    counts = count(observe(nn.Sequential(nn.Linear(500, 7).bfloat16()), x, Events(1 / 9, most=9))(x)[1])
    assert counts.sums[0, 0] == n * 500 * 7


@pytest.mark.parametrize(
    "n, kind, gradient",
    [
        ([0.0, 1.0, 2.0], Events(), [5.0, 5.0, 5.0]),
        ([0.0, 1.0, -2.0], Events(signed=True), [0.0, 5.0, -5.0]),
        ([0.0, 0.5, 1.0], Events(0.5), [10.0, 10.0, 10.0]),
    ],
)
def test_gradient_of_a_count(n, kind, gradient):
    x = torch.tensor([n], dtype=torch.float64, requires_grad=True)
    model = nn.Sequential(nn.Linear(3, 5).double())
    activity = observe(model, x.detach(), kind)(x)[1]
    count(activity).sums[0].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [gradient]


def test_detached_counts_hold_no_graph():
    x = torch.rand(2, 1, 4, 4)
    live = count(OBSERVED(x)[1])
    assert live.sums.requires_grad and not live.detach().sums.requires_grad
    assert _equal(live.detach(), live)


def test_bad_counts():
    other = count(observe(nn.Sequential(nn.Linear(3, 2)), torch.rand(2, 3))(torch.rand(2, 3))[1])
    with pytest.raises(BadInput, match="counts of different layers"):
        _ = _count(X) + other
    none = replace(_count(X), samples=0)
    with pytest.raises(BadInput, match="0 samples"):
        none.total("acs")
    with pytest.raises(BadInput, match="nothing to count"):
        count(observe(nn.Sequential(nn.ReLU()), torch.rand(2, 3))(torch.rand(2, 3))[1])


def test_the_vector_of_the_energy_dossier():
    """docs: one tensor, many numbers. Exact operations per sample of one convolution."""
    torch.manual_seed(0)
    x = (torch.rand(2, 3, 8, 8) < 0.2).float()
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    ternary = x - (torch.rand_like(x) < 0.1).float()
    analog = torch.randn(2, 3, 8, 8).relu()

    def counted(x: torch.Tensor, **kind) -> OpCounts:
        return count(observe(conv, x, **kind)(x)[1])

    spikes = counted(x, inputs=Events(most=1))
    assert float(spikes.total("acs")) == 1258 and spikes.sums[0, 0] == 2516
    assert float(spikes.total("dense_acs")) == 5808
    halves = counted(0.5 * x, inputs=Events(0.5, most=1))
    assert float(halves.total("acs")) == 1258 and float(halves.total("macs")) == 0
    assert float(counted(ternary, inputs=Events(signed=True, most=1)).total("acs")) == 1570
    values = counted(analog)
    assert float(values.total("macs")) == 3090 and float(values.total("dense_macs")) == 5808
    assert float(counted(x).total("macs")) == 1258 and float(counted(x).total("acs")) == 0
