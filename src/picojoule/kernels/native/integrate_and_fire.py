"""Integrate-and-fire neurons over all time steps in one call: torch operators on the compiled kernels.

What they compute is defined in `kernels/lif/reference.py`, `kernels/cuba_lif/reference.py` and, for neurons that take
events back, `neurons/signed_iaf.py`; events and states in float32 are equal to theirs bit by bit.
"""

from ctypes import CDLL, byref
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from picojoule.kernels.lif.reference import LIFParameters
from picojoule.kernels.native.calls import DTYPES, Neurons, address, slope_of
from picojoule.kernels.native.layout import (
    empty_step,
    empty_steps,
    in_layout,
    laid_out_as,
    nothing,
    step_by_step,
    stepwise,
)
from picojoule.kernels.native.library import library, loaded
from picojoule.kernels.native.operators import define, differentiate, end_of_derivatives
from picojoule.kernels.saved import saved_dtype
from picojoule.pages import pages_are_reused

STREAMED = 16 * 2**20
"""Bytes of results from which they are written past the caches, if pages are reused (our choice)."""


class Unrolled(NamedTuple):
    """Events `[T, B, *N]`, events of each neuron over time `[B, *N]` (empty if not asked for), and the state `[B, *N]`
    at the end (`i` is empty without a synaptic current). Where events are taken back, `sent` is part of that state.
    """

    events: Tensor
    sent: Tensor
    v: Tensor
    i: Tensor


def serves(currents: Tensor, p: LIFParameters, *state: Tensor) -> bool:
    """Whether a compiled kernel does this; else the reference path runs."""
    return (
        currents.is_cpu
        and currents.dtype in DTYPES
        and p.max_events == 1
        and slope_of(p.surrogate) is not None
        and not any(isinstance(x, Tensor) and x.dim() for x in (p.decay, p.threshold))
        and {s.dtype for s in state} <= {state_dtype(currents.dtype)}
        and library() is not None
    )


def unroll(
    currents: Tensor,
    v: Tensor,
    p: LIFParameters,
    *,
    i: Tensor | None = None,
    synaptic_decay: Tensor | float | None = None,
    count: bool = False,
    sent: Tensor | None = None,
) -> Unrolled:
    """All time steps of currents `[T, B, *N]` from potentials `v` and synaptic currents `i`, which broadcast to a step.

    `count` asks for `sent`; its gradient is that of `events.sum(0)` and costs no pass over the events. With `sent`, the
    net events so far, neurons take events back as `SignedIAF` does; the reset is soft, and there is no `i`.
    """
    slope = slope_of(p.surrogate)
    assert slope is not None, "ask `serves` first"
    parameters = (p.decay, p.threshold, 0.0 if synaptic_decay is None else synaptic_decay)
    tensors = [x if isinstance(x, Tensor) else None for x in parameters]
    numbers = [0.0 if isinstance(x, Tensor) else x for x in parameters]
    learned = _trained(*tensors)
    saved = saved_dtype(currents.dtype, learned) if learned or _trained(currents, v, i) else None
    out = torch.ops.picojoule.integrate_and_fire.default(
        currents, v, i, *tensors, numbers, p.v_reset, *slope, learned, count, saved, sent
    )
    return Unrolled(*out[:4])


def _trained(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def state_dtype(currents: torch.dtype) -> torch.dtype:
    """The dtype in which the state of neurons with such currents is kept: float32 at least."""
    return torch.promote_types(currents, torch.float32)


def _forward(
    currents: Tensor,
    v: Tensor,
    i: Tensor | None,
    decay: Tensor | None,
    threshold: Tensor | None,
    synaptic_decay: Tensor | None,
    numbers: list[float],
    v_reset: float | None,
    surrogate: int,
    a: float,
    b: float,
    learned: bool,
    count: bool,
    saved: torch.dtype | None,
    sent_before: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(events, sent, v, i, u), with u of all steps in the dtype `saved`, empty if that is None.

    `u` is `v - threshold` before the reset, or v before the reset if the parameters are `learned`. `numbers` are decay,
    threshold and synaptic decay where they are no tensors.
    """
    x = stepwise(currents)
    events, sent, v_end, i_end, u = _results(x, i, count or sent_before is not None, saved)
    v = in_layout(v, x, v_end.dtype)
    i_start, sent_start = (None if s is None else in_layout(s, x, v_end.dtype) for s in (i, sent_before))
    call = Neurons(
        *_what(x, u, (decay, threshold, synaptic_decay), numbers, v_reset, learned, i is not None),
        streaming=_streams(events, u),
        x=x.data_ptr(),
        x_stride=x.stride(0),
        events=events.data_ptr(),
        u=None if saved is None else u.data_ptr(),
        v_start=v.data_ptr(),
        v_end=v_end.data_ptr(),
        i_start=address(i_start),
        i_end=i_end.data_ptr(),
        sent=sent.data_ptr() if count or sent_start is not None else None,
        sent_before=address(sent_start),
    )
    _library().picojoule_neurons_forward(byref(call))
    return events, sent, v_end, i_end, u


def _results(x: Tensor, i: Tensor | None, count: bool, saved: torch.dtype | None) -> tuple[Tensor, ...]:
    state = state_dtype(x.dtype)
    return (
        empty_steps(x, x.dtype),
        empty_step(x, state) if count else nothing(x, state),
        empty_step(x, state),
        nothing(x, state) if i is None else empty_step(x, state),
        nothing(x, state) if saved is None else empty_steps(x, saved),
    )


def _fake_forward(currents, v, i, decay, threshold, synaptic_decay, numbers, v_reset, surrogate, a, b, *rest):
    _, count, saved, sent_before = rest
    return _results(stepwise(currents), i, count or sent_before is not None, saved)


def _backward(
    g_events: Tensor | None,
    g_sent: Tensor | None,
    g_v: Tensor | None,
    g_i: Tensor | None,
    u: Tensor,
    v: Tensor | None,
    i: Tensor | None,
    decay: Tensor | None,
    threshold: Tensor | None,
    synaptic_decay: Tensor | None,
    numbers: list[float],
    v_reset: float | None,
    surrogate: int,
    a: float,
    b: float,
    learned: bool,
    synaptic: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of currents (in `dtype`), v, i, and of decay, threshold and synaptic decay together `[3]` float64.

    `v` and `i`, the state at the start, are needed only for `learned` parameters.
    """
    u = step_by_step(u)
    g_x, g_v_start, g_i_start, g_parameters = _gradients(u, synaptic, dtype)
    state = g_v_start.dtype
    g_events = None if g_events is None else laid_out_as(g_events, u)
    g_sent, g_v, g_i, v, i = (None if s is None else in_layout(s, u, state) for s in (g_sent, g_v, g_i, v, i))
    call = Neurons(
        *_what(g_x, u, (decay, threshold, synaptic_decay), numbers, v_reset, learned, synaptic),
        streaming=_streams(g_x),
        surrogate=surrogate,
        surrogate_a=a,
        surrogate_b=b,
        u=u.data_ptr(),
        v_start=address(v),
        i_start=address(i),
        g_events=address(g_events),
        g_events_stride=0 if g_events is None else g_events.stride(0),
        g_sent=address(g_sent),
        g_v_end=address(g_v),
        g_i_end=address(g_i),
        g_x=g_x.data_ptr(),
        g_v_start=g_v_start.data_ptr(),
        g_i_start=g_i_start.data_ptr(),
        g_parameters=g_parameters.data_ptr(),
    )
    _library().picojoule_neurons_backward(byref(call))
    return g_x, g_v_start, g_i_start, g_parameters


def _gradients(u: Tensor, synaptic: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    state = state_dtype(dtype)
    return (
        empty_steps(u, dtype),
        empty_step(u, state),
        empty_step(u, state) if synaptic else nothing(u, state),
        u.new_zeros(3, dtype=torch.float64),
    )


def _fake_backward(g_events, g_sent, g_v, g_i, u, *rest):
    *_, synaptic, dtype = rest
    return _gradients(step_by_step(u), synaptic, dtype)


def _what(
    like: Tensor,
    u: Tensor,
    tensors: tuple[Tensor | None, ...],
    numbers: list[float],
    v_reset: float | None,
    learned: bool,
    synaptic: bool,
) -> tuple[float, ...]:
    """The first fields of a call, in their order."""
    decay, threshold, synaptic_decay = (
        number if tensor is None else tensor.item() for tensor, number in zip(tensors, numbers, strict=True)
    )
    soft = v_reset is None
    return (
        *(len(like), prod(like.shape[1:])),
        *(decay, threshold, 0.0 if soft else v_reset, synaptic_decay),
        *(DTYPES[like.dtype], DTYPES[u.dtype], not soft, synaptic, learned),
    )


def _library() -> CDLL:
    kernels = library() or loaded()
    assert kernels is not None, "an operator was called that `serves` refuses"
    return kernels


def _streams(*results: Tensor) -> bool:
    return pages_are_reused() and sum(r.numel() * r.element_size() for r in results) >= STREAMED


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    currents, v, i, *parameters = inputs
    tensors, constants, learned = parameters[:3], parameters[3:9], parameters[8]
    assert learned or not any(ctx.needs_input_grad[3:6]), "gradients of parameters need `learned`"
    state = (v, i) if learned else (None, None)
    ctx.save_for_backward(output[4], *state, *tensors)
    ctx.shapes = (v.shape, None if i is None else i.shape)
    ctx.constants = (*constants, i is not None, currents.dtype)
    count, _, sent_before = inputs[-3:]
    sums = count and sent_before is None  # as a state, what was sent has no gradient
    ctx.mark_non_differentiable(*(x for x, there in ((output[1], sums), (output[3], i is not None)) if not there))
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g_events: Any, g_sent: Any, g_v: Any, g_i: Any, g_u: Any) -> tuple[Any, ...]:
    wanted = ctx.needs_input_grad
    grads = torch.ops.picojoule.integrate_and_fire_backward.default(
        g_events, g_sent, g_v, g_i, *ctx.saved_tensors, *ctx.constants
    )
    of_start = [
        grad.sum_to_size(shape) if want and shape is not None else None
        for grad, shape, want in zip(grads[1:3], ctx.shapes, wanted[1:3], strict=True)
    ]
    of_parameters = [grads[3][k] if want else None for k, want in enumerate(wanted[3:6])]
    return (grads[0] if wanted[0] else None, *of_start, *of_parameters, *(None,) * 9)


_PARAMETERS = (
    "Tensor? decay, Tensor? threshold, Tensor? synaptic_decay, float[] numbers, float? v_reset, int surrogate, "
    "float a, float b, bool learned"
)
define(
    f"integrate_and_fire(Tensor currents, Tensor v, Tensor? i, {_PARAMETERS}, bool count, ScalarType? saved, "
    "Tensor? sent_before) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _fake_forward,
)
define(
    "integrate_and_fire_backward(Tensor? g_events, Tensor? g_sent, Tensor? g_v, Tensor? g_i, Tensor u, Tensor? v, "
    f"Tensor? i, {_PARAMETERS}, bool synaptic, ScalarType dtype) -> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
)
differentiate("integrate_and_fire", _setup_context, _differentiate)
end_of_derivatives("integrate_and_fire_backward")
