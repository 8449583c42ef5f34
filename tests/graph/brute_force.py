"""Operation counts by visiting every synapse, one at a time, in plain Python. The oracle of the count tests.

Nothing here uses the package or torch's operations: a layer is described by its numbers, and each synapse is
one (input index) that the loops yield.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

Index = tuple[int, ...]


class Operations(NamedTuple):
    """Of one sample over all steps."""

    acs: int = 0
    graded_events: int = 0
    macs: int = 0
    dense: int = 0


class Layer(Protocol):
    @property
    def axes(self) -> int:
        """How many trailing axes of the input belong to one call; all axes before it are repetitions."""
        ...

    def synapses(self, shape: Index) -> Iterator[Index]:
        """The input index of every synapse, for an input of `shape`."""
        ...


@dataclass(frozen=True)
class Dense:
    """`x @ W` with `W` `[in, out]`, or a linear layer."""

    out: int
    axes: int = 1

    def synapses(self, shape: Index) -> Iterator[Index]:
        for i in range(shape[0]):
            for _ in range(self.out):
                yield (i,)


@dataclass(frozen=True)
class FromLeft:
    """`W @ x` with `W` `[out, in]` and `x` `[in, columns]`."""

    out: int
    axes: int = 2

    def synapses(self, shape: Index) -> Iterator[Index]:
        for _, i, column in itertools.product(range(self.out), range(shape[0]), range(shape[1])):
            yield i, column


@dataclass(frozen=True)
class Convolution:
    """Every output position looks at every tap that is not padding."""

    channels_out: int
    kernel: Index
    stride: Index
    padding: Index
    dilation: Index
    groups: int = 1

    @property
    def axes(self) -> int:
        return len(self.kernel) + 1

    def synapses(self, shape: Index) -> Iterator[Index]:
        channels, *sizes = shape
        per_group = channels // self.groups
        outputs = [
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, k, s, p, d in zip(sizes, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        ]
        for o in range(self.channels_out):
            group = o // (self.channels_out // self.groups)
            for position in itertools.product(*map(range, outputs)):
                for tap in itertools.product(*map(range, self.kernel)):
                    at = tuple(
                        y * s - p + t * d
                        for y, t, s, p, d in zip(position, tap, self.stride, self.padding, self.dilation, strict=True)
                    )
                    if all(0 <= a < size for a, size in zip(at, sizes, strict=True)):
                        for c in range(per_group):
                            yield (group * per_group + c, *at)


@dataclass(frozen=True)
class Transposed:
    """Every input element writes through every tap that lands inside the output."""

    channels_out: int
    kernel: Index
    stride: Index
    padding: Index
    dilation: Index
    output_padding: Index
    groups: int = 1

    @property
    def axes(self) -> int:
        return len(self.kernel) + 1

    def synapses(self, shape: Index) -> Iterator[Index]:
        channels, *sizes = shape
        settings = list(zip(self.kernel, self.stride, self.padding, self.dilation, self.output_padding, strict=True))
        outputs = [
            (n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, (k, s, p, d, o) in zip(sizes, settings, strict=True)
        ]
        for c in range(channels):
            for position in itertools.product(*map(range, sizes)):
                for tap in itertools.product(*map(range, self.kernel)):
                    lands = [x * s - p + t * d for x, t, (_, s, p, d, _) in zip(position, tap, settings, strict=True)]
                    if all(0 <= y < n for y, n in zip(lands, outputs, strict=True)):
                        for _ in range(self.channels_out // self.groups):
                            yield (c, *position)


def operations(layer: Layer, x: np.ndarray, quantum: float | None, most: int = 1) -> list[Operations]:
    """Per sample, for inputs `[T, B, ...]`. `quantum` is that of events, or None for values."""
    return [_of_sample(layer, x[:, b], quantum) for b in range(x.shape[1])]


def _of_sample(layer: Layer, x: np.ndarray, quantum: float | None) -> Operations:
    acs = graded = macs = dense = 0
    repeated, shape = x.shape[: x.ndim - layer.axes], x.shape[x.ndim - layer.axes :]
    synapses = list(layer.synapses(tuple(shape)))
    for call in itertools.product(*map(range, repeated)):
        part = x[call]
        for index in synapses:
            value = float(part[index])
            dense += 1
            if quantum is None:
                macs += value != 0
            else:
                n = value / quantum
                assert math.isclose(n, round(n), abs_tol=1e-5), f"{value} is no multiple of {quantum}"
                acs += abs(round(n))
                graded += round(n) != 0
    return Operations(acs, graded, macs, dense)


def product_operations(left: np.ndarray, right: np.ndarray, events: tuple[bool, bool]) -> list[Operations]:
    """`left [T, B, ..., M, K] @ right [T, B, ..., K, N]`: pairs of an event and what it meets."""
    found = []
    for b in range(left.shape[1]):
        pairs = dense = 0
        for lead in itertools.product(*map(range, (left.shape[0], *left.shape[2:-2]))):
            at = (lead[0], b, *lead[1:])
            m, k, n = left.shape[-2], left.shape[-1], right.shape[-1]
            for i, j, o in itertools.product(range(m), range(k), range(n)):
                dense += 1
                here, there = left[at][i, j] != 0, right[at][j, o] != 0
                if events == (True, False):
                    pairs += bool(here)
                elif events == (False, True):
                    pairs += bool(there)
                else:
                    pairs += bool(here and there)
        counted = Operations(macs=pairs, dense=dense) if not any(events) else Operations(pairs, pairs, 0, dense)
        found.append(counted)
    return found
