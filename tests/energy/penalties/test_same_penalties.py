"""However a network runs, its penalties and their gradients are those of the plain observed one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spiking_nets import AT_SYNAPSES, OF_COUNTS, OF_TRAINS, PENALTIES, Penalty, convolutional, gradients, images
from torch import Tensor, nn

from picojoule.energy.penalties import activity_floor, first_spike_penalty, layer_mean, synaptic_penalty, total_spikes
from picojoule.errors import BadInput
from picojoule.execution import fused, recomputed
from picojoule.graph import Activity, observe
from picojoule.metering import meter


def _found(model: nn.Module, activity: Activity, penalties: dict[str, Penalty]) -> dict[str, list[Tensor]]:
    found = {}
    for name, penalty in penalties.items():
        value = penalty(activity)
        found[name] = [value.detach(), *gradients(model, value)]
    return found


def _for(pool: str, penalties: dict[str, Penalty]) -> dict[str, Penalty]:
    """Those that take this pooling: behind averages, a neuron's budget cannot be told at the synapses."""
    return {name: p for name, p in penalties.items() if pool == "max" or "first-spike fan-out" not in name}


def _plain(penalties: dict[str, Penalty], pool: str = "max", steps: int = 3) -> dict[str, list[Tensor]]:
    model, x = convolutional(pool), images(steps)
    found = _found(model, observe(model, x, batch_dim=1)(x)[1], penalties)
    assert all(float(tensors[0]) > 0 for name, tensors in found.items() if steps > 1 or "first-spike" not in name)
    return found


def _check(found: dict[str, list[Tensor]], expected: dict[str, list[Tensor]]) -> None:
    for name, tensors in expected.items():
        torch.testing.assert_close(found[name], tensors, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("steps", [1, 3])
def test_fused(pool: str, steps: int):
    model, x = convolutional(pool), images(steps)
    activity = fused(observe(model, x, batch_dim=1), pools=False)(x)[1]
    penalties = _for(pool, PENALTIES)
    _check(_found(model, activity, penalties), _plain(penalties, pool, steps))


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_fused_with_pools(pool: str):
    """Where events do not leave the kernel, only what each neuron sent is known, not when."""
    model, x = convolutional(pool), images()
    activity = fused(observe(model, x, batch_dim=1))(x)[1]
    penalties = _for(pool, AT_SYNAPSES | OF_COUNTS)
    _check(_found(model, activity, penalties), _plain(penalties, pool))
    assert activity.neurons[0].train is None
    for name, penalty in OF_TRAINS.items():
        with pytest.raises(BadInput, match=r"2: .*fused\(observed, pools=False\)"):
            pytest.fail(f"{name} is {penalty(activity)}")


def test_fused_with_pools_in_one_step():
    """Of a single step the sums say everything."""
    model, x = convolutional(), images(1)
    activity = fused(observe(model, x, batch_dim=1))(x)[1]
    _check(_found(model, activity, PENALTIES), _plain(PENALTIES, steps=1))


def test_recomputed():
    """Backward runs only once through checkpoints, so each penalty has a pass of its own."""
    expected = _plain(PENALTIES)
    for name, penalty in PENALTIES.items():
        model, x = convolutional(), images()
        value = penalty(recomputed(observe(model, x, batch_dim=1))(x)[1])
        value.backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        _check({name: [value.detach(), *grads]}, {name: expected[name]})


def test_compiled():
    model, x = convolutional(), images()
    activity = torch.compile(observe(model, x, batch_dim=1), backend="aot_eager")(x)[1]
    found = {}
    for name, penalty in PENALTIES.items():
        found |= _found(model, activity, {name: penalty})
    _check(found, _plain(PENALTIES))


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("quick", [True, False])
def test_metered(pool: str, quick: bool):
    model, x = convolutional(pool), images()
    penalties = _for(pool, PENALTIES)
    expected = _plain(penalties, pool)
    norm = [b.clone() for b in model.buffers()]
    with meter(model, batch_dim=1, quick=quick) as m:
        for _ in range(3):
            for buffer, before in zip(model.buffers(), norm, strict=True):
                buffer.copy_(before)
            model(x)
            _check(_found(model, m.activity(), penalties), expected)


class Integrate(nn.Module):
    """Keeps its potential between calls, from the first of a presentation on."""

    def __init__(self):
        super().__init__()
        self.v: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        known = isinstance(self.v, Tensor) and self.v.shape == x.shape
        v = self.v + x if known else x
        z = (v > 0.3).to(v) + (v.clamp(-1, 1) - v.clamp(-1, 1).detach())
        self.v = v - 0.3 * z.detach()
        return z


class Loop(nn.Module):
    """Time is a loop in the user's code."""

    def __init__(self, steps: int):
        super().__init__()
        self.a, self.one, self.b, self.two = nn.Linear(6, 5), Integrate(), nn.Linear(5, 4), Integrate()
        self.c, self.steps = nn.Linear(4, 3), steps

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.c(self.two(self.b(self.one(self.a(x[t]))))) for t in range(self.steps)]).sum(0)

    def rest(self) -> "Loop":
        self.one.v = self.two.v = 0.0
        return self


LOOP = {name: penalty for name, penalty in PENALTIES.items() if "interior" not in name}


@pytest.mark.parametrize("quick", [True, False])
def test_a_loop_in_the_users_code(quick: bool):
    """Traced, it has a record for each step, metered one: the penalties are the same."""
    torch.manual_seed(0)
    model, x = Loop(4).double(), torch.rand(4, 3, 6, dtype=torch.float64)
    observed = observe(model, x, batch_dim=1, spiking=(Integrate,))
    traced = observed(_rested(model, x))[1]
    assert len(traced.neurons) == 8
    expected = _found(model, traced, LOOP)
    with meter(model, batch_dim=1, spiking=(Integrate,), quick=quick) as m:
        for _ in range(2):
            model(_rested(model, x))
            activity = m.activity()
            assert [n.steps for n in activity.neurons] == [4, 4]
            _check(_found(model, activity, LOOP), expected)
    assert float(expected["first-spike strict"][0]) > 0 and float(expected["first-spike fan-out strict"][0]) > 0


def _rested(model: Loop, x: Tensor) -> Tensor:
    model.rest()
    return x


FROZEN: dict[str, Callable[[Activity], Tensor]] = {
    "synaptic": synaptic_penalty,
    "synaptic p=2": lambda a: synaptic_penalty(a, 2),
    "total": total_spikes,
    "total p=2": lambda a: total_spikes(a, 2),
    "layer mean": layer_mean,
    "first-spike": first_spike_penalty,
    "first-spike fan-out": lambda a: first_spike_penalty(a, weight="fan-out"),
    "floor": lambda a: activity_floor(a, 5.0),
}


@pytest.mark.parametrize("how", ["observed", "fused", "metered"])
@pytest.mark.parametrize("name", FROZEN)
def test_frozen_layers_count_and_are_not_pressed(name: str, how: str):
    expected = _plain({name: FROZEN[name]})[name]
    model, x = convolutional(), images()
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    if how == "metered":
        with meter(model, batch_dim=1) as m:
            model(x)
            activity = m.activity()
    else:
        observed = observe(model, x, batch_dim=1)
        activity = (observed if how == "observed" else fused(observed, pools=False))(x)[1]
    penalty = FROZEN[name](activity)
    assert penalty.item() == pytest.approx(expected[0].item())
    torch.testing.assert_close(gradients(model, penalty), expected[-4:])  # of the second convolution and the readout
