"""The hybrid method: schedules, post-training, penalties beside it, learned fineness."""

import math

import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule import layers
from picojoule.energy.penalties import bits_penalty, synaptic_penalty
from picojoule.errors import BadInput
from picojoule.experiment.loop import SELECTION_WINDOW
from picojoule.experiment.method import Progress
from picojoule.kinds import Events
from picojoule.methods import alternatives, make
from picojoule.methods.bits_penalty import BitsPenalty
from picojoule.methods.hybrid import Hybrid
from picojoule.networks import Definition, Network
from picojoule.neurons import Diffused

WANTED = Definition("small-cnn", (1, 8, 8), 4, pool="avg")


def _neurons(network: Network) -> list[Diffused]:
    return [m for m in network.modules() if isinstance(m, Diffused)]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"schedule": "geometric"}, [16, 8, 4, 2, 1, 1]),
        ({"schedule": "geometric", "hold": 0.6}, [16, 4, 1, 1, 1, 1]),
        ({"schedule": "linear"}, [16, 12.25, 8.5, 4.75, 1, 1]),
        ({"schedule": "linear", "hold": 0.6}, [16, 8.5, 1, 1, 1, 1]),
        ({"schedule": "fixed"}, [1] * 6),
    ],
)
def test_the_fineness_follows_its_schedule_step_by_step(options, expected):
    method = Hybrid(fineness=1.0, **options)
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
        ("hybrid", {"hold": "0.1"}, "hold from 0.2 .* to below 1, got 0.1"),
        ("hybrid", {"hold": "1"}, "hold from 0.2 .* to below 1, got 1.0"),
        ("hybrid", {"random_start": "2"}, "random_start=0 or random_start=1"),
        ("hybrid", {"schedule": "none", "gradient": "rate"}, "a schedule that trains for gradient rate"),
        ("bits-penalty+hybrid", {"schedule": "none"}, "expected hybrid to be trained"),
        ("hybrid+bits-penalty", {}, "in front of hybrid, such as"),
        ("hybrid", {"fineness": "32"}, "start_fineness of at least the fineness 32 .* got 16;"),
        ("hybrid", {"signals": "hh"}, "one or more of the letters h, u and m"),
        ("bits-penalty+hybrid", {"budget": "-1"}, "budget of at least 0 significant bits"),
        ("plain+hybrid", {}, "in front of hybrid, such as"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(BadInput, match=message):
        make(name, None, options)


def test_one_command_compares_several_finenesses():
    found = alternatives("hybrid", {"fineness": "1,2,4", "schedule": "none"})
    assert [make("hybrid", options=options).options()["fineness"] for options in found] == [1.0, 2.0, 4.0]
    assert all(options["schedule"] == "none" for options in found)


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


RECURRENT = {"lmu-6x8": 3, "lstm-6": 1, "gru-6": 1}
"""Networks for sequences, and how many signals they have."""


def _sequences(name: str) -> Definition:
    return Definition(name, (1,), 4, 20, encoder="none", readout="last-step")


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_networks_follow_the_schedule_and_are_counted_with_it(name):
    method = Hybrid(fineness=1.0)
    network = method.build(method.definition(_sequences(name), 20))
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                p.add_(0.2 * torch.randn_like(p))
    observed, x = pj.observe(network.train(), torch.rand(2, 20, 1)), torch.rand(6, 20, 1)

    def run(model, done):
        method.on_progress(network, Progress(0, 0, 5, done=done))
        torch.manual_seed(1)
        return model(x)

    expected = []
    for done, w in ((0, 16.0), (0.4, 4.0), (0.9, 1.0)):
        _, activity = run(observed, done)
        assert [n.fineness for n in _neurons(network)] == pytest.approx([w] * RECURRENT[name])
        events = [r for r in activity.synapses if isinstance(r.site.kind, Events)]
        assert all(r.site.kind == Events(1 / float(_neurons(network)[0].fineness), signed=True) for r in events)
        expected.append({r.site.name: r.acs.detach() for r in activity.synapses})
    with pj.meter(network) as meter:
        for done, wanted in zip((0, 0.4, 0.9), expected, strict=True):
            run(network, done)
            found = {r.site.name: r.acs.detach() for r in meter.activity().synapses}
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
            assert float(sum(acs.sum() for acs in wanted.values())) > 0


@pytest.mark.parametrize("name", RECURRENT)
def test_post_training_of_a_recurrent_network(name):
    method = make("hybrid", None, {"schedule": "none", "fineness": "1000"})
    wanted = _sequences(name)
    ann, x = make("ann").build(wanted).eval(), torch.rand(5, 20, 1)
    made = method.finish(ann, [], method.definition(wanted, 20))
    assert [n.fineness for n in _neurons(made)] == [1000.0] * RECURRENT[name]
    torch.testing.assert_close(made(x), ann(x), rtol=0, atol=0.02)


def test_an_activation_is_not_for_recurrent_networks():
    with pytest.raises(BadInput, match="expected no activation for gru-6, which has its own"):
        Hybrid(activation="tanh").definition(_sequences("gru-6"), 20)


@pytest.mark.parametrize("signals", ["u", "hu"])
def test_gated_cells_have_h_alone(signals):
    with pytest.raises(BadInput, match=f"expected signals h for gru-6, whose cells have h alone, got '{signals}'"):
        Hybrid(signals=signals).definition(_sequences("gru-6"), 20)


def test_a_schedule_that_rises_is_linear_or_fixed():
    for schedule in ("linear", "fixed"):
        assert Hybrid(fineness=32.0, schedule=schedule).fineness == 32


@pytest.mark.parametrize("penalty", [synaptic_penalty, bits_penalty])
@pytest.mark.parametrize("name", RECURRENT)
def test_every_signal_learns_a_fineness_of_its_own_under_a_penalty(name, penalty):
    torch.manual_seed(0)
    network = Hybrid(learn_fineness=1, fineness=3.0).build(_sequences(name))
    with torch.no_grad():
        for p in network.parameters():
            if p.dim() > 1 and p.requires_grad:
                p.add_(0.3 * torch.randn_like(p))
    x = torch.rand(16, 20, 1)
    _, activity = pj.observe(network, x)(x)
    logs = [n.fineness_log for n in _neurons(network) if n.fineness_log is not None]
    assert len(logs) == RECURRENT[name]
    assert all(g > 0 for g in torch.autograd.grad(penalty(activity), logs)), "finer events cost more"


def test_a_budget_of_bits_is_free_and_what_is_above_it_is_not():
    network, x = Hybrid(fineness=3.0).build(_sequences("lmu-6x8")), torch.rand(16, 20, 1)
    _, activity = pj.observe(network, x)(x)
    shift_adds = sum(float(r.shift_adds.detach().sum()) for r in activity.penalisable()) / 16
    each = shift_adds / sum(r.dense for r in activity.penalisable())  # significant bits in each multiplication
    for budget, excess in ((0.0, each), (each / 2, each / 2), (2 * each, 0.0)):
        method = BitsPenalty(budget=budget)
        assert float(method.penalty(activity).detach()) == pytest.approx(20 * excess, rel=1e-5)


@pytest.mark.parametrize("schedule", ["geometric", "linear", "fixed"])
@pytest.mark.parametrize("epochs", [*range(2, 31)])
def test_every_epoch_that_can_be_selected_is_judged_at_the_final_fineness(schedule, epochs):
    network, method, steps = Hybrid().build(_sequences("gru-6")), Hybrid(fineness=2.0, schedule=schedule), 10
    for epoch in range(math.floor(epochs * (1 - SELECTION_WINDOW)), epochs):
        done = ((epoch + 1) * steps - 1) / (epochs * steps)  # before the last step of the epoch
        method.on_progress(network, Progress(0, epoch, epochs, done=done))
        assert _neurons(network)[0].fineness == pytest.approx(2.0)
