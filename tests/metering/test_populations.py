"""Neurons, their time and their health, wherever modules put them."""

import pytest
import torch
from styles import spike
from torch import Tensor, nn

import picojoule as pj
from picojoule.energy import count
from picojoule.layers import AddTime

SPIKES = pj.Events(most=1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class BatchFirst(nn.Module):
    """Leaky neurons over `[B, T, N]`, or over `[B, N, T]`."""

    def __init__(self, time: int):
        super().__init__()
        self.time = time

    def forward(self, x: Tensor) -> Tensor:
        v, sent = torch.zeros(()), []
        for step in x.unbind(self.time):
            v = 0.9 * v + step
            sent.append(spike(v - 0.3))
            v = v - 0.3 * sent[-1]
        return torch.stack(sent, self.time)


@pytest.mark.parametrize("time", [1, 2])
def test_time_behind_the_batch(time: int):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.fire, self.b = nn.Linear(20, 30), BatchFirst(time), nn.Linear(30, 5)

        def forward(self, x: Tensor) -> Tensor:
            z = self.a(x)
            z = self.fire(z) if time == 1 else self.fire(z.transpose(1, 2)).transpose(1, 2)
            return self.b(z).sum(1)

    x = (torch.rand(4, 6, 20) < 0.4).float()
    report = pj.measure(Net(), [x, x], inputs=SPIKES)
    (health,) = report.health
    assert (report.counts.timesteps, health.neurons) == (6, 30)
    assert report.counts.neurons["BatchFirst"].updates == 8 * 6 * 30
    assert report.baselines["dense-ann"].macs == 20 * 30 + 30 * 5
    assert 0 < health.rate < 1 and health.silent_fraction < 0.5


def test_positions_of_a_sequence_are_no_time():
    model = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
    report = pj.measure(model, [torch.randn(4, 6, 8)])
    dense = report.baselines["dense-ann"]
    assert dense.macs == 6 * 2 * 8 * 32 and dense.ratio == 1
    assert [len(layer["operations_by_step"]) for layer in report.to_dict()["layers"]] == [1, 1]


class SpikeFirst(nn.Module):
    """Fires from the membrane of the step before: the first spikes come from zeros."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(20, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        v, sent = torch.zeros(x.shape[1], 16), []
        for step in x:
            z = (v > 0.3).float()
            sent.append(z)
            v = 0.9 * v + self.a(step) - 0.3 * z
        self.sent = torch.stack(sent)
        return self.b(self.sent)


def test_spikes_of_neurons_at_rest_are_events():
    model, x = SpikeFirst(), (torch.rand(5, 4, 20) < 0.4).float()
    model(x)
    sent = float(model.sent.sum())
    report = pj.measure(model, [x], inputs=SPIKES, batch_dim=1, strict=True)
    assert float(report.counts.total("dense_macs")) == 0
    assert float(report.counts.per_layer("acs")[1]) == sent * 3 / 4 > 0


class Shared(nn.Module):
    """One stateless spike module for two layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out, self.fire = nn.Linear(20, 16), nn.Linear(16, 16), nn.Linear(16, 2), Fires()

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(x.shape[1], 2)
        for step in x:
            total = total + self.out(self.fire(self.b(self.fire(self.a(step)))))
        return total


class Fires(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return spike(x)


@pytest.mark.parametrize("quick", [True, False])
def test_one_module_behind_two_layers_is_two_populations(quick: bool):
    x = (torch.rand(3, 4, 20) < 0.4).float()
    with torch.no_grad(), pj.meter(model := Shared(), inputs=SPIKES, batch_dim=1, quick=quick) as m:
        for _ in range(2):
            model(x)
            activity = m.activity()
    assert activity.timesteps == 3 and count(activity).neurons["Fires"].number == 32
    assert [n.layer for n in activity.neurons] == ["a", "b"]


def test_health_does_not_depend_on_the_order_of_batches():
    class AsLongAsTheInput(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.fire, self.b = nn.Linear(20, 16), Fires(), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.stack([self.fire(self.a(step)) for step in x])).sum(0)

    model = AsLongAsTheInput()
    short, long = ((torch.rand(steps, 4, 20) < 0.4).float() for steps in (2, 6))
    one, other = (pj.measure(model, b, inputs=SPIKES, batch_dim=1).health for b in ([short, long], [long, short]))
    assert one == other and 0 < one[0].rate < 1


def test_events_declared_without_a_sign_that_have_one():
    report = pj.measure(nn.Linear(20, 4), [-(torch.rand(4, 20) < 0.5).float()], inputs=SPIKES)
    assert report.energy_pj["horowitz-45nm-fp32"].value > 0
    assert any("multiples" in what for what in report.uncounted)
    more = pj.measure(nn.Linear(20, 4), [2 * (torch.rand(4, 20) < 0.5).float()], inputs=SPIKES)
    assert any("multiples" in what for what in more.uncounted)


def test_a_recurrent_cell_with_two_comparisons_is_one_population():
    """Its synapses are inside; a refractory time is compared too."""

    class Refractory(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = nn.Linear(16, 16, bias=False)

        def forward(self, x: Tensor, state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            z, v, wait = state
            v = 0.8 * v + x + self.own(z)
            ready = (wait <= 0).float()
            z = spike(v - 0.3) * ready
            return z, v - z * 0.3, (wait - 1).clamp(min=0) + 2 * z

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.cell, self.b = nn.Linear(20, 16), Refractory(), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            state = (torch.zeros(4, 16),) * 3
            total = torch.zeros(4, 2)
            self.sent = 0.0
            for step in x:
                state = self.cell(self.a(step), state)
                self.sent += float(state[0].sum())
                total = total + self.b(state[0])
            return total

    model = Net()
    report = pj.measure(model, [(torch.rand(6, 4, 20) < 0.4).float()], inputs=SPIKES, batch_dim=1)
    assert report.counts.timesteps == 6
    assert report.counts.neurons["Refractory"].updates == 6 * 16 * 4
    assert report.counts.neurons["Refractory"].events > 0 and set(report.counts.neurons) == {"Refractory"}


@pytest.mark.parametrize(
    "product",
    [
        lambda z, w: (z[:, None, :] * w).sum(-1),
        lambda z, w: (z.unsqueeze(-1) * w.t()).sum(1),
        lambda z, w: torch.outer(z[0], z[1]).sum(0).expand(len(z), -1),
    ],
)
def test_products_written_as_multiplications_are_listed(product):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.w = nn.Linear(8, 6), nn.Parameter(torch.randn(3, 6))

        def forward(self, x: Tensor) -> Tensor:
            return product(spike(self.a(x)), self.w)

    report = pj.measure(Net(), [torch.randn(4, 8)])
    assert any("(mul)" in what for what in report.uncounted)


def test_nan_that_a_comparison_would_hide():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b((torch.log(self.a(x) - 100) > 0).float())

    with pytest.raises(pj.BadInput, match="NaN"):
        pj.measure(Net(), [torch.randn(4, 8)])


def test_an_own_network_keeps_its_time():
    report = pj.measure(nn.Sequential(AddTime(), nn.Linear(8, 3), nn.Flatten(0, 1)), [torch.randn(4, 8)])
    assert report.counts.timesteps == 1 and float(report.counts.total("dense_macs")) == 24


@pytest.mark.parametrize("quick", [True, False])
def test_a_module_that_fires_before_it_integrates_is_at_rest_first(quick: bool):
    class FiresFirst(nn.Module):
        def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            z = (v > 0.3).float()
            return z, 0.9 * v + x - 0.3 * z

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.fire, self.b = nn.Linear(20, 16), FiresFirst(), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            v, total = torch.zeros(x.shape[1], 16), torch.zeros(x.shape[1], 2)
            for step in x:
                z, v = self.fire(self.a(step), v)
                total = total + self.b(z)
            return total

    model, x = Net(), (torch.rand(6, 4, 20) < 0.4).float()
    with torch.no_grad(), pj.meter(model, inputs=SPIKES, batch_dim=1, quick=quick) as m:
        for _ in range(2):
            model(x)
            activity = m.activity()
            counts = count(activity)
            assert activity.timesteps == 6 and counts.neurons["FiresFirst"].updates == 6 * 16 * 4
            assert float(counts.total("dense_macs")) == 0 and float(counts.per_layer("acs")[1]) > 0


def test_a_parallel_neuron_that_folds_its_neurons_into_the_batch():
    """All steps at once: a matrix over time acts on `[T, B * N]`, and spikes are born there."""

    class Parallel(nn.Module):
        def __init__(self, steps: int):
            super().__init__()
            self.over_time = nn.Parameter(torch.ones(steps, steps).tril())
            self.fire = Fires()

        def forward(self, x: Tensor) -> Tensor:
            return self.fire(self.over_time @ x.flatten(1) - 0.3).view_as(x)

    model = nn.Sequential(nn.Linear(20, 30), Parallel(6), nn.Linear(30, 5))
    x = (torch.rand(6, 4, 20) < 0.4).float()
    report = pj.measure(model, [x], inputs=SPIKES, batch_dim=1)
    (health,) = report.health
    assert (report.counts.timesteps, health.neurons) == (6, 30) and 0 < health.rate < 1
    with torch.no_grad():
        sent = model[1](model[0](x))
    assert health.rate == pytest.approx(float(sent.mean()))
    assert float(report.counts.per_layer("acs")[2]) == float(sent.sum()) * 5 / 4


def test_sums_of_events_in_half_precision_are_exact():
    """301 steps folded into the batch: more events per neuron than bfloat16 can count."""

    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.fire, self.b = nn.Linear(4, 3), Fires(), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.fire(self.a(x.flatten(0, 1)) + 9).unflatten(0, x.shape[:2])).sum(0)

    x = torch.rand(301, 2, 4).bfloat16()
    model = Folded().bfloat16()
    with torch.no_grad(), pj.meter(model, batch_dim=1) as m:
        model(x)
        (neurons,) = m.activity().neurons
    assert neurons.events.tolist() == [602.0] * 3 and neurons.steps == 301
