"""A small network trained on the built-in digits, once for all tests of conversion."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from picojoule.data import intensities, load

SEED, EPOCHS, BATCH = 0, 25, 50


class Trained(NamedTuple):
    """A network, and the digits: calibration images, test images and their labels."""

    network: nn.Module
    calibration: Tensor
    images: Tensor
    labels: Tensor

    def accuracy(self, scores: Tensor) -> float:
        """Right answers on the test images, in percent."""
        return 100 * float((scores.argmax(1) == self.labels).double().mean())


def convolution(channels: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out, eps=1e-3), nn.ReLU()]


def pooled_network(pool: type[nn.Module]) -> nn.Module:
    """Conv 8, pool, conv 16, conv 16, pool, dense 32, dense 10, as published networks for digits are built."""
    features = [*convolution(1, 8), pool(2), *convolution(8, 16), *convolution(16, 16), pool(2), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(64, 32), nn.BatchNorm1d(32, eps=1e-3), nn.ReLU(), nn.Linear(32, 10))


def trained(pool: type[nn.Module]) -> Trained:
    data = load("digits")
    x, y = intensities(data.train.images, data.scale), data.train.labels
    torch.manual_seed(SEED)
    network = pooled_network(pool)
    steps = EPOCHS * -(-len(x) // BATCH)
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimiser.step()
            schedule.step()
    return Trained(network.eval(), x[:1000], intensities(data.test.images, data.scale), data.test.labels)


@pytest.fixture(scope="session")
def digits_average() -> Trained:
    return trained(nn.AvgPool2d)


@pytest.fixture(scope="session")
def digits_maximum() -> Trained:
    return trained(nn.MaxPool2d)
