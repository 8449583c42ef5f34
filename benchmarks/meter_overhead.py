"""What metering costs: a spiking CNN run plainly and metered, side by side in one process.

The model is a loop over time as users write it: three convolutions and a linear layer with leaky neurons that reset
by subtraction, 32x32 inputs, width 32, T = 16, batch 16. Each ratio is the median of the rounds; plain and
metered runs alternate. Writes one JSON line per quantity to results/meter-overhead.jsonl:

    python benchmarks/meter_overhead.py [--width 32] [--rounds 7]
"""

import argparse
import copy
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import picojoule as pj
from picojoule.experiment.record import provenance

ROOT = Path(__file__).parent.parent
TARGETS = {"first batch": 1.4, "eight batches": 1.05, "penalty in training": 1.10}


class Fast(torch.autograd.Function):
    """A step whose derivative is a fast sigmoid."""

    @staticmethod
    def forward(ctx, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u > 0).float()

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grads[0] / (1 + 25 * u.abs()) ** 2


class Leaky(nn.Module):
    """A leaky neuron that keeps its membrane outside and resets by subtraction."""

    def forward(self, current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = 0.9 * v + current
        spikes = Fast.apply(v - 1.0)
        return spikes, v - spikes


class Loop(nn.Module):
    """Three convolutions, one linear layer, a Python loop over time."""

    def __init__(self, width: int, steps: int):
        super().__init__()
        self.steps = steps
        self.convolutions = nn.ModuleList(nn.Conv2d(c, width, 3, padding=1) for c in (3, width, width))
        self.neurons = nn.ModuleList(Leaky() for _ in range(4))
        self.fc = nn.Linear(width * 16, 10)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        states: list[Tensor] = [x.new_zeros(()) for _ in self.neurons]
        total = x.new_zeros(len(x), 10)
        for _ in range(self.steps):
            z = x
            for i, layer in enumerate(self.convolutions):
                z, states[i] = self.neurons[i](layer(z), states[i])
                z = self.pool(z)
            spikes, states[3] = self.neurons[3](self.fc(z.flatten(1)), states[3])
            total = total + spikes
        return total


def seconds(run: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def ratio(plain: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median of the ratios of neighbouring runs, and the median seconds of both."""
    plain(), other()
    pairs = [(seconds(plain), seconds(other)) for _ in range(rounds)]
    return (
        statistics.median(b / a for a, b in pairs),
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "meter-overhead.jsonl")
    given = parser.parse_args()
    torch.manual_seed(0)
    model = Loop(given.width, 16).eval()
    x = torch.randn(16, 3, 32, 32)

    def plain(times: int = 1) -> None:
        with torch.no_grad():
            for _ in range(times):
                model(x)

    def metered(times: int = 1) -> None:
        with torch.no_grad(), pj.meter(model) as m:
            for _ in range(times):
                model(x)
                m.activity()

    found = {
        "first batch": ratio(plain, metered, given.rounds),
        "eight batches": ratio(lambda: plain(8), lambda: metered(8), given.rounds),
    }
    watched = copy.deepcopy(model).train()
    model.train()
    with pj.meter(watched) as m:

        def without() -> None:
            model(x).square().mean().backward()

        def with_penalty() -> None:
            task = watched(x).square().mean()
            (task + 1e-9 * pj.synaptic_penalty(m.activity())).backward()

        found["penalty in training"] = ratio(without, with_penalty, given.rounds)
    where = provenance(torch.device("cpu"))
    with given.out.open("w", encoding="utf-8") as out:
        for name, (median, before, after) in found.items():
            line = {
                **where,
                "benchmark": "meter overhead",
                "quantity": name,
                "ratio": round(median, 4),
                "target": TARGETS[name],
                "plain_s": round(before, 5),
                "metered_s": round(after, 5),
                "rounds": given.rounds,
                "threads": torch.get_num_threads(),
                "model": f"loop, width {given.width}, 32x32, T=16, batch 16",
            }
            out.write(json.dumps(line, sort_keys=True) + "\n")
            print(f"{name:22s} x{median:.3f} (target x{TARGETS[name]:g}; plain {before * 1e3:.1f} ms)")


if __name__ == "__main__":
    main()
