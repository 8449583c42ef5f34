"""Training with a penalty: its value is the report's, its gradient that of convolutions with ones."""

from collections.abc import Callable

import pytest
import torch
from metered import with_ones
from styles import STYLES, HiddenNet, Multiple, images, spike
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import picojoule as pj
from picojoule.energy import count
from picojoule.metering import meter


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Conv(nn.Module):
    """Analog input, two spiking layers behind convolutions; remembers what it sent."""

    def __init__(self, send: Callable[[Tensor], Tensor], pool: nn.Module | None = None):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, stride=2, padding=1)
        self.last = nn.Linear(3 * 3 * 3 if pool is None else 3 * 2 * 2, 2)
        self.pool = nn.Identity() if pool is None else pool
        self.send = send
        self.entered: list[tuple[nn.Module, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        z = self.pool(self.send(self.first(x)))
        y = self.send(self.second(z))
        self.entered = [(self.second, z), (self.last, y.flatten(1))]
        return self.last(y.flatten(1))


def _by_hand(model: Conv, numbers: Callable[[Tensor], Tensor], samples: int) -> Tensor:
    """Sum over layers of the convolution of the events with ones."""
    total = torch.zeros((), dtype=torch.float64)
    for layer, z in model.entered:
        total = total + with_ones(layer)(numbers(z).double()).sum()
    return total / samples


SENDS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], nn.Module | None]] = {
    "unit": (spike, lambda z: z, None),
    "scaled": (lambda v: spike(v) * 0.3, lambda z: z / 0.3, None),
    "negative scale": (lambda v: spike(v) * -0.3, lambda z: (z / 0.3).abs(), None),
    "signed": (lambda v: spike(v - 0.1) - spike(-v - 0.1), lambda z: z.abs(), None),
    "multiple": (lambda v: Multiple.apply(v, 0.1), lambda z: z, None),  # pyright: ignore
    "average pool": (spike, lambda z: z, nn.MaxPool2d(2)),
    "straight-through": (lambda v: (v > 0).float() - v.sigmoid().detach() + v.sigmoid(), lambda z: z, None),
}


@pytest.mark.parametrize("name", SENDS)
@pytest.mark.parametrize("quick", [True, False])
def test_value_and_gradient(name: str, quick: bool):
    send, numbers, pool = SENDS[name]
    model, x = Conv(send, pool), torch.randn(3, 2, 6, 6)
    model(x)
    want = _by_hand(model, numbers, 3)
    gradients = torch.autograd.grad(want, [model.first.weight, model.second.weight])
    with meter(model, quick=quick) as m:
        for _ in range(3):
            model(x)
            activity = m.activity()
            penalty = pj.synaptic_penalty(activity)
            assert float(penalty.detach()) == pytest.approx(float(count(activity).detach().total("acs")))
            assert float(penalty.detach()) == pytest.approx(float(want.detach()), rel=1e-6)
            found = torch.autograd.grad(penalty, [model.first.weight, model.second.weight])
            for ours, theirs in zip(found, gradients, strict=True):
                assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
                assert ours.abs().sum() > 0


def test_average_pooled_spikes():
    """Every event before the pool is paid behind it."""
    model, x = HiddenNet(), images(3, 2)
    with meter(model, batch_dim=1, quick=False) as m:
        model(x)
        slow = pj.synaptic_penalty(m.activity())
        slow_gradient = torch.autograd.grad(slow, list(model.conv.parameters()))
    with meter(model, batch_dim=1) as m:
        for _ in range(2):
            model(x)
            fast = pj.synaptic_penalty(m.activity())
        fast_gradient = torch.autograd.grad(fast, list(model.conv.parameters()))
    assert float(slow.detach()) == float(fast.detach())
    assert all(map(torch.equal, slow_gradient, fast_gradient))


@pytest.mark.parametrize("name", STYLES)
def test_the_penalty_of_every_style_is_the_reported_count(name: str):
    """Quick and classified, with the same gradient; the report is a measurement of the same batch."""
    style = STYLES[name]
    model, x = style.make(), style.x(4)
    found = {}
    for quick in (True, False):
        with meter(model, batch_dim=style.batch_dim, quick=quick) as m:
            for _ in range(2):
                model(x)
                activity = m.activity()
            penalty = pj.synaptic_penalty(activity)
            parameters = [p for p in model.parameters() if p.requires_grad]
            found[quick] = torch.autograd.grad(penalty, parameters, allow_unused=True)
    report = pj.measure(model, [x], batch_dim=style.batch_dim)
    assert float(penalty.detach()) == pytest.approx(float(report.counts.total("acs")))
    for ours, theirs in zip(found[True], found[False], strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert any(g is not None and g.abs().sum() > 0 for g in found[True])


def test_training_lowers_the_reported_count():
    model, x = Conv(spike), torch.randn(8, 2, 6, 6)
    before = float(pj.measure(model, [x]).counts.total("acs"))
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    with meter(model) as m:
        for _ in range(20):
            optimiser.zero_grad()
            model(x)
            (1e-3 * pj.synaptic_penalty(m.activity())).backward()
            optimiser.step()
    assert float(pj.measure(model, [x]).counts.total("acs")) < before


def test_events_of_the_input_are_not_penalised():
    model = nn.Sequential(nn.Linear(6, 5))
    with meter(model, inputs=pj.Events(most=1)) as m:
        model((torch.rand(4, 6) < 0.5).float())
        with pytest.raises(pj.BadInput, match="nothing to penalise"):
            pj.synaptic_penalty(m.activity())


def test_events_changed_in_place_before_they_are_counted():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            z = spike(self.first(x)).clone()
            y = self.second(z.detach() + 0 * z)
            with torch.no_grad():
                z.zero_()
            return y

    model, x = InPlace(), torch.randn(4, 6)
    want = [3 * n for n in spike(model.first(x)).sum(1).tolist()]
    with meter(model) as m:
        model(x)
        assert next(r for r in m.activity().synapses if r.site.name == "second").acs.tolist() == want


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_are_counted_once_and_stay_differentiable(reentrant: bool):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            found = checkpoint(self.second, spike(self.first(x)), use_reentrant=reentrant)
            assert isinstance(found, Tensor)
            return found

    model, x = Checkpointed(), torch.randn(4, 6)
    z = spike(model.first(x))
    want = 3 * z.sum() / 4
    gradient = torch.autograd.grad(want, model.first.weight)[0]
    with meter(model) as m:
        for _ in range(2):
            y = model(x)
            penalty = pj.synaptic_penalty(m.activity())
            assert float(penalty.detach()) == float(want.detach())
            (0 * y.sum() + penalty).backward()
    assert model.first.weight.grad is not None
    assert torch.allclose(model.first.weight.grad, 2 * gradient)
