"""Draws docs/figures/noise-shaping.svg: what the diffused quantiser does with its error, beside others.

    pip install 'picojoule[plot]'
    python tools/draw_noise_shaping.py [FILE.svg]

The neurons of the library run on one slow signal; the lines of theory are those of docs/methods/hybrid.md.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from picojoule import Diffused
from picojoule.report.svg import write_svg

TARGET = Path(__file__).resolve().parent.parent / "docs" / "figures" / "noise-shaping.svg"
FINENESS, STEPS, NEURONS = 2.0, 512, 512
ROUNDINGS = {"diffused": "#0072b2", "stochastic": "#d55e00", "nearest": "#7f7f7f"}
SHOWN = 48


def signal() -> Tensor:
    """Wanted values in [0, 1], float64 `[T]`: two slow sines, never a multiple of the event height for long."""
    t = torch.arange(STEPS, dtype=torch.float64)
    return 0.5 + 0.3 * torch.sin(t * 0.0713) + 0.15 * torch.sin(t * 0.0191 + 1)


def sent(rounding: str) -> Tensor:
    """What NEURONS neurons send for the signal, float64 `[T, NEURONS]`."""
    neuron = Diffused("relu", FINENESS, rounding=rounding).eval()
    with torch.no_grad():
        return neuron(signal()[:, None, None].expand(STEPS, 1, NEURONS).contiguous())[:, 0]


def error_of_mean(events: Tensor) -> Tensor:
    """Root mean square over neurons of the error of the mean over the first 1 ... T steps, `[T]`."""
    steps = torch.arange(1, STEPS + 1, dtype=torch.float64)[:, None]
    error = (events - signal()[:, None]).cumsum(0) / steps
    return error.square().mean(1).sqrt()


def spectrum(events: Tensor) -> Tensor:
    """Mean power of the error at frequencies 0 ... half a cycle per step, `[T / 2 + 1]`; white noise is flat."""
    error = events - signal()[:, None]
    return (torch.fft.rfft(error, dim=0).abs().square() / STEPS).mean(1)


def draw(figure: Any) -> None:
    """Three panels: the events of one neuron, the error of the mean, the spectrum of the error."""
    trace, mean, power = figure.subplots(1, 3)
    events = {rounding: sent(rounding) for rounding in ROUNDINGS}
    steps = torch.arange(1, STEPS + 1)

    trace.plot(steps[:SHOWN], signal()[:SHOWN], color="black", label="wanted, f(J)")
    trace.step(steps[:SHOWN], events["diffused"][:SHOWN, 0], where="mid", color=ROUNDINGS["diffused"], label="sent, y")
    trace.set(title=f"One neuron, w = {FINENESS:g}", xlabel="step", ylabel="value", ylim=(0.35, 1.05))
    trace.legend(frameon=False, fontsize=8, loc="lower center", ncols=2)

    for rounding, color in ROUNDINGS.items():
        mean.loglog(steps, error_of_mean(events[rounding]), color=color, label=rounding)
    mean.loglog(steps, 1 / (FINENESS * steps), color="black", linestyle=":", label="bound 1 / (w T)")
    mean.set(title="Error of the mean over T steps", xlabel="T", ylabel="root mean square over neurons")
    mean.legend(frameon=False, fontsize=8)

    frequency = torch.fft.rfftfreq(STEPS)[1:]
    for rounding in ("diffused", "stochastic"):
        power.loglog(frequency, spectrum(events[rounding])[1:], color=ROUNDINGS[rounding], label=rounding)
    shaped = (2 * torch.sin(torch.pi * frequency)).square() / (12 * FINENESS**2)
    power.loglog(frequency, shaped, color="black", linestyle=":", label="(2 sin(θ / 2))² / (12 w²)")
    power.set(title="Power of the error", xlabel="cycles per step, θ / 2π", ylabel="mean over neurons")
    power.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    write_svg(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET, (11, 3.6), draw)
