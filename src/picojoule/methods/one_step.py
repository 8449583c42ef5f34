"""One time step: networks whose neurons hand their membranes on from window to window within it."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from picojoule.cells.window_mixer import ENCODERS
from picojoule.errors import BadInput, check_choice
from picojoule.experiment.method import Method, Progress, task_loss
from picojoule.graph import Activity
from picojoule.kernels.projection import PROJECTIONS
from picojoule.kernels.surrogate import open_rectangle
from picojoule.layers.windows import STITCHES
from picojoule.networks import Definition, Mixer, Network, build
from picojoule.neurons import LIF, WindowNeuron


@dataclass(frozen=True)
class OneStep(Method):
    """Window-recurrent mixers trained in a single step; on other networks neurons with the same constants.

    `projection`, `windows`, `stitch` and `overlap` say how membranes and spikes go from window to window, `coding` how
    a window becomes spikes; `mixer` off leaves all windows out, `relu_twin` puts ReLU in the place of every spike.
    `decay` and `threshold` are those of the neurons, learned if asked. `label_smoothing` acts in training.
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
    windows: int = 4
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

    def __post_init__(self) -> None:
        check_choice("projection", self.projection, PROJECTIONS)
        check_choice("stitch", self.stitch, STITCHES)
        check_choice("coding", self.coding, ENCODERS)
        if not 0 <= self.label_smoothing < 1:
            raise BadInput(f"expected label_smoothing from 0 to 1, got {self.label_smoothing}")
        self.neuron()
        self._mixer()

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        return replace(super().definition(wanted, timesteps), mixer=self._mixer())

    def build(self, definition: Definition) -> Network:
        if self.relu_twin:
            return build(definition, nn.ReLU)
        return build(definition, self.neuron if definition.name.startswith("mixer-") else self._plain)

    def loss(self, output: Tensor, target: Tensor, activity: Activity | None, progress: Progress) -> dict[str, Tensor]:
        if not self.label_smoothing:
            return task_loss(output, target)
        return {"task": F.cross_entropy(output.float(), target, label_smoothing=self.label_smoothing)}

    def neuron(self) -> WindowNeuron:
        """A population of a mixer."""
        return WindowNeuron(
            self.decay, self.threshold, learn_decay=self.learn_decay, learn_threshold=self.learn_threshold
        )

    def _plain(self) -> LIF:
        return LIF(
            self.decay,
            self.threshold,
            learn_decay=self.learn_decay,
            learn_threshold=self.learn_threshold,
            surrogate=open_rectangle,
        )

    def _mixer(self) -> Mixer:
        return Mixer(self.mixer, self.windows, self.overlap, self.projection, self.stitch, self.coding)
