"""Spikes of a real-valued stimulus, inside a network: with noise or with a threshold."""

from collections.abc import Callable

import torch
from torch import Tensor

from picojoule.errors import BadInput, check_choice
from picojoule.kernels.spike import spike
from picojoule.kernels.surrogate import open_rectangle

THRESHOLD = 0.5
"""Of the threshold encoder; half the range in which the others' rates vary (our choice)."""


def bernoulli(x: Tensor, noise: Tensor) -> Tensor:
    """1 where x lies above the noise: a spike with probability x. No gradient.

    Source: the code that Yao et al. 2023 published with arXiv 2401.10843.
    """
    return (x.detach() > noise).to(x.dtype)


def straight_through(x: Tensor, noise: Tensor) -> Tensor:
    """The spikes of `bernoulli`, with the gradient of their probability: 1 for x in [0, 1], else 0 (ours)."""
    return spike(x - noise, lambda _: ((x >= 0) & (x <= 1)).to(x.dtype), strict=True)


def threshold(x: Tensor, noise: Tensor) -> Tensor:
    """1 where `x > THRESHOLD`, without noise; the gradient is `open_rectangle` (ours)."""
    return spike(x - THRESHOLD, open_rectangle, strict=True)


def rectified(x: Tensor, noise: Tensor) -> Tensor:
    """`max(0, x)`: values in the place of spikes, for the analog twin."""
    return torch.relu(x)


ENCODINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bernoulli": bernoulli,
    "straight-through": straight_through,
    "threshold": threshold,
    "relu": rectified,
}
NOISY = ("bernoulli", "straight-through")


def encode(x: Tensor, kind: str, generator: torch.Generator | None = None) -> Tensor:
    """Spikes of x, of any shape, by one of ENCODINGS; noise in [0, 1) comes from `generator`, else from torch's own.

    Noise has at least 32 bits, whatever x has. Raises BadInput for an unknown kind, for a generator that is none, and
    for noise without a generator where torch is told to be deterministic.
    """
    check_choice("encoder", kind, ENCODINGS)
    if not isinstance(generator, torch.Generator | None):
        raise BadInput(f"expected a torch.Generator or None for the noise, got {generator!r}")
    if kind not in NOISY:
        return ENCODINGS[kind](x, x)
    if generator is None and torch.are_deterministic_algorithms_enabled():
        raise BadInput(
            f"the encoder {kind} draws noise, which deterministic algorithms allow only from a generator of your own; "
            "pass generator=torch.Generator().manual_seed(0), or use the encoder threshold"
        )
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    noise = torch.rand(x.shape, generator=generator, dtype=wide.dtype, device=x.device)
    return ENCODINGS[kind](wide, noise)
