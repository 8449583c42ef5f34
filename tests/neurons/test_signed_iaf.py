"""Neurons that take events back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.errors import BadInput
from picojoule.neurons import SignedIAF


def run(currents: list[float], **settings) -> list[float]:
    return SignedIAF(**settings)(torch.tensor(currents, dtype=torch.float64).reshape(-1, 1, 1)).flatten().tolist()


def test_hand_made_currents():
    assert run([1.0, 0.5, 0.5, -1.5, -1.5, -1.0]) == [1, 0, 1, -1, -1, 0]
    assert run([-1.0, -1.0, 0.5]) == [0, 0, 0], "nothing was sent that could be taken back"
    assert run([0.6, 0.6], v_initial=0.5) == [1, 0]
    assert run([2.0, -3.0], threshold=2.0) == [1, -1]


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=40), st.sampled_from([0.0, 0.5]))
@settings(max_examples=100, deadline=None)
def test_agrees_with_a_plain_loop_and_never_owes_events(tenths, initial):
    found = run([k / 10 for k in tenths], v_initial=initial)
    v, sent = initial, 0
    for k, event in zip(tenths, found, strict=True):
        v += k / 10
        expected = 1 if v >= 1 else -1 if v < 0 and sent > 0 else 0
        assert event == expected
        v, sent = v - expected, sent + expected
        assert sent >= 0


@given(st.lists(st.integers(-30, 30), min_size=30, max_size=30))
@settings(max_examples=60, deadline=None)
def test_with_time_to_settle_the_count_is_that_of_the_whole_charge(percent):
    currents = [k / 100 for k in percent] + [0.0] * 30
    charge = sum(percent) / 100 + 0.5
    if abs(charge - round(charge)) > 1e-9:
        assert sum(run(currents, v_initial=0.5)) == max(0, int(charge // 1))


@pytest.mark.parametrize("cuts", [(1, 6), (2, 2, 3), (1,) * 7])
def test_a_stream_in_pieces_equals_the_whole(cuts):
    torch.manual_seed(0)
    neuron, x = SignedIAF(0.7, v_initial=0.35), torch.randn(7, 5, 4)
    state, pieces = neuron.initial_state(x), []
    for piece in x.split(list(cuts)):
        y, state = neuron.advance(piece, state)
        pieces.append(y)
    assert torch.equal(torch.cat(pieces), neuron(x)) and neuron(x).min() == -1


def test_half_precision_keeps_a_float32_membrane_and_gradients_are_finite():
    torch.manual_seed(0)
    x = torch.randn(7, 5, 4, dtype=torch.bfloat16)
    neuron = SignedIAF()
    events, state = neuron.advance(x, neuron.initial_state(x))
    assert events.dtype == torch.bfloat16 and state.v.dtype == torch.float32
    assert torch.equal(events.float(), neuron(x.float()))
    x = x.float().requires_grad_()
    neuron(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and (x.grad != 0).any()


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_bad_thresholds(threshold):
    with pytest.raises(BadInput, match="expected threshold > 0"):
        SignedIAF(threshold)
