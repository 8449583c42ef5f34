import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.cells import GRU, LSTM
from picojoule.energy import count
from picojoule.graph import observe

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
