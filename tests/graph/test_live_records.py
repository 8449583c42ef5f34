"""What records keep in training: what each neuron sent, and when; and nothing outside it."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from picojoule.energy.penalties import (
    first_spike_penalty,
    hidden_neurons,
    layer_mean,
    rate_bounds,
    synaptic_penalty,
    total_spikes,
)
from picojoule.energy.penalties.parts import penalised_populations, timesteps_of
from picojoule.errors import BadInput
from picojoule.graph import Activity, Observed, observe
from picojoule.kinds import Events
from picojoule.layers import MeanReadout, Timewise
from picojoule.neurons import LIF


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 6), LIF(0.5, 0.2), nn.Linear(6, 4), LIF(0.5, 0.1), nn.Linear(4, 3), LIF(0.5, 0.1), MeanReadout()
    )


def _x() -> Tensor:
    return 2 * torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(1))


def _observed() -> tuple[nn.Sequential, Observed]:
    model = _net()
    return model, observe(model, _x(), batch_dim=1)


def test_what_was_sent_and_when():
    model, observed = _observed()
    activity = observed(_x())[1]
    for n, depth in zip(activity.neurons, (2, 4, 6), strict=True):
        expected = model[:depth](_x())
        assert n.train is not None and n.sent is not None and n.train.requires_grad and n.sent.requires_grad
        assert torch.equal(n.train, expected) and torch.equal(n.sent, expected.sum(0))
        assert torch.equal(n.sent.sum(0), n.events) and n.events.sum() > 0
    assert [(n.module, n.layer, n.hidden) for n in activity.neurons] == [
        ("1", "0", True),
        ("3", "2", True),
        ("5", "4", False),
    ]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_outside_training(context):
    _, observed = _observed()
    with context():
        activity = observed(_x())[1]
    assert all(n.sent is None and n.train is None and n.active is not None for n in activity.neurons)
    assert all(r.operand is None for r in activity.synapses)
    live = (
        total_spikes,
        layer_mean,
        first_spike_penalty,
        lambda a: rate_bounds(a, 1),
        lambda a: total_spikes(a, 2),
        lambda a: synaptic_penalty(a, 2),
        lambda a: synaptic_penalty(a, psi="interior"),
        lambda a: first_spike_penalty(a, weight="fan-out"),
    )
    for penalty in live:
        with pytest.raises(BadInput, match="needs live events: run the observed model with gradients on$"):
            penalty(activity)
    assert not synaptic_penalty(activity).requires_grad and hidden_neurons(activity) == 10


def test_rectifiers_keep_nothing():
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    (n,) = observe(model, torch.rand(3, 5))(torch.rand(3, 5))[1].neurons
    assert n.sent is None and n.train is None


def test_trains_are_references_not_copies():
    """A train is the tensor that the neurons sent, which the next layer needs anyway."""
    model, observed = _observed()
    heard: list[Tensor] = []
    handle = model[1].register_forward_hook(lambda *given: heard.append(given[2]))
    activity = observed(_x())[1]
    handle.remove()
    train = activity.neurons[0].train
    assert train is not None and train.data_ptr() == heard[0].data_ptr()


def test_what_is_kept_goes_with_the_records():
    _, observed = _observed()
    activity = observed(_x())[1]
    kept = [weakref.ref(t) for n in activity.neurons for t in (n.sent, n.train) if t is not None]
    assert len(kept) == 6
    del activity
    gc.collect()
    assert all(ref() is None for ref in kept)


class Spike(nn.Module):
    """Spikes of a potential without memory."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.2).to(x) + (x - x.detach())


class Loop(nn.Module):
    """Steps one module of neurons behind one layer, or the same behind two."""

    def __init__(self, two: bool):
        super().__init__()
        self.a, self.b, self.c, self.fire = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 2), Spike()
        self.two = two

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for t in range(4):
            z = self.fire(self.a(x[t]))
            found.append(self.c(self.fire(self.b(z)) if self.two else z))
        return torch.stack(found).sum(0)


@pytest.mark.parametrize("two", [False, True])
def test_calls_of_one_module_behind_one_layer_are_steps(two: bool):
    torch.manual_seed(0)
    model = Loop(two)
    activity = observe(model, _x(), batch_dim=1, spiking=(Spike,))(_x())[1]
    assert len(activity.neurons) == (8 if two else 4) and timesteps_of(activity) == 4
    populations = penalised_populations(activity)
    assert [[n.layer for n in records] for records in populations.values()] == (
        [["a"] * 4, ["b"] * 4] if two else [["a"] * 4]
    )
    with torch.no_grad():
        first = [model.fire(model.a(step)) for step in _x()]
        second = [model.fire(model.b(z)) for z in first]
    excess = [(torch.stack(z).sum(0) - 1).relu().mean().item() for z in ((first, second) if two else (first,))]
    assert first_spike_penalty(activity).item() == pytest.approx(sum(excess) / len(excess)) and min(excess) > 0
    assert hidden_neurons(activity) == (12 if two else 6)


def test_a_recurrent_loop_is_driven_by_its_input_alone_at_first():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.back, self.c, self.fire = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 2), Spike()

        def forward(self, x: Tensor) -> Tensor:
            z = self.fire(self.a(x[0]))
            total = self.c(z)
            for t in range(1, 4):
                z = self.fire(self.a(x[t]) + self.back(z))
                total = total + self.c(z)
            return total

    torch.manual_seed(0)
    activity = observe(Recurrent(), _x(), batch_dim=1, spiking=(Spike,))(_x())[1]
    ((name, records),) = penalised_populations(activity).items()
    assert (name, len(records)) == ("fire", 4) and hidden_neurons(activity) == 6
    assert [n.name for n in records] == [n.name for n in activity.neurons]


def test_the_last_step_of_recurrent_output_neurons_belongs_to_them():
    """Their spikes are the output, and enter their own synapses at every step but the last."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.back, self.fire = nn.Linear(5, 6), nn.Linear(6, 6), Spike()

        def forward(self, x: Tensor) -> Tensor:
            sent = [self.fire(self.a(x[0]) + self.back(torch.zeros_like(x[0]) @ torch.zeros(5, 6)))]
            for t in range(1, 4):
                sent.append(self.fire(self.a(x[t]) + self.back(sent[-1])))
            return torch.stack(sent).sum(0)

    activity = observe(Recurrent(), _x(), batch_dim=1, spiking=(Spike,))(_x())[1]
    assert [n.hidden for n in activity.neurons] == [True, True, True, False]
    (records,) = penalised_populations(activity).values()
    assert len(records) == 4


def test_populations_of_one_name():
    """The second call of `lif` is named as the module `lif_1` is: both count."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Linear(5, 5) for _ in range(4))
            self.lif, self.lif_1 = LIF(0.5, 0.1), LIF(0.5, 0.1)

        def forward(self, x: Tensor) -> Tensor:
            return self.d(self.lif_1(self.c(self.lif(self.b(self.lif(self.a(x)))))))

    torch.manual_seed(0)
    activity = observe(Named(), _x(), batch_dim=1)(_x())[1]
    assert hidden_neurons(activity) == 15 and len(penalised_populations(activity)) == 3
    assert total_spikes(activity).item() == pytest.approx(sum(float(n.events.sum()) for n in activity.neurons) / 3)


def test_one_part_at_two_sizes_is_two_populations():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.lif = Timewise(nn.Conv2d(1, 2, 3, padding=1)), LIF(0.5, 0.1)
            self.out, self.coarse = Timewise(nn.Conv2d(2, 2, 1)), Timewise(nn.MaxPool2d(2))

        def forward(self, x: Tensor) -> Tensor:
            whole, half = (self.out(self.lif(self.head(y))) for y in (x, self.coarse(x)))
            return whole.sum((3, 4)) + half.sum((3, 4))

    x = torch.rand(2, 3, 1, 8, 8)
    activity = observe(Pyramid(), x, batch_dim=1)(x)[1]
    assert [len(records) for records in penalised_populations(activity).values()] == [1, 1]
    assert hidden_neurons(activity) == 2 * 64 + 2 * 16
    means = [(n.sent - 1).relu().mean().item() for n in activity.neurons if n.sent is not None]
    assert first_spike_penalty(activity).item() == pytest.approx(sum(means) / 2)


@pytest.mark.parametrize(
    "how", [nn.Dropout(0.5, inplace=True), nn.ReLU6(inplace=True), nn.Threshold(2, 0, inplace=True)]
)
@pytest.mark.parametrize("loop", [False, True])
def test_events_that_are_changed_in_place(how: nn.Module, loop: bool):
    """A penalty of trains that are no longer there is refused; single steps are kept, and so are those left alone."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.fire, self.how, self.b = nn.Linear(5, 60), Spike(), how, nn.Linear(60, 2)

        def forward(self, x: Tensor) -> Tensor:
            if not loop:
                return self.b(self.how(self.fire(self.a(x)))).sum(0)
            return torch.stack([self.b(self.how(self.fire(self.a(x[t])))) for t in range(4)]).sum(0)

    torch.manual_seed(0)
    activity = observe(Net(), _x(), batch_dim=1, spiking=(Spike,))(_x())[1]
    for penalty in (first_spike_penalty, lambda a: total_spikes(a, 2)):
        if loop:
            assert total_spikes(activity).item() == sum(float(n.events.sum()) for n in activity.neurons) / 3
            assert first_spike_penalty(activity).item() > 0
        elif isinstance(how, nn.ReLU6):
            assert penalty(activity).item() > 0
        else:
            with pytest.raises(BadInput, match="changed in place after they were counted"):
                penalty(activity)


def test_products_of_activations_have_no_events_of_single_neurons():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.fire, self.out = nn.Linear(5, 4), nn.Linear(5, 4), Spike(), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.fire(self.q(x)) @ self.fire(self.k(x)).transpose(1, 2))

    torch.manual_seed(0)
    x = torch.rand(4, 3, 5)
    activity = observe(Attention(), x, spiking=(Spike,))(x)[1]
    assert synaptic_penalty(activity).item() > 0
    for penalty in (lambda a: synaptic_penalty(a, 2), lambda a: first_spike_penalty(a, weight="fan-out")):
        with pytest.raises(BadInput, match="a product of two activations"):
            penalty(activity)


def test_one_layer_behind_two_populations_counts_each_on_its_own():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.one, self.two = nn.Linear(5, 6), nn.Linear(6, 6), LIF(0.5, 0.1), LIF(0.5, 0.1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.two(self.b(self.one(self.a(x)))))

    torch.manual_seed(0)
    activity = observe(Shared(), _x(), batch_dim=1)(_x())[1]
    excess = [(n.sent - 1).relu().sum().item() for n in activity.neurons if n.sent is not None]
    penalty = first_spike_penalty(activity, weight="fan-out")
    assert penalty.item() == pytest.approx(6 * sum(excess) / 3 / (2 * 36)) and min(excess) > 0


def test_events_of_the_input_are_data():
    model = nn.Sequential(nn.Linear(6, 5), LIF(0.9, 0.1), nn.Linear(5, 3))
    x = (torch.rand(4, 2, 6) < 0.5).float()
    activity: Activity = observe(model, x, Events(most=1), batch_dim=1)(x)[1]
    assert [r.operand is None for r in activity.synapses] == [True, False]
    assert list(penalised_populations(activity)) == ["1"]
