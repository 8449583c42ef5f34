"""Models whose events stop being events: they must be counted as values, or refused, never wrongly in silence."""

import pytest
import torch
from torch import nn

from picojoule.energy import count
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.kinds import Events, Values


class Traps(nn.Module):
    def __init__(self, trap: str):
        super().__init__()
        self.trap = trap
        self.fc = nn.Linear(6, 3)
        self.token = nn.Parameter(torch.randn(1, 6))

    def forward(self, x):
        e = (x > 0).float()
        if self.trap == "concatenated parameter":
            e = torch.cat([self.token, e])
        elif self.trap == "in-place scale":
            e.mul_(0.3)
        elif self.trap == "in-place add":
            e.add_(x)
        elif self.trap == "in-place on a view":
            e.view(-1, 6).mul_(0.3)
        elif self.trap == "batch mean":
            e = e * e.mean()
        return self.fc(e)


@pytest.mark.parametrize(
    "trap", ["concatenated parameter", "in-place scale", "in-place add", "in-place on a view", "batch mean"]
)
def test_what_is_no_event_any_more_is_a_value_or_listed(trap):
    x = torch.randn(4, 6)
    observed = observe(Traps(trap), x)
    assert all(isinstance(site.kind, Values) for site in observed.sites)
    assert observed.sites or observed.uncounted
    if observed.sites:
        assert float(count(observed(x)[1]).total("acs")) == 0


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc((x > 0).float().mean(1))


def test_a_mean_over_another_number_of_steps_is_refused():
    observed = observe(Mean(), torch.randn(2, 4, 6))
    with torch.no_grad():
        observed(torch.randn(5, 4, 6))
        with pytest.raises(BadInput, match="whole multiples of 0.25"):
            observed(torch.randn(5, 7, 6))


@pytest.mark.parametrize("x", [-torch.ones(2, 6), torch.full((2, 6), 0.5)])
def test_declared_events_that_are_none_are_refused(x):
    observed = observe(nn.Linear(6, 3), x, Events())
    with torch.no_grad(), pytest.raises(BadInput, match="declare the kind"):
        observed(x)


def test_a_quantum_is_positive():
    with pytest.raises(BadInput, match="quantum above 0"):
        Events(0.0)
