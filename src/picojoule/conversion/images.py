"""Images as users hand them over: one tensor, or batches with or without labels."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from picojoule.errors import BadInput

BATCH = 100
"""Images in one batch, if they come in one tensor."""


def image_batches(given: Tensor | Iterable[Any], what: str) -> Iterator[Tensor]:
    """Batches `[B, ...]` of a tensor `[N, ...]`, or of an iterable of batches, alone or with labels behind them.

    `what` is how a refusal calls the images. Raises BadInput for everything else.
    """
    if isinstance(given, Tensor):
        given = given.split(BATCH)
    elif not isinstance(given, Iterable) or hasattr(given, "__array__"):
        raise BadInput(f"expected {what} as a tensor [N, ...] or batches of them, got {_named(given)}")
    for item in given:
        batch = item[0] if isinstance(item, tuple | list) and item else item
        if not isinstance(batch, Tensor):
            raise BadInput(f"expected {what} in batches that are tensors, or (images, labels), got {_named(batch)}")
        if batch.dim() < 2:
            raise BadInput(f"expected {what} in batches [B, ...], got a tensor of shape {list(batch.shape)}")
        if len(batch):
            yield batch


def _named(thing: Any) -> str:
    """The type of a thing, and how to make tensors of it."""
    if hasattr(thing, "__array__"):
        return f"a NumPy {type(thing).__name__}; make a tensor of it by torch.from_numpy"
    if isinstance(thing, dict):
        return f"a dict; pass the tensor alone, such as batch[{next(iter(thing), 'image')!r}]"
    return f"{type(thing).__name__}; pass a tensor"
