"""The LMU at the size of psMNIST (784 steps, order 256, 212 hidden units): its forms side by side in one process.

One thread. Rounds are interleaved, and each time is the median over rounds of the seconds of CPU time, which other
processes disturb less than the clock. A training step is forward and backward of one batch of 100. Peak memory is what
one such step adds, in a fresh process each. Writes one JSON line per implementation to results/lmu-speed.jsonl:

    python benchmarks/lmu.py [--rounds 5]
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picojoule.cells import LMU, LegendreMemory, lmu
from picojoule.experiment.record import provenance
from picojoule.kernels.lmu import memory
from picojoule.networks import Definition, build
from picojoule.neurons import Diffused

ROOT = Path(__file__).parent.parent
STEPS, ORDER, HIDDEN, BATCH = 784, 256, 212, 100
CHUNKS = (8, 16, 28)
STATES = (1, 8, 32, 100)
"""Batches for which all states are found, without gradients."""

Run = Callable[[], object]


class Case(NamedTuple):
    """Implementations of one thing, in order; ratios are to the first, `target` is what the best should reach."""

    name: str
    make: Callable[[], dict[str, Run]]
    target: float | None = None


def plain_loop(cell: LMU, x: Tensor) -> Tensor:
    """The cell as one would write it in torch: the last h."""
    ad, bd = cell.memory.matrices()
    assert cell.e_h is not None and cell.e_m is not None
    h, m = x.new_zeros(x.shape[1], HIDDEN), x.new_zeros(x.shape[1], ORDER)
    for now in x.unbind(0):
        u = cell.e_x(now) + cell.e_h(h) + cell.e_m(m)
        m = F.linear(m, ad) + F.linear(u, bd)
        h = torch.tanh(cell.W_x(now) + cell.W_h(h) + cell.W_m(m))
    return h


def recurrent() -> dict[str, Run]:
    cell, x = LMU(1, HIDDEN, LegendreMemory(ORDER, STEPS), last=True), torch.rand(STEPS, BATCH, 1)

    def in_chunks(steps: int) -> None:
        lmu.CHUNK = steps
        cell(x).sum().backward()

    runs: dict[str, Run] = {"plain torch loop": lambda: plain_loop(cell, x).sum().backward()}
    return runs | {f"chunks of {k}": lambda k=k: in_chunks(k) for k in CHUNKS}


def quantised() -> dict[str, Run]:
    x = torch.rand(STEPS, BATCH, 1)

    def step(signals: str) -> Run:
        spikes: dict[str, Any] = {f"spike_{s}": Diffused("identity", 4.0) for s in signals}
        cell = LMU(1, HIDDEN, LegendreMemory(ORDER, STEPS), last=True, **spikes)
        return lambda: cell(x).sum().backward()

    return {", ".join(signals) or "no signal": step(signals) for signals in ("", "hu", "hum")}


def last_state() -> dict[str, Run]:
    x = torch.rand(STEPS, BATCH, 1)
    e_x, w_m = nn.Linear(1, 1, bias=False), nn.Linear(ORDER, HIDDEN)
    every, last = (LegendreMemory(ORDER, STEPS, last=last) for last in (False, True))

    def step(held: LegendreMemory) -> None:
        torch.tanh(w_m(held(e_x(x))[-1])).sum().backward()

    return {"all states": lambda: step(every), "last state": lambda: step(last)}


def states(batch: int) -> dict[str, Run]:
    u, held = torch.rand(STEPS, batch, 1), LegendreMemory(ORDER, STEPS)
    m, matrices = torch.zeros(batch, 1, ORDER), held.matrices()
    ad, bd = matrices
    powers = {k: held.powers(k, matrices) for k in CHUNKS}
    runs: dict[str, Run] = {"loop": lambda: memory.by_loop(u, m, ad, bd), "fft": lambda: memory.by_fft(u, ad, bd)}
    return runs | {f"scan of {k}": lambda k=k: memory.by_scan(u, m, powers[k], bd) for k in CHUNKS}


def networks() -> dict[str, Run]:
    x = torch.rand(BATCH, STEPS, 1)

    def network(name: str) -> nn.Module:
        return build(Definition(name, (1,), 10, STEPS, encoder="none", readout="last-step"), nn.ReLU)

    made = {name: network(name) for name in ("lstm", "gru", "lmu")}
    return {name: lambda net=net: net(x).sum().backward() for name, net in made.items()}


CASES = (
    Case("recurrent LMU, training step", recurrent, 1.5),
    Case("recurrent LMU with quantised signals, training step", quantised),
    Case("feed-forward LMU, training step", last_state, 50),
    *(Case(f"all states of the memory, batch {batch}", lambda batch=batch: states(batch)) for batch in STATES),
    Case("networks of equal size, training step", networks),
)


def seconds(run: Run) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def _peak(case: int, name: str) -> float:
    """MiB that one run adds to a process (Linux)."""
    torch.set_num_threads(1)
    run = CASES[case].make()[name]
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak, which a new process has from its parent
    run()
    return _resident("VmHWM") - before


def _resident(which: str) -> float:
    """MiB, as Linux counts them."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{which}:")[1].split()[0]) / 1024


def measured(number: int, case: Case, rounds: int) -> list[dict[str, object]]:
    torch.manual_seed(0)
    runs = case.make()
    grad = case.name.startswith("all states")
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.set_grad_enabled(not grad):
        for run in runs.values():
            run()
        for _ in range(rounds):
            for name, run in runs.items():
                times[name].append(seconds(run))
    medians = {name: statistics.median(found) for name, found in times.items()}
    first = next(iter(medians.values()))
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        peaks = {name: fresh.apply(_peak, (number, name)) for name in runs}
    return [
        {
            "benchmark": "lmu",
            "case": case.name,
            "implementation": name,
            "cpu_s": round(median, 5),
            "min_s": round(min(times[name]), 5),
            "faster": round(first / median, 3),
            "target": case.target,
            "peak_mib": round(peaks[name], 1),
            "rounds": rounds,
            "threads": torch.get_num_threads(),
        }
        for name, median in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "lmu-speed.jsonl")
    given = parser.parse_args()
    torch.set_num_threads(1)
    where = provenance(torch.device("cpu"))
    with given.out.open("w", encoding="utf-8") as out:
        for number, case in enumerate(CASES):
            for line in measured(number, case, given.rounds):
                out.write(json.dumps(where | line, sort_keys=True) + "\n")
                print(f"{line['case']:40s} {line['implementation']:18s} {line['cpu_s']:9.4f} s  x{line['faster']}")


if __name__ == "__main__":
    main()
