"""A strength means the same whatever the batch size, the number of steps, and the precision."""

import pytest
import torch
from spiking_nets import PENALTIES, convolutional, gradients, images
from torch import nn

from picojoule.energy.penalties import (
    dense_accumulates,
    first_spike_penalty,
    hidden_neurons,
    layer_mean,
    synaptic_penalty,
    total_spikes,
)
from picojoule.graph import Activity, observe
from picojoule.neurons import LIF

OF_BATCHES = ("floor", "synops target")  # functions of the mean over the batch, not means of a function


@pytest.mark.parametrize("name", PENALTIES)
def test_copies_of_a_batch_change_nothing(name: str):
    model, x = convolutional().eval(), images()
    observed = observe(model, x, batch_dim=1)
    found = [PENALTIES[name](observed(y)[1]) for y in (x, torch.cat([x] * 3, 1))]
    torch.testing.assert_close(found[0], found[1])
    grads = [gradients(model, penalty) for penalty in found]
    assert any(g.abs().sum() > 0 for g in grads[0])
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize("name", [name for name in PENALTIES if name not in OF_BATCHES])
def test_a_batch_is_the_mean_of_its_samples(name: str):
    model, x = convolutional().eval(), images()
    observed = observe(model, x, batch_dim=1)
    whole = PENALTIES[name](observed(x)[1])
    single = torch.stack([PENALTIES[name](observed(x[:, i : i + 1])[1]) for i in range(4)]).mean()
    torch.testing.assert_close(whole, single)
    torch.testing.assert_close(gradients(model, whole), gradients(model, single))


SUMS = {
    "synaptic p=1": synaptic_penalty,
    "synaptic p=2": lambda a: synaptic_penalty(a, 2),
    "total p=1": total_spikes,
    "total p=2": lambda a: total_spikes(a, 2),
    "layer mean": layer_mean,
}


def _without_memory(steps: int) -> Activity:
    """Neurons that send the same events at every step, as their potential is lost between two."""
    model = convolutional(decay=1e-30).eval()
    x = images(1).expand(steps, -1, -1, -1, -1)
    return observe(model, x, batch_dim=1)(x)[1]


@pytest.mark.parametrize("name", SUMS)
def test_steps_add_up(name: str):
    one, four = (SUMS[name](_without_memory(steps)).item() for steps in (1, 4))
    assert four == pytest.approx(4 * one) and one > 0


def test_steps_beyond_the_first_are_excess():
    """Who fires at every step fires once in the first, and too often in all others."""
    for weight in ("layer", "fan-out"):
        one, two, four = (first_spike_penalty(_without_memory(steps), weight=weight).item() for steps in (1, 2, 4))
        assert one == 0 and four == pytest.approx(3 * two) and two > 0


def test_units_do_not_depend_on_steps_or_batch():
    one, four = _without_memory(1), _without_memory(4)
    assert dense_accumulates(one) == dense_accumulates(four) and hidden_neurons(one) == hidden_neurons(four)
    few = convolutional().eval()
    observed = observe(few, images(), batch_dim=1)
    assert dense_accumulates(observed(images(batch=1))[1]) == dense_accumulates(observed(images())[1])
    assert dense_accumulates(one) == dense_accumulates(observed(images())[1])


@pytest.mark.parametrize("name", PENALTIES)
def test_autocast_keeps_the_meaning(name: str):
    """Of the events that bfloat16 makes, the penalty is that of the same events in float64."""
    model, x = convolutional().float().eval(), images().float()
    observed = observe(model, x, batch_dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        activity = observed(x)[1]
        inside = PENALTIES[name](activity)
    outside = PENALTIES[name](activity)
    exact = PENALTIES[name](_in_float64(activity))
    assert inside.dtype == outside.dtype == torch.float64
    assert inside.item() == outside.item() == pytest.approx(exact.item(), rel=1e-6)
    found = gradients(model, inside)
    assert all(g.isfinite().all() for g in found) and any(g.abs().sum() > 0 for g in found)


def _in_float64(activity: Activity) -> Activity:
    def wide(x: torch.Tensor | None) -> torch.Tensor | None:
        return None if x is None else x.double()

    synapses = tuple(
        r if r.operand is None else r._replace(operand=r.operand._replace(n=tuple(n.double() for n in r.operand.n)))
        for r in activity.synapses
    )
    neurons = tuple(n._replace(sent=wide(n.sent), train=wide(n.train)) for n in activity.neurons)
    return activity._replace(synapses=synapses, neurons=neurons)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("steps", [1, 3])
def test_half_precision_does_not_overflow(dtype: torch.dtype, steps: int):
    """66,003 events of 2001 neurons and 33 samples, each behind 40 synapses: above 65,504, the largest of float16."""
    model = nn.Sequential(nn.Linear(2, 2001), LIF(0.5), nn.Linear(2001, 40)).to(dtype)
    first = model[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight.fill_(1)
    x = torch.full((steps, 33, 2), 2.0, dtype=dtype)
    activity = observe(model, x, batch_dim=1)(x)[1]
    expected = {
        "synaptic p=1": 40 * 2001 * steps,
        "synaptic p=2": 40 * 2001 * steps / 2,
        "synaptic p=2 on counts": 40 * 2001 * steps**2 / 2,
        "total p=1": 2001 * steps,
        "total p=2": 2001 * steps / 2,
        "layer mean p=1": steps,
        "first-spike strict": steps - 1,
        "first-spike fan-out strict": steps - 1,
        "synops target": (40 * 2001 * steps / 100 - 1) ** 2,
        "floor": ((1 - steps / 5) ** 2),
        "bounds": (steps - 1) ** 2,
    }
    for name, value in expected.items():
        penalty = PENALTIES[name](activity)
        assert penalty.item() == pytest.approx(value, rel=1e-6), name
        model.zero_grad()
        penalty.backward(retain_graph=True)
        assert first.weight.grad is not None and first.weight.grad.isfinite().all(), name
