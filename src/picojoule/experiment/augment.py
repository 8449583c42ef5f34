"""Augmentation of image batches in torch: all images at once, each with a draw of its own."""

import torch
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
    padded = torch.nn.functional.pad(x, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, places, places, H, W], a view
    crops = windows[torch.arange(batch, device=x.device), :, top, left]
    return torch.where(flips, crops.flip(3), crops)
