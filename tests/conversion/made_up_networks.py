"""Small foreign networks, one for every idea that a conversion has to get right; each for images `[B, 3, 8, 8]`."""

import torch
from torch import Tensor, nn

from picojoule.layers import Permute

SHAPE, CLASSES = (3, 8, 8), 5


def head(channels: int, side: int = 8) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(channels * side * side, CLASSES)]


class ResidualNet(nn.Module):
    """A block whose branches meet in currents, and one whose branches meet in events that synapses read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.left, self.right = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.head = nn.Sequential(*head(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        x = self.relu(self.left(x) + x)
        x = self.relu(self.right(x)) + x
        return self.head(x)


class ConcatNet(nn.Module):
    """Branches with scales of their own, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 1)
        self.c, self.relu = nn.Conv2d(10, 6, 3, padding=1), nn.ReLU()
        self.head = nn.Sequential(*head(6))

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.relu(self.a(x)), self.relu(self.b(x))], 1)
        return self.head(self.relu(self.c(both)))


class ClippedNet(nn.Module):
    """A clipped activation, far above whose ceiling its currents go, added to another in front of synapses."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 1)
        self.clip, self.relu, self.c = nn.Hardtanh(0, 0.2), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Sequential(*head(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.c(self.clip(self.a(x)) + self.relu(self.b(x)))))


class ChunkNet(nn.Module):
    """Channels of one activation in two pieces that meet in a sum, and the first pixel of its maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(4, 6, 3, padding=1)
        self.relu, self.head, self.corner = nn.ReLU(), nn.Sequential(*head(6)), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.relu(self.stem(x)))
        a, b = x.chunk(2, 1)
        return self.head(self.relu(self.c(a + b))) + self.corner(x[:, :, 0, 0])


class SharedNet(nn.Module):
    """One activation and one convolution, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
        self.head = nn.Sequential(*head(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        return self.head(self.relu(self.twice(self.relu(self.twice(x)))))


class DenseNet(nn.Module):
    """Batch norm in front of the activation, behind a concatenation; a way around with an affine map in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.norm1, self.grow, self.norm2 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(8)
        self.last, self.norm3 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Sequential(*head(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = torch.cat([x, self.relu(self.grow(self.relu(self.norm1(x))))], 1)
        x = self.norm3(self.relu(self.last(self.relu(self.norm2(x))))) + x
        return self.head(self.pool(self.relu(x)))


class WeightedSumNet(nn.Module):
    """Activations that are weighted, added up and interpolated: currents that are never negative enter synapses."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.next, self.last = conv(), conv(6), conv(6)
        self.grow, self.head = nn.Upsample(scale_factor=2, mode="bilinear"), nn.Sequential(*head(6, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + 0.5 * torch.relu(self.next(x))
        return self.head(torch.relu(self.last(self.grow(x))))


def conv(channels: int = 3, out: int = 6, **settings: object) -> nn.Module:
    return nn.Conv2d(channels, out, 3, padding=1, **settings)  # pyright: ignore[reportArgumentType]


NETWORKS = {
    "conv": lambda: nn.Sequential(conv(), nn.ReLU(), conv(6), nn.ReLU(), *head(6)),
    "norm": lambda: nn.Sequential(conv(bias=False), nn.BatchNorm2d(6, eps=1e-3), nn.ReLU(), *head(6)),
    "norm-before-conv": lambda: nn.Sequential(nn.BatchNorm2d(3), conv(), nn.ReLU(), conv(6), nn.ReLU(), *head(6)),
    "norm-after-relu": lambda: nn.Sequential(
        *(conv(), nn.ReLU(), nn.BatchNorm2d(6), nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(6, 6, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(6 * 9 * 7, CLASSES)),
    ),
    "norm-before-pool": lambda: nn.Sequential(
        conv(), nn.ReLU(), nn.BatchNorm2d(6), nn.AvgPool2d(2), conv(6), nn.ReLU(), *head(6, 4)
    ),
    "norm-behind-max-pool": lambda: nn.Sequential(
        *(conv(), nn.ReLU(), conv(6), nn.MaxPool2d(2), nn.BatchNorm2d(6), nn.ReLU(), conv(6), nn.ReLU()), *head(6, 4)
    ),
    "residual": ResidualNet,
    "concat": ConcatNet,
    "clipped": ClippedNet,
    "weighted-sum": WeightedSumNet,
    "chunk": ChunkNet,
    "shared": SharedNet,
    "dense": DenseNet,
    "depthwise": lambda: nn.Sequential(
        *(conv(), nn.ReLU(), conv(6, 12, groups=6), nn.ReLU(), nn.Conv2d(12, 6, 1), nn.ReLU()), *head(6)
    ),
    "separable": lambda: nn.Sequential(
        *(conv(), nn.ReLU(), conv(6, 6, groups=6), nn.Conv2d(6, 6, 1), nn.ReLU()), *head(6)
    ),
    "grouped": lambda: nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8, groups=2, dilation=1), nn.ReLU(), *head(8)),
    "transposed": lambda: nn.Sequential(
        conv(), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2), nn.BatchNorm2d(4), nn.ReLU(), *head(4, 16)
    ),
    "max-pool": lambda: nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(3, 2, 1), conv(6), nn.ReLU(), *head(6, 4)),
    "global-max-pool": lambda: nn.Sequential(conv(), nn.ReLU(), nn.AdaptiveMaxPool2d(1), *head(6, 1)),
    "max-pool-first": lambda: nn.Sequential(conv(), nn.MaxPool2d(2), nn.ReLU(), conv(6), nn.ReLU(), *head(6, 4)),
    "max-pool-of-currents": lambda: nn.Sequential(
        conv(), nn.ReLU(), conv(6), nn.MaxPool2d(2), conv(6), nn.ReLU(), *head(6, 4)
    ),
    "avg-pool": lambda: nn.Sequential(conv(), nn.ReLU(), nn.AvgPool2d(2), conv(6), nn.ReLU(), *head(6, 4)),
    "leaky": lambda: nn.Sequential(conv(), nn.LeakyReLU(0.2), nn.MaxPool2d(2), conv(6), nn.LeakyReLU(), *head(6, 4)),
    "leaky-pooled": lambda: nn.Sequential(conv(), nn.LeakyReLU(0.2), nn.AvgPool2d(2), conv(6), nn.ReLU(), *head(6, 4)),
    "prelu": lambda: nn.Sequential(conv(), nn.PReLU(6, 0.1), conv(6), nn.PReLU(), *head(6)),
    "relu6": lambda: nn.Sequential(conv(), nn.BatchNorm2d(6), nn.ReLU6(), conv(6), nn.ReLU6(), *head(6)),
    "upsample": lambda: nn.Sequential(conv(), nn.ReLU(), nn.Upsample(scale_factor=2), conv(6), nn.ReLU(), *head(6, 16)),
    "channels-last": lambda: nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(2), Permute(1, 2, 0), *head(6, 4)),
    "shuffle": lambda: nn.Sequential(conv(3, 8), nn.ReLU(), nn.PixelShuffle(2), conv(2), nn.ReLU(), *head(6, 16)),
    "unflatten": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(192, 96), nn.ReLU(), nn.Unflatten(1, (6, 4, 4)), conv(6), nn.ReLU(), *head(6, 4)
    ),
    "volume": lambda: nn.Sequential(
        *(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool3d((1, 2, 2))), *head(12, 4)
    ),
    "dropout-softmax": lambda: nn.Sequential(conv(), nn.ReLU(), nn.Dropout(0.5), *head(6), nn.LogSoftmax(1)),
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5)),
}
"""Foreign models by what they show."""


def made_up(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A network with random weights and running statistics that its images gave it, and these images."""
    torch.manual_seed(seed)
    network, x = NETWORKS[name](), torch.rand(24, *SHAPE)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            if name == "norm-behind-max-pool":
                module.weight.data[::2] *= -1
    with torch.no_grad():
        for _ in range(40):
            network.train()(x)
    return network.eval(), x
