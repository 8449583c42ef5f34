import pytest
import torch
from torch import nn

from picojoule.energy import count, hardware, synaptic_penalty
from picojoule.energy.penalties import dense_accumulates
from picojoule.errors import BadInput
from picojoule.graph import Activity, observe
from picojoule.kinds import Events
from picojoule.layers import AddTime, MeanReadout, Repeat, Timewise, pooling
from picojoule.networks import Activation, Definition, build
from picojoule.neurons import IAF, LIF

E_AC = 0.9


def _network(name: str, timesteps: int = 1, pool: str = "max", activation: Activation = LIF, **settings) -> nn.Module:
    torch.manual_seed(0)
    network = build(Definition(name, (1, 12, 12), 10, timesteps, pool, **settings), activation)
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if "norm" in key and key.endswith("bias"):
                parameter.add_(0.5)  # so that deep layers fire
    return network


def _x(batch: int = 4) -> torch.Tensor:
    return torch.rand(batch, 1, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _hidden_energy(activity: Activity) -> float:
    counts = count(activity).detach()
    hidden = [r.site.name for r in activity.penalisable()]
    energies = hardware("horowitz-45nm-fp32").layer_energy_pj(counts)
    return sum(float(e) for layer, e in zip(counts.layers, energies, strict=True) if layer in hidden)


@pytest.mark.parametrize("name, layers", [("small-cnn", 3), ("mlp", 2), ("spiking-rnn", 2)])
@pytest.mark.parametrize("timesteps", [1, 4])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_the_penalty_is_the_reported_energy(name, layers, timesteps, p, training):
    network = _network(name, timesteps).double().train(training)
    _, activity = observe(network, _x())(_x())
    penalty = synaptic_penalty(activity, p)
    assert len(activity.penalisable()) == layers and penalty.dtype == torch.float64
    energy = _hidden_energy(activity)
    assert p * E_AC * penalty.item() == pytest.approx(energy, rel=1e-6)
    assert energy > 0 or (name, timesteps) == ("spiking-rnn", 1)
    if name != "spiking-rnn":
        report = hardware("horowitz-45nm-fp32").energy_pj(count(activity).detach())
        first = 4.6 * count(activity).per_layer("dense_macs")[0].item()
        assert report.value - first == pytest.approx(energy, rel=1e-6)


@pytest.mark.parametrize("p", [1, 2])
def test_batch_size_does_not_matter(p):
    observed = observe(_network("small-cnn", 2).double().eval(), _x())
    one = synaptic_penalty(observed(_x())[1], p)
    copies = synaptic_penalty(observed(torch.cat([_x()] * 3))[1], p)
    single = torch.stack([synaptic_penalty(observed(x.unsqueeze(0))[1], p) for x in _x()]).mean()
    torch.testing.assert_close(one, copies)
    torch.testing.assert_close(one, single)


@pytest.mark.parametrize("p", [1, 2])
def test_steps_add_up(p):
    """A neuron without memory sends the same events at every step, and pays for each."""

    def penalty(timesteps: int) -> float:
        network = _network("mlp", timesteps, activation=lambda: LIF(1e-30)).double().eval()
        return synaptic_penalty(observe(network, _x())(_x())[1], p).item()

    assert penalty(4) == pytest.approx(4 * penalty(1)) and penalty(1) > 0


@pytest.mark.parametrize("p", [1, 2])
def test_autocast_does_not_change_its_meaning(p):
    network = _network("small-cnn", 2).eval()
    observed = observe(network, _x().float())
    with torch.autocast("cpu", torch.bfloat16):
        _, activity = observed(_x().float())
        penalty = synaptic_penalty(activity, p)
    assert penalty.dtype == torch.float64
    assert p * E_AC * penalty.item() == pytest.approx(_hidden_energy(activity), rel=1e-6)
    assert all(torch.equal(r.acs, r.acs.round()) for r in activity.synapses)
    penalty.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_no_overflow_in_half_precision(p, dtype):
    model = nn.Sequential(AddTime(), nn.Linear(2, 2001), LIF(), nn.Linear(2001, 100)).to(dtype)
    with torch.no_grad():
        model[1].weight.fill_(1)  # pyright: ignore[reportArgumentType, reportCallIssue]
    x = torch.full((3, 2), 2.0, dtype=dtype)
    penalty = synaptic_penalty(observe(model, x)(x)[1], p)
    assert penalty.item() == 200_100 / p > torch.finfo(torch.float16).max
    penalty.backward()
    assert all(q.grad is None or torch.isfinite(q.grad).all() for q in model.parameters())


@pytest.mark.parametrize(
    "p, value, gradient",
    [(1, 30.0, [1.0, 5.0, 9.0, 9.0, 5.0, 1.0]), (2, 15.0, [0.0, 0.0, 0.0, 9.0, 5.0, 1.0])],
)
def test_only_p_1_presses_on_silent_neurons(p, value, gradient):
    model = nn.Sequential(AddTime(), nn.Linear(6, 6), LIF(threshold=1.0), nn.Linear(6, 10)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(6))  # pyright: ignore[reportArgumentType, reportCallIssue]
        model[1].bias.fill_(1)  # pyright: ignore[reportArgumentType, reportCallIssue]
    u = torch.tensor([[-0.9, -0.5, -0.1, 0.1, 0.5, 0.9]], dtype=torch.float64, requires_grad=True)
    penalty = synaptic_penalty(observe(model, u.detach())(u)[1], p)
    penalty.backward()
    assert penalty.item() == value and u.grad is not None
    torch.testing.assert_close(u.grad, torch.tensor([gradient], dtype=torch.float64))


def test_p_2_squares_the_events_of_one_synapse():
    """Average pooling and several events per step: n up to 4, one term per element and step."""
    model = nn.Sequential(
        AddTime(), Timewise(nn.Conv2d(1, 2, 1)), Repeat(2), IAF(0.3, max_events=2), pooling("avg", 2), nn.Flatten(2)
    )
    with torch.no_grad():
        model[1].layer.weight.fill_(0.8)  # pyright: ignore[reportArgumentType, reportCallIssue, reportAttributeAccessIssue]
    whole = nn.Sequential(*model, nn.Linear(72, 3), MeanReadout()).double()
    pooled = model.double()(_x())
    n = (4 * pooled).round()
    _, activity = observe(whole, _x())(_x())
    assert n.max() > 2
    assert synaptic_penalty(activity, 1).item() == pytest.approx(3 * n.sum().item() / 4)
    assert synaptic_penalty(activity, 2).item() == pytest.approx(3 * (n**2).sum().item() / 4 / 2)


@pytest.mark.parametrize("p", [1, 2])
def test_events_of_the_input_are_data(p):
    model = nn.Sequential(nn.Linear(6, 5), LIF(0.9, 0.1), nn.Linear(5, 3))
    x = (torch.rand(4, 2, 6) < 0.5).float()
    _, activity = observe(model, x, Events(most=1), batch_dim=1)(x)
    assert [r.site.name for r in activity.penalisable()] == ["2"]
    hidden = model[:2](x).sum().item() * 3 / 2
    assert synaptic_penalty(activity, p).item() == pytest.approx(hidden / p) and hidden > 0


@pytest.mark.parametrize("encoder", ["bernoulli", "latency"])
def test_events_of_an_encoder_are_data(encoder):
    network = _network("mlp", 3, encoder=encoder)
    _, activity = observe(network, _x().float())(_x().float())
    assert [r.site.name for r in activity.penalisable()] == ["fc2", "fc3"]


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"name": "small-cnn"}, 1_021_184),
        ({"name": "small-cnn", "timesteps": 4}, 1_021_184),
        # before an average pool every event of the window counts
        ({"name": "small-cnn", "pool": "avg"}, 4 * (819_200 + 200_704) + 1_280),
        ({"name": "cnn7"}, 79_877_120),
        ({"name": "mlp", "timesteps": 3}, 256 * 256 + 256 * 10),
        ({"name": "mlp", "encoder": "bernoulli", "timesteps": 3}, 256 * 256 + 256 * 10),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_dense_accumulates(settings, expected, batch):
    network = build(Definition(input_shape=(1, 28, 28), classes=10, **settings), LIF).eval()
    with torch.no_grad():
        _, activity = observe(network, torch.rand(1, 1, 28, 28))(torch.rand(batch, 1, 28, 28))
    assert dense_accumulates(activity) == expected


def test_all_neurons_firing_cost_the_dense_accumulates():
    network = _network("small-cnn", 3, activation=lambda: LIF(0.5, 1e-6)).eval()
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if "norm" in key and key.endswith("bias"):
                parameter.fill_(1e3)
    _, activity = observe(network, _x().float())(_x().float())
    assert synaptic_penalty(activity).item() == 3 * dense_accumulates(activity)


@pytest.mark.parametrize("p", [0, 3, 1.5])
def test_bad_p(p):
    with pytest.raises(BadInput, match="p=1 or p=2"):
        synaptic_penalty(observe(_network("mlp"), _x().float())(_x().float())[1], p)


def test_without_gradients():
    observed = observe(_network("mlp"), _x().float())
    with torch.no_grad():
        _, activity = observed(_x().float())
    assert not synaptic_penalty(activity).requires_grad
    with pytest.raises(BadInput, match="live events"):
        synaptic_penalty(activity, 2)


def test_nothing_to_penalise():
    _, activity = observe(_network("mlp", activation=nn.ReLU), _x().float())(_x().float())
    with pytest.raises(BadInput, match="nothing to penalise"):
        synaptic_penalty(activity)
