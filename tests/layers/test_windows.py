import pytest
import torch

from picojoule.errors import BadInput
from picojoule.layers.windows import cut, half_window, stitch, wide_window, window_plan


def maps(size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.rand(2, 3, size, size, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size, half, wide", [(2, 1, 1), (4, 2, 3), (8, 4, 6), (16, 8, 12)])
def test_the_published_windows(size, half, wide):
    assert (half_window(size), wide_window(size)) == (half, wide)
    assert window_plan(size, half).overlap == 0 and window_plan(size, wide).overlap == 2 * wide - size


@pytest.mark.parametrize("size, window", [(4, 2), (4, 3), (5, 3), (8, 6), (6, 6), (1, 1)])
def test_what_is_cut_is_stitched_again(size, window):
    plan, x = window_plan(size, window), maps(size)
    parts = cut(x, plan)
    assert parts.shape == (2, plan.windows, 3, window, window, 5)
    torch.testing.assert_close(stitch(parts, plan), x)


def test_the_order_of_windows():
    x = torch.arange(16.0).reshape(1, 1, 4, 4, 1)
    corners = cut(x, window_plan(4, 3))[0, :, 0, 0, 0, 0]
    assert corners.tolist() == [0, 1, 4, 5]


def test_overlaps_are_averaged_left_and_right_first_then_top_and_bottom():
    parts = torch.zeros(1, 4, 1, 3, 3, 1)
    parts[0, 0] = 1  # the top left window fires everywhere
    whole = stitch(parts, window_plan(4, 3))[0, 0, :, :, 0]
    assert whole.tolist() == [
        [1, 0.5, 0.5, 0],
        [0.5, 0.25, 0.25, 0],
        [0.5, 0.25, 0.25, 0],
        [0, 0, 0, 0],
    ]
    fired = stitch(parts, window_plan(4, 3), "any")[0, 0, :, :, 0]
    assert torch.equal(fired, (whole > 0).float())


@pytest.mark.parametrize("window", [2, 3, 4])
def test_gradcheck(window):
    plan = window_plan(4, window)
    parts = cut(maps(4), plan).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: stitch(x, plan), (parts,))


def test_any_passes_gradients_through_silent_places_alone():
    plan = window_plan(4, 3)
    parts = torch.zeros(1, 4, 1, 3, 3, 1)
    parts[0, 0, 0, 0, 1] = 1  # row 0, column 1
    parts.requires_grad_()
    whole = stitch(parts, plan, "any")
    (found,) = torch.autograd.grad(whole.sum(), parts)
    assert whole.sum() == 1 and whole[0, 0, 0, 1] == 1
    (mean,) = torch.autograd.grad(stitch(parts, plan).sum(), parts)
    blocked = torch.zeros_like(mean)
    blocked[0, 0, 0, 0, 1] = blocked[0, 1, 0, 0, 0] = 0.5  # what both windows show at that place
    assert torch.equal(found, mean - blocked)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: half_window(7), "expected a grid whose side can be divided by 2 for its windows, got side 7"),
        (lambda: window_plan(4, 5), "expected windows no larger than the grid of side 4, got side 5"),
        (lambda: window_plan(8, 3), "expected four windows that cover a grid of side 8, got windows of side 3"),
        (lambda: cut(torch.zeros(1, 2, 4, 4), window_plan(4, 2)), r"expected maps \[T, B, 4, 4, D\], got shape"),
        (lambda: cut(torch.zeros(1, 2, 3, 3, 1), window_plan(4, 2)), r"expected maps \[T, B, 4, 4, D\], got shape"),
        (lambda: stitch(torch.zeros(1, 4, 1, 2, 2, 1), window_plan(4, 2), "or"), "unknown stitch 'or'"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BadInput, match=message):
        call()
