"""The energy of any price list as a loss: its value is what is reported, its gradient what one more event costs."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from picojoule.energy import Hardware, count, hardware, hardware_names
from picojoule.energy.penalties import (
    dense_accumulates,
    dense_energy,
    energy_penalty,
    energy_share,
    synaptic_penalty,
    without_gradient,
)
from picojoule.errors import BadInput
from picojoule.execution import fused
from picojoule.graph import Activity, observe
from picojoule.kinds import Events
from picojoule.layers import AddTime, MeanReadout, Timewise
from picojoule.metering import meter
from picojoule.networks import Definition, build
from picojoule.neurons import LIF

SYNAPSES_ONLY = {"keras-spiking-arm", "keras-spiking-cpu", "keras-spiking-gpu"}
EVENTS = sorted(set(hardware_names()) - SYNAPSES_ONLY)
LINEAR = sorted(set(EVENTS) - {"horowitz-45nm-int8-shift-add"})  # of several events at once it prices the bits
SHAPE = (1, 12, 12)


def trained(network: str, timesteps: int, pool: str = "max", encoder: str = "constant-current") -> Activity:
    torch.manual_seed(0)
    model = build(Definition(network, SHAPE, 10, timesteps, pool, encoder=encoder), LIF).train()
    x = torch.rand(3, *SHAPE)
    activity = observe(model, x)(x)[1]
    assert sum(float(n.events.sum()) for n in activity.neurons) > 0
    return activity


def gradients(y: Tensor, activity: Activity) -> list[Tensor]:
    """By the events that entered each synapse and that each neuron sent."""
    entered = [n for r in activity.synapses if r.operand is not None for n in r.operand.n]
    sent = [n.sent for n in activity.neurons if n.sent is not None]
    return list(torch.autograd.grad(y, [*entered, *sent], retain_graph=True, materialize_grads=True))


@pytest.mark.parametrize(
    "network, timesteps, pool", [("mlp", 1, "max"), ("small-cnn", 1, "avg"), ("small-cnn", 4, "max")]
)
def test_the_value_is_the_reported_energy_for_every_shipped_list(network, timesteps, pool):
    activity = trained(network, timesteps, pool)
    for name in EVENTS:
        chip = hardware(name)
        energy = energy_penalty(activity, chip)
        assert energy.dtype == torch.float64 and energy.shape == () and energy.requires_grad
        assert energy.item() == pytest.approx(chip.energy_pj(count(activity)).value, rel=1e-9), name
        assert energy_penalty(activity, name).item() == energy.item()


@pytest.mark.parametrize("network, timesteps, encoder", [("small-cnn", 4, "latency"), ("spiking-rnn", 4, "bernoulli")])
def test_the_value_holds_with_events_as_inputs_and_recurrence(network, timesteps, encoder):
    activity = trained(network, timesteps, encoder=encoder)
    for name in EVENTS:
        energy = hardware(name).energy_pj(count(activity)).value
        assert energy_penalty(activity, name).item() == pytest.approx(energy, rel=1e-9), name


def affine(x: Tensor) -> tuple[nn.Module, Activity]:
    """Events into a convolution with stride, and an average pool into a second branch: no neurons."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)
            self.pool = nn.AvgPool2d(2)
            self.linear = nn.Linear(2 * 2 * 2, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).flatten(1).sum(1, keepdim=True) + self.linear(self.pool(x).flatten(1))

    model = Branches()
    return model, observe(model, x, Events(most=3))(x)[1]


@pytest.mark.parametrize("name", LINEAR)
def test_the_gradient_is_what_one_more_event_costs(name):
    """The energy with and without the event, by the ordinary pricing of ordinary counts."""
    x = torch.randint(0, 2, (2, 2, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    torch.manual_seed(0)
    model, activity = affine(x.clone().requires_grad_())
    chip = hardware(name)
    observed = observe(model, x, Events(most=3))
    live = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy_penalty(observed(live)[1], chip), live)
    assert float(gradient.abs().sum()) > 0

    def energy(x: Tensor) -> float:
        with torch.no_grad():
            return chip.energy_pj(count(observed(x)[1])).value

    before = energy(x)
    for at in [(0, 0, 0, 0), (0, 1, 1, 2), (1, 0, 3, 3), (1, 1, 2, 0)]:
        more = x.clone()
        more[at] += 1
        assert gradient[at].item() == pytest.approx(energy(more) - before, rel=1e-6), at


@pytest.mark.parametrize("name", ["yan-2024-22nm", "lemaire-2022-fit", "horowitz-45nm-fp32-memory", "loihi"])
def test_the_gradient_of_a_sent_event_is_what_it_costs_to_send_it(name):
    activity = trained("small-cnn", 2)
    chip, last = hardware(name), len(activity.neurons) - 1
    neuron = activity.neurons[last]
    sent = neuron.sent
    assert sent is not None
    (gradient,) = torch.autograd.grad(energy_penalty(activity, chip), sent, retain_graph=True, materialize_grads=True)
    events = neuron.events.clone()
    events[3] += 1
    more = activity._replace(neurons=(*activity.neurons[:last], neuron._replace(events=events)))
    costs = chip.energy_pj(count(more)).value - chip.energy_pj(count(activity)).value
    assert (costs > 0) == (name != "loihi")
    assert gradient[1, 3].item() == pytest.approx(costs, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("timesteps", [1, 4])
def test_on_loihi_an_event_costs_its_synapses_and_one_hop(timesteps):
    activity = trained("small-cnn", timesteps)
    routed = sum(n.sum(dtype=torch.float64) for r in activity.penalisable() if r.operand for n in r.operand.n)
    by_hand = 23.6 * synaptic_penalty(activity) + 3.5 * routed / activity.samples
    for ours, theirs in zip(
        gradients(energy_penalty(activity, "loihi"), activity), gradients(by_hand, activity), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("timesteps", [1, 4])
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_on_arithmetic_alone_it_is_the_synaptic_penalty(timesteps, pool):
    activity = trained("small-cnn", timesteps, pool)
    assert dense_energy(activity, "horowitz-45nm-fp32") == pytest.approx(0.9 * dense_accumulates(activity))
    share, accumulates = energy_share(activity, "horowitz-45nm-fp32"), synaptic_penalty(activity)
    torch.testing.assert_close(share, accumulates / dense_accumulates(activity))
    for ours, theirs in zip(
        gradients(energy_penalty(activity, "horowitz-45nm-fp32"), activity),
        gradients(0.9 * accumulates, activity),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def direction(y: Tensor, model: nn.Module) -> Tensor:
    hidden = list(model.parameters())[:-2]
    return torch.cat([g.flatten() for g in torch.autograd.grad(y, hidden, retain_graph=True)]).double()


def test_where_fan_out_is_large_every_list_points_where_the_synaptic_penalty_does():
    torch.manual_seed(0)
    model = build(Definition("small-cnn", SHAPE, 10, 2, "avg"), LIF)
    x = torch.rand(4, *SHAPE)
    activity = observe(model, x)(x)[1]
    theirs = direction(synaptic_penalty(activity), model)
    for name in LINEAR:
        cosine = torch.cosine_similarity(direction(energy_penalty(activity, name), model), theirs, 0).item()
        assert cosine > 0.99, name
    routed = priced(ac=1.0, event=1e4)
    assert torch.cosine_similarity(direction(energy_penalty(activity, routed), model), theirs, 0).item() < 0.98


def test_dense_energy_prices_every_input_and_every_neuron_once():
    """Two neurons that send to three outputs: six accumulates, two events that enter, two that are sent."""
    chip = priced(ac=1.0, event=10.0, event_sent=100.0)
    for timesteps in (1, 3):
        model = nn.Sequential(AddTime(), Repeated(timesteps), LIF(), Timewise(nn.Linear(2, 3)), MeanReadout())
        x = torch.tensor([[2.0, -1.0]], requires_grad=True)
        activity = observe(model, x)(x)[1]
        assert dense_energy(activity, chip) == pytest.approx(6 * 1.0 + 2 * 10.0 + 2 * 100.0)
        energy = energy_penalty(activity, chip).item()
        assert energy == pytest.approx(timesteps * (3 * 1.0 + 1 * 10.0 + 1 * 100.0))
        assert energy_share(activity, chip).item() == pytest.approx(energy / dense_energy(activity, chip))


class Repeated(nn.Module):
    def __init__(self, timesteps: int):
        super().__init__()
        self.timesteps = timesteps

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(self.timesteps, -1, -1)


def priced(**prices: float) -> Hardware:
    """A list with these prices and no others."""
    constants = {name: replace_value(name, price) for name, price in prices.items()}
    return replace(hardware("truenorth"), name="test", constants=constants)


def replace_value(name: str, price: float):
    return hardware("truenorth").constants["ac"]._replace(value=price, low=price, high=price, unit=f"pJ per {name}")


def test_batch_size_does_not_change_it():
    x = torch.rand(2, *SHAPE)
    model = build(Definition("small-cnn", SHAPE, 10, 2), LIF).eval()
    one, three = (observe(model, x)(batch)[1] for batch in (x, torch.cat([x] * 3)))
    for name in ("loihi", "lemaire-2022-fit"):
        torch.testing.assert_close(energy_penalty(one, name), energy_penalty(three, name))
        assert dense_energy(one, name) == pytest.approx(dense_energy(three, name))


def test_what_has_no_gradient_is_said_with_its_share():
    activity = trained("small-cnn", 2)
    counts = count(activity).detach()
    chip = hardware("horowitz-45nm-fp32")
    (sentence,) = without_gradient(activity, chip)
    macs = 4.6 * float(counts.total("dense_macs")) / chip.energy_pj(counts).value
    assert (
        sentence
        == f"{100 * macs:.3g} % of the energy, multiply-accumulates (conv1): each costs the same whatever its value"
    )
    assert "step function" in without_gradient(activity, "horowitz-45nm-fp32-skip-zeros")[0]
    assert without_gradient(activity, "truenorth") == ()
    (updates,) = without_gradient(activity, "loihi")
    share = 100 * 81 * sum(counts.updates_per_sample().values()) / hardware("loihi").energy_pj(counts).value
    assert updates == f"{share:.3g} % of the energy, neuron updates: every neuron is updated at every step"


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("encoder", ["constant-current", "latency"])
def test_the_parts_with_and_without_gradient_make_up_the_whole(name, encoder):
    activity = trained("small-cnn", 2, encoder=encoder)
    without = without_gradient(activity, name)
    shares = [float(sentence.split(" %")[0]) for sentence in without]
    assert shares == sorted(shares, reverse=True)
    live = energy_share(activity, name).item() * dense_energy(activity, name) / energy_penalty(activity, name).item()
    assert 100 * live + sum(shares) == pytest.approx(100, abs=0.2)
    assert any("s (conv1): these events are data" in s for s in without) == (encoder == "latency")


def test_static_power_has_no_gradient():
    power = hardware("truenorth").constants["ac"]
    chip = priced(ac=1.0)
    static = {
        "static power": power._replace(value=1e-6, low=1e-6, high=1e-6, unit="W"),
        "latency": power._replace(value=1e-6, low=1e-6, high=1e-6, unit="s per time step"),
    }
    chip = replace(chip, constants={**chip.constants, **static})
    activity = trained("mlp", 2)
    energy = energy_penalty(activity, chip).item()
    assert energy == pytest.approx(float(count(activity).detach().total("acs")) + 2.0)
    (sentence,) = without_gradient(activity, chip)
    assert sentence.startswith(f"{200 / energy:.3g} % of the energy, static power:")


@pytest.mark.parametrize("name", sorted(SYNAPSES_ONLY))
def test_a_list_without_prices_of_events_is_refused(name):
    activity = trained("mlp", 1)
    with pytest.raises(BadInput, match=rf"nothing that {name} prices .* \(synapses, neuron updates\)"):
        energy_penalty(activity, name)
    assert sum(float(s.split(" %")[0]) for s in without_gradient(activity, name)) == pytest.approx(100, abs=0.2)


def test_a_network_without_neurons_is_refused():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    activity = observe(model, torch.rand(2, 4))(torch.rand(2, 4))[1]
    with pytest.raises(BadInput, match=r"prices on this model has a gradient \(multiply-accumulates\)"):
        energy_penalty(activity, "horowitz-45nm-fp32")


@pytest.mark.parametrize("ask", [energy_penalty, energy_share, dense_energy, without_gradient])
def test_outside_training_it_says_what_to_do(ask):
    model = build(Definition("mlp", SHAPE, 10), LIF).eval()
    with torch.no_grad():
        activity = observe(model, torch.rand(2, *SHAPE))(torch.rand(2, *SHAPE))[1]
    with pytest.raises(BadInput, match="with gradients on"):
        ask(activity, "loihi")


@pytest.mark.parametrize("name", ["yan-2024-22nm", "lemaire-2022-fit", "loihi"])
def test_through_the_meter_it_is_the_same(name):
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    found = []
    for observing in (True, False):
        torch.manual_seed(0)
        model = build(Definition("small-cnn", SHAPE, 10, 2), LIF).train().double()
        if observing:
            activity = observe(model, x)(x)[1]
        else:
            with meter(model) as metered:
                model(x)
                activity = metered.activity()
        energy = energy_penalty(activity, name)
        energy.backward()
        found.append((energy.detach(), [p.grad for p in model.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0])
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["yan-2024-22nm", "loihi"])
@pytest.mark.parametrize("timesteps", [1, 4])
def test_fused_execution_gives_the_same(name, timesteps):
    x = torch.rand(3, *SHAPE)
    found = []
    for fuse in (False, True):
        torch.manual_seed(0)
        model = build(Definition("small-cnn", SHAPE, 10, timesteps), LIF).train()
        observed = observe(model, x)
        energy = energy_penalty((fused(observed) if fuse else observed)(x)[1], name)
        energy.backward()
        found.append((energy.detach(), [p.grad for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[0][0], found[1][0])
    largest = max(float(g.abs().max()) for g in found[0][1])
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * largest)


def test_half_precision_does_not_change_its_meaning():
    x = torch.rand(3, *SHAPE)
    torch.manual_seed(0)
    model = build(Definition("small-cnn", SHAPE, 10, 2), LIF).train()
    observed = observe(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        activity = observed(x)[1]
        energy = energy_penalty(activity, "horowitz-45nm-fp32-memory")
    reported = hardware("horowitz-45nm-fp32-memory").energy_pj(count(activity)).value
    assert energy.dtype == torch.float64 and energy.item() == pytest.approx(reported, rel=1e-9)
    energy.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in list(model.parameters())[:-2])
