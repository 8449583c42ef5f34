"""The temporally diffused quantiser: traces, properties, gradients, state."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from picojoule.errors import BadInput
from picojoule.kernels.diffused.reference import TOLERANCE, DiffusedState, diffused_step
from picojoule.neurons import Diffused
from picojoule.neurons.diffused import ACTIVATIONS, ROUNDINGS

STEPS, BATCH = 7, 5
every_rounding = pytest.mark.parametrize("rounding", ROUNDINGS)


def _trace(rates: list[float], v: float, fineness: float = 1.0, dtype=torch.float64) -> tuple[list[float], float]:
    """Events and last error of one neuron that sends these rates."""
    neuron = Diffused("identity", fineness, random_start=False, v_initial=v)
    x = torch.tensor(rates, dtype=dtype).reshape(-1, 1, 1)
    y, state = neuron.advance(x, neuron.initial_state(x))
    return (y.flatten() * fineness).tolist(), state.v.item()


def _currents(*shape: int, dtype=torch.float32) -> Tensor:
    return torch.randn(STEPS, BATCH, *shape, generator=torch.Generator().manual_seed(3)).to(dtype) + 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "rate, v, events",
    [
        (0.3, 0.0, [0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]),
        (-0.3, 0.5, [0, -1, 0, 0, 0, -1, 0, 0, -1, 0, 0, -1]),
        (2.6, 0.5, [3, 2, 3, 2, 3, 3, 2, 3]),
        (0.1, 0.0, ([0] * 9 + [1]) * 100),  # ten times 0.1 is one event, whatever the rounding
    ],
)
def test_golden_traces(rate, v, events, dtype):
    found, last = _trace([rate] * len(events), v, dtype=dtype)
    assert found == events and 0 <= last < 1


def test_a_fine_quantiser_sends_more_and_smaller_events():
    x = torch.full((1, 1, 1), 0.8)
    assert Diffused("relu", 8, random_start=False)(x).item() == 6 / 8  # 6.4 + 0.5
    assert Diffused("relu", 2, random_start=False)(x).item() == 2 / 2  # 1.6 + 0.5
    assert Diffused("tanh", 4, random_start=False)(-x).item() == -3 / 4  # -2.66 + 0.5


_rates = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40)
_fineness = st.floats(0.05, 64)
_start = st.floats(0, 1, exclude_max=True)


@given(_rates, _fineness, _start)
@settings(max_examples=200, deadline=None)
def test_the_error_telescopes_for_any_input(rates, fineness, v):
    sent, last = _trace(rates, v, fineness)
    assert 0 <= last < 1
    owed = sum(rates) - sum(sent) / fineness
    assert owed == pytest.approx((last - v) / fineness, abs=len(rates) * (TOLERANCE / fineness + 1e-9))
    assert abs(owed) < (1 + len(rates) * TOLERANCE) / fineness + 1e-7


@given(_rates, _fineness, _start)
@settings(max_examples=100, deadline=None)
def test_noise_is_shaped_by_a_first_difference(rates, fineness, v):
    neuron = Diffused("identity", fineness, random_start=False, v_initial=v)
    state = DiffusedState(torch.full((1, 1), v, dtype=torch.float64))
    for rate in rates:
        after, y = neuron.step(state, torch.full((1, 1), rate, dtype=torch.float64))
        expected = rate - after.v / fineness + state.v / fineness
        torch.testing.assert_close(y, expected, rtol=0, atol=2 * TOLERANCE / fineness + 1e-9)
        assert abs(y.item() - rate) < (1 + 2 * TOLERANCE) / fineness + 1e-9
        state = after


@given(st.lists(st.floats(0, 30, width=32), min_size=1, max_size=20), st.floats(0.1, 30))
@settings(max_examples=50, deadline=None)
def test_float32_keeps_the_error_in_bounds(rates, fineness):
    sent, last = _trace(rates, 0.25, fineness, torch.float32)
    assert 0 <= last < 1 and all(abs(n - round(n)) < 1e-3 for n in sent)


def test_relu_forgets_negative_drive():
    neuron = Diffused("relu", 1.0, random_start=False, v_initial=0.0)
    x = torch.tensor([-5.0, 0.6, 0.6]).reshape(3, 1, 1)
    assert neuron(x).flatten().tolist() == [0, 0, 1]


@pytest.mark.parametrize("rounding", ["diffused", "stochastic", "poisson"])
@pytest.mark.parametrize("rate", [0.3, -0.71, 2.6])
def test_unbiased_at_every_step(rounding, rate):
    """Means over independent neurons, within five standard errors of the rate (a chance of 6e-7 each)."""
    torch.manual_seed(0)
    w, neurons = 1.5, 200_000
    y = Diffused("identity", w, rounding=rounding)(torch.full((3, 1, neurons), rate, dtype=torch.float64))
    part = w * abs(rate) % 1
    variance = w * abs(rate) if rounding == "poisson" else part * (1 - part)
    bound = 5 * math.sqrt(variance / neurons) / w
    assert (y.mean((1, 2)) - rate).abs().max() < bound
    if rounding == "diffused":
        assert (y.mean(0) - rate).abs().max() < 1 / (3 * w) + 1e-6
    else:
        assert (y.mean(0) - rate).abs().max() > 1 / (3 * w)  # no memory


def test_nearest_is_deterministic_and_biased():
    y = Diffused("identity", 1.0, rounding="nearest")(torch.full((4, 2, 3), 0.3))
    assert torch.equal(y, torch.zeros(4, 2, 3))
    assert Diffused("identity", 1.0, rounding="nearest")(torch.full((1, 1, 1), 0.5)).item() == 1


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_fine_quantiser_is_its_activation(name):
    x = _currents(4, dtype=torch.float64)
    neuron = Diffused(name, 1e7)
    smooth = ACTIVATIONS[name]()(x)
    assert (neuron(x) - smooth).abs().max() <= 1.0001e-7
    assert neuron.emits.signed or (smooth >= 0).all()


@pytest.mark.parametrize("name, signed", [("relu", False), ("tanh", True), ("sigmoid", False), ("gelu", True)])
def test_emits_multiples_of_its_quantum(name, signed):
    neuron = Diffused(name, 3.0)
    kind, y = neuron.emits, neuron(4 * _currents(6))
    assert (kind.quantum, kind.signed, kind.most) == (pytest.approx(1 / 3), signed, None)
    n = y / kind.quantum
    torch.testing.assert_close(n, n.round(), rtol=0, atol=1e-4)
    assert (n < -0.5).any() == signed
    neuron.fineness = 5
    assert neuron.emits.quantum == pytest.approx(0.2) and neuron.fineness == 5.0


@every_rounding
@pytest.mark.parametrize("cuts", [(1, 6), (2, 2, 3), (1,) * 7])
def test_a_stream_in_pieces_equals_the_whole(rounding, cuts):
    neuron, x = Diffused("tanh", 2.0, rounding=rounding).eval(), _currents(2, 3)
    whole, last = neuron.advance(x, neuron.initial_state(x))
    state, pieces = neuron.initial_state(x), []
    for piece in x.split(list(cuts)):
        y, state = neuron.advance(piece, state)
        pieces.append(y)
    assert torch.equal(torch.cat(pieces), whole) and torch.equal(neuron(x), whole)
    for part, expected in zip(state, last, strict=True):
        assert torch.equal(part, expected)


@every_rounding
def test_step_by_step_equals_unroll(rounding):
    neuron, x = Diffused("tanh", 2.0, rounding=rounding).eval(), _currents(4)
    whole, state = neuron(x), neuron.initial_state(x)
    for current, expected in zip(x, whole, strict=True):
        state, y = neuron.step(state, current)
        assert torch.equal(y, expected)


def test_training_draws_fresh_errors_and_evaluation_those_of_its_seed():
    x = torch.full((1, 50, 20), 0.5)
    neuron, other = Diffused(seed=1), Diffused(seed=2)
    assert not torch.equal(neuron(x), neuron(x))
    torch.manual_seed(5)
    first = neuron(x)
    torch.manual_seed(5)
    assert torch.equal(neuron(x), first)
    neuron.eval()
    other.eval()
    assert torch.equal(neuron(x), neuron(x)) and not torch.equal(neuron(x), other(x))
    assert torch.equal(neuron(x)[:, :3], neuron(x[:, :3])), "a short batch starts alike"
    fixed = Diffused(random_start=False)
    assert torch.equal(fixed(x), torch.ones_like(x)) and len(torch.unique(neuron(x))) == 2


def test_dtypes_and_memory_layouts_agree():
    neuron, x = Diffused("relu", 2.0).eval(), torch.randint(-8, 9, (3, 2, 4, 5, 5)) / 4
    whole = neuron(x.float())
    laid = x.float().flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (3, 2))
    assert torch.equal(neuron(laid), whole)
    assert neuron(laid).flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(neuron(x.double()), whole.double())
    narrow, state = neuron.advance(x.bfloat16(), neuron.initial_state(x.bfloat16()))
    assert narrow.dtype == torch.bfloat16 and state.v.dtype == torch.float32
    assert torch.equal(narrow.float(), whole)


@every_rounding
@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_backward_is_that_of_the_activation_alone(name, rounding):
    x, smooth = (_currents(4, dtype=torch.float64).requires_grad_() for _ in range(2))
    weights = torch.randn(STEPS, BATCH, 4, dtype=torch.float64)
    neuron = Diffused(name, 3.0, rounding=rounding)
    (neuron(x) * weights).sum().backward()
    (ACTIVATIONS[name]()(smooth) * weights).sum().backward()
    torch.testing.assert_close(x.grad, smooth.grad)


def test_no_gradient_passes_through_the_error():
    current = torch.full((2, 3), 0.4, requires_grad=True)
    v = torch.full((2, 3), 0.5, requires_grad=True)
    state, y = diffused_step(DiffusedState(v), current, torch.tanh, 2.0)
    assert not state.v.requires_grad
    _, later = diffused_step(state, torch.full((2, 3), 0.4), torch.tanh, 2.0)
    assert not later.requires_grad
    y.sum().backward()
    assert v.grad is None and current.grad is not None


def test_rate_gradient_trains_the_activation_and_sends_events_in_evaluation():
    neuron, x = Diffused("tanh", 1.0, gradient="rate"), _currents(4)
    state = neuron.initial_state(x)
    y, after = neuron.advance(x, state)
    assert torch.equal(y, torch.tanh(x)) and torch.equal(after.v, state.v)
    n = neuron.eval()(x)
    assert torch.equal(n, n.round())


def test_a_learned_fineness_has_the_gradient_of_a_straight_through_floor():
    neuron, x = Diffused("tanh", 3.0, learn_fineness=True, random_start=False), _currents(4, dtype=torch.float64)
    y = neuron(x)
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    (log,) = neuron.parameters()
    expected = ((torch.tanh(x) - y.detach()) * weights).sum()  # by w; times w / w for its logarithm
    assert log.grad is not None and log.grad.item() == pytest.approx(expected.item(), rel=1e-5)
    assert log.item() == pytest.approx(math.log(3))
    neuron.fineness = 2.0
    assert log.item() == pytest.approx(math.log(2)) and neuron.emits.quantum == pytest.approx(0.5)
    assert not list(Diffused().parameters())


@pytest.mark.parametrize("fineness", [0.0, -1.0, math.nan, math.inf])
def test_bad_fineness(fineness):
    with pytest.raises(BadInput, match="expected a finite fineness above 0"):
        Diffused("relu", fineness)
    neuron = Diffused()
    with pytest.raises(BadInput, match="expected a finite fineness above 0"):
        neuron.fineness = fineness
    assert neuron.fineness == 1


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"activation": "rleu"}, "unknown activation 'rleu'; did you mean 'relu'"),
        ({"rounding": "poison"}, "did you mean 'poisson'"),
        ({"gradient": "surrogate"}, "unknown gradient"),
        ({"v_initial": 1.0}, r"v_initial in \[0, 1\)"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(BadInput, match=message):
        Diffused(**settings)


def test_bad_currents():
    with pytest.raises(BadInput, match=r"expected currents \[T, B"):
        Diffused()(torch.zeros(3, 4))


def test_any_elementwise_module_serves():
    neuron = Diffused(nn.LeakyReLU(0.5), 10.0, random_start=False, v_initial=0.0)
    assert neuron.emits.signed and neuron(torch.full((1, 1, 1), -1.0)).item() == pytest.approx(-0.5)
    assert "fineness=10" in repr(neuron)
