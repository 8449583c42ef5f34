"""The loss of the penalty: its ramp, its unit, and what it leaves alone."""

import pytest
import torch

from picojoule.data import intensities, load
from picojoule.energy import count, synaptic_penalty
from picojoule.energy.penalties import dense_accumulates
from picojoule.errors import BadInput
from picojoule.experiment.method import Progress
from picojoule.graph import observe
from picojoule.methods.plain import Plain
from picojoule.methods.synaptic_penalty import SynapticPenalty
from picojoule.networks import Definition


def step(method, timesteps: int = 2, encoder: str = "constant-current", **settings):
    """Network, output, labels and activity of one forward pass over digits."""
    data = load("digits")
    torch.manual_seed(0)
    network = method.build(Definition("small-cnn", (1, 8, 8), 10, timesteps, encoder=encoder, **settings)).train()
    x, y = intensities(data.train.images[:20], data.scale), data.train.labels[:20]
    output, activity = observe(network, x[:1])(x)
    return network, output, y, activity


@pytest.mark.parametrize("epoch", range(5))
@pytest.mark.parametrize("encoder", ["constant-current", "latency"])
@pytest.mark.parametrize("timesteps", [1, 3])
def test_the_term_is_strength_times_ramp_times_accumulates_over_dense(epoch, encoder, timesteps):
    _, output, y, activity = step(SynapticPenalty(), timesteps, encoder)
    terms = SynapticPenalty(strength=0.7).loss(output, y, activity, Progress(0, epoch, 5))
    counts = count(activity).detach()
    hidden = [i for i, name in enumerate(counts.layers) if name != "conv1"]
    acs = float(counts.per_layer("acs")[hidden].sum())
    if encoder == "latency":
        assert float(counts.per_layer("acs").sum()) > acs, "events of the input are not penalised"
    dense = float(counts.per_layer("dense_acs")[hidden].sum()) / timesteps
    assert dense == dense_accumulates(activity) > 0 and acs > 0
    assert float(terms["synaptic-penalty"].detach()) == pytest.approx(0.7 * (epoch + 1) / 5 * acs / dense, rel=1e-12)
    assert float(synaptic_penalty(activity).detach()) == pytest.approx(acs, rel=1e-12)


def test_dense_does_not_depend_on_batch_or_steps():
    found = {dense_accumulates(step(SynapticPenalty(), timesteps)[3]) for timesteps in (1, 2, 5)}
    assert len(found) == 1
    small = 16 * 4 * 4 * 32 * 9 - (4 * 4 * 3 - 4) * 16 * 32  # conv2 behind the first pool, without padding taps
    assert found == {small + 128 * 128 + 128 * 10}


def test_strength_zero_is_plain():
    _, output, y, activity = step(SynapticPenalty())
    progress = Progress(0, 4, 5)
    terms = SynapticPenalty(strength=0.0).loss(output, y, activity, progress)
    plain = Plain().loss(output, y, None, progress)
    assert set(terms) == {"task", "synaptic-penalty"} and set(plain) == {"task"}
    assert torch.equal(terms["task"], plain["task"]) and float(terms["synaptic-penalty"].detach()) == 0


def test_strength_zero_learns_as_plain():
    gradients = []
    for method in (SynapticPenalty(strength=0.0), Plain()):
        network, output, y, activity = step(method)
        torch.stack([t.double() for t in method.loss(output, y, activity, Progress(0, 0, 1)).values()]).sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("p", [1, 2])
def test_the_penalty_alone_lowers_the_accumulates(p):
    method = SynapticPenalty(strength=5.0, p=p)
    network, output, y, activity = step(method)
    optimiser = torch.optim.SGD(network.parameters(), 0.05)
    x = intensities(load("digits").train.images[:20], load("digits").scale)
    observed = observe(network, x[:1])
    before = float(count(activity).total("acs").detach())
    for _ in range(5):
        output, activity = observed(x)
        optimiser.zero_grad()
        method.loss(output, y, activity, Progress(0, 0, 1))["synaptic-penalty"].backward()
        optimiser.step()
    assert float(count(observed(x)[1]).total("acs").detach()) < 0.95 * before


def test_both_powers_agree_on_spikes_up_to_one_half():
    _, output, y, activity = step(SynapticPenalty())
    once, twice = (
        SynapticPenalty(p=p).loss(output, y, activity, Progress(0, 0, 1))["synaptic-penalty"].detach() for p in (1, 2)
    )
    assert float(twice) == pytest.approx(float(once) / 2, rel=1e-6)


@pytest.mark.parametrize(
    "options", [{"strength": -1.0}, {"strength": float("nan")}, {"strength": float("inf")}, {"p": 3}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(BadInput, match="expected"):
        SynapticPenalty(**options)
