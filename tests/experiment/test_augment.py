import pytest
import torch
from torch.nn.functional import pad

from picojoule.errors import BadInput
from picojoule.experiment.augment import crop_and_flip


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
