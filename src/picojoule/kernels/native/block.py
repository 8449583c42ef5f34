"""Batch norm, leaky integrate-and-fire and pooling over all time steps in one call: torch operators on the kernels.

What they compute is batch norm with given statistics, `kernels/lif/reference.py`, then pooling. Between the parts
nothing is written: training keeps what entered the norm and computes the potentials again in the backward pass.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from picojoule.kernels.lif.reference import LIFParameters
from picojoule.kernels.native import integrate_and_fire
from picojoule.kernels.native.calls import DTYPES, Block, run, slope_of
from picojoule.kernels.native.integrate_and_fire import state_dtype
from picojoule.kernels.native.layout import nothing
from picojoule.kernels.native.library import library
from picojoule.kernels.native.operators import define, differentiate


class Norm(NamedTuple):
    """A batch norm: `(y - mean) * deviation * weight + bias`, each `[C]`, with `deviation = 1 / sqrt(variance + eps)`.

    `of_batch` tells that mean and deviation are those of y itself, so that gradients flow through them.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    deviation: Tensor
    of_batch: bool


class Pool(NamedTuple):
    """Pooling over `size` x `size` windows side by side: their maximum, or their average."""

    size: int = 1
    average: bool = False


class Pooled(NamedTuple):
    """Pooled events `[T, B, H / size, W / size, C]`; events of each neuron over time and potentials at the end, both
    `[B, H, W, C]` (the former empty if not asked for).
    """

    events: Tensor
    sent: Tensor
    v: Tensor


def serves(y: Tensor, p: LIFParameters) -> bool:
    """Whether the compiled kernel does this; else the parts run one after the other."""
    return integrate_and_fire.serves(y, p) and not isinstance(p.decay, Tensor) and not isinstance(p.threshold, Tensor)


def norm_fire_pool(
    y: Tensor, steps: int, norm: Norm | None, v: Tensor, p: LIFParameters, pool: Pool, count: bool = False
) -> Pooled:
    """From y `[T, B, H, W, C]`, or `[1, B, H, W, C]` for all `steps` alike, to pooled events.

    H and W are multiples of the pool's size. `v`, the potentials at the start, is a number or `[B, H, W, C]`. `count`
    asks for `sent`, which is differentiable like a sum of events.
    """
    slope = slope_of(p.surrogate)
    assert slope is not None, "ask `serves` first"
    weight, bias, mean, deviation, of_batch = norm or (None, None, None, None, False)
    out = torch.ops.picojoule.norm_fire_pool(
        y.contiguous(),
        steps,
        weight,
        bias,
        mean,
        deviation,
        of_batch,
        v,
        p.decay,
        p.threshold,
        p.v_reset,
        *slope,
        *pool,
        count,
    )
    return Pooled(*out)


def _results(y: Tensor, steps: int, pool: int, count: bool) -> tuple[Tensor, Tensor, Tensor]:
    _, samples, height, width, channels = y.shape
    state = state_dtype(y.dtype)
    v = torch.empty(samples, height, width, channels, dtype=state, device=y.device)
    pooled = y.new_empty(steps, samples, height // pool, width // pool, channels)
    return pooled, torch.empty_like(v) if count else nothing(y, state), v


def _forward(
    y,
    steps,
    weight,
    bias,
    mean,
    deviation,
    of_batch,
    v,
    decay,
    threshold,
    v_reset,
    surrogate,
    a,
    b,
    pool,
    average,
    count,
):
    pooled, sent, v_end = _results(y, steps, pool, count)
    scale, shift = _affine(weight, bias, mean, deviation, v_end.dtype)
    start = _start(v, v_end)
    _run(
        "forward",
        y,
        steps,
        (decay, threshold, v_reset),
        (pool, average),
        scale=scale,
        shift=shift,
        v_start=start,
        v_end=v_end,
        pooled=pooled,
        sent=sent if count else None,
    )
    return pooled, sent, v_end


def _fake_forward(
    y,
    steps,
    weight,
    bias,
    mean,
    deviation,
    of_batch,
    v,
    decay,
    threshold,
    v_reset,
    surrogate,
    a,
    b,
    pool,
    average,
    count,
):
    return _results(y, steps, pool, count)


def _backward(
    g_pooled,
    g_sent,
    g_v,
    y,
    steps,
    weight,
    bias,
    mean,
    deviation,
    of_batch,
    v,
    decay,
    threshold,
    v_reset,
    surrogate,
    a,
    b,
    pool,
    average,
):
    """Gradients of y, weight, bias and v."""
    g_y, g_weight, g_bias, g_v_start = _gradients(y, weight)
    state = g_v_start.dtype
    scale, shift = _affine(weight, bias, mean, deviation, state)
    start = _start(v, g_v_start)
    dense = [
        None if g is None else g.to(dtype).contiguous()
        for g, dtype in zip((g_pooled, g_sent, g_v), (y.dtype, state, state), strict=True)
    ]
    statistics = [None if s is None else s.to(state).contiguous() for s in (mean, deviation)]
    sums = torch.zeros(2, y.shape[-1], dtype=torch.float64)
    _run(
        "backward",
        y,
        steps,
        (decay, threshold, v_reset),
        (pool, average),
        surrogate=surrogate,
        surrogate_a=a,
        surrogate_b=b,
        batch_statistics=of_batch,
        scale=scale,
        shift=shift,
        v_start=start,
        g_pooled=dense[0],
        g_sent=dense[1],
        g_v_end=dense[2],
        mean=statistics[0],
        deviation=statistics[1],
        g_y=g_y,
        g_v_start=g_v_start,
        g_shift=sums[0],
        g_scale=sums[1],
    )
    if weight is not None:
        g_bias.copy_(sums[0])
        g_weight.copy_(sums[1])
    return g_y, g_weight, g_bias, g_v_start


def _gradients(y: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    state = state_dtype(y.dtype)
    affine = (
        (torch.empty_like(weight), torch.empty_like(weight)) if weight is not None else (y.new_empty(0), y.new_empty(0))
    )
    return torch.empty_like(y), *affine, torch.empty(y.shape[1:], dtype=state, device=y.device)


def _fake_backward(
    g_pooled,
    g_sent,
    g_v,
    y,
    steps,
    weight,
    bias,
    mean,
    deviation,
    of_batch,
    v,
    decay,
    threshold,
    v_reset,
    surrogate,
    a,
    b,
    pool,
    average,
):
    return _gradients(y, weight)


def _affine(weight: Any, bias: Any, mean: Any, deviation: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    if weight is None:
        return None, None
    scale = (deviation.to(dtype) * weight.to(dtype)).contiguous()
    return scale, (bias.to(dtype) - mean.to(dtype) * scale).contiguous()


def _start(v: Tensor, like: Tensor) -> Tensor | None:
    if v.dim() == 0 and float(v) == 0:
        return None
    return v.to(like.dtype).expand_as(like).contiguous()


def _run(
    direction: str,
    y: Tensor,
    steps: int,
    parameters: tuple[float, float, float | None],
    pool: tuple[int, bool],
    **values: Any,
) -> None:
    kernels = library()
    assert kernels is not None, "the compiled kernels were switched off in the middle of a call"
    decay, threshold, v_reset = parameters
    y_steps, samples, height, width, channels = y.shape
    if pool[0] == 1:  # pixels and samples are alike then
        samples, height, width = 1, 1, samples * height * width
    run(
        getattr(kernels, f"picojoule_block_{direction}"),
        Block(),
        steps=steps,
        y_steps=y_steps,
        samples=samples,
        height=height,
        width=width,
        channels=channels,
        pool=pool[0],
        average=pool[1],
        decay=decay,
        threshold=threshold,
        dtype=DTYPES[y.dtype],
        hard=v_reset is not None,
        v_reset=v_reset or 0.0,
        y=y,
        **values,
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, steps, weight, bias, mean, deviation, of_batch, v, *rest = inputs
    ctx.save_for_backward(y, weight, bias, mean, deviation, v)
    ctx.steps, ctx.of_batch, ctx.rest = steps, of_batch, rest[:-1]
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g_pooled: Any, g_sent: Any, g_v: Any) -> tuple[Any, ...]:
    y, weight, bias, mean, deviation, v = ctx.saved_tensors
    of_y, of_weight, of_bias, of_v = torch.ops.picojoule.norm_fire_pool_backward(
        g_pooled, g_sent, g_v, y, ctx.steps, weight, bias, mean, deviation, ctx.of_batch, v, *ctx.rest
    )
    normed = weight is not None
    return (
        of_y,
        None,
        of_weight if normed else None,
        of_bias if normed else None,
        *(None,) * 3,
        of_v.sum_to_size(v.shape).to(v.dtype) if ctx.needs_input_grad[7] else None,
        *(None,) * 9,
    )


_SETTINGS = "float decay, float threshold, float? v_reset, int surrogate, float a, float b, int pool, bool average"
_INPUTS = "Tensor y, int steps, Tensor? weight, Tensor? bias, Tensor? mean, Tensor? deviation, bool of_batch, Tensor v"
define(f"norm_fire_pool({_INPUTS}, {_SETTINGS}, bool count) -> (Tensor, Tensor, Tensor)", _forward, _fake_forward)
define(
    f"norm_fire_pool_backward(Tensor? g_pooled, Tensor? g_sent, Tensor? g_v, {_INPUTS}, {_SETTINGS}) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("norm_fire_pool", _setup_context, _differentiate)
