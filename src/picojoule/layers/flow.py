"""How parts are wired: in a row, in parallel with a sum, in parallel with a concatenation."""

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """`body(x) + shortcut(x)`; the shortcut is the identity unless given."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class Concatenate(nn.Module):
    """The branches' outputs side by side along `dim` (2 is the channel axis of `[T, B, C, ...]`)."""

    def __init__(self, *branches: nn.Module, dim: int = 2):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], self.dim)
