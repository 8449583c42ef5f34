"""Neurons for the kernel tests, run by the compiled kernels, by the reference, and by the reference at given spikes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from picojoule.kernels.cuba_lif.reference import CubaLIFState, cuba_lif_step
from picojoule.kernels.lif import reference
from picojoule.kernels.lif.reference import LIFParameters, LIFState, lif_step
from picojoule.kernels.native import integrate_and_fire
from picojoule.kernels.native.integrate_and_fire import Unrolled
from picojoule.kernels.native.library import available
from picojoule.kernels.spike import Surrogate
from picojoule.kernels.surrogate import arctan, fast_sigmoid, rectangle, s3nn, sigmoid, triangle
from picojoule.neurons import unroll

VARIANTS = [name for name in available() if name != "reference"]
needs_kernels = pytest.mark.skipif(not VARIANTS, reason="no compiled kernels: `picojoule doctor` says why")


class Kind(NamedTuple):
    """A kind of neuron."""

    decay: float
    v_reset: float | None
    synaptic: bool = False


KINDS = {
    "iaf": Kind(1.0, None),
    "iaf-hard": Kind(1.0, 0.0),
    "lif-soft": Kind(0.9, None),
    "lif-hard": Kind(0.9, 0.0),
    "lif-hard-to-value": Kind(0.8, -0.3),
    "cuba-soft": Kind(0.9, None, synaptic=True),
    "cuba-hard": Kind(0.85, -0.1, synaptic=True),
}
SURROGATES: dict[str, Surrogate] = {
    "triangle": partial(triangle, width=1.7),
    "rectangle": partial(rectangle, width=0.6),
    "arctan": partial(arctan, alpha=3.1),
    "sigmoid": partial(sigmoid, alpha=2.3),
    "s3nn": partial(s3nn, a=3.0, b=0.6),
    "fast_sigmoid": partial(fast_sigmoid, slope=4.0),
}


class Case(NamedTuple):
    """A neuron and all tensors that gradients may reach; `i` and `synaptic_decay` are None without synapses."""

    kind: Kind
    surrogate: Surrogate
    currents: Tensor  # [T, *step]
    v: Tensor
    i: Tensor | None
    decay: Tensor | float
    threshold: Tensor | float
    synaptic_decay: Tensor | float | None

    @property
    def parameters(self) -> LIFParameters:
        return LIFParameters(self.decay, self.threshold, self.kind.v_reset, 1, self.surrogate)

    def leaves(self) -> list[Tensor]:
        """The tensors that require a gradient."""
        return [x for x in self[2:] if isinstance(x, Tensor) and x.requires_grad]

    def to(self, dtype: torch.dtype) -> "Case":
        """The same values in another dtype, as leaves of their own; strides stay."""
        return self._replace(**{k: _moved(x, dtype) for k, x in self._asdict().items() if isinstance(x, Tensor)})


def _moved(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.detach().to(dtype, copy=True).requires_grad_(x.requires_grad)


def case(
    kind: str,
    surrogate: str = "arctan",
    shape: Sequence[int] = (7, 3, 37),
    learned: bool = False,
    dtype: torch.dtype = torch.float32,
    threshold: float = 1.0,
) -> Case:
    """Random currents from a random state; everything requires a gradient, the parameters if `learned`."""
    made, random = KINDS[kind], torch.Generator().manual_seed(5)
    state = torch.promote_types(dtype, torch.float32)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=random, dtype=torch.float64)

    def parameter(value: float) -> Tensor | float:
        return torch.tensor(value, dtype=state, requires_grad=True) if learned else value

    return Case(
        made,
        SURROGATES[surrogate],
        (0.3 + normal(*shape)).to(dtype).requires_grad_(),
        (0.5 * normal(*shape[1:])).to(state).requires_grad_(),
        (0.5 * normal(*shape[1:])).to(state).requires_grad_() if made.synaptic else None,
        parameter(made.decay),
        parameter(threshold),
        parameter(0.7) if made.synaptic else None,
    )


def by_kernel(c: Case, count: bool = True) -> Unrolled:
    """What the active kernels make of it."""
    return integrate_and_fire.unroll(c.currents, c.v, c.parameters, i=c.i, synaptic_decay=c.synaptic_decay, count=count)


def by_reference(c: Case) -> Unrolled:
    """What the equations of the reference make of it, one step after the other."""
    v = c.v.expand(c.currents.shape[1:])
    if c.i is None:
        (v,), events = unroll(lambda s, x: lif_step(s, x, c.parameters), LIFState(v), c.currents)
        i = v.new_empty(0)
    else:
        assert c.synaptic_decay is not None
        synaptic_decay, start = c.synaptic_decay, CubaLIFState(c.i.expand(c.currents.shape[1:]), v)
        (i, v), events = unroll(lambda s, x: cuba_lif_step(s, x, synaptic_decay, c.parameters), start, c.currents)
    return Unrolled(events, events.sum(0, dtype=v.dtype), v, i)


def saved_potentials(c: Case, saved: torch.dtype) -> Tensor:
    """`u = v - threshold` of all steps, as the kernels keep it for their backward pass."""
    learned = any(isinstance(x, Tensor) for x in (c.decay, c.threshold, c.synaptic_decay))
    given = (c.decay, c.threshold, 0.0 if c.synaptic_decay is None else c.synaptic_decay)
    with torch.no_grad():
        *_, u = torch.ops.picojoule.integrate_and_fire.default(
            *(c.currents, c.v, c.i),
            *(x if isinstance(x, Tensor) else None for x in given),
            [0.0 if isinstance(x, Tensor) else x for x in given],
            *(c.kind.v_reset, 0, 1.0, 0.0, learned, False, saved, None),
        )
        return u - c.threshold if learned else u


def gradients(out: Unrolled, c: Case, of: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """The gradient of every leaf, for random gradients of all results (`of` may change how they lie in memory).

    Those that arrive are bfloat16 numbers, the same in every dtype.
    """
    random = torch.Generator().manual_seed(6)
    results = [x for x in out if x.requires_grad]
    arriving = [torch.randn(x.shape, generator=random, dtype=torch.float64).bfloat16().to(x.dtype) for x in results]
    return list(torch.autograd.grad(results, c.leaves(), [of(g) for g in arriving] if of else arriving))


def fired(u: Tensor) -> Tensor:
    """Where an event was sent: u >= 0, but not where a negative u was rounded to -0."""
    return (u >= 0) & ~torch.signbit(u)


@contextmanager
def spikes_of(u: Tensor, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The reference fires where the given `u` of each step says so, and takes the surrogate's slope there."""
    steps = iter(u.double())

    def spike(x: Tensor, surrogate: Surrogate) -> Tensor:
        given = next(steps)
        return fired(given).to(x.dtype) + surrogate(given) * (x - x.detach())

    with monkeypatch.context() as patch:
        patch.setattr(reference, "spike", spike)
        yield


def expected_gradients(c: Case, u: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Those of the reference in float64 at the spikes and slopes of `u`."""
    wide = c.to(torch.float64)
    with spikes_of(u, monkeypatch):
        return gradients(by_reference(wide), wide)


def assert_same(a: Sequence[Any], b: Sequence[Any]) -> None:
    """Equal bit by bit, NaN equal to NaN."""
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


def assert_near(found: Sequence[Tensor], expected: Sequence[Tensor], error: float) -> None:
    """Equal to within `error`, relative to the largest number of the expected tensor."""
    for x, y in zip(found, expected, strict=True):
        scale = float(y.detach().abs().max()) if y.numel() else 0.0
        torch.testing.assert_close(x.double(), y.double(), rtol=error, atol=error * max(scale, 1.0))
