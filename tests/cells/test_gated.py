import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.cells import GRU, LSTM
from picojoule.energy import count
from picojoule.graph import observe
from picojoule.kinds import Events
from picojoule.neurons import Diffused

PAIRS = {"lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}
both = pytest.mark.parametrize("name", PAIRS)


def _pair(name):
    torch.manual_seed(0)
    ours, theirs = (kind(3, 5).double() for kind in PAIRS[name])
    with torch.no_grad():
        for mine, other in zip(ours._weights(), theirs.parameters(), strict=True):
            mine.copy_(other)
    return ours, theirs


def _x():
    return torch.rand(7, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@both
def test_is_torchs_layer(name):
    ours, theirs = _pair(name)
    torch.testing.assert_close(ours(_x()), theirs(_x())[0], rtol=0, atol=1e-12)


@both
def test_step_by_step_is_the_same(name):
    ours, theirs = _pair(name)
    calls = []
    ours.recurrent.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(ours(_x()), theirs(_x())[0], rtol=0, atol=1e-12)
    assert len(calls) == 7


@both
def test_in_pieces_equals_the_whole(name):
    cell, x = _pair(name)[0], _x()
    state, pieces = cell.initial_state(x), []
    for piece in x.split([1, 4, 2]):
        y, state = cell.advance(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces), cell(x), rtol=0, atol=1e-12)


@both
def test_observer_and_meter_agree(name):
    model, x = nn.Sequential(_pair(name)[0], nn.Linear(5, 2).double()), _x()
    with torch.no_grad():
        found = count(observe(model, x, batch_dim=1)(x)[1])
        with pj.meter(model, batch_dim=1) as meter:
            model(x)
            seen = count(meter.activity())
        with pj.meter(nn.Sequential(_pair(name)[1]), batch_dim=1) as meter:
            meter._session.model(x)
            theirs = count(meter.activity())
    assert found.layers == seen.layers == ("0.input", "0.recurrent", "1")
    torch.testing.assert_close(found.sums, seen.sums, rtol=0, atol=0)
    torch.testing.assert_close(found.sums[2:4, :2], theirs.sums[2:4, :2], rtol=0, atol=0)


@both
def test_gradients_reach_every_weight(name):
    cell = _pair(name)[0]
    cell(_x()).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in cell.parameters())


def _spiking(name, fineness=4.0, **settings):
    cell = _pair(name)[0]
    cell.spike_h = Diffused("identity", fineness, **settings)
    return cell.eval()


@both
def test_a_fine_quantiser_gives_torchs_layer(name):
    ours, theirs = _spiking(name, 1e6), _pair(name)[1]
    torch.testing.assert_close(ours(_x()), theirs(_x())[0], rtol=0, atol=1e-5)


@both
def test_h_is_handed_on_as_events_and_what_is_kept_stays_exact(name):
    cell, x = _spiking(name), _x()
    with torch.no_grad():
        y, after, entered = cell.forward_observed(x, cell.initial_state(x))
    assert cell.emits == cell.synapses()[1].kind == Events(0.25, signed=True)
    n, kept = entered["recurrent"] * 4, after.kept * 4
    torch.testing.assert_close(n, n.round(), rtol=0, atol=1e-12)
    assert torch.equal(entered["recurrent"][1:], y[:-1]) and n.any()
    assert (kept - kept.round()).abs().max() > 0.01


@both
def test_a_spiking_cell_in_pieces_equals_the_whole(name):
    cell, x = _spiking(name), _x()
    state, pieces = cell.initial_state(x), []
    for piece in x.split([1, 4, 2]):
        y, state = cell.advance(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces), cell(x), rtol=0, atol=0)


@both
def test_observer_and_meter_agree_on_a_spiking_cell(name):
    cell, x = _spiking(name), _x()
    model = nn.Sequential(cell, nn.Linear(5, 2).double())
    observed = observe(model, x, batch_dim=1)
    for fineness in (4.0, 2.5):
        cell.spike_h.fineness = fineness
        with torch.no_grad():
            _, activity = observed(x)
            with pj.meter(model, batch_dim=1) as meter:
                model(x)
                theirs = meter.activity()
        found, seen = count(activity), count(theirs)
        assert found.layers == seen.layers == ("0.input", "0.recurrent", "1")
        torch.testing.assert_close(found.sums, seen.sums, rtol=0, atol=0)
        n = (cell(x).detach() * fineness).round().abs()
        assert float(found.per_layer("acs")[2] * 4) == float(2 * n.sum()) > 0
        (mine,), (other,) = activity.neurons, theirs.neurons
        assert torch.equal(mine.events, other.events) and mine.steps == other.steps == 7
        assert mine.levels is not None and other.levels is not None
        assert torch.equal(mine.levels.counts, other.levels.counts)


@both
def test_backward_is_that_of_the_float_cell(name):
    gradients = []
    for cell in (_spiking(name, 1e6), _pair(name)[0]):
        cell(_x()).square().sum().backward()
        gradients.append([p.grad for p in cell.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
