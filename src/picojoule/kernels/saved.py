"""In which dtype training keeps the membranes of all steps for the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from picojoule.errors import BadInput

_dtype: torch.dtype | None = None


@contextmanager
def membranes_saved_in(dtype: torch.dtype) -> Iterator[None]:
    """Inside the block the compiled kernels save membranes in `dtype`: bfloat16 halves their memory.

    What is saved is `u = v - threshold` with its sign kept, so that backward sees the spikes of forward exactly; only
    the argument of the surrogate is rounded. Neurons with learned decay or threshold keep float32. The process-wide
    default is the dtype of the currents. Raises BadInput for anything but torch.bfloat16 and torch.float32.
    """
    global _dtype
    if dtype not in (torch.bfloat16, torch.float32):
        raise BadInput(f"expected torch.bfloat16 or torch.float32 for saved membranes, got {dtype}")
    before, _dtype = _dtype, dtype
    try:
        yield
    finally:
        _dtype = before


def membranes_as_now() -> AbstractContextManager[None]:
    """A context with the choice of this moment, for work that is done again later."""
    return nullcontext() if _dtype is None else membranes_saved_in(_dtype)


def saved_dtype(currents: torch.dtype, learned: bool) -> torch.dtype:
    """The dtype for neurons with such currents, whose own parameters are `learned` or not."""
    if currents == torch.float64:
        return currents
    return torch.float32 if learned else (_dtype or currents)
