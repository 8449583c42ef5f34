"""What training costs in one time step, against four: seconds and peak memory of 50 batches, same network.

One thread, random images of Fashion-MNIST's and CIFAR-10's size, batches of 128, forward, backward and a step of SGD.
Every measurement is a fresh process, and rounds are interleaved; seconds are medians over rounds, of the clock and of
CPU time, which other processes disturb less. Peak memory is what training adds to the process. "convolutions window by
window" runs the mixer as its equations read; its currents need no hand-over, so that the cell computes those of all
windows in one call. Writes one JSON line per implementation to results/one-step-cost.jsonl:

    python benchmarks/one_step_cost.py [--networks small-cnn,vgg11,mixer-cnn-24] [--batches 50] [--rounds 3]
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picojoule.cells.window_convolution import WindowConvolution
from picojoule.execution import fast_precision, fused
from picojoule.experiment.record import provenance
from picojoule.kernels.surrogate import open_rectangle
from picojoule.networks import Definition, Network, Windows, build
from picojoule.neurons import LIF, WindowNeuron

ROOT = Path(__file__).parent.parent
BATCH, FIRST = 128, 2
SHAPES = {"small-cnn": (1, 28, 28)}


class Cost(NamedTuple):
    """Of all batches: seconds of the clock and of CPU time; MiB that training added."""

    seconds: float
    cpu_s: float
    peak_mib: float


def window_by_window(cell: WindowConvolution) -> None:
    """Make a mixer convolve one window after the other, with the same result."""
    for timewise in (cell.conv1, cell.conv2):
        convolve = timewise.layer.forward
        timewise.layer.forward = lambda x, convolve=convolve: torch.cat([convolve(part) for part in x.split(BATCH)])


def lif() -> LIF:
    return LIF(0.4, 0.5, surrogate=open_rectangle)


def convolutional(name: str) -> dict[str, Callable[[], Network]]:
    def made(timesteps: int, windows: int) -> Callable[[], Network]:
        shape = SHAPES.get(name, (3, 32, 32))
        return lambda: build(Definition(name, shape, 10, timesteps, windows=Windows(windows)), lif)

    return {"T = 4": made(4, 1), "T = 1": made(1, 1), "T = 1, 4 windows": made(1, 4)}


def mixer(name: str) -> dict[str, Callable[[], Network]]:
    def made(timesteps: int) -> Network:
        return build(Definition(name, (3, 32, 32), 10, timesteps), WindowNeuron)

    def unbatched() -> Network:
        network = made(1)
        for cell in (m for m in network.modules() if isinstance(m, WindowConvolution)):
            window_by_window(cell)
        return network

    return {"T = 4": lambda: made(4), "T = 1": lambda: made(1), "T = 1, convolutions window by window": unbatched}


def implementations(name: str) -> dict[str, Callable[[], Network]]:
    return mixer(name) if name.startswith("mixer-") else convolutional(name)


def cost(name: str, implementation: str, batches: int) -> Cost:
    """Train in this process, after FIRST batches that are not counted."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = implementations(name)[implementation]().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model, optimiser = fused(network), torch.optim.SGD(network.parameters(), 0.01)
    x = torch.rand(BATCH, *network.input_shape).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (BATCH,))
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak, which a new process has from its parent
    for _ in range(FIRST):
        _train(model, optimiser, x, y)
    seconds, cpu_s = time.monotonic(), time.process_time()
    for _ in range(batches):
        _train(model, optimiser, x, y)
    return Cost(time.monotonic() - seconds, time.process_time() - cpu_s, _resident("VmHWM") - before)


def _train(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=fast_precision(torch.device("cpu")) == "bf16"):
        scores = model(x)
    optimiser.zero_grad()
    F.cross_entropy(scores.float(), y).backward()
    optimiser.step()


def _resident(which: str) -> float:
    """MiB, as Linux counts them."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{which}:")[1].split()[0]) / 1024


def lines(name: str, batches: int, rounds: int) -> list[dict[str, Any]]:
    """One line for every implementation of a network; ratios are to the first, T = 4."""
    found: dict[str, list[Cost]] = {implementation: [] for implementation in implementations(name)}
    load = os.getloadavg()[0]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        for _ in range(rounds):
            for implementation, costs in found.items():
                costs.append(fresh.apply(cost, (name, implementation, batches)))
    medians = {
        key: Cost(*(statistics.median(numbers) for numbers in zip(*costs, strict=True))) for key, costs in found.items()
    }
    first = next(iter(medians.values()))
    return [
        {
            "benchmark": "one-step-cost",
            "network": name,
            "implementation": key,
            **{field: round(number, 3) for field, number in median._asdict().items()},
            "faster": round(first.cpu_s / median.cpu_s, 2),
            "of_memory": round(median.peak_mib / first.peak_mib, 3),
            "batches": batches,
            "batch_size": BATCH,
            "precision": fast_precision(torch.device("cpu")),
            "rounds": rounds,
            "threads": 1,
            "load": round(load, 2),
        }
        for key, median in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="small-cnn,vgg11,mixer-cnn-24")
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "one-step-cost.jsonl")
    given = parser.parse_args()
    where = provenance(torch.device("cpu"))
    with given.out.open("w", encoding="utf-8") as out:
        for name in given.networks.split(","):
            for line in lines(name, given.batches, given.rounds):
                out.write(json.dumps(where | line, sort_keys=True) + "\n")
                shown = f"{line['cpu_s']:8.2f} s of CPU  {line['peak_mib']:8.1f} MiB  x{line['faster']}"
                print(f"{name:14s} {line['implementation']:38s} {shown}")


if __name__ == "__main__":
    main()
