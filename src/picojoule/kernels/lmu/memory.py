"""The Legendre memory as what it is, a linear system: its states, step by step and without a loop."""

import torch
from torch import Tensor


def powers_of(ad: Tensor, most: int) -> Tensor:
    """`[most + 1, q, q]`: the powers of `ad` from 0 to `most`, multiplied in float64."""
    wide = ad.double()
    found = [torch.eye(len(ad), dtype=wide.dtype, device=ad.device)]
    for _ in range(most):
        found.append(found[-1] @ wide)
    return torch.stack(found).to(ad.dtype)


def impulse_response(ad: Tensor, bd: Tensor, steps: int) -> Tensor:
    """`[steps, q]`: the memory 0, 1, ... steps after an input of one, found in float64."""
    response, power = bd.T.double(), ad.double()
    while len(response) < steps:  # twice as long each time
        response = torch.cat([response, response @ power.T])
        power = power @ power
    return response[:steps].to(ad.dtype)


def last_state(u: Tensor, m: Tensor, response: Tensor, decay: Tensor) -> Tensor:
    """The memory `[B, D, q]` after inputs u `[T, B, D]` from the state m `[B, D, q]`: one product.

    `response` is the `impulse_response` of T steps, `decay` is Ad^T.
    """
    return torch.einsum("tbd,tq->bdq", u, response.flip(0)) + m @ decay.T


def by_loop(u: Tensor, m: Tensor, ad: Tensor, bd: Tensor) -> Tensor:
    """All states `[T, B, D, q]` for inputs u `[T, B, D]`, step by step: `m_t = Ad m_{t-1} + Bd u_t`."""
    states = []
    for now in u.unsqueeze(-1).unbind(0):
        m = m @ ad.T + now * bd.T
        states.append(m)
    return torch.stack(states)


def by_scan(u: Tensor, m: Tensor, powers: Tensor, bd: Tensor) -> Tensor:
    """As `by_loop`, K steps at a time: what the memory held and what came in since are one product each per chunk.

    `powers` `[K + 1, q, q]` are those of Ad from 0 to K.
    """
    k, q = len(powers) - 1, powers.shape[-1]
    lag = torch.arange(k, device=u.device) - torch.arange(k, device=u.device).unsqueeze(1)  # [from, to]
    response = (powers[:-1] @ bd).squeeze(-1)[lag.clamp(min=0)]
    brought = torch.where((lag >= 0).unsqueeze(-1), response, 0.0).flatten(1)  # [K, K * q]
    held = powers[1:].flatten(0, 1).T  # [q, K * q]
    states = []
    for chunk in u.split(k):
        n = len(chunk)
        here = chunk.permute(1, 2, 0) @ brought[:n, : n * q] + m @ held[:, : n * q]
        states.append(here.unflatten(-1, (n, q)).permute(2, 0, 1, 3))
        m = states[-1][-1]
    return torch.cat(states)


def by_fft(u: Tensor, ad: Tensor, bd: Tensor) -> Tensor:
    """As `by_loop` from an empty memory, all at once: inputs convolved with the impulse response by FFT."""
    steps, size = len(u), 2 * len(u)
    response = torch.fft.rfft(impulse_response(ad, bd, steps), size, dim=0)[:, None, None]
    return torch.fft.irfft(response * torch.fft.rfft(u, size, dim=0).unsqueeze(-1), size, dim=0)[:steps]


def form_for(steps: int, batch: int, from_rest: bool) -> str:
    """Which form finds all states fastest on a CPU: "loop", "scan" or "fft" (recorded times: docs/lmu.md).

    A loop's small products waste a processor that has few samples to work on; for many they are as fast as any.
    """
    if steps < 64 or batch > 16:
        return "loop"
    if batch < 4:
        return "scan"
    return "fft" if from_rest else "loop"
