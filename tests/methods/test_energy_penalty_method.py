"""Training on the energy of a price list: its ramp, its unit, and what it has in common with the synaptic penalty."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from picojoule.data import intensities, load
from picojoule.energy import count, hardware
from picojoule.energy.penalties import dense_energy, energy_penalty
from picojoule.errors import BadInput
from picojoule.experiment.method import Progress
from picojoule.graph import observe
from picojoule.methods import make
from picojoule.methods.energy_penalty import EnergyPenalty
from picojoule.methods.synaptic_penalty import SynapticPenalty
from picojoule.networks import Definition

ROOT = Path(__file__).parents[2]


def term(method, timesteps: int = 2, pool: str = "max", progress: Progress = Progress(0, 0, 1)):  # noqa: B008
    """The penalty term over digits, its gradient by the network's parameters, and the activity."""
    data = load("digits")
    torch.manual_seed(0)
    network = method.build(Definition("small-cnn", (1, 8, 8), 10, timesteps, pool)).train()
    x, y = intensities(data.train.images[:20], data.scale), data.train.labels[:20]
    output, activity = observe(network, x[:1])(x)
    loss: Tensor = method.loss(output, y, activity, progress)[method.name]
    gradient = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, materialize_grads=True)
    return loss.detach(), gradient, activity


@pytest.mark.parametrize("timesteps", [1, 3])
@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("strength", [0.3, 3.0])
def test_on_arithmetic_alone_it_is_the_synaptic_penalty(timesteps, pool, strength):
    ours = term(EnergyPenalty(strength=strength, prices="horowitz-45nm-fp32"), timesteps, pool, Progress(0, 1, 4))
    theirs = term(SynapticPenalty(strength=strength), timesteps, pool, Progress(0, 1, 4))
    assert ours[0] > 0
    torch.testing.assert_close(ours[0], theirs[0])
    for a, b in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("prices", ["horowitz-45nm-fp32-memory", "yan-2024-22nm", "loihi"])
def test_its_gradient_is_that_of_the_energy_in_units_of_dense_energy(prices):
    _, gradient, activity = term(EnergyPenalty(strength=0.7, prices=prices), progress=Progress(0, 1, 4))
    weight = 0.7 * 0.5 / dense_energy(activity, prices)
    entered = [n for r in activity.synapses if r.operand for n in r.operand.n]
    of_energy = torch.autograd.grad(weight * energy_penalty(activity, prices), entered, retain_graph=True)
    of_term = torch.autograd.grad(
        EnergyPenalty(strength=0.7, prices=prices).penalty(activity) * 0.7 * 0.5, entered, retain_graph=True
    )
    for a, b in zip(of_energy, of_term, strict=True):
        torch.testing.assert_close(a, b)
    assert any(float(g.abs().sum()) > 0 for g in gradient)


@pytest.mark.parametrize("prices", ["horowitz-45nm-fp32-memory", "loihi"])
def test_the_penalty_alone_lowers_the_energy(prices):
    method = EnergyPenalty(strength=5.0, prices=prices)
    torch.manual_seed(0)
    network = method.build(Definition("small-cnn", (1, 8, 8), 10, 2)).train()
    data = load("digits")
    x, y = intensities(data.train.images[:20], data.scale), data.train.labels[:20]
    observed, optimiser = observe(network, x[:1]), torch.optim.SGD(network.parameters(), 0.05)

    def energy() -> float:
        return hardware(prices).energy_pj(count(observed(x)[1])).value

    before = energy()
    for _ in range(5):
        output, activity = observed(x)
        optimiser.zero_grad()
        method.loss(output, y, activity, Progress(0, 0, 1))[method.name].backward()
        optimiser.step()
    assert energy() < 0.95 * before


def test_the_price_list_is_an_option(tmp_path: Path):
    method = make("energy-penalty", 0.5, {"prices": "loihi"})
    assert isinstance(method, EnergyPenalty)
    assert method == EnergyPenalty(strength=0.5, prices="loihi") and method.price_list == hardware("loihi")
    assert method.hardware == "horowitz-45nm-fp32", "the row of the table is priced as that of every other method"
    own = tmp_path / "own.toml"
    own.write_text('extends = "loihi"\nname = "own"\ntitle = "Own"\nscope = "all"\ncovers = "all"\n')
    found = EnergyPenalty(prices=str(own))
    assert found.price_list.constants == hardware("loihi").constants
    assert "prices-own" in found.label() and "/" not in found.label()


@pytest.mark.parametrize(
    "options, hint",
    [
        ({"prices": "loihy"}, "loihi"),
        ({"strength": -1.0}, "expected a strength"),
        ({"layers": "conv2=2"}, "leave out layers"),
    ],
)
def test_options_out_of_range_are_refused(options, hint):
    with pytest.raises(BadInput, match=hint):
        EnergyPenalty(**options)


def test_a_list_without_prices_of_events_is_refused_in_training():
    with pytest.raises(BadInput, match="nothing that keras-spiking-cpu prices"):
        term(EnergyPenalty(prices="keras-spiking-cpu"))


def test_the_example_of_its_document_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/methods/energy-penalty.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(code, "energy-penalty.md", "exec"), names)
    assert names["loss"].grad_fn is not None and len(names["fixed"]) == 2
