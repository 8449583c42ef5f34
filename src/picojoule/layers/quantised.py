"""Activations on a grid, for networks with integer arithmetic."""

from torch import Tensor, nn

from picojoule.errors import BadInput
from picojoule.kinds import Values


class QuantisedReLU(nn.Module):
    """ReLU rounded to `levels` steps of `scale` and clipped at `levels * scale` (255 levels: 8 bits).

    Straight through: the gradient is that of the clipped ReLU.
    """

    emits = Values("quantised activations are multi-level values")

    def __init__(self, scale: float, levels: int = 255):
        super().__init__()
        if not scale > 0 or levels < 1:
            raise BadInput(f"expected scale > 0 and levels >= 1, got {scale} and {levels}")
        self.scale, self.levels = scale, levels

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp(0, self.scale * self.levels)
        return x + ((x / self.scale).round() * self.scale - x).detach()

    def extra_repr(self) -> str:
        return f"scale={self.scale:.4g}, levels={self.levels}"
