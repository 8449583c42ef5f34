"""Spiking networks written by hand in the ways that libraries and users write them; each is one class.

What they share with a library is the structure: where state is kept, how time runs, how a spike is computed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Surrogate(torch.autograd.Function):
    """Heaviside forward, a fast sigmoid's derivative backward."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v > 0).to(v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return grads[0] / (1 + 5 * v.abs()) ** 2


class Multiple(torch.autograd.Function):
    """As many spikes as thresholds fit into the membrane."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(v)
        return (v > 0) * torch.div(v, threshold, rounding_mode="trunc").float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0], None


def spike(v: Tensor) -> Tensor:
    found = Surrogate.apply(v)
    assert isinstance(found, Tensor)
    return found


class HiddenLeaky(nn.Module):
    """State in an attribute that grows from a 0-d tensor; the reset comes one step late; spikes times a 0-d buffer."""

    def __init__(self, beta: float = 0.8, learned: bool = False):
        super().__init__()
        self.height: Tensor
        self.register_buffer("height", torch.tensor(1.0))
        if learned:
            self.beta = nn.Parameter(torch.tensor(beta))
            self.threshold = nn.Parameter(torch.tensor(0.1))
        else:
            self.register_buffer("beta", torch.tensor(beta))
            self.register_buffer("threshold", torch.tensor(0.1))
        self.register_buffer("mem", torch.zeros(0), False)
        self.mem: Tensor

    def reset(self) -> None:
        self.mem = torch.zeros(0, device=self.mem.device)

    def forward(self, current: Tensor) -> Tensor:
        if self.mem.shape != current.shape:
            self.mem = torch.zeros_like(current)
        reset = spike(self.mem - self.threshold).clone().detach()
        self.mem = self.beta.clamp(0, 1) * self.mem + current - reset * self.threshold
        return spike(self.mem - self.threshold) * self.height


class HiddenNet(nn.Module):
    """The user loops over `[T, B, ...]`; the neurons keep their membrane inside and are reset at the start."""

    def __init__(self, learned: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.lif1 = HiddenLeaky(learned=learned)
        self.pool = nn.AvgPool2d(2)
        self.fc = nn.Linear(4 * 3 * 3, 5)
        self.lif2 = HiddenLeaky(learned=learned)
        self.out = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.modules():
            if isinstance(module, HiddenLeaky):
                module.reset()
        steps = []
        for step in x:
            z = self.pool(self.lif1(self.conv(step)))
            steps.append(self.out(self.lif2(self.fc(z.flatten(1)))))
        return torch.stack(steps).sum(0)


class MemoryNode(nn.Module):
    """State in a dictionary, `0.` at rest; one step or all of them, by a switch; soft or hard reset."""

    def __init__(self, tau: float = 2.0, hard: bool = True, multi_step: bool = False):
        super().__init__()
        self.memories: dict[str, Any] = {"v": 0.0}
        self.tau, self.hard, self.multi_step = tau, hard, multi_step

    def reset(self) -> None:
        self.memories["v"] = 0.0

    def one(self, x: Tensor) -> Tensor:
        v = self.memories["v"]
        if isinstance(v, float):
            v = torch.full_like(x.data, v)
        v = v + (x - v) / self.tau
        z = spike(v - 0.1)
        reset = z.detach()
        self.memories["v"] = (1.0 - reset) * v + reset * 0.0 if self.hard else v - reset * 0.1
        return z

    def forward(self, x: Tensor) -> Tensor:
        if not self.multi_step:
            return self.one(x)
        return torch.stack([self.one(step) for step in x])


class FoldedNet(nn.Module):
    """All steps at once `[T, B, ...]`: layers without state see `[T * B, ...]`."""

    def __init__(self, hard: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.node1 = MemoryNode(hard=hard, multi_step=True)
        self.conv2 = nn.Conv2d(4, 4, 3, stride=2)
        self.node2 = MemoryNode(hard=hard, multi_step=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        for node in (self.node1, self.node2):
            node.reset()
        T, B = x.shape[:2]
        h = self.norm(self.conv(x.flatten(0, 1)))
        z = self.node1(h.view(T, B, *h.shape[1:]))
        h = self.conv2(z.flatten(0, 1))
        z = self.node2(h.unflatten(0, (T, B)))
        return self.fc(z.flatten(2)).mean(0)


class State(NamedTuple):
    z: Tensor
    v: Tensor
    i: Tensor


class FunctionalCell(nn.Module):
    """State goes in and out as a named tuple, None at rest; the current has a leak of its own."""

    def __init__(self, n_in: int, n_out: int, recurrent: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / n_in**0.5)
        self.recurrent = nn.Parameter(torch.randn(n_out, n_out) / n_out) if recurrent else None

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        if state is None:
            rest = torch.zeros(len(x), len(self.weight), dtype=x.dtype)
            state = State(rest, rest, rest)
        i = 0.8 * state.i + F.linear(x, self.weight)
        if self.recurrent is not None:
            i = i + F.linear(state.z, self.recurrent)
        v = state.v + 0.5 * (0.0 - state.v + i)
        z = spike(v - 0.3)
        v = v - z.detach() * (v - 0.0)
        return z, State(z, v, i)


class CellNet(nn.Module):
    """Cells whose weights are functional; `[T, B, N]`."""

    def __init__(self):
        super().__init__()
        self.first = FunctionalCell(6, 8, recurrent=True)
        self.second = FunctionalCell(8, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        s1 = s2 = None
        voltage = torch.zeros(x.shape[1], 3)
        for step in x:
            z, s1 = self.first(step, s1)
            z, s2 = self.second(z, s2)
            voltage = 0.9 * voltage + self.out(z)
        return voltage


class SqueezedNode(nn.Module):
    """`[B * T, ...]` in and out; inside `[B, T, ...]`; several spikes in a step; subtracts what it sent."""

    def __init__(self, T: int):
        super().__init__()
        self.T = T

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, self.T, *x.shape[1:])
        v = torch.zeros_like(x[:, 0])
        steps = []
        for t in range(self.T):
            v = 0.9 * v + x[:, t]
            z = Multiple.apply(v, 0.4)
            assert isinstance(z, Tensor)
            v = v - z * 0.4
            steps.append(z)
        return torch.stack(steps, 1).flatten(0, 1)


class SqueezedNet(nn.Module):
    """Batch-major folded time, as a `Sequential` of ordinary layers; x is `[B, T, ...]`."""

    def __init__(self, T: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False),
            SqueezedNode(T),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 3, 2, bias=False),
            SqueezedNode(T),
            nn.Flatten(),
            nn.Linear(3, 3),
        )
        self.T = T

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.flatten(0, 1)).unflatten(0, (-1, self.T)).sum(1)


class FunctionalLoop(nn.Module):
    """No modules but one: parameters, `F.conv2d`, in-place soft reset, spikes written into a buffer."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, 2, 3, 3) / 3)
        self.matrix = nn.Parameter(torch.randn(4, 3 * 4 * 4) / 7)
        self.threshold = nn.Parameter(torch.tensor(0.5))
        self.readout = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        T, B = x.shape[:2]
        v = x.new_zeros(B, 3, 4, 4)
        u = x.new_zeros(B, 4)
        sent = x.new_zeros(T, B, 4)
        for t in range(T):
            v = 0.9 * v + F.conv2d(x[t], self.kernel)
            z = spike(v - self.threshold)
            v = v - z * self.threshold
            u = u + z.flatten(1) @ self.matrix.t()
            fired = (u > self.threshold).float()
            u = torch.where(fired > 0, torch.zeros_like(u), u)
            sent[t] = fired
        return self.readout(sent).sum(0)


def images(T: int, B: int, batch_first: bool = False) -> Tensor:
    """`[T, B, 2, 6, 6]`, or `[B, T, 2, 6, 6]`."""
    return 4 * torch.randn(*((B, T) if batch_first else (T, B)), 2, 6, 6)


class Style(NamedTuple):
    """A network, its input, its batch axis, and what enters each of its layers: the quantum, None for values."""

    make: Callable[[], nn.Module]
    x: Callable[[int], Tensor]
    batch_dim: int
    layers: dict[str, float | None]


STYLES = {
    "hidden": Style(HiddenNet, lambda B: images(4, B), 1, {"conv": None, "fc": 0.25, "out": 1}),
    "hidden, learned": Style(lambda: HiddenNet(True), lambda B: images(4, B), 1, {"conv": None, "fc": 0.25, "out": 1}),
    "folded": Style(lambda: FoldedNet().eval(), lambda B: images(3, B), 1, {"conv": None, "conv2": 1, "fc": 1}),
    "folded, soft": Style(
        lambda: FoldedNet(hard=False).eval(), lambda B: images(3, B), 1, {"conv": None, "conv2": 1, "fc": 1}
    ),
    "folded, T == B": Style(lambda: FoldedNet().eval(), lambda B: images(B, B), 1, {"conv2": 1, "fc": 1}),
    "squeezed": Style(
        lambda: SqueezedNet(3), lambda B: images(3, B, True), 0, {"body.0": None, "body.3": 0.25, "body.6": 1}
    ),
    "squeezed, T == B": Style(
        lambda: SqueezedNet(4), lambda B: images(4, B, True), 0, {"body.0": None, "body.3": 0.25, "body.6": 1}
    ),
    "cells": Style(CellNet, lambda B: torch.randn(5, B, 6), 1, {"first.weight": None, "second.weight": 1, "out": 1}),
    "functional": Style(FunctionalLoop, lambda B: images(4, B), 1, {"kernel": None, "matrix": 1, "readout": 1}),
}
