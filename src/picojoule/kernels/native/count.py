"""Count what enters the synapses of a layer in one pass: a torch operator on the compiled kernel."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from picojoule.kernels.native.calls import DTYPES, Count, Population, run
from picojoule.kernels.native.layout import is_dense
from picojoule.kernels.native.library import library, loaded
from picojoule.kernels.native.operators import define, differentiate

LARGEST = 2**18
"""The largest number times fan-out of one element; beyond it partial sums in float32 could be rounded."""


class Entered(NamedTuple):
    """Sums for each step and sample `[T, B]` float64: numbers |n| times fan-out (differentiable), non-zeros times
    fan-out, the numbers |n| (of values: non-zeros), and how many elements are no events.
    """

    weighted: Tensor
    nonzero: Tensor
    entered: Tensor
    broken: Tensor


def serves(x: Tensor, largest: float) -> bool:
    """Whether the compiled kernel counts `x` `[T, B, *N]`; `largest` is the largest number times fan-out."""
    return (
        x.device.type == "cpu"
        and x.dtype in DTYPES
        and largest < LARGEST
        and x.dim() > 2
        and x.numel() > 0
        and is_dense(x.stride()[2:], x.shape[2:])
        and library() is not None
    )


def entered(x: Tensor, fan_out: Tensor, quantum: float | None, signed: bool) -> Entered:
    """Count events x `[T, B, *N]` = n * quantum (n may be negative if `signed`), or values if `quantum` is None.

    `fan_out` broadcasts to a step of one sample, `[*N]`; its numbers are whole.
    """
    return Entered(*torch.ops.picojoule.count_events.default(x, fan_out, quantum, signed).unbind(0))


def _forward(x: Tensor, fan_out: Tensor, quantum: float | None, signed: bool) -> Tensor:
    sums = _sums(x, fan_out, quantum, signed)
    wide = torch.promote_types(x.dtype, torch.float32)
    reach = torch.empty_strided(x.shape[2:], x.stride()[2:], dtype=wide).copy_(fan_out)
    call = Count(
        steps=x.shape[0],
        samples=x.shape[1],
        size=reach.numel(),
        step_stride=x.stride(0),
        sample_stride=x.stride(1),
        quantum=quantum or 1.0,
        dtype=DTYPES[x.dtype],
        values=quantum is None,
        is_signed=signed,
    )
    kernels: Any = loaded()
    run(kernels.picojoule_count_events, call, x=x, fan_out=reach, sums=sums)
    return sums


def _sums(x: Tensor, fan_out: Tensor, quantum: float | None, signed: bool) -> Tensor:
    return x.new_empty((4, *x.shape[:2]), dtype=torch.float64)


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    x, fan_out, ctx.quantum, ctx.signed = inputs
    ctx.save_for_backward(x, fan_out)


def _differentiate(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
    """That of `|n| * fan_out`; of unsigned events the derivative of n, at n = 0 too."""
    x, fan_out = ctx.saved_tensors
    reach = (fan_out / (ctx.quantum or 1.0)).to(torch.promote_types(x.dtype, torch.float32))
    of_sample = g[0].to(reach.dtype).reshape(*x.shape[:2], *(1,) * (x.dim() - 2))
    g_x = torch.empty_like(x)
    if ctx.signed:
        g_x.copy_(of_sample * reach * x.sign())
    elif x.dtype == reach.dtype:
        torch.mul(of_sample.expand_as(x), reach, out=g_x)
    else:
        g_x.copy_(of_sample * reach)
    return g_x, None, None, None


define("count_events(Tensor x, Tensor fan_out, float? quantum, bool signed) -> Tensor", _forward, _sums)
differentiate("count_events", _setup_context, _differentiate)


def adds_up(sent: Tensor, most: float) -> bool:
    """Whether the compiled kernel adds up `sent` `[B, *N]`, at most `most` events of a neuron in one sample."""
    return (
        sent.device.type == "cpu"
        and sent.dtype == torch.float32
        and sent.numel() > 0
        and most * len(sent) < 2**24
        and is_dense(sent.stride()[1:], sent.shape[1:])
        and library() is not None
    )


def population(sent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of whole numbers of events `[B, *N]`: each neuron's events, samples with one, samples with more, all `[*N]`."""
    return torch.ops.picojoule.population.default(sent).unbind(0)  # pyright: ignore[reportReturnType]


def _population(sent: Tensor) -> Tensor:
    sums = _population_sums(sent)
    call = Population(samples=len(sent), size=sums[0].numel(), sample_stride=sent.stride(0))
    kernels: Any = loaded()
    run(kernels.picojoule_population, call, sent=sent, sums=sums)
    return sums


def _population_sums(sent: Tensor) -> Tensor:
    shape, strides = sent.shape[1:], sent.stride()[1:]
    return sent.new_empty_strided((3, *shape), (shape.numel(), *strides), dtype=torch.float64)


define("population(Tensor sent) -> Tensor", _population, _population_sums)
