import pytest
import torch

from picojoule.kernels.lmu.matrices import discretised
from picojoule.kernels.lmu.memory import by_fft, by_loop, by_scan, form_for, impulse_response, last_state, powers_of


def _memory(order=6, theta=20.0, dtype=torch.float64):
    return [x.to(dtype) for x in discretised(order, theta)]


def _case(steps=37, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(steps, 3, 2, generator=generator, dtype=dtype) - 0.5
    return u, torch.rand(3, 2, 6, generator=generator, dtype=dtype)


@pytest.mark.parametrize("chunk", [1, 5, 16, 37])
def test_the_scan_is_the_loop(chunk):
    (ad, bd), (u, m) = _memory(), _case()
    found = by_scan(u, m, powers_of(ad, chunk), bd)
    torch.testing.assert_close(found, by_loop(u, m, ad, bd), rtol=0, atol=1e-12)


def test_fft_and_impulse_response_are_the_loop():
    (ad, bd), (u, m) = _memory(), _case()
    from_rest = by_loop(u, torch.zeros_like(m), ad, bd)
    torch.testing.assert_close(by_fft(u, ad, bd), from_rest, rtol=0, atol=1e-12)
    last = last_state(u, m, impulse_response(ad, bd, 37), torch.linalg.matrix_power(ad, 37))
    torch.testing.assert_close(last, by_loop(u, m, ad, bd)[-1], rtol=0, atol=1e-12)


def test_all_forms_agree_at_the_size_of_the_benchmark():
    """Order 256 over 784 steps in float32, within 1e-5 of the loop in float64."""
    u = torch.rand(784, 2, 1, generator=torch.Generator().manual_seed(0))
    exact = by_loop(u.double(), torch.zeros(2, 1, 256).double(), *_memory(256, 784.0))
    ad, bd = _memory(256, 784.0, torch.float32)
    m = torch.zeros(2, 1, 256)
    forms = {
        "loop": by_loop(u, m, ad, bd),
        "scan": by_scan(u, m, powers_of(ad, 16), bd),
        "fft": by_fft(u, ad, bd),
    }
    forms["last"] = last_state(u, m, impulse_response(ad, bd, 784), torch.linalg.matrix_power(ad, 784)).unsqueeze(0)
    for name, found in forms.items():
        torch.testing.assert_close(found, exact[-len(found) :].float(), rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", ["loop", "scan", "fft"])
def test_gradients_are_those_of_the_loop(name):
    (ad, bd), (u, m) = _memory(), _case(20)
    m = torch.zeros_like(m)
    g = torch.rand(20, 3, 2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u.requires_grad_()
    forms = {"loop": lambda: by_loop(u, m, ad, bd), "scan": lambda: by_scan(u, m, powers_of(ad, 8), bd)}
    found = forms.get(name, lambda: by_fft(u, ad, bd))()
    (grad,) = torch.autograd.grad((found * g).sum(), u)
    (expected,) = torch.autograd.grad((by_loop(u, m, ad, bd) * g).sum(), u)
    torch.testing.assert_close(grad, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "steps, batch, from_rest, form",
    [
        (1, 1, True, "loop"),
        (784, 1, False, "scan"),
        (784, 8, True, "fft"),
        (784, 8, False, "loop"),
        (784, 17, True, "loop"),
    ],
)
def test_the_form_that_is_chosen(steps, batch, from_rest, form):
    assert form_for(steps, batch, from_rest) == form
