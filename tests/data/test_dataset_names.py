import subprocess
import sys

import pytest
import torch

from picojoule import data
from picojoule.errors import BadInput


def test_names():
    images = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar10-fair", "cifar10-holdout", "tiny-imagenet")
    sequences = ("psmnist", "psmnist-keras", "smnist", "digits-sequence")
    assert data.NAMES == (*images, "nmnist", "nmnist-frames", *sequences)


def test_names_are_there_without_torch():
    code = "import sys, picojoule.data as d; assert d.NAMES and d.load; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_exist():
    assert all(getattr(data, name) is not None for name in data.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = data.nonsense  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "wrong, near", [("fashion_mnist", "fashion-mnist"), ("digit", "digits"), ("cifar-10", "cifar10")]
)
def test_unknown_name_gives_the_nearest(wrong, near):
    with pytest.raises(BadInput, match=f"unknown dataset '{wrong}'; did you mean '{near}'"):
        data.load(wrong)


def test_intensities_are_between_0_and_1():
    images = torch.tensor([[[[0, 4], [8, 16]]]], dtype=torch.uint8)
    assert data.intensities(images, 16).flatten().tolist() == [0.0, 0.25, 0.5, 1.0]
    assert data.intensities(images, 16, torch.float64).dtype == torch.float64


def test_intensities_refuse_scaled_images():
    with pytest.raises(TypeError, match="expected uint8 images, got torch.float32"):
        data.intensities(torch.zeros(1, 1, 2, 2), 255)
