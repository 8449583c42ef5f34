"""Train and evaluate, in plain torch; one process or many under torchrun."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from picojoule.data import Dataset, Split, intensities
from picojoule.energy.measure import EnergyReport, Tally
from picojoule.errors import FailedRun
from picojoule.experiment.checkpoint import load_checkpoint, save_checkpoint
from picojoule.experiment.config import Training
from picojoule.experiment.distributed import (
    any_process,
    barrier,
    parallel,
    rank,
    reduce_tally,
    share_buffers,
    share_of,
    world_size,
)
from picojoule.experiment.method import Method, Phase, Progress
from picojoule.experiment.progress import Progressbar
from picojoule.graph import Observed, observe
from picojoule.graph.shapes import evaluating
from picojoule.networks.network import Network

CHECKPOINT_FILE = "checkpoint.pt"
CHECKPOINT_SECONDS = 300.0
EVALUATION_BATCH = 256
SELECTION_WINDOW = 0.2
"""Checkpoints are selected by validation accuracy among the last fifth of a phase: a ramped penalty acts in
full only there, and the best accuracy of all epochs would pick an early, hungry one."""


class OutOfTime(Exception):
    """The time limit was reached; the state is in the checkpoint."""


@dataclass
class _Position:
    """Everything a run needs to go on bit for bit, beside the tensors of model and optimiser."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    best_accuracy: float = -1.0
    seconds: float = 0.0


def train(
    method: Method,
    network: Network,
    data: Dataset,
    training: Training,
    seed: int,
    folder: Path,
    fingerprint: str,
    *,
    device: torch.device,
    deadline: float = math.inf,
    bar: Progressbar,
) -> tuple[Network, list[dict[str, float]], float]:
    """Train `network` by `method`; returns it at the selected checkpoint, its history, and the seconds spent.

    Goes on from `folder/checkpoint.pt` if there is one of the same `fingerprint`. Raises OutOfTime at
    `deadline` (in `time.monotonic()` seconds) after writing the checkpoint, FailedRun if the loss becomes NaN.
    """
    return _Trainer(
        method, network, data, training, seed, folder / CHECKPOINT_FILE, fingerprint, device, deadline, bar
    ).run()


class _Trainer:
    def __init__(
        self,
        method: Method,
        network: Network,
        data: Dataset,
        training: Training,
        seed: int,
        path: Path,
        fingerprint: str,
        device: torch.device,
        deadline: float,
        bar: Progressbar,
    ):
        self._method, self._network, self._data, self._training = method, network, data, training
        self._seed, self._path, self._fingerprint, self._device = seed, path, fingerprint, device
        self._deadline, self._bar = deadline, bar
        assert training.epochs and training.batch_size, "open settings are decided before a run"
        self._phases, self._batch_size = method.phases(training.epochs), training.batch_size
        self._at = _Position()
        self._best: dict[str, Tensor] = {}
        self._history: list[dict[str, float]] = []
        self._sums: dict[str, float] = {}
        self._started = self._saved = time.monotonic()
        example = intensities(data.train.images[:1], data.scale).to(device)
        self._observed = observe(network, example)
        whole: nn.Module = self._observed if method.observes else network
        self._model = parallel(whole, device)
        self._optimiser = torch.optim.Adam(network.parameters(), training.lr)

    def run(self) -> tuple[Network, list[dict[str, float]], float]:
        self._restore()
        for phase_number in range(self._at.phase, len(self._phases)):
            phase = self._phases[phase_number]
            if self._at.epoch == 0 and self._at.step == 0:
                self._begin(phase_number, phase)
            for epoch in range(self._at.epoch, phase.epochs):
                progress = Progress(phase_number, epoch, phase.epochs)
                self._method.on_progress(self._network, progress)
                self._epoch(phase, progress)
                self._close_epoch(phase, progress)
            self._at.phase, self._at.epoch = phase_number + 1, 0
        if self._best:
            self._network.load_state_dict(self._best)
        return self._network, self._history, self._seconds()

    def _begin(self, number: int, phase: Phase) -> None:
        if number and phase.start == "best":
            self._network.load_state_dict(self._best)
        if number:
            self._optimiser = torch.optim.Adam(self._network.parameters(), self._training.lr)
        self._at.best_accuracy = -1.0

    def _epoch(self, phase: Phase, progress: Progress) -> None:
        batches = self._batches(progress)
        self._model.train()
        while self._at.step < len(batches):
            rows = batches[self._at.step]
            self._set_rate(phase, progress, len(batches))
            self._step(rows, phase, progress)
            self._at.step += 1
            self._bar.advance(progress, self._at.step, len(batches), self._sums)
            self._save_if_due()

    def _batches(self, progress: Progress) -> list[Tensor]:
        """Row numbers of every global batch of this epoch; the order depends on seed and epoch alone."""
        order = torch.Generator().manual_seed(self._seed * 1_000_003 + progress.phase * 10_007 + progress.epoch)
        rows = torch.randperm(len(self._data.train.labels), generator=order)
        batches = list(rows.split(self._batch_size))
        smallest = 2 * world_size()  # batch norm needs two samples in every process
        return batches[:-1] if len(batches) > 1 and len(batches[-1]) < smallest else batches

    def _set_rate(self, phase: Phase, progress: Progress, steps: int) -> None:
        done = (progress.epoch * steps + self._at.step) / (phase.epochs * steps)
        rate = self._training.lr * phase.lr_scale * (1 + math.cos(math.pi * done)) / 2
        for group in self._optimiser.param_groups:
            group["lr"] = rate

    def _step(self, rows: Tensor, phase: Phase, progress: Progress) -> None:
        own = share_of(rows)
        x, y = batch_of(self._data.train, own, self._data.scale, self._device, self._training.channels_last)
        bf16 = self._training.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bf16):
            output = self._model(x)
            output, activity = output if self._method.observes else (output, None)
        terms = self._method.loss(output, y, activity, progress)
        if phase.terms is not None:
            terms = {name: term for name, term in terms.items() if name in phase.terms}
        loss = torch.stack([term.double() for term in terms.values()]).sum()
        if any_process(not math.isfinite(float(loss.detach()))):
            where = f"epoch {progress.epoch + 1}, step {self._at.step + 1}"
            raise self._failed(f"the loss became {float(loss.detach())} in {where}")
        self._optimiser.zero_grad()
        # Processes average gradients of means: the weight makes unequal shares one global mean.
        (loss * (len(own) * world_size() / len(rows))).backward()
        self._optimiser.step()
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(term.detach())

    def _failed(self, what: str) -> FailedRun:
        kept = f"the last good checkpoint is kept at {self._path}" if self._path.exists() else "nothing was kept yet"
        return FailedRun(f"{what}; {kept}; try a lower --lr or --strength")

    def _close_epoch(self, phase: Phase, progress: Progress) -> None:
        steps = self._at.step
        share_buffers(self._network)
        report = evaluate(self._observed, self._data.validation, self._data, self._device, [])
        accuracy = report.accuracy or 0.0
        row = {f"loss_{name}": value / steps for name, value in self._sums.items()}
        row |= {"phase": progress.phase, "epoch": progress.epoch + 1, "validation_accuracy": accuracy}
        row |= {
            "validation_acs": float(report.counts.total("acs")),
            "silent_fraction": report.silent_fraction,
        }
        self._history.append(row)
        in_window = progress.epoch + 1 > phase.epochs * (1 - SELECTION_WINDOW) or progress.epoch + 1 == phase.epochs
        if in_window and accuracy >= self._at.best_accuracy:
            self._at.best_accuracy = accuracy
            self._best = {k: v.detach().clone() for k, v in self._network.state_dict().items()}
        self._sums = {}
        self._at.step = 0
        self._at.epoch = progress.epoch + 1
        self._save()
        self._bar.close_epoch(progress, row)

    def _seconds(self) -> float:
        return self._at.seconds + time.monotonic() - self._started

    def _save_if_due(self) -> None:
        now = time.monotonic()
        out_of_time = any_process(now >= self._deadline)
        if out_of_time or any_process(now - self._saved > CHECKPOINT_SECONDS):
            self._save()
        if out_of_time:
            raise OutOfTime

    def _save(self) -> None:
        if any_process(not all(bool(p.isfinite().all()) for p in self._network.parameters())):
            raise self._failed(f"the weights are no numbers after epoch {self._at.epoch}, step {self._at.step}")
        self._saved = time.monotonic()
        if rank() == 0:
            at = self._at
            save_checkpoint(
                self._path,
                {
                    "fingerprint": self._fingerprint,
                    "at": [at.phase, at.epoch, at.step, at.best_accuracy, self._seconds()],
                    "model": self._network.state_dict(),
                    "optimiser": self._optimiser.state_dict(),
                    "best": self._best,
                    "history": self._history,
                    "sums": self._sums,
                    "random": torch.get_rng_state(),
                },
            )
        barrier()

    def _restore(self) -> None:
        state = load_checkpoint(self._path, self._fingerprint)
        if state is None:
            return
        self._network.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best = {k: v.to(self._device) for k, v in state["best"].items()}
        self._history, self._sums = state["history"], state["sums"]
        phase, epoch, step, best, seconds = state["at"]
        self._at = _Position(int(phase), int(epoch), int(step), best, seconds)
        torch.set_rng_state(state["random"])


def evaluate(
    observed: Observed, split: Split, data: Dataset, device: torch.device, hardware: list[str]
) -> EnergyReport:
    """Accuracy, counts, energy and neuron health over a split, in float32 and evaluation mode.

    Under torchrun every process takes a part and all of them return the report of the whole.
    """
    tally = Tally()
    with torch.no_grad(), evaluating(observed):
        for rows in share_of(torch.arange(len(split.labels))).split(EVALUATION_BATCH):
            x, y = batch_of(split, rows, data.scale, device)
            output, activity = observed(x)
            tally.add(activity, output, y)
    reduce_tally(tally)
    return tally.report(observed, hardware)


def batch_of(
    split: Split, rows: Tensor, scale: int, device: torch.device, channels_last: bool = True
) -> tuple[Tensor, Tensor]:
    """Intensities `[B, C, H, W]` in [0, 1] and labels `[B]` of some rows, on the device."""
    x = intensities(split.images[rows].to(device), scale)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    return x, split.labels[rows].to(device)


def calibration_batches(data: Dataset, device: torch.device, samples: int = 1000) -> Iterator[Tensor]:
    """The first `samples` training images in batches of 100, as intensities."""
    for rows in torch.arange(min(samples, len(data.train.labels))).split(100):
        yield batch_of(data.train, rows, data.scale, device)[0]


def seed_everything(seed: int) -> None:
    """Seed torch and ask for deterministic algorithms."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
