import pytest
import torch

from picojoule.cells import SpikingRNN
from picojoule.neurons import IAF, LIF


def _cell(neuron=None, dtype=torch.float64) -> SpikingRNN:
    torch.manual_seed(0)
    cell = SpikingRNN(3, 5, neuron).to(dtype)
    with torch.no_grad():
        cell.recurrent.weight.mul_(2)
    return cell


@pytest.fixture
def x():
    return 2 * torch.rand(6, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("neuron", [None, LIF(0.9, v_reset=None), IAF(0.5, max_events=3)])
def test_agrees_with_a_plain_loop(x, neuron):
    cell = _cell(neuron)
    events, state = cell(x), cell.neuron.initial_state(torch.zeros(1, 4, 5, dtype=torch.float64))
    sent = torch.zeros(4, 5, dtype=torch.float64)
    for t in range(6):
        current = x[t] @ cell.input.weight.T + cell.input.bias + sent @ cell.recurrent.weight.T
        state, sent = cell.neuron.step(state, current)
        torch.testing.assert_close(events[t], sent, rtol=0, atol=0)
    assert events.sum() > 0 and cell.emits == cell.neuron.emits


@pytest.mark.parametrize("cuts", [(1, 5), (3, 3), (1,) * 6])
def test_in_pieces_equals_the_whole(x, cuts):
    cell = _cell()
    whole, last = cell.advance(x, cell.initial_state(x))
    state, pieces = cell.initial_state(x), []
    for piece in x.split(list(cuts)):
        events, state = cell.advance(piece, state)
        pieces.append(events)
    assert torch.equal(torch.cat(pieces), whole)
    assert torch.equal(state.events, last.events) and torch.equal(state.neuron.v, last.neuron.v)


def test_permuting_samples_and_short_batches(x):
    cell, order = _cell(), torch.tensor([2, 0, 3, 1])
    assert torch.equal(cell(x[:, order]), cell(x)[:, order])
    assert torch.equal(cell(x[:, :1]), cell(x)[:, :1])
    assert torch.equal(cell(x), cell(x))


def test_reports_what_entered_each_synapse(x):
    cell = _cell()
    first, state = cell.advance(x[:2], cell.initial_state(x))
    events, after, entered = cell.forward_observed(x[2:], state)
    plain, plain_after = cell.advance(x[2:], state)
    assert torch.equal(events, plain) and torch.equal(after.events, plain_after.events)
    assert [s.name for s in cell.synapses()] == list(entered)
    assert torch.equal(entered["input"], x[2:])
    assert torch.equal(entered["recurrent"], torch.cat([first[-1:], events[:-1]]))


def test_gradients_are_finite(x):
    cell = _cell()
    cell(x).sum().backward()
    for parameter in cell.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all() and (parameter.grad != 0).any()
