import math
from typing import Any

import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.cells import LMU, LegendreMemory
from picojoule.cells.lmu import CHUNK
from picojoule.energy import QUANTITIES, count
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.kinds import Events, Values
from picojoule.neurons import Diffused


def _quantiser(fineness=4.0):
    return Diffused("identity", fineness)


VARIANTS = {
    "plain": lambda: {},
    "no feedback": lambda: {"feedback": False, "bias": True},
    "h": lambda: {"spike_h": _quantiser()},
    "h and u": lambda: {"spike_h": _quantiser(), "spike_u": _quantiser(8)},
    "m": lambda: {"spike_m": _quantiser(16)},
    "all": lambda: {"spike_h": _quantiser(), "spike_u": _quantiser(8), "spike_m": _quantiser(16)},
    "lstm": lambda: {"cell": "lstm"},
    "gru": lambda: {"cell": "gru", "spike_h": _quantiser()},
    "learned theta": lambda: {"memory": {"learn_theta": True}},
    "low rank": lambda: {"memory": {"low_rank": True}},
}
every_variant = pytest.mark.parametrize("name", VARIANTS)


def _cell(name="plain", inputs=1, **more) -> LMU:
    torch.manual_seed(0)
    settings = VARIANTS[name]() | more
    memory = LegendreMemory(32, 64, inputs, **settings.pop("memory", {}))
    cell = LMU(3, 5, memory, **settings).double()
    with torch.no_grad():  # it starts with many zeros
        for p in cell.parameters():
            if p.requires_grad and p.dim() > 1:
                p.add_(torch.randn_like(p) * 0.3 * p.shape[-1] ** -0.5)
    return cell.eval()


def _x(steps=2 * CHUNK + 5):
    return torch.rand(steps, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _by_hand(cell: LMU, x):
    """The equations of a plain LMU, one sample and one number at a time where that is short."""
    ad, bd = cell.memory.matrices()
    h, m = torch.zeros(x.shape[1], 5).double(), torch.zeros(x.shape[1], cell.memory.inputs, 32).double()
    for t in range(len(x)):
        u = x[t] @ cell.e_x.weight.T
        if cell.e_h is not None and cell.e_m is not None:
            u = u + h @ cell.e_h.weight.T + m.flatten(1) @ cell.e_m.weight.T
        m = torch.einsum("ij,bdj->bdi", ad, m) + torch.einsum("bd,i->bdi", u, bd[:, 0])
        sums = cell.W_x(x[t]) + h @ cell.W_h.weight.T + m.flatten(1) @ cell.W_m.weight.T
        h = torch.tanh(sums)
    return h


@pytest.mark.parametrize("name", ["plain", "no feedback", "learned theta", "low rank"])
@pytest.mark.parametrize("inputs", [1, 2])
def test_is_the_equations(name, inputs):
    cell = _cell(name, inputs)
    with torch.no_grad():
        torch.testing.assert_close(cell(_x())[-1], _by_hand(cell, _x()), rtol=0, atol=1e-6)


def _gradients(cell: LMU, y, weights):
    (y * weights).sum().backward()
    found = {name: p.grad.clone() for name, p in cell.named_parameters() if p.grad is not None}
    cell.zero_grad()
    return found


@every_variant
@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("steps", [3, CHUNK, 2 * CHUNK + 5])
def test_chunks_are_the_loop(name, inputs, steps):
    """Outputs, the state at the end and every gradient."""
    cell, x = _cell(name, inputs), _x(steps)
    state = cell.initial_state(x)
    y, after = cell.advance(x, state)
    weights = torch.rand(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = _gradients(cell, y + after.m.mean(), weights)
    expected, last = cell._loop(x, state)
    other = _gradients(cell, expected + last.m.mean(), weights)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close((after.h, after.m), (last.h, last.m), rtol=0, atol=1e-9)
    assert found.keys() == other.keys() and len(found) >= 4
    for key in found:
        torch.testing.assert_close(found[key], other[key], rtol=1e-7, atol=1e-9, msg=key)


def test_forms_agree_at_the_size_of_the_benchmark():
    torch.manual_seed(0)
    cell = LMU(1, 212, LegendreMemory(256, 784))
    with torch.no_grad():
        nn.init.orthogonal_(cell.W_h.weight)
        nn.init.normal_(cell.W_x.weight, std=0.1)
        x = torch.rand(784, 2, 1)
        torch.testing.assert_close(cell(x), cell._loop(x, cell.initial_state(x))[0], rtol=0, atol=1e-5)


@every_variant
def test_in_pieces_equals_the_whole(name):
    cell, x = _cell(name), _x()
    with torch.no_grad():
        whole, _ = cell.advance(x, cell.initial_state(x))
        state, pieces = cell.initial_state(x), []
        for piece in x.split([1, CHUNK + 2, CHUNK + 1, 1]):
            y, state = cell.advance(piece, state)
            pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-9)


@every_variant
@pytest.mark.parametrize("last", [True, False])
def test_observer_and_meter_agree(name, last):
    model, x = nn.Sequential(_cell(name, last=last), nn.Linear(5, 2).double()), _x()
    with torch.no_grad():
        y, activity = observe(model, x, batch_dim=1)(x)
        with pj.meter(model, batch_dim=1) as meter:
            torch.testing.assert_close(model(x), y, rtol=0, atol=1e-9)
            theirs = meter.activity()
    found, seen = count(activity), count(theirs)
    populations = {n.name: n for n in theirs.neurons}
    assert populations.keys() == {n.name for n in activity.neurons}
    for own in activity.neurons:
        other = populations[own.name]
        assert torch.equal(own.events, other.events) and (own.steps, own.layer) == (other.steps, other.layer)
        assert own.levels is not None and other.levels is not None
        assert torch.equal(own.levels.values, other.levels.values)
        assert torch.equal(own.levels.counts, other.levels.counts)
    assert set(found.layers) == set(seen.layers) or name == "learned theta"
    for layer in set(found.layers) & set(seen.layers):
        mine, other = (c.sums[:, c.layers.index(layer)] for c in (found, seen))
        torch.testing.assert_close(mine, other, rtol=0, atol=0, msg=layer)


@every_variant
def test_reports_what_entered_each_synapse(name):
    cell, x = _cell(name), _x()
    for grad in (True, False):  # step by step, and in chunks
        with torch.set_grad_enabled(grad):
            state = cell.initial_state(x)
            h, after, entered = cell.forward_observed(x, state)
            plain, _ = cell.advance(x, state)
        torch.testing.assert_close(h, plain, rtol=0, atol=1e-9)
        assert {p.name for p in (*cell.synapses(), *cell.populations())} == set(entered)
        torch.testing.assert_close(entered["W_h"][1:], h[:-1], rtol=0, atol=0)
        ad, bd = cell.memory.matrices()
        u = entered["memory.Bd"]
        if "memory.Ad" in entered:
            m = entered["memory.Ad"]
            torch.testing.assert_close(m[1:], m[:-1] @ ad.T + u[:-1] @ bd.T, rtol=0, atol=1e-9)
            if cell.spike_m is None:
                torch.testing.assert_close(entered["W_m"][:-1], m[1:].flatten(2), rtol=0, atol=0)


def test_what_is_stored_is_not_quantised_but_what_is_sent_is():
    cell, x = _cell("all"), _x()
    with torch.no_grad():
        _, after, entered = cell.forward_observed(x, cell.initial_state(x))
    kinds = {s.name: s.kind for s in cell.synapses()}
    for name, w in (("W_h", 4), ("e_h", 4), ("memory.Bd", 8), ("W_m", 16), ("e_m", 16)):
        assert kinds[name] == Events(1 / w, signed=True)
        n = entered[name] * w
        torch.testing.assert_close(n, n.round(), rtol=0, atol=1e-9)
        assert n.abs().sum() > 0
    assert kinds["memory.Ad"] == Values() and cell.emits == kinds["W_h"]
    stored = after.m * 16
    assert (stored - stored.round()).abs().max() > 0.01


def test_coarse_to_fine_becomes_the_float_cell():
    float_cell, x = _cell(), _x()
    errors = []
    for w in (1, 16, 4096):
        cell = _cell(spike_h=_quantiser(w), spike_u=_quantiser(w), spike_m=_quantiser(w))
        with torch.no_grad():
            errors.append(float((cell(x) - float_cell(x)).abs().max()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.01


def test_the_bound_that_the_memory_sets():
    """Operations per step of the benchmark: Ad m is two fifths, so quantising all else gains 2.53x at most."""
    cell, x = LMU(1, 212, LegendreMemory(256, 784)), torch.rand(2, 1, 1)
    counts = count(observe(nn.Sequential(cell), x, batch_dim=1)(x)[1])
    macs = dict(zip(counts.layers, (counts.sums[QUANTITIES.index("dense_macs")] / 2).tolist(), strict=True))
    assert {k.removeprefix("0."): v for k, v in macs.items()} == {
        **{"e_x": 1, "W_x": 212, "e_h": 212, "e_m": 256, "memory.Ad": 65_536, "memory.Bd": 256},
        **{"W_m": 54_272, "W_h": 44_944},
    }
    assert sum(macs.values()) / macs["0.memory.Ad"] == pytest.approx(2.53, abs=0.005)


def test_parameters_and_initial_values_of_the_benchmark():
    cell = LMU(1, 212, LegendreMemory(256, 784))
    assert sum(p.numel() for p in cell.parameters() if not p.requires_grad) == 65_792
    assert sum(p.numel() for p in cell.parameters() if p.requires_grad) == 102_027 - 2_130
    assert cell.e_h is not None and cell.e_m is not None and cell.W_x.bias is None
    assert (cell.e_x.weight == 1).all()
    assert all(not w.weight.any() for w in (cell.e_h, cell.e_m, cell.W_x, cell.W_h))
    assert float(cell.W_m.weight.detach().std()) == pytest.approx((2 / (212 + 256)) ** 0.5, rel=0.02)


def test_the_variant_of_keras():
    torch.manual_seed(0)
    cell = LMU.as_keras(1, 212, LegendreMemory(256, 784))
    assert cell.e_h is None and cell.e_m is None and cell.W_x.bias is not None
    trained = sum(p.numel() for p in cell.parameters() if p.requires_grad)
    assert trained == 1 + 212 * (1 + 212 + 256) + 212
    torch.testing.assert_close(cell.W_h.weight @ cell.W_h.weight.T, torch.eye(212), rtol=0, atol=1e-5)
    assert float(cell.W_m.weight.detach().abs().max()) <= (6 / (257 + 212)) ** 0.5


def test_stays_in_float32_under_autocast():
    cell, x = _cell().float(), _x().float()
    with torch.autocast("cpu", torch.bfloat16):
        y = cell(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, cell(x), rtol=0, atol=0)


A_NUMBER: Any = 4.0
A_NEURON: Any = pj.LIF()
BAD = {
    "cell": (lambda m: LMU(1, 2, m, cell="gro"), "unknown cell 'gro'; did you mean 'gru'"),
    "no units": (lambda m: LMU(1, 0, m), "expected hidden of at least 1, a whole number, got 0"),
    "a number as quantiser": (lambda m: LMU(1, 2, m, spike_h=A_NUMBER), "spike_h as a quantiser such as .*, got float"),
    "a neuron as quantiser": (lambda m: LMU(1, 2, m, spike_u=A_NEURON), "spike_u as a quantiser such as .*, got LIF"),
    "bias as in Keras": (lambda m: LMU.as_keras(1, 2, m, bias=False), "expected no bias for LMU.as_keras"),
    "cell as in Keras": (lambda m: LMU.as_keras(1, 2, m, cell="gru"), "expected no cell for LMU.as_keras"),
    "features": (lambda m: LMU(1, 4, m)(torch.rand(5, 4, 2)), r"\[T, B, 1\] of at least .*\(5, 4, 2\)"),
    "no batch": (lambda m: LMU(1, 4, m)(torch.rand(5, 4)), r"\[T, B, 1\] of at least one step, got shape \(5, 4\)"),
    "no steps": (lambda m: LMU(1, 4, m)(torch.rand(0, 4, 1)), r"of at least one step, got shape \(0, 4, 1\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, says = BAD[name]
    with pytest.raises(BadInput, match=says):
        make(LegendreMemory(4, 9))


@pytest.mark.parametrize("learn_theta", [False, True])
def test_is_trained_after_it_was_used_for_inference(learn_theta):
    cell, x = LMU(3, 5, LegendreMemory(8, 30, learn_theta=learn_theta)), _x().float()
    with torch.inference_mode():
        before = cell(x)
    y = cell(x)
    y.sum().backward()
    torch.testing.assert_close(y, before, rtol=0, atol=1e-6)
    assert cell.W_m.weight.grad is not None and cell.W_m.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("grad", [True, False])
def test_one_matrix_exponential_in_a_pass(monkeypatch, grad):
    made = []
    before = torch.linalg.matrix_exp
    monkeypatch.setattr(torch.linalg, "matrix_exp", lambda block: made.append(len(block)) or before(block))
    cell, x = _cell("learned theta"), _x()
    made.clear()
    with torch.set_grad_enabled(grad):
        cell(x)
    assert made == [33]


def test_the_memory_of_another_window_is_refused():
    short, long = (LMU(3, 20, LegendreMemory(8, theta)) for theta in (16, 64))
    with pytest.raises(BadInput, match="over theta = 16 steps under zoh, got those of another window"):
        short.load_state_dict(long.state_dict())


def test_each_quantised_signal_is_a_population_of_its_own():
    cell, x = _cell("all", last=True), _x()
    with torch.no_grad():
        _, activity = observe(nn.Sequential(cell), x, batch_dim=1)(x)
        h, u, m = (cell.forward_observed(x, cell.initial_state(x))[2][name] for name in "hum")
    found = {record.name: record for record in activity.neurons}
    assert activity.timesteps == len(x) and list(found) == ["0.h", "0.u", "0.m"]
    for name, signal, w, layer in (("h", h, 4, "W_h"), ("u", u, 8, "e_m"), ("m", m, 16, "memory.Bd")):
        record = found[f"0.{name}"]
        n = (signal * w).round()
        assert torch.equal(record.events, n.abs().sum((0, 1))) and record.layer == f"0.{layer}"
        assert record.levels is not None and int(record.levels.counts.sum()) == n.numel()
        assert torch.equal(record.levels.high, n.amax((0, 1)).long())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_gated_hidden_cell_keeps_what_it_does_not_send(cell):
    """The copy that is sent is quantised; what the gates keep stays exact."""
    coarse, x = _cell(cell=cell, spike_h=_quantiser(2)), _x()
    with torch.no_grad():
        h, after, _ = coarse.forward_observed(x, coarse.initial_state(x))
    torch.testing.assert_close(2 * h, (2 * h).round(), rtol=0, atol=1e-9)
    assert (2 * after.c - (2 * after.c).round()).abs().max() > 0.01


@pytest.mark.parametrize("name", ["h", "m", "all"])
def test_mean_of_what_is_sent_is_the_signal_within_the_bound(name):
    """Telescoping: the sums of h, u and m sent are off those of what was sent for by less than one event."""
    cell, x = _cell(name), _x()
    sent: dict[str, list[torch.Tensor]] = {}
    wanted: dict[str, list[torch.Tensor]] = {}
    for letter, quantiser in cell._quantisers().items():

        def step(state, signal, letter=letter, before=quantiser.step):
            state, events = before(state, signal)
            wanted.setdefault(letter, []).append(signal)
            sent.setdefault(letter, []).append(events)
            return state, events

        quantiser.step = step  # pyright: ignore[reportAttributeAccessIssue]
    with torch.no_grad():
        cell._loop(x, cell.initial_state(x))
    for letter, quantiser in cell._quantisers().items():
        error = (torch.stack(wanted[letter]) - torch.stack(sent[letter])).cumsum(0).abs()
        assert float(error.max()) < 1 / float(quantiser.fineness) and float(error.max()) > 0.1 / float(
            quantiser.fineness
        )


def test_the_first_error_is_drawn_anew_in_training_and_makes_the_output_unbiased():
    cell, x = _cell(spike_h=_quantiser(1.0)).train(), _x(1).expand(1, 4, 3)[:, :1].expand(-1, 4000, -1)
    with torch.no_grad():
        float_h = _cell()(x[:, :1])
        h = cell(x)
    assert len(h.unique()) == 2 or len(h.unique()) == 3
    torch.testing.assert_close(h.mean(1), float_h[:, 0], rtol=0, atol=0.04)
    assert not torch.equal(cell(x), h), "another draw"
    assert torch.equal(cell.eval()(x), cell(x)), "the same draw"


@pytest.mark.parametrize("name", ["h", "h and u", "m", "all"])
def test_backward_is_that_of_the_float_cell_where_errors_are_no_path(name):
    """With a very fine quantiser forward is the float cell, and so is every gradient; none flows through errors."""
    fine: dict[str, Any] = {key: _quantiser(1e6) for key in VARIANTS[name]()}
    quantised, float_cell, x = _cell(**fine), _cell(), _x()
    weights = torch.rand(len(x), 4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found, expected = (_gradients(cell, cell(x), weights) for cell in (quantised, float_cell))
    assert found.keys() == expected.keys()
    for key in found:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-5, msg=key)
    error = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True)
    if "h" in quantised._quantisers():
        state = quantised.initial_state(x)
        state.errors["h"] = state.errors["h"]._replace(v=error)
        y, _ = quantised._loop(x, state)
        assert torch.autograd.grad(y.sum(), error, allow_unused=True) == (None,)


@pytest.mark.parametrize(
    "r, start, trace",
    [(0.3, 0.0, [0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]), (-0.3, 0.5, [0, -1, 0, 0, 0, -1, 0, 0, -1, 0, 0, -1])],
)
def test_golden_traces_of_a_hidden_unit(r, start, trace):
    """A unit whose tanh is always r, with w = 1."""
    spike_h = Diffused("identity", 1.0, random_start=False, v_initial=start)
    cell = LMU(3, 5, LegendreMemory(8, 16), bias=True, spike_h=spike_h).double()
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.W_x.bias.fill_(math.atanh(r))
        assert torch.equal(cell(_x(12)), torch.tensor(trace).double()[:, None, None].expand(12, 4, 5))
