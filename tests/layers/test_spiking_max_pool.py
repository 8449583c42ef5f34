"""Max pooling of events: the count behind a window is the largest count in front of it, at any time."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.errors import BadInput
from picojoule.layers import SpikingMaxPool1d, SpikingMaxPool2d


def trains(steps: int, shape: tuple[int, ...], seed: int, signed: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rate = torch.rand(shape, generator=generator)
    events = (torch.rand((steps, *shape), generator=generator) < rate).float()
    if not signed:
        return events
    counts = events.cumsum(0)
    take_back = (torch.rand(events.shape, generator=generator) < 0.3) & (events == 0) & (counts > steps // 4)
    return events - take_back.float()


@given(
    st.integers(1, 12),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(0, 1),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10_000),
)
@settings(max_examples=80, deadline=None)
def test_the_count_is_the_maximum_of_counts_after_every_step(steps, kernel, stride, padding, ceil, signed, seed):
    padding = min(padding, min(kernel) // 2)
    pool = SpikingMaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    x = trains(steps, (2, 3, 7, 6), seed, signed)
    events = pool(x)
    expected = torch.stack([F.max_pool2d(c, kernel, stride, padding, 1, ceil) for c in x.cumsum(0)])
    assert torch.equal(events.cumsum(0), expected)
    assert events.abs().max() <= 1 and (signed or events.min() >= 0)


def test_a_hand_made_train():
    x = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, -1, 0], [1, 0, 0], [0, 0, 1]]).reshape(6, 1, 1, 3)
    assert SpikingMaxPool1d(3)(x).flatten().tolist() == [1, 0, 1, -1, 1, 0]


@pytest.mark.parametrize("cuts", [(1, 6), (2, 2, 3), (1,) * 7])
def test_a_stream_in_pieces_equals_the_whole(cuts):
    pool, x = SpikingMaxPool2d(3, 2, 1), trains(7, (2, 3, 8, 8), 0)
    state, pieces = pool.initial_state(x), []
    for piece in x.split(list(cuts)):
        y, state = pool.advance(piece, state)
        pieces.append(y)
    assert torch.equal(torch.cat(pieces), pool(x))


def test_small_dtypes_count_exactly():
    x = torch.ones(300, 1, 1, 2, 2, dtype=torch.bfloat16)
    assert torch.equal(SpikingMaxPool2d(2)(x), torch.ones(300, 1, 1, 1, 1, dtype=torch.bfloat16))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(BadInput, match=r"expected (events|currents) \[T, B"):
        SpikingMaxPool2d(2)(torch.zeros(shape))
