"""Augmentation of image batches in torch: all images at once, each with a draw of its own."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from picojoule.errors import BadInput


def crop_and_flip(x: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Each image of `[B, C, H, W]` padded by zeros on all sides, cropped at random to its size, and flipped or not.

    Crops are uniform over the `(2 * padding + 1)**2` places; left and right are swapped with probability 1/2. All
    draws come from `generator`. Shape, dtype, device and memory format stay. Raises BadInput for other shapes.

    Source: what is usual for CIFAR-10 (our choice).
    """
    if x.dim() != 4 or 0 in x.shape[1:]:
        raise BadInput(f"expected images [B, C, H, W] to crop and flip, got shape {tuple(x.shape)}")
    if padding < 0:
        raise BadInput(f"expected padding >= 0, got {padding}")
    batch, _, height, width = x.shape
    places, device = 2 * padding + 1, generator.device
    top, left = torch.randint(places, (2, batch), generator=generator, device=device).to(x.device)
    flips = torch.randint(2, (batch, 1, 1, 1), generator=generator, device=device).to(x.device) == 1
    padded = F.pad(x, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, places, places, H, W], a view
    crops = windows[torch.arange(batch, device=x.device), :, top, left]
    return torch.where(flips, crops.flip(3), crops)


def rotate_shift_and_flip(
    x: Tensor, generator: torch.Generator, degrees: float = 15.0, share: float = 0.1, flip: bool = True
) -> Tensor:
    """Each image of `[B, C, H, W]` turned about its centre, shifted, and flipped or not; outside lies its border.

    Angles are uniform within `degrees` either way, shifts within `share` of each side, and left and right are swapped
    with probability 1/2 unless `flip` is off; values in between are bilinear. Draws, shape and errors as in
    `crop_and_flip`; floats only.

    Source: the ranges are those of the training scripts of SpKeras.
    """
    if x.dim() != 4 or 0 in x.shape[1:] or not x.is_floating_point():
        raise BadInput(f"expected images [B, C, H, W] of floats to rotate, got {x.dtype} of shape {tuple(x.shape)}")
    batch, _, height, width = x.shape
    draws = torch.rand(4, batch, generator=generator, device=generator.device).to(x.device)
    angle = (2 * draws[0] - 1) * math.radians(degrees)
    right, down = (2 * (2 * draws[1:3] - 1) * share).unbind()  # a side is 2 long in the coordinates of the grid
    mirror = torch.where((draws[3] < 0.5) & flip, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    maps = torch.stack(
        [
            torch.stack([mirror * cos, -sin * height / width, right], 1),
            torch.stack([mirror * sin * width / height, cos, down], 1),
        ],
        1,
    )
    grid = F.affine_grid(maps, [batch, 1, height, width], align_corners=False)
    return F.grid_sample(x.float(), grid, padding_mode="border", align_corners=False).to(x.dtype)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "crop-flip": crop_and_flip,
    "rotate-shift": partial(rotate_shift_and_flip, flip=False),
    "rotate-shift-flip": rotate_shift_and_flip,
}
"""What `--augment` can ask for."""
