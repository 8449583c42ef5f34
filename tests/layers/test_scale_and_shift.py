"""Constant factors and offsets, and what they make of events."""

import pytest
import torch
from torch import nn

from picojoule.graph import observe
from picojoule.kinds import Events, Values
from picojoule.layers import EvenRate, MeanReadout, Scale, Shift
from picojoule.networks import Network


def kind_behind(layer: nn.Module) -> Events | Values:
    parts = nn.Sequential(EvenRate(4), layer, nn.Flatten(2), nn.Linear(12, 2), MeanReadout())
    observed = observe(Network(parts, (3, 2, 2), 2), torch.rand(2, 3, 2, 2))
    observed(torch.rand(2, 3, 2, 2))
    return observed.sites[0].kind


def test_a_scalar_factor_makes_events_of_another_quantum():
    kind = kind_behind(Scale(-0.25))
    assert kind == Events(0.25, signed=True, most=1)


@pytest.mark.parametrize(
    "layer", [Scale(torch.rand(3, 1, 1)), Scale(0.0), Shift(0.5)], ids=["channels", "zero", "shift"]
)
def test_other_constants_make_values_of_events(layer):
    kind = kind_behind(layer)
    assert isinstance(kind, Values) and "events" in kind.reason


def test_constants_broadcast_over_time_and_are_no_parameters():
    x, factor, offset = torch.rand(5, 2, 3, 4, 4), torch.rand(3, 1, 1), torch.rand(3, 4, 4)
    both = nn.Sequential(Scale(factor), Shift(offset))
    torch.testing.assert_close(both(x), x * factor + offset)
    assert not list(both.parameters()) and list(both.state_dict()) == ["0.factor", "1.offset"]
    factor.zero_()
    assert bool((both[0].factor > 0).all()), "it keeps a copy"  # pyright: ignore[reportOperatorIssue]
