import pytest
import torch
from torch.nn.functional import pad

from picojoule.errors import BadInput
from picojoule.experiment.augment import AUGMENTATIONS, crop_and_flip, rotate_shift_and_flip


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _drawn(image: torch.Tensor, crop: torch.Tensor, padding: int) -> list[tuple[int, int, bool]]:
    """Every place and flip with which `crop` is a crop of `image`."""
    height, width = image.shape[1:]
    padded = pad(image, (padding,) * 4)
    found = []
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            whole = padded[:, top : top + height, left : left + width]
            for flip in (False, True):
                if torch.equal(whole.flip(2) if flip else whole, crop):
                    found.append((top, left, flip))
    return found


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("shape", [(6, 3, 8, 8), (5, 1, 7, 10), (3, 2, 1, 9), (0, 3, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bfloat16])
def test_each_image_is_one_crop_of_its_own(padding, shape, dtype):
    x = torch.randint(1, 200, shape, generator=_generator(1)).to(dtype)
    before = x.clone()
    y = crop_and_flip(x, _generator(), padding)
    assert y.shape == x.shape and y.dtype == dtype and torch.equal(x, before)
    for image, crop in zip(x, y, strict=True):
        assert _drawn(image, crop, padding)


def test_places_and_flips_are_uniform_and_independent():
    image = torch.arange(1.0, 10).reshape(1, 3, 3)
    draws = [_drawn(image, crop, 1) for crop in crop_and_flip(image.repeat(9000, 1, 1, 1), _generator(), 1)]
    assert all(len(draw) == 1 for draw in draws)
    counts = torch.zeros(3, 3, 2)
    for ((top, left, flip),) in draws:
        counts[top, left, int(flip)] += 1
    expected = 9000 / 18
    assert float(((counts - expected) ** 2 / expected).sum()) < 40.8  # chi-square, 17 degrees of freedom, p = 0.001


def test_the_generator_decides():
    x = torch.rand(64, 3, 8, 8)
    generator = _generator()
    first, second = crop_and_flip(x, generator), crop_and_flip(x, generator)
    assert torch.equal(first, crop_and_flip(x, _generator()))
    assert not torch.equal(first, second) and not torch.equal(first, crop_and_flip(x, _generator(1)))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    crop_and_flip(x, generator)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(8, 3, 8, 8), (1, 3, 8, 8), (4, 1, 9, 8), (4, 16, 5, 6)])
def test_the_memory_format_stays_and_does_not_matter(memory_format, shape):
    x = torch.rand(shape)
    y = crop_and_flip(x.contiguous(memory_format=memory_format), _generator())
    assert y.is_contiguous(memory_format=memory_format)
    assert torch.equal(y, crop_and_flip(x, _generator()))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 5, 3, 8, 8), (2, 64), (2, 3, 0, 8), (2, 3, 8, 0), (2, 0, 8, 8)])
def test_what_is_no_batch_of_images(shape):
    with pytest.raises(BadInput) as error:
        crop_and_flip(torch.zeros(shape), _generator())
    assert str(error.value) == f"expected images [B, C, H, W] to crop and flip, got shape {shape}"


def test_negative_padding():
    with pytest.raises(BadInput, match="expected padding >= 0, got -1"):
        crop_and_flip(torch.zeros(2, 3, 8, 8), _generator(), -1)


def test_rotation_without_angle_and_shift_only_mirrors():
    x = torch.rand(64, 3, 6, 9, generator=_generator(1))
    y = rotate_shift_and_flip(x, _generator(), degrees=0, share=0)
    mirrored = [bool(torch.isclose(b, a.flip(2), atol=1e-5).all()) for a, b in zip(x, y, strict=True)]
    same = [bool(torch.isclose(b, a, atol=1e-5).all()) for a, b in zip(x, y, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True)) and 16 < sum(mirrored) < 48


def test_rotation_without_flips_mirrors_nothing():
    x = torch.rand(64, 3, 6, 9, generator=_generator(1))
    turned = rotate_shift_and_flip(x, _generator(), flip=False)
    assert torch.equal(AUGMENTATIONS["rotate-shift"](x, _generator()), turned) and not torch.equal(turned, x)
    still = rotate_shift_and_flip(x, _generator(), degrees=0, share=0, flip=False)
    torch.testing.assert_close(still, x)


def test_a_turned_image_is_turned_by_no_more_than_asked():
    """A bright dot on a ring moves along the ring; its angle is uniform within the range."""
    x = torch.zeros(2000, 1, 41, 41)
    x[:, :, 18:23, 33:38] = 1  # at 15 pixels to the right of the centre
    y = rotate_shift_and_flip(x, _generator(2), degrees=15, share=0)[:, 0]
    rows, columns = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    mass = y.sum((1, 2))
    down, right = (y * rows).sum((1, 2)) / mass, (y * columns).sum((1, 2)) / mass
    angles = torch.rad2deg(torch.atan2(down, right.abs()))
    torch.testing.assert_close(torch.hypot(down, right), torch.full((2000,), 15.0), rtol=0.02, atol=0)
    assert angles.abs().max() < 15.5 and abs(float(angles.mean())) < 0.8
    assert float(angles.std()) == pytest.approx(15 / 3**0.5, rel=0.06)
    assert 0.45 < float((right < 0).float().mean()) < 0.55


def test_shifts_are_within_the_share_of_each_side():
    x = torch.zeros(2000, 1, 40, 20)
    x[:, :, 18:22, 8:12] = 1
    y = rotate_shift_and_flip(x, _generator(3), degrees=0, share=0.1)[:, 0]
    mass = y.sum((1, 2))
    down = (y * (torch.arange(40.0) - 19.5)[:, None]).sum((1, 2)) / mass
    right = (y * (torch.arange(20.0) - 9.5)).sum((1, 2)) / mass
    assert down.abs().max() <= 4.01 and right.abs().max() <= 2.01
    assert float(down.std()) == pytest.approx(4 / 3**0.5, rel=0.06)
    assert float(right.std()) == pytest.approx(2 / 3**0.5, rel=0.06)


def test_the_generator_decides_about_rotation_too():
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(rotate_shift_and_flip(x, _generator(5)), rotate_shift_and_flip(x, _generator(5)))
    assert not torch.equal(rotate_shift_and_flip(x, _generator(5)), rotate_shift_and_flip(x, _generator(6)))


@pytest.mark.parametrize("x", [torch.zeros(2, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)])
def test_rotation_refuses_other_tensors(x):
    with pytest.raises(BadInput):
        rotate_shift_and_flip(x, _generator())
