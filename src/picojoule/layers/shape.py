"""Layers that only move numbers, on `[B, ...]`; events stay events."""

from torch import Tensor, nn

from picojoule.errors import BadInput


class Permute(nn.Module):
    """Reorder the axes behind the batch: `Permute(1, 2, 0)` turns `[B, C, H, W]` into `[B, H, W, C]`."""

    def __init__(self, *dims: int):
        super().__init__()
        if sorted(dims) != list(range(len(dims))):
            raise BadInput(f"expected every axis behind the batch once, such as 1, 2, 0, got {dims}")
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, *(dim + 1 for dim in self.dims))

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.dims))


class Reshape(nn.Module):
    """Give every sample another shape, which holds as many numbers; one of the sizes may be -1."""

    def __init__(self, *shape: int):
        super().__init__()
        if any(size < -1 or size == 0 for size in shape) or shape.count(-1) > 1:
            raise BadInput(f"expected sizes of at least 1, one of them -1 at most, got {shape}")
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.shape)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.shape))


class Crop2d(nn.Module):
    """Leave out rows and columns at the border of maps `[B, C, H, W]`; the inverse of `nn.ZeroPad2d`."""

    def __init__(self, left: int, right: int, top: int, bottom: int):
        super().__init__()
        if min(left, right, top, bottom) < 0:
            raise BadInput(f"expected rows and columns of at least 0, got {(left, right, top, bottom)}")
        self.left, self.right, self.top, self.bottom = left, right, top, bottom

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if self.top + self.bottom >= height or self.left + self.right >= width:
            raise BadInput(f"nothing is left of maps of {height} x {width} after {self.extra_repr()}; crop less")
        return x[..., self.top : height - self.bottom, self.left : width - self.right]

    def extra_repr(self) -> str:
        return f"left={self.left}, right={self.right}, top={self.top}, bottom={self.bottom}"
