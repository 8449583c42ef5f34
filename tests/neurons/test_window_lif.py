"""Windows of LIF neurons: the equation, what one window is, streams, gradients across windows, and bad input."""

import pytest
import torch

from picojoule.errors import BadInput
from picojoule.kernels.projection import project
from picojoule.kernels.window_rules import PROJECTIONS
from picojoule.neurons import IAF, LIF, CubaLIF, WindowLIF

STEPS, BATCH = 5, 4

every_projection = pytest.mark.parametrize("projection", PROJECTIONS)


def currents(side: int = 6, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(STEPS, BATCH, 2, side, side, generator=generator).to(dtype) + 0.4


@every_projection
@pytest.mark.parametrize("neuron", [LIF(0.4, 0.5), LIF(0.8, v_reset=None), IAF(0.7)])
@pytest.mark.parametrize("across", [2, 3])
def test_agrees_with_a_plain_loop(projection, neuron, across):
    """The documented equation, window by window."""
    x, side = currents(dtype=torch.float64), 6 // across
    cells = [(slice(r, r + side), slice(c, c + side)) for r in range(0, 6, side) for c in range(0, 6, side)]
    v, expected = torch.zeros_like(x[0]), torch.empty_like(x)
    for t in range(STEPS):
        u: list[torch.Tensor] = []
        for number, (rows, columns) in enumerate(cells):
            above = u[number - across] if number >= across else None
            left = u[number - 1] if number % across else None
            first, second = (above if left is None else left), (left if above is None else above)
            handed = 0.0 if first is None or second is None else project(second, first, projection)
            u.append(neuron.decay * (v[..., rows, columns] + handed) + x[t][..., rows, columns])
        for (rows, columns), potential in zip(cells, u, strict=True):
            fired = (potential >= neuron.threshold).double()
            after = potential - fired * neuron.threshold if neuron.v_reset is None else potential * (1 - fired)
            v[..., rows, columns], expected[t][..., rows, columns] = after, fired
    found = WindowLIF(neuron, across, projection)
    events, state = found.advance(x, found.initial_state(x))
    assert torch.equal(events, expected) and 0 < events.mean() < 1
    torch.testing.assert_close(state.v, v)


@pytest.mark.parametrize("across, projection", [(1, "sincos"), (2, "zero")])
def test_where_nothing_is_handed_on_it_is_its_neuron(across, projection):
    x, neuron = currents(), LIF(0.4, 0.5)
    (events, state), (plain, after) = (
        n.advance(x, n.initial_state(x)) for n in (WindowLIF(neuron, across, projection), neuron)
    )
    assert torch.equal(events, plain) and torch.equal(state.v, after.v)


@every_projection
@pytest.mark.parametrize("cuts", [(1, 4), (2, 3), (1,) * 5])
def test_a_stream_in_pieces_equals_the_whole(projection, cuts):
    x, neuron = currents(), WindowLIF(LIF(0.4, 0.5), 2, projection)
    whole, last = neuron.advance(x, neuron.initial_state(x))
    state, pieces = neuron.initial_state(x), []
    for piece in x.split(list(cuts)):
        events, state = neuron.advance(piece, state)
        pieces.append(events)
    assert torch.equal(torch.cat(pieces), whole) and torch.equal(state.v, last.v)


@every_projection
def test_samples_are_independent_and_calls_start_from_rest(projection):
    x, neuron, order = currents(), WindowLIF(LIF(0.4, 0.5), 3, projection), torch.tensor([3, 0, 2, 1])
    assert torch.equal(neuron(x[:, order]), neuron(x)[:, order])
    assert torch.equal(neuron(x[:, :1]), neuron(x)[:, :1])
    assert torch.equal(neuron(x), neuron(x))


def test_16_bit_currents_and_channels_last():
    x, neuron = currents(dtype=torch.bfloat16), WindowLIF(LIF(0.4, 0.5))
    events, state = neuron.advance(x, neuron.initial_state(x))
    assert events.dtype == torch.bfloat16 and state.v.dtype == torch.float32
    assert torch.equal(events.float(), neuron(x.float()))
    last = x.float().flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (STEPS, BATCH))
    assert torch.equal(neuron(last), neuron(x.float()))


@pytest.mark.parametrize("projection, reached", [("sincos", 4), ("mean", 4), ("carry", 4), ("zero", 1)])
def test_gradients_cross_windows(projection, reached):
    """The last of four windows learns from the stimuli of all of them, unless nothing is handed on."""
    x = (0.1 * currents(4, torch.float64)[:1] + 0.4).requires_grad_()
    neuron = WindowLIF(LIF(0.4, 0.5, learn_decay=True, learn_threshold=True), 2, projection).double()
    neuron(x)[..., 2:, 2:].sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()
    corners = [x.grad[..., rows, columns] for rows in (slice(2), slice(2, 4)) for columns in (slice(2), slice(2, 4))]
    found = sum(bool((corner != 0).any()) for corner in corners)
    assert found == {"carry": 3}.get(projection, reached)  # the last window takes what its left neighbour hands on
    for parameter in neuron.parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad)


def test_its_passes_and_updates():
    assert [WindowLIF(LIF(), across).passes for across in (1, 2, 4)] == [1, 3, 7]
    assert [WindowLIF(LIF(), 2, projection).updates for projection in PROJECTIONS] == [1.75, 1.75, 1, 1]
    assert "across=2, projection=mean" in repr(WindowLIF(LIF(), 2, "mean"))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: WindowLIF(LIF(), 2, "sin"), "unknown projection 'sin'"),
        (lambda: WindowLIF(CubaLIF()), "windows take the neurons lif and iaf, got CubaLIF"),
        (lambda: WindowLIF(LIF(), 0), "expected at least 1 window across, got 0"),
        (lambda: WindowLIF(LIF())(currents(5)), r"divided by 2 for 2 x 2 windows, got 5 x 5"),
        (lambda: WindowLIF(LIF(), 7)(currents(6)), r"at least one pixel, got 7 x 7 windows on a map of 6 x 6"),
        (lambda: WindowLIF(LIF())(torch.zeros(2, 3, 4)), r"expected maps \[T, B, C, H, W\]"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(BadInput, match=message):
        make()
