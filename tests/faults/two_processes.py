"""What a process of a group does in `test_distributed.py`: `python two_processes.py JOB OUT`.

Alone (no WORLD_SIZE in the environment) it does the same work as the whole group.
"""

import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from picojoule.data import intensities, limited, load
from picojoule.experiment import evaluate, loop
from picojoule.experiment.config import Training
from picojoule.experiment.distributed import join_processes, leave_processes, rank
from picojoule.experiment.job import Job, Setting
from picojoule.experiment.method import Method, Phase, Progress
from picojoule.experiment.progress import Progressbar
from picojoule.graph import observe
from picojoule.methods import make
from picojoule.networks import Definition

CPU = torch.device("cpu")
BATCHES = {"even": 12, "uneven": 13, "three": 3}
METHODS: dict[str, Method] = {
    "plain": make("plain"),
    "penalty": make("synaptic-penalty", 50.0),
    "penalty-p2": make("synaptic-penalty", 50.0, {"p": "2"}),
}


def trainer(method: Method, name: str, out: Path) -> loop.Trainer:
    """A trainer in float64 with frozen batch norm, at its first step."""
    torch.manual_seed(0)
    definition = Definition(name, (1, 8, 8), 10, 3, "avg")
    network = method.build(definition).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_var is not None
            module.running_var.fill_(0.02)  # frozen, it has to bring the currents up to the threshold
    training = Training(network=name, timesteps=3).decided()
    data = limited(load("digits"), train=64)
    bar = Progressbar("", quiet=True)
    made = loop.Trainer(Job(Setting(data, training, "avg", out, CPU), method, 0), network, bar)
    made._model.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    return made


def gradients(out: Path) -> dict[str, Tensor]:
    """Gradients of one step for every method and batch."""
    found = {}
    for label, method in METHODS.items():
        for batch, size in BATCHES.items():
            at = trainer(method, "small-cnn", out)
            at._step(torch.arange(size), Phase(2), Progress(0, 0, 2))
            for key, parameter in at._network.named_parameters():
                assert parameter.grad is not None
                found[f"{label} {batch} {key}"] = parameter.grad.clone()
    return found


def counts(out: Path) -> dict[str, Tensor]:
    """Everything `evaluate` reports, for a split that halves and one that does not."""
    found = {}
    for size in (360, 301):
        data = limited(load("digits"), test=size)
        at = trainer(METHODS["penalty"], "small-cnn", out)
        observed = observe(at._network, intensities(data.test.images[:1], data.scale, torch.float64))
        report = evaluate.evaluate(observed, data.test, data, CPU, ["horowitz-45nm-fp32-sram"])
        c = report.counts
        numbers = [c.samples, report.accuracy, report.silent_fraction, *c.updates.values()]
        numbers += [*report.energy_pj["horowitz-45nm-fp32-sram"], *(h.rate for h in report.health)]
        found |= {f"{size} sums": c.sums, f"{size} squares": c.squares, f"{size} totals": c.total_squares}
        found[f"{size} numbers"] = torch.tensor(numbers, dtype=torch.float64)
    return found


def main(job: str, out: Path) -> None:
    torch.set_num_threads(1)
    evaluate.intensities = loop.intensities = partial(intensities, dtype=torch.float64)
    join_processes(CPU)
    try:
        found = {"gradients": gradients, "counts": counts}[job](out)
        torch.save(found, out / f"{job}-{rank()}.pt")
    finally:
        leave_processes()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
