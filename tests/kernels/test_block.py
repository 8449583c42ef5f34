"""Batch norm, neurons and pooling in one kernel, against the same parts one after the other."""

import pytest
import torch
from torch import nn

from picojoule.kernels.native import block
from picojoule.kernels.native.library import available, using
from picojoule.kernels.surrogate import surrogate
from picojoule.neurons import IAF, LIF

VARIANTS = [name for name in available() if name != "reference"]
needs_kernels = pytest.mark.skipif(not VARIANTS, reason="the compiled kernels are not built")
NEURONS = {
    "hard": lambda: LIF(0.9),
    "hard-to-value": lambda: LIF(0.8, 0.7, v_reset=-0.4),
    "soft": lambda: LIF(0.7, v_reset=None, surrogate=surrogate("arctan", alpha=3.0)),
    "iaf": lambda: IAF(0.6, surrogate=surrogate("s3nn")),
}
# samples, height, width, channels, pool, average
SHAPES = [
    (3, 8, 12, 32, 2, False),
    (2, 6, 6, 5, 3, True),
    (2, 6, 9, 17, 3, False),
    (2, 7, 5, 16, 1, False),
    (4, 1, 1, 33, 1, False),
    (1, 2, 40, 64, 2, True),
    (1, 28, 28, 1, 2, False),
]


class Parts(nn.Module):
    """Norm, neurons and pooling, by torch's layers and the reference path; maps are channels-last."""

    def __init__(self, neuron: LIF, norm: block.Norm | None, pool: block.Pool, steps: int):
        super().__init__()
        self.neuron, self.norm, self.pool, self.steps = neuron, norm, pool, steps

    def forward(self, y: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if self.norm is not None:
            weight, bias, mean, deviation, of_batch = self.norm
            if of_batch:
                variance, mean = torch.var_mean(y, (0, 1, 2, 3), correction=0)
                deviation = 1 / torch.sqrt(variance + 1e-5)
            y = (y - mean) * deviation * weight + bias
        y = y.expand(self.steps, *y.shape[1:])
        step, events, v = self.neuron.step_function(), [], v.expand(y.shape[1:])
        state = type(self.neuron.initial_state(y))(v)
        for current in y.unbind(0):
            state, fired = step(state, current)
            events.append(fired)
        sent = torch.stack(events)
        maps = sent.flatten(0, 1).permute(0, 3, 1, 2)
        kind = nn.functional.avg_pool2d if self.pool.average else nn.functional.max_pool2d
        pooled = kind(maps, self.pool.size).permute(0, 2, 3, 1).unflatten(0, sent.shape[:2])
        return pooled, sent.sum(0), state.v


def _norm(y: torch.Tensor, of_batch: bool) -> block.Norm:
    generator = torch.Generator().manual_seed(5)
    channels = y.shape[-1]

    def numbers() -> torch.Tensor:
        return torch.rand(channels, generator=generator, dtype=torch.float64).to(y.dtype)

    weight, bias = (numbers() + 0.5).requires_grad_(), (numbers() - 0.3).requires_grad_()
    if not of_batch:
        return block.Norm(weight, bias, numbers() - 0.5, numbers() + 0.5, False)
    variance, mean = torch.var_mean(y.detach(), (0, 1, 2, 3), correction=0)
    return block.Norm(weight, bias, mean, 1 / torch.sqrt(variance + 1e-5), True)


def _maps(shape: tuple, steps: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    samples, height, width, channels, *_ = shape
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(steps, samples, height, width, channels, generator=generator, dtype=torch.float64)
    return y.to(dtype).requires_grad_()


def _differentiated(results, leaves) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r.dtype) for r in results]
    loss = torch.stack([(r * w).sum() for r, w in zip(results, weights, strict=True)]).sum()
    return list(torch.autograd.grad(loss, leaves))


def _close(ours, theirs, tolerance: float = 1e-11) -> None:
    for a, b in zip(ours, theirs, strict=True):
        largest = max(1.0, float(b.detach().abs().max()))
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * largest)


@needs_kernels
@pytest.mark.parametrize("of_batch", [None, False, True])
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("steps,y_steps", [(1, 1), (5, 5), (5, 1)])
def test_equals_the_parts_one_after_the_other(shape, neuron, of_batch, steps, y_steps):
    y, pool = _maps(shape, y_steps), block.Pool(*shape[4:])
    norm = None if of_batch is None else _norm(y, of_batch)
    v = (torch.rand(y.shape[1:], dtype=torch.float64) * 0.5).requires_grad_()
    parts = NEURONS[neuron]()
    leaves = [y, v] + ([] if norm is None else [norm.weight, norm.bias])
    expected = Parts(parts, norm, pool, steps)(y, v)
    ours = block.norm_fire_pool(y, steps, norm, v, parts.step_parameters(), pool, count=True)
    assert 0 < expected[1].sum() < expected[1].numel() * steps
    _close(ours, expected)
    _close(_differentiated(ours, leaves), _differentiated(expected, leaves))


@needs_kernels
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_in_float32_and_bfloat16(variant):
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.05)):
        for shape in SHAPES[:4]:
            y, pool, neuron = _maps(shape, 4, dtype), block.Pool(*shape[4:]), LIF(0.9)
            with using(variant):
                ours = block.norm_fire_pool(y, 4, None, torch.zeros(()), neuron.step_parameters(), pool, count=True)
                (g,) = _differentiated(ours, [y])
            wide = y.detach().float().requires_grad_()
            expected = Parts(neuron, None, pool, 4)(wide, torch.zeros(()))
            (g_wide,) = _differentiated(expected, [wide])
            assert ours.events.dtype == dtype and ours.v.dtype == ours.sent.dtype == torch.float32
            torch.testing.assert_close(ours.events, expected[0].to(dtype), rtol=0, atol=0)
            torch.testing.assert_close(ours.sent, expected[1], rtol=0, atol=0)
            torch.testing.assert_close(g.float(), g_wide, rtol=tolerance, atol=tolerance * float(g_wide.abs().max()))


@needs_kernels
def test_from_rest_and_without_counts():
    y, neuron = _maps(SHAPES[0], 3), LIF(0.9)
    rest = block.norm_fire_pool(y, 3, None, torch.zeros(()), neuron.step_parameters(), block.Pool(2))
    short = block.norm_fire_pool(y, 3, None, torch.zeros(()), neuron.step_parameters(), block.Pool(2), keep=False)
    assert short.v.numel() == 0 and torch.equal(short.events, rest.events)
    filled = block.norm_fire_pool(y, 3, None, torch.zeros(y.shape[1:]), neuron.step_parameters(), block.Pool(2))
    assert rest.sent.numel() == 0
    assert torch.equal(rest.events, filled.events) and torch.equal(rest.v, filled.v)


@needs_kernels
def test_whole_equals_in_pieces():
    y, p = _maps(SHAPES[0], 6), LIF(0.9).step_parameters()
    whole = block.norm_fire_pool(y, 6, None, torch.tensor(0.2), p, block.Pool(2), count=True)
    first = block.norm_fire_pool(y[:2], 2, None, torch.tensor(0.2), p, block.Pool(2), count=True)
    second = block.norm_fire_pool(y[2:], 4, None, first.v, p, block.Pool(2), count=True)
    assert torch.equal(whole.events, torch.cat([first.events, second.events]))
    assert torch.equal(whole.v, second.v) and torch.equal(whole.sent, first.sent + second.sent)


@needs_kernels
def test_every_element_is_written(monkeypatch):
    empty_like, empty = torch.empty_like, torch.empty
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: empty_like(*a, **k).fill_(torch.nan))
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(torch.nan))
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda x, *size: torch.full(size, torch.nan, dtype=x.dtype), raising=True
    )
    for shape in SHAPES:
        y = _maps(shape, 3)
        norm = _norm(y, True)
        out = block.norm_fire_pool(
            y, 3, norm, torch.zeros(()), LIF(0.9).step_parameters(), block.Pool(*shape[4:]), count=True
        )
        for tensor in (*out, *_differentiated(out, [y, norm.weight, norm.bias])):
            assert not tensor.isnan().any()


@needs_kernels
def test_the_number_of_threads_changes_nothing():
    y = _maps((8, 28, 28, 32), 4, torch.float32)
    norm, p = _norm(y, True), LIF(0.9).step_parameters()
    leaves = [y, norm.weight, norm.bias]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            out = block.norm_fire_pool(y, 4, norm, torch.zeros(()), p, block.Pool(2), count=True)
            results.append([*out, *_differentiated(out, leaves)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_kernels
def test_currents_that_are_no_numbers_stay_where_they_are():
    y = _maps(SHAPES[0], 3).detach()
    y[1, 0, 2, 3, 4], y[0, 1, 0, 0, 7] = torch.nan, torch.inf
    out = block.norm_fire_pool(y, 3, None, torch.zeros(()), LIF(0.9).step_parameters(), block.Pool(2), count=True)
    expected = Parts(LIF(0.9), None, block.Pool(2), 3)(y, torch.zeros((), dtype=torch.float64))
    assert torch.equal(out.sent, expected[1]) and torch.equal(out.events, expected[0])
    torch.testing.assert_close(out.v, expected[2], equal_nan=True)
    assert out.v.isnan().sum() == 1


@needs_kernels
@pytest.mark.parametrize("normed", [False, True])
def test_operator_keeps_the_rules_of_torch(normed):
    y = _maps((2, 4, 4, 3), 2)
    norm = _norm(y, True) if normed else (None, None, None, None, False)
    arguments = (y, 2, *norm, torch.zeros(2, 4, 4, 3, dtype=torch.float64, requires_grad=True))
    settings = (0.9, 1.0, 0.0, 2, 2.0, 0.0, 2, False)
    torch.library.opcheck(torch.ops.picojoule.norm_fire_pool.default, (*arguments, *settings, True, True))
