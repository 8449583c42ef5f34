"""Traces and gradients worked out by hand."""

import pytest
import torch

from picojoule.neurons import IAF, LIF


def _column(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64).reshape(-1, 1, 1)


@pytest.mark.parametrize(
    "neuron, currents, events, v",
    [
        # v before reset: 0.75, 1.125, 0.75, 1.375
        (LIF(0.5), [0.75, 0.75, 0.75, 1.0], [0, 1, 0, 1], 0.0),
        # soft: 0.75, 1.125 -> 0.125, 0.8125, 1.40625 -> 0.40625
        (LIF(0.5, v_reset=None), [0.75, 0.75, 0.75, 1.0], [0, 1, 0, 1], 0.40625),
        # hard to -0.5: 1.25 -> -0.5, 0.5, 1.0 -> -0.5
        (LIF(0.5, v_reset=-0.5), [1.25, 0.75, 0.75], [1, 0, 1], -0.5),
        # from v = 0.5: 0.25 + 0.75 = 1 fires at the threshold
        (LIF(0.5, v_initial=0.5), [0.75, 0.5], [1, 0], 0.5),
        # integrate and fire, soft: 0.75, 1.5 -> 0.5, 1.25 -> 0.25, 1.0 -> 0
        (IAF(), [0.75, 0.75, 0.75, 0.75], [0, 1, 1, 1], 0.0),
        # one event a step at most: the rest stays on the membrane
        (IAF(), [3.5, 0.0, 0.0, 0.0], [1, 1, 1, 0], 0.5),
        # several events a step, four at most: 5.5 -> 1.5, 2.0 -> 0, -1, 0
        (IAF(max_events=4), [5.5, 0.5, -1.0, 1.0], [4, 2, 0, 0], 0.0),
        # several events, hard: 2.5 sends two, the rest is lost
        (IAF(v_reset=0.0, max_events=4), [2.5, 0.5, 0.5], [2, 0, 1], 0.0),
        # threshold 0.5, several events, leaky: 1.25 -> 0.25, 0.125 + 1 -> 0.125
        (LIF(0.5, 0.5, v_reset=None, max_events=3), [1.25, 1.0], [2, 2], 0.125),
        # starting at half the threshold, as conversion does
        (IAF(v_initial=0.5), [0.5, 0.5, 0.5], [1, 0, 1], 0.0),
        # negative potentials are kept, nothing is sent
        (IAF(), [-2.0, 1.5, 1.5], [0, 0, 1], 0.0),
    ],
)
def test_trace(neuron, currents, events, v):
    x = _column(currents)
    out, state = neuron.advance(x, neuron.initial_state(x))
    assert out.flatten().tolist() == events
    assert state.v.item() == v


@pytest.mark.parametrize(
    "neuron, currents, gradient",
    [
        # u = -0.25, then v = 0.375 + 0.5: u = -0.125; d/di1 = 0.75 + 0.5 * 0.875
        (LIF(0.5), [0.75, 0.5], [0.75 + 0.5 * 0.875, 0.875]),
        # the first step fires (u = 0.25): a hard reset cuts the path through v
        (LIF(0.5), [1.25, 0.5], [0.75, 0.5]),
        # a soft reset subtracts a constant: the path stays. v = 0.125 + 0.5, u = -0.375
        (LIF(0.5, v_reset=None), [1.25, 0.5], [0.75 + 0.5 * 0.625, 0.625]),
        # several events: each threshold has its surrogate. v = 1.75: u = 0.75 and -0.25
        (IAF(max_events=2), [1.75], [0.25 + 0.75]),
    ],
)
def test_gradient(neuron, currents, gradient):
    x = _column(currents).requires_grad_()
    neuron(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == gradient
