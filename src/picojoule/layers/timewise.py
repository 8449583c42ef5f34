"""Stateless layers over time, by folding time into the batch."""

from torch import Tensor, nn

from picojoule.errors import BadInput


class Timewise(nn.Module):
    """Apply a stateless layer that knows only `[B, ...]` to every step of `[T, B, ...]`.

    Time is folded into the batch (T-major), so T steps cost one call. Batch norm therefore normalises over
    time and batch together.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 3:
            raise BadInput(f"expected [T, B, ...], got shape {tuple(x.shape)}")
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Repeat(nn.Module):
    """Present one step `[1, B, ...]` for T steps: `[T, B, ...]`, without a copy.

    Put after the first weight layer it makes a constant current: computed once, reused T times.
    """

    def __init__(self, timesteps: int):
        super().__init__()
        if timesteps < 1:
            raise BadInput(f"expected timesteps >= 1, got {timesteps}")
        self.timesteps = timesteps

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(self.timesteps, *x.shape[1:])

    def extra_repr(self) -> str:
        return f"timesteps={self.timesteps}"


class LastStep(nn.Module):
    """The last step `[B, ...]` of `[T, B, ...]`: what is read of a recurrent network at the end of a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return x[-1]


class AddTime(nn.Module):
    """Give `[B, ...]` a time axis of one step: `[1, B, ...]`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(0)
