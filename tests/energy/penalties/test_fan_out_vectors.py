"""Fan-out maps and interior constants, as the reader of a paper computes them by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from picojoule.energy.penalties import dense_accumulates, synaptic_penalty
from picojoule.errors import BadInput
from picojoule.graph import Activity, observe
from picojoule.layers import Timewise
from picojoule.metering import meter
from picojoule.neurons import LIF


def _all_fire(conv: nn.Module, shape: tuple[int, ...], metered: bool = False, steps: int = 1) -> Activity:
    """Every neuron in front of `conv` sends one event at every step."""
    channels = shape[0]
    shift = nn.Conv2d(channels, channels, 1) if len(shape) == 3 else nn.Conv1d(channels, channels, 1)
    with torch.no_grad():
        shift.weight.zero_()
        assert shift.bias is not None
        shift.bias.fill_(9)
    model = nn.Sequential(Timewise(shift), LIF(), conv)
    x = torch.zeros(steps, 2, *shape)
    if not metered:
        return observe(model, x, batch_dim=1)(x)[1]
    with meter(model, batch_dim=1) as m:
        model(x)
        return m.activity()


def _map(activity: Activity, shape: tuple[int, ...]) -> Tensor:
    operand = activity.synapses[-1].operand
    assert operand is not None
    return operand.synapses[0, 0].expand(shape)


PAD_1 = [[16, 24, 24, 16], [24, 36, 36, 24], [24, 36, 36, 24], [16, 24, 24, 16]]
STRIDE_2 = [[[4, 8, 4, 4], [8, 16, 8, 8], [4, 8, 4, 4], [4, 8, 4, 4]]] * 2
EVEN = [[[6 * (row % 2 == 0 and column % 2 == 0) for column in range(8)] for row in range(8)]] * 3


@pytest.mark.parametrize(
    "conv, shape, expected, total, interior",
    [
        (nn.Conv2d(1, 4, 3, padding=1), (1, 4, 4), [PAD_1], 400, 576),
        (nn.Conv2d(2, 4, 3, stride=2, padding=1), (2, 4, 4), STRIDE_2, 200, 288),
        (nn.Conv2d(3, 6, 1, stride=2), (3, 8, 8), EVEN, 288, 288),
    ],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_maps(conv: nn.Module, shape: tuple[int, ...], expected: Any, total: int, interior: int, steps: int):
    activity = _all_fire(Timewise(conv), shape, steps=steps)
    assert _map(activity, shape).tolist() == expected
    assert synaptic_penalty(activity).item() == steps * total
    assert synaptic_penalty(activity, psi="interior").item() == steps * interior
    assert dense_accumulates(activity) == total


@pytest.mark.parametrize(
    "layer, shape, constant",
    [
        (nn.Conv2d(1, 4, 3, padding=1), (1, 4, 4), 36),
        (nn.Conv2d(2, 4, 3, stride=2, padding=1), (2, 4, 4), 9),
        (nn.Conv2d(4, 8, (3, 1), groups=2), (4, 6, 6), 12),
        (nn.Conv2d(2, 3, 3, dilation=2), (2, 9, 9), 27),
        (nn.ConvTranspose2d(2, 6, 3, stride=2, groups=2), (2, 4, 4), 27),
        (nn.Conv1d(2, 5, 4, stride=(2,)), (2, 12), 10),
    ],
)
@pytest.mark.parametrize("metered", [False, True])
def test_constants(layer: nn.Module, shape: tuple[int, ...], constant: float, metered: bool):
    activity = _all_fire(Timewise(layer), shape, metered)
    assert activity.synapses[-1].site.interior == constant
    neurons = torch.Size(shape).numel()
    assert synaptic_penalty(activity, psi="interior").item() == neurons * constant
    assert synaptic_penalty(activity, 2, psi="interior").item() == neurons * constant / 2
    assert synaptic_penalty(activity, 2, psi="interior", power_on="count").item() == neurons * constant / 2


@pytest.mark.parametrize("settings", [{"stride": 2, "groups": 2, "padding": 1}, {"padding": "same"}, {}])
def test_a_functional_convolution_has_the_constant_of_its_module(settings: dict[str, Any]):
    weight = torch.ones(4, 4 // settings.get("groups", 1), 3, 3)

    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x.flatten(0, 1), weight, **settings)

    module = nn.Conv2d(4, 4, 3, **settings)
    found, expected = (_all_fire(layer, (4, 8, 8)) for layer in (Functional(), Timewise(module)))
    penalties = [synaptic_penalty(activity, psi="interior").item() for activity in (found, expected)]
    assert penalties[0] == penalties[1] > synaptic_penalty(found).item()


def test_a_dense_layer_has_no_border():
    model = nn.Sequential(nn.Linear(4, 6), LIF(0.5, 0.1), nn.Linear(6, 5))
    x = torch.rand(2, 3, 4)
    activity = observe(model, x, batch_dim=1)(x)[1]
    assert activity.synapses[-1].site.interior is None
    exact, interior = (synaptic_penalty(activity, psi=psi).item() for psi in ("exact", "interior"))
    assert exact == interior > 0


def test_an_interior_that_is_not_known():
    kernel = torch.ones(2, 2, 3, 3)

    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x.flatten(0, 1), kernel, padding=1)

    activity = _all_fire(Functional(), (2, 6, 6), metered=True)
    assert synaptic_penalty(activity).item() > 0
    with pytest.raises(BadInput, match="interior fan-out is not known; give psi='exact'"):
        synaptic_penalty(activity, psi="interior")
