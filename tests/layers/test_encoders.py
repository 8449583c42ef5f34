import pytest
import torch

from picojoule.errors import BadInput
from picojoule.kinds import Events
from picojoule.layers import Bernoulli, Latency


@pytest.fixture
def pixels():
    return torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def test_bernoulli_evaluation_can_be_repeated_and_leaves_the_global_generator_alone(pixels):
    encoder = Bernoulli(6).eval()
    before = torch.get_rng_state()
    first = encoder(pixels)
    assert torch.equal(first, encoder(pixels))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, Bernoulli(6, seed=0).eval()(pixels))
    assert not torch.equal(first, Bernoulli(6, seed=1).eval()(pixels))


def test_bernoulli_training_varies_with_the_global_generator(pixels):
    encoder = Bernoulli(6).train()
    torch.manual_seed(5)
    first, second = encoder(pixels), encoder(pixels)
    torch.manual_seed(5)
    assert torch.equal(first, encoder(pixels)) and not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_bernoulli_emits_binary_events_and_keeps_the_extremes(dtype, training):
    x = torch.tensor([[0.0, 1.0, 0.5]], dtype=dtype).expand(50, 3)
    events = Bernoulli(20).train(training)(x)
    assert events.shape == (20, 50, 3) and events.dtype == dtype
    assert ((events == 0) | (events == 1)).all()
    assert (events[..., 0] == 0).all() and (events[..., 1] == 1).all()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_bernoulli_mean_rate(p):
    events = Bernoulli(100).eval()(torch.full((20, 10), p))
    assert events.mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / 20_000) ** 0.5)
    assert len(events.flatten(1).unique(dim=0)) == 100  # no step repeats another


@pytest.mark.parametrize("pieces", [(2, 4), (1, 1, 4), (5, 1)])
def test_bernoulli_in_pieces_equals_the_whole(pixels, pieces):
    whole, part = Bernoulli(sum(pieces)).eval(), Bernoulli(1).eval()
    state, events = part.initial_state(pixels), []
    for part.timesteps in pieces:
        piece, state = part.advance(pixels, state)
        events.append(piece)
    assert torch.equal(torch.cat(events), whole(pixels))


@pytest.mark.parametrize(
    "timesteps, floor, pixel, step",
    [
        (5, 0.1, 1.0, 0),
        (5, 0.1, 0.75, 1),
        (5, 0.1, 0.5, 2),
        (5, 0.1, 0.25, 3),
        (5, 0.1, 0.11, 4),
        (5, 0.1, 0.1, None),
        (5, 0.1, 0.0, None),
        (5, 0.0, 0.01, 4),
        (5, 0.0, 0.0, None),
        (1, 0.1, 0.2, 0),
        (1, 0.1, 0.05, None),
        (2, 0.1, 0.6, 0),
        (2, 0.1, 0.4, 1),
    ],
)
def test_latency(timesteps, floor, pixel, step):
    events = Latency(timesteps, floor)(torch.full((2, 3), pixel))
    expected = torch.zeros(timesteps, 2, 3)
    if step is not None:
        expected[step] = 1
    assert torch.equal(events, expected)


def test_latency_is_silent_after_its_code(pixels):
    encoder = Latency(4)
    first, state = encoder.advance(pixels, encoder.initial_state(pixels))
    second, state = encoder.advance(pixels, state)
    assert torch.equal(first.sum(0), (pixels > 0.1).float())
    assert second.shape == first.shape and not second.any() and state.step == 8


@pytest.mark.parametrize("encoder", [Bernoulli(3).eval(), Latency(3)])
def test_encoders_emit_unit_events_per_sample(encoder, pixels):
    assert encoder.emits == Events(most=1)
    assert encoder(pixels).shape == (3, *pixels.shape)
    assert torch.equal(encoder(pixels), encoder(pixels))


@pytest.mark.parametrize("encoder", [Bernoulli, Latency])
@pytest.mark.parametrize("timesteps", [0, -1])
def test_bad_timesteps(encoder, timesteps):
    with pytest.raises(BadInput, match="timesteps >= 1"):
        encoder(timesteps)
