import pytest
import torch

from picojoule.errors import BadInput
from picojoule.kernels.stimulus import ENCODINGS, encode


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(shape) -> torch.Tensor:
    return torch.rand(shape, generator=generator())


@pytest.mark.parametrize("kind", ["bernoulli", "straight-through"])
def test_fires_strictly_above_the_noise(kind):
    noise = drawn((6, 5))
    assert torch.equal(encode(noise, kind, generator()), torch.zeros(6, 5))
    above = torch.nextafter(noise, torch.ones(6, 5))
    assert torch.equal(encode(above, kind, generator()), torch.ones(6, 5))


@pytest.mark.parametrize("kind", ["bernoulli", "straight-through"])
def test_the_rate_is_the_value_within_0_and_1(kind):
    x = torch.tensor([-1.0, 0.0, 0.3, 1.0, 4.0]).repeat(20_000, 1)
    rates = encode(x, kind, generator()).mean(0)
    torch.testing.assert_close(rates, torch.tensor([0, 0, 0.3, 1, 1]), rtol=0, atol=0.01)


def test_the_threshold_needs_no_noise():
    x = torch.tensor([0.4, 0.5, 0.6])
    assert encode(x, "threshold").tolist() == [0, 0, 1]


def gradient(kind: str, x: list[float]) -> list[float] | None:
    wanted = torch.tensor(x, requires_grad=True)
    y = encode(wanted, kind, generator())
    return torch.autograd.grad(y.sum(), wanted)[0].tolist() if y.requires_grad else None


def test_gradients():
    x = [-0.1, 0.0, 0.3, 1.0, 1.1]
    assert gradient("bernoulli", x) is None
    assert gradient("straight-through", x) == [0, 1, 1, 1, 0]
    assert gradient("threshold", x) == [0, 0, 1, 0, 0]
    assert gradient("relu", x) == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_noise_is_never_coarse(dtype):
    x = torch.full((1000,), 0.5, dtype=dtype)
    wide = torch.promote_types(dtype, torch.float32)
    noise = torch.rand(1000, generator=generator(), dtype=wide)
    assert torch.equal(encode(x, "bernoulli", generator()).to(wide), (noise < 0.5).to(wide))


def test_noise_without_a_generator_under_deterministic_algorithms():
    x = torch.rand(3)
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(BadInput, match=r"^the encoder bernoulli draws noise, .* pass generator="):
            encode(x, "bernoulli")
        assert torch.equal(encode(x, "threshold"), (x > 0.5).float())
        encode(x, "bernoulli", generator())
    finally:
        torch.use_deterministic_algorithms(False)
    torch.manual_seed(0)
    assert encode(x, "bernoulli").shape == (3,)


def test_unknown_kinds():
    assert set(ENCODINGS) == {"bernoulli", "straight-through", "threshold", "relu"}
    with pytest.raises(BadInput, match="unknown encoder 'bernouli'; did you mean 'bernoulli'"):
        encode(torch.rand(2), "bernouli")


@pytest.mark.parametrize("kind", ["bernoulli", "threshold"])
def test_a_generator_that_is_none(kind):
    with pytest.raises(BadInput, match=r"expected a torch.Generator or None for the noise, got 7"):
        encode(torch.rand(2), kind, 7)  # pyright: ignore[reportArgumentType]
