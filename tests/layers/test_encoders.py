import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from picojoule.energy import measure
from picojoule.errors import BadInput
from picojoule.graph import observe
from picojoule.kinds import Events, Values
from picojoule.layers import Bernoulli, Encoder, EvenRate, Frames, Latency, LogLatency, MembraneReadout
from picojoule.networks import Network
from picojoule.neurons import LIF


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


@pytest.mark.parametrize(
    "timesteps, span, pixel, step",
    [
        (20, 0.5, 1.0, 0),
        (20, 0.5, 0.8, 2),  # 0.2 * 9 = 1.8
        (20, 0.5, 0.45, 5),  # 0.55 * 9 = 4.95
        (20, 0.5, 0.11, 8),  # 0.89 * 9 = 8.01
        (20, 0.5, 0.1, None),
        (50, 0.5, 0.2, 19),  # 0.8 * 24 = 19.2
        (5, 0.5, 0.11, 1),  # 0.89 * 1.5 = 1.335
        (1, 0.5, 0.2, 0),
        (10, 0.01, 0.2, 0),
    ],
)
def test_latency_within_a_span(timesteps, span, pixel, step):
    events = Latency(timesteps, span=span)(torch.full((2, 3), pixel))
    expected = torch.zeros(timesteps, 2, 3)
    if step is not None:
        expected[step] = 1
    assert torch.equal(events, expected)


@pytest.mark.parametrize("timesteps", [6, 20, 50])
def test_half_a_span_leaves_the_second_half_silent(timesteps):
    grey = torch.linspace(0, 1, 256)[:, None]
    events = Latency(timesteps, span=0.5)(grey)
    assert torch.equal(events[: timesteps // 2].sum(0), (grey > 0.1).float())
    assert not events[timesteps // 2 :].any()


@pytest.mark.parametrize("span", [0, -0.5, 1.01, math.nan])
def test_bad_span(span):
    with pytest.raises(BadInput, match=r"expected a span of the code in \(0, 1\], as a share of the steps, got "):
        Latency(4, span=span)


@pytest.mark.parametrize(
    "tau, threshold, pixel, step",
    [
        (20.0, 0.2, 1.0, 4),  # 20 ln(1 / 0.8) = 4.46
        (20.0, 0.2, 0.5, 10),  # 20 ln(0.5 / 0.3) = 10.22
        (20.0, 0.2, 0.4, 13),  # 20 ln 2 = 13.86
        (20.0, 0.2, 0.21, 60),  # 20 ln 21 = 60.89
        (20.0, 0.2, 0.2014, 99),  # 20 ln 143.9 = 99.38
        (20.0, 0.2, 0.2013, None),  # 20 ln 154.8 = 100.85: later than T
        (20.0, 0.2, 0.2, None),
        (20.0, 0.2, 0.1, None),
        (20.0, 0.2, 0.0, None),
        (10.0, 0.5, 0.6, 17),  # 10 ln 6 = 17.92
        (0.5, 0.5, 1.0, 0),  # 0.5 ln 2 = 0.35
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_latency(tau, threshold, pixel, step, dtype):
    events = LogLatency(100, tau, threshold)(torch.full((2, 3), pixel, dtype=dtype))
    expected = torch.zeros(100, 2, 3, dtype=dtype)
    if step is not None:
        expected[step] = 1
    assert torch.equal(events, expected)


def test_log_latency_of_every_grey_level():
    grey = [level / 255 for level in range(256)]
    events = LogLatency(100)(torch.arange(256)[None] / 255)[:, 0]
    steps = [int(20 * math.log(x / (x - 0.2))) if level > 51 else None for level, x in enumerate(grey)]
    assert [step.nonzero().flatten().tolist() for step in events.T] == [[] if s is None else [s] for s in steps]


def test_log_latency_is_as_fine_in_short_numbers():
    x = torch.linspace(0.25, 1, 50, dtype=torch.bfloat16)
    events = LogLatency(40)(x[None])
    assert events.dtype == torch.bfloat16 and torch.equal(events.double(), LogLatency(40)(x[None].double()))


@pytest.mark.parametrize("pieces", [(40, 60), (1, 9, 90)])
def test_log_latency_in_pieces_equals_the_whole(pixels, pieces):
    part = LogLatency(1)
    state, events = part.initial_state(pixels), []
    for part.timesteps in pieces:
        piece, state = part.advance(pixels, state)
        events.append(piece)
    assert torch.equal(torch.cat(events), LogLatency(100)(pixels)) and state.step == 100


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"tau": 0}, "tau above 0, in milliseconds, got 0"),
        ({"tau": math.inf}, "got inf"),
        ({"tau": math.nan}, "got nan"),
        ({"threshold": 0}, r"threshold in \(0, 1\), as pixels are, got 0"),
        ({"threshold": 1.0}, "got 1.0"),
    ],
)
def test_bad_log_latency(arguments, said):
    with pytest.raises(BadInput, match=said):
        LogLatency(5, **arguments)


@pytest.fixture
def frames():
    return (torch.rand(3, 4, 2, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def test_frames_move_time_to_the_front_without_a_copy(frames):
    moved = Frames(4)(frames)
    assert moved.shape == (4, 3, 2, 5, 5) and moved.data_ptr() == frames.data_ptr()
    assert all(torch.equal(moved[t, b], frames[b, t]) for t in range(4) for b in range(3))


@pytest.mark.parametrize("shape", [(3, 5, 2, 5, 5), (4, 3, 2, 5, 5), (4, 2, 5, 5), (3, 4, 2, 5, 5, 1), (3, 4)])
def test_frames_refuse_other_shapes(shape):
    with pytest.raises(BadInput) as caught:
        Frames(4)(torch.zeros(shape))
    expected = "expected frames [B, T=4, C, H, W] or sequences [B, T=4, F], got shape"
    assert str(caught.value) == f"{expected} {shape}"


def over_frames(timesteps):
    return nn.Sequential(Frames(timesteps), nn.Flatten(2), nn.Linear(50, 6), LIF(), nn.Linear(6, 3), MembraneReadout())


def test_the_next_frames_continue_a_recording(frames):
    torch.manual_seed(0)
    model = over_frames(4)
    whole, parts = Network(model, (4, 2, 5, 5), 3), Network(over_frames(2), (2, 2, 5, 5), 3)
    parts.load_state_dict(whole.state_dict())
    scores, state = parts.advance(frames[:, :2], parts.initial_state(3))
    assert not torch.allclose(scores, whole(frames))
    scores, state = parts.advance(frames[:, 2:], state)
    assert torch.allclose(scores, whole(frames))


def test_gradients_reach_what_makes_frames(frames):
    frames.requires_grad_()
    (Frames(4)(frames) * torch.arange(1.0, 5)[:, None, None, None, None]).sum().backward()
    assert frames.grad is not None
    assert torch.equal(frames.grad, torch.arange(1.0, 5)[:, None, None, None].expand_as(frames))


@pytest.mark.parametrize("inputs", [Events(most=1), Values()])
def test_frames_keep_the_kind_of_the_input(frames, inputs):
    sites = observe(over_frames(4), frames, inputs).sites
    assert [site.kind for site in sites] == [inputs, Events(most=1)]


@pytest.mark.parametrize(
    "encoder", [Bernoulli(3).eval(), Latency(3), Latency(3, span=0.5), LogLatency(30), EvenRate(3)]
)
def test_encoders_emit_unit_events_per_sample(encoder, pixels):
    assert encoder.emits == Events(most=1)
    assert encoder(pixels).shape == (encoder.timesteps, *pixels.shape)
    assert torch.equal(encoder(pixels), encoder(pixels))
    assert torch.equal(encoder(pixels)[:, 1:], encoder(pixels[1:])) or isinstance(encoder, Bernoulli)


@pytest.mark.parametrize("encoder", [Latency(20, span=0.5), LogLatency(20), EvenRate(20)])
def test_the_meter_sees_unit_events(encoder, pixels):
    model = nn.Sequential(encoder, nn.Flatten(2), nn.Linear(32, 3), MembraneReadout())
    report = measure(model, [(pixels, torch.zeros(3, dtype=torch.int64))])
    assert [layer["kind"] for layer in report.to_dict()["layers"]] == ["events"]
    assert report.counts.total("acs").item() == encoder(pixels).sum().item()  # of three samples, to three neurons each


@pytest.mark.parametrize("encoder", [Bernoulli, Latency, LogLatency, EvenRate, Frames])
@pytest.mark.parametrize("timesteps", [0, -1])
def test_bad_timesteps(encoder, timesteps):
    assert issubclass(encoder, Encoder)
    with pytest.raises(BadInput, match="timesteps >= 1"):
        encoder(timesteps)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=20), st.integers(1, 40), st.integers(1, 39))
def test_an_even_rate_has_fired_its_share_after_every_step(levels, timesteps, cut):
    x = torch.tensor([levels]) / 255
    code = EvenRate(timesteps)
    fired = code(x).cumsum(0)
    for t, counts in enumerate(fired, 1):
        assert counts[0].tolist() == [level * t // 255 for level in levels]
    piece, state = EvenRate(min(cut, timesteps)), code.initial_state(x)
    first, state = piece.advance(x, state)
    rest, _ = code.advance(x, state)
    assert torch.equal(torch.cat([first, rest])[:timesteps], code(x))
