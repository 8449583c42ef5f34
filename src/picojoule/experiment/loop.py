"""Train, in plain torch; one process or many under torchrun."""

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from picojoule.data import intensities
from picojoule.errors import FailedRun
from picojoule.execution import fused, recomputed
from picojoule.experiment.augment import AUGMENTATIONS
from picojoule.experiment.checkpoint import load_checkpoint, save_checkpoint
from picojoule.experiment.distributed import (
    any_process,
    barrier,
    parallel,
    rank,
    share_buffers,
    share_of,
    world_size,
)
from picojoule.experiment.evaluate import batch_of, evaluate
from picojoule.experiment.job import Job
from picojoule.experiment.method import Phase, Progress
from picojoule.experiment.optimiser import optimiser_for, share_of_rate
from picojoule.experiment.progress import Progressbar
from picojoule.graph import observe
from picojoule.kernels.saved import membranes_saved_in
from picojoule.networks.network import Network

CHECKPOINT_FILE = "checkpoint.pt"
CHECKPOINT_SECONDS = 300.0
SELECTION_WINDOW = 0.2
"""Checkpoints are selected by validation accuracy among the last fifth of a phase: a ramped penalty acts in
full only there, and the best accuracy of all epochs would pick an early, hungry one."""
SAME_ACCURACY = 0.001
"""Accuracies this close count as equal in that window: of such epochs the one with the fewest accumulates is kept."""
SPARE_ACCURACY = 0.01
"""Before that window the latest epoch whose validation accuracy is within this of the best so far is kept, for a run
that collapses before it gets there."""
PATIENCE = 3
"""A phase ends after so many epochs in which a whole layer was silent, if it had been alive before (our choice)."""


class OutOfTime(Exception):
    """The time limit was reached; the state is in the checkpoint."""


@dataclass
class _Position:
    """Everything a run needs to go on bit for bit, beside the tensors of model and optimiser."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    best_accuracy: float = -1.0
    selected_accuracy: float = -1.0
    selected_acs: float = math.inf
    seconds: float = 0.0
    in_window: bool = False
    selected: int = -1


class Trainer:
    """Trains the network of a job by its method, from the job's checkpoint if there is one.

    `run` raises OutOfTime at the setting's deadline after writing the checkpoint, and FailedRun if the loss or a
    weight is no number.
    """

    def __init__(self, job: Job, network: Network, bar: Progressbar):
        setting = job.setting
        training = setting.training
        assert training.epochs and training.batch_size, "open settings are decided before a run"
        self._job, self._network, self._bar = job, network, bar
        self._method, self._data, self._training, self._device = job.method, setting.data, training, setting.device
        self._phases, self._batch_size = job.method.phases(training.epochs), training.batch_size
        self._path = job.folder / CHECKPOINT_FILE
        self._at = _Position()
        self._best: dict[str, Tensor] = {}
        self._history: list[dict[str, float]] = []
        self._sums: dict[str, float] = {}
        self._started = self._saved = time.monotonic()
        example = intensities(self._data.train.images[:1], self._data.scale).to(self._device)
        observed = observe(network, example, self._data.inputs)
        self._observed = self._compiled(fused(observed, pools=not self._method.keeps_trains()))
        self._model = parallel(self._trained(self._observed), self._device)
        self._optimiser = optimiser_for(network, training)

    def _trained(self, observed: nn.Module) -> nn.Module:
        """What training calls."""
        model = observed if self._method.observes else self._compiled(fused(self._network))
        return recomputed(model) if self._training.recompute else model

    def _compiled(self, model: Any) -> Any:
        """The model itself unless asked otherwise; each shape compiled for itself, so that a run can be repeated."""
        return torch.compile(model, dynamic=False) if self._training.compile else model

    def _membranes(self) -> AbstractContextManager[None]:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(self._training.save_membranes or "")
        return nullcontext() if dtype is None else membranes_saved_in(dtype)

    def run(self) -> tuple[Network, list[dict[str, float]], float]:
        """The network at the selected checkpoint, the history of the epochs, and the seconds spent."""
        self._restore()
        for phase_number in range(self._at.phase, len(self._phases)):
            phase = self._phases[phase_number]
            if self._at.epoch == 0 and self._at.step == 0:
                self._begin(phase_number, phase)
            for epoch in range(self._at.epoch, phase.epochs):
                if self._has_collapsed(phase_number):
                    break
                progress = Progress(phase_number, epoch, phase.epochs, phase.terms)
                self._epoch(phase, progress)
                self._close_epoch(phase, progress)
            self._at.phase, self._at.epoch = phase_number + 1, 0
        if len(self._history) > PATIENCE and not self._was_alive():
            self._warn("a layer was silent from the first epoch to the last")
        if self._best:
            self._network.load_state_dict(self._best)
            self._history[self._at.selected]["selected"] = 1.0
        return self._network, self._history, self._seconds()

    def _begin(self, number: int, phase: Phase) -> None:
        if number and phase.start == "best":
            self._network.load_state_dict(self._best)
        if number:
            self._optimiser = optimiser_for(self._network, self._training)
        self._at.best_accuracy, self._at.in_window = -1.0, False
        self._at.selected_accuracy, self._at.selected_acs = -1.0, math.inf

    def _epoch(self, phase: Phase, progress: Progress) -> None:
        batches = self._batches(progress)
        if self._at.step == len(batches):  # a run that was cut behind the last step: validation sees what that step saw
            self._method.on_progress(self._network, self._now(progress, len(batches)))
        self._model.train()
        while self._at.step < len(batches):
            rows = batches[self._at.step]
            progress = self._now(progress, len(batches))
            self._method.on_progress(self._network, progress)
            self._set_rate(phase, progress)
            with self._membranes():
                self._step(rows, phase, progress)
            self._at.step += 1
            self._bar.advance(progress, self._at.step, len(batches), self._sums)
            self._save_if_due()

    def _batches(self, progress: Progress) -> list[Tensor]:
        """Row numbers of every global batch of this epoch; the order depends on seed and epoch alone."""
        order = torch.Generator().manual_seed(self._job.seed * 1_000_003 + progress.phase * 10_007 + progress.epoch)
        rows = torch.randperm(len(self._data.train.labels), generator=order)
        batches = list(rows.split(self._batch_size))
        smallest = 2 * world_size()  # batch norm needs two samples in every process
        return batches[:-1] if len(batches) > 1 and len(batches[-1]) < smallest else batches

    def _now(self, progress: Progress, steps: int) -> Progress:
        """The progress before the next step of an epoch that has so many, or before its last."""
        step = min(self._at.step, steps - 1)
        return progress._replace(done=(progress.epoch * steps + step) / (progress.epochs * steps))

    def _set_rate(self, phase: Phase, progress: Progress) -> None:
        rate = self._training.lr * phase.lr_scale * share_of_rate(self._training, progress.done)
        for group in self._optimiser.param_groups:
            group["lr"] = rate

    def _step(self, rows: Tensor, phase: Phase, progress: Progress) -> None:
        own = share_of(rows)
        x, y = batch_of(self._data.train, own, self._data.scale, self._device, self._training.channels_last)
        if self._training.augment in AUGMENTATIONS:
            x = AUGMENTATIONS[self._training.augment](x, self._chance(progress))
        bf16 = self._training.precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bf16):
            output = self._model(x)
            output, activity = output if self._method.observes else (output, None)
        terms = self._method.loss(output, y, activity, progress)
        everything = torch.stack([term.double() for term in terms.values()]).sum()
        if phase.terms is not None:
            terms = {name: term for name, term in terms.items() if name in phase.terms}
        loss = torch.stack([term.double() for term in terms.values()]).sum()
        if world_size() > 1 and phase.terms is not None:
            loss = loss + 0 * everything  # processes wait for the gradient of every parameter
        if any_process(not math.isfinite(float(loss.detach()))):
            where = f"epoch {progress.epoch + 1}, step {self._at.step + 1}"
            raise self._failed(f"the loss became {float(loss.detach())} in {where}")
        self._optimiser.zero_grad()
        # Processes average gradients of means: the weight makes unequal shares one global mean.
        (loss * (len(own) * world_size() / len(rows))).backward()
        if self._training.clip is not None:
            nn.utils.clip_grad_norm_(self._network.parameters(), self._training.clip)
        self._optimiser.step()
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(term.detach())

    def _chance(self, progress: Progress) -> torch.Generator:
        """Chance for one step of this process, the same whenever the step is done."""
        step = hash((self._job.seed, progress.phase, progress.epoch, self._at.step, rank()))
        return torch.Generator().manual_seed(step % 2**63)

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
        row |= {f"silent_{h.name}": h.silent_fraction for h in report.health}
        silent = [h.name for h in report.health if h.silent_fraction == 1]
        if silent:
            row["collapsed"] = 1.0
        fallen = bool(silent) and self._was_alive() and self._method.silence_ends
        if fallen and "collapsed" not in self._history[-1]:
            self._warn(f"{', '.join(silent)} fell silent in epoch {progress.epoch + 1}")
        self._history.append(row)
        if not fallen:
            self._select(phase, progress, accuracy, row["validation_acs"])
        self._sums = {}
        self._at.step = 0
        self._at.epoch = progress.epoch + 1
        self._save()
        self._bar.close_epoch(progress, row)

    def _select(self, phase: Phase, progress: Progress, accuracy: float, acs: float) -> None:
        """Keep these weights if they are the best of the phase: SELECTION_WINDOW, SAME_ACCURACY, SPARE_ACCURACY."""
        at, opens = self._at, math.floor(phase.epochs * (1 - SELECTION_WINDOW))
        in_window = progress.epoch >= opens or progress.epoch + 1 == phase.epochs
        if in_window and not at.in_window:  # what was kept before was for want of these
            at.best_accuracy, at.selected_accuracy, at.selected_acs = 0.0, -1.0, math.inf
        at.best_accuracy = max(at.best_accuracy, accuracy)
        if accuracy < at.best_accuracy - (SAME_ACCURACY if in_window else SPARE_ACCURACY):
            return
        better = accuracy > at.selected_accuracy + SAME_ACCURACY
        cheaper = (acs, -accuracy) <= (at.selected_acs, -at.selected_accuracy)
        if in_window and not (better or cheaper):
            return
        at.selected_accuracy, at.selected_acs = accuracy, acs
        at.in_window, at.selected = in_window, len(self._history) - 1
        self._best = {k: v.detach().clone() for k, v in self._network.state_dict().items()}

    def _has_collapsed(self, phase: int) -> bool:
        """Whether a network that was alive had a silent layer through the last epochs, all of this phase."""
        last = [row for row in self._history[-PATIENCE:] if row["phase"] == phase and "collapsed" in row]
        return len(last) == PATIENCE and self._was_alive() and self._method.silence_ends

    def _was_alive(self) -> bool:
        """Whether there was an epoch without a silent layer."""
        return any("collapsed" not in row for row in self._history)

    def _warn(self, what: str) -> None:
        if rank() == 0:
            self._bar.warn(f"{what}; try a lower --strength or a floor")

    def _seconds(self) -> float:
        return self._at.seconds + time.monotonic() - self._started

    def _save_if_due(self) -> None:
        now = time.monotonic()
        out_of_time = any_process(now >= self._job.setting.deadline)
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
                    "fingerprint": self._job.fingerprint,
                    "at": list(astuple(replace(at, seconds=self._seconds()))),
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
        state = load_checkpoint(self._path, self._job.fingerprint)
        if state is None:
            return
        self._network.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best = {k: v.to(self._device) for k, v in state["best"].items()}
        self._history, self._sums = state["history"], state["sums"]
        self._at = _Position(*state["at"])
        torch.set_rng_state(state["random"])


def seed_everything(seed: int) -> None:
    """Seed torch and ask for deterministic algorithms."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
