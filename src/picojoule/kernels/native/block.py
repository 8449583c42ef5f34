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
from picojoule.kernels.native.library import loaded
from picojoule.kernels.native.operators import define, differentiate, end_of_derivatives


class Norm(NamedTuple):
    """A batch norm: `(y - mean) * deviation * weight + bias`, each `[C]`, with `deviation = 1 / sqrt(variance + eps)`.

    `of_batch` tells that mean and deviation are those of y itself, so that gradients flow through them.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    deviation: Tensor
    of_batch: bool


class _Neurons(NamedTuple):
    """The part of the operators' arguments that says what the neurons and the pool do, in their order."""

    decay: float
    threshold: float
    v_reset: float | None
    surrogate: int
    surrogate_a: float
    surrogate_b: float
    pool: int
    average: bool


class Pool(NamedTuple):
    """Pooling over `size` x `size` windows side by side: their maximum, or their average."""

    size: int = 1
    average: bool = False


class Pooled(NamedTuple):
    """Pooled events `[T, B, H / size, W / size, C]`; events of each neuron over time and potentials at the end, both
    `[B, H, W, C]`, and both empty if not asked for.
    """

    events: Tensor
    sent: Tensor
    v: Tensor


def serves(y: Tensor, p: LIFParameters) -> bool:
    """Whether the compiled kernel does this; else the parts run one after the other."""
    return integrate_and_fire.serves(y, p) and not isinstance(p.decay, Tensor) and not isinstance(p.threshold, Tensor)


def norm_fire_pool(
    y: Tensor,
    steps: int,
    norm: Norm | None,
    v: Tensor,
    p: LIFParameters,
    pool: Pool,
    *,
    count: bool = False,
    keep: bool = True,
) -> Pooled:
    """From y `[T, B, H, W, C]`, or `[1, B, H, W, C]` for all `steps` alike, to pooled events.

    H and W are multiples of the pool's size. `v`, the potentials at the start, is a number or `[B, H, W, C]`. `count`
    asks for `sent`, which is differentiable like a sum of events, `keep` for the potentials at the end.
    """
    slope = slope_of(p.surrogate)
    assert slope is not None, "ask `serves` first"
    parts = norm or (None, None, None, None, False)
    settings = (p.decay, p.threshold, p.v_reset, *slope, *pool)
    return Pooled(*torch.ops.picojoule.norm_fire_pool.default(y.contiguous(), steps, *parts, v, *settings, count, keep))


def _results(y: Tensor, steps: int, pool: int, count: bool, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    _, samples, height, width, channels = y.shape
    pooled = y.new_empty(steps, samples, height // pool, width // pool, channels)
    return pooled, _step(y, count), _step(y, keep)


def _step(y: Tensor, wanted: bool) -> Tensor:
    """A state of the neurons `[B, H, W, C]`, or nothing."""
    return torch.empty(y.shape[1:] if wanted else 0, dtype=state_dtype(y.dtype), device=y.device)


def _forward(y, steps, weight, bias, mean, deviation, of_batch, v, *settings_and_wishes):
    *settings, count, keep = settings_and_wishes
    neurons = _Neurons(*settings)
    pooled, sent, v_end = results = _results(y, steps, neurons.pool, count, keep)
    scale, shift = _affine(weight, bias, mean, deviation, v_end.dtype)
    _run(
        "forward",
        y,
        steps,
        neurons,
        scale=scale,
        shift=shift,
        v_start=_start(v, y),
        v_end=v_end if keep else None,
        pooled=pooled,
        sent=sent if count else None,
    )
    return results


def _fake_forward(y, steps, weight, bias, mean, deviation, of_batch, v, *settings_and_wishes):
    *settings, count, keep = settings_and_wishes
    return _results(y, steps, _Neurons(*settings).pool, count, keep)


def _backward(g_pooled, g_sent, g_v, y, steps, weight, bias, mean, deviation, of_batch, v, *settings_and_wish):
    """Gradients of y, weight, bias and v; the last, if wanted."""
    *settings, of_start = settings_and_wish
    g_y, g_weight, g_bias, g_v_start = results = _gradients(y, weight, of_start)
    state = g_v_start.dtype
    scale, shift = _affine(weight, bias, mean, deviation, state)
    sums = torch.zeros(2, y.shape[-1], dtype=torch.float64)
    _run(
        "backward",
        y,
        steps,
        _Neurons(*settings),
        batch_statistics=of_batch,
        scale=scale,
        shift=shift,
        mean=_dense(mean, state),
        deviation=_dense(deviation, state),
        v_start=_start(v, y),
        g_pooled=_dense(g_pooled, y.dtype),
        g_sent=_dense(g_sent, state),
        g_v_end=_dense(g_v, state),
        g_y=g_y,
        g_v_start=g_v_start if of_start else None,
        g_shift=sums[0],
        g_scale=sums[1],
    )
    if weight is not None:
        g_bias.copy_(sums[0])
        g_weight.copy_(sums[1])
    return results


def _gradients(y: Tensor, weight: Tensor | None, of_start: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    affine = [y.new_empty(0) if weight is None else torch.empty_like(weight) for _ in ("weight", "bias")]
    return torch.empty_like(y), affine[0], affine[1], _step(y, of_start)


def _fake_backward(g_pooled, g_sent, g_v, y, steps, weight, *rest):
    return _gradients(y, weight, rest[-1])


def _affine(weight: Any, bias: Any, mean: Any, deviation: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    if weight is None:
        return None, None
    scale = (deviation.to(dtype) * weight.to(dtype)).contiguous()
    return scale, (bias.to(dtype) - mean.to(dtype) * scale).contiguous()


def _dense(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if x is None else x.to(dtype).contiguous()


def _start(v: Tensor, y: Tensor) -> Tensor | None:
    if v.dim() == 0 and float(v) == 0:
        return None
    return v.to(state_dtype(y.dtype)).expand(y.shape[1:]).contiguous()


def _run(direction: str, y: Tensor, steps: int, neurons: _Neurons, **values: Any) -> None:
    kernels = loaded()
    y_steps, samples, height, width, channels = y.shape
    if neurons.pool == 1:  # pixels and samples are alike then
        samples, height, width = 1, 1, samples * height * width
    settings = neurons._asdict() | {"hard": neurons.v_reset is not None, "v_reset": neurons.v_reset or 0.0}
    sizes = {"samples": samples, "height": height, "width": width, "channels": channels}
    run(
        getattr(kernels, f"picojoule_block_{direction}"),
        Block(steps=steps, y_steps=y_steps, dtype=DTYPES[y.dtype], **sizes, **settings),
        y=y,
        **values,
    )


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    y, steps, weight, bias, mean, deviation, of_batch, v, *settings, count, keep = inputs
    ctx.save_for_backward(y, weight, bias, mean, deviation, v)
    ctx.steps, ctx.of_batch, ctx.settings = steps, of_batch, settings
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*([] if count else [output[1]]), *([] if keep else [output[2]]))


def _differentiate(ctx: Any, g_pooled: Any, g_sent: Any, g_v: Any) -> tuple[Any, ...]:
    y, weight, bias, mean, deviation, v = ctx.saved_tensors
    of_start = ctx.needs_input_grad[7]
    of_y, of_weight, of_bias, of_v = torch.ops.picojoule.norm_fire_pool_backward.default(
        *(g_pooled, g_sent, g_v, y, ctx.steps, weight, bias, mean, deviation, ctx.of_batch, v), *ctx.settings, of_start
    )
    affine = (None, None) if weight is None else (of_weight, of_bias)
    of_v = of_v.sum_to_size(v.shape).to(v.dtype) if of_start else None
    return (of_y, None, *affine, None, None, None, of_v, *(None,) * (len(ctx.settings) + 2))


_SETTINGS = "float decay, float threshold, float? v_reset, int surrogate, float a, float b, int pool, bool average"
_INPUTS = "Tensor y, int steps, Tensor? weight, Tensor? bias, Tensor? mean, Tensor? deviation, bool of_batch, Tensor v"
define(
    f"norm_fire_pool({_INPUTS}, {_SETTINGS}, bool count, bool keep) -> (Tensor, Tensor, Tensor)",
    _forward,
    _fake_forward,
)
define(
    f"norm_fire_pool_backward(Tensor? g_pooled, Tensor? g_sent, Tensor? g_v, {_INPUTS}, {_SETTINGS}, bool of_start) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("norm_fire_pool", _setup_context, _differentiate)
end_of_derivatives("norm_fire_pool_backward")
