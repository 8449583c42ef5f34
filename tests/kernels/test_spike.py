from functools import partial

import pytest
import torch

from picojoule.kernels.spike import spike
from picojoule.kernels.surrogate import arctan, rectangle, s3nn, sigmoid, triangle

SURROGATES = [triangle, partial(triangle, width=0.5), rectangle, arctan, partial(arctan, alpha=5.0), sigmoid, s3nn]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_fires_from_zero_on(dtype):
    u = torch.tensor([-1.0, -1e-3, -0.0, 0.0, 1e-3, 2.0], dtype=dtype)
    events = spike(u, triangle)
    assert events.tolist() == [0, 0, 1, 1, 1, 1] and events.dtype == dtype


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4)])
def test_backward_multiplies_by_the_surrogate(surrogate, shape):
    u = torch.randn(shape, generator=torch.manual_seed(1), dtype=torch.float64).requires_grad_()
    upstream = torch.randn(shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(spike(u, surrogate), u, upstream)
    torch.testing.assert_close(gradient, upstream * surrogate(u.detach()), rtol=0, atol=0)


@pytest.mark.parametrize(
    "p, omega, gradient",
    [(1, 30.0, [1.0, 5.0, 9.0, 9.0, 5.0, 1.0]), (2, 15.0, [0.0, 0.0, 0.0, 9.0, 5.0, 1.0])],
)
def test_penalty_of_six_neurons_with_fan_out_ten(p, omega, gradient):
    u = torch.tensor([-0.9, -0.5, -0.1, 0.1, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    penalty = (10 * spike(u, triangle) ** p).sum() / p
    penalty.backward()
    assert penalty.item() == omega and u.grad is not None
    torch.testing.assert_close(u.grad, torch.tensor(gradient, dtype=torch.float64))
