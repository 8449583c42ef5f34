"""The contract of a method, with the answers that most methods give."""

from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, replace
from typing import Any, ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from picojoule.graph import Activity
from picojoule.networks import Definition, Network


class Phase(NamedTuple):
    """A stretch of training with its own cosine schedule.

    `start` is "last" (go on) or "best" (from the selected checkpoint of the phase before). `terms` names the
    loss terms that act; None means all.
    """

    epochs: int
    lr_scale: float = 1.0
    start: str = "last"
    terms: tuple[str, ...] | None = None


class Progress(NamedTuple):
    """Where training is: 0-based epoch of `epochs` in the 0-based phase, in which the loss terms `terms` act.

    `done` is the share of the phase's steps that are done.
    """

    phase: int
    epoch: int
    epochs: int
    terms: tuple[str, ...] | None = None
    done: float = 0.0

    def acts(self, term: str) -> bool:
        """Whether a loss term acts in this phase; those that do not need not be computed."""
        return self.terms is None or term in self.terms

    def share_of_ramp(self, share: float) -> float:
        """How far a linear ramp over this share of the epochs has come, in (0, 1]: 1 in its last epoch and after."""
        return min(1.0, (self.epoch + 1) / (share * self.epochs)) if share else 1.0


class Method:
    """What turns a network definition and data into a model whose accuracy and energy are compared.

    A method is one file in `picojoule.methods`: a frozen dataclass whose fields are its options on the command
    line. Class attributes:
        name: the file's name with hyphens.
        cite: references.
        parent: the method whose trained network `finish` starts from (conversion); None trains its own.
        hardware: the price list of the method's table row.
        observes: whether the loss reads the activity.
        pool: the pooling it needs, or None.
        encoder, readout: what its networks have unless the user asks for others.
        silence_ends: whether a phase ends early, and an epoch is not kept, because a whole layer is silent.
        listed: options that take a comma list of values, for an ablation.
    """

    name: ClassVar[str]
    cite: ClassVar[tuple[str, ...]] = ()
    parent: ClassVar[str | None] = None
    hardware: ClassVar[str] = "horowitz-45nm-fp32"
    observes: ClassVar[bool] = False
    pool: ClassVar[str | None] = None
    encoder: ClassVar[str] = "constant-current"
    readout: ClassVar[str] = "mean"
    silence_ends: ClassVar[bool] = True
    listed: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def known_options(cls) -> tuple[Field[Any], ...]:
        """The options by name, type and default."""
        return fields(cls)  # pyright: ignore[reportArgumentType]

    def options(self) -> dict[str, Any]:
        """The options by name, as chosen."""
        return {f.name: getattr(self, f.name) for f in self.known_options()}

    def settled(self, definition: Definition) -> dict[str, Any]:
        """The options by name, as they act on a network: what was left open has its value."""
        return self.options()

    def reads(self) -> dict[str, Any]:
        """What the files hold that options name, as far as it decides the result."""
        return {}

    def label(self) -> str:
        """The name, and the options that differ from their defaults."""
        defaults = {f.name: f.default for f in self.known_options() if f.default is not MISSING}
        changed = [f"{key}-{value}" for key, value in self.options().items() if value != defaults[key]]
        return "_".join([self.name, *changed])

    def beside(self, others: tuple["Method", ...]) -> "Method":
        """The method as it is when its loss terms are added to those of others."""
        return self

    def keeps_trains(self) -> bool:
        """Whether the loss reads every event of the neurons (`NeuronRecord.train`), before they are pooled."""
        return False

    def definition(self, wanted: Definition, timesteps: int | None) -> Definition:
        """The network this method deploys; `timesteps` is what the user asked for, if anything."""
        return replace(wanted, timesteps=timesteps or 1)

    def build(self, definition: Definition) -> Network:
        """The untrained network."""
        raise NotImplementedError

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """How `epochs` are spent; not asked of a method with a parent."""
        return (Phase(epochs),)

    def loss(self, output: Tensor, target: Tensor, activity: Activity | None, progress: Progress) -> dict[str, Tensor]:
        """Loss terms, batch means, that are added up; the activity is None unless `observes`."""
        return task_loss(output, target)

    def on_progress(self, network: Network, progress: Progress) -> None:
        """Schedules that change the network; called before each step of training."""

    def finish(self, network: Network, calibration: Sequence[Tensor], definition: Definition) -> Network:
        """The model to deploy, from the trained or the parent's network and batches of training inputs."""
        return network


def task_loss(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Mean cross-entropy of scores `[B, C]`, as the term "task"; never in half precision."""
    return {"task": F.cross_entropy(output.float() if output.dtype.itemsize < 4 else output, target)}
