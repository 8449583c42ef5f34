"""The methods of the baselines: their term is the penalty of their name, with the options they were given."""

import pytest
import torch

from picojoule.data import intensities, load
from picojoule.energy import penalties
from picojoule.errors import BadInput
from picojoule.experiment.method import Progress
from picojoule.graph import observe
from picojoule.methods import make
from picojoule.networks import Definition

LAYERS = {"lif1": 2.0, "lif2": 0.5}


@pytest.mark.parametrize(
    "name, options, penalty",
    [
        ("total-spikes", {}, lambda a: penalties.total_spikes(a) / penalties.hidden_neurons(a)),
        ("total-spikes", {"p": "2"}, lambda a: penalties.total_spikes(a, 2) / penalties.hidden_neurons(a)),
        (
            "total-spikes",
            {"layers": "lif1=2,lif2=0.5"},
            lambda a: penalties.total_spikes(a, strengths=LAYERS) / penalties.hidden_neurons(a),
        ),
        ("layer-mean", {}, lambda a: penalties.layer_mean(a)),
        ("layer-mean", {"p": "2"}, lambda a: penalties.layer_mean(a, 2)),
        ("layer-mean", {"layers": "lif1=2,lif2=0.5"}, lambda a: penalties.layer_mean(a, strengths=LAYERS)),
        ("rate-bounds", {}, lambda a: penalties.rate_bounds(a, 0.0, 0.1, power=2, over="population")),
        (
            "rate-bounds",
            {"lower": "0.2", "upper": "0.3", "power": "1", "over": "neuron"},
            lambda a: penalties.rate_bounds(a, 0.2, 0.3, power=1, over="neuron"),
        ),
        (
            "synops-target",
            {"target": "0.3"},
            lambda a: penalties.synops_target(a, 0.3 * penalties.dense_accumulates(a)),
        ),
    ],
)
def test_the_term_is_the_penalty_times_strength_and_ramp(name, options, penalty):
    data = load("digits")
    torch.manual_seed(0)
    network = make("plain").build(Definition("small-cnn", (1, 8, 8), 10, timesteps=2)).train()
    x, y = intensities(data.train.images[:20], data.scale), data.train.labels[:20]
    output, activity = observe(network, x[:1])(x)
    expected = penalty(activity)
    assert expected > 0
    half_way = Progress(0, 1, 4)
    terms = make(name, 3.0, options).loss(output, y, activity, half_way)
    assert set(terms) == {"task", name}
    torch.testing.assert_close(terms[name].double(), 1.5 * expected.double(), rtol=1e-6, atol=0)
    assert terms[name].requires_grad


@pytest.mark.parametrize(
    "name, options",
    [
        ("total-spikes", {"p": "3"}),
        ("layer-mean", {"p": "0"}),
        ("rate-bounds", {"lower": "0.4", "upper": "0.3"}),
        ("rate-bounds", {"over": "network"}),
        ("rate-bounds", {"power": "3"}),
        ("synops-target", {"target": "0"}),
        ("synops-target", {"layers": "conv1=2"}),
    ],
)
def test_options_out_of_range_are_refused(name, options):
    with pytest.raises(BadInput):
        make(name, None, options)
