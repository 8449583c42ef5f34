"""Networks in nothing but torch: loops, recurrent layers, attention, and parts that call for care."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .brute_force import Product
from .entries import entry


class Surrogate(torch.autograd.Function):
    """A step forwards, a box backwards."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v > 0).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return gradients[0] * (v.abs() < 0.5)


def fire(v: Tensor) -> Tensor:
    """Spikes of a membrane potential relative to threshold."""
    return Surrogate.apply(v)  # pyright: ignore[reportReturnType]


class FunctionalLoop(nn.Module):
    """Hand-written: F.conv2d, F.linear, soft reset. The membrane is read out by a synapse and must be values."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.randn(4, 2, 3, 3) * 0.12), nn.Parameter(torch.randn(10, 144) * 0.05)
        self.w3, self.w4 = nn.Parameter(torch.randn(5, 10) * 0.1), nn.Parameter(torch.randn(5, 10) * 0.1)
        self.theta = nn.Parameter(torch.tensor(0.8))

    def forward(self, x: Tensor) -> Tensor:
        v1, v2 = torch.zeros(x.shape[1], 4, 6, 6), torch.zeros(x.shape[1], 10)
        out = torch.zeros(x.shape[1], 5)
        for step in x:
            v1 = 0.9 * v1 + F.conv2d(step, self.w1)
            s1 = fire(v1 - self.theta)
            v1 = v1 - s1 * self.theta
            v2 = 0.9 * v2 + F.linear(s1.flatten(1), self.w2)
            s2 = fire(v2 - self.theta)
            v2 = v2 - s2 * self.theta
            out = out + F.linear(s2, self.w3) + F.linear(v2, self.w4)
        return out


@entry("functional-loop", events={"w1": 1.0, "w2": 1.0, "w3": 1.0})
def _() -> nn.Module:
    return FunctionalLoop()


class Recurrent(nn.Module):
    """Spikes of a convolution feed a recurrent layer of torch."""

    def __init__(self, kind: type[nn.RNNBase]):
        super().__init__()
        self.conv, self.rnn, self.fc = nn.Conv2d(2, 2, 3, stride=2), kind(18, 7, batch_first=True), nn.Linear(7, 5)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:  # [B, T, ...]
        spikes = fire(self.conv(x.flatten(0, 1)) - 0.3).flatten(1)
        return self.fc(self.rnn(spikes.unflatten(0, x.shape[:2]))[0][:, -1])


RNN: dict[str, Any] = {"events": {"conv": 1.0, "rnn.weight_ih_l0": 1.0}, "steps_first": False}


@entry("lstm", **RNN)
def _() -> nn.Module:
    return Recurrent(nn.LSTM)


@entry("gru", **RNN)
def _() -> nn.Module:
    return Recurrent(nn.GRU)


@entry("rnn", **RNN)
def _() -> nn.Module:
    return Recurrent(nn.RNN)


class CellLoop(nn.Module):
    """nn.LSTMCell and nn.GRUCell on spikes, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(128, 6), nn.GRUCell(128, 6)

    def forward(self, x: Tensor) -> Tensor:
        state = hidden = None
        for step in x.flatten(2):
            state, hidden = self.lstm(step, state), self.gru(step, hidden)
        assert state is not None and hidden is not None
        return state[0] + hidden


@entry("rnn-cells", events={"lstm.weight_ih": 1.0, "gru.weight_ih": 1.0})
def _() -> nn.Module:
    return CellLoop()


class Static(nn.Module):
    """Parts that call for care, on a static event input: shared, residual, transposed, batch norm, checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.up, self.norm = nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1), nn.BatchNorm2d(3)
        self.behind, self.block, self.fc = (
            nn.Conv2d(3, 2, 3, dilation=2),
            nn.Conv2d(3, 2, 5, stride=3),
            nn.Linear(98, 5),
        )
        nn.init.uniform_(self.norm.running_mean, 0.1, 0.4)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        a = fire(self.first(x) - 0.4)
        b = fire(self.shared(a) - 0.3)
        c = fire(self.shared(a + b) - 0.3)  # the same weights twice, the second time on counts
        d = fire(self.up(c) - 0.2)
        shifted = self.behind(self.norm(d))  # batch norm shifts zero: values
        e = checkpoint(self._block, d, use_reentrant=False)
        return self.fc(torch.cat([e.flatten(1), fire(F.adaptive_max_pool2d(shifted, 5)).flatten(1)], 1)[:, :98])

    def _block(self, x: Tensor) -> Tensor:
        return fire(self.block(x) - 0.2)


@entry(
    "static-parts",
    events=dict.fromkeys(("first", "shared", "up", "block", "fc"), 1.0),
    has_steps=False,
)
def _() -> nn.Module:
    return Static()


def step_of_neuron(current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a leaky neuron with soft reset, to be compiled to TorchScript."""
    v = 0.8 * v + current
    spikes = (v > 0.7).to(v.dtype)
    return spikes, v - 0.7 * spikes


class Scripted(nn.Module):
    """A neuron in TorchScript between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.neuron = nn.Conv2d(2, 3, 3), nn.Linear(108, 5), torch.jit.script(step_of_neuron)

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros(x.shape[1], 3, 6, 6)
        out = []
        for step in x:
            spikes, v = self.neuron(self.conv(step), v)
            out.append(self.fc(spikes.flatten(1)))
        return torch.stack(out).mean(0)


@entry("scripted-neuron", events={"conv": 1.0, "fc": 1.0})
def _() -> nn.Module:
    return Scripted()


class GradedInput(nn.Module):
    """Input events of unit 0.5 and a convolution with a bias; no neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@entry("scaled-input", events={"conv": 0.5}, unit=0.5, has_steps=False)
def _() -> nn.Module:
    return GradedInput()


class SoftmaxAttention(nn.Module):
    """Attention weights are values, what they weigh are spikes; by torch.bmm."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.head = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:  # [B, 2, 8, 8]
        x = x.flatten(1, 2)
        q, k, v = fire(self.q(x) - 0.3), fire(self.k(x) - 0.3), fire(self.v(x) - 0.3)
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(-1)
        return self.head(torch.bmm(weights, v).mean(1))


@entry(
    "attention-softmax",
    events={"q": 1.0, "k": 1.0, "v": 1.0},
    products=(Product("qk", True, True), Product("av", False, True)),
    has_steps=False,
)
def _() -> nn.Module:
    return SoftmaxAttention()
