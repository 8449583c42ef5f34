"""Batch norm, neurons and pooling as one part of a graph."""

from typing import Any

import torch
from torch import Tensor, nn

from picojoule.graph.observers import NeuronObserver
from picojoule.graph.records import NeuronRecord
from picojoule.kernels.lif.reference import LIFState
from picojoule.kernels.native import block, integrate_and_fire
from picojoule.layers import Repeat
from picojoule.neurons import LIF, Stateful

NARROWEST = 16
"""Channels from which the kernel runs: its vectors, of up to 16, lie along them (our choice)."""
_Result = tuple[Tensor, LIFState, tuple[NeuronRecord, ...]]


class Fused(Stateful):
    """Batch norm, repetition, neurons and pooling as one part; all but the neurons may be absent.

    `size` is the side of the pool's windows, which lie side by side. With `observers` of the neurons, whose events
    nobody else sees before the pool, calling it returns `(output, records)`.
    """

    observable = False

    def __init__(
        self,
        norm: nn.Module | None,
        repeat: Repeat | None,
        neuron: LIF,
        pool: nn.Module | None,
        size: int,
        observers: list[NeuronObserver],
    ):
        super().__init__()
        self.norm, self.repeat, self.neuron, self.pool = norm, repeat, neuron, pool
        self.observers = nn.ModuleList(observers)
        self._windows = block.Pool(size, isinstance(pool, nn.AvgPool2d))

    def forward(self, x: Tensor) -> Any:
        rest = LIFState(torch.tensor(self.neuron.v_initial, dtype=integrate_and_fire.state_dtype(x.dtype)))
        output, _, records = self._run(x, rest, keep=False)
        return (output, records) if self.observers else output

    def initial_state(self, x: Tensor) -> LIFState:
        return self.neuron.initial_state(x)

    def advance(self, x: Tensor, state: LIFState) -> tuple[Tensor, LIFState]:
        output, state, _ = self._run(x, state, keep=True)
        return output, state

    def _run(self, x: Tensor, state: LIFState, keep: bool) -> _Result:
        p = self.neuron.step_parameters()
        if self._heard():
            return self._one_by_one(x, state, keep)
        if self.norm is None and self.pool is None and integrate_and_fire.serves(x, p, *state):
            return self._counted(x, state)
        served = block.serves(x, p) and self._fits(x)
        return self._in_one(x, state, keep) if served else self._one_by_one(x, state, keep)

    def _fits(self, x: Tensor) -> bool:
        """Whether the kernel takes such maps; whatever torch would refuse goes part by part, to be refused by torch."""
        maps = (x.dim() == 5 or (x.dim() == 3 and self.pool is None)) and x.shape[2] >= NARROWEST and x.numel() > 0
        return maps and (self.repeat is None or len(x) == 1) and self._normalises(x)

    def _normalises(self, x: Tensor) -> bool:
        norm: Any = self.norm
        if norm is None:
            return True
        known = not norm.training or (norm.momentum is not None and x.numel() > x.shape[2])
        return known and norm.num_features == x.shape[2]

    def _heard(self) -> bool:
        """Whether somebody listens to one of the parts."""
        parts: Any = (self.norm, self.neuron, self.pool)
        return any(p is not None and (p._forward_hooks or p._forward_pre_hooks) for p in parts)

    def _one_by_one(self, x: Tensor, state: LIFState, keep: bool) -> _Result:
        if self.norm is not None:
            x = _timewise(self.norm, x)
        if self.repeat is not None:
            x = self.repeat(x)
        events, after = self.neuron.advance(x, state) if keep else (self.neuron(x), state)
        records = tuple(observer(events) for observer in self._watching())
        return (events if self.pool is None else _timewise(self.pool, events)), after, records

    def _counted(self, x: Tensor, state: LIFState) -> _Result:
        out = integrate_and_fire.unroll(x, state.v, self.neuron.step_parameters(), count=bool(self.observers))
        return out.events, LIFState(out.v), self._records(out.sent, len(x), out.events)

    def _in_one(self, x: Tensor, state: LIFState, keep: bool) -> _Result:
        steps = self.repeat.timesteps if self.repeat else len(x)
        trains: Any = self.norm is not None and self.norm.training
        if x.stride(0) == 0 and not x.requires_grad and not trains:
            x = x[:1]  # a current that was repeated: every step is the first
        maps = x if x.dim() == 5 else x[..., None, None]
        v = state.v if state.v.dim() == 0 else state.v.reshape(maps.shape[1:]).permute(0, 2, 3, 1)
        tiles = all(side % self._windows.size == 0 for side in maps.shape[3:])
        out = block.norm_fire_pool(
            maps.permute(0, 1, 3, 4, 2),
            steps,
            self._norm(maps),
            v,
            self.neuron.step_parameters(),
            self._windows if tiles else block.Pool(),
            count=bool(self.observers),
            keep=keep,
        )
        events = out.events.permute(0, 1, 4, 2, 3)
        if self.pool is not None and not tiles:
            events = _timewise(self.pool, events)
        after, sent = (t.permute(0, 3, 1, 2).reshape(x.shape[1:]) if t.numel() else t for t in (out.v, out.sent))
        events = events if x.dim() == 5 else events[..., 0, 0]
        return events, LIFState(after), self._records(sent, steps, events if self.pool is None else None)

    def _norm(self, maps: Tensor) -> block.Norm | None:
        norm: Any = self.norm
        if norm is None:
            return None
        mean, variance = norm.running_mean, norm.running_var
        if norm.training:
            norm.num_batches_tracked.add_(1)
            y = maps.detach().flatten(0, 1)
            mean, variance = torch.batch_norm_update_stats(y, mean, variance, norm.momentum)
        deviation = (1 / torch.sqrt(variance.double() + norm.eps)).to(variance.dtype)
        weight = torch.ones_like(mean) if norm.weight is None else norm.weight
        bias = torch.zeros_like(mean) if norm.bias is None else norm.bias
        return block.Norm(weight, bias, mean, deviation, norm.training)

    def _records(self, sent: Tensor, steps: int, train: Tensor | None) -> tuple[NeuronRecord, ...]:
        return tuple(observer.of_counts(sent, steps, train) for observer in self._watching())

    def _watching(self) -> list[NeuronObserver]:
        return list(self.observers)  # pyright: ignore[reportReturnType]


def _timewise(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
