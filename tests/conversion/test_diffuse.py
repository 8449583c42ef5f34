"""Post-training use of the diffused quantiser."""

from typing import Any

import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.errors import BadInput
from picojoule.networks import Definition, build
from picojoule.neurons import IAF, Diffused
from picojoule.neurons.fineness import set_fineness


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.again = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 3, padding=1),
        )
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.tanh(self.again(x) + x)
        return self.head(torch.nn.functional.max_pool2d(x, 2).flatten(1)).softmax(1)


TEXT: Any = "4"
HALF: Any = 2.5


def _between(activation: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), activation, nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))


def _ann(network: str = "small-cnn", pool: str = "max") -> pj.Network:
    torch.manual_seed(0)
    made = build(Definition(network, (1, 8, 8), 3, pool=pool), nn.ReLU)
    made(torch.rand(32, 1, 8, 8))
    return made.eval()


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("network", ["small-cnn", "mlp"])
def test_a_fine_quantiser_gives_the_scores_of_the_network(network, pool):
    ann, x = _ann(network, pool), torch.rand(6, 1, 8, 8)
    made = pj.quantise(ann, 1e5, timesteps=2)
    torch.testing.assert_close(made(x), ann(x), rtol=0, atol=1e-3)
    assert made.timesteps == 2 and not made.training


@torch.no_grad()
def test_error_falls_with_fineness_and_time():
    ann, x = _ann(), torch.rand(32, 1, 8, 8)
    expected = ann(x)

    def error(fineness: float, timesteps: int) -> float:
        return float((pj.quantise(ann, fineness, timesteps=timesteps)(x) - expected).abs().mean())

    assert error(8, 1) < error(1, 1) / 3 and error(1, 16) < error(1, 1) and error(8, 16) < error(8, 1) / 2
    assert error(1, 256) > error(1, 16) / 2, "what activations make of noise does not average out"


@torch.no_grad()
def test_any_torch_model_with_functions_and_two_activations():
    torch.manual_seed(0)
    model, x = Residual().eval(), torch.rand(6, 1, 8, 8)
    made = pj.quantise(model, 1e5, example=x, timesteps=2)
    torch.testing.assert_close(made(x).softmax(1), model(x), rtol=0, atol=1e-4)
    neurons = [m for m in made.modules() if isinstance(m, Diffused)]
    assert [n.emits.signed for n in neurons] == [False, True] and [n.seed for n in neurons] == [0, 1]
    set_fineness(made, 4.0)
    observed, report = pj.observe(made, x), pj.measure(made, [x])
    acs = {r.site.name: float(r.acs.mean()) for r in observed(x)[1].synapses}
    assert report.uncounted == () and acs["again"] > 0 and acs["head"] > 0
    assert {layer["name"]: layer["acs"] for layer in report.to_dict()["layers"]} == pytest.approx(acs)


def test_the_model_stays_and_the_copy_is_trainable_saved_and_streamed(tmp_path):
    ann, x = _ann(), torch.rand(6, 1, 8, 8)
    before = {k: v.clone() for k, v in ann.state_dict().items()}
    made = pj.quantise(ann, 3.3, timesteps=4, gradient="spiking", learn_fineness=True)
    made.train()(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    assert all(torch.equal(v, before[k]) for k, v in ann.state_dict().items())
    made.eval()
    pj.save(made, tmp_path / "model.safetensors")
    back = pj.load(tmp_path / "model.safetensors")
    assert torch.equal(back(x), made(x))
    for one, other in zip(back.modules(), made.modules(), strict=True):
        if isinstance(one, Diffused) and isinstance(other, Diffused):
            assert one.emits == other.emits and repr(one) == repr(other)
    whole, two = made(x), made.with_timesteps(2)
    _, state = two.advance(x, two.initial_state(6))
    torch.testing.assert_close(two.advance(x, state)[0], whole)


def _sequence_ann(name: str) -> pj.Network:
    torch.manual_seed(0)
    d = Definition(name, (1,), 3, 20, encoder="none", readout="last-step")
    made = build(d, nn.ReLU).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@torch.no_grad()
@pytest.mark.parametrize("name, signals", [("lmu-6x8", "hum"), ("lmu-6x8", "m"), ("lstm-6", "h"), ("gru-6", "hum")])
def test_recurrent_networks_quantise_their_signals(name, signals, tmp_path):
    ann, x = _sequence_ann(name), torch.rand(5, 20, 1)
    fine = pj.quantise(ann, 1e5, signals=signals)
    torch.testing.assert_close(fine(x), ann(x), rtol=0, atol=1e-3)
    assert not any(isinstance(m, Diffused) for m in ann.modules())
    made = pj.quantise(ann, 2.0, signals=signals, learn_fineness=True)
    expected = len(signals) if name.startswith("lmu") else 1
    neurons = [m for m in made.modules() if isinstance(m, Diffused)]
    assert [n.seed for n in neurons] == list(range(expected)) and (made(x) - ann(x)).abs().max() > 1e-3
    pj.save(made, tmp_path / "model.safetensors")
    back = pj.load(tmp_path / "model.safetensors")
    assert torch.equal(back(x), made(x))
    observed, report = pj.observe(made, x), pj.measure(back, [x])
    acs = {r.site.name: float(r.acs.mean()) for r in observed(x)[1].synapses}
    assert {layer["name"]: layer["acs"] for layer in report.to_dict()["layers"]} == pytest.approx(acs)


@pytest.mark.parametrize("activation", [nn.PReLU(), nn.CELU(), nn.SELU(), nn.Softsign(), nn.Hardshrink(), nn.Mish()])
def test_every_elementwise_activation_becomes_neurons(activation):
    model, x = _between(activation), torch.rand(4, 3)
    made = pj.quantise(model, 1e4, example=x)
    assert sum(isinstance(m, Diffused) for m in made.modules()) == 2
    torch.testing.assert_close(made(x), model(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: pj.quantise(_sequence_ann("lmu-6x8"), timesteps=2), "timesteps=1, since a recurrent network has"),
        (lambda: pj.quantise(_sequence_ann("lmu-6x8"), signals="hx"), "one or more of the letters h, u and m"),
        (lambda: pj.quantise(_sequence_ann("gru-6"), signals="um"), "expected signals h for this network, whose cells"),
        (lambda: pj.quantise(_ann(), TEXT), "finite fineness above 0, .* got '4'"),
        (lambda: pj.quantise(_ann(), timesteps=HALF), "timesteps of at least 1, a whole number, got 2.5"),
        (lambda: Diffused("relu", TEXT), "finite fineness above 0, .* got '4'"),
        (lambda: pj.quantise(_between(nn.PReLU(5)), example=torch.rand(2, 3)), r"cannot quantise 1 \(PReLU\)"),
        (lambda: pj.quantise(_between(nn.Softmax(1)), example=torch.rand(2, 3)), r"cannot quantise 1 \(Softmax\)"),
        (lambda: pj.quantise(pj.quantise(_sequence_ann("gru-6"))), "got one with spike_h in GRU"),
        (lambda: pj.quantise(_ann(), 0.0), "finite fineness above 0"),
        (lambda: pj.quantise(_ann(), float("nan")), "finite fineness above 0"),
        (lambda: pj.quantise(_ann(), timesteps=0), "timesteps of at least 1"),
        (lambda: pj.quantise(nn.Linear(3, 2)), "expected example=, one batch"),
        (lambda: pj.quantise(nn.Linear(3, 2), example=torch.rand(2, 3)), "with activations such as ReLU or tanh"),
        (lambda: pj.quantise(build(Definition("mlp", (1, 8, 8), 3), IAF)), "got one with IAF"),
        (lambda: pj.quantise(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), example=torch.rand(2, 1, 8, 8)), "scores"),
        (lambda: set_fineness(_ann(), 2.0), "expected a model with diffused neurons"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(BadInput, match=message):
        make()
