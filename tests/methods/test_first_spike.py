"""The first-spike method: phases, terms, what it builds, and how it adds up with the synaptic penalty."""

from typing import Any

import pytest
import torch

from picojoule.data import intensities, load
from picojoule.energy.penalties import first_spike_penalty
from picojoule.errors import BadInput
from picojoule.experiment.method import Progress
from picojoule.graph import observe
from picojoule.methods import check_options, make
from picojoule.methods.combined import Combined
from picojoule.methods.first_spike import FirstSpike
from picojoule.networks import Definition
from picojoule.neurons import CubaLIF

WANTED = Definition("mlp-2x16", (1, 8, 8), 10, encoder="latency-early", readout="max-membrane")


def losses(name: str, options: dict[str, str] | None = None, progress: Progress = Progress(1, 1, 4)):  # noqa: B008
    """The terms of one batch, and its activity."""
    method = make(name, None, options)
    torch.manual_seed(0)
    network = method.build(method.definition(WANTED, 20))
    data = load("digits")
    x, y = intensities(data.train.images[:16], data.scale), data.train.labels[:16]
    output, activity = observe(network, x)(x)
    return method.loss(output, y, activity, progress), activity


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("activate-then-trim", [(5, 1.0, {"task", "floor"}), (6, 0.5, {"task", "floor", "first-spike"})]),
        ("order-only", [(5, 1.0, {"task"}), (6, 0.5, {"task", "first-spike"})]),
        ("activity-first", [(1, 1.0, {"floor"}), (10, 1.0, None)]),
        ("one-phase", [(11, 1.0, {"task", "first-spike"})]),
    ],
)
def test_schedules(schedule, expected):
    phases = FirstSpike(schedule=schedule).phases(11)
    assert [(p.epochs, p.lr_scale, p.terms and set(p.terms)) for p in phases] == expected
    assert phases[-1].start == ("best" if phases[-1].lr_scale == 0.5 else "last")


def test_the_term_is_strength_times_ramp_times_excess():
    terms, activity = losses("first-spike", {"strength": "3", "gate": "after-first"})
    assert set(terms) == {"task", "first-spike", "floor"}
    value = first_spike_penalty(activity, gate="after-first").item()
    assert value > 0 and terms["first-spike"].item() == pytest.approx(3 * 0.5 * value)
    assert losses("first-spike", {"strength": "3", "ramp": "0.5"})[0]["first-spike"].item() == pytest.approx(3 * value)


def test_it_builds_current_based_neurons_on_a_latency_code():
    method = make("first-spike")
    network = method.build(method.definition(WANTED, None))
    assert any(type(m) is CubaLIF for m in network.modules()) and network.timesteps == 20
    assert (method.encoder, method.readout) == ("latency-early", "max-membrane")


@pytest.mark.parametrize(
    "options",
    [{"budget": "0"}, {"gate": "loose"}, {"weight": "none"}, {"schedule": "never"}]
    + [{"schedule": "activity-first", "floor": "0"}, {"surrogate": "fast_sigmoid:slop=100"}]
    + [{"surrogate": "arctan:alpha=-1"}, {"surrogate": "arctan:alpha"}, {"layers": "lif1"}],
)
def test_bad_options(options):
    with pytest.raises(BadInput):
        make("first-spike", None, options)


def test_beside_the_synaptic_penalty_an_excess_spike_costs_what_it_reaches():
    method = make("synaptic-penalty+first-spike", 2.0, {"first-spike:strength": "5"})
    assert isinstance(method, Combined) and method.name == "synaptic-penalty+first-spike"
    parts: Any = method.parts
    synaptic, first = parts
    assert (synaptic.strength, first.strength, first.options()["weight"]) == (2.0, 5.0, "fan-out")
    assert method.strength == 2.0 and not method.keeps_trains()
    assert {k: v for k, v in method.options().items() if k.endswith("strength")} == {"first-spike:strength": 5.0}
    chosen = make("synaptic-penalty+first-spike", None, {"weight": "layer"})
    assert chosen.options()["first-spike:weight"] == "layer" and chosen.keeps_trains()
    assert [p.terms and set(p.terms) for p in method.phases(4)] == [
        {"task", "floor"},
        {"task", "floor", "first-spike", "synaptic-penalty"},
    ]
    assert set(method.cite) == set(synaptic.cite) | set(first.cite)


def test_the_terms_of_a_combination_are_those_of_its_parts():
    both, activity = losses("synaptic-penalty+first-spike")
    alone, _ = losses("synaptic-penalty", {"neuron": "cuba-lif", "decay": "0.904837", "synaptic_decay": "0.818731"})
    assert set(both) == {"task", "floor", "synaptic-penalty", "first-spike"}
    assert both["synaptic-penalty"].item() == pytest.approx(alone["synaptic-penalty"].item())
    assert both["first-spike"].item() == pytest.approx(0.5 * first_spike_penalty(activity, weight="fan-out").item())


def test_a_sweep_beside_a_part_of_a_fixed_strength_is_one_sweep():
    """Also where a strength of the sweep is the fixed one."""
    made = [make("synaptic-penalty+first-spike", s, {"synaptic-penalty:strength": "0.5"}) for s in (0.5, 1.0, 2.0)]
    assert all(isinstance(method, Combined) for method in made)
    assert [method.strength for method in made if isinstance(method, Combined)] == [0.5, 1.0, 2.0]
    assert made[0].options() == made[1].options() == made[2].options()
    assert made[0].options()["synaptic-penalty:strength"] == 0.5
    both = {"synaptic-penalty:strength": "1", "first-spike:strength": "1"}
    own = make("synaptic-penalty+first-spike", 3.0, both)
    assert isinstance(own, Combined) and own.strength is None
    assert own.options().items() >= {"synaptic-penalty:strength": 1.0, "first-spike:strength": 1.0}.items()


def test_what_is_named_closest_counts():
    name = "synaptic-penalty+first-spike"
    given = {"first-spike:ramp": "0.1", f"{name}:ramp": "0.2", "ramp": "0.3"}
    for options in (given, dict(reversed(given.items()))):
        check_options([name, "synaptic-penalty"], options)
        found = make(name, None, options).options()
        assert (found["synaptic-penalty:ramp"], found["first-spike:ramp"]) == (0.2, 0.1)
        assert make("synaptic-penalty", None, options).options()["ramp"] == 0.3
    with pytest.raises(BadInput, match="unknown method 'synaptic-penalty.first-spike'"):
        check_options(["plain", "first-spike"], {f"{name}:ramp": "0.2"})


@pytest.mark.parametrize("name", ["first-spike+ecc", "first-spike+first-spike", "first-spike+", "plain+first-spike"])
def test_what_cannot_be_added_up(name):
    with pytest.raises(BadInput):
        make(name)


def test_a_name_missing_beside_a_plus_is_said():
    with pytest.raises(BadInput, match=r"before and after every \+.*got 'synaptic-penalty\+'"):
        make("synaptic-penalty+")


def test_a_layer_named_twice_is_refused():
    with pytest.raises(BadInput, match="every name once in layers"):
        make("synaptic-penalty", None, {"layers": "conv2=2,conv2=3"})


def test_a_part_that_needs_time_steps_is_refused_without():
    method = make("first-spike+synaptic-penalty")
    with pytest.raises(BadInput, match="name first-spike last"):
        method.definition(WANTED, None)


def test_two_floors_of_different_weight_are_refused():
    with pytest.raises(BadInput, match="one floor"):
        make("synaptic-penalty+first-spike", None, {"synaptic-penalty:floor": "1"})
    with pytest.raises(BadInput, match="synaptic-penalty 0.1 at floor_rate 0.5, first-spike 0.1 at floor_rate 0.1"):
        make("synaptic-penalty+first-spike", None, {"floor": "0.1", "synaptic-penalty:floor_rate": "0.5"})
    both = make("synaptic-penalty+first-spike", None, {"floor": "1"})
    assert isinstance(both, Combined)
    parts: Any = both.parts
    assert {p.floor for p in parts} == {1.0}
