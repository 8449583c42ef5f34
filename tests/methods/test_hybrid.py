"""The hybrid method: schedules, post-training, penalties beside it, learned fineness."""

import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule import layers
from picojoule.energy.penalties import bits_penalty, synaptic_penalty
from picojoule.errors import BadInput
from picojoule.experiment.method import Progress
from picojoule.methods import make
from picojoule.methods.hybrid import Hybrid
from picojoule.networks import Definition, Network
from picojoule.neurons import Diffused

WANTED = Definition("small-cnn", (1, 8, 8), 4, pool="avg")


def _neurons(network: Network) -> list[Diffused]:
    return [m for m in network.modules() if isinstance(m, Diffused)]


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("geometric", [16, 8, 4, 2, 1, 1]),
        ("linear", [16, 12.25, 8.5, 4.75, 1, 1]),
        ("fixed", [1] * 6),
    ],
)
def test_the_fineness_follows_its_schedule_step_by_step(schedule, expected):
    method = Hybrid(fineness=1.0, schedule=schedule)
    network = method.build(WANTED)
    assert {n.fineness for n in _neurons(network)} == {1.0} and len({n.seed for n in _neurons(network)}) == 3
    for done, w in zip((0, 0.2, 0.4, 0.6, 0.8, 0.99), expected, strict=True):
        method.on_progress(network, Progress(0, 0, 5, done=done))
        assert [n.fineness for n in _neurons(network)] == pytest.approx([w] * 3)


def test_training_calls_the_schedule_before_every_step_and_deploys_the_last_fineness(tmp_path, monkeypatch):
    from test_method_contract import tiny, trained

    seen, before = [], Hybrid.on_progress

    def watched(self, network, progress):
        before(self, network, progress)
        seen.append((progress.done, _neurons(network)[0].fineness))

    monkeypatch.setattr(Hybrid, "on_progress", watched)
    network = trained(Hybrid(fineness=2.0), tiny(), tmp_path)
    assert seen == [(0.0, 16.0), (0.5, pytest.approx(16 * (2 / 16) ** (0.5 / 0.8)))]
    method = Hybrid(fineness=2.0)
    assert {n.fineness for n in _neurons(method.finish(network, [], WANTED))} == {2.0}


def test_post_training_takes_the_ann_as_it_is():
    method = make("hybrid", None, {"schedule": "none", "fineness": "1000"})
    assert method.parent == "ann" and make("hybrid").parent is None
    torch.manual_seed(0)
    ann = make("ann").build(WANTED)
    ann(torch.rand(32, 1, 8, 8))
    made, x = method.finish(ann.eval(), [], method.definition(WANTED, 3)), torch.rand(5, 1, 8, 8)
    assert made.timesteps == 3 and {n.fineness for n in _neurons(made)} == {1000.0}
    torch.testing.assert_close(made(x), ann(x), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["bits-penalty+hybrid", "synaptic-penalty+hybrid"])
def test_penalties_add_up_with_it(name):
    method = make(name, 0.5, {"fineness": "2", "schedule": "fixed"})
    network = method.build(method.definition(WANTED, None))
    x, y = torch.rand(6, 1, 8, 8), torch.randint(4, (6,))
    method.on_progress(network, Progress(0, 0, 1))
    assert {n.fineness for n in _neurons(network)} == {2.0}
    output, activity = pj.observe(network, x)(x)
    terms = method.loss(output, y, activity, Progress(0, 0, 1))
    assert set(terms) == {"task", name.split("+")[0]} and all(float(t.detach()) > 0 for t in terms.values())


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("hybrid", {"fineness": "0"}, "finite fineness above 0"),
        ("hybrid", {"start_fineness": "-1"}, "finite fineness above 0"),
        ("hybrid", {"schedule": "geo"}, "did you mean 'geometric'"),
        ("hybrid", {"activation": "rleu"}, "did you mean 'relu'"),
        ("hybrid", {"random_start": "2"}, "random_start=0 or random_start=1"),
        ("hybrid", {"schedule": "none", "gradient": "rate"}, "a schedule that trains for gradient rate"),
        ("bits-penalty+hybrid", {"schedule": "none"}, "expected hybrid to be trained"),
        ("hybrid+bits-penalty", {}, "in front of hybrid, such as"),
        ("plain+hybrid", {}, "in front of hybrid, such as"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(BadInput, match=message):
        make(name, None, options)


def test_bits_penalty_by_hand():
    neuron = Diffused("tanh", 4.0, random_start=False)
    parts = nn.Sequential(layers.AddTime(), nn.Linear(3, 3, bias=False), neuron, nn.Linear(3, 5), layers.MeanReadout())
    network = Network(parts, (3,), 5)
    weight = next(network.parameters())
    with torch.no_grad():
        weight.copy_(torch.eye(3))
    x = torch.tensor([[0.0, 2.0, -0.5]])  # 4 tanh: 0, 3.86, -1.85; half up: n = 0, 4, -2
    _, activity = pj.observe(network, x)(x)
    penalty = bits_penalty(activity)
    assert penalty.item() == 5 * (3 + 2)
    (grad,) = torch.autograd.grad(penalty, weight)
    tanh = torch.tanh(x[0].double())
    slope = 4 * (1 - tanh**2) * torch.tensor([0, 1 / 4, -1 / 2])  # between 4 and 8, and between 2 and 4
    torch.testing.assert_close(grad.diagonal().double(), 5 * slope * x[0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("penalty", [synaptic_penalty, bits_penalty])
def test_a_learned_fineness_feels_what_its_events_cost(penalty):
    network = Hybrid(learn_fineness=1, fineness=3.0).build(WANTED)
    x = torch.rand(16, 1, 8, 8)
    _, activity = pj.observe(network, x)(x)
    logs = [n.fineness_log for n in _neurons(network) if n.fineness_log is not None]
    grads = torch.autograd.grad(penalty(activity), logs)
    assert all(g > 0 for g in grads), "finer events cost more"
    if penalty is synaptic_penalty:  # n = w r: the number of events grows with log w as the events themselves
        acs = [float(r.acs.detach().sum()) / 16 for r in activity.penalisable()]
        assert [float(g) for g in grads] == pytest.approx(acs, rel=0.05)


def test_training_learns_the_fineness_under_a_penalty(tmp_path):
    from test_method_contract import tiny, trained

    method = make("bits-penalty+hybrid", 20.0, {"learn_fineness": "1", "fineness": "3"})
    network = trained(method, tiny(), tmp_path)
    found = [n.emits.quantum for n in _neurons(network)]
    assert all(height > 1 / 3 for height in found)
    assert [n.emits.quantum for n in _neurons(method.finish(network, [], WANTED))] == found
