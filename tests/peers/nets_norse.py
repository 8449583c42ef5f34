"""Networks in Norse."""

from typing import Any

import torch
from torch import Tensor, nn

from .entries import entry, lib


class NorseSequential(nn.Module):
    """SequentialState over a whole sequence for time-aware layers, step by step here, state handed on by the user."""

    def __init__(self, first: str, second: str):
        super().__init__()
        norse = lib("norse.torch")
        p1, p2 = (
            norse.LIFBoxParameters(tau_mem_inv=torch.tensor(400.0)) if n == "LIFBoxCell" else fast_lif()
            for n in (first, second)
        )
        self.net = norse.SequentialState(
            *(nn.Conv2d(2, 4, 3, padding=1), getattr(norse, first)(p=p1), nn.AvgPool2d(2)),
            *(nn.Conv2d(4, 6, 3, stride=2), getattr(norse, second)(p=p2), nn.Flatten(), nn.Linear(6, 5)),
        )

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for step in x:
            y, state = self.net(step, state)
            out.append(y)
        return torch.stack(out).mean(0)


def fast_lif() -> Any:
    """Norse's LIF with time constants short enough to fire within four steps."""
    tau = {"tau_mem_inv": torch.tensor(500.0), "tau_syn_inv": torch.tensor(300.0), "v_th": torch.tensor(0.3)}
    return lib("norse.torch").LIFParameters(**tau)


@entry("norse-lif-box", "norse", events={"net.0": 1.0, "net.3": 0.25, "net.6": 1.0}, gain=9.0, shift=0.25)
def _() -> nn.Module:
    return NorseSequential("LIFBoxCell", "LIFBoxCell")


@entry("norse-lif-cells", "norse", events={"net.0": 1.0, "net.3": 0.25, "net.6": 1.0}, gain=4.0)
def _() -> nn.Module:
    return NorseSequential("LIFCell", "LIFCell")


class NorseLifted(nn.Module):
    """SequentialState of lifted layers and LIF over the time axis."""

    def __init__(self) -> None:
        super().__init__()
        norse = lib("norse.torch")
        self.net = norse.SequentialState(
            *(norse.Lift(nn.Conv2d(2, 4, 3, padding=1)), norse.LIF(p=fast_lif()), norse.Lift(nn.MaxPool2d(2))),
            *(norse.Lift(nn.Conv2d(4, 6, 3, stride=2)), norse.LIF(p=fast_lif()), nn.Flatten(2), nn.Linear(6, 5)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0].sum(0)


@entry(
    "norse-lifted",
    "norse",
    events={"net.0.lifted_module": 1.0, "net.3.lifted_module": 1.0, "net.6": 1.0},
    time_major=("net.6",),
    gain=4.0,
)
def _() -> nn.Module:
    return NorseLifted()


class NorseRecurrent(nn.Module):
    """LIFRecurrentCell in the user's loop."""

    def __init__(self) -> None:
        super().__init__()
        norse = lib("norse.torch")
        self.conv, self.cell, self.readout = nn.Conv2d(2, 3, 3, stride=2), norse.LIFCell(p=fast_lif()), nn.Linear(10, 5)
        self.recurrent = norse.LIFRecurrentCell(27, 10, p=fast_lif())

    def forward(self, x: Tensor) -> Tensor:
        state = hidden = None
        out = []
        for step in x:
            z, state = self.cell(self.conv(step), state)
            z, hidden = self.recurrent(z.flatten(1), hidden)
            out.append(self.readout(z))
        return torch.stack(out).amax(0)


@entry(
    "norse-recurrent-cell",
    "norse",
    events=dict.fromkeys(("conv", "recurrent.input_weights", "recurrent.recurrent_weights", "readout"), 1.0),
    gain=3.0,
)
def _() -> nn.Module:
    return NorseRecurrent()
