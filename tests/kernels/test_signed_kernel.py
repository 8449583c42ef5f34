"""Compiled neurons that take events back, against the loop over their step."""

import pytest
import torch
from neuron_cases import VARIANTS, assert_near, assert_same, needs_kernels

from picojoule.kernels.native import integrate_and_fire
from picojoule.kernels.native.library import using
from picojoule.kernels.saved import membranes_saved_in
from picojoule.neurons import SignedIAF
from picojoule.neurons.signed_iaf import SignedIAFState

pytestmark = needs_kernels
ERRORS = {torch.float32: 0.0, torch.float64: 0.0, torch.bfloat16: 2**-8}  # of gradients


@pytest.fixture
def calls(monkeypatch):
    """What the compiled kernels were asked for."""
    made, compiled = [], integrate_and_fire.unroll
    monkeypatch.setattr(integrate_and_fire, "unroll", lambda *a, **k: made.append(a) or compiled(*a, **k))
    return made


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", ERRORS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 3, 37), (40, 1, 2049), (5, 0, 3)], ids=str)
def test_events_states_and_gradients(variant, dtype, shape, calls):
    """From a state in which events were sent; equal bit by bit, but for gradients that are rounded to bfloat16."""
    torch.manual_seed(0)
    neuron, found = SignedIAF(0.7, v_initial=0.35), {}
    x, first = torch.randn(shape).to(dtype), torch.rand(shape).to(dtype)
    toward = torch.randn(shape).bfloat16().to(dtype)
    for path in ("reference", variant):
        with using(path), membranes_saved_in(torch.float32):
            started, _ = neuron.unroll(neuron.initial_state(first), first)
            currents, v = x.clone().requires_grad_(), started.v.clone().requires_grad_()
            state, events = neuron.unroll(SignedIAFState(v, started.sent), currents)
            loss = (events * toward).sum() + (state.v * state.v.detach()).sum()
            found[path] = ([events, *state], torch.autograd.grad(loss, [currents, v]))
    assert len(calls) == 2, "the reference ran, and not the kernel"
    if min(shape) > 1:
        assert set(found[variant][0][0].unique().tolist()) == {-1, 0, 1}
    assert_same(found[variant][0], found["reference"][0])
    assert_near(found[variant][1], found["reference"][1], ERRORS[dtype])


@pytest.mark.parametrize("keep", [torch.contiguous_format, torch.channels_last], ids=str)
def test_layouts_and_streams(keep, calls):
    """The layout of the currents is kept, and a stream in pieces equals the whole."""
    torch.manual_seed(0)
    neuron = SignedIAF(v_initial=0.5)
    x = torch.randn(6 * 2, 3, 5, 5).contiguous(memory_format=keep).unflatten(0, (6, 2))
    with using("reference"):
        expected = neuron(x)
    whole = neuron(x)
    assert_same([whole], [expected])
    assert whole[0].stride() == x[0].stride()
    state, pieces = neuron.initial_state(x), []
    for piece in x.split([1, 3, 2]):
        state, events = neuron.unroll(state, piece)
        pieces.append(events)
    assert_same([torch.cat(pieces)], [whole])
    assert len(calls) == 4
