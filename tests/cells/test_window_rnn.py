"""The recurrent population that reads windows within a step: the equation, streams, records, bad input."""

import pytest
import torch
from torch import nn

from picojoule.cells import SpikingRNN, WindowRNN
from picojoule.errors import BadInput
from picojoule.kernels.projection import project
from picojoule.kernels.window_rules import PROJECTIONS
from picojoule.kinds import Events
from picojoule.neurons import IAF, LIF, CubaLIF, WindowLIF

WINDOWS = 4


def cell(projection: str = "sincos", neuron: nn.Module | None = None) -> WindowRNN:
    torch.manual_seed(0)
    made = WindowRNN(3 * WINDOWS, 5, WINDOWS, projection=projection, neuron=neuron).double()
    with torch.no_grad():
        made.recurrent.weight.mul_(2)
    return made


@pytest.fixture
def x():
    return 2 * torch.rand(3, 6, 3 * WINDOWS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("neuron", [LIF(0.4, 0.5), LIF(0.9, v_reset=None), IAF(0.5)])
def test_agrees_with_a_plain_loop(x, projection, neuron):
    made = cell(projection, neuron)
    v = torch.zeros(WINDOWS, 6, 5, dtype=torch.float64)
    for t in range(3):
        sent = []
        for k in range(WINDOWS):
            current = x[t, :, 3 * k : 3 * k + 3] @ made.input.weight.T + made.input.bias
            own = v[k]
            if k:
                own = own + project(u, u, projection)  # noqa: F821  (of the window before)
                current = current + sent[-1] @ made.recurrent.weight.T
            u = neuron.decay * own + current
            sent.append((u >= neuron.threshold).double())
            v[k] = u - sent[-1] * neuron.threshold if neuron.v_reset is None else u * (1 - sent[-1])
        torch.testing.assert_close(made(x)[t], torch.stack(sent).mean(0))
    assert 0 < made(x).mean() < 1


def test_with_carry_a_step_is_a_recurrent_network_over_windows_that_does_not_reset(x):
    """So it equals the recurrent cell over as many time steps while no neuron fires twice."""
    made, plain = cell("carry", LIF(0.4, 50.0)), SpikingRNN(3, 5, LIF(0.4, 50.0)).double()
    plain.load_state_dict({key: value.clone() for key, value in made.state_dict().items()})
    steps = x[0].unflatten(1, (WINDOWS, 3)).transpose(0, 1)
    state = plain.advance(steps, plain.initial_state(steps))[1]
    torch.testing.assert_close(made.advance(x[:1], made.initial_state(x[:1]))[1].v[-1], state.neuron.v)


@pytest.mark.parametrize("cuts", [(1, 2), (1, 1, 1)])
def test_in_pieces_equals_the_whole(x, cuts):
    made = cell()
    whole, last = made.advance(x, made.initial_state(x))
    state, pieces = made.initial_state(x), []
    for piece in x.split(list(cuts)):
        events, state = made.advance(piece, state)
        pieces.append(events)
    assert torch.equal(torch.cat(pieces), whole) and torch.equal(state.v, last.v)
    assert torch.equal(made(x[:, [3, 0, 5]]), made(x)[:, [3, 0, 5]])


def test_reports_what_entered_each_synapse_and_what_was_sent(x):
    made = cell()
    y, _, seen = made.forward_observed(x, made.initial_state(x))
    assert [s.name for s in made.synapses()] == ["input", "recurrent"]
    assert seen["input"].shape == (3 * WINDOWS, 6, 3) and torch.equal(seen["input"][1], x[0, :, 3:6])
    assert seen["neuron"].shape == (3, 6, WINDOWS, 5) and torch.equal(seen["neuron"].mean(2), y)
    assert seen["recurrent"].shape == (3 * (WINDOWS - 1), 6, 5)
    assert torch.equal(seen["recurrent"][0], seen["neuron"][0, :, 0])
    assert made.emits == Events(1 / WINDOWS, most=WINDOWS) and made.passes == WINDOWS
    assert [cell(p).populations()[0].updates for p in PROJECTIONS] == [1.75, 1.75, 1, 1]


def test_gradients_are_finite(x):
    made = cell(neuron=LIF(0.4, 0.5, learn_decay=True, learn_threshold=True))
    made(x).sum().backward()
    for parameter in made.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all() and (parameter.grad != 0).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"windows": 5}, "windows that divide 12 features evenly, got 5; take 4 windows, say"),
        ({"windows": 99}, "windows that divide 12 features evenly, got 99; take 12 windows, say"),
        ({"windows": 1}, "at least 2 windows, got 1; SpikingRNN takes all features at once"),
        ({"windows": 2, "projection": "sin"}, "unknown projection 'sin'"),
        ({"windows": 2, "neuron": CubaLIF()}, "windows take the neurons lif and iaf, got CubaLIF"),
        ({"windows": 2, "neuron": WindowLIF(LIF())}, "windows take the neurons lif and iaf, got WindowLIF"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message):
        WindowRNN(12, 5, **arguments)


@pytest.mark.parametrize("shape", [(1, 2, 13), (2, 12), (1, 2, 3, 12)])
def test_inputs_of_other_shapes(shape):
    made = WindowRNN(12, 5, 4)
    state = made.initial_state(torch.zeros(1, 2, 12))
    for call in (made, lambda x: made.advance(x, state)):
        with pytest.raises(BadInput, match=r"expected features \[T, B, 12\], got shape"):
            call(torch.zeros(shape))
