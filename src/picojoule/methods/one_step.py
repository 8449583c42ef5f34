"""One time step: networks whose neurons hand their membranes on from window to window within it."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from picojoule.errors import BadInput, about, check_choice
from picojoule.experiment.method import Method, Phase, Progress, task_loss
from picojoule.graph import Activity
from picojoule.kernels.surrogate import open_rectangle
from picojoule.kernels.window_rules import ENCODERS, STITCHES
from picojoule.networks import Definition, Mixer, Network, Windows, build
from picojoule.neurons import LIF, WindowNeuron

WINDOWS = 4
"""Those of mixers, and of networks that take windows, unless told otherwise: 2 x 2 (published for mixers)."""
MIXERS_ALONE = ("stitch", "coding", "overlap", "mixer")
"""Options that say nothing in other networks."""
LATER_RATE = 0.5
"""The learning rate of a schedule's later phases, as a share of the first one's (our choice)."""


@dataclass(frozen=True)
class OneStep(Method):
    """Networks trained in a single step in which membranes are handed on from window to window.

    The published mixers, and in our general form any network: CNNs (a square number of `windows` on every map) and
    spiking-rnn (`windows` of rows of an image). `projection` merges what is handed on; `windows` 1 hands nothing on.
    Left open they are 4 where a network takes windows, else 1. `relu_twin` puts ReLU in the place of every spike; its
    windows are those of mixers, else 1, for ReLUs hand nothing on. `decay` and `threshold` are those of the neurons,
    learned if asked. `label_smoothing` acts in training. `schedule` is the time steps of the phases of training, such
    as 4,2,1, each from the weights of the one before; without it training has the time steps of the network all along.

    For mixers alone: `stitch` and `overlap` of windows, `coding` of a window as spikes, `mixer` off to leave them out.
    `definition` raises BadInput for them in other networks.
    """

    name: ClassVar[str] = "one-step"
    cite: ClassVar[tuple[str, ...]] = (
        "Yao, Wu, Chen, Zhang 2023, Training a General Spiking Neural Network with Improved Efficiency and Minimum "
        "Latency, ACML 2023, PMLR 222, arXiv 2401.10843",
    )
    silence_ends: ClassVar[bool] = False  # a mixer's stream and MLPs go on, and its last stage starts almost silent
    listed: ClassVar[tuple[str, ...]] = (
        *("projection", "windows", "stitch", "coding", "overlap", "mixer", "relu_twin"),
        *("learn_threshold", "learn_decay", "decay", "threshold", "label_smoothing"),
    )

    projection: str = "sincos"
    windows: int | None = None
    stitch: str = "mean"
    coding: str = "bernoulli"
    overlap: bool = True
    mixer: bool = True
    relu_twin: bool = False
    learn_threshold: bool = False
    learn_decay: bool = False
    decay: float = 0.4
    threshold: float = 0.5
    label_smoothing: float = 0.1
    schedule: str = ""

    def __post_init__(self) -> None:
        check_choice("stitch", self.stitch, STITCHES)
        check_choice("coding", self.coding, ENCODERS)
        if not 0 <= self.label_smoothing < 1:
            raise BadInput(f"expected label_smoothing from 0 to 1, got {self.label_smoothing}")
        self.neuron()
        Windows(WINDOWS if self.windows is None else self.windows, self.projection)
        self._steps()

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        steps = self._steps()
        if steps and timesteps not in (None, steps[-1]):
            raise BadInput(
                f"the schedule {self.schedule} ends with T = {steps[-1]}, and the network has {timesteps} time steps; "
                "leave one of them out"
            )
        found = super().definition(wanted, steps[-1] if steps else timesteps)
        if found.is_mixer:
            windows = WINDOWS if self.windows is None else self.windows
            with about(found.name):
                mixer = Mixer(self.mixer, windows, self.overlap, self.projection, self.stitch, self.coding)
            return replace(found, mixer=mixer)
        self._refuse_idle(found)
        return replace(found, windows=Windows(self._windows_of(found), self.projection))

    def settled(self, definition: Definition) -> dict[str, Any]:
        windows = definition.mixer.windows if definition.is_mixer else definition.windows.number
        return self.options() | {"windows": windows}

    def build(self, definition: Definition) -> Network:
        if self.relu_twin:
            return build(definition, nn.ReLU)
        return build(definition, lambda: self.neuron(WindowNeuron if definition.is_mixer else LIF))

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """As many epochs for every number of time steps, and what is left for the last; later ones at half the rate."""
        steps = self._steps()
        if not steps:
            return super().phases(epochs)
        each, spare = divmod(epochs, len(steps))
        if not each:
            raise BadInput(f"expected at least {len(steps)} epochs for the schedule {self.schedule}, got {epochs}")
        before_last = [Phase(each, LATER_RATE if number else 1.0) for number in range(len(steps) - 1)]
        return (*before_last, Phase(each + spare, LATER_RATE if before_last else 1.0))

    def on_progress(self, network: Network, progress: Progress) -> None:
        steps = self._steps()
        if steps:
            network.set_timesteps(steps[progress.phase])

    def loss(self, output: Tensor, target: Tensor, activity: Activity | None, progress: Progress) -> dict[str, Tensor]:
        if not self.label_smoothing:
            return task_loss(output, target)
        return {"task": F.cross_entropy(output.float(), target, label_smoothing=self.label_smoothing)}

    def neuron(self, kind: type[LIF] | type[WindowNeuron] = LIF) -> nn.Module:
        """A population: a WindowNeuron of a mixer, or a LIF of other networks."""
        return kind(
            self.decay,
            self.threshold,
            learn_decay=self.learn_decay,
            learn_threshold=self.learn_threshold,
            surrogate=open_rectangle,
        )

    def _refuse_idle(self, definition: Definition) -> None:
        """Raise BadInput for an option that would do nothing in a network without mixers."""
        idle = {name: "mixers, such as mixer-cnn" for name in MIXERS_ALONE}
        if not definition.takes_windows:
            idle["projection"] = "networks with maps, and spiking-rnn on images"
        defaults = {f.name: f.default for f in self.known_options()}
        for name, where in idle.items():
            if getattr(self, name) != defaults[name]:
                raise BadInput(f"the option {name} is for {where}, got {definition.name}; leave {name} out")

    def _windows_of(self, definition: Definition) -> int:
        """The windows of a network without mixers."""
        if self.relu_twin:
            return 1
        if self.windows is None:
            return WINDOWS if definition.takes_windows else 1
        return self.windows

    def _steps(self) -> tuple[int, ...]:
        """The time steps of each phase; none without a schedule."""
        try:
            steps = tuple(int(part) for part in self.schedule.split(",")) if self.schedule else ()
        except ValueError:
            steps = (0,)
        if any(t < 1 for t in steps) or any(a <= b for a, b in pairwise(steps)):
            raise BadInput(f"expected a schedule of falling time steps such as 4,2,1, got {self.schedule!r}")
        return steps
