"""What is no activity, no number or no mapping is refused with a sentence, by every penalty."""

from typing import Any

import pytest
import torch
from spiking_nets import sent, trains

import picojoule as pj
from picojoule.energy.penalties import activity_floor, rate_bounds
from picojoule.errors import BadInput

PENALTIES: Any = (
    pj.synaptic_penalty,
    pj.first_spike_penalty,
    activity_floor,
    lambda activity: rate_bounds(activity, upper=1.0),
)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("given", [torch.zeros(2, 3), None])
def test_no_activity(penalty, given):
    with pytest.raises(BadInput, match="expected the activity of pj.observe or pj.meter, got (Tensor|NoneType)"):
        penalty(given)


WRONG: Any = [
    (pj.synaptic_penalty, {"strengths": {"2": "a"}}, "a number as the strength of layer 2, got 'a'"),
    (pj.synaptic_penalty, {"strengths": [1, 2]}, r"expected strengths by layer name.*got \[1, 2\]"),
    (pj.synaptic_penalty, {"p": "2"}, "expected p=1 or p=2, got '2'"),
    (pj.first_spike_penalty, {"budget": "2"}, "expected a number as the budget, got '2'"),
    (pj.first_spike_penalty, {"budget": True}, "expected a number as the budget, got True"),
    (rate_bounds, {"upper": "1"}, "expected a number as a bound, got '1'"),
    (activity_floor, {"least": "1"}, "expected a number as the floor, got '1'"),
]


@pytest.mark.parametrize("penalty, given, hint", WRONG)
def test_wrong_types(penalty, given, hint):
    with pytest.raises(BadInput, match=hint):
        penalty(sent(trains("0110").requires_grad_()), **given)
