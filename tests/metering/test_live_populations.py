"""Penalties of neurons in metered models: loops, hidden state, spikes outside modules, and what cannot be followed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from styles import STYLES, FunctionalLoop, HiddenLeaky, Surrogate, images, spike
from torch import Tensor, nn

import picojoule as pj
from picojoule.energy.penalties import (
    GATES,
    activity_floor,
    first_spike_penalty,
    hidden_neurons,
    layer_mean,
    rate_bounds,
    synaptic_penalty,
    total_spikes,
)
from picojoule.energy.penalties.parts import penalised_populations
from picojoule.graph import Activity
from picojoule.metering import meter


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Stepwise(nn.Module):
    """A loop over `[T, B, N]`; neurons keep their membrane inside. Remembers what they sent."""

    def __init__(self):
        super().__init__()
        self.a, self.one, self.b, self.two, self.c = *_layer(20, 16), *_layer(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.one.reset()
        self.two.reset()
        sent, total = [], torch.zeros(x.shape[1], 3)
        for step in x:
            sent.append((self.one(self.a(step)),))
            sent[-1] += (self.two(self.b(sent[-1][0])),)
            total = total + self.c(sent[-1][1])
        self.sent = [torch.stack(z) for z in zip(*sent, strict=True)]
        return total


def _layer(n: int, m: int) -> tuple[nn.Linear, HiddenLeaky]:
    return nn.Linear(n, m), HiddenLeaky()


def _x(steps: int = 6, batch: int = 4) -> Tensor:
    return torch.rand(steps, batch, 20)


def _excess(model: Stepwise, gate: str) -> Tensor:
    """The penalty by hand: the mean over layers of the mean excess beyond one spike, with its gradient."""
    terms = []
    for z in model.sent:
        before, total = z.detach().cumsum(0) - z.detach(), z.detach().sum(0)
        acting = {
            "strict": (total > 1) & (before >= 1),
            "after-first": before >= 1,
            "relu-count": (total > 1).expand_as(before),
        }[gate]
        pressed = (z * acting).sum(0)
        terms.append(((total - 1).relu() + pressed - pressed.detach()).mean())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("gate", GATES)
def test_value_and_gradient(gate: str, quick: bool):
    model, x = Stepwise(), _x()
    weights = [model.a.weight, model.b.weight]
    with meter(model, batch_dim=1, quick=quick) as m:
        for _ in range(3):
            model(x)
            penalty = first_spike_penalty(m.activity(), gate=gate)
            expected = _excess(model, gate)
            assert penalty.item() == pytest.approx(expected.item()) and expected.item() > 0
            found = torch.autograd.grad(penalty, weights, retain_graph=True)
            for ours, theirs in zip(found, torch.autograd.grad(expected, weights), strict=True):
                torch.testing.assert_close(ours, theirs)
                assert ours.abs().sum() > 0


def test_training_with_it_spares_first_spikes():
    model, x = Stepwise(), _x()
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    found = []
    with meter(model, batch_dim=1) as m:
        for _ in range(30):
            optimiser.zero_grad()
            model(x)
            found.append(first_spike_penalty(m.activity()))
            found[-1].backward()
            optimiser.step()
    assert found[-1].item() < 0.3 * found[0].item()


@pytest.mark.parametrize("name", [name for name in STYLES if name not in ("functional",)])
def test_every_style_sends_what_enters_its_synapses(name: str):
    """Counted at the neurons or behind them: dense layers behind unpooled neurons see the same events."""
    style = STYLES[name]
    model, x = style.make(), style.x(4)
    with meter(model, batch_dim=style.batch_dim) as m:
        for _ in range(2):
            model(x)
            activity = m.activity()
            assert all(n.hidden and n.sent is not None and n.train is not None for n in activity.neurons)
            for n in activity.neurons:
                assert n.train is not None and n.sent is not None
                assert n.train.shape == (n.steps, 4, *n.events.shape)
                assert torch.equal(n.train.sum(0), n.sent) and torch.equal(n.sent.sum(0), n.events.float())
            last = activity.synapses[-1]
            entered = float(last.acs.detach().sum()) / (last.outputs / activity.timesteps)
            assert entered == pytest.approx(float(activity.neurons[-1].events.sum()))
            penalties = [first_spike_penalty(activity, gate=gate).item() for gate in GATES]
            assert len(set(penalties)) == 1
            total = total_spikes(activity)
            assert total.item() == pytest.approx(sum(float(n.events.sum()) for n in activity.neurons) / 4)
            total.backward()


SPIKE_COUNTS = {
    "sum": lambda z: z.sum(0),
    "mean": lambda z: z.mean(0),
    "train": lambda z: z,
}


@pytest.mark.parametrize("name", SPIKE_COUNTS)
@pytest.mark.parametrize("quick", [True, False])
def test_neurons_of_the_readout_are_not_hidden(name: str, quick: bool):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.one, self.b, self.two = *_layer(20, 16), *_layer(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.one.reset()
            self.two.reset()
            return SPIKE_COUNTS[name](torch.stack([self.two(self.b(self.one(self.a(step)))) for step in x]))

    model, x = Counting(), _x()
    with meter(model, batch_dim=1, quick=quick) as m:
        for _ in range(2):
            model(x)
            activity = m.activity()
            assert [n.hidden for n in activity.neurons] == [True, False]
            assert list(penalised_populations(activity)) == ["one"] and hidden_neurons(activity) == 16


def test_one_module_behind_two_layers_is_two_populations():
    class Fires(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return spike(x)

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out, self.fire = nn.Linear(20, 16), nn.Linear(16, 16), nn.Linear(16, 2), Fires()

        def forward(self, x: Tensor) -> Tensor:
            total = torch.zeros(x.shape[1], 2)
            for step in x:
                total = total + self.out(self.fire(self.b(self.fire(self.a(step)))))
            return total

    model, x = Shared(), _x()
    with torch.no_grad():
        first = spike(model.a(x))
        trains = first, spike(model.b(first))
    excess = [(z.sum(0) - 1).relu().mean().item() for z in trains]
    with meter(model, batch_dim=1) as m:
        for _ in range(2):
            model(x)
            activity = m.activity()
            assert hidden_neurons(activity) == 32
            assert first_spike_penalty(activity).item() == pytest.approx(sum(excess) / 2) and min(excess) > 0
            factors = {n.name: factor for n, factor in zip(activity.neurons, (2.0, 0.0), strict=True)}
            weighted = first_spike_penalty(activity, strengths=factors)
            assert weighted.item() == pytest.approx(excess[0])


OF_NEURONS: list[Callable[[Activity], Tensor]] = [
    first_spike_penalty,
    total_spikes,
    layer_mean,
    activity_floor,
    lambda a: total_spikes(a, 2),
    lambda a: rate_bounds(a, 1),
]


@pytest.mark.parametrize("penalty", OF_NEURONS)
def test_spikes_outside_modules_are_penalised_at_their_synapses(penalty: Callable[[Activity], Tensor]):
    model, x = FunctionalLoop(), images(4, 3)
    with meter(model, batch_dim=1) as m:
        for _ in range(2):
            model(x)
            activity = m.activity()
            with pytest.raises(pj.BadInput, match="outside a neuron module.* weight='fan-out'") as error:
                penalty(activity)
            assert "\n" not in str(error.value)
            weighted = [first_spike_penalty(activity, gate=gate, weight="fan-out") for gate in GATES]
            assert len({w.item() for w in weighted}) == 1 and weighted[0].item() > 0
            weighted[0].backward()
    assert model.kernel.grad is not None and model.kernel.grad.abs().sum() > 0


def test_rounding_outside_modules_has_no_gradient_and_is_not_taken_for_live():
    """What is rounded has a gradient of zero: it would be a penalty that presses on nothing."""

    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(20, 16), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            v = self.a(x).clamp(0, 1)
            return self.b(v + (v.round() - v).detach())

    model, x = Rounded(), torch.rand(4, 20)
    with meter(model) as m:
        model(x)
        activity = m.activity()
    assert synaptic_penalty(activity).item() > 0
    with pytest.raises(pj.BadInput, match="outside a neuron module"):
        total_spikes(activity)


class FiresFirst(nn.Module):
    """Fires from the membrane of the step before: nothing in the first."""

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        z = spike(v - 0.3)
        return z, 0.9 * v + x - 0.3 * z.detach()


@pytest.mark.parametrize("quick", [True, False])
def test_neurons_at_rest_send_zeros_first(quick: bool):
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

    model, x = Net(), _x()
    found = []
    with meter(model, batch_dim=1, quick=quick) as m:
        for _ in range(3):
            model(x)
            activity = m.activity()
            (n,) = activity.neurons
            assert n.train is not None and n.train.shape == (6, 4, 16) and not n.train[0].any()
            penalties = (first_spike_penalty(activity), first_spike_penalty(activity, weight="fan-out"))
            found.append([p.item() for p in (*penalties, synaptic_penalty(activity, 2))])
    assert found[0] == found[1] == found[2] and min(found[0]) > 0


@pytest.mark.parametrize("quick", [True, False])
def test_steps_without_gradients_count(quick: bool):
    """Steps before the part that is trained on: their spikes cost, and are part of each train."""

    class WarmedUp(Stepwise):
        def forward(self, x: Tensor) -> Tensor:
            self.one.reset()
            self.two.reset()
            total = torch.zeros(x.shape[1], 3)
            for t, step in enumerate(x):
                with torch.set_grad_enabled(torch.is_grad_enabled() and t >= 3):
                    total = total + self.c(self.two(self.b(self.one(self.a(step)))))
            return total

    model, x = WarmedUp(), _x()
    penalties = [synaptic_penalty, lambda a: synaptic_penalty(a, 2)]
    with meter(model, batch_dim=1, quick=quick) as m:
        for _ in range(2):
            with torch.no_grad():
                model(x)
                counted = m.activity()
            model(x)
            live = m.activity()
            for ours, theirs in zip(live.synapses, counted.synapses, strict=True):
                assert torch.equal(ours.acs, theirs.acs) and torch.equal(ours.by_step, theirs.by_step)
                assert torch.equal(ours.active, theirs.active)
            values = [penalty(live).item() * p for p, penalty in zip((1, 2), penalties, strict=True)]
            assert values[0] == values[1] == synaptic_penalty(counted).item() > 0
            assert total_spikes(live).item() == sum(float(n.events.sum()) for n in counted.neurons) / 4
            (gradient,) = torch.autograd.grad(total_spikes(live), model.a.weight)
            assert gradient.abs().sum() > 0


def test_a_layer_for_events_of_the_input_and_of_neurons():
    """Events of the input enter first, without a gradient; those of neurons later, with one."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.fire = nn.Linear(8, 8), HiddenLeaky()

        def forward(self, x: Tensor) -> Tensor:
            self.fire.reset()
            return self.a(self.fire(self.a(x)))

    model, x = Shared(), (torch.rand(4, 8) < 0.5).float()
    acs, expected = torch.zeros(()), torch.ones(())
    with meter(model, inputs=pj.Events(most=1)) as m:
        for _ in range(2):
            model(x)
            acs = torch.stack([r.acs.detach() for r in m.activity().synapses]).sum()
            with torch.no_grad():
                model(x)
                expected = torch.stack([r.acs for r in m.activity().synapses]).sum()
    assert acs.item() == expected.item() > 0


class InPlace(nn.Module):
    """A dropout in place behind the neurons."""

    def __init__(self):
        super().__init__()
        self.a, self.fire, self.drop, self.b = nn.Linear(20, 16), HiddenLeaky(), nn.Dropout(0.5, True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.fire.reset()
        return torch.stack([self.b(self.drop(self.fire(self.a(step)))) for step in x]).sum(0)


@pytest.mark.parametrize("quick", [True, False])
def test_what_is_changed_in_place_can_be_penalised_at_its_synapses(quick: bool):
    model, x = InPlace(), _x()
    with meter(model, batch_dim=1, quick=quick) as m:
        for _ in range(2):
            model(x)
            activity = m.activity()
            assert synaptic_penalty(activity).item() > 0
            for penalty in OF_NEURONS:
                with pytest.raises(pj.BadInput, match="changed in place"):
                    penalty(activity)


def test_nothing_is_live_outside_training():
    model, x = Stepwise(), _x()
    with torch.no_grad(), meter(model, batch_dim=1) as m:
        model(x)
        activity = m.activity()
    assert all(n.sent is None and n.train is None for n in activity.neurons)
    for penalty in (*OF_NEURONS, lambda a: first_spike_penalty(a, weight="fan-out")):
        with pytest.raises(pj.BadInput, match="run the observed model with gradients on$"):
            penalty(activity)


def test_signed_events_cost_their_number():
    class Ternary(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return Surrogate.apply(x - 0.3) - Surrogate.apply(-x - 0.3)  # pyright: ignore[reportOperatorIssue]

    model = nn.Sequential(nn.Linear(20, 16), Ternary(), nn.Linear(16, 2))
    x = torch.randn(4, 20)
    with meter(model) as m:
        model(x)
        penalty = total_spikes(m.activity())
    with torch.no_grad():
        sent = model[:2](x)
    assert penalty.item() == pytest.approx(float(sent.abs().sum()) / 4) and float(sent.min()) == -1
