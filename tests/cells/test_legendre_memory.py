import re
from typing import Any

import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.cells import LegendreMemory, feed_forward_lmu
from picojoule.energy import QUANTITIES, count
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.kernels.lmu.matrices import check_memory, discretised, shortest_window
from picojoule.kernels.lmu.memory import by_loop
from picojoule.layers import BlockLowRank


def _x(steps=40, inputs=2):
    return torch.rand(steps, 3, inputs, generator=torch.Generator().manual_seed(1)) - 0.5


def _loop(memory, x):
    ad, bd = discretised(memory.order, float(torch.as_tensor(memory.theta).detach()), memory.discretisation)
    m = torch.zeros(x.shape[1], memory.inputs, memory.order, dtype=torch.float64)
    return by_loop(x.double(), m, ad, bd).flatten(2).float()


VARIANTS = {
    "zoh": {},
    "euler": {"order": 4, "theta": 100},
    "learned": {"learn_theta": True},
    "low rank": {"low_rank": True},
    "last": {"last": True},
}


def _memory(order=32, theta=64, **settings):
    return LegendreMemory(order, theta, 2, **settings)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("steps, batch", [(3, 3), (70, 3), (70, 8), (70, 65)])
def test_is_the_loop(name, steps, batch):
    settings = dict(VARIANTS[name])
    if name == "euler":
        settings["discretisation"] = "euler"
    memory, x = _memory(**settings), torch.rand(steps, batch, 2) - 0.5
    expected = _loop(memory, x)
    torch.testing.assert_close(memory(x), expected[-1:] if memory.last else expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["zoh", "last", "learned"])
def test_in_pieces_equals_the_whole(name):
    memory, x = _memory(**VARIANTS[name]), _x()
    whole, after = memory.advance(x, memory.initial_state(x))
    state, pieces = memory.initial_state(x), []
    for piece in x.split([1, 20, 19]):
        y, state = memory.advance(piece, state)
        pieces.append(y)
    torch.testing.assert_close(state, after, rtol=0, atol=1e-6)
    expected = pieces[-1] if memory.last else torch.cat(pieces)
    torch.testing.assert_close(expected, whole, rtol=0, atol=1e-6)


def test_theta_is_trained_and_the_rest_is_not():
    memory = _memory(learn_theta=True)
    trained = [name for name, p in memory.named_parameters() if p.requires_grad]
    assert trained == ["theta_log"] and not any(p.requires_grad for p in _memory().parameters())
    memory(_x()).square().sum().backward()
    assert memory.theta_log is not None and memory.theta_log.grad is not None and memory.theta_log.grad.abs() > 0
    with torch.no_grad():
        memory.theta_log.add_(0.5)
    torch.testing.assert_close(memory(_x()), _loop(memory, _x()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("discretisation, order, shortest", [("zoh", 4, 1.0), ("euler", 4, 4.8)])
def test_a_learned_window_never_becomes_too_short(discretisation, order, shortest):
    memory = LegendreMemory(order, 20, 2, learn_theta=True, discretisation=discretisation)
    assert memory.theta_log is not None
    with torch.no_grad():
        memory.theta_log.fill_(-3.0)
    theta = float(torch.as_tensor(memory.theta).detach())
    assert theta == pytest.approx(shortest_window(order, discretisation)) and theta == pytest.approx(shortest, abs=0.5)
    check_memory(order, theta, discretisation)  # it can be opened again
    y = memory(_x(500))
    y.square().sum().backward()
    assert y.abs().max() < 100 and memory.theta_log.grad is not None and memory.theta_log.grad.abs() > 0


@pytest.mark.parametrize("last", [True, False])
def test_what_is_kept_follows_the_parameters(last):
    x, memory = _x(), _memory(last=last)
    ad_layer: Any = memory.Ad
    memory(x)
    ad, bd = discretised(32, 90)
    with torch.no_grad():
        ad_layer.weight.copy_(ad)
        memory.Bd.weight.copy_(bd)
    torch.testing.assert_close(memory(x), _memory(theta=90, last=last)(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("other", [dict(theta=65), dict(theta=4000, order=4, discretisation="euler")])
def test_the_matrices_of_another_window_are_refused(other):
    own = LegendreMemory(other.get("order", 32), other["theta"] - 1, 2)
    with pytest.raises(BadInput, match=f"a memory over theta = {other['theta'] - 1} steps under zoh, got those of an"):
        own.load_state_dict(_memory(**other).state_dict())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_state_of_the_same_window_is_loaded_in_every_precision(name):
    settings: dict[str, Any] = VARIANTS[name] | ({"discretisation": "euler"} if name == "euler" else {})
    short, single, double = torch.bfloat16, torch.float32, torch.float64
    for there, here in ((single, double), (short, single), (double, single)):
        own = _memory(**settings).to(here)
        own.load_state_dict(_memory(**settings).to(there).state_dict())
        torch.testing.assert_close(own.Bd.weight, _memory(**settings).to(here).Bd.weight, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("name", ["zoh", "low rank", "last"])
def test_observer_and_meter_agree(name):
    model, x = nn.Sequential(_memory(**VARIANTS[name])), _x()
    with torch.no_grad():
        y, activity = observe(model, x, batch_dim=1)(x)
        with pj.meter(model, batch_dim=1) as meter:
            metered = model(x)
            seen = count(meter.activity())
    found = count(activity)
    assert found.layers == seen.layers and not meter.uncounted
    torch.testing.assert_close(found.sums, seen.sums, rtol=0, atol=0)
    torch.testing.assert_close(y, metered, rtol=0, atol=1e-6)


def test_low_rank_is_the_matrix_with_fewer_operations():
    dense, few = LegendreMemory(256, 784), LegendreMemory(256, 784, low_rank=True)
    assert isinstance(few.Ad, BlockLowRank)
    ad = discretised(256, 784)[0]
    torch.testing.assert_close(few.Ad.dense().double(), ad, rtol=0, atol=1e-6)
    macs = []
    for memory in (dense, few):
        x = torch.rand(4, 2, 1)
        counts = count(observe(nn.Sequential(memory), x, batch_dim=1)(x)[1])
        own = [i for i, name in enumerate(counts.layers) if ".Ad" in name or name.endswith("Ad") or "Ad." in name]
        macs.append(float(counts.sums[QUANTITIES.index("dense_macs")][own].sum() / 2 / 4))
    assert macs[0] == 65_536 and macs[1] < macs[0] / 3


def test_the_feed_forward_lmu():
    x = _x(30, 3)
    torch.manual_seed(0)
    model = feed_forward_lmu(3, 7, LegendreMemory(32, 64, 2, last=True))
    u = x @ torch.ones(3, 2)
    states = _loop(model[1], u)[-1:]
    torch.testing.assert_close(model(x), torch.tanh(model[2](states)), rtol=0, atol=1e-5)


def test_bad_input():
    for shape in ((4, 3, 5), (0, 3, 2), (3, 2)):
        got = re.escape(str(shape))
        with pytest.raises(BadInput, match=rf"a sequence \[T, B, 2\] of at least one step, got shape {got}"):
            _memory()(torch.rand(shape))
    with pytest.raises(BadInput, match="at least one signal to remember, got inputs=0"):
        LegendreMemory(4, 9, 0)
    with pytest.raises(BadInput, match="learn_theta or low_rank, not both"):
        _memory(learn_theta=True, low_rank=True)
    with pytest.raises(BadInput, match=r"order Q of 16 times a power of two, got 24, for low_rank \(--low-rank\)"):
        LegendreMemory(24, 50, low_rank=True)
