import math

import pytest
import torch

from picojoule.errors import BadInput
from picojoule.neurons import LIF, surrogate


def _at(name: str, u: float, **shape: float) -> float:
    return surrogate(name, **shape)(torch.tensor(u, dtype=torch.float64)).item()


@pytest.mark.parametrize(
    "name, shape, u, value",
    [
        ("triangle", {}, 0.0, 1.0),
        ("triangle", {}, -0.25, 0.75),
        ("triangle", {}, 1.5, 0.0),
        ("triangle", {"width": 2.0}, 1.0, 0.25),
        ("rectangle", {}, 0.5, 1.0),
        ("rectangle", {}, 0.51, 0.0),
        ("rectangle", {"width": 0.5}, -0.25, 2.0),
        ("arctan", {}, 0.0, 1.0),
        ("arctan", {"alpha": 1.0}, 2 / math.pi, 0.25),
        ("sigmoid", {}, 0.0, 1.0),
        ("sigmoid", {"alpha": 1.0}, math.log(3), 3 / 16),
        ("s3nn", {}, -1e-9, 1.0),
        ("s3nn", {}, 0.0, 1.0),
        ("s3nn", {}, 1.0, 0.5),
        ("s3nn", {"b": 2.0}, 3.0, 0.5),
        ("s3nn", {"a": 1.0}, -math.log(3), 3 / 16),
    ],
)
def test_value(name, shape, u, value):
    assert _at(name, u, **shape) == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize(
    "name, shape, reach",
    [
        ("triangle", {}, 2.0),
        ("triangle", {"width": 3.0}, 4.0),
        ("rectangle", {"width": 0.7}, 2.0),
        ("arctan", {}, 1e4),
        ("arctan", {"alpha": 5.0}, 1e4),
        ("sigmoid", {}, 20.0),
        ("sigmoid", {"alpha": 1.0}, 60.0),
    ],
)
def test_area_is_one(name, shape, reach):
    # u = sinh(z) reaches far into the tails and stays fine around the threshold.
    z = torch.linspace(-math.asinh(reach), math.asinh(reach), 400_001, dtype=torch.float64)
    u = torch.sinh(z)
    area = torch.trapezoid(surrogate(name, **shape)(u), u).item()
    assert area == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize(
    "name, shape, smooth",
    [
        ("arctan", {}, lambda u: torch.atan(torch.pi / 2 * 2.0 * u) / torch.pi + 0.5),
        ("arctan", {"alpha": 0.7}, lambda u: torch.atan(torch.pi / 2 * 0.7 * u) / torch.pi + 0.5),
        ("sigmoid", {}, lambda u: torch.sigmoid(4 * u)),
        ("sigmoid", {"alpha": 9.0}, lambda u: torch.sigmoid(9 * u)),
        ("s3nn", {}, lambda u: torch.where(u < 0, torch.sigmoid(4 * u), 0.5 + torch.log1p(u.clamp(min=0)))),
        ("triangle", {}, lambda u: 0.5 + torch.sign(u) * (u.abs() - u**2 / 2)),
    ],
)
def test_is_the_derivative_of_its_smooth_step(name, shape, smooth):
    u = torch.linspace(-0.95, 0.95, 40, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(smooth(u).sum(), u)
    torch.testing.assert_close(surrogate(name, **shape)(u.detach()), derivative)


@pytest.mark.parametrize("name", ["triangle", "rectangle", "arctan", "sigmoid", "s3nn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_keeps_the_dtype_and_stays_finite_far_out(name, dtype):
    y = surrogate(name)(torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4], dtype=dtype))
    assert y.dtype == dtype and torch.isfinite(y).all() and (y >= 0).all()


@pytest.mark.parametrize("name", ["triangle", "rectangle", "arctan", "sigmoid", "s3nn"])
def test_a_neuron_learns_through_it(name):
    currents = torch.full((3, 2, 4), 0.8, requires_grad=True)
    LIF(surrogate=surrogate(name))(currents).sum().backward()
    assert currents.grad is not None and torch.isfinite(currents.grad).all() and (currents.grad != 0).any()


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'triangle'"):
        surrogate("triangel")
