import math

import pytest
import torch

from picojoule.errors import BadInput
from picojoule.kernels.projection import project
from picojoule.kernels.window_rules import PROJECTIONS


def test_values_of_the_sine_and_cosine():
    a, b = torch.tensor([[1, 0], [2, 0], [0.5, 0.5], [1, 2], [0, 0], [-1, 0]], dtype=torch.float64).T
    expected = torch.tensor([math.sqrt(2), 2, 0.7098, 0, 0, -math.sqrt(2)], dtype=torch.float64)
    torch.testing.assert_close(project(a, b, "sincos"), expected, rtol=0, atol=5e-5)


def test_the_gradient_of_the_sine_and_cosine():
    a, b = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = torch.autograd.grad(project(a, b, "sincos").sum(), (a, b))
    phi = math.pi / 4 * a * torch.cos(math.pi / 4 * b)
    by_a = math.pi / 2 * phi.cos() * torch.cos(math.pi / 4 * b)
    by_b = -(math.pi**2) / 8 * a * phi.cos() * torch.sin(math.pi / 4 * b)
    torch.testing.assert_close(found, (by_a, by_b))
    assert project(4 * a, b, "sincos").abs().max() <= 2


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_gradcheck(kind):
    a, b = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: project(a, b, kind) + 0 * (a + b), (a, b))


def test_controls():
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0])
    assert project(a, b, "mean").tolist() == [2, 0]
    assert project(a, b, "carry").tolist() == [3, -2]
    assert project(a, b, "zero").tolist() == [0, 0]
    with pytest.raises(BadInput, match="unknown projection 'sin'"):
        project(a, b, "sin")
