"""The diagnosis finds what was broken on purpose, and names the cause."""

from dataclasses import replace

import pytest
import torch
from made_up_networks import made_up
from torch import nn

from picojoule.conversion import ECCOptions, convert, diagnose
from picojoule.errors import BadInput
from picojoule.neurons import IAF

EXACT = ECCOptions(normalisation="max")


def batches(digits, most=120):
    return digits.images[:most].split(40)


def by_name(found):
    return {layer.name: layer for layer in found.layers}


def test_many_steps_agree_with_the_network(digits_maximum):
    made = convert(digits_maximum.network, digits_maximum.calibration, timesteps=256, options=EXACT)
    found = diagnose(made, batches(digits_maximum))
    assert [layer.name for layer in found.layers] == [layer.name for layer in made.layers]
    assert found.breaks_at is None and "No layer breaks" in found.suggestion
    for layer in found.layers:
        assert layer.correlation > 0.995 and layer.max_error < 0.02 and layer.missing_fraction < 0.01


def test_numbers_of_one_layer_by_hand():
    """Two channels, constant currents 0.3 and 0.9 of a threshold, four steps: counts 1 and 4."""
    first = nn.Linear(1, 2, bias=False)
    network = nn.Sequential(first, nn.ReLU(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[0.3], [0.9]]))
    x = torch.ones(4, 1)
    made = convert(network, x, timesteps=4, options=ECCOptions(constant=1.0))
    (layer,) = diagnose(made, [x]).layers
    rates, activations = torch.tensor([0.25, 1.0]), torch.tensor([0.3, 0.9])
    errors = rates - activations
    assert layer.mean_error == pytest.approx(float(errors.abs().mean()), abs=1e-6)
    assert layer.max_error == pytest.approx(0.1, abs=1e-6) and layer.shift == pytest.approx(0.1, abs=1e-6)
    assert layer.correlation == pytest.approx(1.0)
    assert layer.residual == pytest.approx((0.2 + 0.4) / 2, abs=1e-6)
    assert layer.saturated_fraction == 0.5 and layer.silent_fraction == layer.missing_fraction == 0


@pytest.mark.parametrize("name", ["avg-pool", "leaky-pooled", "residual"])
def test_neurons_that_only_round_leave_a_quarter_of_their_own_threshold(name):
    """Pools and sums have thresholds other than 1; uneven arrival of events adds to the quarter behind other layers."""
    network, x = made_up(name)
    made = convert(network, x, timesteps=64, options=EXACT)
    thresholds = [float(m.threshold) for m in made.network.modules() if isinstance(m, IAF)]
    if name != "residual":
        assert min(abs(t - 1) for t in thresholds if t != 1) > 0.02
    for layer in diagnose(made, [x]).layers:
        assert 0.2 < layer.residual < 0.6, layer


def constant_layer(bias):
    """Three neurons that no image changes, in front of the scores."""
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    with torch.no_grad():
        network[0].weight.zero_()  # pyright: ignore
        network[0].bias.fill_(bias)  # pyright: ignore
    return network, torch.rand(6, 2)


@pytest.mark.parametrize("bias", [-1.0, 0.3])
def test_a_population_that_is_rightly_silent_or_constant_does_not_break(bias):
    network, x = constant_layer(bias)
    found = diagnose(convert(network, x, timesteps=8, options=ECCOptions(constant=1.0)), [x])
    assert found.layers[0].correlation == 1 and found.layers[0].max_error <= 1 / 8
    assert found.breaks_at is None


def test_a_constant_population_with_the_wrong_rate_breaks():
    network, x = constant_layer(0.9)
    made = convert(network, x, timesteps=8, options=ECCOptions(constant=0.5))
    assert diagnose(made, [x]).breaks_at == made.layers[0].name


def test_a_scale_far_too_small_saturates(digits_maximum):
    made = convert(digits_maximum.network, digits_maximum.calibration, timesteps=8, options=ECCOptions(constant=0.05))
    found = diagnose(made, batches(digits_maximum))
    first = next(layer for layer in found.layers if layer.name == found.breaks_at)
    assert first.saturated_fraction > 0.1
    assert "cut off" in found.suggestion and first.name in found.suggestion


def test_a_scale_far_too_large_silences(digits_maximum):
    made = convert(digits_maximum.network, digits_maximum.calibration, timesteps=4, options=ECCOptions(constant=60.0))
    found = diagnose(made, batches(digits_maximum))
    first = next(layer for layer in found.layers if layer.name == found.breaks_at)
    assert first.silent_fraction > 0.9 and first.missing_fraction > 0.5
    assert "never fire" in found.suggestion


def test_the_first_layer_that_breaks_is_named(digits_maximum):
    """Weights of one layer are spoilt after conversion: those before it are as they were."""
    made = convert(digits_maximum.network, digits_maximum.calibration, timesteps=64, options=EXACT)
    whole = diagnose(made, batches(digits_maximum))
    spoilt = [m for m in made.network.modules() if isinstance(m, nn.Conv2d)][1]
    with torch.no_grad():
        spoilt.weight.copy_(spoilt.weight.flip(0))
    found = diagnose(made, batches(digits_maximum))
    assert found.layers[0] == whole.layers[0]
    assert found.breaks_at == found.layers[1].name


def test_a_wrong_epsilon_shows_in_the_first_layer(digits_maximum):
    options = replace(EXACT, bn_epsilon=10.0)
    made = convert(digits_maximum.network, digits_maximum.calibration, timesteps=64, options=options)
    right = convert(digits_maximum.network, digits_maximum.calibration, timesteps=64, options=EXACT)
    found = diagnose(made._replace(ann=right.ann, layers=right.layers), batches(digits_maximum))
    assert found.layers[0].max_error > 0.05


def test_no_images_are_refused(digits_maximum):
    made = convert(digits_maximum.network, digits_maximum.calibration, timesteps=2)
    with pytest.raises(BadInput):
        diagnose(made, [])


def test_images_come_as_one_tensor_or_with_labels(digits_maximum):
    made, x = convert(digits_maximum.network, digits_maximum.calibration, timesteps=2), digits_maximum.images[:120]
    found = diagnose(made, x.split(100))
    assert diagnose(made, x) == diagnose(made, [(b, None) for b in x.split(100)]) == found


def test_images_of_another_shape_are_refused(digits_maximum):
    made = convert(digits_maximum.network, digits_maximum.calibration, timesteps=2)
    with pytest.raises(BadInput, match=r"expected images to diagnose \[B, 1, 8, 8\], got shape \[4, 3, 8, 8\]"):
        diagnose(made, [torch.rand(4, 3, 8, 8)])


def test_it_is_plain_json(digits_maximum):
    made = convert(digits_maximum.network, digits_maximum.calibration, timesteps=2)
    found = diagnose(made, batches(digits_maximum, 40)).to_dict()
    assert {"name", "correlation", "max_error", "silent_fraction", "saturated_fraction"} <= found["layers"][0].keys()
    assert set(found) == {"layers", "breaks_at", "suggestion"}
