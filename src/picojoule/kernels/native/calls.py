"""The structs of `calls.h`, and what fills them."""

from collections.abc import Callable
from ctypes import Structure, byref, c_double, c_int32, c_int64, c_void_p
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from picojoule.kernels.spike import Surrogate
from picojoule.kernels.surrogate import arctan, fast_sigmoid, rectangle, s3nn, sigmoid, triangle

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
_SURROGATES: dict[Any, int] = {triangle: 0, rectangle: 1, arctan: 2, sigmoid: 3, s3nn: 4, fast_sigmoid: 5}


class Slope(NamedTuple):
    """A surrogate the kernels know: its number and its one or two shape parameters."""

    number: int
    a: float
    b: float


def slope_of(surrogate: Surrogate) -> Slope | None:
    """What the kernels call `surrogate`; None for a function of the user's own."""
    function, given = (surrogate.func, surrogate.keywords) if isinstance(surrogate, partial) else (surrogate, {})
    if not isinstance(function, FunctionType) or function not in _SURROGATES:
        return None
    if isinstance(surrogate, partial) and surrogate.args:
        return None
    shape = [float(value) for value in ({**function.__kwdefaults__, **given}).values()]  # pyright: ignore
    if not all(value > 0 for value in shape):
        return None  # the kernels' slopes are never negative
    return Slope(_SURROGATES[function], shape[0], shape[1] if len(shape) > 1 else 0.0)


class Neurons(Structure):
    """One call of the neuron kernels; see `calls.h`."""

    _fields_ = [
        *((name, c_int64) for name in ("steps", "size")),
        *((name, c_double) for name in ("decay", "threshold", "v_reset", "synaptic_decay")),
        *((name, c_int32) for name in ("dtype", "u_dtype", "hard", "synaptic", "learned")),
        *((name, c_int32) for name in ("streaming", "surrogate")),
        *((name, c_double) for name in ("surrogate_a", "surrogate_b")),
        ("x", c_void_p),
        ("x_stride", c_int64),
        *((name, c_void_p) for name in ("events", "u", "v_start", "v_end", "i_start", "i_end", "sent")),
        *((name, c_void_p) for name in ("sent_before", "g_events")),
        ("g_events_stride", c_int64),
        *((name, c_void_p) for name in ("g_sent", "g_v_end", "g_i_end", "g_x", "g_v_start", "g_i_start")),
        ("g_parameters", c_void_p),
    ]


class Block(Structure):
    """One call of the kernels for norm, neurons and pooling; see `calls.h`."""

    _fields_ = [
        *((name, c_int64) for name in ("steps", "y_steps", "samples", "height", "width", "channels", "pool")),
        *((name, c_double) for name in ("decay", "threshold", "v_reset")),
        *((name, c_int32) for name in ("dtype", "hard", "average", "batch_statistics", "surrogate")),
        *((name, c_double) for name in ("surrogate_a", "surrogate_b")),
        *((name, c_void_p) for name in ("y", "scale", "shift", "v_start", "v_end", "pooled", "sent", "g_pooled")),
        *((name, c_void_p) for name in ("g_sent", "g_v_end", "mean", "deviation", "g_y", "g_v_start", "g_shift")),
        ("g_scale", c_void_p),
    ]


def address(x: Tensor | None) -> int | None:
    """Where `x` begins; None, the null pointer, for no tensor."""
    return None if x is None else x.data_ptr()


class Count(Structure):
    """One call of the kernel that counts events; see `calls.h`."""

    _fields_ = [
        *((name, c_int64) for name in ("steps", "samples", "size", "step_stride", "sample_stride")),
        ("quantum", c_double),
        *((name, c_int32) for name in ("dtype", "values", "is_signed")),
        *((name, c_void_p) for name in ("x", "fan_out", "sums")),
    ]


class Population(Structure):
    """One call of the kernel that adds up a population; see `calls.h`."""

    _fields_ = [
        *((name, c_int64) for name in ("samples", "size", "sample_stride")),
        *((name, c_void_p) for name in ("sent", "sums")),
    ]


def run(function: Callable[[Any], None], call: Structure, **values: float | Tensor | None) -> None:
    """Fill `call` with numbers and the addresses of tensors (None: null), and run it."""
    for name, value in values.items():
        setattr(call, name, value.data_ptr() if isinstance(value, Tensor) else value)
    function(byref(call))
