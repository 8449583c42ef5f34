import pytest
import torch

from picojoule.errors import BadInput
from picojoule.kernels.lmu.matrices import check_memory, discretised, legendre, shortest_window
from picojoule.kernels.lmu.memory import impulse_response


def test_golden_matrices():
    """Order 3 over 4 steps."""
    a, b = legendre(3, 4)
    assert (4 * a).tolist() == [[-1, -1, -1], [3, -3, -3], [-5, 5, -5]]
    assert (4 * b).flatten().tolist() == [1, -3, 5]
    ad, bd = discretised(3, 4)
    expected = [[0.763323, -0.205303, -0.064704], [0.615909, 0.212118, -0.278471], [-0.323520, 0.464119, 0.167069]]
    torch.testing.assert_close(ad, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(bd.flatten(), torch.tensor([0.236677, -0.615909, 0.323520]).double(), rtol=0, atol=1e-6)


def test_euler_is_one_step_of_the_differential_equation():
    a, b = legendre(5, 30)
    ad, bd = discretised(5, 30, "euler")
    assert torch.equal(ad, torch.eye(5) + a) and torch.equal(bd, b)


def test_golden_values_of_the_benchmark():
    ad, bd = discretised(256, 784)
    assert float(torch.linalg.eigvals(ad).abs().max()) == pytest.approx(0.97588, abs=1e-5)
    expected = torch.tensor([0.00127512, -0.00382282, 0.00635121, -0.00886312], dtype=torch.float64)
    torch.testing.assert_close(bd[:4, 0], expected, rtol=0, atol=1e-8)
    held = impulse_response(ad, bd, 784).sum(0)  # of 784 ones: a transposed matrix would not give this
    torch.testing.assert_close(held[:4], torch.tensor([0.9994, -0.0019, -0.0031, -0.0044]).double(), rtol=0, atol=1e-4)


def test_the_window_can_be_read_back():
    """What the memory holds of a slow signal is the signal: its Legendre series at the ends of the window."""
    ad, bd = discretised(12, 100)
    t = torch.arange(400, dtype=torch.float64)
    signal = torch.sin(2 * torch.pi * t / 80)
    m = (impulse_response(ad, bd, 400).flip(0) * signal.unsqueeze(1)).sum(0)
    newest, oldest = (m * (-1.0) ** torch.arange(12)).sum(), m.sum()
    torch.testing.assert_close(torch.stack([newest, oldest]), signal[[-1, -101]], rtol=0, atol=0.05)


def test_gradient_in_theta():
    theta = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: discretised(4, x), theta)


@pytest.mark.parametrize("order", [1, 6, 32])
def test_the_shortest_window_is_the_last_that_runs(order):
    least = shortest_window(order, "euler")
    check_memory(order, least, "euler")
    with pytest.raises(BadInput, match="explodes under euler|at least one step"):
        check_memory(order, least * 0.999, "euler")
    assert shortest_window(order, "zoh") == 1


@pytest.mark.parametrize(
    "order, theta, discretisation, says",
    [
        (4, 0.5, "zoh", "expected a window theta of at least one step, got 0.5"),
        (4, float("nan"), "zoh", "expected a window theta of at least one step, got nan"),
        (2.5, 784, "zoh", "expected a whole number as order, of at least 1, got 2.5"),
        (4, "784", "zoh", "expected a window theta of at least one step, got '784'"),
        (0, 4, "zoh", "expected a whole number as order, of at least 1, got 0"),
        (
            256,
            784,
            "euler",
            r"order 256 over theta = 784 steps explodes under euler \(spectral radius 3.415",
        ),
        (4, 9, "zho", "unknown discretisation 'zho'; did you mean 'zoh'"),
    ],
)
def test_a_memory_that_cannot_be_run(order, theta, discretisation, says):
    with pytest.raises(BadInput, match=says):
        check_memory(order, theta, discretisation)


@pytest.mark.parametrize("order, theta, discretisation", [(1, 1, "zoh"), (256, 784, "zoh"), (6, 784, "euler")])
def test_a_memory_that_can(order, theta, discretisation):
    check_memory(order, theta, discretisation)
