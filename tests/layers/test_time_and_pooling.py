import pytest
import torch
from torch import nn

from picojoule.errors import BadInput
from picojoule.layers import AddTime, Concatenate, Repeat, Residual, Timewise, pooling


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Conv2d(2, 3, 3, padding=1), (4, 5, 2, 6, 6)),
        (nn.Linear(4, 3), (4, 5, 4)),
        (nn.MaxPool2d(2), (1, 2, 3, 4, 4)),
        (nn.BatchNorm2d(2).eval(), (3, 2, 2, 4, 4)),
        (nn.Flatten(1), (3, 2, 2, 4)),
    ],
)
def test_timewise_equals_a_loop_over_steps(layer, shape):
    x = torch.rand(shape)
    torch.testing.assert_close(Timewise(layer)(x), torch.stack([layer(step) for step in x]))


def test_timewise_batch_norm_takes_time_and_batch_together():
    x = torch.rand(4, 3, 2, 5, 5)
    y = Timewise(nn.BatchNorm2d(2))(x)
    torch.testing.assert_close(y.mean((0, 1, 3, 4)), torch.zeros(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (3, 4)])
def test_timewise_asks_for_time(shape):
    with pytest.raises(BadInput, match=r"expected \[T, B, \.\.\.\], got shape \(3"):
        Timewise(nn.Identity())(torch.rand(shape))


def test_time_is_added_and_repeated_without_a_copy():
    x = torch.rand(2, 3)
    y = Repeat(4)(AddTime()(x))
    assert y.shape == (4, 2, 3) and y.data_ptr() == x.data_ptr()
    assert all(torch.equal(step, x) for step in y)
    with pytest.raises(BadInput, match="timesteps >= 1"):
        Repeat(0)


@pytest.mark.parametrize("kind, expected", [("max", [1.0, 1.0, 0.0, 1.0]), ("avg", [0.25, 0.5, 0.0, 1.0])])
def test_pooling(kind, expected):
    x = torch.tensor(
        [[1.0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1]],
    ).expand(2, 3, 1, 4, 4)
    y = pooling(kind, 2)(x)
    assert y.shape == (2, 3, 1, 2, 2)
    assert all(sample.flatten().tolist() == expected for sample in y.flatten(0, 1))


def test_unknown_pooling():
    with pytest.raises(BadInput, match="did you mean 'max'"):
        pooling("maxi", 2)


def test_residual_and_concatenate():
    x = torch.rand(2, 3, 4)
    double = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        double.weight.copy_(2 * torch.eye(4))
    torch.testing.assert_close(Residual(double)(x), 3 * x)
    torch.testing.assert_close(Residual(double, double)(x), 4 * x)
    torch.testing.assert_close(Concatenate(nn.Identity(), double)(x), torch.cat([x, 2 * x], 2))
