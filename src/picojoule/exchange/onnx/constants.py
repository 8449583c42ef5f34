"""Arithmetic on constants: shapes that exporters compute node by node, and weights that they transpose."""

import math
from collections.abc import Callable

import numpy as np

from picojoule.exchange.onnx.step import Step

SMALL = 2**20
"""A constant of this many numbers may be made from less; a larger one only from one as large."""


def fold(step: Step) -> np.ndarray:
    """The value of a step all of whose inputs are constants. Raises BadInput for an operator that is not known."""
    function = _FUNCTIONS.get(step.op)
    if function is None:
        raise step.bad("computes with constants in a way that is not supported; simplify the model before exporting")
    values = [v for v in step.inputs if isinstance(v, np.ndarray)]
    largest = max([SMALL, *(v.size for v in values)])
    if step.op in _BROADCAST and math.prod(np.broadcast_shapes(*(v.shape for v in values))) > largest:
        raise step.bad("makes a constant that is larger than what it is made from")
    if step.op == "Concat" and sum(v.size for v in values) > largest + SMALL:
        raise step.bad("makes a constant that is larger than what it is made from")
    with np.errstate(all="ignore"):
        return np.asarray(function(step, *values))


def _constant(step: Step) -> np.ndarray:
    value = step.tensor("value")
    if value is not None:
        return value
    for name, read, dtype in (
        ("value_float", lambda n: step.number(n, 0.0), np.float32),
        ("value_int", lambda n: step.whole(n, 0), np.int64),
        ("value_floats", step.numbers, np.float32),
        ("value_ints", step.wholes, np.int64),
    ):
        if name in step.attributes:
            return np.array(read(name), dtype)
    raise step.bad("holds no tensor of numbers")


def _filled(step: Step, shape: np.ndarray) -> np.ndarray:
    sizes = [int(v) for v in shape.reshape(-1)[:9]]
    if any(size < 0 for size in sizes) or math.prod(sizes) > SMALL or shape.size > 8:
        raise step.bad(f"makes a constant of shape {sizes}, which is too large")
    value = step.tensor("value")
    return np.full(sizes, np.float32(0) if value is None else value.reshape(-1)[0])


def _cast(step: Step, value: np.ndarray) -> np.ndarray:
    to = step.whole("to", 1)
    if to in (1, 10, 11, 16):
        return value.astype(np.float32)
    if to in (6, 7, 9):
        return value.astype({6: np.int32, 7: np.int64, 9: np.bool_}[to])
    raise step.bad(f"makes numbers of type {to}; expected floating point, whole or boolean")


def _gather(step: Step, value: np.ndarray, index: np.ndarray) -> np.ndarray:
    if index.size > value.size:
        raise step.bad("picks more numbers than there are")
    return np.take(value, index.astype(np.int64), axis=step.whole("axis", 0))


def _slice(step: Step, value: np.ndarray, *_: np.ndarray) -> np.ndarray:
    picked = [slice(None)] * value.ndim
    for axis, start, end, pace in slices(step, value.ndim):
        picked[axis] = slice(start, end, pace)
    return value[tuple(picked)]


def slices(step: Step, rank: int) -> list[tuple[int, int, int, int]]:
    """`(axis, start, end, step)` of a Slice, in either of its forms."""
    starts, ends = step.listed("starts", 1), step.listed("ends", 2)
    if starts is None or ends is None or len(starts) != len(ends):
        raise step.bad("has no starts and ends of equal number")
    axes = step.listed("axes", 3)
    axes = list(range(len(starts))) if axes is None else axes
    paces = step.listed("steps", 4) or [1] * len(starts)
    if len(axes) != len(starts) or len(paces) != len(starts) or 0 in paces:
        raise step.bad("has starts, axes and steps that do not fit each other")
    return [(step.axes([a], rank)[0], s, e, p) for a, s, e, p in zip(axes, starts, ends, paces, strict=True)]


def _divide(step: Step, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if np.issubdtype(a.dtype, np.integer) and np.issubdtype(b.dtype, np.integer):
        return np.trunc(a / np.where(b == 0, 1, b)).astype(a.dtype)
    return a / b


def _reshape(step: Step, value: np.ndarray, shape: np.ndarray) -> np.ndarray:
    sizes = [int(v) for v in shape.reshape(-1)]
    return value.reshape([value.shape[i] if s == 0 and i < value.ndim else s for i, s in enumerate(sizes)])


def _unsqueeze(step: Step, value: np.ndarray, *_: np.ndarray) -> np.ndarray:
    axes = step.listed("axes", 1) or []
    return np.expand_dims(value, tuple(step.axes(axes, value.ndim + len(axes))))


def _squeeze(step: Step, value: np.ndarray, *_: np.ndarray) -> np.ndarray:
    axes = step.listed("axes", 1)
    return np.squeeze(value, None if axes is None else tuple(step.axes(axes, value.ndim)))


def _reduced(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def reduce(step: Step, value: np.ndarray, *_: np.ndarray) -> np.ndarray:
        axes = step.listed("axes", 1)
        over = None if axes is None else tuple(step.axes(axes, value.ndim))
        return function(value, axis=over, keepdims=bool(step.whole("keepdims", 1))).astype(value.dtype)

    return reduce


def _plain(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda step, *values: function(*values)


_BROADCAST = ("Add", "Sub", "Mul", "Div", "Equal", "Where", "Min", "Max", "Pow", "Mod", "Less", "Greater")
_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Identity": _plain(lambda a: a),
    "Dropout": _plain(lambda a, *_: a),
    "Cast": _cast,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": lambda step, *values: np.concatenate(values, step.whole("axis", 0)),
    "Reshape": _reshape,
    "Transpose": lambda step, a: np.transpose(a, step.wholes("perm")),
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Flatten": lambda step, a: a.reshape(math.prod(a.shape[: step.whole("axis", 1)]), -1),
    "Shape": _plain(lambda a: np.array(a.shape, np.int64)),
    "Size": _plain(lambda a: np.array(a.size, np.int64)),
    "Add": _plain(np.add),
    "Sub": _plain(np.subtract),
    "Mul": _plain(np.multiply),
    "Div": _divide,
    "Mod": _plain(lambda a, b: np.mod(a, np.where(b == 0, 1, b))),
    "Pow": _plain(lambda a, b: np.power(a.astype(np.float64), b).astype(a.dtype)),
    "Min": _plain(lambda *values: np.minimum.reduce(np.broadcast_arrays(*values))),
    "Max": _plain(lambda *values: np.maximum.reduce(np.broadcast_arrays(*values))),
    "Equal": _plain(np.equal),
    "Less": _plain(np.less),
    "Greater": _plain(np.greater),
    "Where": _plain(lambda c, a, b: np.where(c.astype(bool), a, b)),
    "Expand": lambda step, a, shape: _expanded(step, a, shape),
    "Neg": _plain(np.negative),
    "Sqrt": _plain(np.sqrt),
    "Reciprocal": _plain(lambda a: 1 / a),
    "Floor": _plain(np.floor),
    "Ceil": _plain(np.ceil),
    "ReduceProd": _reduced(np.prod),
    "ReduceSum": _reduced(np.sum),
}


def _expanded(step: Step, value: np.ndarray, shape: np.ndarray) -> np.ndarray:
    sizes = np.broadcast_shapes(value.shape, tuple(int(v) for v in shape.reshape(-1)[:9]))
    if math.prod(sizes) > SMALL:
        raise step.bad(f"makes a constant of shape {sizes}, which is too large")
    return np.broadcast_to(value, sizes)
