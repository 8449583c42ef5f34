"""Hybrid-spiking training (Voelker et al. 2020): activations as quantisers that carry their error through time."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import ClassVar

from torch import Tensor, nn

from picojoule.conversion import quantise
from picojoule.errors import BadInput, check_choice
from picojoule.experiment.method import Method, Progress
from picojoule.networks import SIGNALS, Definition, Network, build
from picojoule.networks.definition import check_signals
from picojoule.neurons import Diffused
from picojoule.neurons.diffused import check_fineness
from picojoule.neurons.fineness import HOLD, SCHEDULES, set_fineness


@dataclass(frozen=True)
class Hybrid(Method):
    """The ANN with `Diffused` neurons for its activations, trained while they turn from nearly analog to spiking.

    Of an LMU, LSTM or GRU the `signals` are quantised instead: h, u and m, as far as it has them.

    `fineness` is w at the end, the events per step and unit of activation, and `start_fineness` that at the start of
    the schedule: geometric, linear, fixed (w from the first step on), or none: the trained ANN is quantised as it is.
    `hold` is the last share of training, all at `fineness`.
    `activation` is relu, tanh or another of `picojoule.neurons.diffused.ACTIVATIONS`; `rounding` diffused, or a
    baseline without memory (stochastic, poisson, nearest); `gradient` spiking, or rate (trains the ANN, spikes in
    evaluation). `random_start` 1 draws the first error of every neuron, 0 starts at one half. `learn_fineness` 1 learns
    the w of each layer, from `fineness` on; a penalty says what it may cost, as in `bits-penalty+hybrid`.
    """

    fineness: float = 4.0
    start_fineness: float = 16.0
    schedule: str = "geometric"
    hold: float = HOLD
    activation: str = "relu"
    rounding: str = "diffused"
    gradient: str = "spiking"
    random_start: int = 1
    learn_fineness: int = 0
    signals: str = SIGNALS

    name: ClassVar[str] = "hybrid"
    listed: ClassVar[tuple[str, ...]] = ("fineness", "start_fineness", "schedule", "hold", "rounding", "signals")
    cite: ClassVar[tuple[str, ...]] = (
        "Voelker, Rasmussen, Eliasmith 2020, A Spike in Performance: Training Hybrid-Spiking Neural Networks with "
        "Quantized Activation Functions, arXiv 2002.03553",
    )

    def __post_init__(self) -> None:
        check_fineness(self.fineness)
        check_fineness(self.start_fineness)
        check_choice("schedule", self.schedule, (*SCHEDULES, "none"))
        if not HOLD <= self.hold < 1:
            raise BadInput(
                f"expected hold from {HOLD} (checkpoints are selected in that last share of training) to below 1, got "
                f"{self.hold}"
            )
        if self.schedule == "geometric" and not self.learn_fineness and self.start_fineness < self.fineness:
            raise BadInput(
                f"expected start_fineness of at least the fineness {self.fineness:g} for the geometric schedule, which "
                f"falls, got {self.start_fineness:g}; give a larger start_fineness or schedule fixed"
            )
        check_choice("random_start", self.random_start, (0, 1))
        check_choice("learn_fineness", self.learn_fineness, (0, 1))
        check_signals(self.signals)
        self._neurons(0)
        of_training = {"activation": "relu", "gradient": "spiking", "learn_fineness": 0}
        for option, default in of_training.items():
            if self.schedule == "none" and getattr(self, option) != default:
                raise BadInput(f"expected a schedule that trains for {option} {getattr(self, option)}, got none")

    @property
    def parent(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The ANN that is quantised, where no schedule trains."""
        return "ann" if self.schedule == "none" else None

    def build(self, definition: Definition) -> Network:
        seeds = count()
        return build(definition, lambda: self._neurons(next(seeds)))

    def on_progress(self, network: Network, progress: Progress) -> None:
        if not self.learn_fineness:
            w = SCHEDULES[self.schedule](progress.done, self.start_fineness, self.fineness, self.hold)
            set_fineness(network, w)

    def finish(self, network: Network, calibration: Sequence[Tensor], definition: Definition) -> Network:
        if self.schedule == "none":
            how = {"rounding": self.rounding, "random_start": bool(self.random_start), "signals": self.signals}
            steps = 1 if definition.recurrent else definition.timesteps
            return quantise(network, self.fineness, timesteps=steps, **how)
        deployed = copy.deepcopy(network)
        if not self.learn_fineness:
            set_fineness(deployed, self.fineness)
        return deployed

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        found = replace(super().definition(wanted, timesteps), signals=self.signals)
        if found.recurrent and self.activation != "relu":
            raise BadInput(f"expected no activation for {found.name}, which has its own, got {self.activation}")
        if found.recurrent and not found.name.startswith("lmu"):
            check_signals(self.signals, found.name)
        if found.recurrent or self.schedule != "none":
            return found
        return replace(found, encoder="constant-current", readout="mean")

    def _neurons(self, seed: int) -> nn.Module:
        return Diffused(
            self.activation,
            self.fineness,
            rounding=self.rounding,
            gradient=self.gradient,
            random_start=bool(self.random_start),
            learn_fineness=bool(self.learn_fineness),
            seed=seed,
        )
