"""The recurrent LMU over chunks of steps: the memory is linear, so only what is not linear runs step by step.

Within a chunk the memory is never computed. What `W_m` and `e_m` read of it follows from the memory at the start of
the chunk, by one product for all its steps, and from the few inputs since: `W_m m_{t+k} = W_m Ad^k m_t + sum_j W_m
Ad^(k-j) Bd u_{t+j}`. The product with Ad is thus paid once per chunk, and gradients of weights are few large products.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Fire = Callable[[Tensor], Tensor]
"""What is sent of a signal: itself, or its quantised form. Its derivative is taken for one."""


class Reads(NamedTuple):
    """What a chunk of K steps needs, N = H + D: each step has H sums in front of the tanh, and D inputs of the memory.

    `fresh` `[N, F]` acts on x and `bias` `[N]` is added; `recurrent` `[N, H]` acts on h; `held` `[K, N, D * q]` on the
    memory before the chunk; `lags` `[K - 1, N, D]` on the inputs 1 to K - 1 steps ago; `now` `[H, D]` on the input of
    the step. The memory after the chunk is `decay` `[q, q]` of that before it, and `enter` `[K, q]` of the inputs.
    """

    fresh: Tensor
    bias: Tensor
    recurrent: Tensor
    held: Tensor
    lags: Tensor
    now: Tensor
    decay: Tensor
    enter: Tensor


def reads_of(
    fresh: Tensor, bias: Tensor, recurrent: Tensor, w_m: Tensor, e_m: Tensor, powers: Tensor, bd: Tensor
) -> Reads:
    """For chunks of K steps: `w_m` `[H, D, q]`, `e_m` `[D, D, q]`, `powers` `[K + 1, q, q]` those of Ad from 0 to K."""
    rows = torch.einsum("hdq,kqp->khdp", w_m, powers)  # W_m Ad^k, k = 0 to K
    fed = torch.einsum("hdq,kqp->khdp", e_m, powers[:-1])
    held = torch.cat([rows[1:], fed], 1)  # W_m reads the new memory, e_m the one before
    lags = (torch.cat([rows[1:-1], fed[:-1]], 1) @ bd).squeeze(-1)
    enter = (powers[:-1] @ bd).squeeze(-1).flip(0)
    return Reads(fresh, bias, recurrent, held.flatten(2), lags, (rows[0] @ bd).squeeze(-1), powers[-1], enter)


def in_chunks(
    x: Tensor, h: Tensor, m: Tensor, reads: Reads, fire_h: Fire | None, fire_u: Fire | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h `[T, B, H]` and u `[T, B, D]` of all steps (u without gradient), and h `[B, H]` and m `[B, D, q]` at the end.

    T, the steps of x `[T, B, F]`, is a multiple of K. `fire_h` and `fire_u` quantise h and u; None leaves them.
    """
    return _Chunks.apply(x, h, m, *reads, fire_h, fire_u)  # pyright: ignore[reportReturnType]


class _Chunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, m: Tensor, *given: Any) -> tuple[Tensor, ...]:
        reads, (fire_h, fire_u) = Reads(*given[:8]), given[8:]
        (steps, batch, _), hidden = x.shape, h.shape[1]
        k, n = reads.held.shape[:2]
        d = n - hidden
        sent = x.new_empty(steps + 1, batch, hidden)
        sent[0] = h
        smooth = sent if fire_h is None else torch.empty_like(sent)  # before it is quantised
        inputs = x.new_empty(steps // k, batch, k * d)
        starts = x.new_empty(steps // k, *m.shape)
        recurrent, held, now = reads.recurrent.T, reads.held.transpose(1, 2), reads.now.T
        lags = _latest_last(reads.lags)
        for c, u in enumerate(inputs):
            starts[c] = m
            sums = F.linear(x[c * k : (c + 1) * k], reads.fresh, reads.bias)
            sums.baddbmm_(m.flatten(1).expand(k, -1, -1), held)
            for j, y in enumerate(sums):
                t = c * k + j + 1
                y.addmm_(sent[t - 1], recurrent)
                if j:
                    y.addmm_(u[:, : j * d], lags[(k - 1 - j) * d :])
                entering = u[:, j * d : (j + 1) * d]
                entering.copy_(y[:, hidden:] if fire_u is None else fire_u(y[:, hidden:]))
                _tanh(y[:, :hidden].addmm_(entering, now), smooth[t])
                if fire_h is not None:
                    sent[t] = fire_h(smooth[t])
            m = m @ reads.decay.T + u.unflatten(1, (k, d)).transpose(1, 2) @ reads.enter
        ctx.save_for_backward(x, sent, smooth, inputs, starts, *reads)
        ctx.set_materialize_grads(False)
        u = inputs.unflatten(2, (k, d)).transpose(1, 2).flatten(0, 1)
        ctx.mark_non_differentiable(u)
        return sent[1:], u, sent[-1].clone(), m

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        d_sent, _, d_h, d_m = grads
        x, sent, smooth, inputs, starts, *given = ctx.saved_tensors
        reads = Reads(*given)
        hidden, (k, n) = sent.shape[2], reads.held.shape[:2]
        d, batch = n - hidden, sent.shape[1]
        d_h = torch.zeros_like(sent[0]) if d_h is None else d_h
        d_m = torch.zeros_like(starts[0]) if d_m is None else d_m
        d_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        totals = Reads(*(torch.zeros_like(r) for r in reads))
        d_pairs = sent.new_zeros(k * d, k * n)  # of every input with every later step of its chunk
        d_sums = sent.new_empty(k, batch, n)
        lags = _latest_last(reads.lags).T
        for c in reversed(range(len(starts))):
            first = c * k
            if ctx.needs_input_grad[9]:
                totals.decay.add_(torch.einsum("bdq,bdp->qp", d_m, starts[c]))
                totals.enter.add_(torch.einsum("bkd,bdq->kq", inputs[c].unflatten(1, (k, d)), d_m))
            d_u = (d_m @ reads.enter.T).transpose(1, 2).flatten(1)  # [B, K * D]
            slope = 1 - smooth[first + 1 : first + k + 1].square()
            for j in reversed(range(k)):
                d_y = d_sums[j]
                d_h = d_h if d_sent is None else d_h + d_sent[first + j]
                d_before = torch.mul(d_h, slope[j], out=d_y[:, :hidden])
                torch.addmm(d_u[:, j * d : (j + 1) * d], d_before, reads.now, out=d_y[:, hidden:])
                if j:
                    d_u[:, : j * d].addmm_(d_y, lags[:, (k - 1 - j) * d :])
                d_h = d_y @ reads.recurrent
            by_step = d_sums.flatten(0, 1)  # [K * B, N]
            by_sample = d_sums.transpose(0, 1).reshape(batch, k * n)
            totals.fresh.addmm_(by_step.T, x[first : first + k].flatten(0, 1))
            totals.bias.add_(by_step.sum(0))
            totals.recurrent.addmm_(by_step.T, sent[first : first + k].flatten(0, 1))
            totals.held.flatten(0, 1).addmm_(by_sample.T, starts[c].flatten(1))
            d_pairs.addmm_(inputs[c].T, by_sample)
            if d_x is not None:
                torch.matmul(d_sums, reads.fresh, out=d_x[first : first + k])
            d_m = (by_sample @ reads.held.flatten(0, 1)).unflatten(1, d_m.shape[1:]) + d_m @ reads.decay
        pairs = d_pairs.unflatten(1, (k, n)).unflatten(0, (k, d))
        by_lag = [pairs.diagonal(i, 0, 2).sum(-1).T for i in range(k)]  # [N, D] each
        d_lags = torch.stack(by_lag[1:]) if k > 1 else totals.lags
        return d_x, d_h, d_m, *totals._replace(lags=d_lags, now=by_lag[0][:hidden]), None, None


def _latest_last(lags: Tensor) -> Tensor:
    """`[(K - 1) * D, N]`, the longest lag first, as the inputs of a chunk lie."""
    return lags.flip(0).transpose(1, 2).flatten(0, 1)


def _tanh(x: Tensor, out: Tensor) -> None:
    """tanh(x) = 2 sigmoid(2 x) - 1, which is less than half the time of `torch.tanh` on a CPU; within 1e-7."""
    torch.mul(x, 2, out=out).sigmoid_().mul_(2).sub_(1)
