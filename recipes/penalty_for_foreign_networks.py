"""Train networks of snnTorch and SpikingJelly, unchanged, with the synaptic penalty, on the digits.

`pj.meter` watches the model while it runs; the penalty is made of what it counts, so the number that is trained on is
the number that `pj.measure` reports afterwards. Run it in the environment of `make peers`; one JSON line per
run goes to results/foreign-penalty.jsonl:

    .peers/bin/python recipes/penalty_for_foreign_networks.py
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import picojoule as pj
from picojoule.data import intensities, load
from picojoule.energy.penalties import dense_accumulates
from picojoule.experiment.record import energy_fields, provenance

ROOT = Path(__file__).parent.parent
STEPS, STRENGTHS = 8, (0.0, 0.1, 0.3, 1.0)


class SnnTorch(nn.Module):
    """As in the tutorials: leaky neurons, membranes passed along, a loop over time."""

    def __init__(self) -> None:
        super().__init__()
        snn: Any = import_module("snntorch")
        grad = import_module("snntorch.surrogate").fast_sigmoid(slope=5)
        self.conv, self.lif1 = nn.Conv2d(1, 16, 3, padding=1), snn.Leaky(beta=0.8, spike_grad=grad)
        self.fc1, self.lif2 = nn.Linear(16 * 16, 64), snn.Leaky(beta=0.8, spike_grad=grad)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        total = x.new_zeros(len(x), 10)
        for _ in range(STEPS):
            spikes, mem1 = self.lif1(self.conv(x), mem1)
            spikes, mem2 = self.lif2(self.fc1(F.max_pool2d(spikes, 2).flatten(1)), mem2)
            total = total + self.fc2(spikes)
        return total / STEPS


class SpikingJelly(nn.Module):
    """Multi-step layers; the neurons keep their state inside until they are reset."""

    def __init__(self) -> None:
        super().__init__()
        base = "spikingjelly.activation_based."
        layer, neuron = import_module(base + "layer"), import_module(base + "neuron")
        self.functional: Any = import_module(base + "functional")
        self.body = nn.Sequential(
            layer.Conv2d(1, 16, 3, padding=1),
            neuron.LIFNode(tau=2.0, v_threshold=0.25, detach_reset=True),
            layer.MaxPool2d(2),
            layer.Flatten(),
            layer.Linear(16 * 16, 64),
            neuron.LIFNode(tau=2.0, v_threshold=0.25, detach_reset=True),
            layer.Linear(64, 10),
        )
        self.functional.set_step_mode(self.body, "m")

    def forward(self, x: Tensor) -> Tensor:
        self.functional.reset_net(self.body)
        return self.body(x.expand(STEPS, *x.shape)).mean(0)


MODELS: dict[str, Callable[[], nn.Module]] = {"snntorch": SnnTorch, "spikingjelly": SpikingJelly}


def train(model: nn.Module, images: Tensor, labels: Tensor, strength: float, epochs: int, seed: int) -> None:
    """Adam with a cosine schedule; the penalty is ramped up over the epochs."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    model.train()
    with pj.meter(model) as meter:
        for epoch in range(epochs):
            for rows in torch.randperm(len(labels), generator=generator).split(64):
                loss = F.cross_entropy(model(images[rows]), labels[rows])
                activity = meter.activity()
                if strength:
                    weight = strength * (epoch + 1) / epochs / dense_accumulates(activity)
                    loss = loss + weight * pj.synaptic_penalty(activity)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            schedule.step()


def run(library: str, strength: float, seed: int, epochs: int) -> dict[str, Any]:
    """One trained and measured network, as a record."""
    started = time.monotonic()
    data = load("digits")
    torch.manual_seed(seed)
    model = MODELS[library]()
    train(model, intensities(data.train.images, data.scale), data.train.labels, strength, epochs, seed)
    test = intensities(data.test.images, data.scale), data.test.labels
    report = pj.measure(model, [test], ("horowitz-45nm-fp32", "horowitz-45nm-fp32-sram"), strict=True)
    return {
        **provenance(torch.device("cpu")),
        "method": "synaptic-penalty" if strength else "plain",
        "network": f"{library} CNN",
        "dataset": "digits",
        "seed": seed,
        "strength": strength or None,
        "hardware": "horowitz-45nm-fp32",
        "split": "test",
        "split_note": data.split_note,
        "epochs": epochs,
        **energy_fields(report),
        "wall_s": round(time.monotonic() - started, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "foreign-penalty.jsonl")
    given = parser.parse_args()
    provenance(torch.device("cpu"))  # reads the commit once, before the file of results is changed
    with given.out.open("w", encoding="utf-8") as out:
        for library in MODELS:
            for strength in STRENGTHS:
                for seed in map(int, given.seeds.split(",")):
                    record = run(library, strength, seed, given.epochs)
                    out.write(json.dumps(record, sort_keys=True) + "\n")
                    out.flush()
                    print(
                        f"{library:12s} strength {strength:<4g} seed {seed}: accuracy {record['accuracy']:.4f}, "
                        f"{record['acs']:,.0f} ACs, {record['macs']:,.0f} MACs, {record['wall_s']} s"
                    )


if __name__ == "__main__":
    main()
